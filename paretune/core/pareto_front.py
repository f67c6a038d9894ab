"""The Pareto front of points and its hypervolume, point by point; computed by moocore (exact), which minimises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def signed(values: np.ndarray, goals: Sequence[str]) -> np.ndarray:
    """Return values (n_points, n_objectives) with the maximised ones negated, so that less is better everywhere."""
    return values * np.array([1.0 if goal == "minimize" else -1.0 for goal in goals])


def non_dominated(values: np.ndarray, goals: Sequence[str]) -> np.ndarray:
    """Return which points (n_points, n_objectives) no other dominates; equal points keep each other."""
    import moocore

    if not len(values):
        return np.zeros(0, dtype=bool)
    return moocore.is_nondominated(signed(values, goals), keep_weakly=True)


def hypervolumes(values: np.ndarray, goals: Sequence[str], reference: Sequence[float]) -> np.ndarray:
    """Return the hypervolume after each of the points (n_points, n_objectives), measured from `reference`, (n_points,)."""
    import moocore

    points, corner = signed(values, goals), signed(np.asarray([reference], dtype=float), goals)[0]
    volumes, front = [], np.empty((0, len(goals)))
    for point in points:
        if not ((front <= point).all(axis=1)).any():
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            volumes.append(float(moocore.hypervolume(front, ref=corner)))
        else:
            volumes.append(volumes[-1])
    return np.array(volumes)


def reference_point(values: np.ndarray, goals: Sequence[str]) -> list[float]:
    """Return the worst value of each objective among the points (n_points, n_objectives): the default reference."""
    worst = signed(signed(values, goals).max(axis=0, keepdims=True), goals)[0]
    return [float(value) for value in worst]
