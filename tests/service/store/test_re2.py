"""Regular expressions in filters: found as RE2 does, refused where they are none of its."""

from __future__ import annotations

import time
from typing import Any

import pytest

from paretune.core.errors import UsageError
from paretune.service.store.re2 import MOST_CHARACTERS, expression_of, found_by


@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        ("b", "abc", True),
        ("^b", "abc", False),
        ("(?i)ABC", "xabcx", True),
        ("", "", True),
        ("a", None, None),
        (r"\d+$", "run-12", True),
    ],
)
def test_an_expression_is_looked_for_anywhere_in_a_text(expression: str, text: str | None, found: bool | None) -> None:
    assert found_by(expression, text) is found


@pytest.mark.parametrize("value", ["", "a", "a" * MOST_CHARACTERS, "(?i)x|y"])
def test_an_expression_of_re2_is_taken(value: str) -> None:
    assert expression_of(value) == value


@pytest.mark.parametrize("value", ["*a", "(", "a" * (MOST_CHARACTERS + 1), r"(a)\1", "(?=a)", "(?<!a)b", 3, None, ["a"]])
def test_what_is_no_expression_of_re2_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"\$regex must be a regular expression of at most 1,000 characters"):
        expression_of(value)


def test_an_expression_that_is_slow_in_python_is_not_slow_here() -> None:
    begin = time.monotonic()
    assert found_by("^(a+)+$", "a" * 5000 + "!") is False
    assert time.monotonic() - begin < 5
