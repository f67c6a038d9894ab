"""Sweeps by the unmodified client: created, searched by our engine through its agents, paused, stopped and cancelled."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.service import serving
from tests.service.serving import KEY, Asked, client

PROGRAM = """
import argparse, time, wandb
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
parser.add_argument("--kind")
parser.add_argument("--fixed", type=int)
values = parser.parse_args()
run = wandb.init()
assert dict(run.config)["x"] == values.x
for step in range(3):
    run.log({"loss": (values.x - 0.3) ** 2 + (values.kind == "b") + 1 / (step + 1)})
run.finish()
"""
DEFINITION: dict[str, Any] = {
    "program": "train.py",
    "method": "bayes",
    "metric": {"name": "loss", "goal": "minimize"},
    "run_cap": 4,
    "parameters": {"x": {"min": 0.0, "max": 1.0}, "kind": {"values": ["a", "b"]}, "fixed": {"value": 7}},
}


# -- by requests


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def created(asked: Asked, **changes: Any) -> tuple[str, str]:
    """Create a sweep; return its identifier and its name."""
    text = json.dumps({key: value for key, value in {**DEFINITION, **changes}.items() if value is not None})
    query = 'mutation M($config: String) { upsertSweep(input: {config: $config, projectName: "tried"}) { sweep { id name } } }'
    sweep = asked.ask(query, config=text)["upsertSweep"]["sweep"]
    return sweep["id"], sweep["name"]


def agent(asked: Asked, sweep: str) -> str:
    query = 'mutation M($s: String!) { createAgent(input: {host: "h", sweep: $s, projectName: "tried"}) { agent { id } } }'
    return str(asked.ask(query, s=sweep)["createAgent"]["agent"]["id"])


def beat(asked: Asked, agent: str, *alive: str) -> list[dict[str, Any]]:
    query = "mutation H($id: ID!, $runState: JSONString) { agentHeartbeat(input: {id: $id, runState: $runState}) { commands } }"
    answer = asked.ask(query, id=agent, runState=json.dumps(dict.fromkeys(alive, True)))
    return json.loads(answer["agentHeartbeat"]["commands"])  # type: ignore[no-any-return]


def done(asked: Asked, name: str, sweep: str, loss: float | None = 0.5, exit_code: int = 0) -> None:
    """Let a run begin, log and end."""
    asked.run(name, sweep=sweep)
    line = json.dumps({"_step": 0} if loss is None else {"_step": 0, "loss": loss})
    asked.stream(name, files={"wandb-history.jsonl": {"offset": 0, "content": [line]}}, complete=True, exitcode=exit_code)


def set_state(asked: Asked, identifier: str, state: str) -> dict[str, Any]:
    query = "mutation M($id: ID, $s: String) { upsertSweep(input: {id: $id, state: $s}) { sweep { state } } }"
    return asked.told(query, id=identifier, s=state)


def state_of(asked: Asked, name: str) -> Any:
    fields = "state runCount runCountExpected bestLoss method agents { edges { node { totalRuns } } }"
    return asked.ask(f'query($n: String!) {{ project(name: "tried") {{ sweep(sweepName: $n) {{ {fields} }} }} }}', n=name)[
        "project"
    ]["sweep"]


def test_a_grid_is_walked_once_by_several_agents(asked: Asked) -> None:
    parameters = {"x": {"values": [0.1, 0.2, 0.3]}, "kind": {"values": ["a", "b"]}}
    _, sweep = created(asked, method="grid", run_cap=None, parameters=parameters)
    agents = [agent(asked, sweep) for _ in range(3)]
    found: list[tuple[float, str]] = []
    while commands := [command for each in agents for command in beat(asked, each) if command["type"] == "run"]:
        for command in commands:
            found.append((command["args"]["x"]["value"], command["args"]["kind"]["value"]))
            done(asked, command["run_id"], sweep)
    assert sorted(found) == [(x, kind) for x in (0.1, 0.2, 0.3) for kind in ("a", "b")]
    assert state_of(asked, sweep)["state"] == "FINISHED"


def test_a_restart_forgets_nothing(asked: Asked, tmp_path: Path) -> None:
    _, sweep = created(asked, run_cap=3)
    one = agent(asked, sweep)
    first = beat(asked, one)[0]
    done(asked, first["run_id"], sweep, loss=0.4)
    asked.client = asked.unlimited(tmp_path)
    second = beat(asked, one)[0]
    assert second["args"]["x"] != first["args"]["x"]
    done(asked, second["run_id"], sweep, loss=0.3)
    third = beat(asked, one)[0]
    done(asked, third["run_id"], sweep)
    assert beat(asked, one) == [{"type": "exit"}]
    assert state_of(asked, sweep)["bestLoss"] == pytest.approx(0.3)


def test_pause_resume_stop_and_cancel(asked: Asked) -> None:
    identifier, sweep = created(asked)
    one = agent(asked, sweep)
    (first,) = beat(asked, one)
    asked.run(first["run_id"], sweep=sweep)
    set_state(asked, identifier, "PAUSED")
    assert beat(asked, one, first["run_id"]) == []
    done(asked, first["run_id"], sweep)
    assert beat(asked, one) == []
    set_state(asked, identifier, "RUNNING")
    (second,) = beat(asked, one)
    asked.run(second["run_id"], sweep=sweep)
    set_state(asked, identifier, "FINISHED")
    assert beat(asked, one, second["run_id"]) == [], "what runs goes on to its end"
    done(asked, second["run_id"], sweep)
    assert beat(asked, one) == [{"type": "exit"}]
    assert "is finished already" in set_state(asked, identifier, "PAUSED")["errors"][0]["message"]
    assert "a sweep's state must be one of" in set_state(asked, created(asked)[0], "BROKEN")["errors"][0]["message"]


@pytest.mark.parametrize("ended", ["FINISHED", "CANCELED"])
def test_a_sweep_that_is_over_can_be_resumed(asked: Asked, ended: str) -> None:
    identifier, sweep = created(asked, run_cap=3)
    one = agent(asked, sweep)
    done(asked, beat(asked, one)[0]["run_id"], sweep)
    set_state(asked, identifier, ended)
    assert beat(asked, one) == [{"type": "exit"}]
    assert set_state(asked, identifier, "RUNNING")["data"]["upsertSweep"]["sweep"]["state"] == "RUNNING"
    for _ in range(2):
        done(asked, beat(asked, one)[0]["run_id"], sweep)
    assert beat(asked, one) == [{"type": "exit"}], "it ends again by itself"
    set_state(asked, identifier, "RUNNING")
    assert beat(asked, one) in ([], [{"type": "exit"}]), "there is no more to do"
    assert change(asked, identifier, run_cap=4)["data"]["upsertSweep"]["sweep"]["name"] == sweep
    set_state(asked, identifier, "RUNNING")
    assert [command["type"] for command in beat(asked, one)] == ["run"]


def change(asked: Asked, identifier: str, **changes: Any) -> dict[str, Any]:
    """Send another definition for a sweep, as `wandb sweep --update` does."""
    text = json.dumps({key: value for key, value in {**DEFINITION, **changes}.items() if value is not None})
    query = """mutation M($id: ID, $config: String, $d: String) { upsertSweep(input: {id: $id, config: $config, description: $d})
      { sweep { name displayName method description config } configValidationWarnings } }"""
    return asked.told(query, id=identifier, config=text, d=changes.get("description"))


OTHER = {"method": "grid", "run_cap": None, "parameters": {"x": {"values": [0.5, 0.7]}, "kind": {"value": "a"}}}


@pytest.mark.parametrize("opened", [False, True], ids=["its study is not open", "its study is open"])
def test_a_pending_sweep_becomes_another_one(asked: Asked, opened: bool) -> None:
    identifier, sweep = created(asked, name="first")
    if opened:
        assert state_of(asked, sweep)["bestLoss"] is None
    other = {**OTHER, "name": "second", "description": "said", "metric": {"name": "accuracy", "goal": "maximize"}}
    found = change(asked, identifier, **other)["data"]["upsertSweep"]["sweep"]
    assert (found["name"], found["displayName"], found["method"], found["description"]) == (sweep, "second", "grid", "said")
    assert state_of(asked, sweep)["runCountExpected"] == 2
    one, values = agent(asked, sweep), []
    while commands := [command for command in beat(asked, one) if command["type"] == "run"]:
        values.append(commands[0]["args"]["x"]["value"])
        asked.run(commands[0]["run_id"], sweep=sweep)
        line = json.dumps({"_step": 0, "accuracy": values[-1]})
        asked.stream(commands[0]["run_id"], files={"wandb-history.jsonl": {"offset": 0, "content": [line]}}, complete=True)
    assert sorted(values) == [0.5, 0.7]
    assert state_of(asked, sweep)["bestLoss"] == 0.7


@pytest.mark.parametrize("state", [None, "PAUSED", "FINISHED", "CANCELED"])
def test_a_sweep_with_runs_changes_where_it_does_no_harm(asked: Asked, state: str | None) -> None:
    identifier, sweep = created(asked, run_cap=2)
    one = agent(asked, sweep)
    done(asked, beat(asked, one)[0]["run_id"], sweep)
    if state is not None:
        set_state(asked, identifier, state)
    assert "errors" not in change(asked, identifier, run_cap=2), "an equal definition is always accepted"
    found = change(asked, identifier, run_cap=5, name="renamed", description="new")["data"]["upsertSweep"]["sweep"]
    assert (found["displayName"], found["description"]) == ("renamed", "new")
    assert state_of(asked, sweep)["runCountExpected"] == 5
    for changes in ({"method": "random"}, {"parameters": {"x": {"min": 0.0, "max": 2.0}}}, OTHER, {"program": "other.py"}):
        answer = change(asked, identifier, **{"run_cap": 5, "name": "renamed", **changes})
        assert f"sweep {sweep} has runs, and its {next(iter(changes))}" in answer["errors"][0]["message"]


def test_a_change_with_faults_leaves_a_sweep_as_it_was(asked: Asked) -> None:
    identifier, sweep = created(asked)
    assert "method" in change(asked, identifier, method="bayse")["errors"][0]["message"]
    assert state_of(asked, sweep)["method"] == "bayes"


def test_a_sweep_is_renamed_alone(asked: Asked) -> None:
    identifier, _ = created(asked)
    query = 'mutation M($id: ID) { upsertSweep(input: {id: $id, displayName: "by hand"}) { sweep { displayName } } }'
    assert asked.ask(query, id=identifier)["upsertSweep"]["sweep"]["displayName"] == "by hand"
    assert change(asked, identifier)["data"]["upsertSweep"]["sweep"]["displayName"] == "by hand"


def sweep_row(asked: Asked, name: str) -> Any:
    from paretune.service.store.tables import Sweep

    with asked.database.session() as session:
        return session.scalar(sa.select(Sweep).where(Sweep.name == name))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "bayse"}, "method"),
        ({"metric": None}, "metric"),
        ({"parameters": {"x": {"min": 2, "max": 1}}}, "parameters.x"),
        ({"program": 3}, "program must name the script to run"),
        ({"method": "custom", "scheduler": None}, ""),
    ],
)
def test_a_sweep_with_faults_is_refused_by_its_sentences(asked: Asked, changes: dict[str, Any], sentence: str) -> None:
    text = json.dumps({key: value for key, value in {**DEFINITION, **changes}.items() if value is not None})
    answer = asked.told(
        'mutation M($c: String) { upsertSweep(input: {config: $c, projectName: "tried"}) { sweep { id } } }', c=text
    )
    assert sentence in answer["errors"][0]["message"]
    assert asked.ask('{ project(name: "tried") { totalSweeps } }')["project"] is None, "nothing is left of it"


# -- by the client


def command(address: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line of the client."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"WANDB_BASE_URL": address, "WANDB_API_KEY": KEY, "HOME": str(folder), "WANDB_ERROR_REPORTING": "false"}
    environment["PATH"] = f"{Path(serving.PYTHON).parent}:{os.environ['PATH']}"
    program = [str(Path(serving.PYTHON).with_name("wandb")), *arguments]
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_the_command_line_creates_and_searches_a_sweep(address: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text(json.dumps({**DEFINITION, "run_cap": 2}), encoding="utf-8")
    made = command(address, tmp_path, "sweep", "--project", "swept", "sweep.yaml")
    assert made.returncode == 0, made.stderr
    name = made.stderr.split("sweeps/")[1].split()[0]
    ran = command(address, tmp_path, "agent", f"someone/swept/{name}")
    assert ran.returncode == 0, ran.stderr
    found = client(
        address,
        tmp_path,
        f"""
        import json, wandb
        sweep = wandb.Api().sweep("someone/swept/{name}")
        runs = list(sweep.runs)
        best = sweep.best_run()
        print(json.dumps({{
            "state": sweep.state, "runs": [run.state for run in runs], "config": sorted(runs[0].config),
            "best": best.summary["loss"] == min(run.summary["loss"] for run in runs), "expected": sweep.expected_run_count,
            "rows": [len(list(run.scan_history())) for run in runs],
        }}))
        """,
    )
    assert found == {
        "state": "FINISHED",
        "runs": ["finished"] * 2,
        "config": ["fixed", "kind", "x"],
        "best": True,
        "expected": 2,
        "rows": [3, 3],
    }


@pytest.mark.slow
def test_a_function_is_searched_in_its_own_process(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        f"""
        import json, wandb
        definition = {json.dumps({**DEFINITION, "method": "random", "run_cap": 3})}
        sweep = wandb.sweep(definition, project="called")
        tried = []
        def train():
            with wandb.init() as run:
                tried.append(run.config["x"])
                run.log({{"loss": run.config["x"]}})
        wandb.agent(sweep, function=train, project="called")
        print(json.dumps([tried, sorted(run.summary["loss"] for run in wandb.Api().sweep(f"someone/called/{{sweep}}").runs)]))
        """,
    )
    tried, losses = found
    assert len(set(tried)) == 3
    assert sorted(tried) == losses


@pytest.mark.slow
def test_the_command_line_pauses_resumes_stops_and_cancels(address: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(json.dumps(DEFINITION), encoding="utf-8")
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    program = "import json, wandb; print(json.dumps(wandb.Api().sweep({!r}).state))"
    for flags, states in ((("pause", "resume", "stop"), ("PAUSED", "RUNNING", "FINISHED")), (("cancel",), ("CANCELED",))):
        made = command(address, tmp_path, "sweep", "--project", "swept", "sweep.yaml")
        path = f"someone/swept/{made.stderr.split('sweeps/')[1].split()[0]}"
        command(address, tmp_path, "agent", "--count", "1", path)  # the client pauses none that has not begun
        for flag, state in zip(flags, states, strict=True):
            done = command(address, tmp_path, "sweep", f"--{flag}", path)
            assert done.returncode == 0, done.stderr
            assert client(address, tmp_path, program.format(path)) == state


@pytest.mark.slow
def test_the_command_line_says_what_is_wrong_with_a_sweep(address: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        json.dumps({**DEFINITION, "parameters": {"x": {"min": 2.0, "max": 1.0}}}), encoding="utf-8"
    )
    made = command(address, tmp_path, "sweep", "--project", "swept", "sweep.yaml")  # ends in time: it is not tried for ever
    assert made.returncode != 0
    assert "parameters.x" in made.stderr or "max" in made.stderr
    assert textwrap.dedent(made.stderr)
