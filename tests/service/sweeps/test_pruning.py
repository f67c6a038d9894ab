"""`early_terminate` on the server: a run is asked to stop once, by its rows and those of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from paretune.service.store.tables import Issue, Run
from paretune.service.sweeps import pruning
from tests.service.serving import Asked
from tests.service.sweeps.test_sweeps import agent, beat, created, state_of, sweep_row


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def test_early_terminate_stops_what_falls_behind_and_nothing_else(asked: Asked) -> None:
    early = {"type": "hyperband", "min_iter": 2, "eta": 2}
    _, sweep = created(asked, run_cap=5, early_terminate=early)
    one = agent(asked, sweep)
    stopped = []
    for level in (0.5, 0.4, 0.9, 0.3, 0.8):
        name = beat(asked, one)[0]["run_id"]
        asked.run(name, sweep=sweep)
        for step in range(6):
            line = json.dumps({"_step": step, "loss": level - step / 100})
            answer = asked.stream(name, files={"wandb-history.jsonl": {"offset": step, "content": [line]}}).json()
            if answer:
                stopped.append((level, step))
                break
        asked.stream(name, complete=True, exitcode=255 if answer else 0)
    assert stopped == [(0.9, 1), (0.8, 1)], "at the first bracket: row 2"
    assert beat(asked, one) == [{"type": "exit"}]
    states = [trial.state for trial in asked.searches.trials(sweep_row(asked, sweep))]
    assert states.count(TrialState.PRUNED) == 2
    assert states.count(TrialState.COMPLETE) == 3
    assert state_of(asked, sweep)["bestLoss"] == pytest.approx(0.25)


HYPERBAND = {"type": "hyperband", "min_iter": 1, "eta": 3}  # of two runs one goes on


def logged(asked: Asked, name: str, *losses: float, sweep: str, state: str | None = None) -> Run:
    """Let a run of a sweep log, and return its row; `state` is one that a person gives it."""
    asked.run(name, sweep=sweep)
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).where(Run.name == name).values(stop_asked=False))
    lines = [json.dumps({"_step": step, "loss": loss}) for step, loss in enumerate(losses)]
    asked.stream(name, files={"wandb-history.jsonl": {"offset": 0, "content": lines}})
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).where(Run.name == name).values(stop_asked=False, **({"state": state} if state else {})))
        session.execute(sa.update(Issue).values(pruned=False))
    with asked.database.session() as session:
        return session.scalars(sa.select(Run).where(Run.name == name)).one()


def observed(asked: Asked, run: Run) -> bool:
    return pruning.observe(asked.database, asked.searches, run)


def begun(asked: Asked, count: int, **changes: Any) -> tuple[str, list[str]]:
    """Create a sweep and hand out configurations; return its name and theirs."""
    _, sweep = created(asked, run_cap=count, **changes)
    agents = [agent(asked, sweep) for _ in range(count)]
    return sweep, [beat(asked, one)[0]["run_id"] for one in agents]


def test_a_run_that_is_asked_to_stop_is_marked_as_pruned_and_asked_once(asked: Asked) -> None:
    sweep, (good, bad) = begun(asked, 2, early_terminate=HYPERBAND)
    logged(asked, good, 0.1, sweep=sweep)
    run = logged(asked, bad, 0.9, sweep=sweep)
    assert observed(asked, run) is True
    with asked.database.session() as session:
        assert session.scalars(sa.select(Run.stop_asked).order_by(Run.id)).all() == [False, True]
        assert session.scalars(sa.select(Issue.pruned).order_by(Issue.id)).all() == [False, True]
    assert observed(asked, run) is False, "it is asked already"


def test_a_run_is_compared_with_members_that_did_not_fail_alone(asked: Asked) -> None:
    sweep, (failed, bad) = begun(asked, 2, early_terminate=HYPERBAND)
    logged(asked, failed, 0.1, sweep=sweep, state="failed")
    logged(asked, "enlisted", 0.1, sweep=sweep)  # a run that a person put into the sweep
    assert observed(asked, logged(asked, bad, 0.9, sweep=sweep)) is False
    logged(asked, failed, 0.1, sweep=sweep, state="crashed")
    assert observed(asked, logged(asked, bad, 0.9, sweep=sweep)) is True


def test_without_a_rule_a_row_or_a_sweep_no_run_is_stopped(asked: Asked) -> None:
    sweep, (good, bad) = begun(asked, 2)
    logged(asked, good, 0.1, sweep=sweep)
    assert observed(asked, logged(asked, bad, 0.9, sweep=sweep)) is False
    sweep, (good, bad) = begun(asked, 2, early_terminate={**HYPERBAND, "min_iter": 2})
    logged(asked, good, 0.1, 0.1, sweep=sweep)
    assert observed(asked, logged(asked, bad, 0.9, sweep=sweep)) is False, "before its first bracket"
    assert observed(asked, logged(asked, bad, 0.9, 0.9, sweep=sweep)) is True
    asked.run("alone")
    with asked.database.session() as session:
        alone = session.scalars(sa.select(Run).where(Run.name == "alone")).one()
    assert observed(asked, alone) is False
