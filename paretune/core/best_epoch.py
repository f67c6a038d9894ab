"""Which epoch of a run is its best: one rule for the tracker, the search and the analysis."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

Row = TypeVar("Row", bound=Mapping[str, float])
# the last words of metrics' names, ours and those of other people's scripts
MINIMIZED_WORDS = {"loss", "seconds", "parameters", "error", "err", "mse", "rmse", "mae", "perplexity", "latency"}
MAXIMIZED_WORDS = {"accuracy", "acc", "precision", "recall", "f1", "auc", "auroc", "score"}


def goal_of(metric: str) -> str:
    """Return `minimize` for losses, errors, `seconds` and `n_parameters`, `maximize` for everything else."""
    return known_goal(metric) or "maximize"


def known_goal(metric: str) -> str | None:
    """Return the goal that a metric's name tells by its last word (`val/acc`, `test_loss`); None where it tells none."""
    *_, word = re.split(r"[^a-z0-9]+", metric.lower())
    if word in MINIMIZED_WORDS or word.endswith("loss"):
        return "minimize"
    return "maximize" if word in MAXIMIZED_WORDS else None


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
