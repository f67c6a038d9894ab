"""One worker's trials side by side: asked for at once where that changes no suggestion, those of equal shape as one program.

Each keeps its own run, epochs, beat and end; a killed worker's are settled one by one, as always. Where a worker dies, nobody knows
which of the trials that trained together was the cause, so each is tried again alone.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from paretune.runs import study_schema
from paretune.search.engine.batches import Share, most_at_once
from paretune.search.engine.contract import Worker
from paretune.search.engine.liveness import n_workers, running
from paretune.search.engine.study import finished

Asked = tuple[optuna.Trial, dict[str, Any]]  # a trial and the values that its training gets
MOST_SHARED = 4  # trials that one worker asks for at once where others may join from elsewhere, who shall find some


def run_with_others(engine: Worker, trial: optuna.Trial, values: dict[str, Any]) -> Iterator[FrozenTrial | None]:
    """Run a trial, and with it others where that pays; yield what `Worker.run_trial` returns of each, as each ends.

    Raises:
        KeyboardInterrupt: at the person's second interrupt; all that has not ended is given back.
    """
    groups = _groups(engine, (trial, values))
    try:
        while groups:
            with contextlib.ExitStack() as beats:
                for other, _ in itertools.chain.from_iterable(groups[1:]):
                    beats.enter_context(engine.lease.beating(engine.study, other._trial_id))
                yield from _run(engine, groups.pop(0))
            if engine.interruption.asked:
                break
    except KeyboardInterrupt:
        _return(engine, groups)
        raise
    _return(engine, groups)


def _return(engine: Worker, groups: list[list[Asked]]) -> None:
    for trial, _ in itertools.chain.from_iterable(groups):
        engine.return_unfinished(trial)


def _groups(engine: Worker, first: Asked) -> list[list[Asked]]:
    """Ask for more trials and part them by their shape; one that trains alone is a group of its own.

    No more are asked for than one program takes, than depend on no result, and than this worker's share of the rest. Where there
    are other workers, the first trial of another shape ends the asking, so that nobody keeps from them what must wait here.
    """
    shape = _shape(engine, first) if most_at_once(engine.sweep, engine._seen) > 1 else None
    if shape is None:
        return [[first]]
    workers = max(n_workers(engine.folder, engine._seen), 1)
    left = engine.plan.trials - len(finished(engine._seen)) - len(running(engine._seen))  # with the first
    wanted = min(shape[1], -(-left // workers), MOST_SHARED if engine.shared else left)
    asked, found = [first], {shape[0]: [first]}
    while len(asked) < wanted:
        _, trial, values = engine.claim(lambda trials: len(asked) < most_at_once(engine.sweep, trials, len(asked)))
        if trial is None:
            break
        asked.append((trial, values))
        own = _shape(engine, asked[-1])
        found.setdefault(str(trial.number) if own is None else own[0], []).append(asked[-1])
        if _has_killed(trial) or (own != shape and (engine.shared or workers > 1)):
            break
    return list(found.values())


def _has_killed(trial: optuna.Trial) -> bool:
    """Whether a worker has died at a trial, which then trains alone: if it was the cause, it shall take no others with it."""
    return bool(trial.user_attrs.get(study_schema.ATTEMPT))


def _shape(engine: Worker, asked: Asked) -> tuple[str, int] | None:
    """Return what a trial has in common with those that it may train with, and how many may; None where it trains alone."""
    return None if _has_killed(asked[0]) else engine.training.shape(asked[1])


def _run(engine: Worker, group: list[Asked]) -> Iterator[FrozenTrial | None]:
    """Run trials of one shape, an epoch of each at a time."""
    for trial, _ in group:
        engine.begin(trial)
    if len(group) == 1:
        yield engine.run_trial(*group[0])
        return
    engine.interruption.together = len(group)
    together = engine.training.together([values for _, values in group], [engine.checkpoint_of(trial) for trial, _ in group])
    engine.shares = {trial.number: Share(together, place) for place, (trial, _) in enumerate(group)}
    courses = {trial.number: engine.course(trial, values) for trial, values in group}
    stops = dict.fromkeys(courses, False)
    try:
        while courses:
            for number in sorted(courses, key=lambda number: not stops[number]):  # those that stop before the next epoch begins
                while number in courses:
                    try:
                        stops[number] = next(courses[number])
                    except StopIteration as end:
                        del courses[number]
                        together.leave(engine.shares[number].place)
                        yield end.value
                    if not together.alone:  # else to its end: memory may hold one of them, and not all
                        break
    except KeyboardInterrupt:
        for trial, _ in group:
            course = courses.get(trial.number)
            if course is None:
                continue
            if inspect.getgeneratorstate(course) == inspect.GEN_CREATED:
                engine.return_unfinished(trial)
            with contextlib.suppress(KeyboardInterrupt, StopIteration):
                course.throw(KeyboardInterrupt)
        raise
    finally:
        for course in courses.values():
            course.close()
        for share in engine.shares.values():
            together.leave(share.place)
        engine.shares = {}
        engine.interruption.together = 1
