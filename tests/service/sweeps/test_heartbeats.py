"""Agents at work are answered by one look for runs to be stopped; when they were heard is written down now and then."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from paretune.service.http.service import Service
from paretune.service.store.accounts import add_user
from paretune.service.store.tables import Agent, Issue, Run, Sweep, names_of, now
from tests.service.serving import Asked, authorization
from tests.service.sweeps.test_sweeps import agent, beat, created

OTHER = "local-" + "o" * 40


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def service_of(asked: Asked) -> Service:
    service = asked.client.app.state.service  # type: ignore[attr-defined]
    assert isinstance(service, Service)
    return service


def at_work(asked: Asked) -> tuple[str, str]:
    """Return an agent that has begun a run, and the run's name."""
    _, sweep = created(asked)
    own = agent(asked, sweep)
    name = beat(asked, own)[0]["run_id"]
    asked.run(name, sweep=sweep)
    return own, name


def heard(asked: Asked, own: str) -> tuple[object, object]:
    number = int((names_of(own, "Agent") or [""])[0])
    with asked.database.session() as session:
        found = session.get_one(Agent, number)
        return found.heartbeat_at, session.get_one(Sweep, found.sweep_id).heartbeat_at


def test_who_was_heard_is_written_down_for_all_at_once(asked: Asked) -> None:
    own, name = at_work(asked)
    long_ago = now() - timedelta(hours=1)
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Agent).values(heartbeat_at=long_ago))
        session.execute(sa.update(Sweep).values(heartbeat_at=long_ago))
    assert beat(asked, own, name) == []
    assert heard(asked, own) == (long_ago, long_ago), "not yet"
    pulses = service_of(asked).pulses
    assert pulses.write(asked.database) == 1
    assert all(now() - moment < timedelta(minutes=1) for moment in heard(asked, own))  # type: ignore[operator]
    assert pulses.write(asked.database) == 0


def test_an_agent_that_is_known_is_nobody_elses(asked: Asked) -> None:
    add_user(asked.database, "other", key=OTHER)
    own, name = at_work(asked)
    beat(asked, own, name)
    query = "mutation H($id: ID!, $r: JSONString) { agentHeartbeat(input: {id: $id, runState: $r}) { commands } }"
    body = {"query": query, "variables": {"id": own, "r": f'{{"{name}": true}}'}}
    assert asked.client.post("/graphql", json=body, headers=authorization(OTHER)).status_code == 404


def test_a_run_that_does_not_stop_by_itself_gets_the_signal(asked: Asked) -> None:
    own, name = at_work(asked)
    assert beat(asked, own, name) == []
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).where(Run.name == name).values(stop_asked=True, stop_asked_at=now()))
    assert beat(asked, own, name) == [], "it has time to end by itself"
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).values(stop_asked_at=now() - timedelta(seconds=41)))
    assert beat(asked, own, name) == [{"type": "stop", "run_id": name}]


def test_an_agent_that_was_deleted_leaves_once_it_is_looked_up_again(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    own, name = at_work(asked)
    beat(asked, own, name)
    monkeypatch.setattr("paretune.service.sweeps.heartbeats.REMEMBERED", 0.0)
    with asked.database.session(writing=True) as session:
        session.execute(sa.text("UPDATE issue SET agent_id = NULL"))
        session.execute(sa.delete(Agent))
    query = "mutation H($id: ID!, $r: JSONString) { agentHeartbeat(input: {id: $id, runState: $r}) { commands } }"
    pulses = service_of(asked).pulses
    pulses._known.clear()
    body = {"query": query, "variables": {"id": own, "r": f'{{"{name}": true}}'}}
    assert asked.client.post("/graphql", json=body).status_code == 404


def test_a_heartbeat_after_an_outage_renews_the_runs_of_its_own_sweep_alone(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of others may be locked by who waits for one of its own; whoever holds no sweep renews the runs of all."""
    sweeps = [created(asked)[1] for _ in range(2)]
    names = [beat(asked, agent(asked, sweep))[0]["run_id"] for sweep in sweeps]
    pulses = service_of(asked).pulses
    pulses.write(asked.database)
    long_ago = now() - timedelta(hours=1)
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Issue).values(issued_at=long_ago))
    monkeypatch.setattr("paretune.service.sweeps.heartbeats.UNREACHED", -1.0)

    def renewed() -> list[bool]:
        with asked.database.session() as session:
            return [session.scalars(sa.select(Issue.issued_at).where(Issue.run_name == name)).one() > long_ago for name in names]

    assert beat(asked, agent(asked, sweeps[0]))[0]["run_id"] not in names
    assert renewed() == [True, False]
    pulses.write(asked.database)
    assert renewed() == [True, True]
