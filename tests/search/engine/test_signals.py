"""Ctrl-C asks at the first time and raises at the second, wherever in the program it comes."""

from __future__ import annotations

import os
import signal
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from paretune.search.engine.signals import Interruption


class Something:
    """What can be collected."""


def collected(callback: Callable[[Any], None]) -> None:
    """Collect an object that somebody watches, and tell the watcher."""
    something = Something()
    watcher = weakref.ref(something, callback)
    del something
    assert watcher() is None


def ctrl_c(_: Any = None) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_second_ctrl_c_raises() -> None:
    interruption = Interruption()
    with interruption.watched():
        ctrl_c()
        assert interruption.asked
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()
        interruption.check()


def test_one_that_comes_while_an_object_is_collected_is_raised_at_the_next_check(capsys: pytest.CaptureFixture[str]) -> None:
    interruption = Interruption()
    with interruption.watched():
        ctrl_c()
        collected(ctrl_c)  # nothing gets out of there
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
        interruption.check()
    assert "Traceback" not in capsys.readouterr().err


def test_other_errors_of_a_collection_are_told_as_always(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    hook = sys.unraisablehook
    interruption = Interruption()
    with interruption.watched():
        collected(lambda _: {}["none"])
        interruption.check()
    assert told == [KeyError]
    assert sys.unraisablehook is hook
