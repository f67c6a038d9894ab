"""What the runs of a sweep tried, and what is drawn of it and of its importances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from paretune.analysis import importance as step
from paretune.analysis.figures import parameters as figures
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.findings.aims import explained_metric
from paretune.analysis.findings.parameters import Tried, tried
from paretune.analysis.sources.run_record import RunRecord, columns_of
from paretune.core.errors import UsageError
from paretune.models.registry import model_class
from paretune.models.run_config import configure, run_values
from paretune.search.engine import worker
from paretune.search.importance import Scored, importances
from paretune.search.spec.sweep import read_sweep
from tests.analysis.reading import is_a_drawing
from tests.analysis.truth import written_out
from tests.search import scored


def tried_of(found: Scored) -> Tried:
    return Tried(**vars(found))


def mixed(n_runs: int = 24) -> Tried:
    return tried_of(scored.mixed(n_runs))


def additive(n_runs: int) -> Tried:
    return tried_of(scored.additive(n_runs))


def record(place: int, config: dict[str, Any], f1: float, state: str = "finished") -> RunRecord:
    ours = {"classifier": "own", "provenance": {"schema": 1}}
    config = {**ours, "evaluation_split": "holdout", "data": "digits", "seed": 0, **config}
    columns = columns_of([{"epoch": 1.0, "f1": f1}])
    return RunRecord(str(place), f"run-{place}", state=state, created=float(place), config=config, columns=columns)


def test_what_was_tried_leaves_out_what_is_equal_and_what_only_names_a_run() -> None:
    runs = [
        record(0, {"rate": 1, "hidden": [4, 2], "label": "x", "flag": True, "clip": None}, 0.1),
        record(1, {"rate": 0.5, "hidden": [4], "label": "y", "flag": False, "clip": 2, "momentum": 0.5}, 0.2),
        record(2, {"rate": 2, "hidden": [4], "label": "z", "flag": False, "clip": None}, 0.4),
        record(3, {"rate": 9, "hidden": [9], "label": "pruned", "flag": False, "clip": None}, 0.4, state="pruned"),
    ]
    found = tried(runs)
    assert list(found.values) == ["clip", "flag", "hidden", "rate", "momentum"], "in the order of the alphabet in each run"
    assert found.values["rate"].to_list() == [1.0, 0.5, 2.0]
    assert found.values["hidden"].to_list() == ["[4, 2]", "[4]", "[4]"]
    assert found.values["flag"].to_list() == ["true", "false", "false"]
    assert found.values["clip"].to_list() == ["null", "2", "null"]
    assert found.values["momentum"].isna().to_list() == [True, False, True]
    assert found.left_out == {"label": "its text differs in every run"}
    assert (found.scores.tolist(), found.goal, found.split) == ([0.1, 0.2, 0.4], "maximize", "holdout")
    assert found.better_first.tolist() == [2, 1, 0]
    assert found.choices("momentum") == ["0.5", "–"]
    assert found.chosen("momentum").tolist() == [1, 0, 1]


def ours(**values: Any) -> dict[str, Any]:
    """Return the config of a run of the ann, as it was before runs named their inactive parameters themselves."""
    kind = model_class("ann")
    return {**run_values(kind, *configure(kind, values)), "provenance": {"fingerprints": {}}}


def adam_wins(place: int) -> RunRecord:
    """Return a run of 24: those by adam are better the lower their rate; momentum, which it ignores, falls with the rate."""
    optimizer = ("adam", "sgd", "rmsprop")[place % 3]
    rate = 0.001 * (1 + place)
    f1 = 0.9 - rate if optimizer == "adam" else 0.5 + 0.001 * ((7 * place) % 5)
    config = ours(optimizer=optimizer, learning_rate=rate, momentum=0.9 - place / 30, schedule="constant")
    return record(place, config, f1)


@pytest.mark.parametrize("named", [False, True], ids=["older runs", "runs that name them"])
def test_a_momentum_that_the_best_runs_ignore_decides_nothing(named: bool) -> None:
    runs = [adam_wins(place) for place in range(24)]
    for run in runs if named else ():
        inactive = ["momentum"] if run.config["optimizer"] == "adam" else []
        run.config["provenance"] = {"fingerprints": {}, "inactive": inactive}
    found = tried(runs)
    missing = found.values["momentum"].isna()
    assert missing.tolist() == [run.config["optimizer"] == "adam" for run in runs]
    table = importances(found, n_resamples=5).table.set_index("parameter")
    assert table.loc["momentum", "importance"] == 0
    assert set(table.index) == {"optimizer", "learning_rate", "momentum"}, "what no sweep varied is no parameter of it"
    unaware = [replace(run, config={**run.config, "provenance": {}}) for run in runs]
    assert importances(tried(unaware), n_resamples=5).table.set_index("parameter").loc["momentum", "importance"] > 0.1


def test_a_parameter_that_only_counts_in_some_runs_but_is_the_same_in_all_was_not_searched() -> None:
    runs = [record(place, ours(optimizer=("adam", "sgd")[place % 2], momentum=0.5), 0.1 * place) for place in range(6)]
    assert list(tried(runs).values) == ["optimizer"]


def test_values_that_differ_by_the_noise_of_floats_are_one() -> None:
    runs = [record(place, {"rate": rate, "width": width}, 0.1 * place) for place, (rate, width) in enumerate(NOISY)]
    found = tried(runs)
    assert (found.values["rate"].nunique(), list(found.values)) == (2, ["rate"])


NOISY = [(0.3, 16), (0.1 + 0.2, 16.0), (0.4, 16)]


@pytest.mark.parametrize(
    ("goals", "config", "metric", "said"),
    [
        ([{"f1": "maximize"}] * 2, {}, "f1", "f1 is what the sweep looks for"),
        ([{"test_loss": "minimize", "f1": "maximize"}] * 2, {}, "test_loss", "test_loss is what the sweep looks for"),
        ([{"test_loss": "minimize"}, {}], {}, "test_loss", "test_loss is what the sweep looks for"),
        ([{"test_loss": "minimize"}, {"f1": "maximize"}], {}, "f1", "look for different things, so that f1 is taken"),
        ([{}, {}], {}, "f1", "No sweep of these runs is known, so that f1 is taken"),
        ([{}, {}], ours(best_metric="test_loss"), "test_loss", "test_loss is what the best epoch of each run was picked by"),
        ([{}, {}], {"best_metric": "test_loss"}, "f1", "No sweep of these runs is known"),
    ],
)
def test_without_a_metric_the_objective_of_the_sweep_is_explained(
    goals: list[dict[str, str]], config: dict[str, Any], metric: str, said: str
) -> None:
    runs = [RunRecord(str(place), config=config, goals=own) for place, own in enumerate(goals)]
    found, why = explained_metric(runs)
    assert found == metric
    assert said in why


def test_of_equal_runs_the_star_is_on_the_one_of_lower_loss() -> None:
    runs = [record(place, {"width": place}, 0.9) for place in range(3)]
    for run, loss in zip(runs, (0.3, 0.1, 0.2), strict=True):
        run.columns["test_loss"] = np.array([loss])
    found = tried(runs)
    assert found.better_first.tolist() == [1, 2, 0]
    star = np.asarray(figures.slices_figure(found).axes[0].collections[-1].get_offsets())
    assert star[0, 0] == pytest.approx(1, abs=0.25)


def test_learning_rates_of_three_decades_lie_on_a_logarithmic_axis_of_the_parallel_coordinates() -> None:
    found = tried_of(scored.scored_of({"rate": [10 ** (-4 + place / 3) for place in range(10)]}, np.arange(10.0)))
    (lines,) = [one for one in figures.parallel_figure(found).axes[0].collections if isinstance(one, LineCollection)]
    heights = sorted(float(np.asarray(path.vertices)[0, 1]) for path in lines.get_paths())
    np.testing.assert_allclose(np.diff(heights), 1 / 9)


def test_runs_scored_on_the_locked_part_are_refused() -> None:
    with pytest.raises(UsageError, match=r"locked test part"):
        tried([record(place, {"evaluation_split": "test", "rate": place}, 0.1) for place in range(3)])


@pytest.mark.parametrize("found", [mixed(), additive(12), mixed(4)], ids=["every kind", "numbers", "four runs"])
def test_every_figure_is_drawn(found: Tried, tmp_path: Path) -> None:
    result = importances(found, n_resamples=5, min_runs=2)
    order = list(result.table["parameter"])
    for place, figure in enumerate(
        [figures.importance_figure(result), figures.parallel_figure(found, order), figures.slices_figure(found, order)]
    ):
        assert is_a_drawing(save_figure(figure, tmp_path / f"{place}.png")), place


def test_the_bars_are_the_importances_and_the_lines_their_intervals() -> None:
    result = importances(additive(20), n_resamples=10)
    (axes,) = figures.importance_figure(result).axes
    assert [bar.get_width() for bar in axes.patches] == result.table["importance"].to_list()
    assert [label.get_text() for label in axes.get_yticklabels()] == result.table["parameter"].to_list()
    (lines,) = axes.collections
    ends = [(segment[0, 0], segment[1, 0]) for segment in lines.get_segments()]
    assert ends == list(zip(result.table["low"], result.table["high"], strict=True))


def test_the_best_run_is_the_thickest_and_darkest_line() -> None:
    found = mixed()
    (axes,) = figures.parallel_figure(found).axes
    (lines,) = axes.collections
    segments, widths, colors = lines.get_segments(), lines.get_linewidths(), lines.get_colors()
    best = int(np.argmax(found.scores))
    assert int(np.argmax(widths)) == len(segments) - 1  # drawn last, over the others
    rates = np.log10(found.values["learning_rate"].to_numpy(dtype=float))
    expected = (rates[best] - rates.min()) / np.ptp(rates)
    assert segments[-1][0, 1] == pytest.approx(expected)
    assert int(np.argmin(colors[:, :3].sum(axis=1))) == len(segments) - 1
    assert axes.get_xticklabels()[-1].get_text() == "F1"


def test_a_slice_has_a_logarithmic_axis_where_numbers_span_more_than_two_decades() -> None:
    found = mixed()
    panels = {axes.get_xlabel(): axes for axes in figures.slices_figure(found).axes if axes.get_visible()}
    assert set(panels) == set(found.values)
    assert [name for name, axes in panels.items() if axes.get_xscale() == "log"] == ["learning_rate"]
    assert [label.get_text() for label in panels["batch_size"].get_xticklabels()] == ["32", "64", "128"]
    assert [label.get_text() for label in panels["momentum"].get_xticklabels()] == ["0.5", "0.9", "–"]
    assert [text.get_text() for text in panels["some"].texts] == ["8 runs without it"]
    points = np.asarray(panels["dropout"].collections[0].get_offsets())
    np.testing.assert_array_equal(points[:, 0], found.values["dropout"].to_numpy(dtype=float))
    np.testing.assert_array_equal(points[:, 1], found.scores)


def test_the_page_holds_every_run_on_every_axis() -> None:
    from plotly import graph_objects

    shown: dict[str, Any] = {}

    def kept(self: Any, **settings: Any) -> str:
        shown["figure"] = self
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_objects.Figure, "to_html", kept)
        figures.parallel_html(mixed())
    (trace,) = shown["figure"].data
    assert [dimension.label for dimension in trace.dimensions] == [*mixed().values, "F1"]
    assert all(len(dimension["values"]) == 24 for dimension in trace.dimensions)
    assert trace.dimensions[2].ticktext == ("32", "64", "128")


SWEEP = """
name: searched
program: trainers/softmax.py
method: random
metric: {name: f1, goal: maximize}
parameters:
  epochs: {value: 1}
  train_size: {value: 100}
  learning_rate: {distribution: log_uniform_values, min: 0.0001, max: 0.5}
  optimizer: {values: [sgd, adam]}
"""


def test_the_command_explains_a_sweep_and_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "searched.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    worker.run(read_sweep(path), trials=10, name="searched", seed=0, device="cpu", runs=tmp_path)
    written_out(tmp_path / "searched")
    capsys.readouterr()
    assert step.main([str(tmp_path / "searched"), "--figures", str(tmp_path / "figures")]) == 0
    printed = capsys.readouterr().out
    assert "Importance for f1 by PED-ANOVA of the best 5 runs against all, from 10 finished runs" in printed
    assert "f1 is what the sweep looks for; --metric takes another." in printed
    assert {line.split()[0] for line in printed.splitlines()[1:3]} == {"learning_rate", "optimizer"}
    assert all(is_a_drawing(tmp_path / "figures" / f"{name}.png") for name in ("importance", "parallel", "slices"))
    page = (tmp_path / "figures" / "parallel.html").read_text(encoding="utf-8")
    assert "<title>Parallel coordinates</title>" in page


def test_the_command_says_when_the_runs_are_too_few(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        step.main([str(study_folder)])
    assert stopped.value.code == 2
    assert "at least 10 finished runs" in capsys.readouterr().err


def test_the_goal_of_a_metric_whose_name_does_not_tell_it_is_given_by_goal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        RunRecord(str(place), state="finished", config={"rate": float(place)}, columns=columns_of([{"yield": place % 7.0}]))
        for place in range(12)
    ]
    monkeypatch.setattr(step, "sources_of", lambda _options: runs)
    with pytest.raises(SystemExit) as exit_info:
        step.main([str(tmp_path), "--metric", "yield"])
    assert exit_info.value.code == 2
    assert "maximized or minimized: say it with --goal." in capsys.readouterr().err
    assert step.main([str(tmp_path), "--metric", "yield", "--goal", "minimize"]) == 0
