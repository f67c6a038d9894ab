"""A metric over a grid of two hyper-parameters, as heat map and as surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.figures.labels import fitted
from paretune.analysis.figures.runs import empty_figure, styled
from paretune.core.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def grid_of(first: np.ndarray, second: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay scattered values out as a table: the first parameter's values (n,), the second's (m,), and the table (n, m).

    Args:
        first: a hyper-parameter of each run (n_runs,); second: another.
        values: the metric of each run (n_runs,); runs of equal parameters are averaged, NaN where none has a finite one.

    Raises:
        UsageError: if a parameter has a single value.
    """
    rows, columns = np.unique(first), np.unique(second)
    if min(len(rows), len(columns)) < 2:
        raise UsageError("a grid needs two hyper-parameters of at least two values each: give a sweep over both.")
    known = np.isfinite(values)
    first, second, values = first[known], second[known], values[known]
    total, count = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)))
    places = np.searchsorted(rows, first), np.searchsorted(columns, second)
    np.add.at(total, places, values)
    np.add.at(count, places, 1)
    return rows, columns, np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


@styled
def grid_figure(
    first: np.ndarray, second: np.ndarray, values: np.ndarray, *, names: tuple[str, str], metric: str, best: str = "min"
) -> Figure:
    """Draw a metric over two hyper-parameters; the best point, `min` or `max`, is marked on the map."""
    rows, columns, table = grid_of(first, second, values)
    figure = empty_figure(8.6, 3.8)
    axes = figure.add_subplot(1, 2, 1)
    edges = [_edges(columns), _edges(rows)]
    drawn = axes.pcolormesh(*edges, table, cmap="cividis", rasterized=True)
    if np.isfinite(table).any():
        place = np.unravel_index(np.nanargmin(table) if best == "min" else np.nanargmax(table), table.shape)
        label = f"best: {table[place]:.4f}"
        axes.plot(columns[place[1]], rows[place[0]], "w*", ms=11, mec="black", label=label, clip_on=False)
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    first_name, second_name = (fitted(name, 2.4) for name in names)
    axes.set_xlabel(second_name)
    axes.set_ylabel(first_name)
    axes.grid(visible=False)
    figure.colorbar(drawn, ax=axes, label=fitted(metric, 2.4))
    surface: Any = figure.add_subplot(1, 2, 2, projection="3d")
    surface.plot_surface(*np.meshgrid(columns, rows), table, cmap="cividis", edgecolor="black", lw=0.15)
    surface.set_xlabel(fitted(names[1], 1.3, 8, 2), fontsize=8)
    surface.set_ylabel(fitted(names[0], 1.3, 8, 2), fontsize=8)
    surface.tick_params(labelsize=7)
    surface.view_init(elev=28, azim=50)
    return figure


def _edges(values: np.ndarray) -> np.ndarray:
    """Return the borders (n + 1,) of cells around sorted values (n,)."""
    middles = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middles[0]], middles, [2 * values[-1] - middles[-1]]])
