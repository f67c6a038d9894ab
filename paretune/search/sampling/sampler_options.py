"""Names and options of the samplers that a sweep may set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paretune.core.errors import did_you_mean

SAMPLERS = ("auto", "tpe", "gp", "cmaes", "nsga2", "nsga3", "qmc", "random")
STARTUP = 10  # trials at random before a model


@dataclass(frozen=True)
class Whole:
    """A whole number, at least `least`."""

    least: int

    def __str__(self) -> str:
        return f"a whole number, {self.least} or more"

    def holds(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= self.least


@dataclass(frozen=True)
class Probability:
    """A number between 0 and 1."""

    def __str__(self) -> str:
        return "a number from 0 to 1"

    def holds(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.values))

    def holds(self, value: Any) -> bool:
        return any(type(value) is type(known) and value == known for known in self.values)


Kind = Whole | Probability | OneOf
SWITCH = OneOf((True, False))
GENETIC: dict[str, Kind] = {
    "population_size": Whole(2),
    "mutation_prob": Probability(),
    "crossover_prob": Probability(),
    "swapping_prob": Probability(),
}
OPTIONS: dict[str, dict[str, Kind]] = {  # by Optuna's own names; no seed, no functions, nothing deprecated
    "auto": {},
    "tpe": {
        "n_startup_trials": Whole(0),
        "n_ei_candidates": Whole(1),
        "multivariate": SWITCH,
        "group": SWITCH,
        "constant_liar": SWITCH,
    },
    "gp": {"n_startup_trials": Whole(0), "deterministic_objective": SWITCH},
    "cmaes": {
        "n_startup_trials": Whole(1),
        "popsize": Whole(4),  # with 3 the learning rate of the covariance is 0
        "consider_pruned_trials": SWITCH,
        "use_separable_cma": SWITCH,
        "with_margin": SWITCH,
        "lr_adapt": SWITCH,
    },
    "nsga2": GENETIC,
    "nsga3": {**GENETIC, "dividing_parameter": Whole(1)},
    "qmc": {"qmc_type": OneOf(("sobol", "halton")), "scramble": SWITCH},
    "random": {},
}


def check_sampler(name: Any, options: Any, *, n_objectives: int = 1) -> str:
    """Return one sentence on what is wrong with a sampler's name or options; an empty text where nothing is."""
    if not isinstance(name, str) or name not in SAMPLERS:
        return f"{name!r} is not a sampler{did_you_mean(str(name), SAMPLERS) or '; there are ' + ', '.join(SAMPLERS) + '.'}"
    if not isinstance(options, Mapping):
        return f"the options of {name} must be a mapping. Got {options!r}."
    known = OPTIONS[name]
    for key, value in options.items():
        if key not in known:
            takes = f"; it takes {', '.join(known)}." if known else ", which takes none: name another sampler or remove it."
            return f"{key} is not an option of {name}{did_you_mean(str(key), known) or takes}"
        if not known[key].holds(value):
            return f"{key} of {name} must be {known[key]}. Got {value!r}."
    if name == "cmaes" and n_objectives > 1:
        return f"cmaes searches by one objective. Got {n_objectives}: use auto, tpe, gp, nsga2 or nsga3."
    return _contradiction(name, options)


def _contradiction(name: str, options: Mapping[str, Any]) -> str:
    if name == "tpe" and options.get("group") and options.get("multivariate") is False:
        return "group of tpe needs multivariate: remove one of the two."
    together = [key for key in ("use_separable_cma", "with_margin", "lr_adapt") if options.get(key)]
    if len(together) > 1:
        return f"{' and '.join(together)} of cmaes exclude each other: give one of them."
    return ""
