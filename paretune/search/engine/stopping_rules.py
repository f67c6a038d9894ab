"""Whether there is work: the number of trials, the end of a grid, targets reached, a study that no longer moves."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from paretune.core.pareto_front import hypervolumes, reference_point
from paretune.runs import study_schema
from paretune.search.engine.liveness import running
from paretune.search.engine.study import feasible, finished
from paretune.search.sampling.slot_sampler import takes_slot
from paretune.search.spec.sweep import Sweep


class Outlook(enum.Enum):
    """What a worker shall do next."""

    WORK = "work"
    WAIT = "wait"  # others train the last trials; they may yet give one back
    DONE = "done"


@dataclass
class Plan:
    """How far a sweep shall go: `trials` finished ones, a grid's every combination, or until one of its rules ends it."""

    sweep: Sweep
    trials: int
    terminator: Callable[[], bool] = lambda: False
    combinations: int | None = field(init=False)
    terminated: bool = field(init=False, default=False)  # whether the terminator has ended the sweep

    def __post_init__(self) -> None:
        self.combinations = self.sweep.space.n_combinations() if self.sweep.method == "grid" else None
        if self.combinations is not None:
            self.trials = min(self.trials, self.combinations)

    def outlook(self, trials: Sequence[FrozenTrial]) -> Outlook:
        """Return what a worker shall do, given all trials of the study."""
        ended, live = finished(trials), running(trials)
        if len(ended) >= self.trials or self.reason(trials):
            return Outlook.DONE
        self.terminated = self.terminator()
        if self.terminated:
            return Outlook.DONE
        if len(ended) + len(live) >= self.trials:
            return Outlook.WAIT
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if self.combinations is not None and not waiting and sum(map(takes_slot, trials)) >= self.combinations:
            return Outlook.WAIT if live else Outlook.DONE
        return Outlook.WORK

    def beyond(self, number: int, trials: Sequence[FrozenTrial]) -> bool:
        """Whether a running trial is more than was asked for, counting those of lower numbers before it."""
        before = [trial for trial in trials if trial.number < number]
        return len(finished(before)) + len(running(before)) >= self.trials

    def reason(self, trials: Sequence[FrozenTrial]) -> str:
        """Return why the sweep ends before its number of trials; empty where it does not."""
        ended_by = next((by for trial in trials if (by := trial.user_attrs.get(study_schema.ENDED_BY))), None)
        if ended_by is not None and not any(trial.state == TrialState.WAITING for trial in trials):
            return f"{ended_by}, the sampler of the file's own study, has nothing left to try"
        complete = [trial for trial in finished(trials) if trial.state == TrialState.COMPLETE and feasible(trial)]
        objectives = self.sweep.objectives
        if any(objective.target is not None for objective in objectives):
            for trial in complete:
                pairs = zip(objectives, trial.values, strict=True)
                if all(objective.target is None or objective.reached(value) for objective, value in pairs):
                    return f"trial {trial.number} has reached the target"
        patience = self.sweep.settings.patience
        if patience is not None and self._stalled(complete, trials, patience):
            moved = self.sweep.metric if len(objectives) == 1 else "the hypervolume"
            return f"{moved} has not moved for {patience} trials"
        return ""

    def _stalled(self, complete: Sequence[FrozenTrial], trials: Sequence[FrozenTrial], patience: int) -> bool:
        ended = sorted(finished(trials), key=lambda trial: trial.number)
        if len(ended) <= patience:
            return False
        before = {trial.number for trial in ended[:-patience]}
        values = np.array([trial.values for trial in sorted(complete, key=lambda trial: trial.number)], dtype=float)
        earlier = sum(trial.number in before for trial in complete)
        if earlier == 0:
            return False
        goals = [objective.goal for objective in self.sweep.objectives]
        if len(goals) > 1:
            progress = hypervolumes(values, goals, reference_point(values, goals))
        else:
            progress = np.maximum.accumulate(values[:, 0] * (1.0 if goals[0] == "maximize" else -1.0))
        return bool(progress[-1] - progress[earlier - 1] <= self.sweep.settings.improvement)
