"""Values as the pages write them: numbers, sizes, times, and addresses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import datetime
from typing import Any
from urllib.parse import quote

from paretune.core.short_names import cut, shortened
from paretune.service.store.tables import now

ROOT: ContextVar[str] = ContextVar("root", default="")  # the path below which the pages of this request lie
TITLES = {
    400: "Not understood",
    403: "Not allowed",
    404: "Not found",
    405: "Not found",
    413: "Too large",
    429: "Too often",
    503: "Busy",
    507: "No room",
}
MOST_CHARACTERS = 200  # of a value
MOST_IN_ROW = 44  # of a name or a value in the table of runs, as wide as its columns may be


def number(value: float | None, digits: int = 5) -> str:
    """Return a number with as many digits as a reader wants; a dash for none."""
    if value is None:
        return "–"
    value = as_float(value) if isinstance(value, int) else value
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}".replace(",", " ") if abs(value) >= 10_000 else str(int(value))
    return f"{value:.{digits}g}"


def as_float(value: float) -> float:
    """Return a number as a float; infinity for a whole number that is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def value(found: Any, most: int = MOST_CHARACTERS) -> str:
    """Return any value of a config or summary, its middle left out where it is too long."""
    return cut(_text(found), most)


def values(found: Iterable[Any], most: int = MOST_CHARACTERS) -> list[str]:
    """Return values that are seen side by side; those whose texts differ stay different where they are cut."""
    return shortened([_text(one) for one in found], most)


def _text(found: Any) -> str:
    if found is None:
        return "–"
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int | float):
        return number(found)
    if isinstance(found, dict) and isinstance(found.get("_type"), str):
        return f"({found['_type'].replace('-file', '')})"
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def size(count: float) -> str:
    """Return a count of bytes."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float | None) -> str:
    """Return a duration given in seconds."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def ago(moment: datetime | None) -> str:
    """Return how long ago a time of the database was."""
    if moment is None:
        return "never"
    seconds = (now() - moment).total_seconds()
    if seconds < 5:
        return "just now"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{int(seconds)} s ago"


def iso(moment: datetime | None) -> str:
    """Return a time of the database for machines; empty for none."""
    return "" if moment is None else moment.isoformat(timespec="seconds") + "Z"


def path(*names: str) -> str:
    """Return names as the path of a URL, below that of the server: `/entity/project/runs/name`."""
    return ROOT.get() + "".join(f"/{quoted(name)}" for name in names)


def quoted(name: str) -> str:
    """Return one name as a part of an address."""
    return quote(str(name), safe="")
