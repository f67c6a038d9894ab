"""Ends of a process in the middle of a search, at a call of the engine's that the test chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from paretune.search.engine.worker import Engine


class Killed(BaseException):
    """Ends a process as kill -9 does for the study: nobody catches it, nothing is told."""


def killed_at(
    monkeypatch: pytest.MonkeyPatch, method: str, call: int, *, after: bool = False, by: type[BaseException] = Killed
) -> Callable[[], None]:
    """Let the given call of an Engine's method end the process, before (or after) it does its work; returns what undoes it."""
    original, calls = getattr(Engine, method), Counter[str]()

    def dying(self: Engine, *arguments: Any, **named: Any) -> Any:
        calls[method] += 1
        if calls[method] == call and not after:
            raise by
        result = original(self, *arguments, **named)
        if calls[method] == call:
            raise by
        return result

    monkeypatch.setattr(Engine, method, dying)
    return lambda: monkeypatch.setattr(Engine, method, original)
