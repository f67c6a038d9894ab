"""What a run streams: history rows, system metrics, console lines, each written by its number: sent twice, it is there once.

A request's lines are one compressed chunk; chunks of a history become Parquet files later (segments.py), and a reader here
sees no difference. What readers ask for most (how many lines, which keys, the last step) is kept up to date as the lines arrive.
"""

from __future__ import annotations

import json
import logging
import math
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.store import safe_json, segments
from paretune.service.store.tables import Chunk, Run, Segment, as_json

log = logging.getLogger("service")
HISTORY, EVENTS, LOG = "history", "events", "log"
FILES = {"wandb-history.jsonl": HISTORY, "wandb-events.jsonl": EVENTS, "output.log": LOG}
COUNTS = {HISTORY: "history_lines", EVENTS: "event_lines", LOG: "log_lines"}
STEPS = 2**63  # which none reaches
MOST_LINES = 2**31 - 2**24  # of a stream
MOST_KEYS = 10_000  # of a run's history that are told one by one
MOST_BRACKETS, MOST_COMMAS = 2_000_000, 3_000_000  # of a line; those take a second and 200 MB to read


def append(session: Session, run: Run, stream: str, first: int, lines: Sequence[str]) -> None:
    """Keep lines of a stream, the first of which is line `first` (from 0); those that are there already are overwritten.

    Lines of a history that lie in a segment already stay as they are. A line of history or events that is unfit is logged and
    stored as an empty row, so that those behind it keep their numbers.

    Raises:
        UsageError: if all lines are unfit (see `row_of`), or the number is none.
    """
    if not 0 <= first < MOST_LINES:
        raise UsageError(f"offset must be at least 0, and less than {MOST_LINES:,}. Got {first}.")
    if stream == HISTORY and first < run.compacted:
        lines, first = lines[run.compacted - first :], run.compacted
    if not lines:
        return
    rows: list[dict[str, Any]] = []
    if stream != LOG:
        rows, lines = _fit_rows(run, lines)
    content = zlib.compress("\n".join(line.replace("\n", " ") for line in lines).encode("utf-8", "replace"), 1)
    end = first + len(lines)
    chunk = Chunk(run_id=run.id, stream=stream, first=first, count=len(lines), content=content)
    own = (Chunk.run_id == run.id, Chunk.stream == stream)
    # the same lines sent again take the place of the first
    session.execute(sa.delete(Chunk).where(*own, Chunk.first >= first, Chunk.first + Chunk.count <= end))
    if stream == HISTORY:
        steps = [segments.step_of(row) for row in rows]
        overlapping = sa.select(Chunk.id).where(*own, Chunk.first < end, Chunk.first + Chunk.count > first)
        if session.scalar(overlapping.limit(1)) is None:  # else it is always read, as it may take lines from others
            chunk.first_step, chunk.last_step = min(steps), max(steps)
    session.add(chunk)
    count = COUNTS[stream]
    setattr(run, count, max(getattr(run, count), end))
    if stream == HISTORY:
        _note_keys(run, rows)
    elif stream == EVENTS and rows:
        run.system = lines[-1]


def _fit_rows(run: Run, lines: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return rows without the elements of their lists, and their lines; both empty where a line is unfit.

    Raises:
        UsageError: if all lines are unfit.
    """
    rows: list[dict[str, Any]] = []
    texts: list[str] = []
    faults: list[str] = []
    for line in lines:
        try:
            rows.append(_without_elements(row_of(line)))
            texts.append(safe_json.bounded(line))
        except UsageError as error:
            faults.append(str(error))
            rows.append({})
            texts.append("{}")
    if len(faults) == len(lines):
        raise UsageError(faults[0])
    for fault in faults[:1]:
        log.warning("%s unfit lines of run %s are stored as empty rows: %s", len(faults), run.name, fault)
    return rows, texts


def lines_of(session: Session, run: Run, stream: str, *, start: int = 0, stop: int | None = None) -> list[tuple[int, str]]:
    """Return the lines of a stream with their numbers, from `start` up to but not `stop`, in order."""
    late = chunk_lines(session, run.id, stream, start, stop)
    if stream != HISTORY:
        return late
    compacted = list(segments.lines_of(session, run, start, stop))
    return compacted + later(late, segments.of_run(session, run))


def chunk_lines(
    session: Session, run: int, stream: str, start: int = 0, stop: int | None = None, *conditions: sa.ColumnElement[bool]
) -> list[tuple[int, str]]:
    """Return the lines of a stream that lie in chunks which meet the conditions."""
    query = sa.select(Chunk).where(Chunk.run_id == run, Chunk.stream == stream, Chunk.first + Chunk.count > start, *conditions)
    if stop is not None:
        query = query.where(Chunk.first < stop)
    found: dict[int, str] = {}
    for chunk in session.scalars(query.order_by(Chunk.id)):
        for number, line in enumerate(zlib.decompress(chunk.content).decode().split("\n"), start=chunk.first):
            if number >= start and (stop is None or number < stop):
                found[number] = line
    return sorted(found.items())


def later(lines: list[tuple[int, str]], compacted: Sequence[Segment]) -> list[tuple[int, str]]:
    """Return the lines that lie in no segment. Who reads chunks first and segments then misses none that moves meanwhile."""
    end = max((segment.first + segment.count for segment in compacted), default=0)
    return [(number, line) for number, line in lines if number >= end]


def tail(session: Session, run: Run, stream: str) -> list[str]:
    """Return the last line of a stream, as a list; empty where there is none."""
    count = getattr(run, COUNTS[stream])
    return [line for _, line in lines_of(session, run, stream, start=max(count - 1, 0))]


def first_row(session: Session, run: Run) -> dict[str, Any] | None:
    """Return the first row of a history; None where there is none."""
    found = lines_of(session, run, HISTORY, stop=1) or lines_of(session, run, HISTORY)
    return safe_json.stored(found[0][1]) if found else None


def rows_of(
    session: Session,
    run: Run,
    stream: str = HISTORY,
    *,
    first_step: int | None = None,
    stop_step: int | None = None,
    keys: Collection[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a stream, of steps from `first_step` up to but not `stop_step`.

    Args:
        keys: which values are wanted, by key or by path into nested ones; others may be left out.
    """
    first = -math.inf if first_step is None else first_step
    stop = math.inf if stop_step is None else stop_step
    if stream == HISTORY:
        late = chunk_lines(session, run.id, stream, 0, None, *_may_hold(first, stop))
        compacted = segments.of_run(session, run)
        late = later(late, compacted)
        wanted = None if keys is None else {*keys, "_step"}
        for segment in compacted:
            if segment.last_step >= first and segment.first_step < stop:
                yield from segments.rows_between(session, segment, first, stop, wanted)
    else:
        late = chunk_lines(session, run.id, stream)
    for _, line in late:
        row = safe_json.stored(line)
        if first <= segments.step_of(row) < stop:
            yield row


def _may_hold(first: float, stop: float) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of the chunks that may hold steps from `first` up to but not `stop`."""
    unknown = Chunk.first_step.is_(None)
    found = [] if first <= -STEPS else [sa.or_(unknown, Chunk.last_step >= min(first, STEPS - 1))]
    return found if stop >= STEPS else [*found, sa.or_(unknown, Chunk.first_step < max(stop, -STEPS))]


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
    return [rows[place] for place in _places(len(rows), count)]


def sample(session: Session, run: Run, stream: str, count: int) -> list[dict[str, Any]]:
    """Return at most `count` rows of a stream, evenly spaced, the first and the last among them."""
    numbered = chunk_lines(session, run.id, stream)
    compacted = segments.of_run(session, run) if stream == HISTORY else []
    late = [line for _, line in later(numbered, compacted)]
    end = sum(segment.count for segment in compacted)
    places = _places(end + len(late), count)
    rows: list[dict[str, Any]] = []
    for segment in compacted:
        own = [place for place in places if segment.first <= place < segment.first + segment.count]
        rows += segments.rows_at(session, segment, own) if own else []
    return rows + [safe_json.stored(late[place - end]) for place in places if place >= end]


def _places(length: int, count: int) -> Sequence[int]:
    if length <= count:
        return range(length)
    if count < 2:
        return range(count)
    return [round(place * (length - 1) / (count - 1)) for place in range(count)]


def rewind(session: Session, run: Run, last_step: int) -> None:
    """Drop the history rows of steps after `last_step`; the segments before them stay."""
    session.refresh(run, with_for_update=True)  # it is not compacted meanwhile
    kept = [(number, line) for number, line in lines_of(session, run, HISTORY) if _step(line) <= last_step]
    whole = 0
    for segment in segments.of_run(session, run):
        run.stale_copies = True
        if segment.first == whole and segment.last_step <= last_step:
            whole += segment.count
        else:
            session.delete(segment)
    session.execute(sa.delete(Chunk).where(Chunk.run_id == run.id, Chunk.stream == HISTORY))
    run.history_lines, run.last_step, run.history_keys, run.compacted = whole, -1, "{}", whole
    _note_keys(run, [safe_json.stored(line) for number, line in kept if number < whole])
    append(session, run, HISTORY, whole, [line for number, line in kept if number >= whole])


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


def row_of(line: str) -> dict[str, Any]:
    """Return a line of history or events.

    Raises:
        UsageError: if it is no JSON object or too large a one, or its step has more than 64 bits.
    """
    if line.count("[") + line.count("{") > MOST_BRACKETS or line.count(",") > MOST_COMMAS:
        raise UsageError(
            f"a line of history may hold at most {MOST_BRACKETS:,} lists and objects and {MOST_COMMAS:,} values. "
            "Keep large values in a file or an artifact."
        )
    try:
        row = safe_json.read(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise UsageError(f"each line of history and events must be a JSON object. Got {line[:80]!r}.")
    step = row.get("_step", 0)
    if not isinstance(step, int | float) or not -STEPS <= step < STEPS:
        raise UsageError(f"_step must be a number of 64 bits. Got {str(step)[:80]}.")
    return row


def _without_elements(value: Any) -> Any:
    """Return a row with empty lists for those in it: of the rows of one request they may take a gigabyte."""
    if isinstance(value, dict):
        return {key: _without_elements(item) for key, item in value.items()}
    return [] if isinstance(value, list) else value


def _step(line: str) -> int:
    return segments.step_of(safe_json.stored(line))


def _note_keys(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    known: dict[str, dict[str, Any]] = json.loads(run.history_keys)  # its kinds of values, and its last finite number
    for row in rows:
        run.last_step = max(run.last_step, segments.step_of(row))
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
