"""JSON from outside, made fit for every database: numbers within 64 bits, texts without NUL and halves of surrogate pairs."""

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
    """Return what a JSON text says: larger numbers are infinite, texts are `fit`.

    Raises:
        ValueError, RecursionError: if it is no JSON, or is nested too deep.
    """
    value = json.loads(text, parse_int=_number) if LARGE.search(text) else json.loads(text)
    return fitted(value) if _may_be_unfit(text) else value


def stored(text: str) -> Any:
    """Return what a JSON text of this service's own says; one that an older version stored may hold texts that are not `fit`."""
    value = json.loads(text)
    return fitted(value) if "\\u" in text else value


def bounded(text: str) -> str:
    """Return a JSON text that says what `read` returns."""
    return json.dumps(read(text)) if LARGE.search(text) or _may_be_unfit(text) else text


def fit(text: str) -> str:
    """Return a text with U+FFFD in place of NUL and of each half of a surrogate pair, which no database holds."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def fitted(value: Any) -> Any:
    """Return JSON values with every text and key `fit`."""
    if isinstance(value, str):
        return fit(value)
    if isinstance(value, list):
        return [fitted(item) for item in value]
    if isinstance(value, dict):
        return {fit(key): fitted(item) for key, item in value.items()}
    return value


def _may_be_unfit(text: str) -> bool:
    return "\\u" in text or not text.isascii()


def _number(text: str) -> float:
    return int(text) if math.isfinite(float(text)) else float(text)
