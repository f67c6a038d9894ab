"""What a run streams: history rows, system metrics, console lines, each written by its number: sent twice, it is there once.

A request's lines are one compressed chunk. What readers ask for most (how many lines, which keys, the last step) is kept up to
date as the lines arrive.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.database import Chunk, Run, as_json
from trainers.errors import UsageError

HISTORY, EVENTS, LOG = "history", "events", "log"
FILES = {"wandb-history.jsonl": HISTORY, "wandb-events.jsonl": EVENTS, "output.log": LOG}
COUNTS = {HISTORY: "history_lines", EVENTS: "event_lines", LOG: "log_lines"}
MOST_KEYS = 10_000  # of a run's history that are told one by one


def append(session: Session, run: Run, stream: str, first: int, lines: Sequence[str]) -> None:
    """Keep lines of a stream, the first of which is line `first` (from 0); those that are there already are overwritten.

    Raises:
        UsageError: if a line of history or events is no JSON object, or the number is none.
    """
    if first < 0:
        raise UsageError(f"offset must be at least 0. Got {first}.")
    if not lines:
        return
    rows = [] if stream == LOG else [_row(line) for line in lines]
    content = zlib.compress("\n".join(line.replace("\n", " ") for line in lines).encode("utf-8", "replace"), 1)
    end = first + len(lines)
    covered = (Chunk.run_id == run.id, Chunk.stream == stream, Chunk.first >= first, Chunk.first + Chunk.count <= end)
    session.execute(sa.delete(Chunk).where(*covered))  # the same lines sent again take the place of the first
    session.add(Chunk(run_id=run.id, stream=stream, first=first, count=len(lines), content=content))
    count = COUNTS[stream]
    setattr(run, count, max(getattr(run, count), end))
    if stream == HISTORY:
        _note_keys(run, rows)
    elif stream == EVENTS and rows:
        run.system = as_json(rows[-1])


def lines_of(session: Session, run: Run, stream: str, *, start: int = 0, stop: int | None = None) -> list[tuple[int, str]]:
    """Return the lines of a stream with their numbers, from `start` up to but not `stop`, in order."""
    query = sa.select(Chunk).where(Chunk.run_id == run.id, Chunk.stream == stream, Chunk.first + Chunk.count > start)
    if stop is not None:
        query = query.where(Chunk.first < stop)
    found: dict[int, str] = {}
    for chunk in session.scalars(query.order_by(Chunk.id)):
        for number, line in enumerate(zlib.decompress(chunk.content).decode().split("\n"), start=chunk.first):
            if number >= start and (stop is None or number < stop):
                found[number] = line
    return sorted(found.items())


def tail(session: Session, run: Run, stream: str) -> list[str]:
    """Return the last line of a stream, as a list; empty where there is none."""
    count = getattr(run, COUNTS[stream])
    return [line for _, line in lines_of(session, run, stream, start=max(count - 1, 0))]


def rows_of(
    session: Session, run: Run, stream: str = HISTORY, *, first_step: int | None = None, stop_step: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a stream, of steps from `first_step` up to but not `stop_step`."""
    for _, line in lines_of(session, run, stream):
        row = json.loads(line)
        step = row.get("_step", 0)
        if (first_step is None or step >= first_step) and (stop_step is None or step < stop_step):
            yield row


def value_at(row: Mapping[str, Any], key: str) -> Any:
    """Return a row's value by its key, which may be a path into nested values; None where there is none."""
    if key in row:
        return row[key]
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def sampled(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return at most `count` rows, evenly spaced, the first and the last among them."""
    if len(rows) <= count:
        return list(rows)
    if count < 2:
        return list(rows[:count])
    return [rows[round(place * (len(rows) - 1) / (count - 1))] for place in range(count)]


def rewind(session: Session, run: Run, last_step: int) -> None:
    """Drop the history rows of steps after `last_step`."""
    kept = [(number, line) for number, line in lines_of(session, run, HISTORY) if json.loads(line).get("_step", 0) <= last_step]
    session.execute(sa.delete(Chunk).where(Chunk.run_id == run.id, Chunk.stream == HISTORY))
    run.history_lines, run.last_step, run.history_keys = 0, -1, "{}"
    append(session, run, HISTORY, 0, [line for _, line in kept])


def history_keys(run: Run) -> dict[str, Any] | None:
    """Return what W&B tells of a run's history: its last step and the kinds of values of each key; None without rows."""
    if run.history_lines == 0:
        return None
    keys = {
        key: {
            "typeCounts": [{"type": kind, "count": count} for kind, count in known["kinds"].items()],
            "monotonic": False,
            "previousValue": known["last"],
        }
        for key, known in json.loads(run.history_keys).items()
    }
    return {"lastStep": run.last_step, "sets": [], "keys": keys}


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise UsageError(f"each line of history and events must be a JSON object. Got {line[:80]!r}.")
    return row


def _note_keys(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    known: dict[str, dict[str, Any]] = json.loads(run.history_keys)  # its kinds of values, and its last finite number
    for row in rows:
        run.last_step = max(run.last_step, int(row.get("_step", 0)))
        for key, value in _flat(row):
            if key in known or len(known) < MOST_KEYS:
                noted = known.setdefault(key, {"kinds": {}, "last": 0})
                kind = _kind(value)
                noted["kinds"][kind] = noted["kinds"].get(kind, 0) + 1
                if kind == "number" and math.isfinite(value):
                    noted["last"] = value
    run.history_keys = as_json(known)


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["_type"])
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "list" if isinstance(value, list) else "nil"
