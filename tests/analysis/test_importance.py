"""Importances against analytic shares and against Optuna asked directly; what is left out, and what is drawn."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from paretune.analysis import importance as step
from paretune.analysis.figures import parameters as figures
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.importance import EVALUATOR_LABELS, importances
from paretune.analysis.parameters import Tried, tried
from paretune.analysis.sources.run_record import RunRecord, columns_of
from paretune.core.errors import UsageError
from paretune.search.engine import worker
from paretune.search.spec.sweep import read_sweep
from tests.analysis.reading import is_a_drawing
from tests.analysis.truth import written_out


def tried_of(values: dict[str, list[Any]], scores: np.ndarray, goal: str = "maximize", metric: str = "f1") -> Tried:
    frame = pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in values.items()})
    names = [f"run-{place}" for place in range(len(scores))]
    return Tried(frame, scores, names, metric, goal, "holdout", {})


def additive(n_runs: int, seed: int = 0, weight: float = 2) -> Tried:
    """f1 = weight a + b, with c for nothing, all uniform: of weight 2, a explains 4/5 of the variance and b 1/5."""
    random = np.random.default_rng(seed)
    a, b, c = random.uniform(0, 1, (3, n_runs))
    return tried_of({"a": a.tolist(), "b": b.tolist(), "c": c.tolist()}, weight * a + b)


def mixed(n_runs: int = 24) -> Tried:
    """Every kind of parameter: a wide range, a range, few numbers, texts, a truth value, a list, one that some runs lack."""
    random = np.random.default_rng(1)
    rate = 10 ** random.uniform(-4, -1, n_runs)
    some = [float(place) if place % 3 else pd.NA for place in range(n_runs)]
    return tried_of(
        {
            "learning_rate": rate.tolist(),
            "dropout": random.uniform(0, 0.5, n_runs).tolist(),
            "batch_size": [float(size) for size in random.choice([32, 64, 128], n_runs)],
            "optimizer": random.choice(["sgd", "adam"], n_runs).tolist(),
            "augment": random.choice(["true", "false"], n_runs).tolist(),
            "hidden": random.choice(["[64]", "[64, 32]", "null", "[256, 256, 256, 256]"], n_runs).tolist(),
            "some": some,
            "momentum": [value if place % 2 else pd.NA for place, value in enumerate(random.choice(["0.9", "0.5"], n_runs))],
        },
        0.9 + 0.02 * np.log10(rate) + 0.005 * random.standard_normal(n_runs),
    )


def test_fanova_finds_the_shares_of_an_additive_function() -> None:
    result = importances(additive(120), "fanova", n_resamples=1)
    shares = result.table.set_index("parameter")["importance"]
    np.testing.assert_allclose(shares[["a", "b", "c"]], [0.8, 0.2, 0.0], atol=0.06)
    assert list(result.table["parameter"]) == ["a", "b", "c"]


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
@pytest.mark.parametrize("evaluator", list(EVALUATOR_LABELS))
def test_what_decides_comes_first_whatever_the_evaluator_and_the_goal(evaluator: str, goal: str) -> None:
    found = additive(60, seed=2, weight=6)
    sign = 1.0 if goal == "maximize" else -1.0
    result = importances(Tried(found.values, sign * found.scores, found.names, "f1", goal, "holdout", {}), evaluator, n_resamples=5)
    assert result.table["parameter"].iloc[0] == "a"
    assert result.table["importance"].sum() == pytest.approx(1)


@pytest.mark.parametrize("evaluator", list(EVALUATOR_LABELS))
def test_the_importances_are_those_of_a_study_that_optuna_ran_itself(evaluator: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        kind = trial.suggest_categorical("kind", ["adam", "sgd"])
        return float(np.log10(rate)) + 0.3 * (kind == "adam")

    ends = [{"rate": 1e-4, "kind": "sgd"}, {"rate": 1e-1, "kind": "sgd"}]  # so that the values span the whole range
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3))
    for end in ends:
        study.enqueue_trial(end)
    study.optimize(objective, n_trials=40)
    judges: dict[str, Any] = {
        "ped-anova": optuna.importance.PedAnovaImportanceEvaluator(target_quantile=5 / 40),
        "fanova": optuna.importance.FanovaImportanceEvaluator(seed=7),
        "mdi": optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=7),
    }
    expected = optuna.importance.get_param_importances(study, evaluator=judges[evaluator])
    values = {name: [trial.params[name] for trial in study.trials] for name in ("rate", "kind")}
    scores = np.array([trial.value for trial in study.trials], dtype=float)
    result = importances(tried_of(values, scores), evaluator, seed=7, n_resamples=2)
    assert result.table.set_index("parameter")["importance"].to_dict() == pytest.approx(expected)


def test_the_intervals_are_reproducible_and_narrower_with_more_runs() -> None:
    few, many = (importances(additive(n_runs), n_resamples=40) for n_runs in (20, 200))
    again = importances(additive(20), n_resamples=40)
    pd.testing.assert_frame_equal(few.table, again.table)
    assert not importances(additive(20), n_resamples=40, seed=1).table["low"].equals(few.table["low"])
    for result in (few, many):
        assert (result.table["low"] <= result.table["high"]).all()
    widths = [float((result.table["high"] - result.table["low"]).mean()) for result in (few, many)]
    assert widths[1] < widths[0]


def test_the_interval_is_the_spread_of_the_resamples() -> None:
    found = additive(30)
    result = importances(found, n_resamples=15, seed=5)
    random, shares = np.random.default_rng(5), []
    for _ in range(15):
        rows = random.integers(0, 30, 30)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            judge = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=5 / 30)
            shares.append(
                optuna.importance.get_param_importances(step.study_of(found, ["a", "b", "c"], rows), evaluator=judge)["a"]
            )
    row = result.table.set_index("parameter").loc["a"]
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(shares, [0.05, 0.95]))


def test_a_parameter_that_some_runs_lack_is_weighed_by_ped_anova_and_named_by_the_others() -> None:
    found = mixed()
    assert {"some", "momentum"} <= set(importances(found, n_resamples=3).table["parameter"])
    for evaluator in ("fanova", "mdi"):
        result = importances(found, evaluator, n_resamples=2)
        assert set(result.left_out) == {"some", "momentum"}
        assert set(result.table["parameter"]) == set(found.values) - {"some", "momentum"}
        assert "some: only some runs have it" in result.in_words()


def test_too_few_runs_equal_scores_and_an_unknown_evaluator_are_said_in_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"at least 10 finished runs, as of fewer it would be noise. Got 9: run more trials"):
        importances(additive(9))
    with pytest.raises(UsageError, match=r"every run has the same f1, 0.5: no hyper-parameter decides it"):
        importances(tried_of({"a": [float(i) for i in range(12)]}, np.full(12, 0.5)))
    with pytest.raises(UsageError, match=r"evaluator 'fanov' is not known; did you mean 'fanova'\?"):
        importances(additive(12), "fanov")
    with pytest.raises(UsageError, match=r"differ in no hyper-parameter"):
        importances(tried_of({}, np.arange(12.0)))


def record(place: int, config: dict[str, Any], f1: float, state: str = "finished") -> RunRecord:
    config = {"evaluation_split": "holdout", "data": "digits", "seed": 0, **config}
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
    assert list(found.values) == ["rate", "hidden", "flag", "clip", "momentum"]
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


def test_of_equal_runs_the_star_is_on_the_one_of_lower_loss() -> None:
    runs = [record(place, {"width": place}, 0.9) for place in range(3)]
    for run, loss in zip(runs, (0.3, 0.1, 0.2), strict=True):
        run.columns["test_loss"] = np.array([loss])
    found = tried(runs)
    assert found.better_first.tolist() == [1, 2, 0]
    star = np.asarray(figures.slices_figure(found).axes[0].collections[-1].get_offsets())
    assert star[0, 0] == pytest.approx(1, abs=0.25)


def test_learning_rates_of_three_decades_lie_on_a_logarithmic_axis_of_the_parallel_coordinates() -> None:
    found = tried_of({"rate": [10 ** (-4 + place / 3) for place in range(10)]}, np.arange(10.0))
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
    assert "PED-ANOVA of the best 5 runs against all, from 10 finished runs" in printed
    assert {line.split()[0] for line in printed.splitlines()[1:3]} == {"learning_rate", "optimizer"}
    assert all(is_a_drawing(tmp_path / "figures" / f"{name}.png") for name in ("importance", "parallel", "slices"))
    page = (tmp_path / "figures" / "parallel.html").read_text(encoding="utf-8")
    assert "<title>Parallel coordinates</title>" in page


def test_the_command_says_when_the_runs_are_too_few(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        step.main([str(study_folder)])
    assert stopped.value.code == 2
    assert "at least 10 finished runs" in capsys.readouterr().err
