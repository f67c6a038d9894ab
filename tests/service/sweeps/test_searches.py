"""The studies behind the sweeps: no transaction waits for them, prior runs are learnt from once, each line is read once."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from paretune.search.spec.hyperband import Hyperband
from paretune.service.store import streams
from paretune.service.store.tables import Issue, Run
from paretune.service.sweeps import agents, histories, searches, study_feedback
from paretune.service.sweeps.histories import Watch, history_of
from tests.service.serving import Asked
from tests.service.sweeps.test_sweeps import DEFINITION, agent, beat, created, done, set_state, state_of, sweep_row


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def trials_of(asked: Asked, sweep: str) -> list[Any]:
    return asked.searches.of(sweep_row(asked, sweep)).study.get_trials(deepcopy=False)


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
    agents.look_after(asked.database, asked.searches)
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
    agents.look_after(asked.database, asked.searches)
    assert [state_of(asked, name)["state"] for name in names] == ["RUNNING", "FINISHED"]


def test_a_scheduled_sweep_whose_agents_left_ends_at_its_cap_by_itself(asked: Asked) -> None:
    identifier, sweep = created(asked, method="custom", scheduler={"engine": "optuna"}, run_cap=1)
    query = 'mutation E($id: ID!) { enqueueSweepRun(input: {id: $id, config: "{}"}) { id } }'
    for _ in range(2):
        asked.ask(query, id=identifier)
    done(asked, beat(asked, agent(asked, sweep))[0]["run_id"], sweep)
    agents.look_after(asked.database, asked.searches)
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


# -- prior runs


def prior(asked: Asked, name: str, *, loss: float | None = 0.5, ended: bool = True, **config: Any) -> str:
    asked.run(name, config=json.dumps({key: {"value": value} for key, value in config.items()}))
    line = json.dumps({"_step": 0} if loss is None else {"_step": 0, "loss": loss})
    asked.stream(name, files={"wandb-history.jsonl": {"offset": 0, "content": [line]}}, complete=ended)
    return name


def with_priors(asked: Asked, names: list[str], **changes: Any) -> tuple[str, str]:
    query = """mutation M($c: String, $f: JSONString) { upsertSweep(input: {config: $c, projectName: "tried", priorRunsFilters: $f})
        { sweep { id name priorRuns { edges { node { name } } } } } }"""
    filters = json.dumps({"$or": [{"name": name} for name in names]})
    made = asked.ask(query, c=json.dumps({**DEFINITION, **changes}), f=filters)["upsertSweep"]["sweep"]
    assert {edge["node"]["name"] for edge in made["priorRuns"]["edges"]} == set(names)
    return made["id"], made["name"]


def test_prior_runs_are_attached_and_learnt_from_once_before_the_first_suggestion(asked: Asked, tmp_path: Path) -> None:
    prior(asked, "fits", loss=0.125, x=0.5, kind="a", fixed=7)
    prior(asked, "outside", x=3.0, kind="a")
    prior(asked, "nothing", loss=None, x=0.25, kind="b")
    prior(asked, "goes-on", x=0.25, kind="b", ended=False)
    prior(asked, "unnamed", x=0.75, kind="b")
    _, sweep = with_priors(asked, ["fits", "goes-on", "nothing", "outside"], run_cap=2)
    one = agent(asked, sweep)
    first = beat(asked, one)[0]
    known = trials_of(asked, sweep)
    assert [(trial.state, trial.value, trial.params.get("x")) for trial in known[:1]] == [(TrialState.COMPLETE, 0.125, 0.5)]
    assert len(known) == 2, "the others teach nothing"
    done(asked, first["run_id"], sweep, loss=0.9)
    asked.client.app = asked.application(tmp_path)  # type: ignore[method-assign]
    done(asked, beat(asked, one)[0]["run_id"], sweep, loss=0.8)
    assert beat(asked, one) == [{"type": "exit"}], "prior runs count to no cap"
    assert [trial.value for trial in trials_of(asked, sweep)] == [0.125, 0.9, 0.8], "and are told once"


def test_prior_runs_are_told_with_their_constraints(asked: Asked) -> None:
    search = {"constraints": ["x <= 0.4"]}
    prior(asked, "breaks", loss=0.125, x=0.5, kind="a", fixed=7)
    _, sweep = with_priors(asked, ["breaks"], controller={"type": "cloud", "search": search})
    given = beat(asked, agent(asked, sweep))[0]
    assert trials_of(asked, sweep)[0].constraints == {"x <= 0.4": pytest.approx(0.1)}
    done(asked, given["run_id"], sweep)
    agents.look_after(asked.database, asked.searches)
    assert set(trials_of(asked, sweep)[1].constraints) == {"x <= 0.4"}, "as are its own runs"


def test_a_clients_scheduler_finds_the_prior_runs_among_the_sweeps(asked: Asked) -> None:
    prior(asked, "fits", x=0.5, kind="a")
    identifier, sweep = with_priors(asked, ["fits"], method="custom", scheduler={"engine": "optuna"})
    query = 'mutation E($id: ID!) { enqueueSweepRun(input: {id: $id, config: "{}"}) { id } }'
    own = asked.ask(query, id=identifier)["enqueueSweepRun"]["id"]
    pages, after = [], None
    page = """query($n: String!, $after: String) { project(name: "tried") { sweep(sweepName: $n) {
        runs(first: 1, after: $after) { edges { node { name } } pageInfo { hasNextPage endCursor } } } } }"""
    while True:
        found = asked.ask(page, n=sweep, after=after)["project"]["sweep"]["runs"]
        pages.append([edge["node"]["name"] for edge in found["edges"]])
        after = found["pageInfo"]["endCursor"]
        if not found["pageInfo"]["hasNextPage"]:
            break
    assert pages == [["fits"], [own]]


def test_a_filter_of_prior_runs_that_is_none_is_refused(asked: Asked) -> None:
    query = """mutation M($c: String, $f: JSONString)
        { upsertSweep(input: {config: $c, projectName: "tried", priorRunsFilters: $f}) { sweep { id } } }"""
    assert "$xor" in asked.told(query, c=json.dumps(DEFINITION), f='{"$xor": []}')["errors"][0]["message"]


# -- early_terminate


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


# -- connections


def test_two_hundred_sweeps_share_a_few_connections_and_idle_ones_are_closed(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [created(asked, method="random") for _ in range(200)]
    rows = [sweep_row(asked, name) for _, name in found]
    for row in rows:
        asked.searches.of(row)
    engine = asked.searches.storage.engine  # type: ignore[attr-defined]
    assert engine.pool.checkedin() + engine.pool.checkedout() <= 5
    assert all(asked.searches.of(row).study._storage._backend is asked.searches.storage for row in rows)
    assert asked.searches.tidy(asked.database) == 200
    for identifier, _ in found[:50]:
        set_state(asked, identifier, "CANCELED")
    monkeypatch.setattr(searches, "KEPT_ENDED", 0.0)
    assert asked.searches.tidy(asked.database) == 150
    monkeypatch.setattr(searches, "KEPT", 0.0)
    assert asked.searches.tidy(asked.database) == 0
    assert len(beat(asked, agent(asked, found[60][1]))) == 1, "it is opened again when it is asked"
