"""A command's start with little garbage collection.

Imports make some hundred thousand objects that all stay, and the collector looks at them again and again: 0.7 of the 3.7 seconds
until the first trial of an offline sweep (measured).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

LATER = 300_000  # new objects until the next look, instead of Python's 700 or 2,000

_usual: tuple[int, int, int] | None = None  # what Python's collector did before, while a command starts


@contextlib.contextmanager
def collecting_later() -> Iterator[None]:
    """Let the collector rest until `collect_as_usual`, or the end of the block."""
    global _usual
    _usual = gc.get_threshold()
    gc.set_threshold(LATER, *_usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*_usual)
        _usual = None


def collect_as_usual() -> None:
    """End a command's start, if it is one: what is there by now stays, and is never looked at again."""
    if _usual is not None and gc.get_threshold() != _usual:
        if gc.get_freeze_count() == 0:  # later starts in this process may have garbage from before
            gc.freeze()
        gc.set_threshold(*_usual)
