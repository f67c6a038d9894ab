"""Several worker processes of one sweep on this machine: cores and GPUs shared out, the dead replaced, progress in one place."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.core.deferred_gc import collecting_later
from paretune.core.errors import UsageError, how_it_ended
from paretune.core.progress import Progress
from paretune.runs.study_storage import StudyFile, readable_errors
from paretune.search.engine.in_process import InProcess
from paretune.search.engine.liveness import Claims, process_of, running, shared_cache, waits
from paretune.search.engine.signals import Interruption
from paretune.search.engine.study import fail_trial, finished, open_study
from paretune.search.engine.time_limit import TimeLimit
from paretune.search.engine.worker import best_text, check_options, checkpoint_of, make_folder, outcome, run, write_outcome
from paretune.search.spec.sweep import Sweep, read_sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import SpawnProcess

    import optuna
    from optuna.trial import FrozenTrial

POLL = 0.3  # seconds between looks at the workers
SLACK = 5.0  # seconds that a worker has to end an overdue trial by itself, between two epochs
ERRORS = (1, 2)  # exit codes of a worker that has said why; of another code (os._exit) it was no choice of ours
MOST_DEATHS = 10  # in a row of each worker, without a trial that ends between them


@dataclass(frozen=True)
class Work:
    """What each worker process is started with."""

    path: Path
    fixed: Mapping[str, Any]
    options: Mapping[str, Any]  # of paretune.search.engine.worker.run


def cores() -> int:
    """Return how many cores this process may use; where the system does not tell, how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environments(workers: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Return what each worker's environment adds: its share of the cores, and its GPU, in turn."""
    threads = str(max(1, cores() // workers))
    shares = [{"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads} for _ in range(workers)]
    if gpus:
        for place, share in enumerate(shares):
            share["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    return shares


def gpus_of(text: str) -> list[str]:
    """Return the GPUs that `all` or a list such as `0,2` names.

    Raises:
        UsageError: if they are not there.
    """
    import torch

    count = torch.cuda.device_count()
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part] or [str(i) for i in range(count)]
    if count == 0:
        raise UsageError(f"--gpus={text} needs a CUDA GPU, and this machine shows none: leave it out, or use --device cpu.")
    if text == "all":
        return visible[:count]
    wanted = [part.strip() for part in text.split(",")]
    missing = [part for part in wanted if part not in visible]
    if missing:
        raise UsageError(f"--gpus must be 'all' or some of {','.join(visible)}. Got {text!r}.")
    return wanted


def run_workers(
    sweep: Sweep,
    fixed: Mapping[str, Any],
    *,
    workers: int,
    gpus: Sequence[str] = (),
    trials: int,
    name: str,
    seed: int,
    storage: str | None,
    runs: Path,
    mode: str = "offline",
    device: str = "auto",
    before: Callable[[optuna.Study], None] | None = None,
    **options: Any,
) -> optuna.Study:
    """Search a sweep by several processes of this machine until `trials` have finished; return the study.

    Raises:
        UsageError: if a worker meets a mistake of the person's, or workers die without end.
    """
    check_options(name, mode, device)
    folder = runs / name
    url = storage or f"sqlite:///{folder}/study.db"
    with make_folder(folder), readable_errors(url):
        with Claims(folder):
            study = open_study(sweep, url, name, seed=seed)
            if before is not None:
                before(study)
        named = {"trials": trials, "name": name, "seed": seed, "storage": storage, "runs": runs, "mode": mode, "device": device}
        done = len(finished(study.get_trials(deepcopy=False)))
        with shared_cache(folder) as cache, Progress(name, trials, done=done) as progress:
            work = Work(sweep.path, dict(fixed), {**named, **options, "cache": cache})
            file = StudyFile(url)
            try:
                limit = None if sweep.classifier is None else options.get("trial_timeout") or sweep.settings.trial_timeout
                Crew(work, study, environments(workers, gpus), limit).supervise(progress, sweep)
            finally:
                file.check()
    return study


@dataclass
class Crew:
    """The worker processes, watched from outside them."""

    work: Work
    study: optuna.Study
    shares: Sequence[Mapping[str, str]]
    trial_timeout: float | None = None  # seconds that a trial of theirs may take; None where they watch it themselves
    since: dict[int, float] = field(default_factory=dict)  # when a running trial was first seen to train
    together: dict[int, int] = field(default_factory=dict)  # the most that it was seen to train with, itself included
    processes: list[SpawnProcess | None] = field(default_factory=list)
    requests: int = 0  # how often the person has asked to stop
    deaths: int = 0
    training: int = 0  # trials that have begun and not ended, when it was last looked

    def supervise(self, progress: Progress, sweep: Sweep) -> None:
        """Start the workers, show the trials as they end, replace workers that die, until all have ended by themselves."""
        shown = {trial.number for trial in finished(self.study.get_trials(deepcopy=False))}
        with self._interruptions():
            self.processes = [self._start(share) for share in self.shares]
            while any(process is not None for process in self.processes):
                time.sleep(POLL)
                trials = self.study.get_trials(deepcopy=False)
                ended = finished(trials)
                self.training = sum(not waits(trial) for trial in running(trials))
                for trial in sorted(ended, key=lambda trial: (trial.datetime_complete is None, trial.datetime_complete)):
                    if trial.number not in shown:
                        shown.add(trial.number)
                        self.deaths = 0
                        progress.reach(len(shown), best_text(ended, sweep) + outcome(trial))
                self._end_overdue([trial for trial in running(trials) if not waits(trial)], sweep)
                self._look_after(done=len(ended) >= self.work.options["trials"])
        if self.requests:
            raise KeyboardInterrupt

    def _end_overdue(self, trials: Sequence[FrozenTrial], sweep: Sweep) -> None:
        """Replace the workers whose trials take longer than they may, as one does that hangs within an epoch."""
        if self.trial_timeout is None:
            return
        now = time.monotonic()
        self.since = {trial.number: self.since.get(trial.number, now) for trial in trials}
        self.together = {trial.number: self.together.get(trial.number, 1) for trial in trials}
        for place, process in enumerate(self.processes):
            own = [trial for trial in trials if process is not None and process.is_alive() and process_of(trial) == process.pid]
            if process is None or not own:
                continue
            n_together = max(len(own), *(self.together[trial.number] for trial in own))
            self.together |= {trial.number: n_together for trial in own}
            limit = TimeLimit(self.trial_timeout, n_together, max(self.since[trial.number] for trial in own))
            if limit.left > -SLACK:
                continue
            # before the kill: what a dead worker leaves running, the next one to ask tries again
            cause = f"{limit.error()}; its worker was killed, as the epoch did not end"
            failed = [trial for trial in own if fail_trial(self.study, trial, cause) is not None]
            if not failed:  # they have ended meanwhile
                continue
            process.kill()
            process.join()
            folder = self.work.options["runs"] / self.work.options["name"]
            for trial in failed:
                write_outcome(InProcess(sweep, self.work.options["mode"]), self.study.study_name, folder, trial, cause=cause)
                checkpoint_of(folder, trial).unlink(missing_ok=True)
            self.processes[place] = None if self.requests else self._start(self.shares[place])

    def _look_after(self, *, done: bool) -> None:
        """Replace the workers that were killed, while there is work."""
        for place, process in enumerate(self.processes):
            if process is None or process.is_alive():
                continue
            code, self.processes[place] = process.exitcode, None
            if code == 0 or self.requests or done:
                continue
            if code in ERRORS:
                print(
                    "a worker stopped with the error above; waiting for the running trials to end (Ctrl-C gives them back)",
                    file=sys.stderr,
                    flush=True,
                )
                self.requests = 1  # they are asked to stop
                self._end_all()
                raise UsageError("a worker stopped with the error above; finished trials are kept: run the same command again.")
            self.deaths += 1
            if self.deaths >= MOST_DEATHS * len(self.shares):
                self._end_all()
                raise UsageError(
                    f"{self.deaths} workers in a row died before a trial ended; the last one {how_it_ended(code or 0)}: give fewer "
                    "workers, as memory may be short, and run the same command again."
                )
            print(f"a worker {how_it_ended(code or 0)}; another takes its place", file=sys.stderr, flush=True)
            self.processes[place] = self._start(self.shares[place])

    def _start(self, share: Mapping[str, str]) -> SpawnProcess:
        before = {key: os.environ.get(key) for key in share}
        os.environ.update(share)  # a spawned process reads its threads and GPU as it starts
        try:
            process = multiprocessing.get_context("spawn").Process(target=work_on, args=(self.work,), daemon=False)
            process.start()
            return process
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value

    def _end_all(self) -> None:
        for process in self.processes:
            if process is not None:
                process.terminate()
        for process in self.processes:
            if process is not None:
                process.join()

    @contextlib.contextmanager
    def _interruptions(self) -> Iterator[None]:
        """Pass Ctrl-C and SIGTERM on to the workers."""

        def take(number: int, frame: Any) -> None:
            self.requests += 1
            once = (
                f"stopping when the running trials ({self.training}) have ended; once more to give them back, those that train "
                "together as soon as the epoch of all has ended"
            )
            print(f"\n{once if self.requests == 1 else 'giving the running trials back'}", file=sys.stderr, flush=True)
            for process in self.processes:
                if process is not None and process.pid is not None and process.is_alive():
                    (process.terminate if self.requests < 3 else process.kill)()

        before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def work_on(work: Work) -> None:
    """Be one worker: the body of a spawned process."""
    interruption = Interruption(quiet=True)
    try:
        with interruption.watched(), collecting_later():
            run(read_sweep(work.path, work.fixed), **work.options, interruption=interruption)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(0)
