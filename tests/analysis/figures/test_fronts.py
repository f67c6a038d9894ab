"""The grid of pairs and the hypervolume over the runs: what they draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from paretune.analysis.figures.fronts import hypervolume_figure, pairs_figure
from paretune.analysis.figures.runs import frame, pareto_figure, save_figure
from paretune.analysis.findings.front import front_of
from tests.analysis.reading import is_a_drawing
from tests.analysis.tables import runs_of, scored

METRICS, GOALS = ["precision", "recall", "f1", "seconds"], ["maximize", "maximize", "maximize", "minimize"]


def random_runs(count: int) -> pd.DataFrame:
    values = np.random.default_rng(4).random((count, 4))
    return runs_of(*(scored(*row[:3], seconds=row[3]) for row in values.tolist()))


def drawn(axes: Axes) -> set[tuple[float, float]]:
    return {tuple(point) for dots in axes.collections for point in np.asarray(dots.get_offsets()).tolist()}


@pytest.mark.parametrize("n_metrics", [3, 4])
def test_the_lower_triangle_holds_every_pair_and_the_diagonal_every_run_in_sight(n_metrics: int, tmp_path: Path) -> None:
    metrics, goals = METRICS[-n_metrics:], GOALS[-n_metrics:]
    table, _ = front_of(random_runs(20), metrics, goals)
    figure = pairs_figure(table, metrics, goals, chosen="c")
    panels = iter(figure.axes)
    for i in range(n_metrics):
        for j in range(i + 1):
            axes = next(panels)
            if i != j:
                assert drawn(axes) == {tuple(point) for point in table[[metrics[j], metrics[i]]].to_numpy().tolist()}
                continue
            low, high = axes.get_xlim()
            heights = sum(bar.get_height() for bar in axes.patches)  # stacked: the parts add up to the runs
            assert heights == int(table[metrics[i]].between(low, high).sum())
    assert next(panels, None) is None
    assert is_a_drawing(save_figure(figure, tmp_path / "pairs.png"))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    count = int(table["on_front"].sum())
    assert labels[:3] == ["dominated", f"on the front ({count} of 20)", "chosen"]


def test_one_run_and_equal_runs_are_drawn(tmp_path: Path) -> None:
    for count in (1, 3):
        table, _ = front_of(runs_of(*[scored(0.9, 0.9, f1=0.9)] * count), METRICS[:3])
        assert is_a_drawing(save_figure(pairs_figure(table, METRICS[:3], GOALS[:3]), tmp_path / "pairs.png"))


@pytest.mark.parametrize("goals", [("maximize", "minimize"), ("minimize", "maximize")], ids="-".join)
def test_every_run_of_the_front_is_in_sight(goals: tuple[str, str]) -> None:
    line = np.geomspace(1, 1000, 12).tolist()  # better in the one, worse in the other: all are on the front
    table, _ = front_of(runs_of(*(scored(value, value) for value in line)), ["precision", "recall"], goals)
    assert table["on_front"].all()
    (axes,) = pareto_figure({"runs": table}, goals=goals).axes
    for low, high in (axes.get_xlim(), axes.get_ylim()):
        assert low < 1
        assert high > 1000
    assert [text.get_text() for text in axes.texts] == []


def test_a_frame_grows_for_the_front_alone() -> None:
    values = np.array([0.0, 8.0, 9.0, 10.0])
    nobody_far, first_too = np.array([False, True, True, True]), np.ones(4, dtype=bool)
    low, high = frame(values, nobody_far, "maximize")
    assert 0.0 < low < 8.0
    assert high > 10.0
    assert frame(values, first_too, "maximize")[0] < 0.0


def test_the_hypervolume_is_a_staircase_with_a_mark_where_it_grows(tmp_path: Path) -> None:
    figure = hypervolume_figure({"ann": np.array([0.0, 2.0, 2.0, 5.0]), "svm": np.array([1.0])})
    (axes,) = figure.axes
    steps, marks = axes.lines[0], axes.lines[1]
    np.testing.assert_array_equal(steps.get_xydata(), [[1, 0], [2, 2], [3, 2], [4, 5], [4.5, 5]])
    assert steps.get_drawstyle() == "steps-post"
    np.testing.assert_array_equal(marks.get_xydata(), [[2, 2], [4, 5]])
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["ann", "svm"]
    assert axes.get_ylim()[1] > 5.0
    assert is_a_drawing(save_figure(figure, tmp_path / "volume.png"))


def test_a_front_that_dominates_nothing_has_a_hypervolume_axis(tmp_path: Path) -> None:
    (axes,) = hypervolume_figure({"ann": np.zeros(3)}).axes
    low, high = axes.get_ylim()
    assert low == 0 < high
