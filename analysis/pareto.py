"""The Pareto front: the runs that no other run beats in every metric; and the hypervolume that it dominates.

usage: python -m analysis.pareto SOURCE [SOURCE …] [--metrics METRIC …] [--goals maximize|minimize …] [--reference VALUE …]
                                 [--figure FILE.png] [--hypervolume FILE.png] [--html FILE.html]

A point dominates another if it is at least as good in every metric and better in one. Runs of one configuration are one
point, the mean of its repeats (findings/repeats.py); equal points of several are kept together. The filter and the
hypervolume are moocore's (exact). The hypervolume is measured from a reference point: by default the worst value of each
metric among the finished runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paretune.analysis.figures.fronts import hypervolume_figure, pairs_figure
from paretune.analysis.figures.interactive import configurations, front_html, save_page
from paretune.analysis.figures.runs import pareto_figure, save_figure
from paretune.analysis.findings.aims import add_aims, aims_of, check_aims, default_metrics
from paretune.analysis.findings.candidates import candidates
from paretune.analysis.findings.front import candidates_in_words, counted, front_of, volumes_of
from paretune.analysis.findings.order import better_first
from paretune.analysis.findings.repeats import RUNS
from paretune.analysis.history import RunRecord, add_sources, as_text, runs_table, sources_of
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError

if TYPE_CHECKING:
    import argparse

    import pandas as pd


def main(arguments: Sequence[str] | None = None) -> int:
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
        front, left_out = front_of(runs_table(runs), metrics, goals, runs)
        volumes, reference = volumes_of(front, metrics, goals, options.reference)
        _print_front(front, left_out, metrics, goals)
        if len(metrics) > 1:
            _print_volumes(volumes, metrics, reference, given=bool(options.reference), repeated=_is_repeated(front))
        _write(options, runs, front, metrics, goals, volumes)
    return 0


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
    best = front[front["on_front"]]
    sign = 1.0 if goals[0] == "minimize" else -1.0
    order = better_first(best, sign * best[metrics[0]].to_numpy(dtype=np.float64), dict(zip(metrics, goals, strict=True)))
    n_front, n_configurations, n_runs = counted(front)
    best = best.iloc[order].assign(runs=[len(every) for every in best[RUNS].iloc[order]])
    repeated = ["runs"] if n_runs > n_configurations else []
    shown = [c for c in dict.fromkeys(["run", "name", *metrics, "f1", "best_epoch", *repeated]) if c in best]
    print(as_text(best, shown))
    aims = ", ".join(f"{metric} {goal}d" for metric, goal in zip(metrics, goals, strict=True))
    split = front["evaluation_split"].iloc[0]
    scored = "the runs do not say on which images" if split == "unknown" else f"scored on the {split}"
    verb = "is" if n_configurations == 1 else "are"
    print(f"\n{n_front} of {candidates_in_words(front)} {verb} on the front ({aims}; {scored})")
    for reason, count in left_out.items():
        print(f"left out: {count} {reason}")


def _is_repeated(front: pd.DataFrame) -> bool:
    """Whether several runs tried one configuration, so that a row is their mean."""
    __, n_configurations, n_runs = counted(front)
    return n_runs > n_configurations


def _print_volumes(volumes: np.ndarray, metrics: Sequence[str], reference: Sequence[float], *, given: bool, repeated: bool) -> None:
    corner = ", ".join(f"{metric} {value:.6g}" for metric, value in zip(metrics, reference, strict=True))
    among = "configurations" if repeated else "finished runs"
    origin = "as given" if given else f"the worst of each among the {among}; --reference sets another"
    print(f"hypervolume {volumes[-1]:.6g}, from the reference point {corner} ({origin})")
    if given and volumes[-1] == 0:
        print("no run is better than the reference point in every metric, so that nothing is measured: give a worse one.")
    places = sorted({round(place) for place in np.linspace(0, len(volumes) - 1, min(8, len(volumes)))})
    units = "configurations, in the order of their first runs" if repeated else "finished runs"
    print(f"hypervolume over the {units}: {', '.join(f'{volumes[i]:.4g} (after {i + 1})' for i in places)}")


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
        draw = pareto_figure({name: front}, metrics, goals) if len(metrics) == 2 else pairs_figure(front, metrics, goals)
        print(f"wrote {save_figure(draw, Path(options.figure))}")
    if options.hypervolume:
        print(f"wrote {save_figure(hypervolume_figure({name: volumes}, repeated=_is_repeated(front)), Path(options.hypervolume))}")
    if options.html:
        figure = front_html({name: front}, configurations(runs), metrics, goals)
        print(f"wrote {save_page(figure, Path(options.html))}")


if __name__ == "__main__":
    sys.exit(main())
