"""W&B's `early_terminate: hyperband`: stop a run that is worse at its last bracket than the best 1/eta there.

Source: W&B's documentation, "Early termination"; Li et al. 2018, "Hyperband".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainers.errors import UsageError, did_you_mean

KEYS = {"type", "min_iter", "max_iter", "s", "eta", "strict"}


@dataclass(frozen=True)
class Hyperband:
    """Brackets (epochs at which runs are compared), the share that goes on (1 / eta), and how strict to be."""

    brackets: tuple[int, ...]
    eta: float = 3.0
    strict: bool = False

    def should_stop(self, history: Sequence[float], histories: Iterable[Sequence[float]], goal: str) -> bool:
        """Whether a run with `history` (one value per epoch so far) is to stop.

        `histories` are those of all runs, this one included. The run's best value so far (with `strict`, its value at
        the bracket) is compared with the value at the last bracket it has passed that parts the best 1/eta.
        """
        sign = 1.0 if goal == "minimize" else -1.0
        mine = [sign * value for value in history if math.isfinite(value)]
        passed = [bracket for bracket in self.brackets if bracket <= len(mine)]
        if not passed:
            return False
        bracket = passed[-1]
        finite = ([sign * value for value in other if math.isfinite(value)] for other in histories)
        values = sorted(other[bracket - 1] for other in finite if len(other) >= bracket)
        threshold = values[int(len(values) / self.eta)] if values else math.inf
        return (mine[bracket - 1] if self.strict else min(mine)) > threshold


def read_hyperband(given: Any, where: str) -> Hyperband:
    """Read the `early_terminate` section: min_iter, or max_iter and s; eta and strict.

    Raises:
        UsageError: if a value is missing or does not fit.
    """
    where = f"{where}: early_terminate"
    if not isinstance(given, Mapping) or given.get("type") != "hyperband":
        raise UsageError(f"{where} must be a mapping with type: hyperband. Got {given!r}.")
    for key in given:
        if key not in KEYS:
            raise UsageError(f"{where}.{key} is not a key of hyperband{did_you_mean(str(key), KEYS) or '.'}")

    def value(key: str, least: float, default: Any = None) -> Any:
        found = given.get(key, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or found < least:
            raise UsageError(f"{where}.{key} must be a number of at least {least}. Got {found!r}.")
        return found

    strict = given.get("strict", False)
    if not isinstance(strict, bool):
        raise UsageError(f"{where}.strict must be true or false. Got {strict!r}.")
    eta = value("eta", 2, 3)
    if "max_iter" in given:
        band, brackets = float(value("max_iter", 1)), []
        for _ in range(int(value("s", 1))):
            band /= eta
            if band < 1:
                break
            brackets.append(int(band))
        if not brackets:
            raise UsageError(f"{where}: no bracket is left: raise max_iter or lower eta.")
    elif "min_iter" in given:
        band, brackets = float(value("min_iter", 1)), []
        while band < 1e9:
            brackets.append(int(band))
            band *= eta
    else:
        raise UsageError(f"{where} needs min_iter, or max_iter and s.")
    return Hyperband(tuple(sorted(brackets)), float(eta), strict)
