"""Parts of histories that lie in Parquet files: read back as rows and lines, and given to clients that read them themselves."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.store import columns
from paretune.service.store.files import Files
from paretune.service.store.tables import Run, Segment

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("paretune.service.store.segments")


class LostError(UsageError):
    """The content of a segment is missing, or is not what was written."""


def of_run(session: Session, run: Run) -> Sequence[Segment]:
    """Return the segments of a run, in order."""
    return session.scalars(sa.select(Segment).where(Segment.run_id == run.id).order_by(Segment.number)).all()


def read(files: Files, digest: str, keys: Collection[str] | None = None, start: int = 0, stop: int | None = None) -> pa.Table:
    """Read rows of a segment's content, from `start` up to but not `stop`.

    Raises:
        LostError: if it is not there, or cannot be read.
    """
    with reading(digest):
        return columns.read(files.path(digest), keys, start, stop)


@contextlib.contextmanager
def reading(digest: str) -> Iterator[None]:
    """Say of a content that cannot be read that it is lost.

    Raises:
        LostError: instead of what says so.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these
        log.error("the content %s of a history cannot be read (%s)", digest, error)
        raise LostError(
            "a part of this history is missing on the server: python -m paretune.service doctor says which, and a backup has it."
        ) from None


def rows_of(
    session: Session, segment: Segment, *, start: int = 0, stop: int | None = None, keys: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Return the rows of a segment, from line `start` up to but not `stop` of the run.

    Raises:
        LostError: if its content is not there, or cannot be read.
    """
    first = max(start - segment.first, 0)
    table = read(session.info["files"], segment.digest, keys, first, None if stop is None else stop - segment.first)
    return columns.rows_of(table, range(first, first + table.num_rows))


def rows_between(
    session: Session, segment: Segment, first: float, stop: float, keys: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Return the rows of a segment of steps from `first` up to but not `stop`.

    Raises:
        LostError: if its content is not there, or cannot be read.
    """
    if first <= segment.first_step and segment.last_step < stop:
        return rows_of(session, segment, keys=keys)
    with reading(segment.digest):
        places = columns.places_between(session.info["files"].path(segment.digest), first, stop)
    rows = rows_of(session, segment, start=segment.first + places.start, stop=segment.first + places.stop, keys=keys)
    return [row for row in rows if first <= step_of(row) < stop]


def rows_at(session: Session, segment: Segment, lines: Sequence[int]) -> list[dict[str, Any]]:
    """Return the rows of a segment at some lines of the run, which are in order.

    Raises:
        LostError: if its content is not there, or cannot be read.
    """
    places = [line - segment.first for line in lines]
    return columns.rows_of(read(session.info["files"], segment.digest).take(places), places)


def lines_of(session: Session, run: Run, start: int, stop: int | None) -> Iterator[tuple[int, str]]:
    """Yield the lines of a run that lie in segments, with their numbers, from `start` up to but not `stop`."""
    for segment in of_run(session, run):
        if segment.first + segment.count > start and (stop is None or segment.first < stop):
            rows = rows_of(session, segment, start=start, stop=stop)
            for number, row in enumerate(rows, start=max(start, segment.first)):
                yield number, json.dumps(row)


def published(session: Session, run: Run) -> list[Segment]:
    """Return the segments of a run that W&B's client may read itself; none unless they are all of its history.

    It keeps them by run and place for ever; rows that are not in them yet it would ask for by pages that hold the others, too.
    """
    if run.stale_copies or run.compacted < run.history_lines:
        return []
    found = list(of_run(session, run))
    rising = all(first.last_step < second.first_step for first, second in itertools.pairwise(found))
    return found if rising and all(segment.plain for segment in found) else []


def step_of(row: dict[str, Any]) -> int:
    """Return a row's step, in whole numbers; 0 where it has none."""
    step = row.get("_step", 0)
    return math.floor(step) if isinstance(step, int | float) and -(2**63) <= step < 2**63 else 0
