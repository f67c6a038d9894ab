"""Groups runs by configuration and averages repeats, so that the luckiest of them does not stand for all.

Two runs are of one configuration if their effective configurations are equal, seed and fold aside. Of these, repeats are
other trainings: of another seed or fold, or of none that is known. Copies say the same result once more, and count once: a
run of a seed that was there with the same metrics, or runs without a seed that agree in every metric, as those of a program
that draws nothing at random do.

A seed is what a program calls `seed`, `random_state` or the like (`SEED_NAMES`, whatever ends in `_seed`), at any depth of
its config, if it is a whole number or null. Of our own trainers it is `seed` alone: split_seed draws other images.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.sources.run_record import RunRecord
from paretune.models.effective_configuration import plain, text_of

if TYPE_CHECKING:
    import pandas as pd

SEED_NAMES = {"seed", "random_state", "randomstate", "rng", "rng_state", "seed_everything", "seed_value"}
FOLD_NAMES = {"fold", "cv_fold", "fold_id", "fold_idx", "fold_index"}
OURS = {"seed": "seed", "fold": "fold"}
TIMES = ("seconds", "_runtime")  # differ between copies, too
OF_A_RUN = ("created", "epochs", "best_epoch")  # numbers of a runs table that are no metrics
RUNS, REPEATS = (
    "configuration.runs",
    "configuration.repeats",
)  # columns: ids of every run of a configuration, and of those that count


@dataclass(frozen=True)
class Configuration:
    """The runs of one configuration, the earliest first."""

    runs: tuple[str, ...]
    repeats: tuple[str, ...]  # those that count: without copies
    over: str = ""  # what tells repeats apart: seeds, folds, or runs, of which no seed is known; empty of a single one


def configurations_in(table: pd.DataFrame, runs: Sequence[RunRecord]) -> list[Configuration]:
    """Return the configurations of the rows of a runs table, in the order in which they first appear.

    A run without a config stands alone, and so does a run of ours that is itself a mean over repeats, its copies aside.
    """
    by_id = {run.run: run for run in runs}
    names = metrics_in(table)
    values = dict(zip(table["run"], table[names].to_numpy(dtype=np.float64), strict=True))
    compared = np.array([name not in TIMES for name in names], dtype=bool)
    created = dict(zip(table["run"], table["created"], strict=True)) if "created" in table else {}
    groups: dict[str, dict[str, str]] = {}  # configuration -> run -> what tells its repeats apart
    for run in table["run"]:
        same, place = _parted(by_id[run])
        groups.setdefault(same, {})[run] = place
    found = []
    for places in groups.values():
        ordered = sorted(places, key=lambda run: _last_if_unknown(created.get(run, math.nan)))
        repeats = _counted(ordered, places, {run: values[run][compared] for run in ordered})
        found.append(Configuration(tuple(ordered), tuple(repeats), _told_by([by_id[run] for run in repeats])))
    return found


def metrics_in(table: pd.DataFrame) -> list[str]:
    """Return the columns of a runs table that are metrics."""
    return [name for name in table.select_dtypes("number").columns if name not in OF_A_RUN]


def averaged(table: pd.DataFrame, runs: Sequence[RunRecord] = ()) -> pd.DataFrame:
    """Return a runs table with one row per configuration: its earliest run, with the means of its repeats.

    Adds the columns RUNS and REPEATS. A metric that a repeat lacks is NaN. Without `runs` each row stands for itself.
    """
    found = configurations_in(table, runs) if runs else [Configuration((run,), (run,)) for run in table["run"]]
    places = {run: place for place, run in enumerate(table["run"])}
    result = table.iloc[[places[one.runs[0]] for one in found]].copy()
    result[RUNS], result[REPEATS] = [one.runs for one in found], [one.repeats for one in found]
    several = [(row, one) for row, one in enumerate(found) if len(one.repeats) > 1]
    for name in metrics_in(table) if several else ():
        column, every = result[name].to_numpy(dtype=np.float64).copy(), table[name].to_numpy(dtype=np.float64)
        for row, one in several:
            column[row] = mean_of(every[[places[run] for run in one.repeats]])
        result[name] = column
    return result


def mean_of(values: np.ndarray) -> float:
    """Return the mean of values (n,), rounded so that equal means are equal numbers; NaN where one is not finite."""
    return float(plain(math.fsum(values) / len(values))) if np.isfinite(values).all() else math.nan


def _last_if_unknown(created: float) -> float:
    return math.inf if math.isnan(created) else created


def _parted(run: RunRecord) -> tuple[str, str]:
    """Return one text for a run's configuration, and one for what tells its repeats apart; the latter is empty if unknown."""
    config = run.effective_config
    if not config:
        return f"run {run.run}", ""
    told = {path: value for path, value in _leaves(config) if _repeated_over(path, value, run.ours)}
    same = text_of(_rest(config, told, ()))
    place = text_of({".".join(path): value for path, value in told.items()}) if _known(told) else ""
    return (f"{place} {same}", place) if n_repeats_of(run) > 1 else (same, place)


def n_repeats_of(run: RunRecord) -> int:
    """Return over how many seeds or folds a run of ours is a mean, by its config; of any other run 1."""
    count = run.stated.get("repeats", 1)
    return count if isinstance(count, int) else 1


def _known(told: Mapping[tuple[str, ...], Any]) -> bool:
    return any(value is not None for value in told.values())


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what stands at the end of nested mappings, by its path."""
    if not isinstance(value, Mapping):
        yield path, value
        return
    for name, item in value.items():
        yield from _leaves(item, (*path, str(name)))


def _rest(value: Mapping[str, Any], told: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return nested mappings without the leaves of `told`."""
    return {
        str(name): _rest(item, told, (*path, str(name))) if isinstance(item, Mapping) else item
        for name, item in value.items()
        if (*path, str(name)) not in told
    }


def _repeated_over(path: tuple[str, ...], value: Any, ours: bool) -> str:
    """Return `seed` or `fold` for a parameter that runs of one configuration may differ in; empty for any other."""
    if ours:
        return OURS.get(path[-1], "") if len(path) == 1 else ""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", path[-1] if path else "")
    name = re.split(r"[./]", re.sub(r"[\s-]+", "_", name).lower())[-1]
    if value is not None and (isinstance(value, bool) or not re.fullmatch(r"-?\d+(\.0)?", str(value))):
        return ""
    if name in FOLD_NAMES:
        return "fold"
    return "seed" if name in SEED_NAMES or name.endswith("_seed") else ""


def _counted(ordered: Sequence[str], places: Mapping[str, str], values: Mapping[str, np.ndarray]) -> list[str]:
    """Return the runs of a configuration that count: without copies."""
    found: list[str] = []
    unknown = [run for run in ordered if not places[run]]
    same = all(_equal(values[run], values[unknown[0]]) for run in unknown)
    for run in ordered:
        if places[run]:
            earlier = [one for one in found if places[one] == places[run]]
        else:
            earlier = [one for one in found if not places[one]] if same else []
        if not any(_equal(values[run], values[one]) for one in earlier):
            found.append(run)
    return found


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.array_equal(first, second, equal_nan=True))


def _told_by(repeats: Sequence[RunRecord]) -> str:
    """Return what tells repeats apart: folds, seeds, or runs where neither is known."""
    if len(repeats) == 1:
        return ""
    different: dict[str, set[str]] = {}
    for run in repeats:
        for path, value in _leaves(run.effective_config):
            kind = _repeated_over(path, value, run.ours)
            if kind and value is not None:
                different.setdefault(kind, set()).add(text_of([path, value]))
    return next((f"{kind}s" for kind in ("fold", "seed") if len(different.get(kind, ())) > 1), "runs")
