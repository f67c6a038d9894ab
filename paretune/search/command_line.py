"""The command line of sweeps/offline.py: a sweep file, how many trials, values to fix, workers; ends with a table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from paretune.core.command_line import SentenceParser, exit_with_sentence, with_underscores
from paretune.core.config import add_fields
from paretune.core.deferred_gc import collecting_later
from paretune.core.folders import ROOT
from paretune.data.options import DataOptions
from paretune.search.duration import seconds_of


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of sweeps/offline.py."""
    with exit_with_sentence(), collecting_later():
        options, texts, unknown = parse(sys.argv[1:] if arguments is None else arguments)
        from paretune.search.offline import search_as_told  # Optuna: only once the flags are read

        search_as_told(options, texts, unknown)
    return 0


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str], list[str]]:
    """Return the sweep's own options, the texts of given data options, and the flags left for the classifier."""
    parser = SentenceParser(
        prog="sweeps/offline.py",
        usage="%(prog)s SWEEP.yaml [--trials N] [--workers N] [--seed N] [--name NAME] [--FIELD=VALUE ...]",
        description="Search a W&B sweep file with Optuna; run again to go on, or elsewhere to join in (--storage).",
        epilog="Any hyper-parameter or data option is taken as a fixed value: --data=mnist --epochs=5.",
        allow_abbrev=False,
    )
    parser.add_argument("sweep", metavar="SWEEP.yaml", help="a W&B sweep file, such as sweeps/ann.yaml")
    parser.add_argument(
        "--trials", type=_at_least(1), metavar="N", help="finished trials to reach in all (default: the file's run_cap)"
    )
    parser.add_argument("--seed", type=_at_least(0), default=0, metavar="N", help="seed of the search (default: 0)")
    parser.add_argument("--name", help="name of the study and W&B group (default: the sweep's name and the data's)")
    parser.add_argument(
        "--storage", metavar="URL", help="postgresql://…, journal:///PATH or sqlite:///PATH (default: SQLite in the study's folder)"
    )
    parser.add_argument("--runs", default=_relative(ROOT / "runs"), help="folder of studies (default: %(default)s)")
    parser.add_argument(
        "--workers", type=_at_least(1), metavar="N", help="processes on this machine (default: 1, or as the GPUs say)"
    )
    parser.add_argument("--gpus", metavar="LIST", help="place workers on these GPUs: all, or 0,2")
    parser.add_argument(
        "--gpu_fraction",
        type=_fraction,
        default=1.0,
        metavar="X",
        help="share of a GPU per worker: 0.5 puts two on each (default: 1)",
    )
    parser.add_argument(
        "--prior",
        "--prior_run",
        "-R",
        dest="prior",
        action="append",
        default=[],
        metavar="SOURCE",
        help="start from a study, W&B run or file of points (repeatable)",
    )
    parser.add_argument(
        "--lease",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="seconds after which a silent machine's trial is retried (default: 60)",
    )
    parser.add_argument(
        "--trial_timeout",
        type=_duration,
        metavar="TIME",
        help="time after which a trial fails: 90s, 10m, 2h (default: controller.search.trial_timeout of the file, or none)",
    )
    parser.add_argument("--wandb", help="offline, online, auto or disabled (default: offline, but disabled after 'wandb disabled')")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    add_fields(parser.add_argument_group("data"), DataOptions)
    options, unknown = parser.parse_known_args(with_underscores(arguments))
    texts = {name: text for name, text in vars(options).items() if name in DataOptions.model_fields}
    return options, texts, unknown


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}. Got {text!r}.")
        return int(text)

    return whole_number


def _fraction(text: str) -> float:
    return _number(text, "must be a number above 0, up to 1", lambda value: 0 < value <= 1)


def _seconds(text: str) -> float:
    return _number(text, "must be a number of seconds of at least 1", lambda value: value >= 1)


def _duration(text: str) -> float:
    seconds = seconds_of(text)
    if seconds is None:
        raise argparse.ArgumentTypeError(f"must be a time such as 90s, 10m or 2h, above 0. Got {text!r}.")
    return seconds


def _number(text: str, must: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{must}. Got {text!r}.")
    return value


def _relative(path: Path) -> str:
    """Return a path as seen from here where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
