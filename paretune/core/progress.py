"""Progress of long work on stderr: a bar on a terminal, a line per step elsewhere; best so far and time left."""

from __future__ import annotations

import functools
import sys
import time
from types import TracebackType
from typing import Any, Self


class Progress:
    """A bar over `total` steps of which `done` are already behind us.

    On a terminal it is redrawn in place (tqdm); in a log a step prints one line, at most one in `every` seconds.
    """

    def __init__(
        self, label: str, total: int, *, done: int = 0, unit: str = "trial", every: float = 0.0, silent: bool = False
    ) -> None:
        self._silent = silent
        self.label, self.total, self.done, self.unit = label, total, done, unit
        self._begin, self._before = time.monotonic(), done
        self._every, self._printed = every, -every
        self._bar: Any = None
        if sys.stderr.isatty() and not silent:
            from tqdm import tqdm

            form = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
            self._bar = tqdm(total=total, initial=done, desc=label, unit=unit, dynamic_ncols=True, bar_format=form)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def note(self, text: str) -> None:
        """Show what happens within the current step (terminals only)."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def step(self, text: str) -> None:
        """Count one step and show `text` beside it."""
        self.reach(self.done + 1, text)

    def reach(self, done: int, text: str) -> None:
        """Show that `done` steps are behind us, and `text` beside it."""
        before, self.done = self.done, done
        if self._silent:
            return
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(done - before)
            return
        now = time.monotonic()
        if now - self._printed < self._every and self.done < self.total:
            return
        self._printed = now
        seconds = (time.monotonic() - self._begin) / max(self.done - self._before, 1) * (self.total - self.done)
        left = f", {duration(seconds)} left" if self.done < self.total else ""
        print(f"{self.label}: {self.unit} {self.done}/{self.total}  {text}{left}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return `5 s`, `3 min 20 s` or `2 h 05 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


@functools.cache  # a sweep reads its data again and again
def print_once(line: str) -> None:
    """Print a note once per process; standard output is for results."""
    print(line, file=sys.stderr)
