"""Protocols by which trial groups and the prefetcher use a worker's engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial

from paretune.search.engine.batches import Share
from paretune.search.engine.in_process import Training
from paretune.search.engine.liveness import Lease
from paretune.search.engine.signals import Interruption
from paretune.search.engine.stopping_rules import Outlook, Plan
from paretune.search.spec.sweep import Sweep

Claim = tuple[Outlook, optuna.Trial | None, dict[str, Any]]  # a trial only where there is work, and its values
Course = Generator[bool, None, FrozenTrial | None]


class Worker(Protocol):
    """One worker of a sweep, as `engine.worker.Engine` is."""

    sweep: Sweep
    study: optuna.Study
    folder: Path
    training: Training
    lease: Lease
    plan: Plan
    interruption: Interruption
    shared: bool
    shares: dict[int, Share]
    _seen: Sequence[FrozenTrial]

    def claim(self, wanted: Callable[[Sequence[FrozenTrial]], bool] | None = None) -> Claim:
        """Ask for the next configuration."""

    def look(self) -> None:
        """Read the trials as they are now."""

    def begin(self, trial: optuna.Trial) -> None:
        """Note that a trial waits no longer."""

    def run_trial(self, trial: optuna.Trial, values: dict[str, Any]) -> FrozenTrial | None:
        """Train one configuration and tell the result."""

    def course(self, trial: optuna.Trial, values: dict[str, Any]) -> Course:
        """Do what `run_trial` does, but wait after each batch of epochs."""

    def return_unfinished(self, trial: optuna.Trial) -> None:
        """Give back a trial that the person has interrupted."""

    def checkpoint_of(self, trial: optuna.Trial) -> Path:
        """Return where a trial's training leaves its state."""
