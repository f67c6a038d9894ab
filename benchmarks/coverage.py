"""How often the stated 95 % intervals hold the truth, and whether p(front) means what it says: simulated, where truth is known.

    python benchmarks/coverage.py [--json] [--quick]

Rows: Student's t interval of the mean over k = 3, 5, 10 repeats, of normal scores (goal 0.94 to 0.96) and of scores with a
long lower tail (an exponential distribution turned round, skewness -2; no promise); Wilson's interval of an accuracy
over n = 270, 1,000, 10,000 images, averaged over true accuracies from 0.95 to 0.995 (goal 0.94 to 0.97; exact, no draws), and
its worst; the probabilities to be on the front of 12 configurations with 5 repeats in two metrics, where the true means spread
over 3, 1 and 0.3 standard deviations of a repeat: how often those said to be on it with a probability in each fifth are.
`ours` is the measured share, `theirs` what it should be. About 20 seconds on one core; --quick draws a tenth.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

import numpy as np

from benchmarks._result import Result, show

SEED = 20_240_501
DRAWS = 200_000
SWEEPS = 400
N_CONFIGURATIONS, N_REPEATS = 12, 5


def main() -> int:
    """Simulate and print the shares."""
    parser = argparse.ArgumentParser(description="Coverage of the stated intervals, calibration of p(front).", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    options = parser.parse_args()
    part = 10 if options.quick else 1
    results = [*student(DRAWS // part), *wilson(91 // part)]
    for spread in (3.0, 1.0, 0.3):
        results += calibration(spread, SWEEPS // part)
    show(results, as_json=options.json)
    return 0


def student(n_draws: int) -> list[Result]:
    """Return the coverage of t intervals of normal and of skewed scores."""
    from paretune.analysis.findings.confidence import t_interval

    generator = np.random.default_rng(SEED)
    results = []
    for shape in ("normal", "skewed"):
        for k in (3, 5, 10):
            draws = generator.normal(size=(n_draws, k)) if shape == "normal" else 1 - generator.exponential(size=(n_draws, k))
            low, high = t_interval(draws.mean(axis=1), draws.std(axis=1, ddof=1), k)
            share = float(np.mean((low <= 0) & (high >= 0)))
            results.append(Result(f"t, {k} repeats, {shape}", share, 0.95, "", goal="0.94-0.96" if shape == "normal" else None))
    return results


def wilson(n_truths: int) -> list[Result]:
    """Return the coverage of Wilson intervals, summed over every count that an accuracy can give."""
    from scipy.stats import binom

    from paretune.analysis.findings.confidence import wilson_interval

    truths = np.linspace(0.95, 0.995, max(n_truths, 10))
    results = []
    for n in (270, 1_000, 10_000):
        counts = np.arange(int(0.9 * n), n + 1)  # of those below, the probability is less than 1e-6 at n = 270
        bounds = np.array([wilson_interval(count / n, n) for count in counts])
        shares = [float(binom.pmf(counts, n, p) @ ((bounds[:, 0] <= p) & (p <= bounds[:, 1]))) for p in truths]
        results.append(Result(f"Wilson, {n:,} images, mean", float(np.mean(shares)), 0.95, "", goal="0.94-0.97"))
        results.append(Result(f"Wilson, {n:,} images, worst", min(shares), 0.95, ""))
    return results


def calibration(spread: float, n_sweeps: int) -> list[Result]:
    """Return, per fifth of the stated probabilities to be on the front, the share that is, beside the mean stated."""
    from paretune.analysis.findings.confidence import Estimate, front_probabilities

    generator = np.random.default_rng(SEED)
    metrics, goals = ("precision", "recall"), ("maximize", "maximize")
    said: list[float] = []
    true: list[bool] = []
    for _ in range(n_sweeps):
        means = generator.normal(0, spread, (N_CONFIGURATIONS, 2))
        repeats = means[:, None] + generator.normal(size=(N_CONFIGURATIONS, N_REPEATS, 2))
        estimates = [
            Estimate(
                str(place),
                (str(place),),
                dict(zip(metrics, values.mean(axis=0), strict=True)),
                N_REPEATS,
                "seeds",
                dict(zip(metrics, values.std(axis=0, ddof=1), strict=True)),
                dict(zip(metrics, values.T, strict=True)),
            )
            for place, values in enumerate(repeats)
        ]
        chances = front_probabilities(estimates, metrics, goals, n_draws=1_000, seed=int(generator.integers(2**31)))
        assert chances is not None, "every configuration has repeats"
        said += list(chances)
        true += list(~(means[:, None] < means[None]).all(axis=2).any(axis=1))
    stated, happened = np.array(said), np.array(true)
    fifth = np.minimum((stated * 5).astype(int), 4)
    name = f"p(front), spread {spread:g}"
    results = [
        Result(f"{name}, {i / 5:g}-{(i + 1) / 5:g}", float(happened[fifth == i].mean()), float(stated[fifth == i].mean()), "")
        for i in range(5)
        if (fifth == i).any()
    ]
    error = sum(np.mean(fifth == i) * abs(happened[fifth == i].mean() - stated[fifth == i].mean()) for i in set(fifth.tolist()))
    return [*results, Result(f"{name}, mean error", float(error), 0.0, "")]


if __name__ == "__main__":
    sys.exit(main())
