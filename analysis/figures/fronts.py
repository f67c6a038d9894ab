"""Figures of a Pareto front beyond two metrics, and of its hypervolume over the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.figures.labels import fitted
from paretune.analysis.figures.runs import COLORS, GREY, MARKERS, empty_figure, frame, label_of, legend_names, new_figure, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 1.75  # inches of one panel of the grid
LINES = ["-", "--", "-.", ":"]


@styled
def pairs_figure(table: pd.DataFrame, metrics: Sequence[str], goals: Sequence[str], chosen: str | None = None) -> Figure:
    """Draw every pair of three or more metrics, the lower triangle of a grid; on its diagonal how each metric is spread.

    Args:
        table: runs with a bool column `on_front`, which is that of all the metrics together.
        chosen: the id of the chosen run.
    """
    from matplotlib.lines import Line2D

    n_metrics = len(metrics)
    figure = empty_figure(SIDE * n_metrics + 0.5, SIDE * n_metrics + 0.6)
    grid = figure.subplots(n_metrics, n_metrics, sharex="col", squeeze=False)
    values = table[list(metrics)].to_numpy(dtype=np.float64)
    front, pick = table["on_front"].to_numpy(dtype=bool), table["run"].eq(chosen).to_numpy()
    limits = [frame(column, front | pick, goal) for column, goal in zip(values.T, goals, strict=True)]
    for i in range(n_metrics):
        for j in range(n_metrics):
            axes = grid[i, j]
            if j > i:
                axes.remove()
                continue
            axes.set_xlim(limits[j])
            if i == j:
                _spread(axes, values[:, i], front)
            else:
                _pair(axes, values[:, j], values[:, i], front, pick)
                axes.set_ylim(limits[i])
            _label(axes, metrics, goals, i, j)
    inside = np.all([(low <= x) & (x <= high) for x, (low, high) in zip(values.T, limits, strict=True)], axis=0)
    handles, labels = grid[1, 0].get_legend_handles_labels()
    every = _("on the front ({count} of {total})").format(count=int(front.sum()), total=len(front))
    counted = {_("on the front"): every}
    labels = [counted.get(label, label) for label in labels]
    if not inside.all():
        count = int((~inside).sum())
        handles.append(Line2D([], [], ls="none"))
        labels.append(_("{count} beyond a frame").format(count=count))
    figure.legend(handles, labels, loc="upper right", fontsize=8, borderaxespad=0.8)
    return figure


def _pair(axes: Axes, x: np.ndarray, y: np.ndarray, front: np.ndarray, pick: np.ndarray) -> None:
    if not front.all():
        axes.scatter(x[~front], y[~front], s=13, color=GREY, label=_("dominated"), zorder=3)
    axes.scatter(
        x[front], y[front], s=26, color=COLORS[0], marker=MARKERS[1], edgecolor="black", lw=0.5, label=_("on the front"), zorder=4
    )
    if pick.any():
        axes.scatter(x[pick], y[pick], s=110, facecolor="none", edgecolor="black", lw=1.3, label=_("chosen"), zorder=5)


def _spread(axes: Axes, values: np.ndarray, front: np.ndarray) -> None:
    """Draw a histogram inside the panel's frame, the front's runs below and hatched."""
    from matplotlib.ticker import MaxNLocator

    edges = np.linspace(*axes.get_xlim(), 13)
    axes.hist(
        [values[front], values[~front]],
        bins=edges.tolist(),
        stacked=True,
        color=[COLORS[0], "#cccccc"],
        edgecolor="black",
        linewidth=0.5,
        hatch=["////", ""],
    )
    axes.grid(False)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def _label(axes: Axes, metrics: Sequence[str], goals: Sequence[str], i: int, j: int) -> None:
    """Name the axes at the grid's edges, with the direction that is better."""
    from matplotlib.ticker import MaxNLocator

    arrows = {"maximize": _("→ better"), "minimize": _("← better")}
    across, up = (f"{fitted(label_of(metrics[k]), SIDE - 0.45, 8.5)}\n{arrows[goals[k]]}" for k in (j, i))
    axes.tick_params(labelsize=7.5, labelbottom=i == len(metrics) - 1, labelleft=j in (0, i))
    axes.xaxis.set_major_locator(MaxNLocator(3))
    if i == len(metrics) - 1:
        axes.set_xlabel(across, fontsize=8.5)
    if i == j:
        axes.set_ylabel(_("runs"), fontsize=8.5, labelpad=1)
        return
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if j == 0:
        axes.set_ylabel(up, fontsize=8.5)


@styled
def hypervolume_figure(volumes: Mapping[str, np.ndarray], *, repeated: bool = False) -> Figure:
    """Draw the hypervolume after each finished run (n_runs,), in the order of their creation, by name.

    Args:
        repeated: whether it is after each configuration, of which several runs tried some.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = new_figure(4.2, 2.7)
    for place, (name, after) in enumerate(zip(legend_names(volumes), volumes.values(), strict=True)):
        number = np.arange(1, len(after) + 1)
        color, line = COLORS[place % 4], LINES[place % 4]
        axes.step([*number, len(after) + 0.5], [*after, after[-1]], where="post", color=color, ls=line, lw=1.3)
        grew = np.diff(after, prepend=0.0) > 0
        axes.plot(number[grew], after[grew], MARKERS[place % 4], color=color, ms=4, mec="black", mew=0.5, ls="none")
        axes.plot([], [], MARKERS[place % 4], color=color, ls=line, ms=4, mec="black", mew=0.5, label=name)
    units = (
        _("configurations, in the order of their first runs") if repeated else _("finished runs, in the order of their creation")
    )
    axes.set_xlabel(fitted(units, 3.4))
    axes.set_ylabel(_("dominated hypervolume"))
    every = np.concatenate(list(volumes.values()))
    room = 0.07 * (float(every.max() - every.min()) or max(float(every.max()), 1e-9))
    axes.set_ylim(max(0.0, float(every.min()) - room), float(every.max()) + room)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(volumes) > 1:
        axes.legend(fontsize=8, loc="lower right")
    return figure
