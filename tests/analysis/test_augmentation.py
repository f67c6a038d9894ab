"""Runs with and without augmentation side by side, and the figure of changed training images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paretune.analysis import augmentation as step
from paretune.analysis.figures.augmentation import augmentation_figure, examples
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.findings.augmentation import compare_augmentation, in_words, settings_of
from paretune.analysis.findings.confidence import mean_interval
from paretune.analysis.sources.run_record import RunRecord, columns_of
from paretune.core.errors import UsageError
from paretune.search.engine import worker
from paretune.search.spec.sweep import read_sweep
from tests.analysis.reading import is_a_drawing
from tests.analysis.truth import written_out
from tests.samples import small_data

SETTINGS = {"translate": 0.1, "scale": 0.1, "rotate": 15.0, "flip": True, "crop": 1}


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


def test_the_examples_are_of_each_class_in_turn() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 100)
    assert labels[examples(labels, 6, seed=1)].tolist() == [0, 1, 2, 3, 0, 1]
    assert len(set(examples(labels, 6, seed=1).tolist())) == 6
    assert examples(labels, 6, seed=1).tolist() != examples(labels, 6, seed=2).tolist()
    assert labels[examples(np.zeros(2, dtype=int), 6, seed=0)].shape == (2,)


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 8, 8)])
def test_the_figure_shows_training_images_above_their_changed_copies(shape: tuple[int, int, int], tmp_path: Path) -> None:
    data = small_data(shape=shape)
    figure = augmentation_figure(data, SETTINGS, seed=4)
    pictures = [np.asarray(axes.images[0].get_array()).reshape(shape[1], shape[2], -1) for axes in figure.axes]
    training = np.moveaxis(data.train.x.numpy(), 1, -1)
    assert len(pictures) == 30
    assert all((np.abs(training - picture).max(axis=(1, 2, 3)) < 1e-6).any() for picture in pictures[:6])
    assert len({picture.tobytes() for picture in pictures}) == 30
    again = augmentation_figure(data, SETTINGS, seed=4)
    for before, after in zip(figure.axes, again.axes, strict=True):
        np.testing.assert_array_equal(before.images[0].get_array(), after.images[0].get_array())
    assert [axes.get_title() for axes in figure.axes[:6]] == ["c0", "c1", "c2"] * 2
    assert is_a_drawing(save_figure(figure, tmp_path / "augmented.png"))


def test_without_any_change_the_copies_are_the_images() -> None:
    data = small_data()
    figure = augmentation_figure(data, {"translate": 0.0, "scale": 0.0, "rotate": 0.0, "flip": False, "crop": 0})
    pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    for place, picture in enumerate(pictures):
        np.testing.assert_allclose(picture, pictures[place % 6], atol=1e-5)


def test_what_a_run_does_not_say_is_the_trainers_default() -> None:
    assert settings_of({"rotate": 30.0}) == {"translate": 0.08, "scale": 0.1, "rotate": 30.0, "flip": False, "crop": 0}


SWEEP = """
name: augmented
program: trainers/ann.py
method: grid
metric: {name: f1, goal: maximize}
parameters:
  epochs: {value: 1}
  train_size: {value: 100}
  augment: {values: [true, false]}
  width: {values: [8, 16]}
"""


def test_the_command_compares_a_sweep_and_draws_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "augmented.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    worker.run(read_sweep(path), trials=4, name="augmented", seed=0, device="cpu", runs=tmp_path)
    written_out(tmp_path / "augmented")
    capsys.readouterr()
    assert step.main([str(tmp_path / "augmented"), "--figure", str(tmp_path / "images.png")]) == 0
    printed = capsys.readouterr().out
    assert "over 2 runs with augmentation and" in printed
    assert is_a_drawing(tmp_path / "images.png")
