"""W&B's hyperband rule, worked out by hand: brackets, the parting value, strictness and direction."""

from __future__ import annotations

from typing import Any

import pytest

from search.hyperband import Hyperband, read_hyperband
from trainers.errors import UsageError


@pytest.mark.parametrize(
    ("given", "brackets"),
    [
        ({"min_iter": 3}, (3, 9, 27, 81)),
        ({"min_iter": 8, "eta": 3}, (8, 24, 72, 216)),
        ({"min_iter": 2, "eta": 2}, (2, 4, 8, 16)),
        ({"max_iter": 27, "s": 2}, (3, 9)),
        ({"max_iter": 27, "s": 2, "eta": 3}, (3, 9)),
        ({"max_iter": 100, "s": 3, "eta": 2}, (12, 25, 50)),
        ({"max_iter": 10, "s": 9, "eta": 3}, (1, 3)),
    ],
)
def test_brackets_are_powers_of_eta(given: dict[str, Any], brackets: tuple[int, ...]) -> None:
    found = read_hyperband({"type": "hyperband", **given}, "a.yaml").brackets
    assert found[: len(brackets)] == brackets
    if "max_iter" in given:
        assert found == brackets


RULE = Hyperband(brackets=(2, 4), eta=3.0)


def test_no_run_stops_before_the_first_bracket() -> None:
    assert not RULE.should_stop([9.0], [[9.0], [1.0, 1.0], [1.0, 1.0]], "minimize")


def test_the_best_third_at_a_bracket_goes_on() -> None:
    # At epoch 2 the six runs stand at 1, 2, 3, 4, 5, 6: sorted[int(6 / 3)] = 3 parts them.
    runs = [[9.0, float(value)] for value in (1, 2, 3, 4, 5, 6)]
    assert [RULE.should_stop(run, runs, "minimize") for run in runs] == [False, False, False, True, True, True]


def test_maximize_turns_the_rule_round() -> None:
    runs = [[0.0, float(value)] for value in (1, 2, 3, 4, 5, 6)]
    assert [RULE.should_stop(run, runs, "maximize") for run in runs] == [True, True, True, False, False, False]


def test_a_run_is_judged_by_its_best_value_so_far() -> None:
    others = [[9.0, 1.0], [9.0, 2.0], [9.0, 3.0]]  # sorted with mine: 1, 2, 3, 8; [int(4 / 3)] = 2
    mine = [1.5, 8.0]
    assert not RULE.should_stop(mine, [*others, mine], "minimize")


def test_strict_judges_by_the_value_at_the_bracket() -> None:
    others = [[9.0, 1.0], [9.0, 2.0], [9.0, 3.0]]
    mine = [1.5, 8.0]
    strict = Hyperband(brackets=(2, 4), eta=3.0, strict=True)
    assert strict.should_stop(mine, [*others, mine], "minimize")


def test_between_brackets_the_last_one_passed_counts() -> None:
    runs = [[9.0, float(value), 9.0] for value in (1, 2, 3, 4, 5, 6)]
    assert RULE.should_stop(runs[5], runs, "minimize")  # three epochs: bracket 2 counts
    late = [[9.0, 9.0, 9.0, float(value)] for value in (1, 2, 3)]
    mine = [9.0, 9.0, 9.0, 2.5]  # four epochs: bracket 4 counts, where sorted[int(4 / 3)] = 2
    assert RULE.should_stop(mine, [*late, mine], "minimize")


def test_a_run_that_catches_up_after_the_bracket_goes_on() -> None:
    runs = [[9.0, float(value)] for value in (1, 2, 3, 4, 5)]
    mine = [9.0, 6.0, 0.5]
    assert not RULE.should_stop(mine, [*runs, mine], "minimize")


def test_only_runs_that_reached_the_bracket_are_compared() -> None:
    assert not RULE.should_stop([5.0, 5.0], [[1.0], [1.0], [5.0, 5.0]], "minimize")


def test_the_first_run_at_a_bracket_goes_on() -> None:
    assert not RULE.should_stop([3.0, 4.0], [[3.0, 4.0]], "minimize")


def test_values_that_are_not_numbers_are_passed_over() -> None:
    nan = float("nan")
    runs = [[9.0, 1.0], [9.0, 2.0], [nan, 9.0, 3.0]]
    assert RULE.should_stop(runs[2], runs, "minimize") is True
    assert not RULE.should_stop([nan, nan], [*runs, [nan, nan]], "minimize")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("hyperband", "early_terminate must be a mapping with type: hyperband. Got 'hyperband'."),
        ({"type": "median"}, "early_terminate must be a mapping with type: hyperband"),
        ({"min_iter": 3}, "early_terminate must be a mapping with type: hyperband"),
        ({"type": "hyperband"}, "early_terminate needs min_iter, or max_iter and s."),
        ({"type": "hyperband", "min_itr": 3}, "early_terminate.min_itr is not a key of hyperband; did you mean 'min_iter'?"),
        ({"type": "hyperband", "min_iter": 0}, "early_terminate.min_iter must be a number of at least 1. Got 0."),
        ({"type": "hyperband", "min_iter": "3"}, "early_terminate.min_iter must be a number of at least 1. Got '3'."),
        ({"type": "hyperband", "min_iter": True}, "early_terminate.min_iter must be a number of at least 1. Got True."),
        ({"type": "hyperband", "min_iter": 3, "eta": 1}, "early_terminate.eta must be a number of at least 2. Got 1."),
        ({"type": "hyperband", "max_iter": 27}, "early_terminate.s must be a number of at least 1. Got None."),
        ({"type": "hyperband", "max_iter": 2, "s": 1}, "no bracket is left"),
        ({"type": "hyperband", "min_iter": 3, "strict": "yes"}, "early_terminate.strict must be true or false. Got 'yes'."),
    ],
)
def test_an_unfit_section_is_refused_in_words(given: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read_hyperband(given, "a.yaml")
    assert str(refusal.value).startswith("a.yaml: ")
    assert sentence in str(refusal.value)
