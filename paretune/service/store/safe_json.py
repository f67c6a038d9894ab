"""JSON whose numbers are floats of 64 bits or whole numbers within their reach: larger ones count as infinite."""

from __future__ import annotations

import json
import math
import re
from typing import Any

LONGEST = 18  # digits of a whole number that every database takes
LARGE = re.compile(r"\d{309}")  # digits that a whole number beyond floats has at least


def is_whole(text: str, most: int = LONGEST) -> bool:
    """Whether a text is a whole number in the digits 0 to 9, at most so many: `int` does not take all that `isdigit` does."""
    return text.isascii() and text.isdecimal() and len(text) <= most


def read(text: str) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError, RecursionError: if it is none, or lies too deep in itself.
    """
    return json.loads(text, parse_int=_number) if LARGE.search(text) else json.loads(text)


def bounded(text: str) -> str:
    """Return a JSON text that `read` takes, without numbers that are too large for others who read it."""
    return json.dumps(read(text)) if LARGE.search(text) else text


def _number(text: str) -> float:
    return int(text) if math.isfinite(float(text)) else float(text)
