"""The same 30 configurations of an ANN on MNIST, replayed both ways: ours, and W&B's ordinary way.

Ours is the command that a user types, `sweeps/offline.py`, from its start to its end, with W&B's files. W&B's ordinary way is
benchmarks/_ordinary.py: a process per trial, as `wandb agent` starts one, with torchvision, DataLoader and autograd, W&B offline.
784-32-10 and 784-64-10, 5 epochs of 51,000 images, 9,000 held out: the ranges are in SWEEP.

    python benchmarks/replay.py [--json] [--timed 6] [--seeds 1 2 3 4 5] [--quick]

Theirs is timed on some of the 30 (`--timed 30`: on all) and extrapolated by their mean; so are the steps between, each on the same
configurations: one process instead of 30, tensors in memory instead of DataLoader, written out instead of autograd, and the rest,
which is the many at once less our own start, search and files. Goal: at least 15 times faster.

The time to a hypervolume (precision and recall on the hold-out, from REFERENCE) is of runs of the sweep from `--seeds`: the volume
is the least that one of them ends with; ours by the clock of its trials, W&B's way by their order and the mean of a trial.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._result import Result, has_mnist, how_many, show, times

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ROOT = Path(__file__).resolve().parents[1]
N_TRIALS, EPOCHS = 30, 5
REFERENCE = (0.9, 0.9)
SWEEP = f"""
name: replay
program: {ROOT / "trainers" / "ann.py"}
method: random
metrics:
- {{name: precision, goal: maximize}}
- {{name: recall, goal: maximize}}
parameters:
  data: {{value: mnist}}
  epochs: {{value: {EPOCHS}}}
  optimizer: {{value: sgd}}
  normalize: {{value: half}}
  n_hidden: {{value: 1}}
  width: {{values: [32, 64]}}
  activation: {{values: [sigmoid, tanh, relu]}}
  batch_size: {{values: [64, 128]}}
  learning_rate: {{distribution: log_uniform_values, min: 0.003, max: 0.3}}
  momentum: {{min: 0.0, max: 0.95}}
"""
SEARCHED = ("width", "activation", "batch_size", "learning_rate", "momentum")
Timed = tuple[float, list["FrozenTrial"]]  # seconds of the whole command, and its trials in the order of their creation


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The same 30 configurations, ours and W&B's ordinary way.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--timed", type=how_many, default=6, metavar="N", help="of the 30, those that W&B's way is timed on (default: 6)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], metavar="N", help="default: 1 2 3 4 5")
    parser.add_argument("--quick", action="store_true", help="one seed, two timed trials")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.timed = [1], 2
    if not has_mnist("benchmarks/replay.py", as_json=options.json):
        return 0
    with tempfile.TemporaryDirectory() as folder:
        runs = {seed: searched(Path(folder) / str(seed), seed) for seed in options.seeds}
        seconds = statistics.median(seconds for seconds, _ in runs.values())
        _, trials = runs[options.seeds[0]]
        chosen = [trial.params for trial in trials][:: max(N_TRIALS // options.timed, 1)][: options.timed]
        theirs = statistics.mean(replayed(Path(folder), values, EPOCHS) for values in chosen)
        start = statistics.mean(replayed(Path(folder), values, 0) for values in chosen[:3])
    steps = in_one_process(chosen)
    found = times(f"{N_TRIALS} configurations, ours and W&B's way", seconds, theirs * N_TRIALS, goal=">= 15x")
    results = [found, *shares(seconds, theirs, start, steps), *to_the_volume(runs, theirs)]
    note = (
        f"W&B's way: {len(chosen)} of {N_TRIALS} timed, {theirs:.1f} s each, of which {start:.1f} s start and end; ours: median of "
    )
    show(results, as_json=options.json, notes=[f"{note}{len(runs)} commands"])
    return 0


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user without an account."""
    from paretune.data.dataset import data_root

    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return {
        **kept,
        "DATA_ROOT": str(data_root().resolve()),
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_SILENT": "true",
    }


def searched(folder: Path, seed: int) -> Timed:
    """Run the sweep; return the seconds of the command, and its trials."""
    from paretune.search.status import open_existing

    folder.mkdir()
    (folder / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    line = [sys.executable, str(ROOT / "sweeps" / "offline.py"), "sweep.yaml", "--trials", str(N_TRIALS), "--seed", str(seed)]
    line += ["--runs", str(folder / "runs")]
    begin = time.perf_counter()
    done = subprocess.run(line, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"the sweep ended with {done.returncode}: {done.stderr[-2000:]}")
    (study,) = (folder / "runs").iterdir()
    trials = open_existing(str(study)).get_trials()
    assert len(trials) == N_TRIALS, done.stdout
    return seconds, trials


def replayed(folder: Path, values: dict[str, Any], epochs: int) -> float:
    """Return the seconds of a trial in W&B's ordinary way."""
    flags = [f"--{name}={values[name]}" for name in SEARCHED]
    line = [sys.executable, str(ROOT / "benchmarks" / "_ordinary.py"), *flags, f"--epochs={epochs}"]
    begin = time.perf_counter()
    subprocess.run(line, cwd=folder, env=environment(folder), capture_output=True, check=True)
    return time.perf_counter() - begin


def in_one_process(chosen: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the mean seconds of a trial's training: in memory by autograd, and written out."""
    from paretune.batched import training
    from paretune.data.dataset import load_data
    from paretune.models.run_config import configure
    from paretune.trainers.ann import Ann

    common = {"data": "mnist", "epochs": EPOCHS, "optimizer": "sgd", "normalize": "half", "n_hidden": 1}
    configured = [configure(Ann, {**common, **{name: values[name] for name in SEARCHED}}) for values in chosen]
    data = load_data(configured[0][1])
    Ann(configured[0][0], device="cpu").fit(data)  # what the first does for all

    def mean() -> float:
        begin = time.perf_counter()
        for config, _, _ in configured:
            Ann(config, device="cpu").fit(data)
        return (time.perf_counter() - begin) / len(configured)

    written_out = mean()
    is_written_out, training.is_written_out = training.is_written_out, lambda model: False
    try:
        return {"autograd": mean(), "written out": written_out}
    finally:
        training.is_written_out = is_written_out


def shares(seconds: float, theirs: float, start: float, steps: dict[str, float]) -> list[Result]:
    """Return what each cause saves of the 30 trials' seconds, and how many times faster it makes what the one before left."""
    way = {
        "one process instead of 30": (theirs - start) * N_TRIALS + start,
        "tensors in memory instead of DataLoader": steps["autograd"] * N_TRIALS + start,
        "written out instead of autograd": steps["written out"] * N_TRIALS + start,
        "many at once; our start, search and files": seconds,
    }
    rows, before, whole = [], theirs * N_TRIALS, theirs * N_TRIALS - seconds
    for name, after in way.items():
        rows.append(times(f"{name}: {(before - after) / whole:.0%} of what is saved", after, before))
        before = after
    return rows


def to_the_volume(runs: dict[int, Timed], theirs: float) -> list[Result]:
    """Return the seconds to the hypervolume that the least of the sweeps ends with, ours and W&B's way, over the seeds."""
    from paretune.analysis.findings.front import hypervolume

    def volume(trials: Sequence[FrozenTrial]) -> float:
        points = [trial.values for trial in trials if trial.values]
        return hypervolume(points, ["maximize", "maximize"], REFERENCE)  # type: ignore[arg-type]

    given = min(volume(trials) for _, trials in runs.values())
    ours, counts = [], []
    for seconds, trials in runs.values():
        began = min(trial.datetime_start for trial in trials if trial.datetime_start)
        ended = max(trial.datetime_complete for trial in trials if trial.datetime_complete)
        beforehand = seconds - (ended - began).total_seconds()  # the command's start and end, all of it counted
        order = sorted(trials, key=lambda trial: (trial.datetime_complete or ended, trial.number))
        count = next(count for count in range(1, N_TRIALS + 1) if volume(order[:count]) >= given)
        last = order[count - 1].datetime_complete or ended
        ours.append(beforehand + (last - began).total_seconds())
        counts.append(next(count for count in range(1, N_TRIALS + 1) if volume(trials[:count]) >= given))
    name = f"to the hypervolume {given:.5f} of precision and recall from {REFERENCE[0]}, median of {len(runs)}"
    span = f"ours {min(ours):.0f} to {max(ours):.0f}, W&B's way {min(counts) * theirs:.0f} to {max(counts) * theirs:.0f}"
    return [times(f"{name} ({span})", statistics.median(ours), statistics.median(counts) * theirs)]


if __name__ == "__main__":
    sys.exit(main())
