"""W&B's hyperband rule, worked out by hand: brackets, the parting value, strictness, direction, several objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from paretune.core.errors import UsageError
from paretune.search.spec.hyperband import History, Hyperband, read_hyperband
from paretune.search.spec.yaml_lines import Definition


def read(given: Any) -> Hyperband:
    definition = Definition(Path("a.yaml"), {"early_terminate": given})
    hyperband = read_hyperband(definition)
    definition.check()
    assert hyperband is not None
    return hyperband


def stops(rule: Hyperband, history: Sequence[float], histories: Sequence[Sequence[float]], goal: str = "minimize") -> bool:
    return rule.should_stop(numbered([[v] for v in history]), [numbered([[v] for v in other]) for other in histories], [goal])


def numbered(rows: Sequence[Sequence[float]]) -> History:
    return [(number, list(values)) for number, values in enumerate(rows, start=1)]


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
        ({"max_iter": 27, "s": 2, "min_iter": 5}, (3, 9)),  # W&B looks at max_iter first
        ({"min_iter": 2, "eta": 1.5}, (2, 3, 4, 6)),
        ({"max_iter": 27, "s": 1.5}, (9,)),
    ],
)
def test_brackets_are_powers_of_eta(given: dict[str, Any], brackets: tuple[int, ...]) -> None:
    found = read({"type": "hyperband", **given}).brackets
    assert found[: len(brackets)] == brackets
    if "max_iter" in given:
        assert found == brackets


RULE = Hyperband(brackets=(2, 4), eta=3.0)


def test_no_run_stops_before_the_first_bracket() -> None:
    assert not stops(RULE, [9.0], [[9.0], [1.0, 1.0], [1.0, 1.0]], "minimize")


def test_the_best_third_at_a_bracket_goes_on() -> None:
    # At epoch 2 the six runs stand at 1, 2, 3, 4, 5, 6: sorted[int(6 / 3)] = 3 parts them.
    runs = [[9.0, float(value)] for value in (1, 2, 3, 4, 5, 6)]
    assert [stops(RULE, run, runs, "minimize") for run in runs] == [False, False, False, True, True, True]


def test_maximize_turns_the_rule_round() -> None:
    runs = [[0.0, float(value)] for value in (1, 2, 3, 4, 5, 6)]
    assert [stops(RULE, run, runs, "maximize") for run in runs] == [True, True, True, False, False, False]


def test_a_run_is_judged_by_its_best_value_so_far() -> None:
    others = [[9.0, 1.0], [9.0, 2.0], [9.0, 3.0]]  # sorted with mine: 1, 2, 3, 8; [int(4 / 3)] = 2
    mine = [1.5, 8.0]
    assert not stops(RULE, mine, [*others, mine], "minimize")


def test_strict_judges_by_the_value_at_the_bracket() -> None:
    others = [[9.0, 1.0], [9.0, 2.0], [9.0, 3.0]]
    mine = [1.5, 8.0]
    strict = Hyperband(brackets=(2, 4), eta=3.0, strict=True)
    assert stops(strict, mine, [*others, mine], "minimize")


def test_between_brackets_the_last_one_passed_counts() -> None:
    runs = [[9.0, float(value), 9.0] for value in (1, 2, 3, 4, 5, 6)]
    assert stops(RULE, runs[5], runs, "minimize")  # three epochs: bracket 2 counts
    late = [[9.0, 9.0, 9.0, float(value)] for value in (1, 2, 3)]
    mine = [9.0, 9.0, 9.0, 2.5]  # four epochs: bracket 4 counts, where sorted[int(4 / 3)] = 2
    assert stops(RULE, mine, [*late, mine], "minimize")


def test_a_run_that_catches_up_after_the_bracket_goes_on() -> None:
    runs = [[9.0, float(value)] for value in (1, 2, 3, 4, 5)]
    mine = [9.0, 6.0, 0.5]
    assert not stops(RULE, mine, [*runs, mine], "minimize")


def test_only_runs_that_reached_the_bracket_are_compared() -> None:
    assert not stops(RULE, [5.0, 5.0], [[1.0], [1.0], [5.0, 5.0]], "minimize")


def test_the_first_run_at_a_bracket_goes_on() -> None:
    assert not stops(RULE, [3.0, 4.0], [[3.0, 4.0]], "minimize")


def test_values_that_are_not_numbers_are_passed_over() -> None:
    nan = float("nan")
    runs = [[9.0, 1.0], [9.0, 2.0], [nan, 9.0, 3.0]]
    assert stops(RULE, runs[2], runs, "minimize") is True
    assert not stops(RULE, [nan, nan], [*runs, [nan, nan]], "minimize")


def test_brackets_count_epochs_also_where_a_history_lacks_some() -> None:
    whole = [[float(value)] * 4 for value in (1, 2, 3, 4, 5, 6)]
    thinned: list[History] = [
        [row for row in numbered([[v] for v in rows]) if row[0] in kept]
        for rows, kept in zip(whole, ({1, 3, 4}, {4}, {1, 2, 4}, {2, 4}, {1, 4}, {3, 4}), strict=True)
    ]
    assert [RULE.should_stop(rows, thinned, ["minimize"]) for rows in thinned] == [stops(RULE, rows, whole) for rows in whole]
    nan = float("nan")
    assert [stops(RULE, [nan, nan, nan, v], [[nan, nan, nan, w] for w in (1.0, 2.0, 3.0)]) for v in (1.0, 2.0, 3.0)] == [
        False,
        False,
        True,
    ]


def test_runs_are_stopped_as_by_wandbs_engine() -> None:
    # Which of these go was had from `hyperband_stop_runs` of W&B's package sweeps 0.3.0: max_iter 5, s 2, eta 2 -> brackets 1, 2.
    histories = [[10, 9], [10, 10], [10, 8, 8], [10, 7, 7], [10, 6, 6]]
    rule = read({"type": "hyperband", "max_iter": 5, "s": 2, "eta": 2})
    assert [stops(rule, history, histories) for history in histories] == [True, True, False, False, False]


def test_a_bracket_of_one_epoch_is_the_first_and_none_is_below() -> None:
    # W&B's package sweeps 0.3.0 has the brackets 1 and 3, and stops the first of these three runs at epoch 1
    rule = read({"type": "hyperband", "max_iter": 9, "s": 5, "eta": 3})
    assert rule.brackets == (1, 3)
    histories = [[10, 9], [2, 9], [3, 9]]
    assert [stops(rule, history, histories) for history in histories] == [True, False, False]


def test_strict_is_off_where_the_file_does_not_say() -> None:
    # as W&B's documentation has it; the schema of its package sweeps 0.3.0 fills in true
    assert read({"type": "hyperband", "min_iter": 3}).strict is False
    assert read({"type": "hyperband", "min_iter": 3, "strict": True}).strict is True


def test_with_several_objectives_nothing_on_the_front_is_stopped() -> None:
    points = [(0.9, 100.0), (0.8, 10.0), (0.5, 1.0), (0.5, 50.0), (0.4, 200.0), (0.3, 300.0)]
    histories = [numbered([point, point]) for point in points]
    goals = ("maximize", "minimize")
    assert [RULE.should_stop(history, histories, goals) for history in histories] == [False, False, False, True, True, True]


def test_with_several_objectives_as_many_go_on_as_with_one() -> None:
    # each run dominates the next, so the order is that of one objective: int(6 / 3) + 1 = 3 of the six go on
    histories = [numbered([(9.0, 9.0), (float(value), float(value))]) for value in (1, 2, 3, 4, 5, 6)]
    goals = ("minimize", "minimize")
    several = [RULE.should_stop(history, histories, goals) for history in histories]
    one = [[9.0, float(value)] for value in (1, 2, 3, 4, 5, 6)]
    assert several == [False, False, False, True, True, True] == [stops(RULE, history, one) for history in one]


def test_with_several_objectives_the_end_of_a_front_counts_by_what_it_adds_up_to_a_tenth_beyond_the_worst() -> None:
    # (0, 0) dominates the four others; int(5 / 3) + 1 = 2 go on. Hypervolumes of the four alone, up to (11, 11): 7, 1, 1 and 6
    points = [(0.0, 0.0), (1.0, 10.0), (8.0, 9.0), (9.0, 8.0), (10.0, 2.0)]
    histories = [numbered([(99.0, 99.0), point]) for point in points]
    stopped = [RULE.should_stop(history, histories, ("minimize", "minimize")) for history in histories]
    assert stopped == [False, False, True, True, True]


def test_with_several_objectives_the_best_epoch_counts_and_with_strict_the_one_at_the_bracket() -> None:
    histories = [
        numbered(rows)
        for rows in [[(0.9, 1.0), (0.9, 1.0)], [(0.8, 2.0), (0.8, 2.0)], [(0.7, 3.0), (0.7, 3.0)], [(0.95, 0.5), (0.1, 9.0)]]
    ]
    goals = ("maximize", "minimize")
    assert not RULE.should_stop(histories[3], histories, goals)
    assert Hyperband((2, 4), 3.0, strict=True).should_stop(histories[3], histories, goals)


def test_with_several_objectives_an_epoch_without_one_of_them_is_passed_over() -> None:
    nan = math.nan
    histories = [
        numbered(rows) for rows in [[(0.9, 1.0), (0.9, 1.0)], [(0.9, nan), (0.1, 5.0), (0.1, 5.0)], [(0.8, 2.0), (0.8, 2.0)]]
    ]
    assert RULE.should_stop(histories[1], histories, ("maximize", "minimize"))
    assert not RULE.should_stop(numbered([(nan, 1.0)] * 3), histories, ("maximize", "minimize"))


def test_every_fault_of_a_section_is_said() -> None:
    with pytest.raises(UsageError) as refusal:
        read({"type": "hyperbnd", "min_itr": 3, "min_iter": 0, "eta": 1, "strict": 1})
    assert len(str(refusal.value).splitlines()) == 5


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("hyperband", "early_terminate must be a mapping with type: hyperband. Got 'hyperband'."),
        ({"type": "median", "min_iter": 3}, "early_terminate.type must be hyperband. Got 'median'."),
        ({"type": "hyperbnd", "min_iter": 3}, "Got 'hyperbnd'; did you mean 'hyperband'?"),
        ({"min_iter": 3}, "early_terminate.type must be hyperband. Got None."),
        ({"type": "hyperband"}, "early_terminate needs min_iter, the epoch of the first comparison, or max_iter and s."),
        ({"type": "hyperband", "min_itr": 3}, "early_terminate.min_itr is not a key of hyperband; did you mean 'min_iter'?"),
        ({"type": "hyperband", "min_iter": 0}, "early_terminate.min_iter must be a whole number of at least 1. Got 0."),
        ({"type": "hyperband", "min_iter": 1.5}, "early_terminate.min_iter must be a whole number of at least 1. Got 1.5."),
        ({"type": "hyperband", "min_iter": "3"}, "early_terminate.min_iter must be a whole number of at least 1. Got '3'."),
        ({"type": "hyperband", "min_iter": True}, "early_terminate.min_iter must be a whole number of at least 1. Got True."),
        ({"type": "hyperband", "min_iter": 3, "eta": 1}, "early_terminate.eta must be a number above 1. Got 1."),
        ({"type": "hyperband", "min_iter": 3, "eta": math.inf}, "early_terminate.eta must be a number above 1. Got inf."),
        ({"type": "hyperband", "min_iter": 10**400}, "early_terminate.min_iter must be a whole number of at least 1. Got 1000"),
        ({"type": "hyperband", "max_iter": 27}, "early_terminate.s must be a number of at least 1. Got None."),
        ({"type": "hyperband", "max_iter": 2, "s": 1}, "no bracket is left: raise max_iter or lower eta."),
        ({"type": "hyperband", "min_iter": 3, "strict": "yes"}, "strict must be true or false, without quotes. Got 'yes'."),
    ],
)
def test_an_unfit_section_is_refused_in_words(given: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read(given)
    assert str(refusal.value).startswith("a.yaml: ")
    assert sentence in str(refusal.value)
