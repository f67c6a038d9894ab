"""The words of messages: what a program said, shortened, and how it ended."""

from __future__ import annotations

import signal

import pytest

from paretune.core.errors import MOST_QUOTED, how_it_ended, shortened


@pytest.mark.parametrize("length", [0, 1, MOST_QUOTED - 1, MOST_QUOTED, MOST_QUOTED + 1, 10**6])
def test_at_most_500_letters_are_quoted_of_the_beginning_and_the_end(length: int) -> None:
    text = "".join(chr(ord("a") + place % 26) for place in range(length))
    found = shortened(text)
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
