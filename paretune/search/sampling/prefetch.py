"""The next trial, asked for while one trains (`controller.search.ahead`), so that nobody waits for a slow sampler.

It is suggested without the result of the trial that trains, as a second worker's would be. The study's trials are read before that
training begins: a seed suggests the same however long a trial takes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import optuna
from optuna.trial import FrozenTrial, TrialState

from paretune.search.engine.contract import Claim, Worker
from paretune.search.engine.liveness import n_workers, running
from paretune.search.engine.study import finished
from paretune.search.sampling.slot_sampler import SlotSampler


class Ahead:
    """One worker's next trial; asked for in a thread where the sweep says so, else when it is wanted."""

    def __init__(self, engine: Worker) -> None:
        sweep = engine.sweep
        self._wanted = sweep.settings.ahead and sweep.alone is None and sweep.blind is None
        self._engine = engine
        self._pool = ThreadPoolExecutor(1)
        self._asked: Future[Claim] | None = None
        self._beats = contextlib.ExitStack()

    @contextlib.contextmanager
    def drawing(self, trial: optuna.Trial) -> Iterator[None]:
        """Ask for the next trial while the block trains this one."""
        if self._wanted:
            read = threading.Event()
            self._asked = self._pool.submit(self._ask, read)
            try:
                read.wait()
            except KeyboardInterrupt:
                self._engine.return_unfinished(trial)
                raise
        yield

    def take(self) -> Claim:
        """Return the trial that was asked for; without one, or where the person has interrupted, what the engine claims now."""
        found = self._found()
        if found is None or found[1] is None:
            return self._engine.claim()
        if self._engine.interruption.asked:
            self._engine.return_unfinished(found[1])
            return self._engine.claim()
        self._engine.look()
        return found

    def close(self) -> None:
        """Give back what was asked for and will not be trained."""
        with contextlib.suppress(Exception):  # the storage's, which whoever closes has met as well
            found = self._found()
            if found is not None and found[1] is not None:
                self._engine.return_unfinished(found[1])
        self._pool.shutdown()

    def _found(self) -> Claim | None:
        if self._asked is None:
            return None
        wait([self._asked])  # an interrupt here leaves it to `close`
        asked, self._asked = self._asked, None
        self._beats.close()
        return asked.result()

    def _ask(self, read: threading.Event) -> Claim:
        engine = self._engine

        def wanted(trials: Sequence[FrozenTrial]) -> bool:
            read.set()
            if not any(trial.state == TrialState.COMPLETE for trial in trials):
                return False  # where all fail, the first few shall show it
            left = engine.plan.trials - len(finished(trials)) - len(running(trials))
            return left >= n_workers(engine.folder, trials)  # nobody waits for a trial that others could train

        try:
            sampler = engine.study.sampler
            assert isinstance(sampler, SlotSampler)
            with sampler.standing():
                found = engine.claim(wanted)
        finally:
            read.set()
        if found[1] is not None:
            self._beats.enter_context(engine.lease.beating(engine.study, found[1]._trial_id))
        return found
