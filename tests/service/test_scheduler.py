"""Sweeps that the client's own scheduler searches: what it enqueues waits, agents begin it, and the end leaves nothing waiting."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.service.store.tables import Issue, now
from paretune.service.sweeps import study_feedback
from tests.service.serving import KEY, Asked, client, listening
from tests.service.sweeps.test_sweeps import DEFINITION, agent, beat, command, created, done, set_state, state_of

CUSTOM: dict[str, Any] = {"method": "custom", "scheduler": {"engine": "optuna", "source": "space.py", "optimizer": "study"}}
SPACE = """
import optuna

def study(info):
    assert info.controller_run_name, info
    return optuna.create_study(direction="minimize", sampler=optuna.samplers.RandomSampler(seed=1))
"""
TRAIN = """
import argparse, wandb
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
parser.add_argument("--kind")
parser.add_argument("--fixed", type=int)
values = parser.parse_args()
run = wandb.init()
run.log({"loss": values.x})
run.finish()
"""


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def enqueued(asked: Asked, identifier: str, **values: Any) -> str:
    """Enqueue a run as wandb-core does, and return its id."""
    query = "mutation E($id: ID!, $config: JSONString!) { enqueueSweepRun(input: {id: $id, config: $config}) { id } }"
    config = json.dumps({name: {"value": value} for name, value in values.items()})
    return str(asked.ask(query, id=identifier, config=config)["enqueueSweepRun"]["id"])


def states(asked: Asked, sweep: str) -> list[str]:
    query = 'query($n: String!) { project(name: "tried") { sweep(sweepName: $n) { runs { edges { node { state } } } } } }'
    found = asked.ask(query, n=sweep)["project"]["sweep"]["runs"]["edges"]
    return [edge["node"]["state"] for edge in found]


def test_an_enqueued_run_waits_for_an_agent_which_gets_exactly_its_values(asked: Asked) -> None:
    identifier, sweep = created(asked, **CUSTOM)
    one = agent(asked, sweep)
    assert beat(asked, one) == [], "nothing is searched by the server"
    name = enqueued(asked, identifier, x=0.25, nested={"q": 3})
    assert states(asked, sweep) == ["pending"]
    (given,) = beat(asked, one)
    assert given == {
        "type": "run",
        "run_id": name,
        "program": "train.py",
        "args": {"x": {"value": 0.25}, "nested": {"value": {"q": 3}}},
    }
    assert states(asked, sweep) == ["pending"], "until it begins"
    asked.run(name, sweep=sweep)
    assert states(asked, sweep) == ["running"]
    assert beat(asked, agent(asked, sweep)) == [], "it is handed to nobody else"
    asked.stream(name, files={"wandb-history.jsonl": {"offset": 0, "content": ['{"_step": 0, "loss": 0.5}']}}, complete=True)
    assert beat(asked, one) == []
    assert states(asked, sweep) == ["finished"]


def test_the_end_of_a_sweep_leaves_nothing_pending(asked: Asked) -> None:
    for state, running in (("FINISHED", "running"), ("CANCELED", "running")):
        identifier, sweep = created(asked, **CUSTOM)
        one = agent(asked, sweep)
        enqueued(asked, identifier, x=0.1)
        enqueued(asked, identifier, x=0.2)
        asked.run(beat(asked, one)[0]["run_id"], sweep=sweep)
        set_state(asked, identifier, state)
        assert states(asked, sweep) == [running, "killed"]
        assert beat(asked, agent(asked, sweep)) == [{"type": "exit"}]
        query = 'mutation E($id: ID!) { enqueueSweepRun(input: {id: $id, config: "{}"}) { id } }'
        assert f"is {state.lower()}, and takes no more runs" in asked.told(query, id=identifier)["errors"][0]["message"]


def test_a_run_that_is_stopped_before_it_began_is_handed_to_nobody(asked: Asked) -> None:
    identifier, sweep = created(asked, **CUSTOM)
    enqueued(asked, identifier, x=0.1)
    query = 'query($n: String!) { project(name: "tried") { sweep(sweepName: $n) { runs { edges { node { id } } } } } }'
    run = asked.ask(query, n=sweep)["project"]["sweep"]["runs"]["edges"][0]["node"]["id"]
    asked.ask("mutation S($id: ID!) { stopRun(input: {id: $id}) { success } }", id=run)
    assert beat(asked, agent(asked, sweep)) == []
    assert states(asked, sweep) == ["killed"]


def test_more_than_run_cap_is_enqueued_and_never_handed_out(asked: Asked) -> None:
    identifier, sweep = created(asked, **CUSTOM, run_cap=2)
    one = agent(asked, sweep)
    for x in (0.1, 0.2, 0.3):
        enqueued(asked, identifier, x=x)
    for _ in range(2):
        done(asked, beat(asked, one)[0]["run_id"], sweep, loss=0.7)
    assert beat(asked, one) == [{"type": "exit"}]
    assert states(asked, sweep) == ["finished", "finished", "killed"]
    assert (state_of(asked, sweep)["state"], state_of(asked, sweep)["runCountExpected"]) == ("FINISHED", 2)


def test_an_enqueued_run_that_twice_never_began_has_failed(asked: Asked) -> None:
    identifier, sweep = created(asked, **CUSTOM)
    one = agent(asked, sweep)
    name = enqueued(asked, identifier, x=0.1)
    assert [beat(asked, one)[0]["run_id"] for _ in range(2)] == [name, name]
    assert beat(asked, one) == []
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Issue).values(issued_at=now() - 2 * study_feedback.UNSTARTED))
    assert beat(asked, one) == []
    assert states(asked, sweep) == ["failed"]


def test_a_person_may_enqueue_a_run_into_a_sweep_that_the_server_searches(asked: Asked) -> None:
    identifier, sweep = created(asked, run_cap=1)
    name = enqueued(asked, identifier, x=0.125, kind="a")
    one = agent(asked, sweep)
    (given,) = beat(asked, one)
    assert (given["run_id"], given["args"]["x"]["value"]) == (name, 0.125)
    done(asked, name, sweep)
    (own,) = beat(asked, one)
    assert own["args"]["fixed"] == {"value": 7}
    done(asked, own["run_id"], sweep)
    assert beat(asked, one) == [{"type": "exit"}]
    assert states(asked, sweep) == ["finished", "finished"]


def test_what_is_no_configuration_and_no_sweep_is_refused_by_its_sentence(asked: Asked) -> None:
    identifier, _ = created(asked, **CUSTOM)
    query = "mutation E($id: ID!, $config: JSONString!) { enqueueSweepRun(input: {id: $id, config: $config}) { id } }"
    for config in ("[1]", "{"):
        assert "config must be a JSON object" in asked.told(query, id=identifier, config=config)["errors"][0]["message"]
    assert "there is no sweep" in asked.told(query, id="nonsense", config="{}")["errors"][0]["message"]


def test_w_and_bs_own_engine_is_said_to_want_a_method_of_its_own(asked: Asked) -> None:
    query = 'mutation M($c: String) { upsertSweep(input: {config: $c, projectName: "tried"}) { configValidationWarnings } }'
    for method, expected in (("custom", True), ("bayes", False)):
        text = json.dumps({**DEFINITION, "method": method, "scheduler": {"engine": "wandb"}})
        notes = asked.ask(query, c=text)["upsertSweep"]["configValidationWarnings"]
        assert any("engine wandb" in note for note in notes) is expected, notes


def test_the_schedulers_file_is_not_looked_for_on_the_server(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda path: pytest.fail(f"{path} was looked for"))
    created(asked, method="custom", scheduler={"engine": "optuna", "source": "/etc/passwd", "optimizer": "study"})


# -- by the client


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with listening(tmp_path_factory.mktemp("service")) as address:
        yield address


def sweep_of(address: str, folder: Path, engine: str, **more: Any) -> str:
    """Create a sweep by the command line, and return its id."""
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    (folder / "space.py").write_text(SPACE, encoding="utf-8")
    definition = {
        "program": "train.py",
        "method": "custom" if engine != "wandb" else "random",
        "scheduler": {"engine": engine, **more},
        "metric": {"name": "loss", "goal": "minimize"},
        "run_cap": 2,
        "parameters": {"x": {"min": 0.0, "max": 1.0}, "kind": {"values": ["a", "b"]}},
    }
    (folder / "sweep.yaml").write_text(json.dumps(definition), encoding="utf-8")
    made = command(address, folder, "sweep", "--project", "scheduled", "sweep.yaml")
    assert made.returncode == 0, made.stderr
    assert "Malformed" not in made.stderr
    return made.stderr.split("sweeps/")[1].split()[0]


def agent_of(address: str, folder: Path, sweep: str) -> subprocess.Popen[str]:
    """Start `wandb agent`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"WANDB_BASE_URL": address, "WANDB_API_KEY": KEY, "HOME": str(folder), "WANDB_ERROR_REPORTING": "false"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = [str(Path(sys.executable).with_name("wandb")), "agent", f"someone/scheduled/{sweep}"]
    return subprocess.Popen(program, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "named"), [("optuna", {"source": "space.py", "optimizer": "study"}), ("wandb", {})])
def test_the_clients_scheduler_searches_through_this_server(
    address: str, tmp_path: Path, engine: str, named: dict[str, str]
) -> None:
    if engine == "wandb" and not is_installed("sweeps"):
        pytest.skip("the package sweeps of W&B's is not installed (pip install wandb[sweeps])")
    sweep = sweep_of(address, tmp_path, engine, **named)
    agent = agent_of(address, tmp_path, sweep)
    try:
        path = f"someone/scheduled/{sweep}"
        driven = command(address, tmp_path, "sweep-scheduler", path, "--batch-size", "1", "--poll-interval", "1")
        assert driven.returncode == 0, driven.stderr
        assert agent.wait(timeout=60) == 0
    finally:
        agent.kill()
        agent.communicate()
    found = client(
        address,
        tmp_path,
        f"""
        import json, wandb
        sweep = wandb.Api().sweep("{path}")
        finished = [run for run in sweep.runs if run.state == "finished"]
        print(json.dumps([sweep.state, [run.config["x"] == run.summary["loss"] for run in finished],
                          sorted({{run.state for run in sweep.runs}} - {{"killed"}})]))
        """,
    )
    assert found == ["FINISHED", [True, True], ["finished"]], driven.stderr


@pytest.mark.slow
def test_an_engine_that_is_not_installed_is_named_by_the_client(address: str, tmp_path: Path) -> None:
    if is_installed("ax-platform"):
        pytest.skip("Ax is installed")
    sweep = sweep_of(address, tmp_path, "ax")
    driven = command(address, tmp_path, "sweep-scheduler", f"someone/scheduled/{sweep}")
    assert driven.returncode != 0
    assert "wandb[ax] is required" in driven.stderr
