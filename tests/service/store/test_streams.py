"""Lines of a run at their bounds: the first and the last of a range of steps, and lines that are sent again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.service.store import compaction, streams
from paretune.service.store.tables import Chunk, Run
from tests.service.serving import Asked

STEPS = [0, 2, 4, 6, 8]


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    asked = Asked(tmp_path)
    asked.run()
    return asked


def send(asked: Asked, steps: Sequence[int], first: int = 0, **more: Any) -> None:
    with asked.database.session(writing=True) as session:
        lines = [json.dumps({"_step": step, **more}) for step in steps]
        streams.append(session, session.scalars(sa.select(Run)).one(), streams.HISTORY, first, lines)


def steps_of(asked: Asked, **which: Any) -> list[int]:
    with asked.database.session() as session:
        return [row["_step"] for row in streams.rows_of(session, session.scalars(sa.select(Run)).one(), **which)]


def chunks_of(asked: Asked) -> list[tuple[int, int]]:
    """Return the first line and the number of lines of each chunk of the history."""
    with asked.database.session() as session:
        return [(chunk.first, chunk.count) for chunk in session.scalars(sa.select(Chunk).order_by(Chunk.first, Chunk.id))]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_range_of_steps_holds_its_first_and_not_its_stop(asked: Asked, compacted: bool) -> None:
    send(asked, STEPS)
    if compacted:
        asked.stream("r1", complete=True)
        assert compaction.compact_due(asked.database, asked.files) == len(STEPS)
    for first in range(-1, 10):
        assert steps_of(asked, first_step=first) == [step for step in STEPS if step >= first]
        assert steps_of(asked, stop_step=first) == [step for step in STEPS if step < first]
        assert steps_of(asked, first_step=first, stop_step=first) == []
        assert steps_of(asked, first_step=first, stop_step=first + 2) == [step for step in STEPS if first <= step < first + 2]


def test_lines_sent_again_take_the_place_of_the_first_and_are_stored_once(asked: Asked) -> None:
    send(asked, STEPS)
    send(asked, STEPS, again=True)
    assert chunks_of(asked) == [(0, 5)]
    assert steps_of(asked) == STEPS
    send(asked, STEPS[1:3], first=1)
    assert chunks_of(asked) == [(0, 5), (1, 2)], "the others of the first are in it"
    send(asked, [*STEPS, 10], again=True)
    assert chunks_of(asked) == [(0, 6)]
    assert steps_of(asked) == [*STEPS, 10]


def test_lines_beside_those_that_come_again_stay(asked: Asked) -> None:
    send(asked, STEPS[:2])
    send(asked, STEPS[2:4], first=2)
    send(asked, STEPS[4:], first=4)
    send(asked, [14, 16], first=2)
    assert chunks_of(asked) == [(0, 2), (2, 2), (4, 1)]
    assert steps_of(asked) == [0, 2, 14, 16, 8]
