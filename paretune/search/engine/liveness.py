"""Who trains what, and who has died: each worker holds a locked file, and its trials beat in the study.

Optuna's own heartbeat does not work with ask and tell. On one machine the system frees the lock of a process that has ended,
however it ended, so death is known at once and never by mistake. Where the file is not to be seen, on another machine, a
trial counts as dead when this process has seen its beat stand still for the length of a lease; no two clocks are compared.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from paretune.core.errors import UsageError
from paretune.core.locks import is_free, locked
from paretune.core.shared_arrays import remove_shared
from paretune.runs import study_schema

if TYPE_CHECKING:
    import optuna

SECONDS = 60.0  # a lease; four beats fit into it
LATELY = 32  # of the newest trials, by which workers are known that train none at the moment
WAITS = "waits"  # in what a trial keeps of its worker: it is asked for, and its training has not begun


class Lease:
    """This worker's sign of life: a file that it keeps locked, and a thread that lets its trial beat."""

    def __init__(self, folder: Path, *, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.path = (folder / "workers" / f"{os.getpid()}-{secrets.token_hex(4)}.lock").resolve()
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Lease:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(locked(self.path))
        except OSError as error:
            raise UsageError(
                f"{self.path.parent} cannot be written ({error.strerror}): choose another folder with --runs."
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # else it may leave a trial behind, which the free file shows to the next worker
            self.path.unlink(missing_ok=True)
        self._held.close()

    def sign(self, *, waits: bool = False) -> dict[str, Any]:
        """Return what a trial keeps of its worker, and whether it waits there for another one to end."""
        return {"host": socket.gethostname(), "lock": str(self.path), **({WAITS: True} if waits else {})}

    @contextlib.contextmanager
    def beating(self, study: optuna.Study, trial_id: int) -> Iterator[None]:
        """Let a trial beat while the block runs."""
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(study, trial_id, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _beat(self, study: optuna.Study, trial_id: int, ended: threading.Event) -> None:
        count = 0
        while not ended.wait(self.seconds / 4):
            count += 1
            # a beat that fails is one of four; if the storage stays away, the training's own writes say so
            with contextlib.suppress(Exception):
                study._storage.set_trial_user_attr(trial_id, study_schema.BEAT, count)


class Watch:
    """What this process knows of the other workers' lives.

    Args:
        folder: the study's, where its file is in it and may have been moved or copied there with it.
    """

    def __init__(self, *, seconds: float = SECONDS, local: bool, folder: Path | None = None) -> None:
        self.seconds, self.local, self.folder = seconds, local, folder
        self._seen: dict[int, tuple[Any, float]] = {}  # trial number -> its beat, and since when it stands there

    def dead(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the worker of a running trial has ended. Call it with the study's claims held."""
        worker = trial.user_attrs.get(study_schema.WORKER)
        if worker is None and self.local:
            return True  # it died between asking and signing, which happens with the claims held
        if worker is not None and "lock" in worker:
            lock = Path(worker["lock"])
            free = is_free(lock)
            if free is None and self.folder is not None:
                free = is_free(self.folder / lock.parent.name / lock.name)
            if free is not None:
                return free
        beat, now = trial.user_attrs.get(study_schema.BEAT), time.monotonic()
        known, since = self._seen.get(trial.number, (None, None))
        if since is None or known != beat:
            self._seen[trial.number] = (beat, now)
            return False
        return now - since > self.seconds


def left_behind(folder: Path) -> list[Path]:
    """Return the files of workers that have ended without removing them."""
    return [path for path in (folder / "workers").glob("*.lock") if is_free(path)]


def n_workers(folder: Path, trials: Sequence[optuna.trial.FrozenTrial]) -> int:
    """Return how many workers share a study: those that hold a lock here, and those elsewhere that train or did so lately."""
    found = {str(path.resolve()) for path in (folder / "workers").glob("*.lock")}
    here, seen = socket.gethostname(), set[str]()
    for trial in [*running(trials), *trials[-LATELY:]]:  # those that run first: they show more
        worker = trial.user_attrs.get(study_schema.WORKER)
        if worker is None or "lock" not in worker or worker["lock"] in found | seen:
            continue
        seen.add(worker["lock"])
        free = is_free(Path(worker["lock"]))
        if free is False or (free is None and (trial.state == TrialState.RUNNING or worker.get("host") != here)):
            found.add(worker["lock"])
    return len(found)


@contextlib.contextmanager
def shared_cache(folder: Path) -> Iterator[Path]:
    """Give the folder for what a study's workers share; what is in it goes before and after, unless a worker lives."""
    cache = folder / "cache"
    _remove(cache)
    try:
        yield cache
    finally:
        _remove(cache)


def _remove(cache: Path) -> None:
    if not any(is_free(path) is False for path in (cache.parent / "workers").glob("*.lock")):
        remove_shared(cache)


class Claims:
    """The right to ask, one thread of one process of this machine at a time, so that no two take the same slot of a study."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "claims.lock"
        self._held = threading.local()

    def __enter__(self) -> None:
        try:
            self._held.lock = contextlib.ExitStack()
            self._held.lock.enter_context(locked(self.path))
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written ({error.strerror}): choose another folder with --runs.") from None

    def __exit__(self, *_: object) -> None:
        self._held.lock.close()


def waits(trial: optuna.trial.FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial's worker has asked for it, but not begun with it, so that it has killed nobody."""
    return bool(trial.user_attrs.get(study_schema.WORKER, {}).get(WAITS))


def process_of(trial: optuna.trial.FrozenTrial) -> int | None:
    """Return the PID of the process that trains a trial; None where it is on another machine, or unknown."""
    worker = trial.user_attrs.get(study_schema.WORKER, {})
    here = worker.get("host") == socket.gethostname() and "lock" in worker
    return int(Path(worker["lock"]).name.partition("-")[0]) if here else None


def running(trials: Sequence[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
    """Return the trials that somebody trains."""
    return [trial for trial in trials if trial.state == TrialState.RUNNING]
