"""Durations as people write them: 90, 90s, 10m, 1.5h, 2d."""

from __future__ import annotations

import math
import re
from typing import Any

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 366 * 86400
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def seconds_of(value: Any) -> float | None:
    """Return the seconds of a duration, a number or a text; None of what is none, or not above 0 and within a year."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        found = DURATION.fullmatch(value.strip())
        value = float(found[1]) * SECONDS[found[2]] if found else math.nan
    return float(value) if 0 < value <= LONGEST else None


def in_words(seconds: float) -> str:
    """Return a duration as the largest unit that gives a whole number: 600 is 10 m."""
    unit = next((name for name in "dhm" if seconds % SECONDS[name] == 0), "s")
    return f"{seconds / SECONDS[unit]:g} {unit}"
