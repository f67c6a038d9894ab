"""Selects the runs that may be on a front or be chosen: finished and comparable ones."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.sources.run_record import column_of
from paretune.core.errors import UsageError, names_there

if TYPE_CHECKING:
    import pandas as pd

NO_METRICS = ("created", "epochs", "best_epoch")
MOST_NAMES = 10


def candidates(runs: pd.DataFrame, metrics: Sequence[str], option: str = "--metrics") -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the runs that may be on a front, and how many others there are by reason.

    Runs that were stopped early, failed or still run are no candidates, nor are those that break a constraint of their
    sweep, diverged or are without a finite value; the reason names these.

    Args:
        option: the flag by which a person names the metrics, for a message.

    Raises:
        UsageError: if the metric is unknown, no run is left, or runs were scored on the locked part or on a mix of parts.
    """
    known = numeric_metrics(runs)
    left_out = {str(state): int(count) for state, count in runs["state"].value_counts().items() if state != "finished"}
    rest = runs[runs["state"] == "finished"]
    if rest.empty:
        counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "there is no run at all"
        raise UsageError(f"no run has finished yet ({counts}): run the sweep further first.")
    for metric in metrics:
        if metric not in known:
            raise unknown_metric(metric, known, option)
    if "feasible" in rest:
        broken = rest[~rest["feasible"].astype(bool)]
        broken = broken if "broken" in broken else broken.assign(broken="")
        for constraint, group in broken.groupby("broken", sort=False):
            reason = _("breaking a constraint of the sweep ({constraint}): {names}")
            if "; " in constraint:
                reason = _("breaking constraints of the sweep ({constraint}): {names}")
            if not constraint:
                reason = _("breaking a constraint of the sweep: {names}")
            left_out[reason.format(constraint=constraint, names=_first(list(group["name"])))] = len(group)
        rest = rest[rest["feasible"].astype(bool)]
    if "diverged" in rest:
        lost = rest[rest["diverged"].astype(bool)]
        if len(lost):
            left_out[_("whose loss is not finite: {names}").format(names=_first(list(lost["name"])))] = len(lost)
        rest = rest[~rest["diverged"].astype(bool)]
    finite = np.isfinite(rest[list(metrics)].to_numpy(dtype=np.float64)).all(axis=1)
    left_out |= _reasons(rest[~finite], metrics)
    rest = rest[finite]
    if rest.empty:
        counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no run at all"
        raise UsageError(
            f"no finished run has {' and '.join(metrics)} ({counts}): choose by another metric, or run the sweep further."
        )
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


def unknown_metric(metric: str, known: Sequence[str], option: str = "", of: str = "no run has the metric") -> UsageError:
    """Return the error of a metric that no run has, which names those that there are, the nearest first.

    Args:
        option: the flag by which a person names metrics.
    """
    if not known:
        return UsageError(f"{of} {metric!r}; no run has logged any.")
    there = names_there(metric, known)
    if column_of(metric) in known:  # named like a column of another meaning
        there = f"; did you mean {column_of(metric)!r}?"
    if option and "?" not in there:
        there = f"{there.removesuffix('.')}: name those to weigh, as in {option} {shlex.quote(known[0])}."
    return UsageError(f"{of} {metric!r}{there}")


def numeric_metrics(runs: pd.DataFrame) -> list[str]:
    """Return the columns of a runs table by which runs can be compared."""
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
        parts = [_("without a finite {metrics}").format(metrics=missing)] * bool(missing)
        parts += [_("with infinite {metrics}").format(metrics=infinite)] * bool(infinite)
        names.setdefault(_(" and ").join(parts), []).append(str(run["name"] or run["run"]))
    return {f"{reason}: {_first(found)}": len(found) for reason, found in names.items()}


def _first(names: Sequence[str]) -> str:
    more = _(" and {count} more").format(count=len(names) - MOST_NAMES) if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
