"""Locked test accuracy on digits when search, choice and retrain of `make sweep` are repeated over five locked splits.

Each split locks another stratified 20 %. Nothing of a locked part is seen before its one evaluation: the sweeps of
sweeps/ann.yaml and sweeps/svm.yaml run on the rest, the run is chosen on the hold-out by rule f1, and retrained on all
but the locked part. The splits were fixed before the first measurement; the first is the product's own.

    python benchmarks/digits.py [--json] [--trials N] [--splits N] [--quick]

Goals: a mean of at least 0.975 for the ANN and 0.985 for the SVM. About 4 minutes on 2 cores; --quick takes one split and
6 trials a sweep, of which no accuracy is promised.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._result import Result, how_many, show
from paretune.core.folders import ROOT
from paretune.data.options import LOCKED_SPLIT

LOCKED_SPLITS = (LOCKED_SPLIT, 1, 2, 3, 4)
GOALS = {"ann": 0.975, "svm": 0.985}
SEARCH_SEED = 1  # as in the Makefile


def main() -> int:
    """Repeat the whole path and print its accuracies."""
    parser = argparse.ArgumentParser(description="Locked test accuracy on digits over five locked splits.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--trials", type=how_many, metavar="N", help="trials of each sweep (default: the run_cap of its file)")
    parser.add_argument("--splits", type=how_many, default=len(LOCKED_SPLITS), metavar="N", help="the first N splits (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one split, 6 trials a sweep")
    options = parser.parse_args()
    if options.quick:
        options.splits, options.trials = 1, 6

    splits = LOCKED_SPLITS[: max(options.splits, 1)]
    promised = splits == LOCKED_SPLITS and options.trials is None
    results = []
    for name, goal in GOALS.items():
        accuracies = [accuracy_of(name, split, options.trials, quiet=options.json) for split in splits]
        results += [
            Result(f"{name}, locked split {split}", accuracy, None, "accuracy")
            for split, accuracy in zip(splits, accuracies, strict=True)
        ]
        results += [
            Result(
                f"{name}, mean of {len(splits)}", statistics.mean(accuracies), None, "accuracy", goal=goal if promised else None
            ),
            Result(f"{name}, minimum", min(accuracies), None, "accuracy"),
        ]
    show(results, as_json=options.json)
    return 0


def accuracy_of(name: str, locked_split: int, trials: int | None, *, quiet: bool) -> float:
    """Search, choose, retrain; return the accuracy on the locked part."""
    from paretune.analysis.choose import choose
    from paretune.analysis.history import load_runs, runs_table
    from paretune.analysis.retrain import config_of, fit_again
    from paretune.models.evaluation import evaluate
    from paretune.search.engine.worker import run
    from paretune.search.spec.sweep import read_sweep

    sweep = read_sweep(ROOT / "sweeps" / f"{name}.yaml")
    trials = trials or sweep.run_cap
    assert trials is not None, "the product's sweeps have a run_cap"
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        run(sweep, trials=trials, name=name, seed=SEARCH_SEED, mode="disabled", locked_split=locked_split, runs=runs)
        found = load_runs(runs / name)
    choice = choose(runs_table(found), "f1")
    chosen = next(record for record in found if record.run == choice.run["run"])
    n_epochs = int(choice.run["best_epoch"])
    classifier, data, _ = fit_again(config_of(chosen), n_epochs, locked_split=locked_split)
    accuracy = evaluate(classifier, data.test, data).metrics["accuracy"]
    if not quiet:
        print(f"{name}, locked split {locked_split}: {accuracy:.4f} ({choice.reason}; best epoch {n_epochs})", flush=True)
    return accuracy


if __name__ == "__main__":
    sys.exit(main())
