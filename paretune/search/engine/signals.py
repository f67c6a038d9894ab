"""Ctrl-C once: the running trials end and the sweep stops. Twice: they are given back, those of a program after its epoch."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interruption:
    """Whether the person (or a parent process) has asked this worker to stop."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.together = 1  # trials that train at the moment, as one program where there are several
        self._parent = os.getppid()
        self._asked = threading.Event()
        self._lost = False

    @property
    def asked(self) -> bool:
        """True after the first request, or when the process that started this worker has gone."""
        return self._asked.is_set() or (self.quiet and os.getppid() != self._parent)

    def wait(self, seconds: float) -> None:
        """Wait, but no longer than until somebody asks."""
        self._asked.wait(seconds)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as requests while the block runs; the second one raises KeyboardInterrupt.

        A quiet worker leaves Ctrl-C to its parent, which passes it on as SIGTERM.
        """
        before = {signal.SIGTERM: signal.signal(signal.SIGTERM, self._take)}
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN if self.quiet else self._take)
        hook = sys.unraisablehook

        def keep(unraisable: Any) -> None:
            if unraisable.exc_type is KeyboardInterrupt and self._asked.is_set():
                self._lost = True
            else:
                hook(unraisable)

        sys.unraisablehook = keep
        try:
            yield
        finally:
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise the KeyboardInterrupt that Python could not: it came while an object was collected, from where none gets out."""
        if self._lost:
            self._lost = False
            raise KeyboardInterrupt

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
        if not self.quiet:
            print(f"\n{once(self.together)}", file=sys.stderr, flush=True)


def once(n_trials: int) -> str:
    """Return what the first Ctrl-C does, and what the second one would."""
    if n_trials == 1:
        return "stopping when the running trial has ended; once more to give it back at once"
    return (
        f"stopping when the {n_trials} trials that train together have ended; once more to give them back as soon as the epoch "
        "of all has ended"
    )
