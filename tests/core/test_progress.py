"""Progress in a log: a line per step, at most one in so many seconds, with the time that is left."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from paretune.core import progress
from paretune.core.progress import Progress, duration, print_once


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_each_step_is_a_line_with_what_is_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("a", 4, done=1) as shown:
        for text in ("x", "y", "z"):
            clock[0] += 30
            shown.step(text)
    assert capsys.readouterr().err.splitlines() == [
        "a: trial 2/4  x, 1 min 00 s left",
        "a: trial 3/4  y, 30 s left",
        "a: trial 4/4  z",
    ]


def test_lines_come_at_most_so_often_but_the_last_always(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("a", 6, unit="run", every=2.0)
    for seconds in (0.5, 1.0, 0.99, 0.01, 0.1, 0.1):
        clock[0] += seconds
        shown.step("")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines] == ["1/6", "4/6", "6/6"]


def test_several_steps_at_once_count(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("a", 10)
    clock[0] += 10
    shown.reach(5, "half")
    assert capsys.readouterr().err == "a: trial 5/10  half, 10 s left\n"


def test_silent_progress_counts_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("a", 2, silent=True)
    shown.note("x")
    shown.step("y")
    assert shown.done == 1
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Bar:
        def __init__(self, **given: Any) -> None:
            calls.append((given["total"], given["initial"]))

        def set_postfix_str(self, text: str, **_: Any) -> None:
            calls.append(text)

        def update(self, count: int) -> None:
            calls.append(count)

        def close(self) -> None:
            calls.append("closed")

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("tqdm.tqdm", Bar)
    with Progress("a", 9, done=2) as shown:
        shown.note("epoch 1")
        shown.step("x")
        shown.reach(7, "y")
    assert calls == [(9, 2), "epoch 1", "x", 1, "y", 4, "closed"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (60, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (7559, "2 h 05 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_a_duration_is_said_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_note_is_printed_once_in_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    print_once("a note of this test")
    print_once("a note of this test")
    print_once("another note of this test")
    assert capsys.readouterr() == ("", "a note of this test\nanother note of this test\n")
