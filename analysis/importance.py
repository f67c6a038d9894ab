"""Which searched hyper-parameters decide a metric: Optuna's importances over the finished runs of a sweep, with intervals.

usage: python -m analysis.importance SOURCE [SOURCE …] [--metric f1] [--evaluator ped-anova|fanova|mdi] [--figures DIR]

ped-anova asks what tells the best runs from all of them (Watanabe et al. 2023; conditional parameters: Kato et al. 2026),
fanova how much of the metric's variance a parameter explains (Hutter et al. 2014), mdi how much it lessens the impurity of
a random forest. The interval is the middle 90 % over bootstrap resamples of the runs (Efron 1979).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.history import add_sources, sources_of
from paretune.analysis.parameters import Tried, tried
from paretune.core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import optuna
    import pandas as pd

EVALUATOR_LABELS = {"ped-anova": "PED-ANOVA", "fanova": "fANOVA", "mdi": "mean decrease impurity"}
MIN_RUNS = 10
N_RESAMPLES = {"ped-anova": 100, "fanova": 50, "mdi": 50}  # the forests take some ten times as long
INTERVAL = (5, 95)  # percentiles
TOP_SHARE, TOP_RUNS = 0.1, 5  # ped-anova: the best tenth of the runs, but at least 5, as Optuna's manual advises


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

    def in_words(self) -> str:
        """Say what was computed, from how many runs, and how certain it is."""
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
    found: Tried, evaluator: str = "ped-anova", *, seed: int = 0, n_resamples: int | None = None, min_runs: int = MIN_RUNS
) -> Importance:
    """Compute the importance of every searched parameter.

    fanova and mdi know only parameters that every run has; ped-anova weighs conditional ones by the runs that have them.

    Raises:
        UsageError: if the evaluator is unknown, the runs are fewer than `min_runs`, they all have the same score, or
            nothing was searched.
    """
    import pandas as pd

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
    samples = [random.integers(0, n_runs, n_runs) for _ in range(n_resamples)]
    spread = np.array([_shares(found, parameters, rows, evaluator, seed) for rows in samples if np.ptp(found.scores[rows]) > 0])
    low, high = np.percentile(spread, INTERVAL, axis=0) if len(spread) else (shares, shares)
    table = pd.DataFrame({"parameter": parameters, "importance": shares, "low": low, "high": high})
    table = table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)
    return Importance(table, found.metric, evaluator, n_runs, len(spread), seed, left_out)


def _shares(found: Tried, parameters: Sequence[str], rows: np.ndarray, evaluator: str, seed: int) -> np.ndarray:
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


def study_of(found: Tried, parameters: Sequence[str], rows: np.ndarray) -> optuna.Study:
    """Return an Optuna study in memory that holds the runs `rows` as finished trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
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


def distribution_of(found: Tried, parameter: str) -> optuna.distributions.BaseDistribution:
    """Return the range or the choices that the values of a parameter span.

    A density estimated between numbers that were never tried would be read as importance by PED-ANOVA.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    values = found.values[parameter].dropna()
    if found.discrete(parameter):
        return CategoricalDistribution(sorted(set(values)))
    return FloatDistribution(values.min(), values.max(), log=found.on_log_axis(parameter))


def main(arguments: Sequence[str] | None = None) -> int:
    from paretune.core.command_line import SentenceParser, exit_with_sentence

    parser = SentenceParser(prog="python -m analysis.importance", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    parser.add_argument("--metric", default="f1", help="the metric that is explained (default: f1)")
    parser.add_argument("--evaluator", default="ped-anova", help=f"one of {', '.join(EVALUATOR_LABELS)} (default: ped-anova)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples and of the forests (default: 0)")
    parser.add_argument("--figures", metavar="DIR", help="draw importance, parallel coordinates and slices into this folder")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        if options.seed < 0:
            raise UsageError(f"--seed must be at least 0. Got {options.seed}.")
        found = tried(sources_of(options), options.metric)
        result = importances(found, options.evaluator, seed=options.seed)
        print(result.table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
        print(f"\n{result.in_words()}")
        if options.figures:
            _draw(found, result, Path(options.figures))
    return 0


def _draw(found: Tried, result: Importance, folder: Path) -> None:
    from paretune.analysis.figures.interactive import save_page
    from paretune.analysis.figures.parameters import importance_figure, parallel_figure, parallel_html, slices_figure
    from paretune.analysis.figures.runs import save_figure

    order = list(result.table["parameter"])
    save_figure(importance_figure(result), folder / "importance.png")
    save_figure(parallel_figure(found, order), folder / "parallel.png")
    save_figure(slices_figure(found, order), folder / "slices.png")
    save_page(parallel_html(found, order), folder / "parallel.html", title="Parallel coordinates")
    print(f"wrote importance.png, parallel.png, slices.png and parallel.html to {folder}")


if __name__ == "__main__":
    sys.exit(main())
