"""The Pareto front: the runs that no other run beats in every metric; and the hypervolume that it dominates.

usage: python -m analysis.pareto SOURCE [SOURCE …] [--metrics precision recall] [--figure FILE.png]

A point dominates another if it is at least as good in every metric and better in one. Every non-dominated run is kept,
duplicates included. The filter and the hypervolume are moocore's (exact).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.history import add_sources, load_runs, runs_table
from trainers.best import goal_of
from trainers.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_METRICS = ("precision", "recall")


def pareto_front(values: np.ndarray, goals: Sequence[str]) -> np.ndarray:
    """Return which points no other point dominates.

    Args:
        values: (n_points, n_metrics), finite.
        goals: `maximize` or `minimize` for each metric.

    Returns:
        (n_points,) bool. Equal points are on the front together.
    """
    import moocore

    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(goals):
        raise ValueError(f"values must be (n_points, {len(goals)}). Got {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite: leave out runs without a value first.")
    if len(values) == 0:
        return np.zeros(0, dtype=bool)
    if values.shape[1] == 1:
        best = values.max() if goals[0] == "maximize" else values.min()
        return (values == best)[:, 0]
    maximize = [goal == "maximize" for goal in goals]
    return np.asarray(moocore.is_nondominated(values, maximise=maximize, keep_weakly=True), dtype=bool)


def hypervolume(values: np.ndarray, goals: Sequence[str], reference: Sequence[float]) -> float:
    """Return the volume that the points (n_points, n_metrics) dominate, up to `reference` (n_metrics,)."""
    import moocore

    if len(values) == 0:
        return 0.0
    maximize = [goal == "maximize" for goal in goals]
    return float(moocore.hypervolume(np.asarray(values, dtype=np.float64), ref=np.asarray(reference, float), maximise=maximize))


def candidates(runs: pd.DataFrame, metrics: Sequence[str]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the runs that may be on a front, and how many others there are by reason.

    Runs that were stopped early, failed or still run are no candidates, nor are those without a finite value.

    Raises:
        UsageError: if the metric is unknown, no run is left, or runs were scored on the locked part or on a mix of parts.
    """
    import pandas as pd

    known = [
        column for column in runs.columns if pd.api.types.is_numeric_dtype(runs[column]) and column not in ("created", "epochs")
    ]
    for metric in metrics:
        if metric not in known:
            raise UsageError(
                f"no run has the metric {metric!r}{did_you_mean(metric, known) or '; there are ' + ', '.join(known) + '.'}"
            )
    left_out = {str(state): int(count) for state, count in runs["state"].value_counts().items() if state != "finished"}
    rest = runs[runs["state"] == "finished"]
    finite = np.isfinite(rest[list(metrics)].to_numpy(dtype=np.float64)).all(axis=1)
    if (~finite).any():
        left_out[f"without {' and '.join(metrics)}"] = int((~finite).sum())
    rest = rest[finite]
    if rest.empty:
        counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no run at all"
        raise UsageError(f"no finished run has {' and '.join(metrics)} ({counts}): run the sweep further first.")
    splits = sorted(rest["evaluation_split"].unique())
    if "test" in splits:
        raise UsageError(
            "runs scored on the locked test part cannot be compared to choose from (evaluation_split is test): "
            "use runs with a hold-out."
        )
    for column, what in (("data", "data sets"), ("average", "averages over the classes")):
        values = sorted({str(value) for value in rest[column] if value}) if column in rest else []
        if len(values) > 1:
            raise UsageError(f"runs of different {what} ({', '.join(values)}) cannot stand on one front: give them one by one.")
    if len(splits) > 1:
        raise UsageError(f"runs of different evaluation splits ({', '.join(splits)}) cannot stand on one front: pull them apart.")
    return rest, left_out


def front_of(
    runs: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS, goals: Sequence[str] | None = None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the candidates with a bool column `on_front`, and the count of the others by reason."""
    rest, left_out = candidates(runs, metrics)
    goals = goals or [goal_of(metric) for metric in metrics]
    return rest.assign(on_front=pareto_front(rest[list(metrics)].to_numpy(dtype=np.float64), goals)), left_out


def main(arguments: Sequence[str] | None = None) -> int:
    from trainers.command_line import SentenceParser, exit_with_sentence

    parser = SentenceParser(prog="python -m analysis.pareto", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    parser.add_argument("--metrics", nargs="+", default=list(DEFAULT_METRICS), help="metrics to weigh (default: precision recall)")
    parser.add_argument("--goals", nargs="+", choices=["maximize", "minimize"], help="one per metric (default: known by the name)")
    parser.add_argument("--figure", help="write the front as a picture (two metrics)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        if options.goals and len(options.goals) != len(options.metrics):
            raise UsageError(f"--goals must be one per metric, {len(options.metrics)}. Got {len(options.goals)}.")
        runs = runs_table([run for source in options.sources for run in load_runs(source)])
        goals = options.goals or [goal_of(metric) for metric in options.metrics]
        front, left_out = front_of(runs, options.metrics, goals)
        best = front[front["on_front"]].sort_values(options.metrics[0], ascending=goals[0] == "minimize")
        shown = [c for c in dict.fromkeys(["run", "name", *options.metrics, "f1", "best_epoch"]) if c in best]
        print(best[shown].to_string(index=False, float_format=lambda value: f"{value:.4f}"))
        aims = ", ".join(f"{metric} {goal}d" for metric, goal in zip(options.metrics, goals, strict=True))
        print(
            f"\n{len(best)} of {len(front)} finished runs are on the front "
            f"({aims}; scored on the {front['evaluation_split'].iloc[0]})"
        )
        for reason, count in left_out.items():
            print(f"left out: {count} {reason}")
        if options.figure:
            if len(options.metrics) != 2:
                raise UsageError(f"--figure draws two metrics. Got {len(options.metrics)}.")
            from analysis.figures import pareto_figure, save_figure

            save_figure(pareto_figure({"runs": front}, options.metrics, goals), Path(options.figure))
            print(f"wrote {options.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
