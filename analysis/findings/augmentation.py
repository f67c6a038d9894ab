"""Compares the runs of a sweep with and without augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.findings.aims import candidates_by
from paretune.analysis.findings.confidence import mean_interval, range_of
from paretune.analysis.sources.run_record import RunRecord
from paretune.core.errors import UsageError
from paretune.models.registry import model_class

if TYPE_CHECKING:
    import pandas as pd

SETTINGS = ("translate", "scale", "rotate", "flip", "crop")


def compare_augmentation(runs: Sequence[RunRecord], metric: str = "f1", goal: str | None = None) -> pd.DataFrame:
    """Compare the finished runs with and without augmentation.

    Args:
        goal: of the metric; by default as its sweep or its name says.

    Returns:
        a row for augment False and one for True, where there are runs: augment, runs, best, median, mean, low and high (the
        t interval of the mean, cut at the ends of the metric's range; NaN of a single run) of `metric`, and gap (the median train
        accuracy minus that of the hold-out; NaN where not logged).

    Raises:
        UsageError: if the runs do not say whether they augmented, or cannot be compared by `metric`.
    """
    import pandas as pd

    table, goal = candidates_by(runs, metric, goal)
    augmented = {run.run: run.config.get("augment") for run in runs}
    table = table.assign(augment=[augmented[run] for run in table["run"]])
    table = table[table["augment"].isin([True, False])]
    if table.empty:
        raise UsageError("no finished run says whether it augmented its training images: give a sweep of the ann.")
    lines: list[dict[str, Any]] = []
    for augment, part in table.groupby(table["augment"].astype(bool)):
        values = part[metric].to_numpy(dtype=np.float64)
        low, high = mean_interval(values, range_of(metric, table[metric], ours=table["classifier"].astype(bool).all()))
        gaps = part["train_accuracy"] - part["test_accuracy"] if {"train_accuracy", "test_accuracy"} <= set(part) else pd.Series()
        lines.append(
            {
                "augment": bool(augment),
                "runs": len(part),
                "best": values.max() if goal == "maximize" else values.min(),
                "median": np.median(values),
                "mean": values.mean(),
                "low": low,
                "high": high,
                "gap": gaps.median(),
            }
        )
    return pd.DataFrame(lines)


def in_words(table: pd.DataFrame, metric: str) -> str:
    """Say what the comparison shows, and that it is not a controlled one."""
    if len(table) < 2:
        count = table["runs"].iloc[0]
        if count == 1:
            text = _("There is one finished run alone, and thus nothing to compare it with.")
        elif table["augment"].iloc[0]:
            text = _("All {count} finished runs were trained with augmentation: there is nothing to compare them with.")
        else:
            text = _("All {count} finished runs were trained without augmentation: there is nothing to compare them with.")
        return text.format(count=count)
    without, augmented = table.iloc[0], table.iloc[1]
    if np.isfinite([without["gap"], augmented["gap"]]).all():
        text = _(
            "The median {metric} was {augmented:.4f} over {n_augmented} runs with augmentation and {without:.4f} over {n_without} "
            "runs without; the train accuracy less that of the hold-out was {gap_augmented:.1f} and {gap_without:.1f} points "
            "(median), where the train accuracy is measured on the changed images."
        )
    else:
        text = _(
            "The median {metric} was {augmented:.4f} over {n_augmented} runs with augmentation and {without:.4f} over {n_without} "
            "runs without."
        )
    shown = text.format(
        metric=metric,
        augmented=augmented["median"],
        n_augmented=augmented["runs"],
        without=without["median"],
        n_without=without["runs"],
        gap_augmented=100 * augmented["gap"],
        gap_without=100 * without["gap"],
    )
    caution = _(
        "This is not a controlled comparison: the runs differ in their other hyper-parameters too, and it was the search that "
        "chose how many of each kind there are."
    )
    return f"{shown} {caution}"


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the augmentation of a run's config, with the trainer's defaults where it says nothing."""
    fields = model_class("ann").Config.model_fields
    return {name: config.get(name, fields[name].default) for name in SETTINGS}
