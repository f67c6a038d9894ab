"""What the finished runs of a sweep tried: the searched hyper-parameters of each, and the score of its best epoch."""

from __future__ import annotations

import json
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
        values = sorted(set(column.dropna()))
        texts = [text_of(value) for value in values]
        if len(set(texts)) < len(texts):  # numbers that are alike in six digits
            texts = [key_of(value) for value in values]
        return texts + ([ABSENT] if column.isna().any() else [])

    def chosen(self, parameter: str) -> np.ndarray:
        """Return which of the choices each run took (n_runs,), counted from 0."""
        column = self.values[parameter]
        places = {value: place for place, value in enumerate(sorted(set(column.dropna())))}
        return np.array([places.get(value, len(places)) for value in column])

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
        values = [row.get(name, pd.NA) for row in rows]
        if any(len({key_of(row[name]) if name in row else "" for row in every}) < 2 for every in (configs, rows)):
            continue  # the same in every run, or in every run in which it has an effect
        found = [value for value in values if value is not pd.NA]
        if all(map(_is_number, found)):
            values = [value if value is pd.NA else float(plain(value)) for value in values]
        else:
            are_texts = all(isinstance(value, str) for value in found)
            values = [value if value is pd.NA else _text(value, beside_others=not are_texts) for value in values]
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any, *, beside_others: bool) -> str:
    """Return a value as a text that no other has: JSON, or a text as it is where it cannot be taken for another value.

    Args:
        beside_others: whether the parameter has values that are no texts.
    """
    if not isinstance(value, str) or not value.strip() or value == ABSENT:
        return key_of(value) if value != ABSENT else f'"{value}"'
    return key_of(value) if beside_others and _is_json(value) else value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def text_of(value: Any) -> str:
    """Return a value as a label shows it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
