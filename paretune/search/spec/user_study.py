"""The person's own study factory, taken over: its sampler and pruner, its terminator, and the trials that it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from paretune.runs import study_schema
from paretune.search.sampling.samplers import GIVEN
from paretune.search.sampling.slot_sampler import SlotSampler
from paretune.search.sampling.warm_start import Known, add, check_point, identities, nested, told
from paretune.search.spec.scheduler import SweepInfo, plain
from paretune.search.spec.sweep import Sweep

if TYPE_CHECKING:
    import optuna


def bring_own_study(sweep: Sweep, study: optuna.Study, name: str) -> Callable[[optuna.Study], bool] | None:
    """Take sampler, pruner and trials from the person's own study factory; return its terminator.

    Each trial is taken over once, whoever calls the factory how often: those that wait are tried first, complete ones are
    learnt from, as by `--prior`. One process at a time.

    Raises:
        UsageError: if the factory fails, or a trial that waits does not fit the space.
    """
    if sweep.scheduler is None:
        return None
    goals: dict[str, Any] = {} if "metrics" in sweep.definition else {"metric": {"name": sweep.metric, "goal": sweep.goal}}
    info = SweepInfo(name, sweep.name, sweep.entity or "", sweep.project or "", {**sweep.definition, **goals}, "")
    theirs, terminator = sweep.scheduler.study_of(info)
    if theirs is not None:
        sampler = study.sampler
        assert isinstance(sampler, SlotSampler)
        study.sampler = SlotSampler(sweep, sampler.seed, own=theirs.sampler)
        study.pruner = theirs.pruner
        _take_over(sweep, study, theirs.get_trials(deepcopy=False))
    return terminator


def _take_over(sweep: Sweep, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """Add the trials of the person's own study that are not there yet; say in a line what came of them."""
    assert sweep.scheduler is not None
    place, there = f"{sweep.scheduler.source}: {sweep.scheduler.optimizer}", identities(study)
    label = f"{place}: trial {{}}"
    new = [trial for trial in trials if label.format(trial.number) not in there]
    usable = [trial for trial in new if trial.state in (TrialState.WAITING, TrialState.COMPLETE)]
    if sweep.scheduler.search_space is None:
        came = add(study, sweep, [_known(trial, sweep, label.format(trial.number)) for trial in usable], there)
    else:
        for trial in usable:
            _add_drawn(study, trial, label.format(trial.number))
        came = told({"to be tried first": _n(usable, TrialState.WAITING), "learnt from": _n(usable, TrialState.COMPLETE)})
    left_out = told({"left out, neither waiting nor complete": len(new) - len(usable)})
    if usable:
        print(f"trials of {place}: {', '.join(filter(None, (came, left_out)))}", flush=True)


def _known(trial: FrozenTrial, sweep: Sweep, label: str) -> Known:
    """Return a trial as a point of the file's own space."""
    waiting = trial.state == TrialState.WAITING
    values = trial.system_attrs.get(GIVEN, {}) if waiting else trial.params
    rows = [] if waiting else [dict(zip(sweep.goals, trial.values, strict=True))]
    known = Known(label, nested(plain(values)), rows)
    if waiting:
        check_point(known, sweep)
    return known


def _add_drawn(study: optuna.Study, trial: FrozenTrial, label: str) -> None:
    """Add a trial of the person's own space, whose draws are Optuna's as they are."""
    if trial.state == TrialState.WAITING:
        study.enqueue_trial(plain(trial.system_attrs.get(GIVEN, {})), user_attrs={study_schema.POINT: label})
        return
    attributes = {study_schema.PRIOR: label}
    study.add_trial(
        create_trial(values=trial.values, params=trial.params, distributions=trial.distributions, user_attrs=attributes)
    )


def _n(trials: Sequence[FrozenTrial], state: TrialState) -> int:
    return sum(trial.state == state for trial in trials)
