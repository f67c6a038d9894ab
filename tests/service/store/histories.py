"""Histories that are streamed to a service, compacted and read back, for tests."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from paretune.service.store import compaction, streams
from paretune.service.store.tables import Chunk, Run, Segment
from tests.service.serving import Asked

RUN = 'query($run: String!) { project(name: "tried", entityName: "someone") { run(name: $run) { %s } } }'


def exact(rows: Any) -> list[str]:
    """Return rows as texts, in which 1, 1.0 and true differ and NaN is NaN."""
    return [json.dumps(row, sort_keys=True) for row in rows]


def rows(count: int, first: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [{"_step": step, "loss": 1 / (step + 1), **more} for step in range(first, first + count)]


def stream(asked: Asked, logged: list[dict[str, Any]], first: int = 0, run: str = "r1", **body: Any) -> None:
    lines = [json.dumps(row) for row in logged]
    answer = asked.stream(run, files={"wandb-history.jsonl": {"offset": first, "content": lines}}, **body)
    assert answer.status_code == 200, answer.text


def compact(asked: Asked) -> int:
    return compaction.compact_due(asked.database, asked.files)


def kept(asked: Asked, run: str = "r1", **which: Any) -> list[dict[str, Any]]:
    with asked.database.session() as session:
        found = session.scalars(sa.select(Run).where(Run.name == run)).one()
        return list(streams.rows_of(session, found, **which))


def stored(asked: Asked) -> tuple[int, int]:
    """Return how many lines of histories lie in chunks, and how many in segments."""
    with asked.database.session() as session:
        chunks = session.scalar(sa.select(sa.func.coalesce(sa.func.sum(Chunk.count), 0)).where(Chunk.stream == "history"))
        return int(chunks or 0), int(session.scalar(sa.select(sa.func.coalesce(sa.func.sum(Segment.count), 0))) or 0)


def of_run(asked: Asked, fields: str, run: str = "r1") -> Any:
    return asked.ask(RUN % fields, run=run)["project"]["run"]
