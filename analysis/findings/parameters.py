"""What the finished runs of a sweep tried: the searched hyper-parameters of each, and the score of its best epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.findings.aims import aims_of, candidates_by
from paretune.analysis.findings.order import better_first
from paretune.analysis.sources.run_record import RunRecord
from paretune.core.run_order import tie_breakers
from paretune.models.effective_configuration import plain
from paretune.models.effective_configuration import text_of as key_of
from paretune.search.importance import Scored

if TYPE_CHECKING:
    import pandas as pd

ABSENT = "–"


@dataclass(frozen=True)
class Tried(Scored):
    """The finished runs of a sweep, as the figures show them."""

    ties: pd.DataFrame | None = None  # a row per run: what tells equals apart (findings/order.py)
    aims: Mapping[str, str] = field(default_factory=dict)  # what is weighed

    def choices(self, parameter: str) -> list[str]:
        """Return the different values of a parameter as texts, in order; a dash, for runs that lack it, stands last."""
        column = self.values[parameter]
        return [text_of(value) for value in sorted(set(column.dropna()))] + ([ABSENT] if column.isna().any() else [])

    def chosen(self, parameter: str) -> np.ndarray:
        """Return which of the choices each run took (n_runs,), counted from 0."""
        places = {choice: place for place, choice in enumerate(self.choices(parameter))}
        missing = self.values[parameter].isna()
        texts = [ABSENT if absent else text_of(value) for value, absent in zip(self.values[parameter], missing, strict=True)]
        return np.array([places[text] for text in texts])

    @property
    def better_first(self) -> np.ndarray:
        """Indices of the runs from the best to the worst (n_runs,), of equals as `choose` takes them."""
        table = self.values[[]] if self.ties is None else self.ties
        return better_first(table, self.scores if self.goal == "minimize" else -self.scores, self.aims)


def tried(runs: Sequence[RunRecord], metric: str = "f1", goal: str | None = None, aims: Mapping[str, str] | None = None) -> Tried:
    """Return what the finished runs tried, and their value of `metric` at their best epoch.

    An inactive parameter is one that the run lacks, as if its sweep had not handed it out: its value says nothing.

    Args:
        goal: of the metric; by default as its sweep says.
        aims: what is weighed, metric -> goal; by default as `aims_of`.

    Raises:
        UsageError: if no run has the metric, its goal is not known, or runs were scored on different parts or the locked one.
    """
    import pandas as pd

    table, goal = candidates_by(runs, metric, goal)
    aims = aims_of(runs) if aims is None else aims
    by_id = {run.run: run for run in runs}
    configs = [by_id[run].config for run in table["run"]]
    rows = [by_id[run].parameters for run in table["run"]]
    columns: dict[str, list[Any]] = {}
    left_out: dict[str, str] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [_plain(row[name]) if name in row else pd.NA for row in rows]
        if any(len({key_of(row[name]) if name in row else "" for row in every}) < 2 for every in (configs, rows)):
            continue  # the same in every run, or in every run in which it has an effect
        found = [value for value in values if value is not pd.NA]
        if not all(isinstance(value, float) for value in found):
            values = [value if value is pd.NA else text_of(value) for value in values]
            if len(set(values)) == len(values) > 2:
                left_out[name] = _("its text differs in every run")
                continue
        columns[name] = values
    return Tried(
        pd.DataFrame(columns, index=table["run"].to_list(), dtype=object),
        table[metric].to_numpy(dtype=np.float64),
        [str(name) for name in table["name"]],
        metric,
        goal,
        str(table["evaluation_split"].iloc[0]),
        left_out,
        table.filter([*tie_breakers(aims), "created"]),
        aims,
    )


def _plain(value: Any) -> Any:
    """Return a number as float, and anything else but a text as JSON text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(plain(value))
    return value if isinstance(value, str) else key_of(value)


def text_of(value: Any) -> str:
    """Return a value as a label shows it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
