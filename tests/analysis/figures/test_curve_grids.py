"""Curves of several runs in panels: the mean over the runs, the band between them, and runs that ended earlier."""

from __future__ import annotations

import numpy as np

from paretune.analysis.figures.curve_grids import curve_grid_figure
from paretune.analysis.sources.run_record import RunRecord


def run_of(*losses: float) -> RunRecord:
    values = np.array(losses)
    return RunRecord("a", columns={"train_loss": values / 2, "test_loss": values})


def test_a_line_is_the_mean_over_runs_and_a_band_their_range() -> None:
    figure = curve_grid_figure([{"one": [run_of(4.0, 2.0), run_of(6.0, 4.0, 3.0)]}], "loss", part="hold-out")
    train, test = figure.axes[0].lines
    assert [line.get_label() for line in (train, test)] == ["training", "hold-out"]
    assert np.asarray(test.get_xdata()).tolist() == [1, 2, 3]
    assert np.asarray(test.get_ydata()).tolist() == [5.0, 3.0, 3.0], "in the third epoch one run is left"
    assert np.asarray(train.get_ydata()).tolist() == [2.5, 1.5, 1.5]
    band = figure.axes[0].collections[1].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (2.0, 6.0)


def test_panels_stand_in_rows_and_a_short_row_leaves_its_end_empty() -> None:
    rows = [{"a": [run_of(1.0)], "b": [run_of(2.0)]}, {"c": [run_of(3.0)]}]
    figure = curve_grid_figure(rows, "loss", part="test", label="error", log=True)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", ""]
    assert [axes.axison for axes in figure.axes] == [True, True, True, False]
    assert [axes.get_ylabel() for axes in figure.axes] == ["error", "", "error", ""]
    assert figure.axes[0].get_yscale() == "log"
    assert figure.axes[2].get_xlabel() == "epoch"
