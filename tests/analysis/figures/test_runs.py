"""Every figure on small tables: what it draws, and that it draws at all where there is little to draw."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from paretune.analysis.figures.diagnosis import diagnosis_figure
from paretune.analysis.figures.runs import (
    confusion_figure,
    curves_figure,
    frame,
    pareto_figure,
    save_figure,
    search_figure,
    tradeoff_figure,
    window,
)
from paretune.analysis.findings.diagnosis import Diagnosis, diagnose
from paretune.analysis.findings.front import front_of
from tests.analysis.reading import is_a_drawing
from tests.analysis.tables import runs_of, scored

MANY = runs_of(
    scored(0.95, 0.50, f1=0.60, seconds=9.0, n_parameters=650.0),
    scored(0.80, 0.80, f1=0.80, seconds=5.0, n_parameters=850.0),
    scored(0.50, 0.95, f1=0.61, seconds=7.0, n_parameters=750.0),
    scored(0.60, 0.70, f1=0.65, seconds=6.0, n_parameters=700.0),
    scored(0.55, 0.75, f1=0.63, seconds=6.5, n_parameters=710.0),
    scored(0.01, 0.02, f1=0.01, seconds=1.0, n_parameters=10.0),
)
ONE = runs_of(scored(0.9, 0.9, f1=0.9, seconds=2.0, n_parameters=650.0))
EQUAL = runs_of(*[scored(0.9, 0.9, f1=0.9, seconds=2.0, n_parameters=650.0)] * 3)
TABLES = {"many runs": MANY, "one run": ONE, "equal runs": EQUAL}


@pytest.mark.parametrize("tables", [["many runs"], ["one run"], ["equal runs"], ["many runs", "one run"]], ids=" and ".join)
def test_the_pareto_the_tradeoff_and_the_search_are_drawn(tables: list[str], tmp_path: Path) -> None:
    fronts = {name: front_of(TABLES[name])[0] for name in tables}
    chosen = dict.fromkeys(tables, "a")
    for place, figure in enumerate(
        [pareto_figure(fronts, chosen=chosen), tradeoff_figure(fronts, chosen), search_figure({n: TABLES[n] for n in tables})]
    ):
        assert is_a_drawing(save_figure(figure, tmp_path / "figures" / f"{place}.png")), place


@pytest.mark.parametrize("goals", [("maximize", "minimize"), ("minimize", "maximize"), ("minimize", "minimize")], ids="-".join)
@pytest.mark.parametrize("name", list(TABLES))
def test_the_pareto_figure_takes_metrics_that_are_minimized(name: str, goals: tuple[str, str], tmp_path: Path) -> None:
    metrics = ("precision", "seconds")
    front, _ = front_of(TABLES[name], metrics, goals)
    assert is_a_drawing(save_figure(pareto_figure({name: front}, metrics, goals), tmp_path / "front.png"))


def test_a_panel_says_how_many_runs_are_on_the_front_and_how_many_are_out_of_sight() -> None:
    front, _ = front_of(MANY)
    (axes,) = pareto_figure({"ann": front}, chosen={"ann": "b"}).axes
    assert (axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()) == ("ann", "precision", "recall")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["dominated", "on the front (3 of 6)", "chosen"]
    assert axes.get_title(loc="right") == "1 beyond the frame", "above the frame, where no line crosses it"
    assert list(axes.texts) == []


@pytest.mark.parametrize("pick", ["a", "c", "f"])
def test_the_circle_of_the_chosen_run_is_seen_whole(pick: str) -> None:
    front, _ = front_of(MANY)
    figure = pareto_figure({"ann": front}, chosen={"ann": pick})
    figure.draw_without_rendering()
    (axes,) = figure.axes
    circle = next(one for one in axes.collections if one.get_label() == "chosen")
    (place,) = axes.transData.transform(np.asarray(circle.get_offsets()))
    radius = math.sqrt(190 / math.pi) * figure.dpi / 72
    box = axes.get_window_extent()
    assert box.x0 <= place[0] - radius
    assert place[0] + radius <= box.x1
    assert box.y0 <= place[1] - radius
    assert place[1] + radius <= box.y1


def test_an_axis_of_precision_ends_at_1_where_no_mark_needs_more() -> None:
    values, front = np.array([0.3, 0.4, 0.5, 0.9]), np.array([False, False, False, True])
    assert frame(values, front, "maximize")[1] == 1.0
    assert frame(values + 0.1, front, "maximize")[1] > 1.0
    assert frame(100 * values, front, "maximize")[1] > 91.0


@pytest.mark.parametrize("goals", [(x, y) for x in ("maximize", "minimize") for y in ("maximize", "minimize")], ids="-".join)
def test_the_staircase_is_the_edge_of_the_dominated_area(goals: tuple[str, str]) -> None:
    random = np.random.default_rng(3)
    table = runs_of(*(scored(x, y) for x, y in random.integers(0, 12, (25, 2)).astype(float)))
    front, _ = front_of(table, ["precision", "recall"], goals)
    (axes,) = pareto_figure({"runs": front}, goals=goals).axes
    (line,) = axes.lines
    steps = np.asarray(line.get_xydata(), dtype=float)
    assert (np.diff(steps, axis=0) == 0).any(axis=1).all()  # it goes along the axes only
    signs = np.array([1.0 if goal == "maximize" else -1.0 for goal in goals])
    best = front.loc[front["on_front"], ["precision", "recall"]].to_numpy() * signs
    assert {tuple(point) for point in best} <= {tuple(point) for point in steps * signs}
    for corner in steps[1:-1] * signs:
        assert (best >= corner).all(axis=1).any()  # inside or on the edge of the area …
        assert not (best > corner + 1e-9).all(axis=1).any()  # … and not within it


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=30), st.sampled_from(["maximize", "minimize"]))
def test_the_window_holds_the_better_three_quarters_with_room_around(values: list[float], goal: str) -> None:
    array = np.array(values)
    low, high = window(array, goal)
    assert low < high
    best = array.max() if goal == "maximize" else array.min()
    assert low < best < high
    inside = (array >= low) & (array <= high)
    assert inside.sum() >= len(array) - math.ceil(0.25 * (len(array) - 1))


def curves(n_epochs: int, **columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"epoch": np.arange(1.0, n_epochs + 1), **columns})


@pytest.mark.parametrize("n_epochs", [1, 2, 5])
def test_curves_of_loss_and_accuracy_are_drawn(n_epochs: int, tmp_path: Path) -> None:
    falling = [1.0 / epoch for epoch in range(1, n_epochs + 1)]
    history = curves(n_epochs, train_loss=falling, test_loss=falling, train_accuracy=falling, test_accuracy=falling)
    figure = curves_figure(history, title="run", n_epochs=n_epochs)
    loss, accuracy = figure.axes
    for axes in (loss, accuracy):
        assert [line.get_label() for line in axes.lines] == ["training", "hold-out", f"best epoch ({n_epochs})"]
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), falling)
    assert (loss.get_ylabel(), accuracy.get_ylabel(), loss.get_xlabel()) == ("loss", "accuracy", "epoch")
    assert is_a_drawing(save_figure(figure, tmp_path / "curves.png"))


def test_a_run_without_accuracies_has_a_legend_of_its_losses_and_no_empty_panel(tmp_path: Path) -> None:
    history = curves(6, train_loss=[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], test_loss=[6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    for figure in (curves_figure(history, title="run", n_epochs=6), diagnosis_figure(history, diagnose(history), title="run")):
        (axes,) = [axes for axes in figure.axes if axes.get_visible()]
        legend = axes.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()][:2] == ["training", "hold-out"]
        assert is_a_drawing(save_figure(figure, tmp_path / "curves.png"))


def test_a_curve_that_was_not_measured_is_left_out(tmp_path: Path) -> None:
    history = curves(2, train_loss=[np.nan, np.nan], train_accuracy=[0.1, 0.2])
    figure = curves_figure(history, title="run", n_epochs=1)
    assert [len(axes.lines) for axes in figure.axes] == [1, 2]
    assert is_a_drawing(save_figure(figure, tmp_path / "curves.png"))


def test_the_search_shows_the_best_so_far_of_the_trials_that_finished(tmp_path: Path) -> None:
    table = runs_of(
        scored(0, 0, f1=0.5),
        scored(0, 0, f1=0.9, state="pruned"),
        scored(0, 0, f1=0.4),
        scored(0, 0, f1=np.nan),
        scored(0, 0, f1=0.7),
    )
    figure = search_figure({"ann": table})
    (axes,) = figure.axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_ydata(), [0.5, 0.5, 0.5, 0.5, 0.7])
    np.testing.assert_array_equal(line.get_xdata(), np.arange(5))
    figure.draw_without_rendering()
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1, "above the points"
    assert is_a_drawing(save_figure(figure, tmp_path / "search.png"))


def course(axes: Axes) -> tuple[list[float], tuple[float, float], str]:
    """Return the best so far, the limits, and what is said of runs beyond them."""
    (line,) = axes.lines
    return np.asarray(line.get_ydata(), dtype=float).tolist(), axes.get_ylim(), axes.get_title(loc="right")


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
@pytest.mark.parametrize("shift", [0.0, -5.0], ids=["positive", "negative"])
def test_the_best_so_far_is_that_of_the_goal_and_the_best_and_the_chosen_run_are_in_sight(goal: str, shift: float) -> None:
    losses = shift + np.array([0.9, 0.5, 0.7, 40.0, 0.45, 0.6, 0.44, 0.1])
    sign = 1.0 if goal == "minimize" else -1.0
    table = runs_of(*(scored(0, 0, loss=sign * value) for value in losses))
    (axes,) = search_figure({"ann": table}, "loss", goal, {"ann": "d"}).axes
    best, (low, high), outside = course(axes)
    np.testing.assert_array_equal(best, sign * np.minimum.accumulate(losses))
    for value in (losses.min(), losses[3]):
        assert low < sign * value < high
    (axes,) = search_figure({"ann": table}, "loss", goal).axes
    _best, (low, high), outside = course(axes)
    assert low < sign * losses.min() < high
    assert not low < sign * losses[3] < high
    assert outside == "1 beyond the frame"


def test_a_run_that_breaks_a_constraint_or_is_infinite_is_no_best() -> None:
    table = runs_of(*(scored(0, 0, loss=value) for value in (0.9, 0.1, -math.inf, math.nan, 0.5))).assign(feasible=True)
    table.loc[1, "feasible"] = False
    (axes,) = search_figure({"ann": table}, "loss", "minimize").axes
    np.testing.assert_array_equal(course(axes)[0], [0.9, 0.9, 0.9, 0.9, 0.5])


@pytest.mark.parametrize(
    "values",
    [[], [math.nan], [math.nan, math.inf, -math.inf], [0.0], [-3.0, -3.0, -3.0], [math.nan, -2.0, math.inf, 5.0], [1e300, -1e300]],
    ids=str,
)
@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_values_of_every_kind_have_limits(values: list[float], goal: str, tmp_path: Path) -> None:
    array = np.array(values)
    for low, high in (window(array, goal), frame(array, np.ones(len(array), dtype=bool), goal)):
        assert np.isfinite([low, high]).all()
        assert low < high
    for known in array[np.isfinite(array)]:
        assert low < known < high
    if values:
        rows = [scored(0, 0, f1=value, n_parameters=value, seconds=0.0) for value in values]
        table = runs_of(*rows)
        assert is_a_drawing(save_figure(search_figure({"ann": table}, "f1", goal), tmp_path / "search.png"))
        assert is_a_drawing(save_figure(tradeoff_figure({"ann": table}, {"ann": "a"}), tmp_path / "cost.png"))


def test_the_chosen_run_is_in_sight_of_the_tradeoff_and_an_axis_with_0_is_linear() -> None:
    figure = tradeoff_figure({"ann": MANY}, {"ann": "f"})  # the worst
    for axes in figure.axes:
        assert axes.get_ylim()[0] < 0.01
        assert axes.get_xscale() == "log"
    assert [axes.get_xscale() for axes in tradeoff_figure({"ann": MANY.assign(seconds=[0.0, *range(1, 6)])}).axes] == [
        "log",
        "linear",
    ]


@pytest.mark.parametrize(
    ("losses", "scale"), [([2.0, 0.1], "log"), ([2.0, 0.0], "linear"), ([1.0, -4.0], "linear"), ([math.nan, math.inf], "linear")]
)
def test_a_loss_of_0_or_below_is_drawn_on_a_linear_axis(losses: list[float], scale: str, tmp_path: Path) -> None:
    history = curves(2, train_loss=losses, test_loss=losses)
    for figure in (
        curves_figure(history, title="run", n_epochs=1),
        diagnosis_figure(history, Diagnosis("fine", None, "it is"), title="run"),
    ):
        assert figure.axes[0].get_yscale() == scale
        assert is_a_drawing(save_figure(figure, tmp_path / "curves.png"))


@pytest.mark.parametrize(
    "confusion",
    [np.eye(2, dtype=int) * 30, np.array([[5, 3], [40, 2]]), np.zeros((3, 3), dtype=int), np.arange(26 * 26).reshape(26, 26)],
    ids=["no mistake", "more mistakes than hits", "nothing", "26 classes"],
)
def test_a_confusion_matrix_shows_every_count_that_is_not_zero(confusion: np.ndarray, tmp_path: Path) -> None:
    names = [f"class {label}" for label in range(len(confusion))]
    figure = confusion_figure(confusion, names, title="locked")
    (axes,) = figure.axes
    counts = {(int(text.get_position()[1]), int(text.get_position()[0])): int(text.get_text()) for text in axes.texts}
    assert counts == {(i, j): confusion[i, j] for i, j in zip(*confusion.nonzero(), strict=True)}
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert is_a_drawing(save_figure(figure, tmp_path / "confusion.png"))
