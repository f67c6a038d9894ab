"""A metric over two hyper-parameters: the best is marked by its direction, and gaps are gaps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from paretune.analysis.figures.grids import grid_figure, grid_of
from paretune.analysis.figures.runs import save_figure
from tests.analysis.reading import is_a_drawing

FIRST, SECOND = np.array([1.0, 1.0, 2.0, 2.0]), np.array([0.1, 0.2, 0.1, 0.2])


@pytest.mark.parametrize(("best", "place"), [("min", (0.2, 2.0)), ("max", (0.1, 1.0))])
def test_the_best_is_marked_by_its_direction(best: str, place: tuple[float, float], tmp_path: Path) -> None:
    values = np.array([0.5, math.nan, -1.0, -3.0])
    figure = grid_figure(FIRST, SECOND, values, names=("width", "rate"), metric="loss", best=best)
    (star,) = figure.axes[0].lines
    assert (star.get_xdata()[0], star.get_ydata()[0]) == place
    assert is_a_drawing(save_figure(figure, tmp_path / "grid.png"))


def test_one_run_that_diverged_does_not_take_its_repeats_with_it() -> None:
    _rows, _columns, table = grid_of(np.append(FIRST, 1.0), np.append(SECOND, 0.1), np.array([0.5, 1.0, math.inf, 2.0, math.nan]))
    np.testing.assert_array_equal(table, [[0.5, 1.0], [math.nan, 2.0]])


@pytest.mark.parametrize("values", [[math.nan] * 4, [1.0] * 4], ids=str)
def test_nothing_finite_and_equal_values_are_drawn(values: list[float], tmp_path: Path) -> None:
    figure = grid_figure(FIRST, SECOND, np.array(values), names=("width", "rate"), metric="loss")
    assert len(figure.axes[0].lines) == (0 if math.isnan(values[0]) else 1)
    assert is_a_drawing(save_figure(figure, tmp_path / "grid.png"))
