"""Test accuracy of the simple CNN preset on MNIST: 10 epochs on all 60,000 images, last epoch, mean of seeds 0, 1, 2.

Nothing is chosen here, so there is no hold-out: the test images are read once, after the last epoch.

    python benchmarks/cnn.py [--json] [--seeds 0 1 2] [--epochs 10] [--quick]

Goals: a mean of at least 0.989, and 813,802 parameters. About 4 minutes a seed on 2 cores; --quick trains seed 0 for one
epoch, of which no accuracy is promised.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._result import Result, has_mnist, how_many, show

ACCURACY_GOAL = 0.989
N_PARAMETERS = 813_802
EPOCHS = 10


def main() -> int:
    """Train, evaluate once, print."""
    parser = argparse.ArgumentParser(description="Test accuracy of the simple CNN preset on MNIST.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    parser.add_argument("--epochs", type=how_many, default=EPOCHS, metavar="N", help="default: 10")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    parser.add_argument("--quick", action="store_true", help="seed 0, one epoch")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.epochs = [0], 1
    if not has_mnist("benchmarks/cnn.py", as_json=options.json):
        return 0

    runs = [train(seed, options.epochs, options.device, quiet=options.json) for seed in options.seeds]
    accuracies, seconds, counts = zip(*runs, strict=True)
    promised = options.epochs == EPOCHS
    trained = f"{options.epochs} epochs" if options.epochs > 1 else "1 epoch"
    results = [
        Result(f"test accuracy, seed {seed}, {trained}", accuracy, None, "accuracy")
        for seed, accuracy in zip(options.seeds, accuracies, strict=True)
    ]
    mean = f"test accuracy, mean of {len(accuracies)}, {trained}"
    results += [
        Result(mean, statistics.mean(accuracies), None, "accuracy", goal=ACCURACY_GOAL if promised else None),
        Result("parameters", counts[0], None, "weights", goal=N_PARAMETERS),
        Result("training, per epoch", statistics.median(seconds) / options.epochs, None, "s"),
    ]
    show(results, as_json=options.json)
    return 0


def train(seed: int, epochs: int, device: str, *, quiet: bool, precision: str = "fp32", **values: Any) -> tuple[float, float, int]:
    """Train the preset on every training image; return its test accuracy, the seconds of training and its parameters.

    Args:
        values: of the config, where they are others than the preset's.
    """
    from paretune.data.dataset import load_data
    from paretune.models.evaluation import evaluate
    from paretune.models.run_config import configure
    from paretune.trainers.ann import Ann

    common = {"preset": "simple_cnn", "seed": seed, "epochs": epochs, "data": "mnist", "holdout": 0.0}
    config, data_options, _ = configure(Ann, {**common, **values})
    data = load_data(data_options)
    classifier = Ann(config, device=device, precision=precision)
    begin = time.perf_counter()
    for epoch in classifier.fit_epochs(data):
        if not quiet:
            seen = ", ".join(f"{name} {epoch.metrics[name]:.4f}" for name in ("train_loss", "train_accuracy"))
            print(f"seed {seed}, epoch {epoch.number} of {epochs}: {seen}, {time.perf_counter() - begin:.0f} s", flush=True)
    seconds = time.perf_counter() - begin
    return evaluate(classifier, data.test, data).metrics["accuracy"], seconds, classifier.n_parameters


if __name__ == "__main__":
    sys.exit(main())
