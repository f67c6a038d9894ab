"""Seconds of an SVM sweep of 30 trials on MNIST, 10,000 training and 10,000 test images, beside scikit-learn's SVC.

The trials are drawn at random from the ranges of sweeps/svm.yaml, from a fixed seed, and each is trained and scored on both
sides. Ours is what the sweep does: `Svm.fit_epochs`, which scores the training and the test images, on inner products that all
trials share; a trial carries its share of the products' time. Theirs is `SVC.fit` and `SVC.predict` of the test images. As 30
of theirs take a quarter of an hour, both sides run on the first trials of each kernel (`--each`), in turn; a ratio is that of
the sums over them.

    python benchmarks/svm_sweep.py [--json] [--trials 30] [--each 3] [--quick]

Goals: rbf at least 20 times, the four kernels together at least 12 times faster, with the same labels.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

import numpy as np

from benchmarks._result import Result, has_mnist, how_many, show, times

ROOT = Path(__file__).resolve().parents[1]
GOALS = {"rbf": 20.0}
ALL_GOAL = 12.0
SEED = 8


def main() -> int:
    """Replay the trials on both sides and print."""
    parser = argparse.ArgumentParser(description="An SVM sweep beside scikit-learn's SVC.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--trials", type=how_many, default=30, metavar="N", help="trials of the sweep (default: 30)")
    parser.add_argument("--each", type=how_many, default=3, metavar="N", help="trials of each kernel on both sides (default: 3)")
    parser.add_argument("--quick", action="store_true", help="2,000 training and 2,000 test images, 12 trials, one of each kernel")
    options = parser.parse_args()
    n_images = 10_000
    if options.quick:
        options.trials, options.each, n_images = 12, 1, 2_000
    if not has_mnist("benchmarks/svm_sweep.py", as_json=options.json):
        return 0

    sides = Sides(n_images)
    chosen = first_of_each_kernel(configurations(options.trials), options.each)
    rows = [sides.measure(config) for config in chosen]
    share = sides.seconds_of_products / options.trials
    results = []
    for kernel in ("rbf", "linear", "poly", "sigmoid"):
        own = [row for row, config in zip(rows, chosen, strict=True) if config.kernel == kernel]
        if own:
            name = f"{kernel}: mean of {len(own)} trials"
            results.append(means(name, own, share, goal=None if options.quick else GOALS.get(kernel)))
    results.append(means(f"all kernels: mean of {len(rows)} trials", rows, share, goal=None if options.quick else ALL_GOAL))
    results.append(Result("inner products, once a sweep", sides.seconds_of_products, None, "s"))
    n_labels = n_images * len(rows)
    results.append(Result(f"labels that differ, of {n_labels:,}", sides.differing, None, "images", goal=0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    results.append(Result("peak memory of the process, both sides", peak, None, "GiB"))
    show(results, as_json=options.json, notes=["ours carries the products' share of a trial and scores the training images, too"])
    return 0


def configurations(trials: int) -> list[Any]:
    """Return the Configs of trials drawn at random from sweeps/svm.yaml."""
    import optuna

    from paretune.models.run_config import configure
    from paretune.search.sampling.slot_sampler import draw
    from paretune.search.spec.sweep import read_sweep
    from paretune.trainers.svm import Svm

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep = read_sweep(ROOT / "sweeps" / "svm.yaml", {})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))
    return [configure(Svm, draw(study.ask(), sweep, None))[0] for _ in range(trials)]


def first_of_each_kernel(configs: list[Any], each: int) -> list[Any]:
    """Return the first `each` Configs of each kernel, in the order in which they were drawn."""
    seen: dict[str, int] = {}
    chosen = []
    for config in configs:
        seen[config.kernel] = seen.get(config.kernel, 0) + 1
        if seen[config.kernel] <= each:
            chosen.append(config)
    return chosen


def means(name: str, rows: list[tuple[float, float]], share: float, *, goal: float | None) -> Result:
    """Return a row of mean seconds a trial; its ratio is that of the sums."""
    ours, theirs = np.mean(rows, axis=0)
    return times(name, float(ours) + share, float(theirs), goal=goal)


class Sides:
    """The images, and what both sides make of them."""

    def __init__(self, n_images: int) -> None:
        from dataclasses import replace

        from paretune.data.dataset import load_data
        from paretune.data.images import Samples
        from paretune.data.options import DataOptions
        from paretune.trainers.svm import Svm

        data = load_data(DataOptions(data="mnist", holdout=0.0, train_size=n_images))
        test = Samples(data.test.x[:n_images], data.test.y[:n_images])
        self.data = replace(data, test=test, evaluated=test)
        self.x, self.y = data.train.x.flatten(1).double().numpy(), data.train.y.numpy()
        self.test = test.x.flatten(1).double().numpy()
        self.differing = 0
        begin = time.perf_counter()
        Svm(device="cpu")._gram(self.data)
        self.seconds_of_products = time.perf_counter() - begin

    def measure(self, config: Any) -> tuple[float, float]:
        """Return the seconds of both sides on one configuration; ours is measured before and after theirs, and averaged."""
        from sklearn.svm import SVC

        from paretune.trainers.svm import Svm

        def ours() -> tuple[float, Any, Any]:
            begin = time.perf_counter()
            machine = Svm(config, device="cpu")
            (epoch,) = machine.fit_epochs(self.data)
            return time.perf_counter() - begin, machine, epoch

        before, machine, epoch = ours()
        theirs = SVC(
            C=config.C,
            kernel=config.kernel,
            gamma=float(machine.state()["gamma"]),
            degree=config.degree,
            coef0=config.coef0,
            cache_size=1000,
        )
        begin = time.perf_counter()
        labels = theirs.fit(self.x, self.y).predict(self.test)
        seconds = time.perf_counter() - begin
        after = ours()[0]
        self.differing += int((machine.predict(self.data.test.x) != labels).sum())
        if not np.isclose(epoch.metrics["test_accuracy"], np.mean(labels == self.data.test.y.numpy()), atol=1e-3):
            raise SystemExit(f"error: the accuracies of {config.to_dict()} differ.")
        return (before + after) / 2, seconds


if __name__ == "__main__":
    sys.exit(main())
