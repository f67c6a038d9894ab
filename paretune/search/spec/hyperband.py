"""W&B's `early_terminate: hyperband`: stop a run that is worse at its last bracket than the best 1/eta there.

Source: W&B's documentation, "Early termination"; Li et al. 2018, "Hyperband". For several objectives, where W&B has no rule,
"the best 1/eta" is by non-dominated sorting (Deb et al. 2002, "NSGA-II") and hypervolume contribution within a front.
"""

from __future__ import annotations

import bisect
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.core.errors import did_you_mean
from paretune.core.pareto_front import signed
from paretune.search.spec.yaml_lines import Definition, check_keys, whole_number

History = list[tuple[int, list[float]]]  # epoch number and a value per objective, in the order of the numbers
KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")
PLACE = "early_terminate"


@dataclass(frozen=True)
class Hyperband:
    """Brackets (epochs at which runs are compared), the share that goes on (1 / eta), and how strict to be."""

    brackets: tuple[int, ...]
    eta: float = 3.0
    strict: bool = False

    def should_stop(
        self, history: Sequence[tuple[int, Sequence[float]]], histories: Iterable[History], goals: Sequence[str]
    ) -> bool:
        """Whether a run with `history`, its epochs so far, is to stop.

        `histories` are those of all runs, this one included. With one objective the run's best value so far (with
        `strict`, its value at the bracket) is compared with the value at the last bracket it has passed that parts the
        best 1/eta. With several, see `_among_the_best`. A run has passed a bracket when its epochs' numbers have, as a history
        may lack epochs; its value there is the last finite one up to it.
        """
        passed = [bracket for bracket in self.brackets if history and bracket <= history[-1][0]]
        if not passed:
            return False
        bracket = passed[-1]
        own = _up_to(history, bracket)
        if own is None:
            return False
        finite = [values for _, values in history if all(map(math.isfinite, values))]
        mine = signed(np.array([own] if self.strict else finite, dtype=float), goals)
        found = [_up_to(other, bracket) for other in histories if other and other[-1][0] >= bracket]
        at_bracket = signed(
            np.array([values for values in found if values is not None], dtype=float).reshape(-1, len(goals)), goals
        )
        if len(goals) > 1:
            return not self._among_the_best(mine, at_bracket)
        values = np.sort(at_bracket[:, 0])
        threshold = values[int(len(values) / self.eta)] if len(values) else math.inf
        return bool(mine[:, 0].min() > threshold)

    def _among_the_best(self, mine: np.ndarray, at_bracket: np.ndarray) -> bool:
        """Whether any point of a run, (n_points, n_objectives), all minimised, counts as one of the best 1/eta at its bracket.

        The runs' points at the bracket are ordered by their front and, within it, by hypervolume contribution; the first
        int(n / eta) + 1 go on, as with one objective. A point counts where it is as good as one of these, or where no
        run's point dominates it: nothing on the front is ever stopped.
        """
        import moocore

        if not len(at_bracket):
            return True
        fronts = moocore.pareto_rank(at_bracket)
        reference = at_bracket.max(axis=0) + 0.1 * np.ptp(at_bracket, axis=0) + 1e-9
        contributions = np.zeros(len(at_bracket))
        for front in np.unique(fronts):
            contributions[fronts == front] = moocore.hv_contributions(at_bracket[fronts == front], ref=reference)
        go_on = at_bracket[np.lexsort((-contributions, fronts))[: int(len(at_bracket) / self.eta) + 1]]
        as_good = (mine[:, None] <= go_on[None]).all(axis=2).max(axis=1)
        no_worse, better = (at_bracket[None] <= mine[:, None]).all(axis=2), (at_bracket[None] < mine[:, None]).any(axis=2)
        dominated = (no_worse & better).max(axis=1)
        return bool((as_good | ~dominated).any())


def _up_to(history: Sequence[tuple[int, Sequence[float]]], bracket: int) -> Sequence[float] | None:
    """Return the values of the last epoch up to a bracket at which every objective was finite; None where there was none."""
    place = bisect.bisect_right(history, bracket, key=lambda epoch: epoch[0])
    return next((values for _, values in reversed(history[:place]) if all(map(math.isfinite, values))), None)


def read_hyperband(definition: Definition) -> Hyperband | None:
    """Read the `early_terminate` section: min_iter, or max_iter and s; eta and strict. Faults go to the definition."""
    given = definition.values[PLACE]
    if not isinstance(given, Mapping):
        definition.fault((PLACE,), f"{PLACE} must be a mapping with type: hyperband. Got {given!r}.")
        return None
    before = len(definition.faults)
    if given.get("type") != "hyperband":
        near = did_you_mean(str(given.get("type")), ["hyperband"]) or "."
        definition.fault((PLACE, "type"), f"{PLACE}.type must be hyperband. Got {given.get('type')!r}{near}")
    check_keys(definition, given, KEYS, (PLACE,), "hyperband")
    strict = given.get("strict", False)
    if not isinstance(strict, bool):
        definition.fault((PLACE, "strict"), f"{PLACE}.strict must be true or false, without quotes. Got {strict!r}.")
    eta = _number(definition, given, "eta", 1, above=True, default=3)
    if "max_iter" in given:
        brackets = _downwards(definition, given, eta)
    elif "min_iter" in given:
        brackets = _upwards(_whole(definition, given, "min_iter"), eta)
    else:
        definition.fault((PLACE,), f"{PLACE} needs min_iter, the epoch of the first comparison, or max_iter and s.")
        return None
    return None if len(definition.faults) > before else Hyperband(tuple(sorted(brackets)), float(eta), strict)


def _downwards(definition: Definition, given: Mapping[str, Any], eta: float) -> list[int]:
    band, steps = _whole(definition, given, "max_iter"), int(_number(definition, given, "s", 1, above=False))
    brackets: list[int] = []
    for _ in range(min(steps, 100)):
        band /= eta
        if band < 1:
            break
        brackets.append(int(band))
    if not brackets:
        definition.fault((PLACE,), f"{PLACE}: no bracket is left: raise max_iter or lower eta.")
    return brackets


def _upwards(first: float, eta: float) -> list[int]:
    brackets: list[int] = []
    band = float(first)
    while band < 1e9 and len(brackets) < 100:
        brackets.append(int(band))
        band *= eta
    return brackets


def _whole(definition: Definition, given: Mapping[str, Any], key: str) -> float:
    return float(whole_number(definition, given.get(key), (PLACE, key), f"{PLACE}.{key}") or 2)


def _number(definition: Definition, given: Mapping[str, Any], key: str, least: float, *, above: bool, default: Any = None) -> Any:
    found, place = given.get(key, default), (PLACE, key)
    fits = not isinstance(found, bool) and isinstance(found, int | float)
    if fits and (found > least if above else found >= least) and found <= sys.float_info.max:
        return found
    limit = f"above {least}" if above else f"of at least {least}"
    definition.fault(place, f"{PLACE}.{key} must be a number {limit}. Got {found!r}{definition.trap(place)}.")
    return least + 1
