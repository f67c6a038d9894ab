"""The person's own study factory, taken over: its sampler and pruner, its terminator, and the trials that it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from search.scheduler import SweepInfo
from search.suggest import SlotSampler
from search.sweep import Sweep

if TYPE_CHECKING:
    import optuna


def bring_own_study(sweep: Sweep, study: optuna.Study, name: str) -> Callable[[optuna.Study], bool] | None:
    """Take sampler and pruner from the person's own study factory; return its terminator."""
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
    return terminator
