"""Conditions on one value, as MongoDB's manual states them: kinds are told apart, and a list is looked into."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.postgres import needs_postgres, postgres
from tests.service.serving import Asked

NO_VALUE = object()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("service")
    with contextlib.ExitStack() as stack:
        asked = Asked(folder, None if request.param == "sqlite" else stack.enter_context(postgres(folder)))
        yield asked
        asked.searches.close()
        asked.database.close()


LONG = "t" * 600
LARGE = [0] * 20_000  # a list that is not compared as a whole
TABLE: list[tuple[Any, dict[str, Any], bool]] = [  # a value, what is asked of it, and whether it holds
    (True, {"$eq": True}, True),
    (True, {"$eq": "true"}, False),
    ("true", {"$eq": True}, False),
    (True, {"$eq": 1}, False),
    (1, {"$eq": True}, False),
    (False, {"$ne": True}, True),
    (False, {"$lt": True}, True),
    (5, {"$eq": "5"}, False),
    ("5", {"$eq": 5}, False),
    ("5", {"$gt": 4}, False),
    (5, {"$gt": "4"}, False),
    (5.0, {"$eq": 5}, True),
    (None, {"$eq": None}, True),
    (NO_VALUE, {"$eq": None}, True),
    (None, {"$exists": True}, True),
    (NO_VALUE, {"$exists": True}, False),
    (None, {"$eq": "null"}, False),
    (0, {"$eq": None}, False),
    (None, {"$gte": None}, True),
    (None, {"$gt": None}, False),
    (None, {"$ne": None}, False),
    (3, {"$in": [None, 3]}, True),
    (None, {"$in": [None, 3]}, True),
    (None, {"$nin": [3]}, True),
    (float("nan"), {"$exists": True}, True),
    (float("nan"), {"$lt": 5}, False),
    (float("nan"), {"$eq": None}, False),
    (float("nan"), {"$in": [float("nan"), 2]}, True),
    (3, {"$eq": float("nan")}, False),
    ([float("nan")], {"$elemMatch": {"$ne": 5}}, True),
    ([float("nan")], {"$elemMatch": {"$eq": float("nan")}}, True),
    (LARGE, {"$ne": [1]}, True),
    (LARGE, {"$size": 20_000, "$exists": True}, True),
    ([LARGE], {"$elemMatch": {"$nin": [[1], 2, "x", True, None]}}, True),
    ([[1], 2], {"$elemMatch": {"$in": [[1], "x"]}}, True),
    ([True], {"$elemMatch": {"$in": [1, "true"]}}, False),
    ([None, 1], {"$elemMatch": {"$in": [None]}}, True),
    ([1, 2], {"$exists": True}, True),
    ([], {"$exists": True}, True),
    ([], {"$eq": None}, False),
    ([1, 2], {"$eq": [1, 2]}, True),
    ([1, 2], {"$eq": [1.0, 2.0]}, True),
    ([1, 2], {"$eq": [2, 1]}, False),
    ([1, 2], {"$eq": "[1,2]"}, False),
    ("[1,2]", {"$eq": [1, 2]}, False),
    ([[1, 2], 3], {"$eq": [1, 2]}, True),
    ([1, 2], {"$eq": 2}, True),
    ([1, 2], {"$ne": 2}, False),
    ([1, "2"], {"$eq": 2}, False),
    ([1, None], {"$eq": None}, True),
    ([True], {"$eq": "true"}, False),
    ([1, 9], {"$gt": 5, "$lt": 3}, True),
    ([1, 9], {"$elemMatch": {"$gt": 5, "$lt": 3}}, False),
    ([1, 4], {"$elemMatch": {"$gt": 3, "$lt": 5}}, True),
    (4, {"$elemMatch": {"$gt": 3}}, False),
    (["a", 4], {"$elemMatch": {"$nin": ["a", 4]}}, False),
    ([1, 2], {"$in": [7, 2]}, True),
    ([1, 2], {"$in": [[1, 2]]}, True),
    ([1, 2, 3], {"$all": [3, 1]}, True),
    ([1, 2, 3], {"$all": [3, 4]}, False),
    (3, {"$all": [3]}, True),
    ([1], {"$all": []}, False),
    ([1, 2], {"$size": 2}, True),
    ([1, 2], {"$size": 1}, False),
    ([[1, 2]], {"$size": 2}, False),
    ("ab", {"$size": 2}, False),
    (["ann", 3], {"$regex": "^a"}, True),
    (["ann", 3], {"$contains": "nn"}, True),
    (True, {"$regex": "true"}, False),
    (LONG, {"$eq": LONG}, True),
    (LONG, {"$eq": LONG + "t"}, False),
    ({"q": 1}, {"$exists": True}, True),
    ({"q": 1}, {"$eq": None}, False),
    ([1, 2], {"$not": {"$gt": 1}}, False),
    ([1], {"$not": {"$gt": 1}}, True),
]


@pytest.fixture(scope="module")
def names(asked: Asked) -> list[str]:
    """A run for each row of the table, with its value in config and summary."""
    for number, (value, _, _) in enumerate(TABLE):
        values = {"other": 1} if value is NO_VALUE else {"v": value}
        wrapped = {key: {"value": one} for key, one in values.items()}
        asked.run(f"r{number}", config=json.dumps(wrapped), summaryMetrics=json.dumps(values))
    return [f"r{number}" for number in range(len(TABLE))]


def found(asked: Asked, filters: dict[str, Any]) -> list[str]:
    query = 'query Q($f: JSONString) { project(name: "tried") { runs(filters: $f, first: 1000) { edges { node { name } } } } }'
    edges = asked.ask(query, f=json.dumps(filters))["project"]["runs"]["edges"]
    return [edge["node"]["name"] for edge in edges]


@pytest.mark.parametrize("row", range(len(TABLE)))
@pytest.mark.parametrize("path", ["config.v", "config.v.value", "summary_metrics.v"])
def test_a_value_is_compared_as_the_manual_says(asked: Asked, names: list[str], path: str, row: int) -> None:
    value, wanted, holds = TABLE[row]
    assert found(asked, {"name": f"r{row}", path: wanted}) == ([f"r{row}"] if holds else []), (value, wanted)


@pytest.mark.parametrize(
    ("path", "wanted", "holds"),
    [
        ("config.layers.units", 5, True),
        ("config.layers.units", 6, False),
        ("config.layers.1.units", 7, True),
        ("config.layers.0.units", 7, False),
        ("config.layers.value.0.units", 5, True),
        ("config.layers.0", {"$exists": True}, True),
        ("config.layers.2", {"$exists": True}, False),
        ("config.layers.tags", "b", True),
        ("config.layers.tags.0", "b", False),
        ("config.layers.tags", {"$size": 2}, True),
        ("config.shape.1.0", 3, True),
        ("config.shape.1", 3, True),
        ("config.shape", 3, False),
        ("config.0.x", 1, True),
        ("config.deep.value.inner", "y", True),
        ("config.deep.inner.value", "y", True),
    ],
)
def test_a_path_leads_through_lists(asked: Asked, path: str, wanted: Any, holds: bool) -> None:
    layers = [{"units": 5, "tags": ["a", "b"]}, {"units": 7, "tags": []}]
    config = {"layers": layers, "shape": [[1, 2], [3]], "0": {"x": 1}, "deep": {"inner": "y"}}
    asked.run("lists", config=json.dumps({key: {"value": value} for key, value in config.items()}))
    assert found(asked, {"name": "lists", path: wanted}) == (["lists"] if holds else [])


def test_lists_that_change_are_found_by_what_they_are_now(asked: Asked) -> None:
    for value, elements in (([1, 2], (1, 2)), ([2, 3, 4], (2, 3, 4)), (5, (5,)), ([], ()), ([9], (9,))):
        asked.run("changing", summaryMetrics=json.dumps({"changing": value}))
        holding = [number for number in range(10) if found(asked, {"summary_metrics.changing": number}) == ["changing"]]
        assert holding == list(elements)


def test_fields_are_of_one_kind(asked: Asked) -> None:
    asked.run("fields", groupName="5", notes="true")
    for wanted, holds in (({"group": 5}, False), ({"group": "5"}, True), ({"notes": True}, False), ({"notes": "true"}, True)):
        assert found(asked, {"name": "fields", **wanted}) == (["fields"] if holds else [])
    assert found(asked, {"name": "fields", "jobType": None, "job_type": {"$exists": False}}) == ["fields"]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"config.v": {"$size": "2"}}, "$size must have a whole number"),
        ({"config.v": {"$size": True}}, "$size must have a whole number"),
        ({"config.v": {"$elemMatch": 3}}, "$elemMatch must have a mapping of"),
        ({"config.v": {"$elemMatch": {"$eq": {"q": 1}}}}, "name a mapping's values by their paths"),
        ({"config.v": {"$elemMatch": {"q": 1}}}, "$elemMatch must have a mapping of"),
        ({"config.v": {"$all": 3}}, "$all must have a list"),
        ({"config.v": {"$contains": 3}}, "$contains must have a text"),
        ({"config.v": {"q": 1}}, "name a mapping's values by their paths"),
        ({"tags": {"$elemMatch": {"$eq": "a"}}}, "tags are compared by"),
    ],
)
def test_what_an_operator_cannot_have_is_named(asked: Asked, wanted: dict[str, Any], sentence: str) -> None:
    query = 'query Q($f: JSONString) { project(name: "tried") { runCount(filters: $f) } }'
    assert sentence in asked.told(query, f=json.dumps(wanted))["errors"][0]["message"]


TEXTS = [str(number) for number in range(9_000)]


@pytest.mark.parametrize(
    ("wanted", "is_answered"),
    [
        ({"config.v": {"$all": TEXTS[:120]}}, True),
        ({"config.v": {"$all": TEXTS[:1_200]}}, False),
        ({"tags": {"$all": TEXTS[:2_000]}}, False),
        ({"name": {"$all": TEXTS[:2_000]}}, False),
        ({"$and": [{"config.v": {"$all": TEXTS[:100]}}] * 9}, False),
        ({"$or": [{"config.v": {"$not": {"$all": TEXTS[:150]}}}]}, True),
        ({"config.v": {"$elemMatch": {"$in": TEXTS}}}, True),
        ({"config.v": {"$elemMatch": {"$nin": list(range(9_000))}}}, True),
        ({"config.v": {"$in": TEXTS}}, True),
        ({"name": {"$nin": TEXTS}}, True),
        ({"config.v.0.1.2": {"$in": TEXTS}}, False),
        ({"$and": [{"config.v.0.1.2": {"$in": TEXTS[:900]}}] * 9}, False),
        ({"config.v.0.1.2": {"$in": TEXTS[:1_000]}}, True),
        ({"$or": [{"tags": {"$in": TEXTS[:200]}}] * 9}, True),
        ({"$or": [{"tags": {"$in": TEXTS[:20]}}, {"tags": {"$size": 1}}] * 60}, True),
        ({"$or": [{"config.v.0.1.2": {"$ne": 3}}] * 45}, False),
        ({"$or": [{"config.v.0.1.2": {"$gt": 3}}] * 30}, True),
        ({"$or": [{"config.v": None, "notes": None}] * 50}, True),
        ({"config.v." + "9" * 5_000: 1}, True),
        ({"config.v.²": 1, "config.v.-1": 1}, True),
    ],
)
def test_a_large_filter_is_answered_or_its_bounds_are_named(asked: Asked, wanted: dict[str, Any], is_answered: bool) -> None:
    asked.run("bounded")
    answer = asked.told('query Q($f: JSONString) { project(name: "tried") { runCount(filters: $f) } }', f=json.dumps(wanted))
    assert ("errors" not in answer) == is_answered, answer
    assert is_answered or "at most 400 paths, operators and values of $all, and 10,000 values" in answer["errors"][0]["message"]
