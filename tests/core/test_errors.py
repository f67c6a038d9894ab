"""The words of messages: what a program or an exception said, and how it ended."""

from __future__ import annotations

import signal

import pytest

from paretune.core.errors import MOST_NAMED, MOST_QUOTED, excerpt, first_line, how_it_ended, names_there
from tests.samples import ROOT


@pytest.mark.parametrize("length", [0, 1, MOST_QUOTED - 1, MOST_QUOTED, MOST_QUOTED + 1, 10**6])
def test_at_most_500_letters_are_quoted_of_the_beginning_and_the_end(length: int) -> None:
    text = "".join(chr(ord("a") + place % 26) for place in range(length))
    found = excerpt(text)
    assert len(found) == min(length, MOST_QUOTED)
    assert found == text if length <= MOST_QUOTED else (text.startswith(found[:300]) and text.endswith(found[-150:]))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGKILL, "was killed by SIGKILL"),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-40, "was killed by signal 40"),
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (255, "exited with code 255"),
        (137, "exited with code 137 (a shell's way to say SIGKILL)"),
    ],
)
def test_how_a_process_ended_is_said_by_the_name_of_its_signal_or_its_exit_code(code: int, words: str) -> None:
    assert how_it_ended(code) == words


@pytest.mark.parametrize(
    ("name", "names", "words"),
    [
        ("val/ac", ["loss", "val/acc"], "; did you mean 'val/acc'? There are val/acc, loss."),
        ("val/acc", ["loss", "epoch/val_accuracy", "val/loss"], "; there are epoch/val_accuracy, val/loss, loss."),
        ("f1", ["loss"], "; there are loss."),
        ("f1", [], "; there is none."),
        ("x", ["b", "a", "b"], "; there are b, a."),
    ],
)
def test_an_unknown_name_is_answered_by_those_there_are_the_nearest_first(name: str, names: list[str], words: str) -> None:
    assert names_there(name, names) == words


def test_of_many_names_the_first_are_listed_and_the_others_counted() -> None:
    names = [f"layer{number}/weights" for number in range(500)]
    assert names_there("loss", names).count(",") == MOST_NAMED - 1
    assert names_there("loss", names).endswith(f" and {500 - MOST_NAMED} more.")
    assert names_there("Layer499/Weights", names).partition("There are ")[2].startswith("layer499/weights, ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("no such run."), "no such run"),
        (ValueError("no rights:\nGET /graphql"), "no rights"),
        (ValueError("\n\n  behind empty lines. \n"), "behind empty lines"),
        (ValueError(""), "ValueError"),
        (ValueError(" \n "), "ValueError"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_of_an_exception_its_first_line_is_said_or_its_type_where_it_has_none(error: Exception, words: str) -> None:
    assert first_line(error) == words


def test_no_module_takes_the_first_line_of_a_text_that_may_be_empty() -> None:
    modules = [path for room in ("paretune", "analysis", "trainers") for path in (ROOT / room).rglob("*.py")]
    lines = [(path, line) for path in modules for line in path.read_text(encoding="utf-8").splitlines()]
    taken = [(path, line) for path, line in lines if "splitlines()[0]" in line and "__doc__" not in line]
    assert not taken, "an exception may say nothing: use first_line"
