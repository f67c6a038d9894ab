"""Sorts runs by a score, with one rule for ties: of equal runs every command, figure and page takes the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

DEFAULT_METRICS = ("precision", "recall")  # that are weighed where nobody says what
TIES = ("test_loss", "n_parameters")  # the lower of equals comes first; after these the earlier run


def tie_breakers(aims: Mapping[str, str]) -> dict[str, str]:
    """Return the metrics that tell runs of equal score apart, with their goals: what is weighed, precision and recall, TIES."""
    rest = {**dict.fromkeys(DEFAULT_METRICS, "maximize"), **dict.fromkeys(TIES, "minimize")}
    return {**aims, **{name: goal for name, goal in rest.items() if name not in aims}}


def order_key(score: float, values: Mapping[str, Any], aims: Mapping[str, str]) -> tuple[float, ...]:
    """Return the key by which a run is sorted: the least is the best; of equals the better in `tie_breakers`, then the earlier.

    Args:
        score: lower is better.
        values: the run's metrics, and `created` in seconds since 1970; what is missing, None or NaN comes last.
        aims: metric -> goal, of what is weighed.
    """
    signed = [(values.get(name), 1.0 if goal == "minimize" else -1.0) for name, goal in tie_breakers(aims).items()]
    return tuple(_finite(value, sign) for value, sign in [(score, 1.0), *signed, (values.get("created"), 1.0)])


def _finite(value: Any, sign: float) -> float:
    """Return a number that sorts by its goal; infinity for what is none."""
    if not isinstance(value, int | float) or math.isnan(value):
        return math.inf
    return sign * float(value)
