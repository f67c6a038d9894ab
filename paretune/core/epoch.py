"""The result of one training epoch: its number, its metrics, and whether it was the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

METRICS = (
    *("train_loss", "train_accuracy", "train_precision", "train_recall", "train_f1"),
    *("test_loss", "test_accuracy", "precision", "recall", "f1"),  # on the evaluation split
    *("seconds", "n_parameters"),
)


@dataclass(frozen=True)
class Epoch:
    """One row of the history table.

    `number` counts from 1; `metrics` maps the metric names of the README to floats; `last` is true where training
    ends with this epoch by itself.
    """

    number: int
    metrics: Mapping[str, float]
    last: bool = False
