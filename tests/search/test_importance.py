"""Importances against analytic shares and against Optuna asked directly, and what is left out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from paretune.core.errors import UsageError
from paretune.search.importance import EVALUATOR_LABELS, Scored, importances, study_of
from tests.search.scored import additive, mixed, scored_of


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
    result = importances(
        Scored(found.values, sign * found.scores, found.names, "f1", goal, "holdout", {}), evaluator, n_resamples=5
    )
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
    result = importances(scored_of(values, scores), evaluator, seed=7, n_resamples=2)
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
            shares.append(optuna.importance.get_param_importances(study_of(found, ["a", "b", "c"], rows), evaluator=judge)["a"])
    row = result.table.set_index("parameter").loc["a"]
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(shares, [0.05, 0.95]))


@pytest.mark.parametrize("n_copies", [1, 2, 4])
def test_an_interval_contains_its_importance_where_parameters_move_as_one(n_copies: int) -> None:
    x = [0.1, 0.3, 0.5] * 4
    copies = {f"copy_{place}": x for place in range(n_copies)}
    others: dict[str, list[Any]] = {"flag": ["true"] * 6 + ["false"] * 6, "sizes": ["[1]", "[2]"] * 6}
    table = importances(scored_of({**copies, **others}, np.array(x)), n_resamples=20).table
    assert (table["low"] <= table["importance"]).all()
    assert (table["importance"] <= table["high"]).all()


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
        importances(scored_of({"a": [float(i) for i in range(12)]}, np.full(12, 0.5)))
    with pytest.raises(UsageError, match=r"evaluator 'fanov' is not known; did you mean 'fanova'\?"):
        importances(additive(12), "fanov")
    with pytest.raises(UsageError, match=r"differ in no hyper-parameter"):
        importances(scored_of({}, np.arange(12.0)))
