"""Track a run in Weights & Biases: online where the person is logged in, else offline in W&B's own run files.

Nothing here touches the network without credentials. With `disabled`, wandb is not even imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.core.best_epoch import best_row
from paretune.core.errors import UsageError, first_line
from paretune.core.metrics import class_scores
from paretune.runs.sweep_outcome import SweepOutcome

if TYPE_CHECKING:
    import numpy as np

    from paretune.core.epoch import Epoch

MODES = ("auto", "online", "offline", "disabled")
PROJECT = "paretune"


@dataclass
class Tracker:
    """One run: takes epochs, keeps the best of them for the summary. `run` is None when tracking is disabled."""

    run: Any = None
    best_metric: str = "f1"
    evaluation_split: str = "holdout"
    rows: list[dict[str, float]] = field(default_factory=list)
    pruned: int | None = None  # the epoch at which the sweep stopped the run
    outcome: SweepOutcome | None = None  # what the sweep says of the run, in a sweep in process
    _committed: bool = False  # whether the newest row is in the history

    @property
    def sweep_values(self) -> dict[str, Any]:
        """What a sweep set in this run's config; empty outside a sweep."""
        return {} if self.run is None else {key: value for key, value in dict(self.run.config).items() if key != "_wandb"}

    @property
    def path(self) -> str | None:
        """The folder of the run's files, which `wandb sync` takes; None when tracking is disabled."""
        return None if self.run is None else str(Path(self.run.settings.sync_dir))

    def describe(self, values: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Complete the run's config with what the sweep did not set, and with `provenance`."""
        self.evaluation_split = str(values["evaluation_split"])
        self.best_metric = str(values["best_metric"])
        if self.run is not None:
            locked = self.sweep_values
            missing = {key: value for key, value in values.items() if key not in locked}
            self.run.config.update({**missing, "provenance": dict(provenance)})

    def log(self, epoch: Epoch) -> None:
        """Log one epoch as one row."""
        self.rows.append({"epoch": float(epoch.number), **epoch.metrics})
        self._committed = False
        if self.run is not None:
            self.run.log({"epoch": epoch.number, **epoch.metrics}, step=epoch.number)

    def log_final(self, metrics: Mapping[str, float]) -> None:
        """Add what was measured once, after the last epoch, to that epoch's row."""
        self.rows[-1].update(metrics)
        if self.run is not None:
            self.run.log(dict(metrics), step=int(self.rows[-1]["epoch"]))

    def log_confusion(self, confusion: np.ndarray, class_names: Sequence[str]) -> None:
        """Log the confusion matrix and the per-class table."""
        if self.run is None:
            return
        import wandb

        names = list(class_names)
        cells = [[names[i], names[j], int(confusion[i, j])] for i in range(len(names)) for j in range(len(names))]
        by_class = class_scores(confusion)
        table = [[name, *(float(by_class[score][i]) for score in by_class)] for i, name in enumerate(names)]
        step = int(self.rows[-1]["epoch"])
        self.run.log(
            {
                "confusion_matrix": wandb.Table(columns=["true", "predicted", "count"], data=cells),
                "per_class": wandb.Table(columns=["class", *by_class], data=table),
            },
            step=step,
        )

    def log_model(self, directory: Path, name: str) -> None:
        """Log a saved model as an artifact."""
        if self.run is None:
            return
        import wandb

        artifact = wandb.Artifact(name, type="model")
        artifact.add_dir(str(directory))
        self.run.log_artifact(artifact)

    def summarize(self) -> dict[str, Any]:
        """Return and store the summary.

        On a hold-out: every value of the best epoch, all from that one epoch, `best_epoch`, and the last epoch's under
        `last`. On the locked test part nothing may be picked: the last values alone.
        """
        summary: dict[str, Any] = {}
        if self.rows:
            last = self.rows[-1]
            best = best_row(self.rows, self.best_metric) if self.evaluation_split == "holdout" else None
            summary = dict(last) if best is None else {**best, "best_epoch": int(best["epoch"]), "last": dict(last)}
        if self.pruned is not None:
            summary["pruned"] = self.pruned
            self.outcome = replace(self.outcome or SweepOutcome(), pruned=self.pruned)
        if self.outcome is not None:
            summary |= self.outcome.to_summary()
        if self.run is not None and summary:
            if self.rows and not self._committed:  # W&B keeps the newest row open; written later, it would overwrite the summary
                self.run.log({}, step=int(self.rows[-1]["epoch"]), commit=True)
                self._committed = True
            self.run.summary.update(summary)
        return summary


@contextmanager
def track(
    *,
    mode: str = "auto",
    project: str | None = None,
    name: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    tags: Sequence[str] = (),
    run_id: str | None = None,
    directory: Path | None = None,
    quiet: bool = False,
    beside: bool = False,
) -> Iterator[Tracker]:
    """Open a run, finish it when the block ends, and mark it failed when the block raises.

    Args:
        mode: `auto` is WANDB_MODE where it is set, else online with credentials, else offline.
        directory: where the `wandb/` folder of run files goes; W&B's own default (WANDB_DIR, then here) if None.
        quiet: print nothing and watch neither console nor machine, for sweeps in process.
        beside: other runs of this process are open at the same time.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # crash reports go to a third party; must stand before wandb starts
    mode = resolve_mode(mode)
    if mode == "disabled":
        tracker = Tracker()
        yield tracker
        tracker.summarize()
        return
    import wandb

    settings = wandb.Settings(
        quiet=quiet,
        silent=quiet,
        console="off" if quiet else "auto",
        x_disable_stats=quiet,
        x_disable_machine_info=quiet or mode == "offline",  # its probe asks a cloud address
        disable_git=quiet,
        disable_code=quiet,
        disable_job_creation=True,
    )
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(
            project=project or os.environ.get("WANDB_PROJECT") or PROJECT,
            name=name,
            group=group,
            job_type=job_type,
            tags=list(tags) or None,
            id=run_id,
            dir=None if directory is None else str(directory),
            mode=mode,  # type: ignore[arg-type]
            settings=settings,
            reinit="create_new" if beside else None,
        )
    except wandb.Error as error:
        reason = first_line(error)
        raise UsageError(f"W&B could not start the run ({reason}); use --wandb=offline to go on without it.") from None
    run.define_metric("epoch")
    run.define_metric("*", step_metric="epoch")
    told = not settings.x_disable_machine_info  # then the server knows when the run began, else only when it was uploaded
    tracker = Tracker(run, outcome=None if told else SweepOutcome(created=run.start_time))
    try:
        yield tracker
        tracker.summarize()
    except BaseException as error:
        tracker.summarize()
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        run.finish(exit_code=code)
        raise
    run.finish(exit_code=1 if tracker.outcome is not None and tracker.outcome.cause else 0)


def resolve_mode(mode: str) -> str:
    """Return `online`, `offline` or `disabled`: of `auto`, what WANDB_MODE, else `wandb offline` or `wandb disabled` have said.

    Where nobody has said anything, runs are online for who is logged in.

    Raises:
        UsageError: if the mode is not one of MODES.
    """
    if mode not in MODES:
        raise UsageError(f"wandb must be one of {', '.join(MODES)}. Got {mode!r}.")
    if mode != "auto":
        return mode
    asked = os.environ.get("WANDB_MODE", "")
    if asked in {"online", "offline", "disabled"}:
        return asked
    if asked == "dryrun":
        return "offline"
    otherwise = "online" if logged_in() else "offline"  # first, as it says where the client is missing
    import wandb

    said = wandb.setup().settings.mode  # by the settings files of this folder and of the person
    return {"offline": "offline", "dryrun": "offline", "disabled": "disabled"}.get(said, otherwise)


def check_online(sweep_file: str = "") -> None:
    """Refuse to search at W&B where the person has no credentials, or has said that W&B shall be offline or disabled.

    Raises:
        UsageError: in one sentence.
    """
    instead = f"search offline: python sweeps/offline.py{f' {sweep_file}' if sweep_file else ''}."
    if not logged_in():
        raise UsageError(f"an online sweep needs W&B credentials: log in with 'wandb login', or {instead}")
    mode = resolve_mode("auto")
    if mode != "online":
        raise UsageError(
            f"an online sweep needs W&B, which is {mode} here, by WANDB_MODE or by 'wandb {mode}': change that with "
            f"WANDB_MODE=online or 'wandb online', or {instead}"
        )


def api_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what W&B's API raises where the server refuses or does not answer, and what else shall be caught with it."""
    import requests
    import wandb

    try:
        from wandb.sdk.lib.service.service_connection import WandbApiFailedError
    except ImportError:  # older ones ask the server without their service
        return (wandb.Error, requests.RequestException, *more)
    return (wandb.Error, WandbApiFailedError, requests.RequestException, *more)


def logged_in() -> bool:
    """Whether W&B's credentials for its host are on this machine. Looks at files and the environment, never at a server.

    Raises:
        UsageError: where the client is not installed, as in a Python that is not this project's.
    """
    try:
        import wandb
        from wandb.sdk.lib import wbauth
    except ModuleNotFoundError:
        raise UsageError(
            f"wandb is not installed for {sys.executable}: activate the environment of 'make setup' first, "
            "by source .venv/bin/activate."
        ) from None
    try:
        host = wandb.setup().settings.base_url
        return wbauth.authenticate_session(host=host, source="paretune", prompt=False, update_session=False) is not None
    except wandb.Error:
        return False
