"""What the engine adds to a trial: an objective that costs nothing, against bare Optuna, bare W&B and a process per trial.

    python benchmarks/overhead.py [--trials 1000] [--json]

Each way runs the same trials on a SQLite storage of its own with the engine's settings, with Optuna's default sampler
(TPE), in rounds that take turns. Bare Optuna asks, tells and keeps nothing else; bare W&B adds an offline `wandb.init`,
one `log` and `finish`; a process per trial is what `wandb agent` starts: the sweep's trainer, here for one epoch on 20
images, and beside it the least there can be, a script that only imports wandb and logs once.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

import numpy as np
import optuna

from benchmarks._result import Result, how_many, show, times
from paretune.core.epoch import METRICS, Epoch
from paretune.models.contract import Classifier, ClassifierConfig
from paretune.runs.study_storage import open_storage
from paretune.search.engine.in_process import InProcess
from paretune.search.engine.liveness import Lease, Watch
from paretune.search.engine.stopping_rules import Plan
from paretune.search.engine.study import open_study
from paretune.search.engine.worker import Engine
from paretune.search.sampling.slot_sampler import SlotSampler
from paretune.search.spec.sweep import Sweep, read_sweep

SWEEP = """
program: trainers/softmax.py
method: bayes
metric: {name: f1, goal: maximize}
controller: {type: local, search: {sampler: tpe}}
parameters:
  learning_rate: {distribution: log_uniform_values, min: 0.0001, max: 1.0}
  label_smoothing: {min: 0.0, max: 0.9}
"""
ROUNDS = 10
ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys, wandb
with wandb.init(project="overhead", dir=sys.argv[1], mode="offline") as run:
    run.log({"f1": 0.5})
"""


class Config(ClassifierConfig):
    """The two parameters that are searched."""

    learning_rate: float = 0.01
    label_smoothing: float = 0.1


class Trivial(Classifier):
    """A classifier that learns nothing: one epoch, whose F1 is a function of its two parameters."""

    name = "softmax"
    Config = Config

    def fit_epochs(self, data: Any) -> Iterator[Epoch]:
        yield Epoch(
            1, dict.fromkeys(METRICS, 0.0) | {"f1": objective(self.config.learning_rate, self.config.label_smoothing)}, True
        )

    def predict_with_loss(self, x: Any, y: Any) -> Any:
        raise NotImplementedError

    predict_proba = predict = state = load_state = predict_with_loss  # type: ignore[assignment]


def objective(learning_rate: float, label_smoothing: float) -> float:
    return 1.0 - (np.log10(learning_rate) + 2) ** 2 / 10 - label_smoothing**2


def sweep_in(folder: Path) -> Sweep:
    path = folder / "overhead.yaml"
    path.write_text(SWEEP)
    return dataclasses.replace(read_sweep(path), classifier=Trivial)


class Ours:
    """The engine, a trial at a time."""

    def __init__(self, folder: Path, mode: str) -> None:
        from paretune.data.options import DataOptions

        sweep = sweep_in(folder)
        study = open_study(sweep, f"sqlite:///{folder}/study.db", "overhead", seed=0)
        training = InProcess(sweep, mode, "cpu")
        training.data_for(DataOptions())  # read before the clock starts
        self.lease = Lease(folder)
        self.lease.__enter__()
        self.engine = Engine(sweep, study, folder, training, self.lease, Plan(sweep, 10**9), Watch(local=True))

    def trial(self) -> None:
        _, trial, values = self.engine.claim()
        assert trial is not None
        told = self.engine.run_trial(trial, values)
        assert told is not None
        assert told.state == optuna.trial.TrialState.COMPLETE, told.user_attrs


class Bare:
    """Optuna's ask and tell, with W&B's init and finish where asked for."""

    def __init__(self, folder: Path, mode: str) -> None:
        sweep = sweep_in(folder)
        self.folder, self.mode, self.space = folder, mode, sweep.space.distributions
        storage = open_storage(f"sqlite:///{folder}/study.db")
        self.study = optuna.create_study(
            storage=storage, study_name="overhead", direction="maximize", sampler=SlotSampler(sweep, 0)
        )

    def trial(self) -> None:
        trial = self.study.ask(self.space)
        value = objective(**trial.params)
        if self.mode == "offline":
            import wandb

            settings = wandb.Settings(quiet=True, silent=True, console="off", x_disable_stats=True, x_disable_machine_info=True)
            with wandb.init(
                project="overhead", dir=str(self.folder), mode="offline", config=trial.params, settings=settings
            ) as run:
                run.log({"f1": value})
        self.study.tell(trial, value)


def process_per_trial(command: Sequence[str], folder: Path, count: int) -> float:
    """Return seconds per trial of a process for each."""
    begin = time.perf_counter()
    for _ in range(count):
        subprocess.run(
            [sys.executable, *command], check=True, capture_output=True, cwd=folder, env={**os.environ, "WANDB_MODE": "offline"}
        )
    return (time.perf_counter() - begin) / count


def timed(ways: dict[str, Callable[[], None]], trials: int) -> dict[str, float]:
    """Return seconds per trial of each way; they take turns in rounds, so that a busy moment hits all."""
    seconds = dict.fromkeys(ways, 0.0)
    for _ in range(ROUNDS):
        for name, trial in ways.items():
            begin = time.perf_counter()
            for _ in range(trials // ROUNDS):
                trial()
            seconds[name] += time.perf_counter() - begin
    return {name: total / (trials // ROUNDS * ROUNDS) for name, total in seconds.items()}


def main() -> int:
    """Measure every way and print."""
    parser = argparse.ArgumentParser(description="What the engine adds to a trial.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--trials", type=how_many, default=1000, metavar="N", help="trials of each way (default: 1000)")
    parser.add_argument("--quick", action="store_true", help="100 trials")
    options = parser.parse_args()
    trials = 100 if options.quick else options.trials
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folders = {way: Path(name) / way for way in ("ours", "bare", "ours_files", "bare_files", "process")}
        for folder in folders.values():
            folder.mkdir()
        ways = {
            "bare": Bare(folders["bare"], "disabled").trial,
            "ours": Ours(folders["ours"], "disabled").trial,
            "bare_files": Bare(folders["bare_files"], "offline").trial,
            "ours_files": Ours(folders["ours_files"], "offline").trial,
        }
        seconds = timed(ways, trials)
        script = folders["process"] / "trial.py"
        script.write_text(SCRIPT)
        trainer = [str(ROOT / "trainers" / "softmax.py"), "--epochs=1", "--train_size=20", "--save=none"]
        count = max(5, trials // 50)
        least = process_per_trial([str(script), "."], folders["process"], count)
        process = process_per_trial(trainer, folders["process"], count)
    rows = [
        result("a trial, tracking disabled, beside bare Optuna", seconds["ours"], seconds["bare"], "<= 1.3x its time"),
        result(
            "a trial with W&B files, beside bare Optuna and bare W&B",
            seconds["ours_files"],
            seconds["bare_files"],
            "<= 1.3x its time",
        ),
        times("a trial with W&B files, beside a process of the sweep's trainer", seconds["ours_files"], process, goal=">= 20x"),
        times("the same beside a process that only imports wandb and logs once", seconds["ours_files"], least),
    ]
    notes = [
        f"{trials} trials of each way, sampler tpe on all sides, SQLite as the engine opens it; means over the whole study",
        "the first two goals as a ratio: 1 / 1.3 = 0.77 or more",
    ]
    show(rows, as_json=options.json, notes=notes)
    return 0


def result(name: str, ours: float, theirs: float, goal: str) -> Result:
    """Return a row of seconds."""
    return times(name, ours, theirs, goal=goal)


if __name__ == "__main__":
    sys.exit(main())
