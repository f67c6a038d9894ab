"""The Pareto front: the runs that no other run beats in every metric; and the hypervolume that it dominates.

usage: python -m analysis.pareto SOURCE [SOURCE …] [--metrics METRIC …] [--goals maximize|minimize …] [--reference VALUE …]
                                 [--figure FILE.png] [--hypervolume FILE.png] [--html FILE.html]

A point dominates another if it is at least as good in every metric and better in one. Every non-dominated run is kept,
duplicates included. The filter and the hypervolume are moocore's (exact). The hypervolume is measured from a reference
point: by default the worst value of each metric among the finished runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.history import RunRecord, add_sources, as_text, runs_table, sources_of
from paretune.core.best_epoch import known_goal
from paretune.core.errors import UsageError, did_you_mean
from paretune.core.pareto_front import hypervolumes, non_dominated, reference_point

if TYPE_CHECKING:
    import argparse

    import pandas as pd

DEFAULT_METRICS = ("precision", "recall")
NO_METRICS = ("created", "epochs", "best_epoch")
MOST_NAMES = 10


def pareto_front(values: np.ndarray, goals: Sequence[str]) -> np.ndarray:
    """Return which points no other point dominates.

    Args:
        values: (n_points, n_metrics), finite.
        goals: `maximize` or `minimize` for each metric.

    Returns:
        (n_points,) bool. Equal points are on the front together.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(goals):
        raise ValueError(f"values must be (n_points, {len(goals)}). Got {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite: leave out runs without a value first.")
    return np.asarray(non_dominated(values, goals), dtype=bool)


def hypervolume(values: np.ndarray, goals: Sequence[str], reference: Sequence[float]) -> float:
    """Return the volume that the points (n_points, n_metrics) dominate, up to `reference` (n_metrics,)."""
    import moocore

    if len(values) == 0:
        return 0.0
    maximize = [goal == "maximize" for goal in goals]
    return float(moocore.hypervolume(np.asarray(values, dtype=np.float64), ref=np.asarray(reference, float), maximise=maximize))


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
    searched = [run.goals for run in runs if run.goals]
    objectives = tuple(searched[0]) if searched and all(goals == searched[0] for goals in searched) else ()
    logged = any(all(metric in run.columns for metric in DEFAULT_METRICS) for run in runs)
    return objectives if len(objectives) > 1 or (objectives and not logged) else DEFAULT_METRICS


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


def goals_of(metrics: Sequence[str], stated: Mapping[str, str]) -> list[str]:
    """Return the goal of each metric: what its sweep states, else what its name tells.

    Raises:
        UsageError: if neither tells.
    """
    goals = [stated.get(metric) or known_goal(metric) for metric in metrics]
    unknown = [metric for metric, goal in zip(metrics, goals, strict=True) if goal is None]
    if unknown:
        raise UsageError(
            f"neither the sweep nor the name tells whether {' and '.join(unknown)} shall be maximized or minimized: "
            "say it with --goals, one for each metric."
        )
    return [goal for goal in goals if goal is not None]


def candidates(runs: pd.DataFrame, metrics: Sequence[str], option: str = "--metrics") -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the runs that may be on a front, and how many others there are by reason.

    Runs that were stopped early, failed or still run are no candidates, nor are those that break a constraint of their
    sweep or are without a finite value; the reason names these.

    Args:
        option: the flag by which a person names the metrics, for a message.

    Raises:
        UsageError: if the metric is unknown, no run is left, or runs were scored on the locked part or on a mix of parts.
    """
    known = _metrics_in(runs)
    left_out = {str(state): int(count) for state, count in runs["state"].value_counts().items() if state != "finished"}
    rest = runs[runs["state"] == "finished"]
    if rest.empty:
        counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "there is no run at all"
        raise UsageError(f"no run has finished yet ({counts}): run the sweep further first.")
    for metric in metrics:
        if metric not in known:
            there = (
                f"; there are {', '.join(known)}: name those to weigh, as in {option} {known[0]}."
                if known
                else "; no run has logged any."
            )
            raise UsageError(f"no run has the metric {metric!r}{did_you_mean(metric, known) or there}")
    if "feasible" in rest:
        broken = rest[~rest["feasible"].astype(bool)]
        if len(broken):
            reason = _("breaking a constraint of the sweep: {names}").format(names=_first(list(broken["name"])))
            left_out[reason] = len(broken)
        rest = rest[rest["feasible"].astype(bool)]
    finite = np.isfinite(rest[list(metrics)].to_numpy(dtype=np.float64)).all(axis=1)
    left_out |= _reasons(rest[~finite], metrics)
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
    ours = rest[rest["evaluation_split"] != "unknown"]  # in other people's runs these keys may mean anything
    for column, what in (("data", "data sets"), ("average", "averages over the classes")):
        values = sorted({str(value) for value in ours[column] if value}) if column in ours else []
        if len(values) > 1:
            raise UsageError(f"runs of different {what} ({', '.join(values)}) cannot stand on one front: give them one by one.")
    _check_same_images(ours)
    if len(splits) > 1:
        raise UsageError(f"runs of different evaluation splits ({', '.join(splits)}) cannot stand on one front: pull them apart.")
    return rest, left_out


def _check_same_images(runs: pd.DataFrame) -> None:
    """Refuse to compare runs whose locked or held-out images differ, but for folds, and pictures in other sizes.

    Raises:
        UsageError: that names runs of both.
    """
    if "provenance.images" not in runs:
        return
    known = runs[runs["provenance.images"] != ""]
    for _size, group in known.groupby("provenance.image_size", sort=False):
        names = group.groupby("provenance.images", sort=False)["name"].first()
        if len(names) > 1:
            raise UsageError(
                f"runs must be scored on the same images to be compared. Those of {names.iloc[0]} and {names.iloc[1]} differ (other"
                " files, another split_seed or share): give them one by one."
            )


def candidates_by(runs: Sequence[RunRecord], metric: str, goal: str | None = None) -> tuple[pd.DataFrame, str]:
    """Return the candidates by one metric, as --metric names it, and its goal, by default as the sweep or the name says.

    Raises:
        UsageError: as `candidates` and `goals_of`.
    """
    runs_left = candidates(runs_table(runs), [metric], "--metric")[0]
    return runs_left, goal or goals_of([metric], stated_goals(runs))[0]


def _metrics_in(runs: pd.DataFrame) -> list[str]:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return [
        name for name in runs.columns if is_numeric_dtype(runs[name]) and not is_bool_dtype(runs[name]) and name not in NO_METRICS
    ]


def _reasons(runs: pd.DataFrame, metrics: Sequence[str]) -> dict[str, int]:
    """Count runs that lack a finite value, by what each lacks; the key names the runs."""
    names: dict[str, list[str]] = {}
    for run in runs.to_dict("records"):
        missing = _(" and ").join(metric for metric in metrics if np.isnan(run[metric]))
        infinite = _(" and ").join(metric for metric in metrics if np.isinf(run[metric]))
        parts = [_("without {metrics}").format(metrics=missing)] * bool(missing)
        parts += [_("with infinite {metrics}").format(metrics=infinite)] * bool(infinite)
        names.setdefault(_(" and ").join(parts), []).append(str(run["name"] or run["run"]))
    return {f"{reason}: {_first(found)}": len(found) for reason, found in names.items()}


def _first(names: Sequence[str]) -> str:
    more = _(" and {count} more").format(count=len(names) - MOST_NAMES) if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def front_of(
    runs: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS, goals: Sequence[str] | None = None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the candidates with a bool column `on_front`, and the count of the others by reason.

    Args:
        goals: `maximize` or `minimize` for each metric; by default what their names tell.
    """
    rest, left_out = candidates(runs, metrics)
    goals = goals or goals_of(metrics, {})
    return rest.assign(on_front=pareto_front(rest[list(metrics)].to_numpy(dtype=np.float64), goals)), left_out


def volumes_of(
    front: pd.DataFrame, metrics: Sequence[str], goals: Sequence[str], reference: Sequence[float] | None = None
) -> tuple[np.ndarray, list[float]]:
    """Return the hypervolume after each candidate, in the order of their creation (n_candidates,), and its reference point."""
    values = front.sort_values("created", kind="stable")[list(metrics)].to_numpy(dtype=np.float64)
    corner = list(reference) if reference else reference_point(values, goals)
    return hypervolumes(values, goals, corner), corner


def main(arguments: Sequence[str] | None = None) -> int:
    from paretune.core.command_line import SentenceParser, exit_with_sentence

    parser = SentenceParser(prog="python -m analysis.pareto", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    add_aims(parser)
    parser.add_argument(
        "--reference",
        nargs="+",
        type=float,
        metavar="VALUE",
        help="where the hypervolume begins (default: the worst of each metric)",
    )
    parser.add_argument(
        "--figure", metavar="FILE.png", help="write the front as a picture; a grid of pairs for three or more metrics"
    )
    parser.add_argument("--hypervolume", metavar="FILE.png", help="write the hypervolume over the runs as a picture")
    parser.add_argument("--html", metavar="FILE.html", help="write the front as a page that shows each run's configuration")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        check_aims(options)
        runs = sources_of(options)
        metrics = options.metrics or list(default_metrics(runs))
        _check(options, metrics)
        candidates(runs_table(runs), metrics)  # whether they are there, before what they are for
        goals = list(aims_of(runs, options.metrics, options.goals).values())
        front, left_out = front_of(runs_table(runs), metrics, goals)
        volumes, reference = volumes_of(front, metrics, goals, options.reference)
        _print_front(front, left_out, metrics, goals)
        if len(metrics) > 1:
            _print_volumes(volumes, metrics, reference, given=bool(options.reference))
        _write(options, runs, front, metrics, goals, volumes)
    return 0


def add_aims(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what is weighed."""
    parser.add_argument(
        "--metrics", nargs="+", metavar="METRIC", help="metrics to weigh (default: the sweep's objectives, else precision recall)"
    )
    parser.add_argument(
        "--goals", nargs="+", choices=["maximize", "minimize"], help="one per metric (default: by the sweep, then by the name)"
    )


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


def _check(options: argparse.Namespace, metrics: Sequence[str]) -> None:
    """Refuse options that do not go together, before anything is computed.

    Raises:
        UsageError: that says which.
    """
    if options.reference and len(options.reference) != len(metrics):
        raise UsageError(
            f"--reference must be one per metric, {len(metrics)} ({', '.join(metrics)}). Got {len(options.reference)}."
        )
    if options.reference and not np.isfinite(options.reference).all():
        raise UsageError(f"--reference must be finite. Got {', '.join(map(str, options.reference))}.")
    for flag, file in (("--figure", options.figure), ("--html", options.html)):
        if file and len(metrics) < 2:
            raise UsageError(f"{flag} draws two metrics or more. Got {len(metrics)}.")
    if options.html and Path(options.html).suffix != ".html":
        raise UsageError(f"--html must end in .html. Got {options.html}.")


def _print_front(front: pd.DataFrame, left_out: Mapping[str, int], metrics: Sequence[str], goals: Sequence[str]) -> None:
    best = front[front["on_front"]].sort_values(metrics[0], ascending=goals[0] == "minimize")
    shown = [c for c in dict.fromkeys(["run", "name", *metrics, "f1", "best_epoch"]) if c in best]
    print(as_text(best, shown))
    aims = ", ".join(f"{metric} {goal}d" for metric, goal in zip(metrics, goals, strict=True))
    split = front["evaluation_split"].iloc[0]
    scored = "the runs do not say on which images" if split == "unknown" else f"scored on the {split}"
    runs = "run is" if len(front) == 1 else "runs are"
    print(f"\n{len(best)} of {len(front)} finished {runs} on the front ({aims}; {scored})")
    for reason, count in left_out.items():
        print(f"left out: {count} {reason}")


def _print_volumes(volumes: np.ndarray, metrics: Sequence[str], reference: Sequence[float], *, given: bool) -> None:
    corner = ", ".join(f"{metric} {value:.6g}" for metric, value in zip(metrics, reference, strict=True))
    origin = "as given" if given else "the worst of each among the finished runs; --reference sets another"
    print(f"hypervolume {volumes[-1]:.6g}, from the reference point {corner} ({origin})")
    if given and volumes[-1] == 0:
        print("no run is better than the reference point in every metric, so that nothing is measured: give a worse one.")
    places = sorted({round(place) for place in np.linspace(0, len(volumes) - 1, min(8, len(volumes)))})
    print(f"hypervolume over the finished runs: {', '.join(f'{volumes[i]:.4g} (after {i + 1})' for i in places)}")


def _write(
    options: argparse.Namespace,
    runs: Sequence[RunRecord],
    front: pd.DataFrame,
    metrics: Sequence[str],
    goals: Sequence[str],
    volumes: np.ndarray,
) -> None:
    """Write the pictures and the page that were asked for."""
    name = " and ".join(Path(source.partition("#")[2] or source).name for source in options.sources)
    if options.figure:
        from paretune.analysis.figures.fronts import pairs_figure
        from paretune.analysis.figures.runs import pareto_figure, save_figure

        draw = pareto_figure({name: front}, metrics, goals) if len(metrics) == 2 else pairs_figure(front, metrics, goals)
        print(f"wrote {save_figure(draw, Path(options.figure))}")
    if options.hypervolume:
        from paretune.analysis.figures.fronts import hypervolume_figure
        from paretune.analysis.figures.runs import save_figure

        print(f"wrote {save_figure(hypervolume_figure({name: volumes}), Path(options.hypervolume))}")
    if options.html:
        from paretune.analysis.figures.interactive import configurations, front_html, save_page

        figure = front_html({name: front}, configurations(runs), metrics, goals)
        print(f"wrote {save_page(figure, Path(options.html))}")


if __name__ == "__main__":
    sys.exit(main())
