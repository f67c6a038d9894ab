"""What every benchmark here shares: sides measured in turn, the table for people, the JSON lines, checks of flags and data.

`--json` prints one object a line: {"name", "ours", "theirs", "unit", "ratio", "goal"}. `ratio` is theirs / ours for
times, so that larger is better; `goal` is a number or a short text.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from paretune.core.host_process import own_process

Side = TypeVar("Side", bound=Hashable)

own_process()  # a benchmark is a command


@dataclass(frozen=True)
class Result:
    """One measured row; None where a side, a ratio or a goal does not apply."""

    name: str
    ours: float | None
    theirs: float | None
    unit: str
    ratio: float | None = None
    goal: float | str | None = None


def how_many(text: str) -> int:
    """Read a flag's text as how many of something there are: the `type` of an argument."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1. Got {text!r}.")
    return int(text)


def times(name: str, ours: float, theirs: float | None, *, goal: float | str | None = None) -> Result:
    """Return a row of seconds; its ratio says how many times faster ours is."""
    return Result(name, ours, theirs, "s", None if theirs is None else theirs / ours, goal)


def medians_in_turn(sides: Mapping[Side, Callable[[], float]], rounds: int) -> dict[Side, float]:
    """Measure every side once a round, in turn (A B A B …), so that a busy machine slows them alike."""
    measured: dict[Side, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            measured[name].append(measure())
    return {name: statistics.median(values) for name, values in measured.items()}


def show(results: Sequence[Result], *, as_json: bool, notes: Sequence[str] = ()) -> None:
    """Print the rows: a table with notes below it, or JSON lines alone."""
    if as_json:
        for result in results:
            print(json.dumps(asdict(result)))
        return
    header = ("", "ours", "theirs", "unit", "ratio", "goal")
    rows = [header, *(_cells(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        cells = [
            cell.rjust(width) if column in (1, 2, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    for note in notes:
        print(note)


def has_mnist(benchmark: str, *, as_json: bool) -> bool:
    """Return whether MNIST lies under DATA_ROOT; where it does not, say how to get it. Nothing is downloaded here."""
    from paretune.data.dataset import data_root

    folder = data_root() / "MNIST" / "raw"
    files = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    if all(any((folder / f"{file}{end}").exists() for end in ("", ".gz")) for file in files):
        return True
    print(
        f"{benchmark}: skipped, as MNIST is not in {folder}; `python trainers/softmax.py --data=mnist --epochs=1` "
        "downloads it there, or point DATA_ROOT at the folder that holds MNIST/raw.",
        file=sys.stderr if as_json else sys.stdout,
    )
    return False


def _cells(result: Result) -> tuple[str, ...]:
    ratio = "" if result.ratio is None else f"{result.ratio:.1f}x"
    return (result.name, _number(result.ours), _number(result.theirs), result.unit, ratio, _number(result.goal))


def _number(value: float | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
