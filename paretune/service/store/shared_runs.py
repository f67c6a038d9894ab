"""Runs that several processes write to (`wandb.Settings(mode="shared")`): each process numbers its lines and steps.

A run's steps are the numbers of its lines. The client marks the requests of such a process with headers that name the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.store import streams
from paretune.service.store.tables import Run, SharedLines, SharedSummary, as_json

SHARED = "x-wandb-use-async-filestream"
CLIENTS = ("x-wandb-async-client-id", "x-wandb-client-id")  # of the stream, of GraphQL


def client_of(headers: Mapping[str, str]) -> str | None:
    """Return the process of a shared run that sent a request; None of any other run."""
    if headers.get(SHARED, "").lower() != "true":
        return None
    return next((headers[name][:128] for name in CLIENTS if headers.get(name)), "")


def append(session: Session, run: Run, client: str, stream: str, offset: int, lines: Sequence[str]) -> None:
    """Store lines of a process: those that it sent before overwrite themselves, others follow the run's last line.

    Raises:
        UsageError: as `streams.append`.
    """
    if offset < 0:
        raise UsageError(f"offset must be at least 0. Got {offset}.")
    for first, part in list(_placed(session, run, client, stream, offset, lines)):
        numbered = part if stream != streams.HISTORY else [_at_step(line, first + index) for index, line in enumerate(part)]
        streams.append(session, run, stream, first, numbered)


def _at_step(line: str, step: int) -> str:
    """Return a history line with another step: each process counts its own from 0, and the client refuses steps of the user."""
    try:
        return as_json({**streams.row_of(line), "_step": step})
    except UsageError:
        return line  # `streams.append` says what is wrong with it


def _placed(
    session: Session, run: Run, client: str, stream: str, offset: int, lines: Sequence[str]
) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the lines of a process in parts, each with the run's number of its first line."""
    own = (SharedLines.run_id == run.id, SharedLines.client == client, SharedLines.stream == stream)
    end = offset + len(lines)
    overlapping = (SharedLines.offset <= end, SharedLines.offset + SharedLines.count >= offset)
    known = session.scalars(sa.select(SharedLines).where(*own, *overlapping).order_by(SharedLines.offset)).all()
    at = offset
    last: SharedLines | None = None
    free = getattr(run, streams.COUNTS[stream])

    def new(stop: int) -> tuple[int, Sequence[str]]:
        nonlocal last, free
        first, count = free, stop - at
        if last is not None and last.offset + last.count == at and last.first + last.count == first:
            last.count += count
        else:
            last = SharedLines(run_id=run.id, client=client, stream=stream, offset=at, first=first, count=count)
            session.add(last)
        free += count
        return first, lines[at - offset : stop - offset]

    for span in known:
        if at < min(span.offset, end):
            yield new(span.offset)
            at = span.offset
        stop = min(span.offset + span.count, end)
        if at < stop:
            yield span.first + at - span.offset, lines[at - offset : stop - offset]
            at = stop
        last = span
    if at < end:
        yield new(end)


def merged_summary(session: Session, run: Run, client: str, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's summary with what a process changed in its own since it sent it last."""
    former = session.get(SharedSummary, (run.id, client))
    before = {} if former is None else json.loads(former.summary)
    session.merge(SharedSummary(run_id=run.id, client=client, summary=as_json(sent)))
    changed = {key: value for key, value in sent.items() if key not in before or as_json(before[key]) != as_json(value)}
    return {**json.loads(run.summary), **changed}


def merged_config(run: Run, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's config with what a process sent of its own."""
    return {**json.loads(run.config), **sent}
