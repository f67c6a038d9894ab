"""Confidence intervals of scores, the probability of being on the front, and differences within noise."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.findings.aims import aims_of
from paretune.analysis.findings.candidates import candidates
from paretune.analysis.findings.front import pareto_front
from paretune.analysis.findings.order import better_first
from paretune.analysis.findings.repeats import Configuration, configurations_in, mean_of, metrics_in, n_repeats_of
from paretune.analysis.sources.run_record import RunRecord, runs_table
from paretune.core.best_epoch import goal_of

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95
EXACT = ("n_parameters", "seconds")  # not estimated from images: no doubt of ours is about them
ACCURACY = "test_accuracy"
LIKELY = 0.05  # to be on the front: configurations with less are not listed beside it
MOST_NAMES = 8  # of configurations within noise
OVER_WORDS = ("seeds", "folds", "runs")
SAME = 1e-12  # deviation of repeats that all agree but for rounding
SHARE_WORDS = {"accuracy", "acc", "precision", "recall", "f1", "auc", "auroc"}  # last words of the names of shares


@dataclass(frozen=True)
class Estimate:
    """What is known of one configuration's scores: means, and where there are repeats their standard deviations."""

    name: str  # of its first run
    runs: tuple[str, ...]  # all of them, copies too
    means: dict[str, float]
    n_repeats: int = 1
    over: str = ""  # one of OVER_WORDS
    deviations: dict[str, float] = field(default_factory=dict)  # of single repeats, with n_repeats - 1
    values: dict[str, np.ndarray] = field(default_factory=dict)  # (n_repeats,) each, where repeats are runs of their own
    n_images: int | None = None  # of the hold-out
    created: float = math.nan  # of its first run

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a metric, or None where none is claimed, as of repeats that all agree."""
        if self.n_repeats > 1:
            mean, deviation = (values.get(metric, math.nan) for values in (self.means, self.deviations))
            if metric in EXACT or not math.isfinite(mean) or not is_spread(deviation, mean):
                return None
            limits = range_of(metric, self.values.get(metric, [mean]), ours=self.n_images is not None)
            low, high = t_interval(mean, deviation, self.n_repeats, limits=limits)
            return float(low), float(high)
        if metric == ACCURACY and self.n_images and math.isfinite(self.means.get(metric, math.nan)):
            return wilson_interval(self.means[metric], self.n_images)
        return None


def is_spread(deviation: float, mean: float) -> bool:
    """Whether a deviation, or a range, of repeats around a mean is more than what rounding leaves of equal values."""
    return deviation > SAME * max(1.0, abs(mean))


def range_of(metric: str, values: Sequence[float] | np.ndarray, *, ours: bool = False) -> tuple[float, float]:
    """Return the lowest and the highest value that a metric can have, infinite where nothing tells it.

    Accuracies, precisions and the like, known by the last word of their name, are shares of 1, or of 100 where `values` say so.
    Of losses only our own are known to be 0 or more: other programs' may be log-likelihoods.
    """
    word = re.split(r"[^a-z0-9]+", metric.lower())[-1]
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if word in SHARE_WORDS and len(known) and known.min() >= 0 and known.max() <= 100:
        return (0.0, 1.0) if known.max() <= 1 else (0.0, 100.0)
    return (0.0 if ours and word == "loss" else -math.inf), math.inf


def t_interval(
    mean: Any, deviation: Any, n: int, level: float = LEVEL, *, limits: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[Any, Any]:
    """Return low and high of Student's t interval of a mean of `n` values with sample standard deviation `deviation`.

    Numbers or arrays of one shape; `n` must be at least 2. The interval knows no bounds: it is cut at `limits`, the metric's
    range, which leaves its coverage as it is, as no true mean lies beyond. The mean stays inside.
    """
    from scipy.stats import t

    half = t.ppf((1 + level) / 2, n - 1) * deviation / math.sqrt(n)
    return np.minimum(np.maximum(mean - half, limits[0]), mean), np.maximum(np.minimum(mean + half, limits[1]), mean)


def mean_interval(values: np.ndarray, limits: tuple[float, float] = (-math.inf, math.inf)) -> tuple[float, float]:
    """Return the 95 % interval of the mean of values (n,), cut at `limits`; NaN of fewer than two."""
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = t_interval(values.mean(), values.std(ddof=1), len(values), limits=limits)
    return float(low), float(high)


def wilson_interval(proportion: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion of `n` images (Wilson 1927, without continuity correction).

    It lies within 0 and 1 and holds the proportion, which need not be a whole number of images: it may be a mean over models.
    """
    from scipy.stats import norm

    z = norm.ppf((1 + level) / 2)
    centre = (proportion + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2))
    return float(max(0.0, min(centre - half, proportion))), float(min(1.0, max(centre + half, proportion)))


def configurations(runs: Sequence[RunRecord], table: pd.DataFrame) -> list[Estimate]:
    """Return one estimate per configuration among the rows of a runs table, in their order (findings/repeats.py)."""
    by_id, metrics = {run.run: run for run in runs}, metrics_in(table)
    places = {run: place for place, run in enumerate(table["run"])}
    return [
        _estimate(one, table.iloc[[places[run] for run in one.repeats]], by_id[one.runs[0]], metrics)
        for one in configurations_in(table, runs)
    ]


def _estimate(one: Configuration, rows: pd.DataFrame, run: RunRecord, metrics: Sequence[str]) -> Estimate:
    first, config, names = rows.iloc[0], run.config, one.runs
    n_images = run.origin.get("n_holdout")
    if len(rows) == 1:
        n_repeats = n_repeats_of(run)
        means = {name: float(first[name]) for name in metrics}
        spreads = {name: means[f"{name}_std"] for name in metrics if math.isfinite(means.get(f"{name}_std", math.nan))}
        if n_repeats > 1 and "n_parameters" in means:
            spreads.setdefault("n_parameters", 0.0)
        over = str(config.get("repeats_over", "seeds")) if n_repeats > 1 else ""
        return Estimate(str(first["name"]), names, means, n_repeats, over, spreads, n_images=n_images, created=run.created)
    values = {name: rows[name].to_numpy(dtype=np.float64) for name in metrics}
    values = {name: array for name, array in values.items() if np.isfinite(array).all()}
    return Estimate(
        str(first["name"]),
        names,
        {name: mean_of(array) for name, array in values.items()},
        len(rows),
        one.over,
        {name: float(array.std(ddof=1)) for name, array in values.items()},
        values,
        n_images,
        run.created,
    )


def front_probabilities(
    estimates: Sequence[Estimate],
    metrics: Sequence[str],
    goals: Sequence[str] | None = None,
    *,
    n_draws: int = 10_000,
    seed: int = 0,
) -> np.ndarray | None:
    """Return each configuration's probability to be on the Pareto front, (n_estimates,); None without repeats of all.

    The share of `n_draws` in which it is: each draw takes every configuration's true means from its posterior under a flat
    prior, mean + s / sqrt(k) * t with k - 1 degrees of freedom. Where the repeats' values are known, the metrics of one
    configuration are drawn together, by a multivariate t of their covariance whose margins are those same t; where only
    standard deviations are, independently. The flat prior makes no use of what the other configurations reached: where
    they differ by less than the noise, probabilities are too far from the base rate (benchmarks/coverage.py).
    """
    goals = goals or [goal_of(metric) for metric in metrics]
    if not all(estimate.n_repeats > 1 and all(metric in estimate.deviations for metric in metrics) for estimate in estimates):
        return None
    generator = np.random.default_rng(seed)
    draws = np.stack([_draws(estimate, metrics, n_draws, generator) for estimate in estimates], axis=1)
    return np.mean([pareto_front(points, goals) for points in draws], axis=0)


def _draws(estimate: Estimate, metrics: Sequence[str], n_draws: int, generator: np.random.Generator) -> np.ndarray:
    """Return draws (n_draws, n_metrics) of a configuration's true means."""
    k = estimate.n_repeats
    means = np.array([estimate.means[metric] for metric in metrics])
    if all(metric in estimate.values for metric in metrics):
        values = np.stack([estimate.values[metric] for metric in metrics], axis=1)  # (k, n_metrics)
        normal = generator.standard_normal((n_draws, k)) @ (values - values.mean(axis=0)) / math.sqrt(k - 1)
        return means + normal / np.sqrt(generator.chisquare(k - 1, (n_draws, 1)) / (k - 1)) / math.sqrt(k)
    deviations = np.array([estimate.deviations[metric] for metric in metrics])
    return means + deviations / math.sqrt(k) * generator.standard_t(k - 1, (n_draws, len(metrics)))


def p_of_difference(first: Estimate, second: Estimate, metric: str) -> float | None:
    """Return the two-sided p of the hypothesis that two configurations do not differ; None where nothing can be tested.

    With repeats of both, Welch's t-test of the metric. With repeats of neither, the two-proportion test of their
    accuracies, whatever the metric: no other score is a proportion. It takes the two to be scored on different images;
    they were scored on the same ones, and their errors mostly agree, so that it finds too few differences, not too many.
    """
    from scipy.stats import norm, ttest_ind_from_stats

    if first.n_repeats > 1 and second.n_repeats > 1:
        if metric not in first.deviations or metric not in second.deviations:
            return None
        ours, theirs = first.means[metric], second.means[metric]
        if not any(is_spread(one.deviations[metric], one.means[metric]) for one in (first, second)):
            return float(not is_spread(abs(ours - theirs), ours))
        spread = first.deviations[metric], second.deviations[metric]
        return float(ttest_ind_from_stats(ours, spread[0], first.n_repeats, theirs, spread[1], second.n_repeats, False).pvalue)
    accuracies = [estimate.means.get(ACCURACY, math.nan) for estimate in (first, second)]
    if (
        first.n_repeats > 1
        or second.n_repeats > 1
        or not first.n_images
        or not second.n_images
        or not np.isfinite(accuracies).all()
    ):
        return None
    pooled = (accuracies[0] * first.n_images + accuracies[1] * second.n_images) / (first.n_images + second.n_images)
    variance = pooled * (1 - pooled) * (1 / first.n_images + 1 / second.n_images)
    return float(2 * norm.sf(abs(accuracies[0] - accuracies[1]) / math.sqrt(variance))) if variance > 0 else 1.0


def doubt_of(best: Estimate, others: Sequence[Estimate], metrics: Sequence[str], *, runner_up: str = "") -> str:
    """Say which of the other configurations cannot be told apart from the best at 5 %; empty where none can be compared.

    One that differs in none of the metrics cannot. Each is compared alone, without a correction for their number.
    """
    metrics = [metric for metric in metrics if metric not in EXACT]
    found = {other.name: [p_of_difference(best, other, metric) for metric in metrics] for other in others}
    tested = {name: [p for p in values if p is not None] for name, values in found.items()}
    tested = {name: values for name, values in tested.items() if values}
    if not tested:
        return ""
    same = [name for name, values in tested.items() if min(values) > 1 - LEVEL]
    if best.n_repeats > 1:
        how = _("Welch's t-test of {metrics} over {count} {repeats} at 5 %").format(
            metrics=_(" and ").join(metrics), count=best.n_repeats, repeats=_(best.over)
        )
    else:
        how = _(
            "two-proportion test of the accuracies on {count:,} hold-out images at 5 %, conservative as both were scored on the "
            "same images"
        ).format(count=best.n_images)
    if not same and len(tested) == 1:
        text = _("{best} can be told apart from the only other configuration ({how})")
    elif not same:
        text = _("{best} can be told apart from each of the {total} other configurations ({how})")
    elif len(tested) == 1:
        text = _("1 of 1 other configuration cannot be told apart from {best} ({how}): {names}")
    elif runner_up in same and len(same) > 1:
        text = _(
            "{count} of {total} other configurations cannot be told apart from {best}, the runner-up {runner_up} among them "
            "({how}): {names}"
        )
    else:
        text = _("{count} of {total} other configurations cannot be told apart from {best} ({how}): {names}")
    names = _listed(same)
    return text.format(best=best.name, count=len(same), total=len(tested), runner_up=runner_up, how=how, names=names)


def _listed(names: Sequence[str]) -> str:
    """Return the first MOST_NAMES names, and how many more there are."""
    shown = ", ".join(names[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return _("{names} and {count} more").format(names=shown, count=more) if more > 0 else shown


def summary(runs: Sequence[RunRecord], aims: Mapping[str, str] | None = None, *, seed: int = 0) -> list[str]:
    """Return `table_of` as lines of text."""
    table, notes = table_of(runs, aims, seed=seed)
    return [table.to_string(index=False), "", *notes]


def table_of(
    runs: Sequence[RunRecord], aims: Mapping[str, str] | None = None, *, seed: int = 0, chosen: str = ""
) -> tuple[pd.DataFrame, list[str]]:
    """Return the configurations that are or may be on the front, with their intervals, and sentences on what is within noise.

    Args:
        aims: what the front is of, metric -> goal; by default as `paretune.analysis.findings.aims.aims_of`.
        chosen: the id of the run that the others are compared with; by default the front's best by each metric.

    Raises:
        UsageError: as `paretune.analysis.findings.candidates.candidates`.
    """
    import pandas as pd

    aims = aims or aims_of(runs)
    metrics, goals = list(aims), list(aims.values())
    table = candidates(runs_table(runs), metrics)[0]
    estimates = configurations(runs, table)
    means = np.array([[estimate.means[metric] for metric in metrics] for estimate in estimates])
    on_front = pareto_front(means, goals)
    chances = front_probabilities(estimates, metrics, goals, seed=seed)
    listed = [place for place in range(len(estimates)) if on_front[place] or (chances is not None and chances[place] >= LIKELY)]
    shown = [name for name in dict.fromkeys([*metrics, "f1", ACCURACY]) if any(name in one.means for one in estimates)]
    lines = []
    for place in [place for place in _better_first(estimates, metrics[0], goals[0], aims) if place in listed]:
        one = estimates[place]
        line: dict[str, Any] = {"name": one.name, "front": _("yes") if on_front[place] else _("no"), "repeats": one.n_repeats}
        line |= {name: _cell(one, name) for name in shown}
        lines.append(line if chances is None else {**line, "p(front)": f"{chances[place]:.3f}"})
    claimed = [name for name in shown if any(estimates[place].interval(name) for place in listed)]
    notes = [
        _(
            "95 % intervals in brackets: {metrics}, cut at the ends of the metric's range; without brackets, none is claimed."
        ).format(metrics=", ".join(claimed))
        if claimed
        else _("No 95 % interval is claimed of any metric here.")
    ]
    if chances is None:
        notes.append(_lacking(estimates, metrics))
    if any(one.over == "folds" for one in estimates):
        notes.append(_("Intervals over folds are too narrow: folds share their training images."))
    compared = {name: aims.get(name) or goal_of(name) for name in shown if name != ACCURACY}
    return pd.DataFrame(lines), [*notes, *_doubts(estimates, compared, aims, on_front, chosen)]


def _lacking(estimates: Sequence[Estimate], metrics: Sequence[str]) -> str:
    """Say what p(front) lacks: repeats, or the deviations of some metrics."""
    known = [set(estimate.deviations) - set(EXACT) for estimate in estimates if estimate.n_repeats > 1]
    common = sorted(set.intersection(*known)) if len(known) == len(estimates) else []
    if not common:
        needs = _("p(front) needs repeats of every configuration with a deviation of {metrics}.")
        return needs.format(metrics=_(" and ").join(metrics))
    needs = _("p(front) needs a deviation of {metrics}; these runs have those of {known}: --metrics {first} gives it.")
    lacking = [metric for metric in metrics if metric not in common]
    return needs.format(metrics=_(" and ").join(lacking), known=", ".join(common), first="f1" if "f1" in common else common[0])


def _better_first(estimates: Sequence[Estimate], metric: str, goal: str, aims: Mapping[str, str]) -> list[int]:
    """Return the places of the estimates from the best by a metric (n_estimates,), of equals as `choose` takes them."""
    import pandas as pd

    means = pd.DataFrame([{metric: math.nan, **one.means, "created": one.created} for one in estimates])
    sign = 1.0 if goal == "minimize" else -1.0
    return [int(place) for place in better_first(means, sign * means[metric].to_numpy(), aims)]


def _doubts(
    estimates: Sequence[Estimate], compared: Mapping[str, str], aims: Mapping[str, str], on_front: np.ndarray, chosen: str = ""
) -> list[str]:
    """Say what is within noise of the chosen configuration, by each metric; without repeats once, by the accuracies.

    Where none is chosen, each metric compares with its best of the front, and the accuracies with the best by f1, or by the
    first metric where that is not logged.
    """
    judged = [metric for metric in compared if metric not in EXACT]
    lead = "f1" if "f1" in judged else judged[0] if judged else ""
    found: dict[str, list[str]] = {}  # sentence -> metrics
    once = ""
    for metric in sorted(judged, key=lambda metric: metric != lead):
        ordered = sorted(_better_first(estimates, metric, compared[metric], aims), key=lambda place: not on_front[place])
        own = next((place for place in ordered if chosen in estimates[place].runs), ordered[0])
        best, others = estimates[own], [estimates[place] for place in ordered if place != own]
        doubt = doubt_of(best, others, [metric], runner_up=others[0].name if others and own == ordered[0] else "")
        if doubt and best.n_repeats > 1:
            found.setdefault(doubt, []).append(metric)
        elif doubt:
            once = once or _("By the accuracies on the hold-out, {doubt}.").format(doubt=doubt)
    by_metric = [_("By {metrics}, {doubt}.").format(metrics=_(" and ").join(names), doubt=doubt) for doubt, names in found.items()]
    return [*([once] if once else []), *by_metric]


def _cell(estimate: Estimate, metric: str) -> str:
    if metric not in estimate.means:
        return "-"
    interval = estimate.interval(metric)
    text = f"{estimate.means[metric]:,.0f}" if metric == "n_parameters" else f"{estimate.means[metric]:.4f}"
    return text if interval is None else f"{text} [{interval[0]:.4f}, {interval[1]:.4f}]"
