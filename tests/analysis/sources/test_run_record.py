"""Logged rows as columns, and the two tables that are made of runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from paretune.analysis.findings.diagnosis import diagnose_runs
from paretune.analysis.sources.run_record import COLUMNS, RunRecord, best_values, column_of, columns_of, metric_of, runs_table, tidy

NAN, INF = math.nan, math.inf


def plain(columns: dict[str, np.ndarray]) -> dict[str, list[float]]:
    assert all(column.dtype == np.float64 for column in columns.values())
    return {name: column.tolist() for name, column in columns.items()}


def same(found: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(
    ("logged", "columns"),
    [
        ([], {}),
        ([{"epoch": 1, "a": 2}, {"epoch": 2, "a": 0.5}], {"epoch": [1, 2], "a": [2, 0.5]}),
        ([{"epoch": 1, "a": 2}, {"epoch": 2, "b": 3}], {"epoch": [1, 2], "a": [2, NAN], "b": [NAN, 3]}),
        ([{"epoch": 1}, {"epoch": 2, "a": 1}], {"epoch": [2], "a": [1]}),
        ([{"_step": 4, "a": 1}, {"_step": 7, "a": 2}], {"epoch": [4, 7], "a": [1, 2]}),
        ([{"a": 1}], {"epoch": [NAN], "a": [1]}),
        ([{"_step": 0, "a": {"b": 1, "c": {"d": 2}}}], {"epoch": [0], "a.b": [1], "a.c.d": [2]}),
        ([{"_step": 0, "a": "NaN", "b": "-Infinity"}], {"epoch": [0], "a": [NAN], "b": [-INF]}),
        ([{"_step": 0, "a": 1, "c": "text", "d": True, "e": None, "f": [1]}], {"epoch": [0], "a": [1]}),
        ([{"_step": 0, "t": {"_type": "table-file", "x": 1}}, {"_step": 1, "a": 1}], {"epoch": [1], "a": [1]}),
        ([{"epoch": 1, "a": 1, "_timestamp": 9.0, "_runtime": 3.0}], {"epoch": [1], "a": [1]}),
        ([{"epoch": 1, "a": True}, {"epoch": 2, "a": True}], {}),
    ],
)
def test_rows_are_laid_out_by_metric(logged: list[dict[str, Any]], columns: dict[str, list[float]]) -> None:
    same(plain(columns_of(logged)), columns)


def test_equal_rows_are_laid_out_as_rows_that_are_not() -> None:
    logged = [{"epoch": place, "a": place / 3, "b": NAN, "_step": place, "_timestamp": 1.0} for place in range(5)]
    apart = [*logged, {"epoch": 5, "c": 1.0}]
    found, expected = plain(columns_of(logged)), plain(columns_of(apart))
    assert list(found) == ["epoch", "a", "b"]
    same(found, {name: expected[name][:5] for name in found})


def test_a_run_knows_its_rows_and_is_called_by_its_id_where_it_has_no_name() -> None:
    run = RunRecord("id", columns={"epoch": np.array([1.0, 2.0]), "a": np.array([0.5, NAN])})
    assert (run.name, run.n_rows) == ("id", 2)
    assert repr(run.rows) == "[{'epoch': 1.0, 'a': 0.5}, {'epoch': 2.0, 'a': nan}]"
    assert (RunRecord("id", "own").name, RunRecord("id").n_rows, RunRecord("id").rows, RunRecord("id").summary) == (
        "own",
        0,
        [],
        {},
    )


def record(name: str, rows: list[dict[str, float]], **others: Any) -> RunRecord:
    return RunRecord(name, state=others.pop("state", "finished"), columns=columns_of(rows), **others)


def test_the_history_has_a_line_for_each_row_and_one_for_a_run_without() -> None:
    runs = [
        record("a", [{"epoch": 1, "f1": 0.5}, {"epoch": 2, "f1": 0.6}], config={"width": 8, "kind": None, "provenance": {"x": 1}}),
        record("b", [], config={"width": 9, "depth": [1]}),
        record("c", [{"epoch": 1, "own": 3.0}]),
    ]
    table = tidy(runs)
    assert table["run"].tolist() == ["a", "a", "b", "c"]
    assert [name for name in table if name.startswith("config.")] == [
        *("config.depth", "config.kind", "config.provenance", "config.width"),  # provenance, as it is not ours
    ]
    assert table["config.kind"].tolist()[:2] == [None, None]
    assert table["config.kind"].tolist()[2:] == [pd.NA, pd.NA]
    assert table["config.depth"].tolist()[2] == [1]
    np.testing.assert_array_equal(table["epoch"], [1, 2, NAN, 1])
    np.testing.assert_array_equal(table["f1"], [0.5, 0.6, NAN, NAN])
    np.testing.assert_array_equal(table["own"], [NAN, NAN, NAN, 3.0])
    assert list(table).index("f1") < list(table).index("own"), "our metrics come first"


OURS = {"classifier": "ann", "provenance": {"fingerprints": {"test": "t", "holdout": "h"}}}
ROWS = [{"epoch": 1, "f1": 0.5, "loss": 0.9}, {"epoch": 2, "f1": 0.9, "loss": 0.5}, {"epoch": 3, "f1": 0.7, "loss": 0.1}]


@pytest.mark.parametrize(
    ("config", "goals", "epoch", "picked"),
    [
        ({}, {}, 2, True),
        ({"best_metric": "loss"}, {}, 3, True),
        ({}, {"loss": "minimize"}, 3, True),
        ({}, {"loss": "maximize"}, 1, True),
        ({"best_metric": "f1"}, {"loss": "minimize", "f1": "minimize"}, 1, True),
        ({"best_metric": "none"}, {}, 3, False),
        ({"evaluation_split": "test"}, {}, 3, False),
    ],
)
def test_a_run_of_ours_stands_for_its_best_epoch(config: dict[str, Any], goals: dict[str, str], epoch: int, picked: bool) -> None:
    run = record("a", ROWS, config={**OURS, **config}, goals=goals)
    assert best_values(run) == (ROWS[epoch - 1], picked)
    line = runs_table([run]).iloc[0]
    assert (line["best_epoch"], line["picked"], line["epochs"], line["loss"]) == (epoch, picked, 3, ROWS[epoch - 1]["loss"])


def test_another_programs_run_stands_for_its_latest_values_and_what_its_summary_says() -> None:
    rows = [{"_step": 0, "f1": 0.9}, {"_step": 1, "loss": 0.5}, {"_step": 2, "loss": NAN}]
    run = record("a", rows, read_summary=lambda: {"f1": 0.95, "loss": 0.5, "unlogged": 3, "_wandb": {}})
    assert best_values(run) == ({"unlogged": 3.0, "epoch": 2.0, "f1": 0.95, "loss": 0.5}, False)
    run.state = "crashed"
    assert best_values(run)[0]["f1"] == 0.9, "its summary may lag behind"


def test_the_images_of_a_run_are_told_apart_by_test_and_hold_out_or_folds() -> None:
    def images(**config: Any) -> str:
        return str(runs_table([record("a", ROWS, config={**OURS, **config})])["provenance.images"].iloc[0])

    assert images() == "t h"
    assert images(n_folds=5) == images(n_folds=5, fold=1) == "t 5 folds"
    assert images(repeats_over="folds") == "t None folds"
    assert images(provenance={}) == images(provenance={"fingerprints": {"holdout": "h"}}) == ""


@pytest.mark.parametrize("name", [*COLUMNS, "configuration.runs", "config.x", "summary.x", "metric.run"])
def test_a_metric_named_like_a_column_has_another_and_its_own_name_back(name: str) -> None:
    assert column_of(name) == f"metric.{name}"
    assert metric_of(column_of(name)) == name


def test_no_column_that_is_made_of_runs_can_be_a_metrics() -> None:
    made = runs_table([RunRecord("a", state="finished", columns=columns_of([{"epoch": 1.0, "loss": 0.5}]))])
    assert {column for column in made if column_of(column) == column} == {"loss"}


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([NAN, NAN, NAN, 0.3, NAN, NAN, NAN, 0.2], False),  # every fourth epoch; the best one lacks it
        ([NAN, NAN, NAN, 0.3, NAN, NAN], False),
        ([0.3, 0.3, 0.3, 0.3, 0.3, NAN, NAN, NAN], True),
        ([0.3, 0.3, 0.3, 0.3, 0.3, INF, INF, INF], True),
        ([0.3, 0.3, 0.3, 0.3, 0.3, 0.2, NAN, NAN], False),  # the best epoch came before
        ([NAN, NAN, NAN, NAN, NAN, NAN], True),
    ],
)
def test_a_loss_that_is_logged_every_few_epochs_is_not_one_that_diverged(losses: list[float], diverged: bool) -> None:
    rows = [{"epoch": place + 1.0, "f1": 0.9 if place == 5 else 0.5, "test_loss": loss} for place, loss in enumerate(losses)]
    config = {"classifier": "mine", "evaluation_split": "holdout", "provenance": {"schema": 1}}
    run = RunRecord("a", state="finished", config=config, columns=columns_of(rows))
    (row,) = runs_table([run]).to_dict("records")
    assert (row["best_epoch"], row["diverged"]) == (6, diverged)


def test_an_epoch_counts_once_in_however_many_rows_it_was_logged() -> None:
    own_rows = [{"epoch": epoch, name: 0.5} for epoch in range(3) for name in ("train_loss", "val_loss")]
    by_step = [{"epoch": step // 4, "train_loss_step": 0.5} for step in range(12)] + [{"loss": 1.0, "_step": 12}]
    assert [int(runs_table([record("a", rows)])["epochs"].iloc[0]) for rows in (own_rows, by_step)] == [3, 3]
    assert diagnose_runs(tidy([record("a", own_rows)]))["epochs"].tolist() == [3]
