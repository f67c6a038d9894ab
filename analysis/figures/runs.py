"""Figures of runs and models with matplotlib: colour-blind safe, legible at column width, each axis labelled.

Colours: Okabe and Ito 2008, "Color Universal Design".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.figures.labels import fitted
from paretune.core.errors import UsageError
from paretune.core.short_names import shortened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]
MARKERS = ["o", "s", "^", "D"]
GREY = "#888888"
MOST_CHARACTERS = 24  # of a sweep's name in a legend
MOST_OF_CLASS = 16  # characters of a class's name
ROOM = 0.08  # of a frame, between its edge and a run that must be seen whole
LABELS = {
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "n_parameters": "parameters",
    "seconds": "training time in seconds",
    "test_loss": "loss",
    "test_accuracy": "accuracy",
}
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


Wanted = ParamSpec("Wanted")
Drawn = TypeVar("Drawn")


def label_of(metric: str) -> str:
    """Return a metric as an axis names it; its own name where LABELS lacks it."""
    return _(LABELS[metric]) if metric in LABELS else metric


def styled(draw: Callable[Wanted, Drawn]) -> Callable[Wanted, Drawn]:
    """Let a function draw in STYLE, and leave matplotlib's own settings as they are."""

    @functools.wraps(draw)
    def in_style(*args: Wanted.args, **settings: Wanted.kwargs) -> Drawn:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **settings)

    return in_style


def empty_figure(width: float, height: float) -> Figure:
    """Return a figure of so many inches without panels; whoever draws in it is `styled`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of so many inches, and its panels in a row."""
    figure = empty_figure(width, height)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


@styled
def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG (or by the file's ending), at 200 dots per inch.

    Raises:
        UsageError: if the file cannot be written, or its ending names no picture format.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
    except ValueError:
        raise UsageError(f"{path} must end in .png, .svg or .pdf.") from None
    return path


@styled
def pareto_figure(
    tables: Mapping[str, pd.DataFrame],
    metrics: Sequence[str] = ("precision", "recall"),
    goals: Sequence[str] = ("maximize", "maximize"),
    chosen: Mapping[str, str] | None = None,
) -> Figure:
    """Draw runs in the plane of two metrics, one panel per classifier: the front, and the area that it dominates.

    Args:
        tables: runs with a bool column `on_front`, by classifier.
        chosen: the id of the chosen run, by classifier.
    """
    from matplotlib.ticker import MaxNLocator

    figure, panels = new_figure(4.2 * len(tables), 3.8, len(tables))
    names, across = legend_names(tables), fitted(label_of(metrics[0]), 3.2)
    for place, (axes, name, (own, table)) in enumerate(zip(panels, names, tables.items(), strict=True)):
        x, y = (table[metric].to_numpy(dtype=np.float64) for metric in metrics)
        front = table["on_front"].to_numpy(dtype=bool)
        pick = table["run"].eq((chosen or {}).get(own)).to_numpy()
        limits = [frame(values, front | pick, goal) for values, goal in zip((x, y), goals, strict=True)]
        axes.set_xlim(limits[0])
        axes.set_ylim(limits[1])
        color = COLORS[place % len(COLORS)]
        _shade(axes, np.unique(np.stack([x[front], y[front]], axis=1), axis=0), goals, limits, color)
        inside = (x >= limits[0][0]) & (x <= limits[0][1]) & (y >= limits[1][0]) & (y <= limits[1][1])
        dominated = ~front & inside
        if dominated.any():
            axes.scatter(x[dominated], y[dominated], s=22, color=GREY, label=_("dominated"), zorder=3)
        label = _("on the front ({count} of {total})").format(count=int(front.sum()), total=len(front))
        axes.scatter(
            x[front], y[front], s=46, color=color, marker=MARKERS[place % 4], edgecolor="black", lw=0.6, label=label, zorder=4
        )
        if pick.any():
            axes.scatter(x[pick], y[pick], s=190, facecolor="none", edgecolor="black", lw=1.4, label=_("chosen"), zorder=5)
        _note_outside(axes, int((~inside).sum()))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(name, loc="left")
        axes.set_xlabel(across)
        axes.set_ylabel(fitted(label_of(metrics[1]), 2.8))
        below = -0.17 - 0.05 * across.count("\n")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncols=3, fontsize=7.5, handletextpad=0.2, columnspacing=0.9)
    return figure


def legend_names(names: Iterable[str], most: int = MOST_CHARACTERS) -> list[str]:
    """Return names of sweeps or classes as legends, ticks and titles hold them: short, and different where they are."""
    return [name.replace("$", r"\$") for name in shortened(list(names), most)]


def _note_outside(axes: Axes, count: int) -> None:
    """Say how many runs the frame leaves out, above it, where no point and no line is."""
    if count:
        text = _("{count} beyond the frame").format(count=count)
        axes.set_title(text, loc="right", fontsize=7.5, color="#555555")


def finite(values: Any) -> np.ndarray:
    """Return the finite values of any shape, flat."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def scale_of(values: Any, span: float = 1.0) -> str:
    """Return `log` where all finite values are above 0 and their largest is `span` times the smallest or more, else `linear`."""
    known = finite(values)
    return "log" if len(known) and known.min() > 0 and known.max() >= span * known.min() else "linear"


def window(values: np.ndarray, goal: str) -> tuple[float, float]:
    """Return axis limits around the better three quarters of the finite values, so that one bad run does not hide the front."""
    known = finite(values)
    if not len(known):
        return 0.0, 1.0
    good = np.quantile(known, 0.25 if goal == "maximize" else 0.75)
    best = known.max() if goal == "maximize" else known.min()
    span = max(abs(best - good), 1e-3 * max(abs(best), 1e-9), 1e-9)
    return float(min(good, best) - 0.25 * span), float(max(good, best) + 0.25 * span)


def frame(values: np.ndarray, front: np.ndarray, goal: str) -> tuple[float, float]:
    """Return axis limits: the window of the values (n_runs,), with room around the runs (n_runs,) that must be seen whole.

    Shares, which are all between 0 and 1, are framed beyond these only where a mark needs the room.
    """
    low, high = window(values, goal)
    known, shown = finite(values), finite(values[front])
    room = ROOM * (np.max([high, *shown]) - np.min([low, *shown]))
    if len(known) and known.min() >= 0 and known.max() <= 1:
        low, high = max(low, 0.0), min(high, 1.0)
    return float(np.min([low, *(shown - room)])), float(np.max([high, *(shown + room)]))


def _shade(
    axes: Axes,
    points: np.ndarray,
    goals: Sequence[str],
    limits: Sequence[tuple[float, float]],
    color: str,
) -> None:
    """Shade what the front's points (n_points, 2) dominate, and draw the staircase along its edge."""
    corner = [low if goal == "maximize" else high for (low, high), goal in zip(limits, goals, strict=True)]
    edge = staircase(points, goals, corner)
    axes.fill(*np.array([corner, *edge]).T, color=color, alpha=0.13, lw=0, zorder=1)
    axes.plot(*np.array(edge).T, color=color, lw=1.2, zorder=2)


def staircase(points: np.ndarray, goals: Sequence[str], corner: Sequence[float]) -> list[tuple[float, float]]:
    """Return the edge of what points (n_points, 2) of a front dominate, as far as a corner (2,)."""
    steps_x, steps_y = points[np.argsort(points[:, 0])].T
    if goals[0] == "maximize":  # the area lies to the left: each level holds up to the point that ends it
        line_x = [corner[0], *np.repeat(steps_x, 2)]
        line_y = [*np.repeat(steps_y, 2), corner[1]]
    else:
        line_x = [*np.repeat(steps_x, 2), corner[0]]
        line_y = [corner[1], *np.repeat(steps_y, 2)]
    return list(zip(map(float, line_x), map(float, line_y), strict=True))


@styled
def tradeoff_figure(tables: Mapping[str, pd.DataFrame], chosen: Mapping[str, str] | None = None) -> Figure:
    """Draw F1 against `n_parameters` and against `seconds`, all classifiers together."""
    from matplotlib.ticker import NullFormatter

    figure, panels = new_figure(8.4, 3.3, 2)
    for axes, metric in zip(panels, ("n_parameters", "seconds"), strict=True):
        for place, ((name, table), label) in enumerate(zip(tables.items(), legend_names(tables), strict=True)):
            axes.scatter(
                table[metric], table["f1"], s=24, marker=MARKERS[place % 4], color=COLORS[place % 4], label=label, alpha=0.85
            )
            pick = table[table["run"].eq((chosen or {}).get(name))]
            axes.scatter(pick[metric], pick["f1"], s=150, facecolor="none", edgecolor="black", lw=1.3)
        together = np.concatenate([table["f1"].to_numpy(dtype=np.float64) for table in tables.values()])
        picks = np.concatenate([table["run"].eq((chosen or {}).get(name)).to_numpy() for name, table in tables.items()])
        axes.set_ylim(frame(together, picks, "maximize"))
        axes.set_xscale(scale_of(np.concatenate([table[metric].to_numpy(dtype=np.float64) for table in tables.values()])))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(label_of(metric))
        axes.set_ylabel(label_of("f1"))
        _note_outside(axes, int((together < axes.get_ylim()[0]).sum()))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


@styled
def curves_figure(history: pd.DataFrame, *, title: str, n_epochs: int | None = None, part: str = "") -> Figure:
    """Draw loss and accuracy over the epochs of one run, on the training images and on `part`, which is the hold-out by default.

    Args:
        history: the rows of one run.
        n_epochs: the epoch that is marked as the best, where there is one.
    """
    from matplotlib.ticker import MaxNLocator

    figure, panels = new_figure(8.4, 3.1, 2)
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        for place, (column, label) in enumerate(
            ((f"train_{name}", _("training")), (f"test_{name}", fitted(part or _("hold-out"), 2.2, 8)))
        ):
            if column in history and history[column].notna().any():
                style = "-" if place == 0 else "--"
                axes.plot(history["epoch"], history[column], style, color=COLORS[place], label=label, marker=MARKERS[place], ms=2.5)
        drawn = bool(axes.lines)
        if n_epochs is not None:
            axes.axvline(n_epochs, color=GREY, lw=0.9, ls=":", label=_("best epoch ({epoch})").format(epoch=n_epochs))
        axes.set_visible(drawn)
        axes.set_xlabel(_("epoch"))
        axes.set_ylabel(label_of(f"test_{name}"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(fitted(title, 3.6) if name == "loss" else "", loc="left", fontsize=9)
    panels[0].set_yscale(scale_of(history.filter(["train_loss", "test_loss"])))
    shown = [axes for axes in panels if axes.get_visible()]
    if shown:
        shown[-1].legend(fontsize=8)
    return figure


@styled
def search_figure(
    tables: Mapping[str, pd.DataFrame], metric: str = "f1", goal: str = "maximize", chosen: Mapping[str, str] | None = None
) -> Figure:
    """Draw each run's value and the best so far, in the order of the runs, which are counted from 0 as trials are in their names.

    The best are of the finished runs that keep the constraints of their sweep; the best and the chosen one of each table are in
    sight, whatever the frame leaves out.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = new_figure(8.4, 2.9)
    together, seen = [], []
    for place, ((name, table), label) in enumerate(zip(tables.items(), legend_names(tables), strict=True)):
        values = table[metric].to_numpy(dtype=np.float64)
        done = (table["state"] == "finished").to_numpy() & np.isfinite(values)
        counted = done & table["feasible"].to_numpy(dtype=bool) if "feasible" in table else done
        number = np.arange(len(values))
        color, marker = COLORS[place % 4], MARKERS[place % 4]
        axes.scatter(number[counted], values[counted], s=20, color=color, marker=marker, label=label)
        axes.scatter(number[~counted], values[~counted], s=16, facecolor="none", edgecolor=color, marker=marker, lw=0.8)
        best = (np.fmin if goal == "minimize" else np.fmax).accumulate(np.where(counted, values, np.nan))
        axes.step(number, best, where="post", color=color, lw=1.2)
        pick = table["run"].eq((chosen or {}).get(name)).to_numpy()
        axes.scatter(number[pick], values[pick], s=110, facecolor="none", edgecolor="black", lw=1.2)
        together.append(values)
        seen.append(pick | (counted & (values == best[-1]) if len(best) else pick))
    every = np.concatenate(together)
    axes.set_ylim(frame(every, np.concatenate(seen), goal))
    low, high = axes.get_ylim()
    _note_outside(axes, int(((every < low) | (every > high)).sum()))
    axes.set_xlabel(_("runs, in the order of their creation (hollow: did not finish, or breaks a constraint)"))
    axes.set_ylabel(fitted(label_of(metric), 2.1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.2)
    return figure


@styled
def confusion_figure(confusion: np.ndarray, class_names: Sequence[str], *, title: str) -> Figure:
    """Draw a confusion matrix (n_classes, n_classes): counts as numbers, mistakes as shades."""
    n_classes, class_names = len(class_names), legend_names(class_names, MOST_OF_CLASS)
    side = min(max(3.4, 0.42 * n_classes + 1.2), 9.0)
    figure, (axes,) = new_figure(side, side)
    mistakes = confusion.astype(np.float64).copy()
    np.fill_diagonal(mistakes, 0.0)
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=max(mistakes.max(), 5.0))
    axes.grid(False)
    size = 8 if n_classes <= 12 else 5.5
    for i in range(n_classes):
        for j in range(n_classes):
            if confusion[i, j]:
                dark = mistakes[i, j] > 0.6 * max(mistakes.max(), 5.0)
                weight = "bold" if i == j else "normal"
                axes.text(
                    j,
                    i,
                    f"{confusion[i, j]}",
                    ha="center",
                    va="center",
                    fontsize=size,
                    weight=weight,
                    color="white" if dark else "black",
                )
    ticks = range(n_classes)
    crowded = max(len(name) for name in class_names) > 2
    axes.set_xticks(ticks, class_names, rotation=60 if crowded else 0, ha="right" if crowded else "center", fontsize=8)
    axes.set_yticks(ticks, class_names, fontsize=8)
    axes.set_xlabel(_("predicted"))
    axes.set_ylabel(_("true"))
    axes.set_title(fitted(title, 0.7 * figure.get_figwidth()), fontsize=9)
    return figure
