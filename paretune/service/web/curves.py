"""What a run logged, as the pages draw it: curves of at most a thousand points, console lines, media."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.service.graphql.runs import log_line
from paretune.service.store import streams
from paretune.service.store.files import Files
from paretune.service.store.safe_json import read, stored
from paretune.service.store.tables import Run, RunFile
from paretune.service.web.words import as_float

MOST_POINTS = 1000  # of a curve
MOST_CURVES = 300
LONG, MOST_KEPT = 5000, 20  # lines of a history whose curves are kept; of how many
AXES = ("_step", "_runtime", "epoch")
CONSOLE_LINES = 1000
ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
MEDIA = re.compile(r"media/(images|table)/(.+)_(\d+)_[0-9a-f]+\.(?:table\.json|\w+)")
IMAGES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
MATRICES = (["Actual", "Predicted", "nPredictions"], ["true", "predicted", "count"])  # wandb.plot.confusion_matrix's, our trainers'
MOST_TABLE_BYTES, MOST_TABLE_ROWS, MOST_TABLES, MOST_IMAGES = 5_000_000, 100, 20, 12
MOST_CLASSES = 50


def curves(session: Session, run: Run, stream: str = streams.HISTORY, *, after: int = 0) -> dict[str, Any]:
    """Return the numbers that a run logged from line `after` on, as columns.

    Returns:
        `next`, the line to go on from; `axes`, the columns of AXES over the rows that are kept; `series`, for each metric the
        places of its rows (None: all of them) and its values. What is no finite number is None.
    """
    lines = streams.lines_of(session, run, stream, start=after)
    rows = [flat_numbers(stored(line)) for _, line in lines]
    found: dict[str, tuple[list[int], list[float | None]]] = {}
    for place, row in enumerate(rows):
        for key, value in row.items():
            if not key.startswith("_") and (key in found or len(found) < MOST_CURVES):
                places, values = found.setdefault(key, ([], []))
                places.append(place)
                values.append(value)
    kept = {key: _thinned(*column) for key, column in found.items()}
    used = sorted({place for places, _ in kept.values() for place in places})
    at = {place: number for number, place in enumerate(used)}
    series = {
        key: [None if len(places) == len(used) else [at[place] for place in places], values]
        for key, (places, values) in kept.items()
    }
    axes = {axis: [rows[place].get(axis) for place in used] for axis in AXES}
    following = lines[-1][0] + 1 if lines else after
    return {"next": following, "axes": {axis: values for axis, values in axes.items() if any(values)}, "series": series}


class KeptCurves:
    """The curves of the long histories that were last asked for whole: reading one of 200,000 lines takes seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[Any, ...], dict[str, Any]] = {}

    def of(self, session: Session, run: Run, stream: str, *, after: int = 0) -> dict[str, Any]:
        """Return what `curves` does."""
        count = getattr(run, streams.COUNTS[stream])
        if after or count < LONG:
            return curves(session, run, stream, after=after)
        mark = (run.id, run.created_at, stream, count, run.last_step, run.heartbeat_at)
        with self._lock:
            found = self._kept.pop(mark, None)
        if found is None:
            found = curves(session, run, stream)
        with self._lock:
            self._kept[mark] = found  # the latest stands last
            while len(self._kept) > MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
        return found


def flat_numbers(row: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    """Return the numbers of a row by dotted path; None for NaN and the infinities."""
    found: dict[str, float | None] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            if "_type" not in value:
                found |= flat_numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = value if math.isfinite(as_float(value)) else None
    return found


def _thinned(places: list[int], values: list[float | None]) -> tuple[list[int], list[float | None]]:
    """Return at most MOST_POINTS of a curve, evenly spaced, the first and the last among them."""
    if len(places) <= MOST_POINTS:
        return places, values
    picked = [round(number * (len(places) - 1) / (MOST_POINTS - 1)) for number in range(MOST_POINTS)]
    return [places[number] for number in picked], [values[number] for number in picked]


def console(session: Session, run: Run, *, after: int = 0) -> dict[str, Any]:
    """Return the console's lines from line `after` on, as far as they are among the last CONSOLE_LINES."""
    start = max(after, run.log_lines - CONSOLE_LINES)
    found = [log_line(number, line) for number, line in streams.lines_of(session, run, streams.LOG, start=start)]
    lines = [[line["number"], plain_text(line["line"])] for line in found]
    return {"first": max(0, run.log_lines - CONSOLE_LINES), "next": run.log_lines, "lines": lines}


def plain_text(line: str) -> str:
    """Return a line as a terminal would leave it: without colours, and of what was written over itself the last."""
    text = ANSI.sub("", line).rstrip("\r\n")
    return CONTROL.sub("", text.rpartition("\r")[2])


@dataclass
class Media:
    """The images and tables among a run's files, by what they were logged as."""

    images: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # key: (step, name of the file), the latest first
    tables: list[dict[str, Any]] = field(default_factory=list)
    matrices: list[dict[str, Any]] = field(default_factory=list)


def media_of(session: Session, files: Files, run: Run) -> Media:
    """Return what of a run's media is shown: of each image the latest, of each table the last."""
    query = sa.select(RunFile).where(RunFile.run_id == run.id, RunFile.name.like("media/%")).order_by(RunFile.id.desc()).limit(2000)
    found = Media()
    latest: dict[str, tuple[int, RunFile]] = {}
    for file in session.scalars(query):
        parts = MEDIA.fullmatch(file.name)
        if parts is None:
            continue
        kind, key, step = parts[1], parts[2], int(parts[3])
        if kind == "images" and kind_of_image(file.name):
            found.images.setdefault(key, []).append((step, file.name))
        elif kind == "table" and (key not in latest or latest[key][0] < step):
            latest[key] = (step, file)
    for key, listed in found.images.items():
        found.images[key] = sorted(listed, reverse=True)[:MOST_IMAGES]
    for key, (step, file) in sorted(latest.items())[:MOST_TABLES]:
        table = _table(files, file)
        if table is not None:
            columns, rows = table
            matrix = confusion(rows) if columns in MATRICES else None
            if matrix is not None:
                found.matrices.append({"key": key.removesuffix("_table"), "step": step, **matrix})
            else:
                found.tables.append(
                    {"key": key, "step": step, "columns": columns, "rows": rows[:MOST_TABLE_ROWS], "count": len(rows)}
                )
    return found


def kind_of_image(name: str) -> str | None:
    """Return the type of an image that a browser may show as it is; None for everything else."""
    return IMAGES.get(name.rpartition(".")[2].lower())


def _table(files: Files, file: RunFile) -> tuple[list[str], list[list[Any]]] | None:
    path = files.path(file.digest)
    if file.size > MOST_TABLE_BYTES or not path.exists():
        return None
    try:
        values = read(path.read_text(encoding="utf-8"))
        columns, rows = [str(column) for column in values["columns"]], values["data"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return None
    return columns, rows


def confusion(rows: Sequence[Sequence[Any]]) -> dict[str, Any] | None:
    """Return a confusion matrix of rows (actual, predicted, count); None where they are none.

    Returns:
        `names` of the classes, and `rows`: for each actual class its counts, each with its share of the class.
    """
    names = list(dict.fromkeys(str(row[0]) for row in rows if len(row) == 3))
    counts = {(str(row[0]), str(row[1])): row[2] for row in rows if len(row) == 3}
    numbers = all(isinstance(count, int | float) and math.isfinite(as_float(count)) for count in counts.values())
    if not names or len(names) > MOST_CLASSES or not numbers:
        return None
    table = []
    for actual in names:
        line = [counts.get((actual, predicted), 0) for predicted in names]
        total = sum(line) or 1
        table.append((actual, [(count, count / total) for count in line]))
    return {"names": names, "rows": table}


def items(values: Mapping[str, Any], prefix: str = "", depth: int = 6) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by dotted path, W&B's own left out."""
    for key, value in values.items():
        if not prefix and key.startswith("_") and key not in ("_step", "_runtime"):
            continue
        if isinstance(value, dict) and value and depth and "_type" not in value:
            yield from items(value, f"{prefix}{key}.", depth - 1)
        else:
            yield f"{prefix}{key}", value
