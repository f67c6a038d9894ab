"""Run a sweep without account or network: ask, train, track, tell; in one process or many, on one machine or many.

The heart is `run_trial`: ask -> epochs -> tell. Every epoch goes into the study as it comes, so that a kill at any moment
loses no finished trial, and a trial that had ended but was not told is told by whoever comes next, not trained again.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import math
import os
import socket
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from paretune.core.devices import pick_device
from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.core.progress import Progress
from paretune.core.provenance import git_commit, versions
from paretune.data.options import LOCKED_SPLIT, DataOptions
from paretune.models.run_config import configure
from paretune.runs import study_schema
from paretune.runs.study_storage import StudyFile, is_local, readable_errors, settle
from paretune.runs.sweep_outcome import SweepOutcome
from paretune.runs.tracking import PROJECT, resolve_mode
from paretune.runs.wandb_files import RunFile
from paretune.search.engine.batches import Share
from paretune.search.engine.contract import Claim, Course
from paretune.search.engine.in_process import Attempt, Batch, InProcess, Training
from paretune.search.engine.in_subprocess import Command
from paretune.search.engine.liveness import SECONDS, Claims, Lease, Watch, left_behind, running, shared_cache, waits
from paretune.search.engine.signals import Interruption
from paretune.search.engine.stopping_rules import Outlook, Plan
from paretune.search.engine.study import (
    best_trial,
    cause_of,
    check_same_data,
    counted_row,
    enqueue_retry,
    fail_trial,
    finished,
    open_study,
    storage_errors,
    why_no_value,
    without_retry,
)
from paretune.search.engine.time_limit import TimeLimit
from paretune.search.engine.trial_groups import run_with_others
from paretune.search.places.process_groups import check_groups, end_orphan
from paretune.search.sampling.prefetch import Ahead
from paretune.search.sampling.slot_sampler import draw
from paretune.search.spec.hyperband import History
from paretune.search.spec.sweep import Sweep
from paretune.search.spec.user_study import bring_own_study

MOST_FAILURES = 3  # in a row at the start, before the sweep gives up
MOST_ATTEMPTS = 4  # at one trial, where its worker dies
WRITTEN_TOGETHER = 100  # epochs at most, in one write
OWN_FILES = {"study.db", "claims.lock", "workers", "wandb", "checkpoints", "trials", "cache"}  # one of them in each study's folder
CURVE = 20  # epochs of a batch at most, that go into Optuna's own curve of a trial


@dataclass
class Engine:
    """One worker of a sweep: its study, its lease, and the histories that pruning compares."""

    sweep: Sweep
    study: optuna.Study
    folder: Path
    training: Training
    lease: Lease
    plan: Plan
    watch: Watch
    progress: Progress | None = None
    own_space: Callable[[optuna.Trial], Any] | None = None
    histories: dict[int, History] = field(default_factory=dict)
    interruption: Interruption = field(default_factory=Interruption)
    trial_timeout: float | None = None  # seconds that a trial may take
    shared: bool = False  # whether the study has an address of its own, under which other machines may join at any time
    file: StudyFile | None = None

    def __post_init__(self) -> None:
        self._claims = Claims(self.folder)
        self.study_id = str(self.study.user_attrs.get(study_schema.STUDY_ID, ""))
        self._best = ""
        self._unbuilt: FrozenTrial | None = None  # a trial whose values could not be drawn
        self._seen: Sequence[FrozenTrial] = ()  # the trials as the last claim found them
        self.shares: dict[int, Share] = {}  # of the trials that train together with others
        self._suggested: dict[int, float] = {}  # seconds that the sampler took, by trial

    # Asking

    def claim(self, wanted: Callable[[Sequence[FrozenTrial]], bool] | None = None) -> Claim:
        """Ask for the next configuration: the outlook, and, where there is work, a trial and its values.

        Settles what dead workers left behind on the way. One process of this machine at a time.

        Args:
            wanted: of a trial that is to wait beside another one of this worker, until `begin`: whether to ask for it, given
                all trials.
        """
        if self.file is not None:
            self.file.check()
        with self._claims:
            ended = left_behind(self.folder)
            trials = self.settle()
            for path in ended:  # their trials are settled now
                path.unlink(missing_ok=True)
            self._seen = trials
            outlook = Outlook.DONE if self.interruption.asked else self.plan.outlook(trials)
            if self.plan.terminated:
                self.study.set_user_attr(study_schema.TERMINATED, len(finished(trials)))
            if outlook is not Outlook.WORK or not (wanted is None or wanted(trials)):
                return outlook, None, {}
            begin = time.perf_counter()
            trial = self._ask(trials)
            trial.set_user_attr(study_schema.WORKER, self.lease.sign(waits=wanted is not None))
            try:
                values = draw(trial, self.sweep, self.own_space)
            except UsageError as error:  # the person's own space
                self._unbuilt = self.fail(trial.number, str(error))
                return outlook, None, {}
            except optuna.TrialPruned:  # by the person's own space, too
                self._unbuilt = self.study.tell(trial.number, state=TrialState.PRUNED)
                return outlook, None, {}
        self._suggested[trial.number] = round(time.perf_counter() - begin, 4)
        if not self.watch.local and self._surplus(trial):
            return Outlook.WAIT, None, {}
        return outlook, trial, values

    def look(self) -> None:
        """Read the trials as they are now, as a claim does."""
        self._seen = self.study.get_trials(deepcopy=False)

    def _ask(self, trials: list[FrozenTrial]) -> optuna.Trial:
        """Do what `Study.ask` does, on the trials that were just read; it and the sampler would each read them again."""
        storage, study = self.study._storage, self.study
        study._thread_local.cached_all_trials = trials
        for waiting in trials:
            if waiting.state == TrialState.WAITING:
                with contextlib.suppress(UpdateFinishedTrialError):
                    if storage.set_trial_state_values(waiting._trial_id, state=TrialState.RUNNING):
                        return optuna.Trial(study, waiting._trial_id)
        trial_id = storage.create_new_trial(study._study_id)
        if storage.get_trial_number_from_id(trial_id) != len(trials):  # another machine has asked since
            study._thread_local.cached_all_trials = self.study.get_trials(deepcopy=False)
        return optuna.Trial(study, trial_id)

    def settle(self) -> list[FrozenTrial]:
        """Tell the trials of dead workers that had ended, give the rest back; return the trials as they then are."""
        trials = self.study.get_trials(deepcopy=False)
        dead = [trial for trial in running(trials) if self.watch.dead(trial)]
        for trial in dead:
            self._end_program(trial)
            rows = study_schema.epochs_of(trial.user_attrs)
            if rows and (rows[-1][study_schema.LAST] or trial.user_attrs.get(study_schema.PRUNED)):
                if self.tell(trial, rows) is not None:
                    self.checkpoint_of(trial).unlink(missing_ok=True)
            else:
                self.give_back(trial, died=not waits(trial))
        lost = without_retry(trials)
        for trial in lost:
            self._retry(trial, died=not waits(trial))
        return self.study.get_trials(deepcopy=False) if dead or lost else trials

    def _end_program(self, trial: FrozenTrial) -> None:
        """End what a dead worker of this machine has left running."""
        run = trial.user_attrs.get(study_schema.RUN, {})
        if self.sweep.classifier is None and run.get("path") and run.get("host") == socket.gethostname():
            end_orphan(self.folder / run["path"])

    def give_back(self, trial: FrozenTrial, *, died: bool = True) -> None:
        """Mark a trial as interrupted and let it be tried again; after MOST_ATTEMPTS deaths it has failed.

        Only who moves the trial from running to failed asks for the retry.
        """
        attempt = trial.user_attrs.get(study_schema.ATTEMPT, 0)
        if died and attempt + 1 >= MOST_ATTEMPTS:
            self.fail(trial.number, f"its worker died {MOST_ATTEMPTS} times, last on {_host_of(trial)}")
        elif self.fail(trial.number, study_schema.INTERRUPTED) is not None:
            self._retry(trial, died=died)

    def _retry(self, trial: FrozenTrial, *, died: bool) -> None:
        enqueue_retry(self.study, trial, died=died)

    def _surplus(self, trial: optuna.Trial) -> bool:
        """Withdraw a trial that another machine has asked for as well; the lower numbers stay."""
        trials = self.study.get_trials(deepcopy=False)
        retry = trial.user_attrs.get(study_schema.RETRY_OF)
        twin = any(other.user_attrs.get(study_schema.RETRY_OF) == retry and other.number < trial.number for other in trials)
        if (retry is not None and twin) or self.plan.beyond(trial.number, trials):
            self.fail(trial.number, study_schema.SURPLUS)
            return True
        return False

    # Training

    def begin(self, trial: optuna.Trial) -> None:
        """Note that a trial waits no longer: from here on the death of its worker may be its fault."""
        if waits(trial):
            with contextlib.suppress(UpdateFinishedTrialError):  # its training finds that out as well
                trial.set_user_attr(study_schema.WORKER, self.lease.sign())

    def run_trial(self, trial: optuna.Trial, values: dict[str, Any]) -> FrozenTrial | None:
        """Train one configuration and tell the result; return the told trial, None where another worker has taken it over."""
        return ended(self.course(trial, values))

    def course(self, trial: optuna.Trial, values: dict[str, Any]) -> Course:
        """Do what `run_trial` does, but wait after each batch of epochs; says whether the trial is to stop with it."""
        with contextlib.ExitStack() as beating:  # until it is told, too, which waits for its program's W&B client
            try:
                beating.enter_context(self.lease.beating(self.study, trial._trial_id))
                rows = yield from self._train(trial, values)
            except UpdateFinishedTrialError:  # this worker was taken for dead
                return None
            except KeyboardInterrupt:
                self.return_unfinished(trial)
                raise
            except storage_errors():
                raise
            except Exception as error:
                if not isinstance(error, UsageError):
                    with contextlib.suppress(UpdateFinishedTrialError):
                        trial.set_user_attr("traceback", traceback.format_exc())
                return self.fail(trial.number, cause_of(error))
            return self.tell(trial, rows)

    def return_unfinished(self, trial: optuna.Trial) -> None:
        """Give back a trial of this worker that the person has interrupted."""
        with self._claims:
            self.give_back(self._frozen(trial.number), died=False)

    def checkpoint_of(self, trial: optuna.Trial | FrozenTrial) -> Path:
        """Return where a trial's training leaves its state; its retries have the same file."""
        return checkpoint_of(self.folder, trial)

    def _train(self, trial: optuna.Trial, values: dict[str, Any]) -> Generator[bool, None, list[dict[str, Any]]]:
        """Train, putting every epoch into the study; return the rows of the history."""
        attributes, checkpoint = trial.user_attrs, self.checkpoint_of(trial)
        run_id = run_id_of(self.study_id, trial.number, attributes.get(study_schema.ATTEMPT, 0))

        def started(config: dict[str, Any], path: str | None) -> None:
            relative = None if path is None else os.path.relpath(path, self.folder)
            run: dict[str, Any] = {"id": run_id, "host": socket.gethostname(), "path": relative, "config": config}
            if isinstance(self.training, Command):
                run["origin"] = {"commit": git_commit(), "versions": versions()}
            if trial.number in self._suggested:
                run["suggested"] = self._suggested.pop(trial.number)
            trial.set_user_attr(study_schema.RUN, run)

        share = self.shares.get(trial.number)
        limit = None if self.trial_timeout is None else TimeLimit(self.trial_timeout, 1 if share is None else len(self.shares))
        epochs = self.training.epochs(
            Attempt(
                run_id=run_id,
                name=f"{self.study.study_name}-{trial.number}",
                group=self.study.study_name,
                tags=["baseline"] if attributes.get(study_schema.BASELINE) else [],
                folder=self.folder,
                started=started,
                begun=study_schema.begun(trial),
                checkpoint=checkpoint,
                earlier=self._earlier(attributes.get(study_schema.RETRY_OF)),
                share=share,
                limit=limit,
            ),
            values,
        )
        rows: dict[int, dict[str, Any]] = {}
        self.histories[trial.number] = []
        with contextlib.suppress(StopIteration), contextlib.closing(epochs):
            batch = next(epochs)
            while True:
                try:
                    stop = self._observe(trial, rows, batch)
                    yield stop is not None
                except BaseException as error:
                    epochs.throw(error)  # so that its run says how it ended
                    raise
                over = limit is not None and limit.left <= 0 and stop is None and not batch.ended
                batch = epochs.throw(limit.error()) if limit is not None and over else epochs.send(stop)
        checkpoint.unlink(missing_ok=True)
        return [rows[number] for number in sorted(rows)]

    def _earlier(self, number: int | None) -> list[Epoch]:
        """Return the epochs that the try before has recorded."""
        if number is None:
            return []
        found = []
        for row in study_schema.epochs_of(self._frozen(number).user_attrs):
            metrics = {name: value for name, value in row.items() if name not in {"epoch", study_schema.LAST}}
            found.append(Epoch(row["epoch"], metrics, row[study_schema.LAST]))
        return found

    def _observe(self, trial: optuna.Trial, rows: dict[int, dict[str, Any]], batch: Batch) -> int | None:
        """Put epochs into the study and the rows; return the one at which the trial is to stop."""
        self.interruption.check()
        new, stop = [], None
        curve: dict[int, float] = {}
        history = self.histories[trial.number]
        own_pruner = not isinstance(self.study.pruner, optuna.pruners.NopPruner)
        for epoch in batch.epochs:
            values = [epoch.metrics.get(name, math.nan) for name in self.sweep.goals]
            metrics = {name: value for name, value in epoch.metrics.items() if name != "epoch"}  # programs count in their own way
            new.append({"epoch": epoch.number, **metrics, study_schema.LAST: epoch.last})
            if epoch.number not in rows:
                bisect.insort(history, (epoch.number, values))
                if len(values) == 1 and math.isfinite(values[0]) and not (epoch.number == 1 and epoch.last):
                    curve[epoch.number] = values[0]  # a single epoch needs no curve beside its value
                    if own_pruner:
                        trial.report(values[0], step=epoch.number)
            rows[epoch.number] = new[-1]
            if not batch.ended and ((own_pruner and epoch.number in curve and trial.should_prune()) or self._stops(history)):
                stop = epoch.number
                break
        for place in range(0, len(new), WRITTEN_TOGETHER):
            trial.set_user_attr(*study_schema.epochs_entry(new[place : place + WRITTEN_TOGETHER]))
        if not own_pruner:
            steps = list(curve)
            for step in steps[:: -max(1, -(-len(steps) // CURVE))][::-1]:  # the last one among them
                trial.report(curve[step], step=step)
        if self.progress is not None and new:
            shown = ", ".join(f"{name} {new[-1].get(name, math.nan):.4f}" for name in self.sweep.goals)
            self.progress.note(f"{self._best}trial {trial.number}, epoch {new[-1]['epoch']}: {shown}")
        if stop is not None:
            trial.set_user_attr(study_schema.PRUNED, stop)
        return stop

    def _stops(self, history: History) -> bool:
        """Whether a trial is to stop after the last epoch of its history, by the sweep's `early_terminate`."""
        rule = self.sweep.early_terminate
        if rule is None:
            return False
        before, now = history[-2][0] if len(history) > 1 else 0, history[-1][0]
        if any(before < bracket <= now for bracket in rule.brackets):
            self._learn()
        histories = list(self.histories.values())  # of this moment: a claim ahead may settle another worker's trial
        return rule.should_stop(history, histories, list(self.sweep.goals.values()))

    def _learn(self) -> None:
        """Take over the histories of the trials as the study has them: other workers train some, and failed ones do not count."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.FAIL:
                self.histories.pop(trial.number, None)
                continue
            known, rows = self.histories.get(trial.number), study_schema.epochs_of(trial.user_attrs)
            if rows and (not known or known[-1][0] < rows[-1]["epoch"]):
                self.histories[trial.number] = [
                    (row["epoch"], [row.get(name, math.nan) for name in self.sweep.goals]) for row in rows
                ]

    # Telling

    def tell(self, trial: optuna.Trial | FrozenTrial, rows: Sequence[dict[str, Any]]) -> FrozenTrial | None:
        """Tell the study how a trial ended, from its epochs; None where it was told already."""
        number = trial.number
        with contextlib.suppress(UpdateFinishedTrialError, ValueError):
            pruned = trial.user_attrs.get(study_schema.PRUNED)
            if pruned:
                self._write_outcome(trial, pruned=pruned)
                return self.study.tell(number, state=TrialState.PRUNED)
            best = counted_row(rows, self.sweep.goals, ours=self.sweep.classifier is not None)
            if best is None:
                return self.fail(number, why_no_value(rows, self.sweep.goals, ours=self.sweep.classifier is not None))
            if self.sweep.settings.constraints:
                self._constrain(trial, best)
            self._write_outcome(trial, row=best)
            return self.study.tell(number, [best[name] for name in self.sweep.goals])
        return None

    def _constrain(self, trial: optuna.Trial | FrozenTrial, row: dict[str, Any]) -> None:
        config = trial.user_attrs.get(study_schema.RUN, {}).get("config", {})
        live = trial if isinstance(trial, optuna.Trial) else optuna.Trial(self.study, trial._trial_id)
        for text, violation in self.sweep.violations(config, row).items():
            live.set_constraint(text, violation)

    def _write_outcome(self, trial: optuna.Trial | FrozenTrial, **outcome: Any) -> None:
        """Write what the sweep says of a trial into its run; a training of ours that ended in this process has done that itself."""
        own = trial.user_attrs.get(study_schema.WORKER, {}).get("lock") == str(self.lease.path)
        if isinstance(self.training, Command) or not own:
            write_outcome(self.training, self.study.study_name, self.folder, trial, **outcome)

    def fail(self, number: int, cause: str) -> FrozenTrial | None:
        """Tell the study that a trial failed, and why; None where it had ended already."""
        self.histories.pop(number, None)
        trial = self._frozen(number)
        if not trial.state.is_finished():
            self._write_outcome(trial, cause=cause)
        told = fail_trial(self.study, trial, cause)
        if told is not None and cause not in study_schema.UNCOUNTED:  # nobody goes on from where it stood
            self.checkpoint_of(trial).unlink(missing_ok=True)
        return told

    def _frozen(self, number: int) -> FrozenTrial:
        storage = self.study._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number))

    # The loop

    def run(self) -> int:
        """Work until the plan is done or the person interrupts; return how many trials this worker ran.

        Raises:
            UsageError: if the first trials of the study all fail.
        """
        self._learn()
        ended, ran = finished(self.study.get_trials(deepcopy=False)), 0
        self._best = best_text(ended, self.sweep)
        bar = Progress(self.study.study_name, self.plan.trials, done=len(ended), silent=self.interruption.quiet)
        with bar as self.progress, contextlib.closing(Ahead(self)) as ahead:
            told: FrozenTrial | None = None
            while not (self.interruption.asked and told is None):
                if told is not None:
                    self._check_failures(told)
                outlook, trial, values = ahead.take()
                if told is not None:
                    ended = finished(self._seen)
                    self._best = best_text(ended, self.sweep)
                    self.progress.reach(len(ended), f"{self._best}{outcome(told)}")
                told = None
                if outlook is Outlook.DONE:
                    break
                if trial is not None:
                    with ahead.drawing(trial):
                        for told in run_with_others(self, trial, values):
                            ran += told is not None
                elif outlook is Outlook.WAIT:
                    self.interruption.wait(0.5)
                else:
                    told, self._unbuilt = self._unbuilt, None
        return ran

    def _check_failures(self, told: FrozenTrial) -> None:
        """Give up where nothing but failures has come so far; before another trial is asked for, which would be left running."""
        if told.state != TrialState.FAIL:
            return
        ended = finished(self.study.get_trials(deepcopy=False))
        if len(ended) >= MOST_FAILURES and all(trial.state == TrialState.FAIL for trial in ended):
            raise UsageError(f"the first {len(ended)} trials failed; the last one: {told.user_attrs.get(study_schema.CAUSE)}")


def write_outcome(
    training: Training,
    study: str,
    folder: Path,
    trial: optuna.Trial | FrozenTrial,
    *,
    row: dict[str, Any] | None = None,
    pruned: int | None = None,
    cause: str = "",
) -> None:
    """Write what a sweep says of a trial into the trial's W&B run, where it has one on this machine.

    Args:
        study: its name.
        folder: of the study.
        row: that gave the trial its values.
    """
    run, sweep = trial.user_attrs.get(study_schema.RUN, {}), training.sweep
    if not run.get("id") or not run.get("path") or not (folder / run["path"]).is_dir():
        return
    baseline, config, begun = bool(trial.user_attrs.get(study_schema.BASELINE)), run.get("config", {}), study_schema.begun(trial)
    known = RunFile(
        run["id"],
        name=f"{study}-{trial.number}",
        group=study,
        project=sweep.project or os.environ.get("WANDB_PROJECT") or PROJECT,
        entity=sweep.entity or "",
        created=begun or math.nan,
        config=config,
        tags=["baseline"] if baseline else [],
    )
    outcome = sweep.judged(SweepOutcome(sweep.goals, baseline, pruned=pruned, cause=cause, created=begun), config, row)
    training.write_outcome(known, folder / run["path"], outcome)


def ended(course: Course) -> FrozenTrial | None:
    """Go through a trial's course to its end and return the told trial."""
    while True:
        try:
            next(course)
        except StopIteration as end:
            told: FrozenTrial | None = end.value
            return told


def best_text(trials: Sequence[FrozenTrial], sweep: Sweep) -> str:
    """Return the best value so far for a line of progress; empty where there is none."""
    best = best_trial(trials, sweep.goals, ours=sweep.classifier is not None)
    return "" if best is None else f"best {sweep.metric} {best.values[0]:.4f} (trial {best.number}); "


def outcome(trial: FrozenTrial) -> str:
    """Return in a few words how a trial ended."""
    if trial.state == TrialState.COMPLETE:
        return f"trial {trial.number}: {', '.join(f'{value:.4f}' for value in trial.values)}"
    if trial.state == TrialState.PRUNED:
        epoch = trial.user_attrs.get(study_schema.PRUNED)
        return f"trial {trial.number}: {'pruned by its search space' if epoch is None else f'stopped early at epoch {epoch}'}"
    return f"trial {trial.number} failed: {trial.user_attrs.get(study_schema.CAUSE)}"


def _host_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(study_schema.WORKER, {}).get("host", "an unknown machine"))


def checkpoint_of(folder: Path, trial: optuna.Trial | FrozenTrial) -> Path:
    """Return where a trial's training leaves its state, in a study's folder; its retries have the same file."""
    return folder / "checkpoints" / f"{trial.user_attrs.get(study_schema.ORIGIN, trial.number)}.pt"


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
    lease_seconds: float = SECONDS,
    before: Callable[[optuna.Study], None] | None = None,
    interruption: Interruption | None = None,
    cache: Path | None = None,
    trial_timeout: float | None = None,
) -> optuna.Study:
    """Search a sweep until `trials` have finished, going on where an earlier call stopped; return the study.

    Writes `runs/NAME/study.db` (or `storage`) and W&B run files below `runs/NAME`. Any number of processes may do so at the
    same time. `before` is called with the study once it is open, for warm starts.

    Args:
        trial_timeout: seconds that a trial may take, in place of those that the sweep says.

    Raises:
        UsageError: if a mistake of the person's shows, or the study is that of another sweep.
    """
    check_options(name, mode, device)
    folder = runs / name
    url = storage or f"sqlite:///{folder}/study.db"
    training = training_of(sweep, mode=mode, device=device, locked_split=locked_split, cache=cache)
    alone = shared_cache(folder) if cache is None else contextlib.nullcontext()
    with make_folder(folder), alone, Lease(folder, seconds=lease_seconds) as lease, readable_errors(url):
        with Claims(folder):
            study = open_study(sweep, url, name, seed=seed)
            if isinstance(training, InProcess):
                training.checks(functools.partial(check_same_data, study))
            if before is not None:
                before(study)
            terminator = bring_own_study(sweep, study, name)
        watch = Watch(seconds=lease_seconds, local=is_local(url), folder=None if storage else folder)
        file = StudyFile(url)
        engine = Engine(
            sweep,
            study,
            folder,
            training,
            lease,
            Plan(sweep, trials, terminator=lambda: terminator is not None and bool(terminator(study))),
            watch,
            own_space=None if sweep.scheduler is None else sweep.scheduler.space_of(),
            interruption=interruption or Interruption(),
            trial_timeout=trial_timeout or sweep.settings.trial_timeout,
            shared=storage is not None,
            file=file,
        )
        try:
            engine.run()
        finally:
            file.check()  # before anything opens it, which would make an empty one; it is why another error came, too
            with Claims(folder):
                settle(study)
    return study


def check_options(name: str, mode: str, device: str) -> None:
    """Refuse what no trial can mend.

    Raises:
        UsageError: naming the option.
    """
    resolve_mode(mode)
    pick_device(device)
    if Path(name).name != name or name in {"", ".", ".."}:
        raise UsageError(f"the name of a study must be one part of a path, without '/'. Got {name!r}: give another with --name.")


def training_of(sweep: Sweep, *, mode: str, device: str, locked_split: int = LOCKED_SPLIT, cache: Path | None = None) -> Training:
    """Return what trains the trials: in process for our classifiers (with the data loaded), else a process per trial."""
    if sweep.classifier is None:
        check_groups()
        if resolve_mode(mode) == "disabled":
            raise UsageError(
                f"{sweep.path}: the metrics of {sweep.program} are read from its W&B run, and W&B is disabled here (by --wandb, "
                "WANDB_MODE or 'wandb disabled'): use --wandb=offline."
            )
        return Command(sweep, resolve_mode(mode))
    training = InProcess(sweep, mode, device, locked_split, cache)
    searched = {parameter.path[0] for parameter in sweep.space.parameters.values()}
    if not searched & set(DataOptions.model_fields) and sweep.settings.over != "folds":
        training.data_for(configure(sweep.classifier, _whole(sweep))[1])
    return training


def _whole(sweep: Sweep) -> dict[str, Any]:
    """Return the fixed values without those that nested parameters complete."""
    nested = {parameter.path[0] for parameter in sweep.space.parameters.values() if len(parameter.path) > 1}
    return {name: value for name, value in sweep.space.fixed.items() if name not in nested}


@contextlib.contextmanager
def make_folder(folder: Path) -> Any:
    """Make a study's folder.

    Raises:
        UsageError: if it cannot be made, or is one that holds other files: ours could take their names.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}): choose another folder with --runs.") from None
    if names and not names & OWN_FILES:
        shown = f"{', '.join(sorted(names)[:3])}{' …' if len(names) > 3 else ''}"
        raise UsageError(
            f"{folder} must be a new folder or one of a study. Got {shown} in it: give the study another name with --name."
        )
    yield
