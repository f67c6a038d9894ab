"""One rule picks the best epoch, for the tracker, the search and the analysis."""

from __future__ import annotations

from typing import Any

import pytest

from paretune.core.best_epoch import best_row, goal_of, known_goal
from paretune.core.epoch import METRICS

NAN, INFINITE = float("nan"), float("inf")


def rows(*values: dict[str, float]) -> list[dict[str, float]]:
    return [{"epoch": number, **row} for number, row in enumerate(values, start=1)]


def test_every_metric_has_its_goal() -> None:
    lower = {"train_loss", "test_loss", "seconds", "n_parameters"}
    assert {metric for metric in METRICS if goal_of(metric) == "minimize"} == lower
    assert all(known_goal(metric) == goal_of(metric) for metric in METRICS)


@pytest.mark.parametrize(
    ("metric", "goal"),
    [
        ("val_acc", "maximize"),
        ("val/loss", "minimize"),
        ("logloss", "minimize"),
        ("valid.ROC-AUC", "maximize"),
        ("top1 error", "minimize"),
        ("f1_std", None),
        ("cost", None),
        ("", None),
    ],
)
def test_other_peoples_metrics_tell_their_goal_by_the_last_word(metric: str, goal: str | None) -> None:
    assert known_goal(metric) == goal
    assert goal_of(metric) == (goal or "maximize")


@pytest.mark.parametrize(
    ("values", "metric", "goal", "epoch"),
    [
        ([{"f1": 0.1}, {"f1": 0.9}, {"f1": 0.5}], "f1", None, 2),
        ([{"test_loss": 3.0}, {"test_loss": 1.0}, {"test_loss": 2.0}], "test_loss", None, 2),
        ([{"f1": 0.1}, {"f1": 0.9}], "f1", "minimize", 1),
        ([{"f1": 0.9}, {"f1": 0.9}], "f1", None, 1),  # of equals the earliest
        ([{"f1": 0.9, "test_loss": 2.0}, {"f1": 0.9, "test_loss": 1.0}], "f1", None, 2),  # and before that the lower loss
        ([{"f1": 0.9}, {"f1": 0.9, "test_loss": 1.0}], "f1", None, 2),
        ([{"f1": 0.9, "test_loss": NAN}, {"f1": 0.9, "test_loss": 9.0}], "f1", None, 2),
        ([{"f1": NAN}, {"f1": 0.2}, {"f1": INFINITE}], "f1", None, 2),
        ([{"accuracy": 1.0}, {"f1": 0.2}], "f1", None, 2),
    ],
)
def test_the_best_row_is_found(values: list[dict[str, float]], metric: str, goal: Any, epoch: int) -> None:
    found = best_row(rows(*values), metric, goal)
    assert found is not None
    assert found["epoch"] == epoch


@pytest.mark.parametrize("values", [[], [{"f1": NAN}], [{"accuracy": 0.5}]])
def test_without_a_finite_value_there_is_no_best(values: list[dict[str, float]]) -> None:
    assert best_row(rows(*values), "f1") is None
