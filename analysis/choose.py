"""Choose one run of the front by an explicit rule, and say why.

usage: python -m analysis.choose SOURCE [SOURCE …] [--rule f1|knee|max:METRIC|min:METRIC|run:ID]

f1 is max:f1. knee is the front's run nearest to the ideal point when each metric spans 0 to 1 over the front. Of equals,
the run of lower test_loss is taken, then the smaller one (n_parameters), then the earlier.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.history import add_sources, load_runs, runs_table
from analysis.pareto import DEFAULT_METRICS, front_of
from trainers.best import goal_of
from trainers.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

RULES = ("f1", "knee", "max:METRIC", "min:METRIC", "run:ID")


@dataclass(frozen=True)
class Choice:
    """The chosen run (a row of the runs table), the rule, the reason in words, and the runs it was chosen from."""

    run: pd.Series
    rule: str
    reason: str
    candidates: list[str]
    metrics: tuple[str, ...]
    left_out: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for a model's metadata."""
        return {
            "run": str(self.run["run"]),
            "name": str(self.run["name"]),
            "rule": self.rule,
            "reason": self.reason,
            "front": list(self.metrics),
            "candidates": self.candidates,
            "left_out": self.left_out,
        }


def choose(runs: pd.DataFrame, rule: str = "f1", metrics: Sequence[str] = DEFAULT_METRICS) -> Choice:
    """Choose from the Pareto front of `metrics` over a runs table.

    Raises:
        UsageError: if the rule is unknown, or names a metric or run that is not there.
    """
    import pandas as pd

    kind, _, name = rule.partition(":")
    table, left_out = front_of(runs, metrics)
    front = table[table["on_front"]]
    names = [str(run) for run in front["run"]]
    if kind == "run" and name:
        picked = table[(table["run"] == name) | (table["name"] == name)]
        if picked.empty:
            near = did_you_mean(name, [*table["run"], *table["name"]]) or "; python -m analysis.history lists them."
            raise UsageError(f"rule {rule}: there is no finished run {name!r}{near}")
        chosen = picked.iloc[0]
        where = "on the front" if chosen["on_front"] else "not on the front"
        return Choice(chosen, rule, f"named by the person; it is {where}", names, tuple(metrics), left_out)
    if kind == "knee" and not name:
        goals = [goal_of(metric) for metric in metrics]
        chosen = _best(front, _distance_to_ideal(front, metrics, goals))
        reason = f"nearest to the best {' and '.join(metrics)} of the front"
        return Choice(chosen, rule, f"{reason}, of {_count(front)}", names, tuple(metrics), left_out)
    if rule == "f1":
        kind, name = "max", "f1"
    if kind in {"max", "min"} and name:
        if name not in front or not pd.api.types.is_numeric_dtype(front[name]):
            raise UsageError(f"rule {rule}: no run has the metric {name!r}{did_you_mean(name, front.columns) or '.'}")
        values = front[name].to_numpy(dtype=np.float64)
        if not np.isfinite(values).any():
            raise UsageError(f"rule {rule}: no run on the front has a value of {name}: choose by another metric.")
        chosen = _best(front, -values if kind == "max" else values)
        equals = front[values == chosen[name]]
        reason = f"{'highest' if kind == 'max' else 'lowest'} {name}, {chosen[name]:.4f}, of {_count(front)} on the front"
        if len(equals) > 1:
            reason += f"; of {len(equals)} equals {_told_apart(equals)}"
        return Choice(chosen, rule, reason, names, tuple(metrics), left_out)
    near = did_you_mean(rule, ["f1", "knee"]) or f"; there are {', '.join(RULES)}."
    raise UsageError(f"rule {rule!r} is not known{near}")


def _count(front: pd.DataFrame) -> str:
    return f"{len(front)} run{'s' if len(front) > 1 else ''}"


def _told_apart(equals: pd.DataFrame) -> str:
    """Say which of the keys of `_best` decided between runs of equal score."""
    for name, words in (("test_loss", "the one of lower test_loss"), ("n_parameters", "the one of fewer parameters")):
        if name in equals and equals[name].notna().any():
            equals = equals[equals[name] == equals[name].min()]
            if len(equals) == 1:
                return words
    return "the earlier one"


def _best(front: pd.DataFrame, score: np.ndarray) -> pd.Series:
    """Return the row of least score; ties by test_loss, then n_parameters, then creation."""
    import pandas as pd

    keys = pd.DataFrame({"score": score, "order": range(len(front))}, index=front.index)
    for name in ("test_loss", "n_parameters"):
        keys[name] = front[name].fillna(np.inf) if name in front else 0.0
    return front.loc[keys.sort_values(["score", "test_loss", "n_parameters", "order"]).index[0]]


def _distance_to_ideal(front: pd.DataFrame, metrics: Sequence[str], goals: Sequence[str]) -> np.ndarray:
    values = front[list(metrics)].to_numpy(dtype=np.float64) * [1.0 if goal == "minimize" else -1.0 for goal in goals]
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    return np.linalg.norm((values - low) / np.where(span > 0, span, 1.0), axis=1)


def main(arguments: Sequence[str] | None = None) -> int:
    from trainers.command_line import SentenceParser, exit_with_sentence

    parser = SentenceParser(prog="python -m analysis.choose", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    parser.add_argument("--rule", default="f1", help=f"one of {', '.join(RULES)} (default: f1)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        for source in options.sources:
            choice = choose(runs_table(load_runs(source)), options.rule)
            print(f"{source}: {choice.run['name']} ({choice.run['run']}) by rule {choice.rule}: {choice.reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
