"""The rest of W&B's language, spoken by each client: people and teams, orderings, filters, addresses, sweeps that change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paretune.service.store.accounts import add_user
from paretune.service.store.database import Database
from tests.service.serving import client, listening
from tests.service.sweeps.test_sweeps import DEFINITION

MATE = "local-" + "m" * 40


@pytest.fixture(scope="module")
def address(each_client: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with two people, of whom one is in a team; with each client anew."""
    folder = tmp_path_factory.mktemp("spoken")
    with listening(folder) as address:
        database = Database(f"sqlite:///{folder / 'service.db'}")
        add_user(database, "mate", key=MATE, team="crew", email="mate@example.org")
        database.close()
        yield address


PEOPLE = """
import json, wandb
api = wandb.Api()

def said(function, *arguments):
    try:
        return str(function(*arguments))
    except Exception as error:
        return f"{type(error).__name__}: {error}"

print(json.dumps({
    "keys": api.viewer.api_keys,
    "teams": api.viewer.teams,
    "own": [one.username for one in api.team(api.default_entity).members],
    "crew": said(api.team, "crew"),
    "unknown": said(api.team, "nobody"),
    "made": said(api.create_team, "new"),
    "found": [[user.username, user.teams] for user in api.users("mat")],
    "organization": said(lambda: api.organization().name) if hasattr(api, "organization") else "paretune",
}))
"""


@pytest.mark.slow
def test_people_and_teams(address: str, tmp_path: Path) -> None:
    mate = client(address, tmp_path, PEOPLE, WANDB_API_KEY=MATE)
    other = client(address, tmp_path, PEOPLE)
    assert (len(mate["keys"]), mate["teams"], mate["own"], mate["crew"]) == (1, ["crew"], ["mate"], "<Team crew>")
    assert (mate["found"], mate["organization"]) == ([["mate", ["crew"]]], "paretune")
    assert (other["teams"], other["own"], other["found"]) == ([], ["someone"], [])
    for answer in (other["crew"], other["unknown"], mate["unknown"], mate["made"]):
        assert "there is no team or user" in answer
        assert "KeyError" not in answer


RUNS = """
import json, pathlib, wandb
settings = wandb.Settings(x_file_stream_no_gzip=False)
run = wandb.init(project="spoken", config={"lr": 0.1, "hidden": [64, 32], "fast": True}, settings=settings)
run.log({"loss": 0.5, "shape": [1, 2]})

def logged(text, name="things", **more):
    pathlib.Path("file.txt").write_text(text)
    artifact = wandb.Artifact(name, type="dataset", **more)
    artifact.add_file("file.txt")
    return run.log_artifact(artifact).wait()

for text in ("one", "two"):
    logged(text)
try:
    refusal = str(logged("three", "elsewhere", storage_region="coreweave-us"))
except ValueError as error:
    refusal = str(error)
run.finish()
api = wandb.Api()
kept = api.run(f"spoken/{run.id}")
collection = api.artifact_type("dataset", "spoken").collection("things")
(file,) = api.artifact("spoken/things:v0").files()
folder = api.artifact("spoken/things:v0").download(skip_cache=True)
answer = {
    "refusal": refusal,
    "rows": len(list(kept.scan_history())),
    "path": file.storage_path,
    "url": file.direct_url,
    "text": (pathlib.Path(folder) / "file.txt").read_text(),
    "ordered": [order for order in ORDERS if [one.id for one in api.runs("spoken", order=order)] != [run.id]],
    "versions": [one.version for one in collection.artifacts()],
    "holding": [len(api.runs("spoken", filters=each)) for each in HOLDING],
    "failing": [len(api.runs("spoken", filters=each)) for each in FAILING],
}
kept.delete()
kept.delete()
print(json.dumps(answer))
"""
ORDERS = ["+created_at", "-createdAt", "updated_at", "-heartbeatAt", "display_name", "-displayName", "jobType", "job_type"]
ORDERS += ["+summary_metrics.loss", "-config.lr.value", "username", "state", "duration", "-group", "tags", "notes", "name"]
HOLDING = [
    {"config.hidden": 64},
    {"config.hidden.value": [64, 32]},
    {"config.hidden": {"$size": 2}},
    {"config.fast": True},
    {"summary_metrics.shape": {"$exists": True}},
    {"config.absent": None},
    {"created_at": {"$gt": "2020-01-01T00:00:00+02:00"}},
]
FAILING = [
    {"config.fast": "true"},
    {"config.lr": "0.1"},
    {"config.hidden": None},
    {"created_at": {"$lt": "2020-01-01T00:00:00+02:00"}},
]


@pytest.mark.slow
def test_runs_and_artifacts(address: str, tmp_path: Path) -> None:
    found = client(address, tmp_path, f"{ORDERS=}\n{HOLDING=}\n{FAILING=}\n{RUNS}")
    assert "coreweave-us" in found["refusal"]
    assert (found["text"], found["rows"], found["ordered"], sorted(found["versions"])) == ("one", 1, [], ["v0", "v1"])
    assert found["path"].startswith("wandb_artifacts/")
    assert f"/{found['path']}/" in found["url"]
    assert (found["holding"], found["failing"]) == ([1] * len(HOLDING), [0] * len(FAILING))


SWEEPS = """
import json, pathlib, re, wandb
from click.testing import CliRunner
from wandb.cli import cli

def called(*arguments):
    done = CliRunner().invoke(cli.sweep, arguments)
    assert done.exit_code == 0, (arguments, done.output, done.exception)

pathlib.Path("first.yaml").write_text(json.dumps(FIRST))
pathlib.Path("second.yaml").write_text(json.dumps(SECOND))
path = "someone/changed/" + wandb.sweep(FIRST, project="changed")
called("--update", path, "second.yaml")
called("--update", path, "second.yaml")
called("--stop", path)
called("--resume", path)
sweep = wandb.Api().sweep(path)
print(json.dumps([sweep.state, sweep.config["method"], sweep.name, sweep.expected_run_count]))
"""


@pytest.mark.slow
def test_the_command_line_changes_a_pending_sweep_and_resumes_an_ended_one(address: str, tmp_path: Path) -> None:
    first, second = {**DEFINITION, "name": "first"}, {**DEFINITION, "name": "second", "method": "random", "run_cap": 2}
    program = f"FIRST = {first}\nSECOND = {second}\n{SWEEPS}"
    assert client(address, tmp_path, program) == ["RUNNING", "random", "second", 2]
