"""Curves of many runs: means and ranges over what was logged, on an axis that shows all of it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from paretune.analysis.figures.curve_grids import curve_grid_figure
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.history import RunRecord
from tests.analysis.reading import is_a_drawing


def run_of(train: list[float], test: list[float]) -> RunRecord:
    return RunRecord("a", columns={"train_loss": np.array(train), "test_loss": np.array(test)})


def test_epochs_without_a_value_are_left_out_and_the_others_keep_their_number(tmp_path: Path) -> None:
    runs = [run_of([3.0, 2.0, 1.0], [math.nan, 2.5, math.nan]), run_of([5.0, 4.0], [math.nan, 3.5])]
    figure = curve_grid_figure([{"two": runs, "none": [run_of([math.nan], [math.nan])]}], "loss", part="hold-out")
    train, test = figure.axes[0].lines
    np.testing.assert_array_equal(train.get_xydata(), [[1, 4], [2, 3], [3, 1]])
    np.testing.assert_array_equal(test.get_xydata(), [[2, 3]])
    assert is_a_drawing(save_figure(figure, tmp_path / "curves.png"))


@pytest.mark.parametrize(("lowest", "scale"), [(0.1, "log"), (0.0, "linear"), (-2.0, "linear")])
def test_the_axis_is_logarithmic_where_that_shows_every_value(lowest: float, scale: str) -> None:
    figure = curve_grid_figure([{"a": [run_of([3.0, lowest], [3.0, 1.0])]}], "loss", part="hold-out", log=True)
    assert figure.axes[0].get_yscale() == scale


def test_a_run_that_lacks_a_curve_has_none() -> None:
    figure = curve_grid_figure([{"a": [RunRecord("a", columns={"train_loss": np.array([1.0])})]}], "loss", part="hold-out")
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [1, 0]
