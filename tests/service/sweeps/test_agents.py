"""What agents are told: one configuration at a time, a lost one once more, and when to stop or leave."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.service.store.tables import Agent, Issue, Run, global_id, now
from paretune.service.sweeps import agents, study_feedback
from tests.service.serving import Asked
from tests.service.sweeps.test_sweeps import agent, beat, created, done, set_state, state_of


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def test_an_agent_gets_one_configuration_at_a_time_until_the_cap(asked: Asked) -> None:
    _, sweep = created(asked)
    assert state_of(asked, sweep)["state"] == "PENDING"
    one, two = agent(asked, sweep), agent(asked, sweep)
    seen = []
    for number in range(4):
        (command,) = beat(asked, one)
        assert command["type"] == "run"
        assert command["program"] == "train.py"
        values = {name: entry["value"] for name, entry in command["args"].items()}
        assert 0 <= values["x"] <= 1
        assert values["kind"] in ("a", "b")
        assert values["fixed"] == 7
        seen.append((values["x"], values["kind"]))
        asked.run(command["run_id"], sweep=sweep)
        assert beat(asked, one, command["run_id"]) == [], "it is busy"
        done(asked, command["run_id"], sweep, loss=1.0 - number / 10)
    assert len(set(seen)) == 4
    assert [beat(asked, each) for each in (one, two)] == [[{"type": "exit"}]] * 2
    found = state_of(asked, sweep)
    assert (found["state"], found["runCount"], found["runCountExpected"], found["method"]) == ("FINISHED", 4, 4, "bayes")
    assert found["bestLoss"] == pytest.approx(0.7)
    assert [edge["node"]["totalRuns"] for edge in found["agents"]["edges"]] == [4, 0]


def test_a_lost_answer_is_given_again_once_and_not_twice(asked: Asked) -> None:
    _, sweep = created(asked)
    one = agent(asked, sweep)
    (first,), (again,) = beat(asked, one), beat(asked, one)
    assert first == again, "the agent asks anew, so the answer was lost"
    (other,) = beat(asked, one)
    assert other["run_id"] != first["run_id"]
    assert other["args"]["x"] != first["args"]["x"]


def test_a_run_that_its_agent_reports_as_running_is_not_given_to_another(asked: Asked) -> None:
    _, sweep = created(asked)
    one, two = agent(asked, sweep), agent(asked, sweep)
    (first,) = beat(asked, one)
    for _ in range(3):  # its program needs minutes before it calls wandb.init
        with asked.database.session(writing=True) as session:
            session.execute(sa.update(Issue).values(issued_at=now() - 2 * study_feedback.UNSTARTED))
        assert beat(asked, one, first["run_id"]) == []
        asked.client.app.state.service.write_pulses()  # type: ignore[attr-defined]
        (other,) = beat(asked, two)
        assert other["run_id"] != first["run_id"]
        done(asked, other["run_id"], sweep)
    with asked.database.session() as session:
        issue = session.scalars(sa.select(Issue).where(Issue.run_name == first["run_id"])).one()
        assert (issue.times, issue.told) == (1, False)


def test_a_server_that_was_away_gives_no_run_to_who_comes_back_first(asked: Asked, tmp_path: Path) -> None:
    _, sweep = created(asked)
    one, two = agent(asked, sweep), agent(asked, sweep)
    (first,) = beat(asked, one)
    long_ago = now() - 10 * study_feedback.UNSTARTED
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Agent).values(heartbeat_at=long_ago))
        session.execute(sa.update(Issue).values(issued_at=long_ago))
    asked.client = asked.unlimited(tmp_path)
    with asked.client:  # a start
        (other,) = beat(asked, two)
    assert other["run_id"] != first["run_id"]


@pytest.mark.parametrize("times", [1, study_feedback.MOST_TIMES])
def test_a_database_that_was_away_gives_no_run_to_who_asks_first_when_it_is_back(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """The requests that could not be answered meanwhile are answered in any order."""
    _, sweep = created(asked)
    service = asked.client.app.state.service  # type: ignore[attr-defined]
    one, two = agent(asked, sweep), agent(asked, sweep)
    (first,) = beat(asked, one)
    service.write_pulses()
    long_ago, away = now() - 10 * agents.SILENCE, time.monotonic() + 10 * agents.SILENCE.total_seconds()
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Agent).values(heartbeat_at=long_ago))
        session.execute(sa.update(Issue).values(issued_at=long_ago, times=times))
        session.execute(sa.update(Run).values(heartbeat_at=long_ago))
    asked.run("r1")
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).values(heartbeat_at=long_ago))
    with monkeypatch.context() as patch:
        patch.setattr("paretune.service.sweeps.heartbeats.time.monotonic", lambda: away)
        service.look_after_sweeps()
        assert service.mark_crashed() == 0
        (other,) = beat(asked, two)
        assert other["run_id"] != first["run_id"]
        service.write_pulses()
        assert not service.pulses.is_away
        assert service.mark_crashed() == 0
    with asked.database.session() as session:
        issue = session.scalars(sa.select(Issue).where(Issue.run_name == first["run_id"])).one()
        assert not issue.told
        assert issue.issued_at > long_ago


def test_what_a_silent_agent_never_began_goes_to_another(asked: Asked) -> None:
    _, sweep = created(asked)
    one, two = agent(asked, sweep), agent(asked, sweep)
    (first,) = beat(asked, one)
    (own,) = beat(asked, two)
    assert own["run_id"] != first["run_id"]
    done(asked, own["run_id"], sweep)
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Issue).where(Issue.agent_id == 1).values(issued_at=now() - 2 * study_feedback.UNSTARTED))
    assert beat(asked, two) == [first]
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Issue).values(issued_at=now() - 2 * study_feedback.UNSTARTED))
    (third,) = beat(asked, two)
    assert third["run_id"] not in (first["run_id"], own["run_id"]), "it was handed out twice and never began"


def test_a_trial_that_was_asked_for_and_never_handed_out_is_handed_out(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sweep = created(asked, run_cap=2)
    one = agent(asked, sweep)

    def fail(*_: Any) -> Any:
        raise SystemError("the server dies here")

    with monkeypatch.context() as patch:
        patch.setattr("paretune.service.store.runs.new_name", fail)
        answer = asked.told(f'mutation {{ agentHeartbeat(input: {{id: "{one}", runState: "{{}}"}}) {{ commands }} }}')
        assert "the server failed at this" in answer["errors"][0]["message"]
    for _ in range(2):
        done(asked, beat(asked, one)[0]["run_id"], sweep)
    assert beat(asked, one) == [{"type": "exit"}]


@pytest.mark.parametrize("method", ["random", "grid", "bayes"])
@pytest.mark.parametrize(
    "dies_at",
    [
        "paretune.service.sweeps.agents.draw",
        "paretune.service.store.runs.new_name",
        "paretune.service.sweeps.study_feedback.enqueue_retry",
    ],
)
def test_no_two_trials_have_one_configuration_after_a_kill(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, method: str, dies_at: str
) -> None:
    """It may come before the trial has drawn its values, before it is handed out, and before its retry is asked for."""
    parameters = {"x": {"values": list(range(4))}} if method == "grid" else {"x": {"min": 0.0, "max": 1.0}}
    _, sweep = created(asked, method=method, parameters=parameters, run_cap=4)
    one = agent(asked, sweep)
    done(asked, beat(asked, one)[0]["run_id"], sweep)

    def die(*_: Any, **__: Any) -> Any:
        raise SystemError("the server dies here")

    for place in dict.fromkeys(("paretune.service.sweeps.agents.draw", dies_at)):
        with monkeypatch.context() as patch:
            patch.setattr(place, die)
            assert asked.told(f'mutation {{ agentHeartbeat(input: {{id: "{one}", runState: "{{}}"}}) {{ commands }} }}')["errors"]
    while (command := beat(asked, one)[0])["type"] == "run":
        done(asked, command["run_id"], sweep)
    with asked.database.session() as session:
        handed_out = session.scalars(sa.select(Issue)).all()
    assert len({issue.values for issue in handed_out}) == len({issue.trial for issue in handed_out}) == len(handed_out) == 4


def test_a_cancelled_sweep_ends_its_runs_cleanly_first(asked: Asked) -> None:
    identifier, sweep = created(asked)
    one = agent(asked, sweep)
    (first,) = beat(asked, one)
    asked.run(first["run_id"], sweep=sweep)
    set_state(asked, identifier, "CANCELED")
    assert asked.stream(first["run_id"]).json() == {"stopped": True}
    assert beat(asked, one, first["run_id"]) == [], "it is given the time to end"
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).values(stop_asked_at=now() - 2 * agents.GRACE))
    assert beat(asked, one, first["run_id"]) == [{"type": "stop", "run_id": first["run_id"]}]
    asked.stream(first["run_id"], complete=True, exitcode=255)
    assert beat(asked, one) == [{"type": "exit"}]


def test_an_agent_of_nothing_gets_a_404_and_leaves(asked: Asked) -> None:
    query = "mutation H($id: ID!) { agentHeartbeat(input: {id: $id}) { commands } }"
    for identifier in (global_id("Agent", "77"), "nonsense"):
        body = json.dumps({"query": query, "variables": {"id": identifier}})
        assert asked.client.post("/graphql", content=body).status_code == 404


def test_a_configuration_of_an_agent_that_is_heard_is_not_anothers(asked: Asked) -> None:
    _, sweep = created(asked)
    one, two = agent(asked, sweep), agent(asked, sweep)
    (first,) = beat(asked, one)
    with asked.database.session(writing=True) as session:
        recent = now() - agents.SILENCE / 2
        session.execute(sa.update(Agent).where(Agent.id == 1).values(heartbeat_at=recent))
    assert beat(asked, two)[0]["run_id"] != first["run_id"]


def test_a_run_that_was_asked_to_stop_gets_no_signal_before_its_time(asked: Asked) -> None:
    identifier, sweep = created(asked)
    one = agent(asked, sweep)
    (first,) = beat(asked, one)
    asked.run(first["run_id"], sweep=sweep)
    set_state(asked, identifier, "CANCELED")
    for times, commands in ((0.5, []), (1.5, [{"type": "stop", "run_id": first["run_id"]}])):
        with asked.database.session(writing=True) as session:
            session.execute(sa.update(Run).values(stop_asked_at=now() - times * agents.GRACE))
        assert beat(asked, one, first["run_id"]) == commands
    assert beat(asked, one, "another") == [], "it is told of the runs that go on"
