"""What was meant, where a name is near to a known one."""

from __future__ import annotations

import pytest

from paretune.core.errors import UsageError, did_you_mean


@pytest.mark.parametrize(
    ("name", "names", "words"),
    [
        ("learning_rat", ["momentum", "learning_rate"], "; did you mean 'learning_rate'?"),
        ("zzz", ["momentum", "learning_rate"], ""),
        ("x", [], ""),
        ("abcde", ["abcxy", "abcdz"], "; did you mean 'abcdz'?"),
        ("abcde", ["abcyz"], "; did you mean 'abcyz'?"),
        ("abcde", ["abxyz"], ""),
    ],
)  # difflib's ratio of abcde and abcyz is 2 * 3 / 10 = 0.6, of abcde and abxyz 0.4
def test_a_name_that_is_near_is_offered(name: str, names: list[str], words: str) -> None:
    assert did_you_mean(name, iter(names)) == words


def test_a_mistake_is_a_value_that_is_wrong() -> None:
    assert issubclass(UsageError, ValueError)
