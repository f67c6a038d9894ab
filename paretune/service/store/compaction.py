"""Histories become Parquet files: the lines that arrived as chunks, of runs that have ended and of live ones that have many.

A segment is made in three steps: its lines are read, its file is written, and in one short transaction the segment takes the place
of its chunks, if nothing has changed meanwhile. Killed between any two, the server has either the chunks or the segment, and at
most a file that nothing names.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.service.store import columns, segments, streams
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.store.tables import Chunk, Run, Segment

MOST_LINES = 200_000  # of one segment
MOST_BYTES = 8 * 2**20  # of the compressed chunks of one segment
LIVE_LINES = 10_000  # of a run that goes on, from which they are worth a segment
ENDED = ("finished", "failed", "crashed", "killed", "preempted")


def compact_due(database: Database, files: Files, stopped: Callable[[], bool] = lambda: False) -> int:
    """Compact the runs that have ended and those with many lines, and return how many lines were.

    Args:
        stopped: is asked between segments whether to leave the rest for another time.
    """
    waiting = Run.history_lines - Run.compacted
    due = sa.select(Run.id).where(waiting > 0, sa.or_(Run.state.in_(ENDED), waiting > LIVE_LINES)).order_by(Run.id)
    with database.session() as session:
        runs = session.scalars(due).all()
    done = 0
    for run in runs:
        done += compact(database, files, run, stopped)
    return done


def compact(database: Database, files: Files, run: int, stopped: Callable[[], bool] = lambda: False) -> int:
    """Compact all lines of a run's history up to the first that is missing, and return how many they were."""
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
    table = columns.table_of(lines)
    steps = [segments.step_of(json.loads(line)) for line in lines]
    content = columns.write(table)
    digest = files.keep(content)
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
