"""Histories become Parquet files: the lines that arrived as chunks, of runs that have ended and of live ones that have many.

A segment is made in three steps: its lines are read, its file is written and read back, and in one short transaction the segment
takes the place of its chunks, if nothing has changed meanwhile. Killed between any two, the server has either the chunks or the
segment, and at most a file that nothing names.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import first_line
from paretune.service.store import columns, safe_json, segments, streams
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.store.tables import Chunk, Run, Segment

log = logging.getLogger("service")
MOST_LINES = 200_000  # of one segment
MOST_BYTES = 8 * 2**20  # of the compressed chunks of one segment
LIVE_LINES = 10_000  # of a run that goes on, from which they are worth a segment
ENDED = ("finished", "failed", "crashed", "killed", "preempted")


class LossError(Exception):
    """A Parquet file does not say what the lines say that it would replace."""


def compact_due(
    database: Database, files: Files, stopped: Callable[[], bool] = lambda: False, failed: set[int] | None = None
) -> int:
    """Compact the runs that have ended and those with many lines, and return how many lines were.

    A run that cannot be compacted keeps its chunks, and the others are compacted all the same.

    Args:
        stopped: is asked between segments whether to leave the rest for another time.
        failed: the runs that cannot be compacted, which are left out; others are added.
    """
    failed = set() if failed is None else failed
    waiting = Run.history_lines - Run.compacted
    due = sa.select(Run.id).where(waiting > 0, sa.or_(Run.state.in_(ENDED), waiting > LIVE_LINES)).order_by(Run.id)
    with database.session() as session:
        runs = session.scalars(due).all()
    done = 0
    for run in runs:
        if run in failed or stopped():
            continue
        try:
            done += compact(database, files, run, stopped)
        except (LossError, zlib.error, ValueError, RecursionError, segments.LostError) as error:
            failed.add(run)
            log.error("the history of run number %s stays as it arrived: %s", run, error)
        except (OSError, MemoryError):  # of the machine, not of this run: it is tried again
            log.exception("the history of run number %s could not be compacted", run)
    return done


def compact(database: Database, files: Files, run: int, stopped: Callable[[], bool] = lambda: False) -> int:
    """Compact all lines of a run's history up to the first that is missing, and return how many they were.

    Raises:
        LossError: if a file does not say what it was made of; zlib.error, ValueError: if a chunk is damaged.
    """
    done = 0
    while not stopped() and (count := _compact_some(database, files, run)):
        done += count
    return done


def _compact_some(database: Database, files: Files, run: int) -> int:
    """Make one segment; return its lines, or 0 where there is nothing to do, or somebody else did it."""
    with database.session() as session:
        found = session.get(Run, run)
        if found is None:
            return 0
        start, chunks = found.compacted, _next_chunks(session, found)
        stop = min(max((end for end, _ in chunks), default=start), start + MOST_LINES)
        lines = [line for _, line in streams.lines_of(session, found, streams.HISTORY, start=start, stop=stop)]
    if not lines:
        return 0
    rows = [safe_json.stored(line) for line in lines]
    table = columns.table_of(lines, rows)
    steps = [segments.step_of(row) for row in rows]
    content = columns.write(table)
    digest = files.keep(content)
    _check(files, digest, rows)
    with database.session(writing=True) as session:
        found = session.get(Run, run, with_for_update=True)
        if found is None or found.compacted != start or _next_chunks(session, found) != chunks:
            return 0
        number = session.scalar(sa.select(sa.func.count()).select_from(Segment).where(Segment.run_id == run)) or 0
        covered = {"first": start, "count": len(lines), "first_step": min(steps), "last_step": max(steps)}
        plain = columns.is_plain(table)
        session.add(Segment(run_id=run, number=number, **covered, digest=digest, size=len(content), plain=plain))
        found.compacted = stop
        gone = (Chunk.run_id == run, Chunk.stream == streams.HISTORY, Chunk.first + Chunk.count <= stop)
        session.execute(sa.delete(Chunk).where(*gone))
    return len(lines)


def _check(files: Files, digest: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Read a file back, before the chunks that it replaces are deleted.

    Raises:
        LossError: if it does not say what they do.
    """
    try:
        found = columns.rows_of(columns.read(files.path(digest)))
    except MemoryError:
        raise
    except Exception as error:  # whatever the library raises at its own file, the chunks must stay
        raise LossError(f"its Parquet file cannot be read ({first_line(error):.200})") from None
    if len(found) != len(rows) or any(_exact(one) != _exact(other) for one, other in zip(found, rows, strict=True)):
        raise LossError("its Parquet file differs from what arrived")


def _exact(row: Mapping[str, Any]) -> str:
    """Return a row as text, in which 1, 1.0 and true differ, and NaN is NaN."""
    return json.dumps(row, sort_keys=True)


def _next_chunks(session: Session, run: Run) -> list[tuple[int, bytes]]:
    """Return the chunks of the next segment, the line at which each ends and its content; none is missing between them."""
    query = sa.select(Chunk.first, Chunk.first + Chunk.count, Chunk.content).where(
        Chunk.run_id == run.id, Chunk.stream == streams.HISTORY, Chunk.first + Chunk.count > run.compacted
    )
    chosen: list[tuple[int, bytes]] = []
    end, size = run.compacted, 0
    for first, stop, content in session.execute(query.order_by(Chunk.first, Chunk.id)):
        enough = chosen and first == end and size + len(content) > MOST_BYTES
        if first > end or first >= run.compacted + MOST_LINES or enough:
            break
        chosen.append((stop, content))
        end, size = max(end, stop), size + len(content)
    return chosen
