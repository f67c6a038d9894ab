"""The Pareto front against its definition, against Optuna, and against the function of the source document."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.analysis.findings.front import front_of, hypervolume, pareto_front, volumes_of
from tests.analysis.tables import runs_of, scored

GOALS = ("maximize", "minimize")


@st.composite
def points(draw: st.DrawFn, least: int = 1) -> tuple[np.ndarray, list[str]]:
    """Points of few distinct values, so that ties and duplicates are common, and a goal for each metric."""
    n_metrics = draw(st.integers(least, 4))
    rows = draw(st.lists(st.lists(st.integers(-2, 3), min_size=n_metrics, max_size=n_metrics), max_size=25))
    goals = draw(st.lists(st.sampled_from(GOALS), min_size=n_metrics, max_size=n_metrics))
    scale = draw(st.sampled_from([1.0, 0.1, 1e-9, 1e9]))
    return np.array(rows, dtype=np.float64).reshape(len(rows), n_metrics) * scale, goals


def by_definition(values: np.ndarray, goals: list[str]) -> list[bool]:
    """A point is on the front unless another is at least as good in every metric and better in one."""
    costs = values * [1.0 if goal == "minimize" else -1.0 for goal in goals]
    return [not any((other <= point).all() and (other < point).any() for other in costs) for point in costs]


def of_the_document(fitness: np.ndarray) -> np.ndarray:
    """The function that the source document prints (to maximize)."""
    is_efficient = np.ones(fitness.shape[0], dtype=bool)
    for i, c in enumerate(fitness):
        if is_efficient[i]:
            is_efficient[is_efficient] = np.any(fitness[is_efficient] > c, axis=1)
            is_efficient[i] = True
    return is_efficient


@given(points())
def test_the_front_is_that_of_the_definition_with_ties_and_duplicates(drawn: tuple[np.ndarray, list[str]]) -> None:
    values, goals = drawn
    front = pareto_front(values, goals)
    assert front.dtype == bool
    assert front.tolist() == by_definition(values, goals)


@given(points(), st.randoms(use_true_random=False))
def test_the_front_does_not_depend_on_the_order_of_the_points(drawn: tuple[np.ndarray, list[str]], random: Any) -> None:
    values, goals = drawn
    order = list(range(len(values)))
    random.shuffle(order)
    assert pareto_front(values[order], goals).tolist() == pareto_front(values, goals)[order].tolist()


@given(points(least=2))
def test_the_front_holds_every_point_that_the_document_keeps_and_the_duplicates_that_it_drops(
    drawn: tuple[np.ndarray, list[str]],
) -> None:
    values, _ = drawn
    goals = ["maximize"] * values.shape[1]
    ours, theirs = pareto_front(values, goals), of_the_document(values)
    assert (ours | ~theirs).all()
    kept = {tuple(point) for point in values[theirs]}
    assert {tuple(point) for point in values[ours]} == kept
    assert theirs.sum() == len(kept)


def test_duplicates_of_a_front_point_stay_on_the_front_together() -> None:
    values = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [1.0, 1.0]])
    assert pareto_front(values, ["maximize", "maximize"]).tolist() == [True, True, True, False]
    assert of_the_document(values).tolist() == [True, True, False, False]


@pytest.mark.parametrize("goals", list(itertools.product(GOALS, repeat=3)), ids="-".join)
def test_the_front_is_optunas(goals: tuple[str, ...]) -> None:
    values = np.random.default_rng(1).integers(0, 5, (40, 3)).astype(float)
    study = optuna.create_study(directions=list(goals))
    study.add_trials([optuna.create_trial(values=list(point)) for point in values])
    best = {trial.number for trial in study.best_trials}
    assert set(np.flatnonzero(pareto_front(values, goals))) == best
    assert 0 < len(best) < 40


def test_of_one_metric_the_best_values_are_the_front() -> None:
    values = np.array([[0.5], [0.9], [0.9], [0.1]])
    assert pareto_front(values, ["maximize"]).tolist() == [False, True, True, False]
    assert pareto_front(values, ["minimize"]).tolist() == [False, False, False, True]


@pytest.mark.parametrize("n_metrics", [1, 2, 3])
def test_no_points_have_an_empty_front(n_metrics: int) -> None:
    assert pareto_front(np.zeros((0, n_metrics)), ["maximize"] * n_metrics).tolist() == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        pareto_front(np.array([[1.0, 2.0], [value, 1.0]]), ["maximize", "maximize"])


def test_values_without_a_goal_for_each_metric_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(n_points, 1\). Got \(2, 2\)"):
        pareto_front(np.ones((2, 2)), ["maximize"])


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), ()])
def test_values_that_are_no_table_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"values must be \(n_points, 1\)"):
        pareto_front(np.ones(shape), ["maximize"])


# -- hypervolume


@pytest.mark.parametrize(
    ("goals", "values", "reference"),
    [
        # widths 3, 2, 1 at heights 1, 2, 3: 3 + 2 + 1
        (["maximize", "maximize"], [[3, 1], [2, 2], [1, 3], [1, 1]], [0, 0]),
        (["minimize", "minimize"], [[-3, -1], [-2, -2], [-1, -3], [-1, -1]], [0, 0]),
        (["maximize", "minimize"], [[3, 9], [2, 8], [1, 7], [1, 9]], [0, 10]),
    ],
)
def test_the_hypervolume_is_the_area_under_the_staircase(
    goals: list[str], values: list[list[float]], reference: list[float]
) -> None:
    assert hypervolume(np.array(values, dtype=float), goals, reference) == pytest.approx(6.0)


def test_no_points_have_no_hypervolume_and_points_beyond_the_reference_add_none() -> None:
    goals = ["maximize", "maximize"]
    assert hypervolume(np.zeros((0, 2)), goals, [0, 0]) == 0.0
    assert hypervolume(np.array([[2.0, 2.0], [5.0, -1.0]]), goals, [0, 0]) == pytest.approx(4.0)


@given(points(), st.data())
def test_the_hypervolume_is_that_of_counted_cells(drawn: tuple[np.ndarray, list[str]], data: st.DataObject) -> None:
    values, goals = drawn
    values = np.round(
        values / (np.abs(values).max(initial=0.0) or 1.0) * 3
    )  # whole numbers from -3 to 3: space falls into unit cells
    corner = data.draw(st.lists(st.integers(-3, 3), min_size=len(goals), max_size=len(goals)))
    signs = np.array([1.0 if goal == "minimize" else -1.0 for goal in goals])
    cells = np.array(list(itertools.product(np.arange(-3.5, 4.0), repeat=len(goals))))  # the middles
    inside = np.zeros(len(cells), dtype=bool)
    for point in values:
        inside |= ((cells * signs > point * signs) & (cells * signs < np.array(corner) * signs)).all(axis=1)
    assert hypervolume(values, goals, [float(value) for value in corner]) == pytest.approx(float(inside.sum()))


@pytest.mark.parametrize("goals", list(itertools.product(GOALS, repeat=3)), ids="-".join)
def test_the_hypervolume_is_optunas(goals: tuple[str, ...]) -> None:
    from optuna._hypervolume import compute_hypervolume

    values = np.random.default_rng(2).normal(size=(40, 3))
    signs = np.array([1.0 if goal == "minimize" else -1.0 for goal in goals])
    theirs = compute_hypervolume(values * signs, np.full(3, 5.0))
    assert hypervolume(values, goals, (5.0 * signs).tolist()) == pytest.approx(theirs)


def test_volumes_grow_in_the_order_of_creation_and_begin_at_the_worst_values() -> None:
    table = runs_of(scored(3, 3, created=9.0), scored(1, 4, created=5.0), scored(2, 1, created=7.0))
    metrics, goals = ["precision", "recall"], ["maximize", "maximize"]
    volumes, reference = volumes_of(table, metrics, goals)
    assert (volumes.tolist(), reference) == ([0.0, 0.0, 4.0], [1.0, 1.0])
    volumes, reference = volumes_of(table, metrics, goals, [0.0, 0.0])  # 1 x 4; and 1 x 1 beside it; and 3 x 3 joined
    assert (volumes.tolist(), reference) == ([4.0, 5.0, 10.0], [0.0, 0.0])


def test_the_front_of_a_table_is_of_its_candidates_by_the_goals_that_the_names_tell() -> None:
    rows = [
        scored(0.9, 0.1, seconds=5.0),
        scored(0.5, 0.5, seconds=1.0),
        scored(0.4, 0.4, seconds=2.0),
        scored(1, 1, state="failed"),
    ]
    table = runs_of(*rows)
    found, left_out = front_of(table)
    assert dict(zip(found["run"], found["on_front"], strict=True)) == {"a": True, "b": True, "c": False}
    assert left_out == {"failed": 1}
    assert front_of(table[:3], ["seconds"])[0]["on_front"].tolist() == [False, True, False], "less is better"
    assert front_of(table[:3], ["seconds"], ["maximize"])[0]["on_front"].tolist() == [True, False, False]


def test_volumes_do_not_depend_on_the_order_of_the_rows_where_runs_began_together() -> None:
    table = runs_of(scored(1, 2, created=1.0), scored(2, 1, created=1.0), scored(2, 2, created=0.0))
    metrics, goals = ["precision", "recall"], ["maximize", "maximize"]
    assert volumes_of(table, metrics, goals, [0.0, 0.0])[0].tolist() == [4.0, 4.0, 4.0]
    assert volumes_of(table[:2], metrics, goals, [0.0, 0.0])[0].tolist() == [2.0, 3.0]
