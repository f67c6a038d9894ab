"""The front and its hypervolume, on points whose areas are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.core.pareto_front import hypervolumes, non_dominated, reference_point, signed

GOALS = ["maximize", "minimize"]
POINTS = np.array([[1.0, 3.0], [2.0, 3.0], [3.0, 5.0], [2.0, 3.0], [2.0, 4.0]])


def test_maximised_objectives_change_their_sign() -> None:
    assert signed(np.array([[1.0, 2.0]]), GOALS).tolist() == [[-1.0, 2.0]]


def test_equal_points_keep_each_other_on_the_front() -> None:
    assert non_dominated(POINTS, GOALS).tolist() == [False, True, True, True, False]
    assert non_dominated(np.empty((0, 2)), GOALS).tolist() == []


def test_the_hypervolume_grows_only_with_points_that_nobody_dominates() -> None:
    # from (0, 6): 1 * 3; then 2 * 3; the third adds 1 * 1; the others lie inside
    assert hypervolumes(POINTS, GOALS, [0.0, 6.0]).tolist() == [3.0, 6.0, 7.0, 7.0, 7.0]


def test_the_reference_is_the_worst_of_each() -> None:
    assert reference_point(POINTS, GOALS) == [1.0, 5.0]


points = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=12)


@given(points)
def test_a_hypervolume_never_shrinks_and_ends_at_that_of_the_front(drawn: list[tuple[int, ...]]) -> None:
    import moocore

    values, goals = np.array(drawn, dtype=float), ["minimize"] * 3
    volumes = hypervolumes(values, goals, [7.0] * 3)
    assert (np.diff(volumes) >= 0).all()
    assert volumes[-1] == pytest.approx(float(moocore.hypervolume(values, ref=[7.0] * 3)))


@given(points)
def test_the_front_is_what_nobody_dominates(drawn: list[tuple[int, ...]]) -> None:
    values = np.array(drawn, dtype=float)
    wanted = [not any((other <= point).all() and (other < point).any() for other in values) for point in values]
    assert non_dominated(values, ["minimize"] * 3).tolist() == wanted
