"""The Pareto front of a million points, in 2, 3 and 4 metrics, beside Optuna's own non-dominated sort.

usage: python benchmarks/pareto.py [--json] [--quick]

Points are uniform in the unit cube, as many metrics maximized as minimized; a second kind lies on a simplex, where every
point is on the front (the worst case). Medians of rounds in turn, on one core; both sides must find the same front.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from optuna.study._multi_objective import _is_pareto_front

from benchmarks._result import Result, medians_in_turn, show, times
from paretune.analysis.findings.front import pareto_front

GOAL = "ours < 1 s"


def uniform(n_points: int, n_metrics: int) -> np.ndarray:
    """Return points (n_points, n_metrics) in the unit cube."""
    return np.random.default_rng(0).random((n_points, n_metrics))


def simplex(n_points: int, n_metrics: int) -> np.ndarray:
    """Return points (n_points, n_metrics) whose signed values add up to one, so that none dominates another."""
    values = np.random.default_rng(0).exponential(size=(n_points, n_metrics))
    return values / values.sum(axis=1, keepdims=True) * signs(n_metrics)


def goals(n_metrics: int) -> list[str]:
    """Return the goal of each metric, in turn."""
    return ["maximize" if place % 2 else "minimize" for place in range(n_metrics)]


def signs(n_metrics: int) -> np.ndarray:
    """Return 1 for what is minimized and -1 for what is maximized, (n_metrics,)."""
    return np.array([-1.0 if goal == "maximize" else 1.0 for goal in goals(n_metrics)])


def measured(name: str, values: np.ndarray, rounds: int, goal: str | None) -> Result:
    """Return one row: the median seconds of both sides over the same points (n_points, n_metrics)."""
    n_metrics = values.shape[1]
    found: dict[str, np.ndarray] = {}

    def timed(side: str, front: Callable[[], np.ndarray]) -> Callable[[], float]:
        def measure() -> float:
            begin = time.perf_counter()
            found[side] = front()
            return time.perf_counter() - begin

        return measure

    sides = {
        "ours": timed("ours", lambda: pareto_front(values, goals(n_metrics))),
        "theirs": timed("theirs", lambda: _is_pareto_front(values * signs(n_metrics), assume_unique_lexsorted=False)),
    }
    seconds = medians_in_turn(sides, rounds)
    assert (found["ours"] == found["theirs"]).all()
    label = f"{len(values):,} {name} points, {n_metrics} metrics ({int(found['ours'].sum()):,} on the front)"
    return times(label, seconds["ours"], seconds["theirs"], goal=goal)


def main() -> int:
    """Measure every kind and print."""
    parser = argparse.ArgumentParser(description="The Pareto front of a million points.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="100,000 points, one round")
    options = parser.parse_args()
    many, few, rounds = (100_000, 2_000, 1) if options.quick else (1_000_000, 10_000, 5)
    pareto_front(uniform(100, 2), goals(2))  # import and load before the clock starts
    rows = [measured("uniform", uniform(many, n_metrics), rounds, GOAL) for n_metrics in (2, 3, 4)]
    rows += [measured("simplex", simplex(few, n_metrics), rounds, None) for n_metrics in (2, 3, 4)]
    show(rows, as_json=options.json, notes=["theirs: optuna.study._multi_objective._is_pareto_front on signed values"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
