"""Where histories come from, for tests: what a sweep recorded, and a W&B server that holds the same runs."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna

from paretune.runs import study_schema
from paretune.runs.sweep_outcome import SweepOutcome
from paretune.runs.wandb_files import read_run


@dataclass
class Run:
    """One run as it was recorded: `epochs` are rows of epoch and metrics."""

    run: str
    name: str
    state: str
    config: dict[str, Any]
    epochs: list[dict[str, float]]
    tags: list[str] = field(default_factory=list)
    created: float = 0.0


def truth_of(study: optuna.Study) -> list[Run]:
    """Read a study's trials by Optuna alone."""
    states = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
    found = []
    for trial in study.trials:
        attributes = trial.user_attrs
        numbers = sorted(int(key.split(":")[1]) for key in attributes if key.startswith("epoch:"))
        rows = []
        for number in numbers:
            metrics = {key: value for key, value in attributes[f"epoch:{number}"].items() if key != study_schema.LAST}
            rows.append({"epoch": number, **metrics})
        tags = ["baseline"] if attributes.get("baseline") else []
        assert trial.datetime_start is not None
        begun = trial.datetime_start.timestamp()
        name = f"{study.study_name}-{trial.number}"
        config = {key: value for key, value in attributes["run"]["config"].items() if key != "provenance"}
        found.append(Run(attributes["run"]["id"], name, states[trial.state.name], config, rows, tags, begun))
    return found


def written_out(folder: Path) -> list[Path]:
    """Return the run files below a folder once they are whole.

    wandb 0.31 writes the last block of an offline run's file a moment after `finish` has returned.
    """
    files = sorted(folder.rglob("run-*.wandb"))
    deadline = time.monotonic() + 60
    while any(run is None or run.state == "running" for run in map(read_run, files)):
        assert time.monotonic() < deadline, f"the run files below {folder} have no end"
        time.sleep(0.02)
    return files


class ServerRun:
    """A run as `wandb.Api().runs()` hands it out; counts how often its history is asked for."""

    scans = 0

    def __init__(self, run: Run, *, state: str | None = None) -> None:
        self.id, self.name, self.tags = run.run, run.name, run.tags
        # the server knows no pruned runs: what is pruned has finished, and says so in its summary
        self.state = state or ("finished" if run.state == "pruned" else run.state)
        self.group, self.sweep_name = "tiny", None
        self.url = f"https://wandb.example/{run.run}"
        self.created_at = datetime.datetime.fromtimestamp(run.created, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.config = {**run.config, "provenance": {"commit": "abc", "fingerprints": {"test": "t"}}}
        last = run.epochs[-1] if run.epochs else {}
        self.summary: Mapping[str, Any] = {
            **last,
            "_wandb": {},
            **(SweepOutcome(pruned=1).to_summary() if run.state == "pruned" else {}),
        }
        self.epochs = run.epochs

    def scan_history(self, page_size: int) -> Iterator[dict[str, Any]]:
        ServerRun.scans += 1
        for row in self.epochs:
            sent = {key: "NaN" if math.isnan(value) else value for key, value in row.items()}
            table = {"_type": "table-file", "path": "media/table/x.json", "ncols": 3}
            yield {"_step": row["epoch"], "_timestamp": 1.7e9, "_runtime": 2.5, **sent, "per_class": table, "absent": None}


class Server:
    """Stands in for `wandb.Api`."""

    api_key = None

    def __init__(self, runs: list[ServerRun]) -> None:
        self.found = runs
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, **settings: Any) -> Server:
        return self

    def runs(self, path: str, filters: dict[str, Any] | None = None, **settings: Any) -> list[ServerRun]:
        self.asked.append((path, filters or {}))
        return self.found

    def sweep(self, path: str) -> SimpleNamespace:
        return SimpleNamespace(config={"metrics": [{"name": "f1", "goal": "maximize"}, {"name": "seconds"}]})
