"""One sweep as the report shows it: its chosen run, its baseline, what it searched, and values in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.analysis.choose import choose
from paretune.analysis.document.study import Study, searched, short, short_in
from paretune.analysis.findings.front import front_of
from paretune.analysis.history import RunRecord
from tests.analysis.tables import runs_of, scored


def study_of(*configs: dict[str, Any], scores: str = "f1", **others: Any) -> Study:
    rows = [scored(0.9 - place / 10, 0.5, f1=place / 10) for place in range(len(configs))]
    table = runs_of(*rows)
    if scores != "f1":
        table["f1"] = float("nan")
    runs = [RunRecord(run, config=config) for run, config in zip(table["run"], configs, strict=True)]
    metrics = {"precision": "maximize", "recall": "maximize"}
    choice = choose(table, "max:precision", metrics)
    front = front_of(table, list(metrics), list(metrics.values()))[0]
    known: dict[str, Any] = {"models": {"chosen": {}}, "origin": {}, "folder": Path("models/a"), "aims": metrics, **others}
    return Study("ann", "runs/ann", "ann", runs, table, front, choice, **known)


def test_the_chosen_run_is_one_of_the_study_which_may_have_no_baseline() -> None:
    study = study_of({"width": 8}, {"width": 9})
    assert study.chosen is study.runs[0]
    assert study.baseline is None
    study.runs[1].baseline = True
    assert study.baseline is study.runs[1]


def test_without_a_retrained_model_nothing_is_known_of_the_locked_part() -> None:
    assert study_of({}).test == {}
    assert study_of({}, models={"chosen": {"test": {"accuracy": 0.9}}}).test == {"accuracy": 0.9}


def test_goals_are_those_of_the_sweep_and_of_what_is_weighed() -> None:
    study = study_of({})
    study.runs[0].goals["loss"] = "minimize"
    assert study.goals == {"loss": "minimize", "f1": "maximize", "precision": "maximize", "recall": "maximize"}


def test_runs_without_f1_are_shown_by_the_first_metric_that_is_weighed() -> None:
    assert study_of({}, {}).metric == "f1"
    assert study_of({}, {}, scores="none").metric == "precision"


def test_a_hyper_parameter_is_searched_where_runs_differ_in_it() -> None:
    ours = [{"classifier": "own", "provenance": {"schema": 1, "commit": commit}} for commit in "ab"]
    configs = [{"width": 8, "rate": 0.1, "holdout": 0.1}, {"width": 8, "rate": 0.2, "holdout": 0.2, "deep": [1]}, {}]
    assert searched(study_of(configs[0] | ours[0], configs[1] | ours[1], {})) == ["rate", "deep"]
    assert searched(study_of(*configs)) == ["holdout", "rate", "deep"], "of other people's runs it is a parameter as any other"
    assert searched(study_of(configs[0])) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "yes"),
        (False, "no"),
        (0.123456, "0.123"),
        (1234.5, "1.23e+03"),
        (12, "12"),
        ("a", "a"),
        ([1, 2], "[1, 2]"),
        ({"deep": {"er": None, "on": True}}, '{"deep": {"er": null, "on": true}}'),
    ],
)
def test_a_value_is_short_in_a_table(value: Any, text: str) -> None:
    assert short(value) == text
    assert (short_in({"x": value}, "x"), short_in({"y": value}, "x")) == (text, "–")
