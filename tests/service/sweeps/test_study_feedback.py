"""What the study of a sweep learns: which row of a run counts, what a failed run teaches, and runs from before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from paretune.runs import study_schema
from paretune.runs.sweep_outcome import outcome_of
from paretune.service.store.tables import Run
from paretune.service.sweeps import agents
from paretune.service.sweeps.heartbeats import Pulses
from tests.service.serving import Asked
from tests.service.sweeps.test_searches import trials_of
from tests.service.sweeps.test_sweeps import DEFINITION, agent, beat, created, done, state_of


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


OURS = {"classifier": {"value": "ann"}, "provenance": {"value": {"fingerprints": {"test": "a"}}}}


@pytest.mark.parametrize(
    ("config", "value"),
    [(OURS, 0.2), ({}, 0.6), ({"classifier": {"value": "ann"}}, 0.6)],
    ids=["a trainer of ours: best epoch", "another program: latest row", "another program that has a classifier"],
)
def test_one_row_counts_and_a_failed_run_teaches_nothing(asked: Asked, config: dict[str, Any], value: float) -> None:
    _, sweep = created(asked, run_cap=2)
    one = agent(asked, sweep)
    first = beat(asked, one)[0]["run_id"]
    done(asked, first, sweep, loss=0.1, exit_code=1)
    second = beat(asked, one)[0]["run_id"]
    asked.run(second, sweep=sweep, config=json.dumps(config))
    lines = [json.dumps({"_step": step, "loss": loss}) for step, loss in enumerate([0.9, 0.2, 0.6])]
    asked.stream(second, files={"wandb-history.jsonl": {"offset": 0, "content": lines}}, complete=True)
    beat(asked, one)
    assert state_of(asked, sweep)["bestLoss"] == pytest.approx(value)


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


@pytest.mark.parametrize(
    ("state", "code", "how"),
    [
        ("failed", 3, "its run failed (its program exited with code 3)"),
        ("failed", 137, "its run failed (its program exited with code 137 (a shell's way to say SIGKILL))"),
        ("crashed", 0, "its run crashed (its program was killed or ended by os._exit, or its machine is lost)"),
    ],
)
def test_the_study_keeps_how_a_program_ended(state: str, code: int, how: str, asked: Asked) -> None:
    _, sweep = created(asked, run_cap=2)
    one = agent(asked, sweep)
    name = beat(asked, one)[0]["run_id"]
    done(asked, name, sweep, exit_code=code)
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).where(Run.name == name).values(state=state))
    beat(asked, one)
    assert trials_of(asked, sweep)[0].user_attrs[study_schema.CAUSE] == how


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
    asked.client = asked.unlimited(tmp_path)
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
    agents.look_after(asked.database, asked.searches, Pulses())
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


@pytest.mark.parametrize(
    ("rows", "ending", "state", "cause"),
    [
        ([{"loss": 0.5}], {"exitcode": 1}, TrialState.FAIL, "its run failed (its program exited with code 1)"),
        ([{"other": 0.5}], {}, TrialState.FAIL, "it logged no finite loss"),
        ([{"loss": float("nan")}], {}, TrialState.FAIL, "it logged no finite loss"),
        ([{"loss": 0.5}, {"other": 1.0}], {}, TrialState.COMPLETE, ""),
    ],
)
def test_a_run_without_a_result_fails_its_trial_with_the_cause(
    asked: Asked, rows: list[dict[str, float]], ending: dict[str, int], state: TrialState, cause: str
) -> None:
    _, sweep = created(asked, run_cap=2)
    one = agent(asked, sweep)
    name = beat(asked, one)[0]["run_id"]
    asked.run(name, sweep=sweep)
    lines = [json.dumps({"_step": step, **row}) for step, row in enumerate(rows)]
    asked.stream(name, files={"wandb-history.jsonl": {"offset": 0, "content": lines}}, complete=True, **ending)
    beat(asked, one)
    trial = trials_of(asked, sweep)[0]
    assert trial.state == state
    assert trial.user_attrs.get(study_schema.CAUSE, "").startswith(cause)
    assert (cause == "") is (study_schema.CAUSE not in trial.user_attrs)
    asked.run(name, sweep=sweep, summaryMetrics='{"more": 1}')  # a client that goes on knows nothing of its sweep
    with asked.database.session() as session:
        run = session.scalars(sa.select(Run).where(Run.name == name)).one()
        summary = json.loads(run.summary)
    assert summary["more"] == 1
    assert outcome_of(summary).cause == trial.user_attrs.get(study_schema.CAUSE, "")
    assert outcome_of(summary).state_of("finished") == ("finished" if state == TrialState.COMPLETE else "failed")


def test_what_a_program_decided_in_its_summary_is_its_result(asked: Asked) -> None:
    _, sweep = created(asked, run_cap=2)
    one = agent(asked, sweep)
    name = beat(asked, one)[0]["run_id"]
    asked.run(name, sweep=sweep, summaryMetrics=json.dumps({"loss": 0.125}))
    lines = [json.dumps({"_step": step, "loss": loss}) for step, loss in enumerate((0.125, 0.5))]
    asked.stream(name, files={"wandb-history.jsonl": {"offset": 0, "content": lines}}, complete=True)
    beat(asked, one)
    trial = trials_of(asked, sweep)[0]
    assert (trial.value, trial.user_attrs[study_schema.RUN]["id"]) == (0.125, name)
