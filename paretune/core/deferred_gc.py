"""A command's start with little garbage collection.

Imports make about a million objects that stay, and the collector looks at them again and again: 0.5 of the 3.9 seconds until the
first trial of an offline sweep (measured).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

LATER = 300_000  # new objects until the next look, instead of Python's 700 or 2,000

_usual: tuple[int, int, int] | None = None  # what Python's collector did before, while a command starts
_frozen = False  # whether this process has had a start


@contextlib.contextmanager
def collecting_later() -> Iterator[None]:
    """Let the collector rest until `collect_as_usual`, or the end of the block; within another such block nothing changes."""
    global _usual
    before = gc.get_threshold()
    if _usual is not None or not before[0]:  # 0: whoever calls has switched it off
        yield
        return
    _usual = before
    gc.set_threshold(LATER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        _usual = None


def collect_as_usual() -> None:
    """End a command's start, if it is one: what is there by now stays, and is never looked at again."""
    global _frozen
    if _usual is None:
        return
    if not _frozen:  # a later start in this process may have garbage from before
        gc.freeze()
        _frozen = True
    gc.set_threshold(*_usual)
