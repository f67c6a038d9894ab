"""The one order: by score, then what is weighed, then test_loss, then n_parameters, then age; what is missing comes last."""

from __future__ import annotations

import math

import pytest

from paretune.core.run_order import order_key, tie_breakers

AIMS = {"precision": "maximize", "seconds": "minimize"}
RUN = {"precision": 0.9, "seconds": 5.0, "test_loss": 0.2, "n_parameters": 10, "created": 7.0}


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [
        ("precision", 0.95, 0.8),
        ("seconds", 4.0, 6.0),
        ("test_loss", 0.1, 0.3),
        ("n_parameters", 9, 11),
        ("created", 6.0, 8.0),
    ],
)
@pytest.mark.parametrize("absent", [None, math.nan, "text"])
def test_each_metric_tells_equals_apart_by_its_goal(name: str, better: float, worse: float, absent: object) -> None:
    middle = order_key(1.0, RUN, AIMS)
    assert order_key(1.0, {**RUN, name: better}, AIMS) < middle < order_key(1.0, {**RUN, name: worse}, AIMS)
    assert order_key(1.0, {**RUN, name: worse}, AIMS) < order_key(1.0, {**RUN, name: absent}, AIMS)
    assert order_key(0.5, {**RUN, name: absent}, AIMS) < middle


def test_a_run_without_a_score_is_last() -> None:
    assert order_key(1e9, {}, {}) < order_key(math.nan, RUN, AIMS)


def test_what_is_weighed_keeps_its_own_goal_and_stands_before_the_rest() -> None:
    breakers = tie_breakers({"recall": "maximize", "test_loss": "maximize"})
    assert list(breakers.items()) == [
        ("recall", "maximize"),
        ("test_loss", "maximize"),
        ("precision", "maximize"),
        ("n_parameters", "minimize"),
    ]
