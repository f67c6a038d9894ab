"""The studies behind the sweeps: no transaction waits for them, prior runs are learnt from once, each line is read once."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from paretune.service.store.tables import Issue, names_of
from paretune.service.sweeps import agents, searches, study_feedback
from paretune.service.sweeps.heartbeats import Pulses
from tests.service.serving import Asked
from tests.service.sweeps.test_sweeps import DEFINITION, agent, beat, created, done, set_state, state_of, sweep_row


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def trials_of(asked: Asked, sweep: str) -> list[Any]:
    return asked.searches.trials(sweep_row(asked, sweep))


def issues(asked: Asked) -> list[Issue]:
    with asked.database.session() as session:
        return list(session.scalars(sa.select(Issue).order_by(Issue.id)))


def held(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Let a suggestion wait; return what says that it does, and what lets it go on."""
    waits, goes_on, real = threading.Event(), threading.Event(), agents.draw

    def slow(*arguments: Any) -> Any:
        waits.set()
        assert goes_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(agents, "draw", slow)
    return waits, goes_on


def test_a_suggestion_that_takes_long_holds_up_nobody_who_writes(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sweep = created(asked)
    one = agent(asked, sweep)
    waits, goes_on = held(monkeypatch)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(beat(asked, one)))
    asking.start()
    assert waits.wait(30)
    asked.run("another")  # each of these writes
    line = '{"_step": 0, "loss": 1}'
    assert asked.stream("another", files={"wandb-history.jsonl": {"offset": 0, "content": [line]}}).status_code == 200
    assert beat(asked, agent(asked, created(asked)[1]), "busy") == []
    assert not answers, "the suggestion is still being made"
    goes_on.set()
    asking.join(30)
    assert answers[0][0]["type"] == "run"


def test_a_sweep_that_was_paused_during_a_suggestion_keeps_it_for_later(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    identifier, sweep = created(asked, run_cap=1)
    one = agent(asked, sweep)
    waits, goes_on = held(monkeypatch)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(beat(asked, one)))
    asking.start()
    assert waits.wait(30)
    set_state(asked, identifier, "PAUSED")
    goes_on.set()
    asking.join(30)
    assert answers == [[]]
    set_state(asked, identifier, "RUNNING")
    (given,) = beat(asked, one)
    assert [issue.run_name for issue in issues(asked)] == [given["run_id"]]


UPSERT = "mutation M($i: UpsertSweepInput!) { upsertSweep(input: $i) { sweep { id } } }"


def changed(asked: Asked, identifier: str, /, prior: str | None = None, **changes: Any) -> None:
    asked.ask(UPSERT, i={"id": identifier, "config": json.dumps({**DEFINITION, **changes}), "priorRunsFilters": prior})


def changed_meanwhile(asked: Asked, identifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two first suggestions of a sweep be in vain: it is changed while each is made."""
    own = agent(asked, identifier_name(identifier))
    with monkeypatch.context() as patch:
        for name in ("one", "two"):
            draw = agents.draw

            def change(*arguments: Any, name: str = name, draw: Any = draw) -> Any:
                changed(asked, identifier, name=name)
                return draw(*arguments)

            patch.setattr(agents, "draw", change)
            assert beat(asked, own) == []
            patch.setattr(agents, "draw", draw)


def identifier_name(identifier: str) -> str:
    return (names_of(identifier, "Sweep") or [""])[0]


def test_a_turn_is_had_of_the_sweep_as_it_is_when_it_comes(asked: Asked) -> None:
    identifier, sweep = created(asked, method="random")
    before = sweep_row(asked, sweep)
    changed(asked, identifier, method="bayes")
    first = beat(asked, agent(asked, sweep))[0]["run_id"]
    with asked.searches.turn(asked.database, before) as search:  # of somebody who has waited since then
        assert search is not None
        assert search.definition.method == "bayes"
    assert beat(asked, agent(asked, sweep))[0]["run_id"] != first
    assert [issue.trial for issue in issues(asked)] == [0, 1], "the study was kept"


def test_whoever_looks_at_a_sweep_opens_no_study(asked: Asked) -> None:
    _, sweep = created(asked)
    assert state_of(asked, sweep)["bestLoss"] is None
    assert asked.searches.storage.get_all_studies() == []


def test_a_sweep_that_has_handed_out_nothing_becomes_another_one_whatever_its_study_holds(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.run("of-before", config=json.dumps({"x": {"value": 0.5}, "kind": {"value": "a"}}))
    done(asked, "of-before", "", loss=0.5)
    identifier, sweep = created(asked)
    changed(asked, identifier, prior='{"name": "of-before"}')
    changed_meanwhile(asked, identifier, monkeypatch)
    states = [trial.state for trial in trials_of(asked, sweep)]
    assert TrialState.COMPLETE in states, "it has learnt of a prior run"
    changed(asked, identifier, method="random", metric={"name": "loss", "goal": "maximize"}, prior='{"name": "none"}')
    enqueued = asked.ask('mutation E($id: ID!) { enqueueSweepRun(input: {id: $id, config: "{}"}) { id } }', id=identifier)
    assert beat(asked, agent(asked, sweep))[0]["run_id"] == enqueued["enqueueSweepRun"]["id"], "which is no trial"
    assert beat(asked, agent(asked, sweep))[0]["type"] == "run"
    assert [trial.state for trial in trials_of(asked, sweep)] == [TrialState.RUNNING]


def test_more_than_so_many_do_not_wait_for_one_study(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "WAITING", 2)
    asked.searches = searches.Searches(asked.storage)
    _, sweep = created(asked)
    row = sweep_row(asked, sweep)
    with asked.searches.turn(asked.database, row) as first:
        assert first is not None
        asked.searches._waiting.acquire()  # one that waits
        with asked.searches.turn(asked.database, row) as third:
            assert third is None, "it is told to come again"
        asked.searches._waiting.release()


def test_a_crash_between_the_study_and_the_database_tells_nothing_twice_and_forgets_nothing(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sweep = created(asked, run_cap=2)
    one = agent(asked, sweep)
    name = beat(asked, one)[0]["run_id"]
    done(asked, name, sweep, loss=0.25)
    with monkeypatch.context() as patch:  # dies after the study was told, before that is noted
        patch.setattr(study_feedback, "_forget_lost", lambda *_: (_ for _ in ()).throw(SystemError("the server dies here")))
        assert asked.told(f'mutation {{ agentHeartbeat(input: {{id: "{one}", runState: "{{}}"}}) {{ commands }} }}')["errors"]
    assert [trial.state for trial in trials_of(asked, sweep)] == [TrialState.COMPLETE]
    assert [issue.told for issue in issues(asked)] == [False]
    second = beat(asked, one)[0]["run_id"]
    assert second != name
    done(asked, second, sweep, loss=0.5)
    assert beat(asked, one) == [{"type": "exit"}]
    assert [trial.value for trial in trials_of(asked, sweep)] == [0.25, 0.5]


def test_a_sweep_whose_agents_left_before_its_last_run_was_told_ends_by_itself(asked: Asked) -> None:
    _, sweep = created(asked, run_cap=1)
    done(asked, beat(asked, agent(asked, sweep))[0]["run_id"], sweep)
    assert state_of(asked, sweep)["state"] == "RUNNING"
    agents.look_after(asked.database, asked.searches, Pulses())
    assert state_of(asked, sweep)["state"] == "FINISHED"


def test_one_sweeps_fault_keeps_no_other_from_its_end(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [created(asked, run_cap=1)[1] for _ in range(2)]
    for name in names:
        done(asked, beat(asked, agent(asked, name))[0]["run_id"], name)
    real = agents.learn

    def fails_once(database: Any, search: Any, sweep: Any) -> Any:
        if sweep.name == names[0]:
            raise SystemError("its study is broken")
        return real(database, search, sweep)

    monkeypatch.setattr(agents, "learn", fails_once)
    agents.look_after(asked.database, asked.searches, Pulses())
    assert [state_of(asked, name)["state"] for name in names] == ["RUNNING", "FINISHED"]


def test_a_scheduled_sweep_whose_agents_left_ends_at_its_cap_by_itself(asked: Asked) -> None:
    identifier, sweep = created(asked, method="custom", scheduler={"engine": "optuna"}, run_cap=1)
    query = 'mutation E($id: ID!) { enqueueSweepRun(input: {id: $id, config: "{}"}) { id } }'
    for _ in range(2):
        asked.ask(query, id=identifier)
    done(asked, beat(asked, agent(asked, sweep))[0]["run_id"], sweep)
    agents.look_after(asked.database, asked.searches, Pulses())
    assert state_of(asked, sweep)["state"] == "FINISHED"


def test_a_run_that_was_deleted_is_neither_handed_out_again_nor_waited_for(asked: Asked) -> None:
    _, sweep = created(asked, run_cap=2)
    one = agent(asked, sweep)
    name = beat(asked, one)[0]["run_id"]
    identifier = asked.run(name, sweep=sweep)
    asked.ask("mutation D($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", id=identifier)
    (second,) = beat(asked, one)
    assert second["run_id"] != name
    done(asked, second["run_id"], sweep)
    assert beat(asked, one) == [{"type": "exit"}]
    assert [trial.state for trial in trials_of(asked, sweep)] == [TrialState.FAIL, TrialState.COMPLETE]


# -- early_terminate


# -- connections


def test_two_hundred_sweeps_share_a_few_connections_and_idle_ones_are_closed(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [created(asked, method="random") for _ in range(200)]
    rows = [sweep_row(asked, name) for _, name in found]
    opened = []
    for row in rows:
        with asked.searches.turn(asked.database, row) as search:
            opened.append(search)
    engine = asked.searches.storage.engine  # type: ignore[attr-defined]
    assert engine.pool.checkedin() + engine.pool.checkedout() <= 5
    assert all(search is not None and search.study._storage._backend is asked.searches.storage for search in opened)  # type: ignore[attr-defined]
    assert asked.searches.tidy(asked.database) == 200
    for identifier, _ in found[:50]:
        set_state(asked, identifier, "CANCELED")
    monkeypatch.setattr(searches, "KEPT_ENDED", 0.0)
    assert asked.searches.tidy(asked.database) == 150
    monkeypatch.setattr(searches, "KEPT", 0.0)
    assert asked.searches.tidy(asked.database) == 0
    assert len(beat(asked, agent(asked, found[60][1]))) == 1, "it is opened again when it is asked"
