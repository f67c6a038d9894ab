"""What the runs of a sweep tried: which columns are searched parameters, and how their values are written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from paretune.analysis.findings.parameters import ABSENT, text_of, tried
from paretune.analysis.history import RunRecord
from paretune.core.errors import UsageError


def run_of(name: str, f1: float, state: str = "finished", loss: float = 0.5, **config: Any) -> RunRecord:
    columns = {"epoch": np.ones(1), "f1": np.array([f1]), "test_loss": np.array([loss])}
    own = {"classifier": "ann", "evaluation_split": "holdout", "provenance": {"fingerprints": {"test": "x"}}, **config}
    return RunRecord(name, f"run-{name}", state=state, config=own, columns=columns)


def test_a_parameter_is_searched_where_the_runs_differ_in_it() -> None:
    runs = [
        run_of("a", 0.9, width=8, rate=0.1, kind="x", seed=1, hidden=[1], fast=True),
        run_of("b", 0.8, width=8, rate=1, kind="y", seed=1, hidden=[1, 2], fast=False),
        run_of("c", 0.7, width=9, rate=0.5, kind="x", seed=2, hidden=None, fast=True, state="failed"),
    ]
    found = tried(runs)
    assert found.values.to_dict("list") == {
        "rate": [0.1, 1.0],
        "kind": ["x", "y"],
        "hidden": ["[1]", "[1, 2]"],
        "fast": ["true", "false"],
    }
    assert (found.values.index.tolist(), found.names, found.scores.tolist()) == (["a", "b"], ["run-a", "run-b"], [0.9, 0.8])
    assert (found.metric, found.goal, found.split, found.left_out) == ("f1", "maximize", "holdout", {})


def test_a_parameter_that_some_runs_lack_is_searched_and_so_is_null() -> None:
    found = tried([run_of("a", 0.9, x=1, y=None), run_of("b", 0.8, x=1, y=2), run_of("c", 0.7, y=2)])
    assert found.values["x"].isna().tolist() == [False, False, True]
    assert found.choices("x") == ["1", ABSENT]
    assert found.chosen("x").tolist() == [0, 0, 1]
    assert found.values["y"].tolist() == ["null", "2", "2"], "numbers beside another kind are texts"


def test_a_text_that_differs_in_every_run_is_left_out_unless_there_are_two() -> None:
    runs = [run_of(name, 0.5, path=f"/{name}", size=place) for place, name in enumerate("abc")]
    found = tried(runs)
    assert list(found.values) == ["size"]
    assert found.left_out == {"path": "its text differs in every run"}
    assert list(tried(runs[:2]).values) == ["path", "size"]
    assert list(tried([*runs, run_of("d", 0.5, path="/a", size=9)]).values) == ["path", "size"]


def test_choices_stand_in_order_with_a_dash_last() -> None:
    found = tried(
        [run_of(str(place), 0.5, **({} if size is None else {"size": size})) for place, size in enumerate([16, 8, None, 128])]
    )
    assert found.choices("size") == ["8", "16", "128", ABSENT]
    assert found.chosen("size").tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize(("goal", "order"), [("maximize", "bca"), ("minimize", "abc")])
def test_runs_stand_from_the_best_and_of_equals_the_one_of_lower_loss_first(goal: str, order: str) -> None:
    runs = [run_of("a", 0.1, x=1), run_of("b", 0.9, x=2, loss=0.1), run_of("c", 0.9, x=3, loss=0.2)]
    found = tried(runs, goal=goal)
    assert "".join(found.values.index[found.better_first]) == order


def test_a_metric_that_no_run_has_is_refused() -> None:
    with pytest.raises(UsageError, match="no run has the metric 'f2'"):
        tried([run_of("a", 0.5)], "f2")


@pytest.mark.parametrize(
    ("value", "text"), [(0.1, "0.1"), (1.0, "1"), (1e-7, "1e-07"), (1234567.0, "1.23457e+06"), ("x", "x"), (pd.NA, "<NA>")]
)
def test_a_number_is_labelled_in_six_digits(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_values_that_differ_stay_different() -> None:
    alike: list[Any] = [
        1,
        "1",
        True,
        "true",
        None,
        "null",
        "None",
        [64, 32],
        "[64, 32]",
        {"a": 1},
        '{"a": 1}',
        "",
        "nan",
        "–",
        '"1"',
    ]
    runs = [run_of(f"{place}{half}", 0.5, x=value) for place, value in enumerate(alike) for half in "ab"]
    found = tried([*runs, run_of("lacks it", 0.5)])
    assert len(set(found.choices("x"))) == len(alike) + 1
    assert {"1", '"1"', "true", '"true"', "null", '"null"', "None", "[64, 32]", '"–"', ABSENT} <= set(found.choices("x"))
    _taken, n_runs = np.unique(found.chosen("x"), return_counts=True)
    assert n_runs.tolist() == [2] * len(alike) + [1]


def test_numbers_that_differ_beyond_six_digits_are_two_choices() -> None:
    found = tried([run_of("a", 0.9, x=0.12345671), run_of("b", 0.8, x=0.12345672)])
    assert found.choices("x") == ["0.12345671", "0.12345672"]
    assert found.chosen("x").tolist() == [0, 1]


def test_texts_that_read_as_numbers_stand_as_they_are_among_texts() -> None:
    assert tried([run_of("a", 0.9, x="1"), run_of("b", 0.8, x="2")]).choices("x") == ["1", "2"]
