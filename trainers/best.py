"""Which epoch of a run is its best: one rule for the tracker, the search and the analysis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

Row = TypeVar("Row", bound=Mapping[str, float])
MINIMIZED = {"seconds", "n_parameters"}


def goal_of(metric: str) -> str:
    """Return `minimize` for losses, `seconds` and `n_parameters`, `maximize` for the other metrics of ours."""
    return "minimize" if metric in MINIMIZED or metric.endswith("loss") else "maximize"


def best_row(rows: Iterable[Row], metric: str, goal: str | None = None) -> Row | None:
    """Return the row that is best by `metric`; of equals the one of lower `test_loss`, then the earliest.

    Rows without a finite value of the metric are passed over; None where no row has one.
    """
    sign = 1.0 if (goal or goal_of(metric)) == "minimize" else -1.0
    best, best_key = None, (math.inf, math.inf)
    for row in rows:
        value = row.get(metric, math.nan)
        if not math.isfinite(value):
            continue
        loss = row.get("test_loss", math.inf)
        key = (sign * value, loss if math.isfinite(loss) else math.inf)
        if best is None or key < best_key:
            best, best_key = row, key
    return best
