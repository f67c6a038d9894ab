"""Seconds to fit and predict an rbf SVM (C=10, gamma scale) on MNIST, 60,000 and 10,000 images, beside scikit-learn's SVC.

Ours: `Svm.fit`, which also scores the training images, and `Svm.predict`. Theirs: `SVC.fit` and `SVC.predict` on the same
pixels, in the same process. Both fits are libsvm's: ours on the images' inner products, pair by pair on all cores; prediction is
a matrix product against libsvm's loop.

    python benchmarks/svm.py [--json] [--n-train 60000] [--rounds 1] [--quick]

Goals at full size: fit and predict at least 8 times faster on 2 cores, a test accuracy of at least 0.983, scikit-learn's labels.
One round, as libsvm takes minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

import numpy as np

from benchmarks._result import Result, has_mnist, how_many, medians_in_turn, show, times

ACCURACY_GOAL = 0.983
SPEED_GOAL = 8.0
FULL = 60_000
PENALTY = 10.0


def main() -> int:
    """Fit and predict on both sides and print."""
    parser = argparse.ArgumentParser(description="The SVM on MNIST beside scikit-learn's SVC.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--n-train", type=how_many, default=FULL, metavar="N", help="training images (default: 60000)")
    parser.add_argument("--rounds", type=how_many, default=1, metavar="N", help="fits and predictions of each side (default: 1)")
    parser.add_argument("--ours-only", action="store_true", help="leave scikit-learn's side out")
    parser.add_argument("--quick", action="store_true", help="5,000 training images")
    options = parser.parse_args()
    if options.quick:
        options.n_train = 5_000
    if not has_mnist("benchmarks/svm.py", as_json=options.json):
        return 0

    sides = Sides(options.n_train)
    measures = sides.ours() if options.ours_only else {**sides.ours(), **sides.theirs()}
    medians = medians_in_turn(measures, options.rounds)
    mine, other = sides.labels["ours"], sides.labels.get("theirs")
    wanted = ACCURACY_GOAL if sides.n_train == FULL else None
    results = [
        times(f"fit, {sides.n_train:,} images", medians["our fit"], medians.get("their fit")),
        times(f"predict, {len(mine):,} images", medians["our predict"], medians.get("their predict")),
        times(
            "both",
            medians["our fit"] + medians["our predict"],
            None if other is None else medians["their fit"] + medians["their predict"],
            goal=SPEED_GOAL if sides.n_train == FULL else None,
        ),
        Result("test accuracy", sides.accuracy(mine), None if other is None else sides.accuracy(other), "accuracy", goal=wanted),
    ]
    if other is not None:
        results.append(Result("labels that differ", int((mine != other).sum()), None, "images", goal=0))
    show(results, as_json=options.json, notes=["our fit ends with the metrics of the training images"])
    return 0


class Sides:
    """The images, and what both sides make of them."""

    def __init__(self, n_train: int) -> None:
        from paretune.data.dataset import load_data
        from paretune.data.options import DataOptions

        self.data = load_data(DataOptions(data="mnist", holdout=0.0, train_size=None if n_train >= FULL else n_train))
        self.n_train = len(self.data.train)
        self.labels: dict[str, np.ndarray] = {}

    def accuracy(self, labels: np.ndarray) -> float:
        """Return the share of test images whose label is right."""
        return float((labels == self.data.test.y.numpy()).mean())

    def ours(self) -> dict[str, Callable[[], float]]:
        """Return what measures our fit and our prediction."""
        from paretune.trainers.svm import Svm, SvmConfig

        machine = Svm(SvmConfig(C=PENALTY), device="cpu")

        def predict() -> None:
            self.labels["ours"] = machine.predict(self.data.test.x)

        def fit() -> None:
            self.data.kept.clear()  # each round computes the inner products anew, and none are in memory beside theirs
            machine.fit(self.data)
            self.data.kept.clear()

        return {"our fit": lambda: seconds_of(fit), "our predict": lambda: seconds_of(predict)}

    def theirs(self) -> dict[str, Callable[[], float]]:
        """Return what measures scikit-learn's."""
        from sklearn.svm import SVC

        machine = SVC(C=PENALTY, cache_size=1000)
        x, y = self.data.train.x.flatten(1).double().numpy(), self.data.train.y.numpy()
        test = self.data.test.x.flatten(1).double().numpy()

        def predict() -> None:
            self.labels["theirs"] = machine.predict(test)

        return {"their fit": lambda: seconds_of(lambda: machine.fit(x, y)), "their predict": lambda: seconds_of(predict)}


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
