"""Record the table behind search_quality.py: random networks of sweeps/ann.yaml, trained briefly on MNIST.

Each row is one configuration, drawn at random from the parameters of sweeps/ann.yaml, and the best hold-out F1 of its few
epochs on a few training images; the locked test part is not looked at. The training is the product's own
(`trainers.ann.Ann`), on one core. `search_quality.py` only reads the table, so a peer in another environment can use it too.

    DATA_ROOT=/tmp/data python benchmarks/ann_table.py --record [--configurations N] [--minutes N]

Without --record it prints what the table holds. Recording took 15 minutes.
Tabular benchmarks of hyper-parameter search: Klein and Hutter, Tabular Benchmarks for Joint Architecture and Hyperparameter
Optimization, arXiv:1905.04970.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks._result import Result, how_many, show
from paretune.core.folders import ROOT

TABLE = ROOT / "benchmarks" / "ann_mnist.csv"
SEED = 20_261_122
FIXED = {"data": "mnist", "train_size": 2000, "holdout": 0.035, "epochs": 5}
SPACE: dict[str, BaseDistribution] = {  # the searched parameters of sweeps/ann.yaml when the table was recorded
    "n_conv": CategoricalDistribution([0, 1, 2]),
    "channels": CategoricalDistribution([8, 16, 32]),
    "n_hidden": IntDistribution(0, 2),
    "width": CategoricalDistribution([32, 64, 128, 256]),
    "activation": CategoricalDistribution(["relu", "prelu", "gelu", "tanh"]),
    "dropout": FloatDistribution(0.0, 0.5),
    "batch_norm": CategoricalDistribution([False, True]),
    "optimizer": CategoricalDistribution(["sgd", "adam", "adamw", "nadam", "rmsprop"]),
    "learning_rate": FloatDistribution(0.0003, 0.3, log=True),
    "momentum": FloatDistribution(0.0, 0.95),
    "batch_size": CategoricalDistribution([32, 64, 128, 256]),
}


def main() -> int:
    """Record the table, or say what it holds."""
    parser = argparse.ArgumentParser(description="The table of ANN runs on MNIST.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--record", action="store_true", help="train and write the table anew")
    parser.add_argument("--configurations", type=how_many, default=500, metavar="N", help="how many at most (500)")
    parser.add_argument("--minutes", type=float, default=15, metavar="N", help="begin no training after so long (15)")
    options = parser.parse_args()
    if options.record:
        record(options.configurations, 60 * options.minutes)
    rows = read_table()
    scores = sorted((f1 for _, f1 in rows), reverse=True)
    shown = {"best": scores[0], "tenth": scores[9], "median": float(np.median(scores))}
    results = [Result(f"{len(rows)} recorded networks, {name}", score, None, "F1") for name, score in shown.items()]
    show(results, as_json=options.json)
    return 0


def configurations() -> Iterator[dict[str, Any]]:
    """Yield random configurations, rounded to what the table shows."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))
    while True:
        drawn = trials.ask(SPACE).params
        yield {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in drawn.items()}


def record(n_configurations: int, seconds: float) -> None:
    """Train configuration after configuration; write the table."""
    import torch

    from paretune.data.dataset import load_data
    from paretune.models.run_config import configure
    from paretune.trainers.ann import Ann

    torch.set_num_threads(1)
    data = None
    begin = time.perf_counter()
    rows: list[list[Any]] = []
    for values in configurations():
        config, data_options, _ = configure(Ann, {**FIXED, **values})
        data = load_data(data_options) if data is None else data
        f1 = max(epoch.metrics["f1"] for epoch in Ann(config, device="cpu").fit_epochs(data))
        rows.append([*values.values(), f"{f1:.4f}"])
        passed = time.perf_counter() - begin
        if len(rows) % 20 == 0:
            print(f"{len(rows)} configurations in {passed:.0f} s", flush=True)
        if len(rows) >= n_configurations or passed > seconds:
            break
    fixed = ", ".join(f"{name}={value}" for name, value in FIXED.items())
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# Made by benchmarks/ann_table.py: random configurations of sweeps/ann.yaml (seed {SEED}); {fixed};\n")
        file.write(f"# f1 is the best of the {FIXED['epochs']} epochs on the hold-out (2,100 images); the locked part is unseen.\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*SPACE, "f1"])
        writer.writerows(rows)


def read_table() -> list[tuple[dict[str, Any], float]]:
    """Return each configuration with its hold-out F1."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        return [({name: _value(SPACE[name], row[name]) for name in SPACE}, float(row["f1"])) for row in lines]


def _value(distribution: BaseDistribution, text: str) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return next(choice for choice in distribution.choices if str(choice) == text)
    return int(text) if isinstance(distribution, IntDistribution) else float(text)


if __name__ == "__main__":
    sys.exit(main())
