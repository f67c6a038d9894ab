"""Objectives to compare runs by: metrics and goals from flags, sweeps or metric names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from paretune.analysis.findings.candidates import candidates
from paretune.analysis.sources.run_record import RunRecord, runs_table
from paretune.core.best_epoch import known_goal
from paretune.core.errors import UsageError
from paretune.core.run_order import DEFAULT_METRICS

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_METRIC = "f1"  # that is explained where no sweep says what it looks for
BY_GOALS = "say it with --goals, one for each of --metrics"
GOALS = ("maximize", "minimize")


def aims_of(runs: Sequence[RunRecord], metrics: Sequence[str] | None = None, goals: Sequence[str] | None = None) -> dict[str, str]:
    """Return what is weighed, metric -> goal: what is given, else what the runs' sweep looks for, else what the names tell.

    Raises:
        UsageError: if a metric's goal is not known, or two sweeps want opposite things of it.
    """
    if metrics and runs:
        candidates(runs_table(runs), metrics)  # whether they are there, before what they are for
    metrics = metrics or default_metrics(runs)
    return dict(zip(metrics, goals or goals_of(metrics, stated_goals(runs)), strict=True))


def default_metrics(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return the objectives of the runs' sweep, where it has two or more; else precision and recall, or its one objective."""
    objectives = objectives_of(runs)
    logged = any(all(metric in run.columns for metric in DEFAULT_METRICS) for run in runs)
    return objectives if len(objectives) > 1 or (objectives and not logged) else DEFAULT_METRICS


def objectives_of(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return what the runs' sweep looks for, the first objective first; nothing where it is unknown, or sweeps differ."""
    searched = [run.goals for run in runs if run.goals]
    return tuple(searched[0]) if searched and all(goals == searched[0] for goals in searched) else ()


def explained_metric(runs: Sequence[RunRecord]) -> tuple[str, str]:
    """Return the metric that is explained where a person names none, and a sentence on why it is that one.

    It is the first objective of the runs' sweep. Run files of ours do not always name their sweep's, but what each picked
    its best epoch by, which in a sweep is the same.
    """
    objectives = objectives_of(runs)
    if objectives:
        return objectives[0], f"{objectives[0]} is what the sweep looks for; --metric takes another."
    if any(run.goals for run in runs):
        return (
            DEFAULT_METRIC,
            f"The sweeps of these runs look for different things, so that {DEFAULT_METRIC} is taken; --metric takes another.",
        )
    picked = {str(run.stated.get("best_metric") or "") for run in runs}
    if len(picked) == 1 and "" not in picked:
        (metric,) = picked
        return metric, f"{metric} is what the best epoch of each run was picked by; --metric takes another."
    return DEFAULT_METRIC, f"No sweep of these runs is known, so that {DEFAULT_METRIC} is taken; --metric takes another."


def stated_goals(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return what the runs' sweeps say of their objectives: metric -> goal.

    Raises:
        UsageError: if one sweep maximizes what another minimizes.
    """
    stated: dict[str, str] = {}
    for run in runs:
        for metric, goal in run.goals.items():
            if stated.setdefault(metric, goal) != goal:
                raise UsageError(f"one sweep here maximizes {metric} and another minimizes it: give them one by one.")
    return stated


def goals_of(metrics: Sequence[str], stated: Mapping[str, str], how: str = BY_GOALS) -> list[str]:
    """Return the goal of each metric: what its sweep states, else what its name tells.

    Args:
        how: which flags of the command say it.

    Raises:
        UsageError: if neither tells.
    """
    goals = [stated.get(metric) or known_goal(metric) for metric in metrics]
    unknown = [metric for metric, goal in zip(metrics, goals, strict=True) if goal is None]
    if unknown:
        raise UsageError(
            f"neither the sweep nor the name tells whether {' and '.join(unknown)} shall be maximized or minimized: {how}."
        )
    return [goal for goal in goals if goal is not None]


def candidates_by(runs: Sequence[RunRecord], metric: str, goal: str | None = None) -> tuple[pd.DataFrame, str]:
    """Return the candidates by one metric, as --metric names it, and its goal, by default as the sweep or the name says.

    Raises:
        UsageError: as `candidates` and `goals_of`.
    """
    runs_left = candidates(runs_table(runs), [metric], "--metric")[0]
    return runs_left, goal or goals_of([metric], stated_goals(runs), "say it with --goal")[0]


def add_aims(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what is weighed."""
    parser.add_argument(
        "--metrics", nargs="+", metavar="METRIC", help="metrics to weigh (default: the sweep's objectives, else precision recall)"
    )
    parser.add_argument("--goals", nargs="+", choices=GOALS, help="one per metric (default: by the sweep, then by the name)")


def add_goal(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> argparse.Action:
    """Add the flag that says the goal of --metric, and return it."""
    return parser.add_argument("--goal", choices=GOALS, help="of --metric (default: by the sweep, then by the name)")


def check_aims(options: argparse.Namespace) -> None:
    """Refuse goals that do not go with the metrics.

    Raises:
        UsageError: that says why.
    """
    metrics = options.metrics or []
    doubled = sorted({metric for metric in metrics if metrics.count(metric) > 1})
    if doubled:
        raise UsageError(f"--metrics must name each metric once. Got {', '.join(doubled)} twice.")
    if options.goals and not metrics:
        raise UsageError("--goals must come with --metrics, one for each: they are in the order of these.")
    if options.goals and len(options.goals) != len(metrics):
        raise UsageError(f"--goals must be one per metric, {len(metrics)} ({', '.join(metrics)}). Got {len(options.goals)}.")
