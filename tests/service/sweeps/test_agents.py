"""What agents are told: one configuration at a time, a lost one once more, and when to stop or leave."""

from __future__ import annotations

import json
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
    asked.client.app = asked.application(tmp_path)  # type: ignore[method-assign]
    with asked.client:  # a start
        (other,) = beat(asked, two)
    assert other["run_id"] != first["run_id"]


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
