"""The one order of runs by a score, so that of equal runs every command, figure and page takes the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DEFAULT_METRICS = ("precision", "recall")
TIES = ("test_loss", "n_parameters")  # the lower of equals comes first; after these the earlier run


def weighed_metrics(objectives: Sequence[str], *, logged: bool) -> tuple[str, ...]:
    """Return what runs are weighed by where nobody says: a sweep's objectives if two or more; else precision and recall.

    Args:
        logged: whether the runs log precision and recall; the one objective of those that do not is weighed alone.
    """
    return tuple(objectives) if len(objectives) > 1 or (objectives and not logged) else DEFAULT_METRICS


def tie_breakers(aims: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the metrics that tell runs of equal score apart, with their goals: what is weighed, then TIES."""
    return [*aims.items(), *((name, "minimize") for name in TIES if name not in aims)]


def order_key(score: float, values: Mapping[str, Any], aims: Mapping[str, str]) -> tuple[float, ...]:
    """Return the key by which a run is sorted: the least is the best; of equals the better in `tie_breakers`, then the earlier.

    Args:
        score: lower is better.
        values: the run's metrics, and `created` in seconds since 1970; what is missing, None or NaN comes last.
        aims: metric -> goal, of what is weighed.
    """
    signed = [(values.get(name), 1.0 if goal == "minimize" else -1.0) for name, goal in tie_breakers(aims)]
    return tuple(_finite(value, sign) for value, sign in [(score, 1.0), *signed, (values.get("created"), 1.0)])


def _finite(value: Any, sign: float) -> float:
    """Return a number that sorts by its goal; infinity for what is none."""
    if not isinstance(value, int | float) or math.isnan(value):
        return math.inf
    return sign * float(value)
