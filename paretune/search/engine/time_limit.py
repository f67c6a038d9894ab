"""The time that a trial may take, `controller.search.trial_timeout`.

Whoever trains looks at it between epochs, and while a program runs. A trial that hangs within an epoch is ended with its worker, by
the process that started the worker (places/local_pool.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from paretune.core.errors import UsageError
from paretune.search.duration import in_words


class TrialTimeoutError(UsageError):
    """A trial that took longer than it may; the message is the cause that the study keeps."""


@dataclass(frozen=True)
class TimeLimit:
    """The time that a trial has from now on; trials that train as one program share the time of all of them."""

    seconds: float
    n_trials: int = 1
    began: float = field(default_factory=lambda: time.monotonic())

    @property
    def left(self) -> float:
        """Seconds that are left, below 0 where the trial has taken longer."""
        return self.began + self.seconds * self.n_trials - time.monotonic()

    def error(self) -> TrialTimeoutError:
        """Return what ends the trial."""
        shared = f", as one of {self.n_trials} that share their time" if self.n_trials > 1 else ""
        return TrialTimeoutError(f"it took longer than its trial_timeout of {in_words(self.seconds)}{shared}")
