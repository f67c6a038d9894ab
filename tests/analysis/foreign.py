"""Runs of three programs of other people, as W&B's client writes them: Keras-like, Lightning-like, and a grid without rows."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from wandb.proto import wandb_internal_pb2

from paretune.runs.outcome_file import packed

LONG = "evaluation/top_5_categorical_accuracy_over_the_validation_generator_batches"  # a metric
LONG_PARAMETER = "data_augmentation/random_rotation_factor_of_the_training_images_only"
Rows = Sequence[Mapping[str, Any]]
Run = tuple[str, dict[str, Any], Rows, dict[str, Any]]  # name, config, rows, summary


def write_run(folder: Path, run_id: str, run: Run, *, project: str = "theirs", program: str = "train.py", commit: str = "") -> Path:
    """Write one run file as W&B's client does, with its environment."""
    name, config, rows, summary = run
    records: list[Any] = [wandb_internal_pb2.Record() for _ in range(2)]  # type: ignore[attr-defined]
    own = records[0].run
    own.run_id, own.display_name, own.project = run_id, name, project
    own.start_time.FromSeconds(1_800_000_000 + int(run_id.rpartition("-")[2]))
    own.telemetry.python_version, own.telemetry.cli_version = "3.12.1", "0.31.0"
    for key, value in config.items():
        own.config.update.add(key=key, value_json=json.dumps(value))
    records[1].environment.program, records[1].environment.python = f"/home/them/{program}", "CPython 3.12.1"
    records[1].environment.args.extend(["--data", "my data"])
    records[1].environment.git.commit = commit
    latest: dict[str, Any] = {}
    for step, row in enumerate(rows):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        logged = {**{key: _as_sent(value) for key, value in row.items()}, "_step": step}
        for key, value in logged.items():
            record.history.item.add(key=key, value_json=json.dumps(value))
        records.append(record)
        latest |= logged
    closing = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
    for key, value in {**latest, **summary}.items():
        closing.summary.update.add(key=key, value_json=json.dumps(value))
    records += [closing, wandb_internal_pb2.Record(exit={"exit_code": 0})]  # type: ignore[attr-defined]
    path = folder / f"offline-run-20270115_080000-{run_id}" / f"run-{run_id}.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(packed(record.SerializeToString() for record in records))
    return path


def _as_sent(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def keras() -> Iterator[Run]:
    """Yield runs of one row an epoch, with a long metric and parameter, texts among the metrics, and one that diverged."""
    random = np.random.default_rng(0)
    for number in range(12):
        rate, units = 10 ** random.uniform(-4, -0.5), int(random.choice([32, 64, 128]))
        rows = []
        for epoch in range(20):
            train = math.nan if number == 3 and epoch > 8 else math.exp(-epoch * (0.1 + rate)) + 0.05
            val = train + 0.05 + 0.03 * max(0, epoch - 9) * (rate > 0.01)
            row = {"epoch/epoch": epoch, "epoch/loss": train, "epoch/accuracy": 1 - train / 2, "epoch/val_loss": val}
            row |= {"epoch/val_accuracy": 1 - val / 2, "epoch/learning_rate": rate, LONG: 1 - val / 5}
            rows.append({**row, "phase": "warmup" if epoch < 5 else "main", "device": "cpu"})
        yield "", {"learning_rate": rate, "units": units, LONG_PARAMETER: float(random.choice([0.0, 0.1])), "batch": 64}, rows, {}


def lightning() -> Iterator[Run]:
    """Yield runs that log training and validation in rows of their own, and nest their config."""
    random = np.random.default_rng(1)
    for number in range(12):
        rate, dropout = 10 ** random.uniform(-4, -1), round(float(random.uniform(0, 0.5)), 2)
        rows: list[dict[str, Any]] = []
        for epoch in range(10):
            steps = [{"train/loss_step": 2 * math.exp(-epoch / 4) + 0.1, "epoch": epoch} for _ in range(3)]
            val = 2 * math.exp(-epoch / 4) + 0.2 + dropout / 3
            rows += [*steps, {"val/loss": val, "val/acc": max(0.0, 1 - val / 3), "epoch": epoch}]
            rows.append({"train/loss_epoch": 2 * math.exp(-epoch / 4) + 0.1, "epoch": epoch})
        config = {"lr": rate, "model": {"dropout": dropout, "hidden": 64 * (1 + number % 2)}, "seed_everything": number}
        yield f"version_{number}", config, rows, {}


def grid() -> Iterator[Run]:
    """Yield runs without a row: a grid that writes its scores into the summary."""
    for c, gamma, kernel in itertools.product([0.1, 1, 10], [0.001, 0.01], ["rbf", "linear"]):
        score = 0.8 + 0.05 * (c > 1) + 0.08 * (kernel == "rbf") + gamma
        config = {"svc__C": c, "svc__gamma": gamma, "svc__kernel": kernel, "cv": 5}
        yield "", config, [], {"mean_test_score": score, "mean_fit_time": 0.2 + c / 100, "best_estimator": f"SVC(C={c})"}


PROGRAMS: dict[str, Callable[[], Iterator[Run]]] = {"keras": keras, "lightning": lightning, "grid": grid}
METRICS = {
    "keras": ["epoch/val_loss", LONG, "--goals", "minimize", "maximize"],
    "lightning": ["val/acc", "val/loss"],
    "grid": ["mean_test_score"],
}


def write_runs(folder: Path, program: str, commit: str = "") -> Path:
    """Write the runs of one of PROGRAMS into a folder of its name, and return it."""
    for number, run in enumerate(PROGRAMS[program]()):
        write_run(folder / program, f"{program}-{number}", run, project=program, program=f"{program}.py", commit=commit)
    return folder / program
