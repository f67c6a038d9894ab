"""The numbers that an artefact holds or gives, as plain JSON values: for writing tests/fixtures/written.json and for its tests."""

from __future__ import annotations

import contextlib
import json
import math
import re
import signal
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.samples import ROOT

KEY = "local-" + "f" * 40  # of the user `someone` of the services in tests/fixtures
PROJECT = "fixtures"

READS_A_SERVICE = """
import json, wandb
api = wandb.Api()
path = "someone/fixtures"
runs = {}
for run in api.runs(path, order="+created_at", lazy=False):
    runs[run.id] = {
        "name": run.name, "config": run.config, "tags": run.tags, "group": run.group, "finished": run.state == "finished",
        "sweep": run.sweep_name, "history": list(run.scan_history()), "files": {file.name: file.size for file in run.files()},
        "summary": {key: value for key, value in dict(run.summary).items() if isinstance(value, (int, float, str))},
    }
sweeps = {}
for sweep in api.project("fixtures", "someone").sweeps():
    whole = api.sweep(f"{path}/{sweep.id}")
    runs_of = sorted(run.id for run in whole.runs)
    sweeps[sweep.name] = {"id": sweep.id, "state": whole.state, "runs": runs_of, "config": whole.config}
artifacts = {}
for kind in api.artifact_types(path):
    for collection in api.artifact_collections(path, kind.name):
        artifacts[collection.name] = [
            {
                "name": one.name, "type": one.type, "digest": one.digest, "aliases": sorted(one.aliases), "metadata": one.metadata,
                "files": {name: entry.size for name, entry in one.manifest.entries.items()},
                "logged_by": one.logged_by().id, "used_by": sorted(run.id for run in one.used_by()),
            }
            for one in api.artifacts(kind.name, f"{path}/{collection.name}")
        ]
downloaded = api.artifact(f"{path}/things:v0").download(root="fetched")
text = open("fetched/first.txt").read()
print(json.dumps({"runs": runs, "sweeps": sweeps, "artifacts": artifacts, "text": text}))
"""
AGENT = """mutation A($sweep: String!) { createAgent(input: {host: "h", sweep: $sweep, projectName: "fixtures",
  entityName: "someone"}) { agent { id } } }"""
HEARTBEAT = 'mutation H($id: ID!) { agentHeartbeat(input: {id: $id, runState: "{}"}) { commands } }'


def images(files: Iterable[Path]) -> Any:
    """Return grey pictures of one size as (n_images, 1, height, width), float32 in [0, 1]."""
    import numpy as np
    from PIL import Image

    return np.stack([np.asarray(Image.open(file).convert("L"), dtype=np.float32)[None] / 255 for file in files])


def model(folder: Path, pictures: Path) -> dict[str, Any]:
    """Return what a saved model says of the pictures below a folder, and its metrics on the parts of its own data."""
    metrics = {"test": evaluated(folder, "test")}
    if json.loads((folder / "config.json").read_text())["data_options"]["holdout"] > 0:
        metrics["holdout"] = evaluated(folder, "holdout")
    return {**outputs(folder, pictures), "metrics": metrics}


def evaluated(folder: Path, split: str) -> dict[str, float]:
    """Return the metrics of a saved model on a part of its own data."""
    from paretune.models.evaluation import evaluate_saved

    return dict(evaluate_saved(str(folder), split=split, device="cpu").metrics)


def outputs(folder: Path, pictures: Path) -> dict[str, Any]:
    """Return what a saved model says of the pictures below a folder."""
    from paretune.models.saved_models import load

    loaded: Any = load(folder, device="cpu")
    x = images(sorted(pictures.glob("*.png")))
    found: dict[str, Any] = {"class": type(loaded).__name__, "n_parameters": loaded.n_parameters}
    if loaded.name == "autoencoder":
        found |= {"errors": loaded.errors(x).tolist(), "codes": loaded.encode(x).tolist()}
    else:
        labels, probabilities = loaded.predict_with_proba(x)
        found["labels"] = [loaded.class_names[label] for label in labels]
        found["probabilities"] = None if probabilities is None else probabilities.tolist()
    return found


def records(runs: Any) -> dict[str, Any]:
    """Return runs as the analysis reads them, by name: state, config without provenance, rows and summary."""
    return {
        run.name: {
            "state": run.state,
            "config": {key: value for key, value in run.config.items() if key != "provenance"},
            "tags": list(run.tags),
            "rows": {name: [None if math.isnan(value) else value for value in column] for name, column in run.columns.items()},
            "summary": {key: value for key, value in dict(run.summary).items() if isinstance(value, int | float | str)},
        }
        for run in runs
    }


def study(folder: Path, aims: dict[str, str]) -> dict[str, Any]:
    """Return the runs of a study's folder, the best trial, the front and the run that a rule chooses.

    Args:
        aims: what the front is of, metric -> goal; the first of them decides what is best.
    """
    from paretune.analysis.choose import choose
    from paretune.analysis.findings.aims import aims_of
    from paretune.analysis.findings.front import front_of
    from paretune.analysis.history import load_runs, runs_table

    runs = load_runs(folder)
    found: dict[str, Any] = {"runs": records(runs)}
    if any(run.state == "finished" for run in runs):
        metric, goal = next(iter(aims.items()))
        weighed = aims_of(runs, list(aims), list(aims.values()))
        table = runs_table(runs)
        front = front_of(table, list(weighed), list(weighed.values()))[0]
        found["front"] = sorted(front.loc[front["on_front"], "name"])
        found["chosen"] = str(choose(table, f"{goal[:3]}:{metric}", weighed, records=runs).run["name"])
    return found


def drawings(folder: Path) -> dict[str, Any]:
    """Return how many drawings of each digit a folder holds, and the mean of each picture in MNIST's form."""
    from paretune.painter.drawings import Drawings

    files = sorted((folder / "28x28").glob("*/*.png"))
    means = {f"{file.parent.name}/{file.stem}": float(255 * images([file]).mean()) for file in files}
    return {"counts": Drawings(folder).counts(), "means": means}


@contextlib.contextmanager
def served(data: Path, *flags: str, hostname: str | None = None) -> Iterator[str]:
    """Start the service's command on a folder, on any port; give its address."""
    command = [sys.executable, "-m", "paretune.service", "--port", "0", "--data", str(data), *flags]
    with subprocess.Popen(
        [*renamed(hostname), *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        try:
            lines = [server.stdout.readline()]
            while "until Ctrl-C" not in lines[-1]:
                assert lines[-1], "".join(lines)
                lines.append(server.stdout.readline())
            address = re.search(r"http://\S+:[0-9]+", lines[-1])
            assert address is not None, lines
            yield address[0]
        finally:
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()


def renamed(hostname: str | None) -> list[str]:
    """Return what goes before a command so that it sees this machine under another name."""
    return [] if hostname is None else ["unshare", "-ru", "sh", "-c", f'hostname {hostname}; exec "$@"', "sh"]


def client_environment(address: str, home: Path) -> dict[str, str]:
    """Return what lets W&B's client talk to a service, and to nothing else."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "WANDB_BASE_URL": address,
        "WANDB_API_KEY": KEY,
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }


def service(address: str, folder: Path) -> dict[str, Any]:
    """Return all runs, sweeps and artifacts that a service keeps, as W&B's client reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = client_environment(address, folder)
    done = subprocess.run([sys.executable, "-c", READS_A_SERVICE], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def asked(address: str, query: str, **variables: Any) -> Any:
    """Return the data of an operation, which must have no errors."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"content-type": "application/json", "authorization": "Basic " + b64encode(f"api:{KEY}".encode()).decode()}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/graphql", body, headers), timeout=60) as response:
        answer = json.loads(response.read())
    assert "errors" not in answer, answer
    return answer["data"]


def next_run(address: str, sweep: str) -> dict[str, Any]:
    """Return what a new agent of a sweep is told to do."""
    agent = asked(address, AGENT, sweep=sweep)["createAgent"]["agent"]["id"]
    (command,) = json.loads(asked(address, HEARTBEAT, id=agent)["agentHeartbeat"]["commands"])
    return command  # type: ignore[no-any-return]
