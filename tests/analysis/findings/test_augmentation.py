"""Runs with and without augmentation side by side: the numbers, and what the sentence says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paretune.analysis.findings.augmentation import compare_augmentation, in_words, settings_of
from paretune.analysis.findings.confidence import mean_interval
from paretune.analysis.sources.run_record import RunRecord, columns_of
from paretune.core.errors import UsageError


def record(place: int, augment: Any, f1: float, gap: float = 0.1, state: str = "finished", **others: float) -> RunRecord:
    config = {"evaluation_split": "holdout", "data": "digits"} | ({} if augment is None else {"augment": augment})
    row = {"epoch": 1.0, "f1": f1, "train_accuracy": 0.5 + gap, "test_accuracy": 0.5, **others}
    return RunRecord(str(place), f"run-{place}", state=state, created=float(place), config=config, columns=columns_of([row]))


def test_the_numbers_are_those_of_pandas_and_scipy() -> None:
    random = np.random.default_rng(0)
    with_it, without = random.uniform(0.8, 1, 7).tolist(), random.uniform(0.7, 1, 5).tolist()
    runs = [record(i, True, value, gap=0.01 * i) for i, value in enumerate(with_it)]
    runs += [record(10 + i, False, value, gap=0.03 * i) for i, value in enumerate(without)]
    runs += [record(20, True, 0.999, state="pruned"), record(21, None, 0.999)]
    table = compare_augmentation(runs).set_index("augment")
    for augment, values in ((True, with_it), (False, without)):
        row, series = table.loc[augment], pd.Series(values)
        assert row["runs"] == len(values)
        assert [row["best"], row["median"], row["mean"]] == pytest.approx([series.max(), series.median(), series.mean()])
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert [row["low"], row["high"]] == pytest.approx([expected.low, min(expected.high, 1.0)])
    assert table["gap"].to_dict() == pytest.approx({True: 0.03, False: 0.06})


def test_the_best_of_a_loss_is_the_lowest() -> None:
    runs = [record(0, True, 0.9, test_loss=0.2), record(1, True, 0.8, test_loss=0.1)]
    assert compare_augmentation(runs, "test_loss")["best"].tolist() == [0.1]


def test_one_run_has_no_interval_and_one_kind_no_comparison() -> None:
    table = compare_augmentation([record(0, True, 0.9)])
    assert math.isnan(table["low"].iloc[0])
    assert in_words(table, "f1") == "There is one finished run alone, and thus nothing to compare it with."
    table = compare_augmentation([record(0, True, 0.9), record(1, True, 0.8)])
    assert in_words(table, "f1").startswith("All 2 finished runs were trained with augmentation")
    assert all(map(math.isnan, mean_interval(np.zeros(0))))


def test_the_sentence_says_that_the_comparison_is_not_controlled() -> None:
    text = in_words(compare_augmentation([record(0, True, 0.9, 0.02), record(1, False, 0.8, 0.07)]), "f1")
    assert "median f1 was 0.9000 over 1 runs with augmentation and 0.8000 over 1 runs without" in text
    assert "less that of the hold-out was 2.0 and 7.0 points" in text
    assert "not a controlled comparison" in text


def test_runs_that_do_not_say_whether_they_augmented_are_refused() -> None:
    with pytest.raises(UsageError, match="no finished run says whether it augmented"):
        compare_augmentation([record(0, None, 0.9)])


def test_what_a_run_does_not_say_is_the_trainers_default() -> None:
    assert settings_of({"rotate": 30.0}) == {"translate": 0.08, "scale": 0.1, "rotate": 30.0, "flip": False, "crop": 0}


def test_one_kind_alone_is_named_for_what_it_is() -> None:
    assert in_words(compare_augmentation([record(0, False, 0.9), record(1, False, 0.8)]), "f1") == (
        "All 2 finished runs were trained without augmentation: there is nothing to compare them with."
    )


def test_without_a_train_accuracy_the_sentence_speaks_of_the_metric_alone() -> None:
    runs = [record(0, True, 0.9), record(1, False, 0.8)]
    for run in runs:
        del run.columns["train_accuracy"]
    text = in_words(compare_augmentation(runs), "f1")
    assert text.startswith(
        "The median f1 was 0.9000 over 1 runs with augmentation and 0.8000 over 1 runs without. This is not a controlled comparison"
    )
