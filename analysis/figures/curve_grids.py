"""Curves of many runs as a grid of panels: each panel a configuration, its line the mean over seeds, its band their range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from paretune.analysis.figures.labels import fitted
from paretune.analysis.figures.runs import COLORS, empty_figure, scale_of, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paretune.analysis.sources.run_record import RunRecord

STYLES = ("-", "--")


@styled
def curve_grid_figure(
    rows: Sequence[Mapping[str, Sequence[RunRecord]]], metric: str, *, part: str, label: str = "", log: bool = False
) -> Figure:
    """Draw the training and the evaluated curve of each panel's runs.

    Args:
        rows: panels from top to bottom; in each row, title -> runs, from left to right.
        metric: `loss` or `accuracy`.
        label: what the axis says instead of the metric; `log` makes it logarithmic where all values are above 0.
        part: what `test_loss` and `test_accuracy` were measured on.
    """
    from matplotlib.ticker import MaxNLocator

    n_columns = max(len(row) for row in rows)
    size = (max(4.6, 2.9 * n_columns), max(3.0, 2.3 * len(rows)))
    figure = empty_figure(*size)
    panels = figure.subplots(len(rows), n_columns, squeeze=False, sharex=True, sharey=True)
    curves: list[np.ndarray] = []
    for line, row in zip(panels, rows, strict=True):
        for axes, (title, runs) in zip(line, row.items(), strict=False):
            for place, (prefix, name) in enumerate((("train", "training"), ("test", part))):
                values = _stacked(runs, f"{prefix}_{metric}")
                epochs = np.flatnonzero(np.isfinite(values).any(axis=0)) + 1
                values = values[:, epochs - 1]
                curves.append(values)
                axes.fill_between(
                    epochs, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=COLORS[place], alpha=0.2, lw=0
                )
                axes.plot(epochs, np.nanmean(values, axis=0), STYLES[place], color=COLORS[place], label=name, lw=1.5)
            axes.set_title(fitted(title, size[0] / n_columns - 0.6, 8), fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in line[len(row) :]:
            axes.axis("off")
        line[0].set_ylabel(fitted(label or metric, size[1] / len(rows) - 0.7))
    if log:
        panels[0][0].set_yscale(scale_of(np.concatenate([values.ravel() for values in curves])))
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    panels[0][0].legend(fontsize=8)
    return figure


def _stacked(runs: Sequence[RunRecord], column: str) -> np.ndarray:
    """Return a column of each run (n_runs, n_epochs), NaN where a run ended earlier."""
    curves = [run.columns.get(column, np.full(run.n_rows, np.nan)) for run in runs]
    length = max(len(curve) for curve in curves)
    return np.stack([np.pad(curve, (0, length - len(curve)), constant_values=np.nan) for curve in curves])
