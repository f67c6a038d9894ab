"""Objective values of runs, each line read once, and read anew where a run was rewound."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.search.spec.hyperband import Hyperband
from paretune.service.store import streams
from paretune.service.store.tables import Run
from paretune.service.sweeps import histories
from paretune.service.sweeps.histories import Watch, history_of
from tests.service.serving import Asked
from tests.service.sweeps.test_sweeps import agent, beat, created


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_read_line_by_line_decides_as_what_is_read_whole(asked: Asked, seed: int) -> None:
    chance = random.Random(seed)
    goals = {"loss": "minimize"} if seed % 2 else {"loss": "minimize", "acc": "maximize"}
    rule = Hyperband((2, 4, 8), 2.0, strict=chance.random() < 0.5)
    names = [f"r{number}" for number in range(6)]
    lines = dict.fromkeys(names, 0)
    for name in names:
        asked.run(name)
    watch, decided = Watch(goals), set()
    for _ in range(40):
        name = chance.choice(names)
        rows = []
        for _ in range(chance.randint(1, 3)):
            row: dict[str, Any] = {"_step": lines[name] + len(rows)}
            for goal in ("loss", "acc"):
                if chance.random() < 0.8:
                    row[goal] = float("nan") if chance.random() < 0.1 else round(int(name[1:]) / 3 + chance.random(), 2)
            rows.append(json.dumps(row))
        offset = max(lines[name] - chance.choice([0, 0, 1]), 0)  # now and then a line is sent again
        if offset < lines[name]:
            with asked.database.session() as session:
                run = session.scalar(sa.select(Run).where(Run.name == name))
                assert run is not None
                rows = [line for _, line in streams.lines_of(session, run, "history", start=offset)] + rows
        asked.stream(name, files={"wandb-history.jsonl": {"offset": offset, "content": rows}})
        lines[name] = offset + len(rows)
        with asked.database.session() as session:
            kept = list(session.scalars(sa.select(Run).order_by(Run.id)))
            histories = watch.read(session, kept)
            whole = [history_of(session, run, goals) for run in kept]
        assert repr(histories) == repr(whole), "NaN is not equal to itself"
        own = [run.name for run in kept].index(name)
        said = rule.should_stop(histories[own], histories, list(goals.values()))
        assert said == rule.should_stop(whole[own], whole, list(goals.values()))
        decided.add(said)
    assert decided == {True, False}


def test_a_run_that_was_rewound_is_read_anew(asked: Asked) -> None:
    asked.run("r1")
    rows = [json.dumps({"_step": step, "loss": step}) for step in range(5)]
    asked.stream("r1", files={"wandb-history.jsonl": {"offset": 0, "content": rows}})
    watch = Watch(["loss"])

    def read() -> Any:
        with asked.database.session() as session:
            return watch.read(session, session.scalars(sa.select(Run)))[0]

    assert len(read()) == 5
    to = 'runName: "r1", projectName: "tried", metricName: "_step", metricValue: 1'
    asked.ask(f"mutation {{ rewindRun(input: {{{to}}}) {{ clientMutationId }} }}")
    assert read() == [(1, [0.0]), (2, [1.0])]


def test_only_lines_that_are_new_are_read(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    early = {"type": "hyperband", "min_iter": 1, "eta": 2}
    _, sweep = created(asked, run_cap=5, early_terminate=early)
    one, two = agent(asked, sweep), agent(asked, sweep)
    names = [beat(asked, each)[0]["run_id"] for each in (one, two)]
    read: list[int] = []
    real = histories.Seen._note
    monkeypatch.setattr(histories.Seen, "_note", lambda seen, line: (read.append(1), real(seen, line)))
    for name in names:
        asked.run(name, sweep=sweep)
    for step in range(10):
        for name in names:
            line = json.dumps({"_step": step, "loss": 0.5})
            asked.stream(name, files={"wandb-history.jsonl": {"offset": step, "content": [line]}})
    assert len(read) == 20


def test_rows_that_log_an_objective_count_from_one_with_the_latest_of_the_others(asked: Asked) -> None:
    asked.run("r1")
    rows = [{"other": 1}, {"loss": 3.0}, {"acc": 0.5}, {"other": 2}, {"loss": 2.0, "acc": 0.25}]
    lines = [json.dumps({"_step": step, **row}) for step, row in enumerate(rows)]
    asked.stream("r1", files={"wandb-history.jsonl": {"offset": 0, "content": lines}})
    with asked.database.session() as session:
        run = session.scalars(sa.select(Run)).one()
        assert repr(history_of(session, run, ["loss", "acc"])) == "[(1, [3.0, nan]), (2, [3.0, 0.5]), (3, [2.0, 0.25])]"
        assert history_of(session, run, ["loss"]) == [(1, [3.0]), (2, [2.0])]
        assert history_of(session, run, ["none"]) == []


def test_lines_behind_one_that_is_missing_wait_for_it(asked: Asked) -> None:
    asked.run("r1")
    watch = Watch(["loss"])

    def sent(first: int, *losses: float) -> Any:
        lines = [json.dumps({"loss": loss}) for loss in losses]
        asked.stream("r1", files={"wandb-history.jsonl": {"offset": first, "content": lines}})
        with asked.database.session() as session:
            return [values[0] for _, values in watch.read(session, session.scalars(sa.select(Run)))[0]]

    assert sent(0, 1.0) == [1.0]
    assert sent(2, 3.0, 4.0) == [1.0]
    assert sent(1, 2.0) == [1.0, 2.0, 3.0, 4.0]
