"""A metric over two hyper-parameters: the table, the borders of its cells, and the point that is marked."""

from __future__ import annotations

import numpy as np
import pytest

from paretune.analysis.figures.grids import _edges, grid_figure, grid_of
from paretune.core.errors import UsageError

FIRST, SECOND = np.array([1.0, 2.0, 2.0, 1.0, 2.0]), np.array([0.1, 0.1, 0.3, 0.3, 0.3])
VALUES = np.array([5.0, 6.0, 7.0, 4.0, 9.0])


def test_runs_of_equal_parameters_are_averaged_and_a_cell_without_a_run_is_empty() -> None:
    rows, columns, table = grid_of(FIRST, SECOND, VALUES)
    assert (rows.tolist(), columns.tolist(), table.tolist()) == ([1.0, 2.0], [0.1, 0.3], [[5.0, 4.0], [6.0, 8.0]])
    _, _, table = grid_of(FIRST[:3], SECOND[:3], VALUES[:3])
    np.testing.assert_array_equal(table, [[5.0, np.nan], [6.0, 7.0]])


@pytest.mark.parametrize(("first", "second"), [(np.ones(5), SECOND), (FIRST, np.ones(5))])
def test_a_parameter_of_one_value_makes_no_grid(first: np.ndarray, second: np.ndarray) -> None:
    with pytest.raises(UsageError, match="two hyper-parameters of at least two values each"):
        grid_of(first, second, VALUES)


def test_the_borders_of_cells_lie_half_way_between_values_and_as_far_beyond_the_ends() -> None:
    assert _edges(np.array([1.0, 2.0, 4.0])).tolist() == [0.5, 1.5, 3.0, 5.0]


@pytest.mark.parametrize(("best", "point", "label"), [("min", (0.3, 1.0), "best: 4.0000"), ("max", (0.3, 2.0), "best: 8.0000")])
def test_the_best_point_is_marked_on_the_map(best: str, point: tuple[float, float], label: str) -> None:
    figure = grid_figure(FIRST, SECOND, VALUES, names=("rate", "momentum"), metric="error", best=best)
    (star,) = figure.axes[0].lines
    assert (float(star.get_xdata()[0]), float(star.get_ydata()[0])) == point  # type: ignore[index]
    assert star.get_label() == label
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("momentum", "rate")
