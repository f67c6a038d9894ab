"""Run a sweep in process, without account or network: ask Optuna, train, track, tell.

The heart is `run_trial`: ask -> epochs -> tell. Every epoch goes into the study as it comes, so that a kill at any moment
loses no finished trial, and a trial that had ended but was not told is told at the next start, not trained again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import socket
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from search.study import finished, open_study, sampler_for
from search.sweep import Sweep
from trainers import records
from trainers.base import Epoch
from trainers.best import best_row
from trainers.command_line import ROOT, configure, run_values
from trainers.data import LOCKED_SPLIT, Data, DataOptions, load_data
from trainers.devices import pick_device
from trainers.errors import UsageError
from trainers.progress import Progress
from trainers.provenance import provenance
from trainers.tracking import Tracker, resolve_mode, track

if TYPE_CHECKING:
    from trainers.base import ClassifierConfig

MOST_FAILURES = 3  # in a row, before the sweep gives up


@dataclass
class Engine:
    """One sweep at work: its study, its data, and the histories that pruning compares."""

    sweep: Sweep
    study: optuna.Study
    folder: Path
    seed: int = 0
    mode: str = "offline"
    device: str = "auto"
    locked_split: int = LOCKED_SPLIT
    progress: Progress | None = None
    histories: dict[int, list[float]] = field(default_factory=dict)
    _data: dict[str, Data] = field(default_factory=dict)

    def data_for(self, options: DataOptions) -> Data:
        """Return the data of a trial; kept in memory, as trials of one sweep mostly share them."""
        key = json.dumps(options.to_dict(), sort_keys=True)
        if key not in self._data:
            self.keep(options, load_data(options, locked_split=self.locked_split))
        return self._data[key]

    def keep(self, options: DataOptions, data: Data) -> None:
        """Hold one set of data in memory, and let go of the one before."""
        self._data = {json.dumps(options.to_dict(), sort_keys=True): data}

    def recover(self) -> None:
        """Settle what an earlier, killed process left running: tell what had ended, give the rest back."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            rows = records.epochs_of(trial.user_attrs)
            if rows and (rows[-1]["last"] or trial.user_attrs.get(records.PRUNED)):
                self.tell(trial.number, rows)
                continue
            retried = any(t.user_attrs.get(records.RETRY_OF) == trial.number for t in self.study.get_trials(deepcopy=False))
            if not retried:
                drawn = trial.system_attrs.get("fixed_params") or trial.params
                kept = {k: v for k, v in trial.user_attrs.items() if k in (records.BASELINE, records.GRID_INDEX)}
                attempt = trial.user_attrs.get(records.ATTEMPT, 0) + 1
                self.study.enqueue_trial(drawn, user_attrs={**kept, records.RETRY_OF: trial.number, records.ATTEMPT: attempt})
            self.fail(trial.number, records.INTERRUPTED)

    def ask(self) -> optuna.Trial:
        """Draw the next configuration. A retried trial is no new suggestion."""
        trials = self.study.get_trials(deepcopy=False)
        slot = sum(records.RETRY_OF not in trial.user_attrs for trial in trials if trial.state != TrialState.WAITING)
        self.study.sampler = sampler_for(self.sweep, self.seed, slot)
        return self.study.ask(self.sweep.space.distributions)

    def run_trial(self) -> optuna.trial.FrozenTrial:
        """Ask for one configuration, train it, tell the result; return the told trial."""
        trial = self.ask()
        try:
            self._train(trial)
        except UsageError as error:  # this configuration cannot be built: the sentence is the result
            return self.fail(trial.number, str(error))
        except Exception as error:
            trial.set_user_attr("traceback", traceback.format_exc())
            return self.fail(trial.number, f"{type(error).__name__}: {error}")
        return self.tell(trial.number)

    def _train(self, trial: optuna.Trial) -> None:
        values = self.sweep.space.decode(trial.params)
        values.setdefault("best_metric", self.sweep.metric)
        config, data_options, run_options = configure(self.sweep.classifier, values)
        data = self.data_for(data_options)
        run_id = run_id_of(self.study.user_attrs[records.STUDY_ID], trial.number, trial.user_attrs.get(records.ATTEMPT, 0))
        resolved = run_values(self.sweep.classifier, config, data_options, run_options)
        origin = provenance(data, str(pick_device(self.device)))
        stored = {records.RUN_ID: run_id, records.HOST: socket.gethostname(), records.CONFIG: {**resolved, "provenance": origin}}
        for key, value in stored.items():
            trial.set_user_attr(key, value)
        tags = ["baseline"] if trial.user_attrs.get(records.BASELINE) else []
        with track(
            mode=self.mode,
            project=self.sweep.project,
            name=f"{self.study.study_name}-{trial.number}",
            group=self.study.study_name,
            job_type="sweep",
            tags=tags,
            run_id=run_id,
            directory=self.folder,
            quiet=True,
        ) as tracker:
            if tracker.path is not None:
                trial.set_user_attr(records.PATH, os.path.relpath(tracker.path, self.folder))
            tracker.describe(resolved, origin)
            self._train_tracked(trial, tracker, config, data)

    def _train_tracked(self, trial: optuna.Trial, tracker: Tracker, config: ClassifierConfig, data: Data) -> None:
        history = self.histories.setdefault(trial.number, [])
        history.clear()
        stopped: set[int] = set()
        rounds = self.sweep.classifier.fit_population([config], data, device=self.device, stopped=stopped)
        for epochs in rounds:
            epoch = epochs[0]
            if epoch is None:
                continue
            stops = self._observe(trial, history, epoch)
            tracker.log(epoch)
            if stops:
                trial.set_user_attr(records.PRUNED, epoch.number)
                tracker.pruned = epoch.number
                stopped.add(0)

    def _observe(self, trial: optuna.Trial, history: list[float], epoch: Epoch) -> bool:
        """Put an epoch into the study; return whether the trial is to stop."""
        metrics = dict(epoch.metrics)
        trial.set_user_attr(records.epoch_key(epoch.number), {**metrics, "last": epoch.last})
        value = metrics.get(self.sweep.metric, math.nan)
        history.append(value)
        if math.isfinite(value):
            trial.report(value, step=epoch.number)
        if self.progress is not None:
            self.progress.note(f"{self._best_text()}trial {trial.number}, epoch {epoch.number}: {self.sweep.metric} {value:.4f}")
        rule = self.sweep.early_terminate
        return rule is not None and not epoch.last and rule.should_stop(history, self.histories.values(), self.sweep.goal)

    def tell(self, number: int, rows: list[dict[str, Any]] | None = None) -> optuna.trial.FrozenTrial:
        """Tell the study how a trial ended, from the epochs that it holds."""
        frozen = self.study.get_trials(deepcopy=False)[number]
        rows = records.epochs_of(frozen.user_attrs) if rows is None else rows
        if frozen.user_attrs.get(records.PRUNED):
            return self.study.tell(number, state=TrialState.PRUNED)
        best = best_row(rows, self.sweep.metric, self.sweep.goal)
        if best is None:
            return self.fail(number, f"{self.sweep.metric} was never a finite number")
        return self.study.tell(number, best[self.sweep.metric])

    def fail(self, number: int, cause: str) -> optuna.trial.FrozenTrial:
        """Tell the study that a trial failed, and why."""
        frozen = self.study.get_trials(deepcopy=False)[number]
        optuna.trial.Trial(self.study, frozen._trial_id).set_user_attr(records.CAUSE, cause)
        self.histories.pop(number, None)
        return self.study.tell(number, state=TrialState.FAIL)

    def _best_text(self) -> str:
        try:
            best = self.study.best_trial
        except ValueError:
            return ""
        return f"best {self.sweep.metric} {best.value:.4f} (trial {best.number}); "

    def run(self, trials: int) -> int:
        """Run until `trials` have finished; return how many this call ran.

        Raises:
            UsageError: if several trials in a row fail.
        """
        self.recover()
        done = finished(self.study.get_trials(deepcopy=False))
        for trial in self.study.get_trials(deepcopy=False):
            rows = records.epochs_of(trial.user_attrs)
            if rows and trial.state != TrialState.FAIL:
                self.histories[trial.number] = [row.get(self.sweep.metric, math.nan) for row in rows]
        if self.sweep.method == "grid":
            trials = min(trials, len(self.sweep.space.grid()))
        failures, ran = 0, 0
        with Progress(self.study.study_name, trials, done=len(done)) as self.progress:
            while len(done) + ran < trials:
                trial = self.run_trial()
                ran += 1
                failures = failures + 1 if trial.state == TrialState.FAIL else 0
                self.progress.step(f"{self._best_text()}{_outcome(trial)}")
                if failures >= MOST_FAILURES and failures == ran:
                    raise UsageError(f"the first {failures} trials failed; the last one: {trial.user_attrs.get(records.CAUSE)}")
        return ran


def _outcome(trial: optuna.trial.FrozenTrial) -> str:
    if trial.state == TrialState.COMPLETE:
        return f"trial {trial.number}: {trial.value:.4f}"
    if trial.state == TrialState.PRUNED:
        return f"trial {trial.number}: stopped early at epoch {trial.user_attrs.get(records.PRUNED)}"
    return f"trial {trial.number} failed: {trial.user_attrs.get(records.CAUSE)}"


def run_id_of(study_id: str, number: int, attempt: int) -> str:
    """Return the W&B run id of a trial: a function of study, trial and attempt alone."""
    return hashlib.sha256(f"{study_id}/{number}/{attempt}".encode()).hexdigest()[:10]


def run(
    sweep: Sweep,
    *,
    trials: int,
    name: str,
    seed: int = 0,
    storage: str | None = None,
    mode: str = "offline",
    device: str = "auto",
    locked_split: int = LOCKED_SPLIT,
    runs: Path = ROOT / "runs",
) -> optuna.Study:
    """Search a sweep until `trials` have finished, going on where an earlier call stopped; return the study.

    Writes `runs/NAME/study.db` (or `storage`) and W&B run files below `runs/NAME/wandb/`.

    Raises:
        UsageError: if the folder is in use by another process, or the study is that of another sweep.
    """
    resolve_mode(mode)  # a mistake here is the person's, and no trial's
    pick_device(device)
    if Path(name).name != name or name in {"", ".", ".."}:
        raise UsageError(f"the name of a study must be one part of a path, without '/'. Got {name!r}: give another with --name.")
    data = None
    if not set(sweep.space.distributions) & set(DataOptions.model_fields):
        data_options = configure(sweep.classifier, sweep.space.fixed)[1]
        data = load_data(data_options, locked_split=locked_split)
    folder = runs / name
    with only_process(folder):
        try:
            study = open_study(sweep, storage or f"sqlite:///{folder}/study.db", name, seed=seed)
            engine = Engine(sweep, study, folder, seed=seed, mode=mode, device=device, locked_split=locked_split)
            if data is not None:
                engine.keep(data_options, data)
            engine.run(trials)
        except (SQLAlchemyError, StorageInternalError, ImportError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UsageError(
                f"the study {storage or folder / 'study.db'} cannot be read or written ({reason}); finished trials stay in it: "
                "mend the cause (space, rights, address) and run the same command again."
            ) from None
    return study


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock, which the system frees when this process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "a+", encoding="utf-8")  # noqa: SIM115 (closed below; opening may fail by itself)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}): choose another folder with --runs.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise UsageError(f"{folder} is in use by process {lock.read().strip()}: wait for it, or give another --name.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
