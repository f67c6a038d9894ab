"""The service on PostgreSQL: several servers and many agents at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState
from starlette.testclient import TestClient

from paretune.service.store.database import Database
from paretune.service.store.tables import Agent, Issue, Run, Sweep
from paretune.service.sweeps.searches import Searches
from tests.postgres import needs_postgres, postgres
from tests.service.serving import Asked, authorization
from tests.service.sweeps.test_sweeps import agent, beat, created, done, state_of, sweep_row

pytestmark = [pytest.mark.slow, needs_postgres]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("service")
    with postgres(folder) as url:
        asked = Asked(folder, url)
        with asked.client:  # all threads ask one event loop, in which they take turns
            yield asked
        asked.searches.close()
        asked.database.close()


def test_two_servers_on_one_database_issue_each_configuration_once(asked: Asked, tmp_path: Path) -> None:
    _, sweep = created(asked, method="random", run_cap=30)
    other = Asked.__new__(Asked)
    other.storage, other.database, other.files = asked.storage, Database(asked.storage), asked.files
    other.client = TestClient(other.application(tmp_path), headers=authorization(), raise_server_exceptions=False)

    def work(number: int) -> int:
        here = (asked, other)[number % 2]
        own, count = agent(here, sweep), 0
        while (commands := beat(here, own)) != [{"type": "exit"}]:
            for command in commands:
                done(here, command["run_id"], sweep, loss=command["args"]["x"]["value"])
                count += 1
        return count

    with other.client, ThreadPoolExecutor(6) as pool:
        counts = list(pool.map(work, range(6)))
    other.searches.close()
    other.database.close()
    assert sum(counts) == 30
    row = sweep_row(asked, sweep)
    with asked.database.session() as session:
        issues = session.scalars(sa.select(Issue).where(Issue.sweep_id == row.id)).all()
    assert len({issue.run_name for issue in issues}) == len({issue.trial for issue in issues}) == len(issues) == 30
    assert len({issue.values for issue in issues}) == 30


def test_clients_that_create_the_same_run_and_files_at_once_are_all_served(asked: Asked) -> None:
    def create(number: int) -> int:
        name = f"same{number // 6}"
        asked.run(name, config=json.dumps({f"k{number}": {"value": number}}))
        files = {"wandb-history.jsonl": {"offset": number % 6, "content": [json.dumps({"_step": number % 6, "loss": 1})]}}
        assert asked.stream(name, files=files).status_code == 200
        query = "mutation M($input: CreateRunFilesInput!) { createRunFiles(input: $input) { files { uploadUrl } } }"
        values = {"entityName": "someone", "projectName": "tried", "runName": name, "files": ["config.yaml"]}
        (file,) = asked.ask(query, input=values)["createRunFiles"]["files"]
        return asked.client.put("/uploads/" + file["uploadUrl"].partition("/uploads/")[2], content=b"x").status_code

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(create, range(60))) == {200}
    with asked.database.session() as session:
        for number in range(10):
            run = session.scalars(sa.select(Run).where(Run.name == f"same{number}")).one()
            assert run.history_lines == 6
            assert json.loads(run.history_keys)["loss"]["kinds"] == {"number": 6}


def test_eight_agents_at_once_get_a_configuration_each_and_none_twice(asked: Asked) -> None:
    _, sweep = created(asked, method="random", run_cap=40)

    def work(_: int) -> int:
        own, count = agent(asked, sweep), 0
        while (commands := beat(asked, own)) != [{"type": "exit"}]:
            for command in commands:
                done(asked, command["run_id"], sweep, loss=command["args"]["x"]["value"])
                count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(work, range(8)))
    assert sum(counts) == 40
    found = state_of(asked, sweep)
    assert (found["state"], found["runCount"]) == ("FINISHED", 40)
    row = sweep_row(asked, sweep)
    with asked.database.session() as session:
        issues = session.scalars(sa.select(Issue).where(Issue.sweep_id == row.id)).all()
    assert len({issue.run_name for issue in issues}) == len({issue.trial for issue in issues}) == len(issues) == 40
    assert len({issue.values for issue in issues}) == 40
    trials = asked.searches.trials(row)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 40


def test_a_study_that_another_server_has_made_anew_is_read_and_asked(asked: Asked) -> None:
    _, sweep = created(asked)
    row, other = sweep_row(asked, sweep), Searches(asked.storage)
    with other.turn(asked.database, row) as search:
        assert search is not None
        before = search.study._study_id
    beat(asked, agent(asked, sweep))  # nothing was handed out, so it begins anew
    assert [trial.state for trial in other.trials(row)] == [TrialState.RUNNING]
    with other.turn(asked.database, row) as search:
        assert search is not None
        assert search.study._study_id != before
        assert len(search.study.get_trials()) == 1
    other.close()


def test_who_writes_down_what_was_heard_waits_for_a_sweep_with_nothing_in_its_hands(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat locks its sweep, then its agent and issues: in another order they would wait for each other."""
    _, sweep = created(asked)
    own = agent(asked, sweep)
    name = beat(asked, own)[0]["run_id"]
    pulses = asked.client.app.state.service.pulses  # type: ignore[attr-defined]
    pulses.write(asked.database)
    beat(asked, own, name)
    monkeypatch.setattr("paretune.service.sweeps.heartbeats.UNREACHED", -1.0)
    with ThreadPoolExecutor(1) as pool, asked.database.session(writing=True) as session:
        row = session.scalar(sa.select(Sweep).where(Sweep.name == sweep).with_for_update())
        assert row is not None
        written = pool.submit(pulses.write, asked.database)
        waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE sweep%'")
        with asked.database.engine.connect() as looking:
            while not looking.scalar(waiting):
                assert not written.done()
                looking.rollback()  # a transaction sees the activity as it was when it first looked
                time.sleep(0.01)
        session.scalars(sa.select(Agent).where(Agent.sweep_id == row.id).with_for_update(nowait=True)).one()
        session.scalars(sa.select(Issue).where(Issue.sweep_id == row.id).with_for_update(nowait=True)).one()
        session.commit()
        assert written.result(30) == 1


def test_a_heartbeat_after_an_outage_waits_for_no_other_sweep(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = (created(asked)[1] for _ in range(2))
    beat(asked, agent(asked, other))
    asked.client.app.state.service.write_pulses()  # type: ignore[attr-defined]
    monkeypatch.setattr("paretune.service.sweeps.heartbeats.UNREACHED", -1.0)
    with ThreadPoolExecutor(1) as pool, asked.database.session(writing=True) as session:
        session.scalars(sa.select(Issue).where(Issue.sweep_id == sweep_row(asked, other).id).with_for_update()).one()
        answer = pool.submit(beat, asked, agent(asked, own))
        try:
            assert answer.result(20)[0]["type"] == "run"
        finally:
            session.rollback()
