"""How much each searched hyper-parameter decides a metric: Optuna's importances, with intervals by bootstrap."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.core.errors import UsageError, did_you_mean
from paretune.runs.study_storage import quiet_optuna

if TYPE_CHECKING:
    import optuna
    import pandas as pd

MOST_CHOICES = 8  # different numbers; as many are choices, and more are a range
EVALUATOR_LABELS = {"ped-anova": "PED-ANOVA", "fanova": "fANOVA", "mdi": "mean decrease impurity"}
MIN_RUNS = 10
N_RESAMPLES = {"ped-anova": 100, "fanova": 50, "mdi": 50}  # the forests take some ten times as long
INTERVAL = (5, 95)  # percentiles
TOP_SHARE, TOP_RUNS = 0.1, 5  # ped-anova: the best tenth of the runs, but at least 5, as Optuna's manual advises


@dataclass(frozen=True)
class Scored:
    """The finished runs: `values` (a row per run, a column per searched parameter) and `scores` of one metric.

    A value is a number, True or False, or a text; None and lists and mappings are JSON text. pd.NA: the run lacks it.
    """

    values: pd.DataFrame  # index: run ids
    scores: np.ndarray  # (n_runs,)
    names: list[str]  # of the runs
    metric: str
    goal: str
    split: str  # the part that the metric was measured on
    left_out: dict[str, str]  # parameter: why

    def numeric(self, parameter: str) -> bool:
        """Whether every value of a parameter is a number."""
        return all(isinstance(value, float) for value in self.values[parameter].dropna())

    def on_log_axis(self, parameter: str) -> bool:
        """Whether a numeric parameter's values are positive and span more than two decades."""
        numbers = self.values[parameter].dropna()
        return bool(self.numeric(parameter) and numbers.min() > 0 and numbers.max() > 100 * numbers.min())

    def discrete(self, parameter: str) -> bool:
        """Whether a parameter's values are choices: texts, or at most MOST_CHOICES different numbers."""
        return not self.numeric(parameter) or self.values[parameter].nunique() <= MOST_CHOICES


@dataclass(frozen=True)
class Importance:
    """Importances that sum to 1: `table` has a row per parameter with importance, low and high; the largest first."""

    table: pd.DataFrame
    metric: str
    evaluator: str
    n_runs: int
    n_resamples: int
    seed: int
    left_out: dict[str, str]  # parameter: why

    def in_words(self, translate: Callable[[str], str] = str) -> str:
        """Say what was computed, from how many runs, and how certain it is; `translate` says a text in another language."""
        _ = translate
        method = _(EVALUATOR_LABELS[self.evaluator])
        if self.evaluator == "ped-anova":
            method = _("{method} of the best {count} runs against all").format(method=method, count=n_top(self.n_runs))
        text = _(
            "Importance for {metric} by {method}, from {count} finished runs; the intervals hold the middle {share} % of "
            "{resamples} bootstrap resamples of the runs (seed {seed})."
        ).format(
            metric=self.metric,
            method=method,
            count=self.n_runs,
            share=INTERVAL[1] - INTERVAL[0],
            resamples=self.n_resamples,
            seed=self.seed,
        )
        without = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
        return f"{text} {_('Left out are {parameters}.').format(parameters=without)}" if without else text


def n_top(n_runs: int) -> int:
    """Return how many runs PED-ANOVA takes for the best."""
    return min(max(round(TOP_SHARE * n_runs), TOP_RUNS), n_runs // 2)


def importances(
    found: Scored,
    evaluator: str = "ped-anova",
    *,
    seed: int = 0,
    n_resamples: int | None = None,
    min_runs: int = MIN_RUNS,
    translate: Callable[[str], str] = str,
) -> Importance:
    """Compute the importance of every searched parameter.

    fanova and mdi know only parameters that every run has; ped-anova weighs conditional ones by the runs that have them.

    Raises:
        UsageError: if the evaluator is unknown, the runs are fewer than `min_runs`, they all have the same score, or
            nothing was searched.
    """
    import pandas as pd

    _ = translate
    if evaluator not in EVALUATOR_LABELS:
        near = did_you_mean(evaluator, EVALUATOR_LABELS) or f"; there are {', '.join(EVALUATOR_LABELS)}."
        raise UsageError(f"evaluator {evaluator!r} is not known{near}")
    n_runs = len(found.scores)
    if n_runs < min_runs:
        raise UsageError(
            _(
                "the importance of hyper-parameters takes at least {least} finished runs, as of fewer it would be noise. "
                "Got {count}: run more trials."
            ).format(least=min_runs, count=n_runs)
        )
    left_out = dict(found.left_out)
    parameters = list(found.values)
    if evaluator != "ped-anova":
        conditional = [name for name in parameters if found.values[name].isna().any()]
        why = _("only some runs have it, and {method} cannot weigh that").format(method=_(EVALUATOR_LABELS[evaluator]))
        left_out |= dict.fromkeys(conditional, why)
        parameters = [name for name in parameters if name not in conditional]
    if not parameters:
        raise UsageError(_("the runs differ in no hyper-parameter whose importance could be told: search one."))
    if np.ptp(found.scores) == 0:
        text = _("every run has the same {metric}, {value:g}: no hyper-parameter decides it.")
        raise UsageError(text.format(metric=found.metric, value=found.scores[0]))
    n_resamples = N_RESAMPLES[evaluator] if n_resamples is None else n_resamples
    random = np.random.default_rng(seed)
    every = np.arange(n_runs)
    shares = _shares(found, parameters, every, evaluator, seed)
    samples = [random.integers(0, n_runs, n_runs) for __ in range(n_resamples)]
    spread = np.array([_shares(found, parameters, rows, evaluator, seed) for rows in samples if np.ptp(found.scores[rows]) > 0])
    low, high = np.percentile(spread, INTERVAL, axis=0) if len(spread) else (shares, shares)
    low, high = np.minimum(low, shares), np.maximum(high, shares)  # parameters that move as one share less in every resample
    table = pd.DataFrame({"parameter": parameters, "importance": shares, "low": low, "high": high})
    table = table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)
    return Importance(table, found.metric, evaluator, n_runs, len(spread), seed, left_out)


def _shares(found: Scored, parameters: Sequence[str], rows: np.ndarray, evaluator: str, seed: int) -> np.ndarray:
    """Return the importance of each parameter (n_parameters,) over the runs `rows`, in which one may occur more than once."""
    import optuna
    from optuna.importance import get_param_importances

    study = study_of(found, parameters, rows)
    judge: optuna.importance.BaseImportanceEvaluator
    if evaluator == "ped-anova":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the best are all: a resample of equal scores
            judge = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=n_top(len(rows)) / len(rows))
            shares = get_param_importances(study, evaluator=judge)
    else:
        kinds: dict[str, Any] = {
            "fanova": optuna.importance.FanovaImportanceEvaluator,
            "mdi": optuna.importance.MeanDecreaseImpurityImportanceEvaluator,
        }
        shares = get_param_importances(study, evaluator=kinds[evaluator](seed=seed))
    return np.array([shares.get(name, 0.0) for name in parameters])


def study_of(found: Scored, parameters: Sequence[str], rows: np.ndarray) -> optuna.Study:
    """Return an Optuna study in memory that holds the runs `rows` as finished trials."""
    import optuna

    quiet_optuna()
    distributions = {name: distribution_of(found, name) for name in parameters}
    trials = []
    for row in rows:
        values = found.values.iloc[row][list(parameters)].dropna().to_dict()
        trials.append(
            optuna.trial.create_trial(
                params=values, distributions={name: distributions[name] for name in values}, value=float(found.scores[row])
            )
        )
    study = optuna.create_study(direction="minimize" if found.goal == "minimize" else "maximize")
    study.add_trials(trials)
    return study


def distribution_of(found: Scored, parameter: str) -> optuna.distributions.BaseDistribution:
    """Return the range or the choices that the values of a parameter span.

    A density estimated between numbers that were never tried would be read as importance by PED-ANOVA.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    values = found.values[parameter].dropna()
    if found.discrete(parameter):
        return CategoricalDistribution(sorted(set(values)))
    return FloatDistribution(values.min(), values.max(), log=found.on_log_axis(parameter))
