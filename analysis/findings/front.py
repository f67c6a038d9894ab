"""The Pareto front of points and of runs, and the hypervolume that it dominates.

A point dominates another if it is at least as good in every metric and better in one. Equal points are kept together, but
runs of one configuration are one point, their mean (findings/repeats.py). The filter and the hypervolume are moocore's (exact).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from paretune.analysis.findings.aims import goals_of
from paretune.analysis.findings.candidates import candidates
from paretune.analysis.findings.repeats import RUNS, averaged
from paretune.analysis.sources.run_record import RunRecord
from paretune.core.pareto_front import hypervolumes, non_dominated, reference_point
from paretune.core.run_order import DEFAULT_METRICS

if TYPE_CHECKING:
    import pandas as pd


def pareto_front(values: np.ndarray, goals: Sequence[str]) -> np.ndarray:
    """Return which points no other point dominates.

    Args:
        values: (n_points, n_metrics), finite.
        goals: `maximize` or `minimize` for each metric.

    Returns:
        (n_points,) bool. Equal points are on the front together.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(goals):
        raise ValueError(f"values must be (n_points, {len(goals)}). Got {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite: leave out runs without a value first.")
    return np.asarray(non_dominated(values, goals), dtype=bool)


def hypervolume(values: np.ndarray, goals: Sequence[str], reference: Sequence[float]) -> float:
    """Return the volume that the points (n_points, n_metrics) dominate, up to `reference` (n_metrics,)."""
    import moocore

    if len(values) == 0:
        return 0.0
    maximize = [goal == "maximize" for goal in goals]
    return float(moocore.hypervolume(np.asarray(values, dtype=np.float64), ref=np.asarray(reference, float), maximise=maximize))


def front_of(
    runs: pd.DataFrame,
    metrics: Sequence[str] = DEFAULT_METRICS,
    goals: Sequence[str] | None = None,
    records: Sequence[RunRecord] = (),
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the configurations that the candidates tried, with a bool column `on_front`, and the count of the others by reason.

    Args:
        records: the runs themselves; without them each row of the table is a configuration of its own.
        goals: `maximize` or `minimize` for each metric; by default what their names tell.
    """
    rest, left_out = candidates(runs, metrics)
    rest = averaged(rest, records)
    goals = goals or goals_of(metrics, {})
    return rest.assign(on_front=pareto_front(rest[list(metrics)].to_numpy(dtype=np.float64), goals)), left_out


def counted(front: pd.DataFrame) -> tuple[int, int, int]:
    """Return how many configurations are on the front, how many there are, and how many runs tried them."""
    return int(front["on_front"].sum()), len(front), sum(map(len, front[RUNS]))


def candidates_in_words(front: pd.DataFrame) -> str:
    """Count the finished runs; where several tried one configuration, the configurations, and how many runs these are of."""
    __, n_configurations, n_runs = counted(front)
    runs = f"finished {'run' if n_runs == 1 else 'runs'}"
    if n_runs == n_configurations:
        return f"{n_runs} {runs}"
    return f"{n_configurations} {'configuration' if n_configurations == 1 else 'configurations'} of {n_runs} {runs}"


def stands_for(front: pd.DataFrame, run: str) -> str:
    """Return the run that stands for a run's configuration in a table of `front_of`; the run itself where it is in none."""
    return next((str(first) for first, every in zip(front["run"], front[RUNS], strict=True) if run in every), run)


def volumes_of(
    front: pd.DataFrame, metrics: Sequence[str], goals: Sequence[str], reference: Sequence[float] | None = None
) -> tuple[np.ndarray, list[float]]:
    """Return the hypervolume after each candidate, in the order of their creation (n_candidates,), and its reference point."""
    values = front.sort_values("created", kind="stable")[list(metrics)].to_numpy(dtype=np.float64)
    corner = list(reference) if reference else reference_point(values, goals)
    return hypervolumes(values, goals, corner), corner
