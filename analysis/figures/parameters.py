"""Figures of what a sweep searched: importance bars with intervals, parallel coordinates, a slice per hyper-parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.figures.labels import fitted
from paretune.analysis.figures.runs import COLORS, GREY, empty_figure, finite, label_of, new_figure, styled, window
from paretune.core.short_names import cut, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from paretune.analysis.findings.parameters import Tried
    from paretune.search.importance import Importance

MOST_AXES = 8  # of parallel coordinates, the metric's aside
MOST_SLICES = 12
MOST_CHARACTERS = 12  # of a category's name
MOST_OF_NAME = 60  # characters of a parameter's name
JITTER = 0.02  # of an axis, so that lines through one category do not hide each other
COLUMNS = 4
MOST_OF_AXIS = 18  # characters of the name of an axis on a page


@styled
def importance_figure(result: Importance) -> Figure:
    """Draw the importance of each hyper-parameter as a bar, the largest on top, with the interval of the resamples."""
    table = result.table
    names = [fitted(name, 1.7) for name in shortened(list(table["parameter"]), MOST_OF_NAME)]
    row = 0.1 + 0.16 * max((name.count("\n") + 1 for name in names), default=1)
    figure, (axes,) = new_figure(4.2, max(row * len(table) + 1.1, 2.1))
    places = np.arange(len(table))
    axes.barh(places, table["importance"], color=COLORS[0], alpha=0.55, height=0.66)
    axes.hlines(places, table["low"], table["high"], color="black", lw=1.1)
    for side in ("low", "high"):
        axes.plot(table[side], places, "|", color="black", ms=6)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, min(1.02, 1.08 * max(0.0, *finite(table[["high", "importance"]]))) or 1.0)
    label = _("share of the importance for {metric}").format(metric=label_of(result.metric))
    axes.set_xlabel(fitted(label, 2.2, most_lines=5))
    return figure


@styled
def parallel_figure(found: Tried, order: Sequence[str] = ()) -> Figure:
    """Draw each run as a line through its values; the better its rank, the darker and thicker the line.

    Args:
        order: the parameters from left to right; at most MOST_AXES are drawn. By default as they were found.
    """
    import matplotlib
    from matplotlib.collections import LineCollection

    parameters = list(order or found.values)[:MOST_AXES]
    figure, (axes,) = new_figure(8.4, 3.9)
    lines, names = [], [fitted(name, 1.6) for name in _axis_names(found, parameters, MOST_OF_NAME)]
    for place, parameter in enumerate(parameters):
        heights, ticks = _axis(found, parameter)
        lines.append(heights)
        _ticks(axes, place, ticks)
    heights, ticks = _metric_axis(found)
    lines.append(heights)
    _ticks(axes, len(parameters), ticks)
    worst_first = found.better_first[::-1]
    quality = np.linspace(0, 1, len(worst_first)) if len(worst_first) > 1 else np.ones(1)
    points = np.stack(lines, axis=1)[worst_first]  # (n_runs, n_axes)
    colors = matplotlib.colormaps["cividis_r"](0.15 + 0.85 * quality)
    colors[:, 3] = 0.35 + 0.65 * quality
    across = np.arange(points.shape[1])
    segments = [np.stack([across, row], axis=1) for row in points]
    axes.add_collection(LineCollection(segments, colors=colors, linewidths=0.5 + 2.3 * quality**4, zorder=2))
    axes.set_xlim(-0.15, len(parameters) + 0.35)
    axes.set_ylim(-0.06, 1.06)
    axes.set_xticks(across, names, rotation=20, ha="right")
    axes.set_yticks([])
    axes.grid(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    figure.suptitle(_("the darker and thicker a line, the better the run's rank"), fontsize=8, x=0.99, ha="right")
    return figure


def _axis_names(found: Tried, parameters: Sequence[str], most: int) -> list[str]:
    """Return the names of the axes in at most so many characters, the metric's last: it keeps its end, as others begin alike."""
    return shortened([*parameters, cut(label_of(found.metric), most)], most)


def _ticks(axes: Axes, place: int, ticks: Sequence[tuple[float, str]]) -> None:
    """Draw one vertical axis with its labels to the right of it."""
    axes.axvline(place, color="black", lw=0.9, ymin=0.05, ymax=0.95, zorder=3)
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
    for height, label in ticks:
        axes.plot([place, place + 0.04], [height, height], color="black", lw=0.9, zorder=3)
        axes.text(place + 0.06, height, label, fontsize=7.5, va="center", ha="left", bbox=box, zorder=4)


def _axis(found: Tried, parameter: str) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Return the height of each run on a parameter's axis (n_runs,) in [0, 1], and heights and texts of its labels.

    A run without the parameter lies at the bottom, at a dash.
    """
    from matplotlib.ticker import MaxNLocator

    column = found.values[parameter]
    absent = column.isna().to_numpy()
    if found.discrete(parameter):
        choices, last = found.choices(parameter), max(len(found.choices(parameter)) - 1, 1)
        heights = found.chosen(parameter) / last
        if absent.any():  # its dash is last in order
            heights, choices = np.where(absent, 0.0, heights + 1 / last), [choices[-1], *choices[:-1]]
        heights = heights + np.random.default_rng(0).uniform(-JITTER, JITTER, len(heights))
        return heights, [(place / last, label) for place, label in enumerate(_choices(choices))]
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    log = found.on_log_axis(parameter)
    scaled = np.log10(numbers) if log else numbers
    low, high = np.nanmin(scaled), np.nanmax(scaled)
    bottom = 0.12 if absent.any() else 0.0

    def height(value: Any) -> Any:
        return bottom + (1 - bottom) * (value - low) / (high - low)

    if log:
        inner = [float(mark) for mark in range(int(np.ceil(low)), int(high) + 1)]
    else:
        inner = list(MaxNLocator(4).tick_values(low, high))
    at = [low, *[mark for mark in inner if 0.1 < (mark - low) / (high - low) < 0.9], high]
    ticks = [(float(height(mark)), f"{10**mark if log else mark:.3g}") for mark in at]
    return np.where(absent, 0.0, height(scaled)), ticks + ([(0.0, "–")] if absent.any() else [])


def _choices(names: Sequence[str]) -> list[str]:
    """Return choices as ticks name them."""
    return [name.replace("$", r"\$") for name in shortened(names, MOST_CHARACTERS)]


def _metric_axis(found: Tried) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Return the height of each run on the metric's axis, the best at the top; the worst quarter may lie at the bottom."""
    from matplotlib.ticker import MaxNLocator

    sign = 1.0 if found.goal == "maximize" else -1.0
    scores = sign * found.scores
    low, high = max(window(scores, "maximize")[0], scores.min()), scores.max()
    heights = np.clip((scores - low) / (high - low if high > low else 1.0), 0, 1)
    marks = [low, *[mark for mark in MaxNLocator(4).tick_values(low, high) if 0.1 < (mark - low) / (high - low or 1) < 0.9], high]
    worse = ("≤ " if sign > 0 else "≥ ") if scores.min() < low else ""
    labels = [f"{worse if place == 0 else ''}{sign * mark:.4g}" for place, mark in enumerate(marks)]
    return heights, [((mark - low) / (high - low or 1), label) for mark, label in zip(marks, labels, strict=True)]


@styled
def slices_figure(found: Tried, order: Sequence[str] = ()) -> Figure:
    """Draw the metric against each searched parameter: numbers on an axis, choices as strips with their median.

    Args:
        order: the parameters, row by row; at most MOST_SLICES are drawn. By default as they were found.
    """
    parameters = list(order or found.values)[:MOST_SLICES]
    n_columns = min(COLUMNS, len(parameters))
    n_rows = -(-len(parameters) // n_columns)
    figure = empty_figure(8.4 if n_columns > 2 else 4.2, 2.0 * n_rows + 0.3)
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    limits, best = window(found.scores, found.goal), int(found.better_first[0])
    labels = [fitted(name, 8.4 / COLUMNS - 0.5, 8.5) for name in shortened(parameters, MOST_OF_NAME)]
    for axes, parameter, label in zip(grid.flat, parameters, labels, strict=False):
        x = _slice_axis(axes, found, parameter)
        axes.scatter(x, found.scores, s=16, color=COLORS[0], alpha=0.75, lw=0, zorder=3, clip_on=True)
        axes.scatter(x[best], found.scores[best], s=90, marker="*", color=COLORS[1], edgecolor="black", lw=0.6, zorder=4)
        axes.set_xlabel(label, fontsize=8.5)
    for axes in grid.flat[len(parameters) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(fitted(label_of(found.metric), 1.3))
    grid[0, 0].set_ylim(limits)
    outside = int(((found.scores < limits[0]) | (found.scores > limits[1])).sum())
    text = fitted(_marks_in_words(outside), figure.get_figwidth() - 0.2, 8)
    figure.suptitle(text, fontsize=8, x=0.99, ha="right")
    return figure


def _marks_in_words(outside: int) -> str:
    """Say what the marks of the slices mean, and how many runs the frame leaves out."""
    if outside > 1:
        return _("star: the best run; bar: median of a choice; {count} runs beyond the frame").format(count=outside)
    if outside == 1:
        return _("star: the best run; bar: median of a choice; 1 run beyond the frame")
    return _("star: the best run; bar: median of a choice")


def _slice_axis(axes: Axes, found: Tried, parameter: str) -> np.ndarray:
    """Set up the horizontal axis of one slice; return the place of each run (n_runs,)."""
    from matplotlib.ticker import MaxNLocator, NullFormatter

    axes.tick_params(labelsize=7.5)
    column = found.values[parameter]
    if not found.discrete(parameter):
        if column.isna().any():  # such runs are no points on an axis of numbers
            text = _("{count} runs without it").format(count=int(column.isna().sum()))
            axes.text(0.02, 0.02, text, transform=axes.transAxes, fontsize=7)
        if found.on_log_axis(parameter):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    choices, at = _choices(found.choices(parameter)), found.chosen(parameter)
    for place in range(len(choices)):
        axes.hlines(np.median(found.scores[at == place]), place - 0.3, place + 0.3, color=GREY, lw=1.6, zorder=2)
    crowded = sum(map(len, choices)) > 16
    axes.set_xticks(range(len(choices)), choices, rotation=35 if crowded else 0, ha="right" if crowded else "center")
    axes.set_xlim(-0.5, len(choices) - 0.5)
    axes.grid(axis="x", visible=False)
    return at + np.random.default_rng(0).uniform(-0.2, 0.2, len(at))


@styled
def parallel_html(found: Tried, order: Sequence[str] = ()) -> str:
    """Return parallel coordinates of every searched parameter and the metric as HTML that needs no other file.

    Axes can be dragged, and runs picked by a range on an axis.
    """
    from plotly import graph_objects

    dimensions: list[dict[str, Any]] = []
    parameters = list(order or found.values)
    *labels, metric_label = _axis_names(found, parameters, MOST_OF_AXIS)
    for parameter, label in zip(parameters, labels, strict=True):
        heights, ticks = _axis(found, parameter)
        at, texts = [height for height, _ in ticks], [text for _, text in ticks]
        dimensions.append({"label": label, "values": heights.tolist(), "tickvals": at, "ticktext": texts, "range": [-0.03, 1.03]})
    dimensions.append({"label": metric_label, "values": found.scores.tolist()})
    low, high = window(found.scores, found.goal)
    line = {
        "color": found.scores.tolist(),
        "colorscale": "Cividis",
        "reversescale": found.goal == "maximize",
        "cmin": max(low, float(found.scores.min())),
        "cmax": min(high, float(found.scores.max())),
        "showscale": True,
    }
    figure = graph_objects.Figure(graph_objects.Parcoords(dimensions=dimensions, line=line))
    figure.update_layout(template="plotly_white", height=480, margin={"l": 70, "r": 40, "t": 60, "b": 30})
    return figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
