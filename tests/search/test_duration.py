"""Durations: what is one, what is none, and how one is said."""

from __future__ import annotations

from typing import Any

import pytest

from paretune.search.duration import in_words, seconds_of


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(90, 90), (0.5, 0.5), ("90", 90), ("90s", 90), (" 10 m ", 600), ("1.5h", 5400), ("2d", 172800)],
)
def test_a_duration_is_seconds_or_a_number_with_its_unit(value: Any, seconds: float) -> None:
    assert seconds_of(value) == seconds


@pytest.mark.parametrize(
    "value", [0, -1, "0s", "", "m", "10 min", "1h30m", "1e3", float("inf"), float("nan"), "400d", True, None, [1]]
)
def test_what_is_no_duration_is_none(value: Any) -> None:
    assert seconds_of(value) is None


@pytest.mark.parametrize(("seconds", "words"), [(600, "10 m"), (90, "90 s"), (5400, "90 m"), (172800, "2 d"), (0.5, "0.5 s")])
def test_a_duration_is_said_in_its_largest_whole_unit(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
    assert seconds_of(words) == seconds
