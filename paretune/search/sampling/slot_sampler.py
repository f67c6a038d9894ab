"""What is tried next: one sampler per suggestion, seeded by the sweep's seed and the suggestion's slot.

A study that was stopped and goes on so suggests what it would have suggested without the stop, which Optuna's samplers, with
their own running random state, do not. A slot is a suggestion's place: retried trials, surplus ones and those that a person
brought along take none.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GridSampler
from optuna.trial import FrozenTrial, TrialState

from paretune.core.best_epoch import best_row
from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.search.sampling.samplers import build_sampler, reseed
from paretune.search.spec.sweep import Objective, Sweep

CONSTRAINT = "constraints:"  # begins the names under which Optuna keeps the violations of constraints
SLOTLESS = (study_schema.RETRY_OF, study_schema.PRIOR, study_schema.POINT)


def takes_slot(trial: FrozenTrial) -> bool:
    """Whether a trial is a suggestion of its own."""
    attributes = trial.user_attrs
    return not any(key in attributes for key in SLOTLESS) and attributes.get(study_schema.CAUSE) != study_schema.SURPLUS


def slot_of(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """Return the place of a trial among the suggestions; a retried one has that of the first try."""
    number = trial.user_attrs.get(study_schema.ORIGIN, trial.number)
    return sum(takes_slot(other) for other in trials if other.number < number)


class Asking(threading.local):
    """What one thread asks for, while another one may tell: its sampler, its row of a grid, and how it sees the study."""

    inner: BaseSampler | None = None
    row: dict[str, Any] | None = None
    standing = False


class SlotSampler(BaseSampler):
    """Hands every suggestion over to a sampler of its own.

    `own` is the sampler of the person's own study factory, which then does it all; it is seeded anew for each suggestion, or
    every worker, and every start of the sweep, would suggest the same from the beginning.
    """

    def __init__(self, sweep: Sweep, seed: int, own: BaseSampler | None = None) -> None:
        self.sweep, self.seed, self.own = sweep, seed, own
        self._asking = Asking()
        self._rows: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Let what this thread asks for see no trial that is told after it was asked for."""
        self._asking.standing = True
        try:
            yield
        finally:
            self._asking.standing = False

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if self.sweep.method == "grid":
            self._asking.row = self._combination(study, trial)
            return
        if self.own is None:
            self._asking.inner = self._built(study, trial)
        else:
            reseed(self.own, self._seed_of(slot_of(trial, study._get_trials(deepcopy=False, use_cache=True))))
        self._sampler.before_trial(self._view(study), trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self._asking.row is not None:
            space = self.sweep.space.distributions
            return {name: space[name] for name in self._asking.row}
        with self._own_errors():
            return self._sampler.infer_relative_search_space(self._view(study), trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        if self._asking.row is not None:
            return self._asking.row
        with self._own_errors():
            return self._sampler.sample_relative(self._view(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self._asking.row is not None:  # a retried trial of a grid has its values; this is one that lost them
            return self._asking.row[param_name]
        with self._own_errors():
            return self._sampler.sample_independent(self._view(study), trial, param_name, param_distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        if self.sweep.method == "grid":
            return
        if isinstance(self.own, GridSampler) and "grid_id" not in trial.system_attrs:  # a given or retried trial
            if self.own.is_exhausted(study):
                StoppableStudy(study, trial, self.own).stop()
            return
        if self.own is None and self._asking.inner is None:  # told by another process than asked
            self._asking.inner = self._built(study, trial)
        seen = study if self.own is None else StoppableStudy(study, trial, self.own)
        self._sampler.after_trial(seen, trial, state, values)  # type: ignore[arg-type]

    def reseed_rng(self) -> None:
        """Nothing to do: each suggestion has a seed of its own."""

    @contextlib.contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Name the sampler of the person's own study in its error, which is the result of the trial then."""
        try:
            yield
        except Exception as error:
            if self.own is None or isinstance(error, UsageError | optuna.TrialPruned):
                raise
            cause = " ".join(str(error).split())
            raise UsageError(f"{type(self.own).__name__} cannot suggest a trial ({type(error).__name__}: {cause}).") from error

    @property
    def _sampler(self) -> BaseSampler:
        sampler = self._asking.inner if self.own is None else self.own
        assert sampler is not None, "Optuna calls before_trial first"
        return sampler

    def _seed_of(self, slot: int) -> int:
        return int(np.random.SeedSequence([self.seed, slot]).generate_state(1)[0])

    def _built(self, study: optuna.Study, trial: FrozenTrial) -> BaseSampler:
        trials = study._get_trials(deepcopy=False, use_cache=True)
        slot = slot_of(trial, trials)
        method = self.sweep.method
        return build_sampler(
            "random" if method == "random" else self.sweep.settings.sampler,
            {} if method == "random" else self.sweep.settings.sampler_options,
            seed=self._seed_of(slot),
            study_seed=self.seed,
            n_finished=sum(other.state == TrialState.COMPLETE for other in trials),
            distributions=self.sweep.space.distributions,
            n_objectives=len(self.sweep.objectives),
            conditional=bool(self.sweep.space.conditions) or self.sweep.space.parameters == {},
            place=slot,
        )

    def _combination(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        slot = slot_of(trial, study._get_trials(deepcopy=False, use_cache=True))
        if not self._rows:
            self._rows = list(itertools.islice(self.sweep.space.combinations(), 1_000_000))
        return self._rows[slot % len(self._rows)]

    def _view(self, study: optuna.Study) -> optuna.Study:
        trials = study._get_trials(deepcopy=False, use_cache=True)
        if self._asking.standing:
            study = StandingStudy(study)  # type: ignore[assignment]
        needed = any(objective.impute_while_running != "false" for objective in self.sweep.objectives)
        failed = any(
            trial.state == TrialState.FAIL
            and trial.user_attrs.get(study_schema.CAUSE) not in (study_schema.INTERRUPTED, study_schema.SURPLUS)
            for trial in trials
        )
        constraints = [constraint.text for constraint in self.sweep.settings.constraints]
        unknown = bool(constraints) and any(math.inf in trial.constraints.values() for trial in trials)
        if needed or failed or unknown:
            return ImputedStudy(study, self.sweep.objectives, constraints)  # type: ignore[return-value]
        return study


class StoppableStudy:
    """A study whose `stop`, which Optuna allows only within `optimize`, notes with the trial that its sampler ends the sweep."""

    def __init__(self, study: optuna.Study, trial: FrozenTrial, sampler: BaseSampler) -> None:
        self._study, self._trial, self._sampler = study, trial, sampler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def stop(self) -> None:
        """Note that there is nothing left to suggest."""
        self._study._storage.set_trial_user_attr(self._trial._trial_id, study_schema.ENDED_BY, type(self._sampler).__name__)


class SeenStudy:
    """A study as a sampler shall see it; a subclass says with which trials."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials."""
        return self._get_trials()

    def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        """Return the trials."""
        return self._get_trials(deepcopy, states)

    def _get_trials(self, deepcopy: bool = True, states: Any = None, use_cache: bool = False) -> list[FrozenTrial]:
        raise NotImplementedError


class StandingStudy(SeenStudy):
    """A study with its trials as they were read for the claim, whatever has been told since."""

    def _get_trials(self, deepcopy: bool = True, states: Any = None, use_cache: bool = False) -> list[FrozenTrial]:
        return self._study._get_trials(deepcopy=deepcopy, states=states, use_cache=True)


class ImputedStudy(SeenStudy):
    """A study as a sampler shall see it: W&B's `impute` gives runs without a value one, where Optuna leaves them out.

    A failed run counts with the worst value of all runs, or with its own best or latest one; a running one only where
    `impute_while_running` says so. Pruned runs stay as they are: Optuna's samplers know what to make of them. Where there are
    constraints, a failed run breaks all of them, by as much as the worst run does, and so does one that cannot be evaluated;
    a running one is taken to keep them.
    """

    def __init__(self, study: optuna.Study, objectives: Sequence[Objective], constraints: Sequence[str] = ()) -> None:
        super().__init__(study)
        self._objectives, self._constraints = objectives, constraints

    def _get_trials(self, deepcopy: bool = True, states: Any = None, use_cache: bool = False) -> list[FrozenTrial]:
        trials = self._study._get_trials(deepcopy=deepcopy, use_cache=use_cache)
        worst = [self._worst(trials, place) for place in range(len(self._objectives))]
        broken = {text: self._worst_violation(trials, text) for text in self._constraints}
        seen = [self._seen(trial, worst, broken) for trial in trials]
        return [trial for trial in seen if states is None or trial.state in states]

    def _worst(self, trials: Sequence[FrozenTrial], place: int) -> float | None:
        values = [trial.values[place] for trial in trials if trial.state == TrialState.COMPLETE]
        worst = max if self._objectives[place].goal == "minimize" else min
        return worst(values, default=None)

    @staticmethod
    def _worst_violation(trials: Sequence[FrozenTrial], text: str) -> float:
        """Return a finite number, as inf is none that samplers can learn from; above 0, however well all others do."""
        violations = [trial.constraints[text] for trial in trials if text in trial.constraints]
        return max([1.0, *filter(math.isfinite, violations)])

    def _seen(self, trial: FrozenTrial, worst: Sequence[float | None], broken: Mapping[str, float]) -> FrozenTrial:
        if trial.state == TrialState.FAIL and trial.user_attrs.get(study_schema.CAUSE) not in (
            study_schema.INTERRUPTED,
            study_schema.SURPLUS,
        ):
            ways = [objective.impute for objective in self._objectives]
        elif trial.state == TrialState.RUNNING:
            ways = [objective.impute_while_running for objective in self._objectives]
        elif trial.state == TrialState.COMPLETE and math.inf in trial.constraints.values():
            finite = {text: min(violation, broken[text]) for text, violation in trial.constraints.items() if text in broken}
            return self._copy(trial, trial.values, finite)
        else:
            return trial
        if "false" in ways or not trial.params:
            return trial
        rows = study_schema.epochs_of(trial.user_attrs)
        values = [imputed(rows, *pair) for pair in zip(self._objectives, ways, worst, strict=True)]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return trial
        failed = trial.state == TrialState.FAIL
        return self._copy(trial, known, {text: violation if failed else 0.0 for text, violation in broken.items()})

    @staticmethod
    def _copy(trial: FrozenTrial, values: Sequence[float], constraints: Mapping[str, float]) -> FrozenTrial:
        copy = FrozenTrial(
            number=trial.number,
            state=TrialState.COMPLETE,
            value=None,
            values=values,
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete or trial.datetime_start,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=trial.user_attrs,
            system_attrs={name: value for name, value in trial.system_attrs.items() if not name.startswith(CONSTRAINT)},
            intermediate_values=trial.intermediate_values,
            trial_id=trial._trial_id,
        )
        for text, violation in constraints.items():
            copy.set_constraint(text, violation)
        return copy


def imputed(rows: Sequence[Mapping[str, Any]], objective: Objective, way: str, worst: float | None) -> float | None:
    """Return what stands for the value of a run: its best or latest so far, or the worst of all; None where there is none."""
    if way == "best":
        row = best_row(rows, objective.name, objective.goal)
        return worst if row is None else float(row[objective.name])
    if way == "latest":
        values = [row[objective.name] for row in rows if math.isfinite(row.get(objective.name, math.nan))]
        return float(values[-1]) if values else worst
    return worst


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """Draw one parameter by Optuna's define-by-run calls."""
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
        case FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    raise AssertionError(f"no distribution of ours: {distribution}")


def draw(trial: optuna.Trial, sweep: Sweep, own: Callable[[optuna.Trial], Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Draw a trial's parameters; return the values that its training gets, nested.

    Parameters that do not exist under their conditions are neither drawn nor handed over; numbers that a person gave are handed
    over as given. `own` is the person's own space.
    """
    space, exact = sweep.space, trial.user_attrs.get(study_schema.EXACT, {})
    if own is not None:
        return {**space.fixed, **own(trial)}
    if not space.conditions:
        drawn = {name: suggest(trial, name, distribution) for name, distribution in space.distributions.items()}
        return space.decode(drawn, exact)
    drawn, flat = {}, dict(space.fixed)
    for name in space.in_order():
        if space.exists(name, flat):
            drawn[name] = suggest(trial, name, space.parameters[name].distribution)
            flat[name] = exact[name] if name in exact else space.parameters[name].decode(drawn[name])
    return space.decode(drawn, exact)
