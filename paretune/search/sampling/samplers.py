"""The samplers of Optuna: which there are, which options a person may give them, and which one `auto` takes.

Every suggestion gets a sampler of its own, with a seed drawn from the study's seed and the suggestion's place. What a sampler
knows lies in the trials, so a study that was stopped suggests next what it would have suggested without the stop. Where
Optuna's samplers count or number trials by themselves, the small classes below mend it.

Sources: TPE: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, and Watanabe, arXiv:2304.11127.
Gaussian process with the logarithm of the expected improvement: Ament et al., arXiv:2310.20708. CMA-ES: Hansen, The CMA
Evolution Strategy, arXiv:1604.00772. NSGA-II: Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002; NSGA-III:
Deb and Jain, ibid. 18(4), 2014. Quasi-random search: Bergstra and Bengio, JMLR 13, 2012.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers._lazy_random_state import LazyRandomState
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from paretune.core.errors import UsageError
from paretune.search.sampling.sampler_options import STARTUP, check_sampler

GIVEN = "fixed_params"  # where Optuna keeps the parameters that a waiting trial was given
PROCESS_UNTIL = {1: 200, 2: 50}  # complete trials, by the number of objectives, from which on `auto` takes TPE: asks stay below 1 s


def build_sampler(
    name: str,
    options: Mapping[str, Any],
    *,
    seed: int,
    study_seed: int,
    n_finished: int,
    distributions: Mapping[str, BaseDistribution],
    n_objectives: int = 1,
    conditional: bool = False,
    place: int | None = None,
) -> BaseSampler:
    """Return the sampler of one suggestion.

    Args:
        name: one of SAMPLERS.
        options: keyword arguments of Optuna's class, of those in OPTIONS.
        seed: drawn from the study's seed and the suggestion's place, so another one each time.
        study_seed: the same for the whole study; a quasi-random sequence is drawn by it.
        n_finished: how many trials are complete so far.
        distributions: the space, by parameter; no rule looks at it so far.
        n_objectives: how many values a trial has.
        conditional: whether some parameters are absent from some trials.
        place: the suggestion's place among all, by which `qmc` finds its point; None leaves the counting to Optuna, which
            counts a repeated suggestion twice.

    Raises:
        UsageError: if the sampler is unknown, takes no such option, or searches by one objective only.
    """
    fault = check_sampler(name, options, n_objectives=n_objectives)
    if fault:
        raise UsageError(fault)
    if name == "auto":
        name, options = chosen(n_finished, n_objectives=n_objectives, conditional=conditional)
    if options.get("group"):
        options = {**options, "multivariate": True}  # said, as Optuna warns about what it implies
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "qmc":
            return QuasiRandom(place, seed, {"scramble": True, **options, "seed": study_seed})
        return CLASSES[name](**SILENT.get(name, {}), **options, seed=seed)


def chosen(n_finished: int, *, n_objectives: int, conditional: bool) -> tuple[str, dict[str, Any]]:
    """Return what `auto` takes for the next suggestion: a name of CLASSES, and options.

    The Gaussian process finds better trials than TPE within few, of numbers and of choices alike, but its asks grow slower
    with each trial, it needs complete trials, and it cannot model a parameter that is absent from some of them.
    """
    if conditional:
        return "tpe", {"group": True}
    if STARTUP <= n_finished < PROCESS_UNTIL.get(n_objectives, 0):
        return ("patient_gp" if n_objectives == 1 else "gp"), {"n_startup_trials": STARTUP}
    return "tpe", {"n_startup_trials": STARTUP, "multivariate": True}


def reseed(sampler: BaseSampler, seed: int) -> None:
    """Seed a sampler that exists already, with the samplers inside it, as if it were made with this seed.

    Known are the random states of Optuna, numpy and Python that a sampler or a part of it holds as an attribute. One that holds
    none of them does itself what Optuna asks of it in `reseed_rng`, which no seed repeats.
    """
    if not _reseeded(sampler, seed, set()):
        sampler.reseed_rng()


def _reseeded(sampler: BaseSampler, seed: int, seen: set[int]) -> bool:
    """Seed every random state found; return whether there was one."""
    seen.add(id(sampler))
    found = False
    for part in vars(sampler).values():
        match part:
            case LazyRandomState():
                part.rng.seed(seed)
            case np.random.RandomState() | random.Random():
                part.seed(seed)
            case np.random.Generator():
                part.bit_generator.state = type(part.bit_generator)(seed).state
            case BaseSampler() if id(part) not in seen:
                found = _reseeded(part, seed, seen) or found
                continue
            case _:
                continue
        found = True
    return found


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep back warnings, and the log of Optuna's Gaussian process, where a person can mend nothing."""
    logger = logging.getLogger("optuna._gp")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


class Process(optuna.samplers.GPSampler):
    """The Gaussian process, silent on what it copes with by itself: an infinite value, points too near to tell apart."""

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        with silence():
            return super().sample_relative(study, trial, search_space)


class PatientProcess(Process):
    """The Gaussian process of `auto`: it learns from the trials that were stopped early, too, which Optuna's leaves out."""

    def _sample_relative_impl(
        self,
        study: optuna.Study,
        completed_trials: list[FrozenTrial],
        running_trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        pruned = study._get_trials(deepcopy=False, states=(TrialState.PRUNED,), use_cache=False)
        stopped = [trial for trial in pruned if trial.intermediate_values and search_space.keys() <= trial.params.keys()]
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        median = float(np.median([sign * (trial.value or 0.0) for trial in completed_trials]))
        learnt = list(completed_trials)
        for trial in stopped:
            # A run is stopped for being bad, however its early value compares with the last values of the others.
            reached = sign * trial.intermediate_values[max(trial.intermediate_values)]
            seen = copy.copy(trial)
            seen.values = [sign * float(np.fmax(reached, median))]
            learnt.append(seen)
        return super()._sample_relative_impl(study, learnt, running_trials, search_space)


class Evolution(optuna.samplers.CmaEsSampler):
    """CMA-ES that draws by the seed alone, and to which a repeated or given trial belongs to its generation.

    Optuna adds the trial's number to the seed, which a repeated trial before it moves; and it marks no trial whose parameters
    are all given.
    """

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        if GIVEN in trial.system_attrs:
            self.sample_relative(study, trial, self.infer_relative_search_space(study, trial))  # for the marks that it leaves

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        numberless = copy.copy(trial)
        numberless.number = 0
        with silence():
            return super().sample_relative(study, numberless, search_space)


class SortingGenetic(optuna.samplers.NSGAIISampler):
    """NSGA-II to which a repeated or given trial belongs to its generation."""

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        if GIVEN in trial.system_attrs:
            self.get_trial_generation(study, trial)


class ReferenceGenetic(optuna.samplers.NSGAIIISampler):
    """NSGA-III to which a repeated or given trial belongs to its generation."""

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        if GIVEN in trial.system_attrs:
            self.get_trial_generation(study, trial)


class QuasiRandom(optuna.samplers.QMCSampler):
    """Quasi-random search whose points are found by the suggestion's place."""

    def __init__(self, place: int | None, seed: int, options: Mapping[str, Any]) -> None:
        first = optuna.samplers.RandomSampler(seed=seed)  # what the sequence does not hold: the first trial, absent parameters
        super().__init__(**options, independent_sampler=first, warn_independent_sampling=False)
        self._place = place

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return super()._find_sample_id(study, search_space) if self._place is None else self._place


CLASSES: dict[str, Callable[..., BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "gp": Process,
    "patient_gp": PatientProcess,
    "cmaes": Evolution,
    "nsga2": SortingGenetic,
    "nsga3": ReferenceGenetic,
    "random": optuna.samplers.RandomSampler,
}
SILENT = {  # a log line per parameter that the model does not cover says nothing to mend
    "gp": {"warn_independent_sampling": False},
    "patient_gp": {"warn_independent_sampling": False},
    "cmaes": {"warn_independent_sampling": False},
}
