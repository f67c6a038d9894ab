"""Filters and orderings of runs: what SQL finds is what the query language says, value by value."""

from __future__ import annotations

import contextlib
import json
import operator
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.core.errors import UsageError
from paretune.service.store import runs
from paretune.service.store.accounts import Account
from paretune.service.store.tables import Project, Run
from tests.postgres import needs_postgres, postgres
from tests.service.serving import Asked

COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
ABSENT = object()


def reached(value: Any, parts: Sequence[str]) -> Iterator[Any]:
    """Yield what a path leads to in a document, as MongoDB walks through mappings and lists."""
    if not parts:
        yield value
    elif isinstance(value, dict):
        if parts[0] in value:
            yield from reached(value[parts[0]], parts[1:])
    elif isinstance(value, list):
        if parts[0].isdecimal() and int(parts[0]) < len(value):
            yield from reached(value[int(parts[0])], parts[1:])
        for item in value:
            if isinstance(item, dict):
                yield from reached(item, parts)


def kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def meets(value: Any, name: str, wanted: Any) -> bool:
    """Whether one value meets an operator, lists not looked into."""
    if name in ("$ne", "$nin"):
        return not meets(value, "$eq" if name == "$ne" else "$in", wanted)
    if name == "$in":
        return any(meets(value, "$eq", one) for one in wanted)
    if name == "$regex":
        return isinstance(value, str) and re.search(wanted, value) is not None
    if name == "$contains":
        return isinstance(value, str) and wanted in value
    if kind(value) != kind(wanted):
        return False
    if isinstance(value, list):
        return len(value) == len(wanted) and all(meets(*pair) for pair in zip(value, ["$eq"] * len(value), wanted, strict=True))
    return value == wanted if name == "$eq" else wanted is not None and COMPARED[name](value, wanted)


def holds(document: dict[str, Any], filters: dict[str, Any]) -> bool:
    """Whether a document matches, by the words of MongoDB's manual and not by SQL."""

    def one(path: str, name: str, wanted: Any) -> bool:
        values = list(reached(document, path.removesuffix(".value").split(".")))
        candidates = [*values, *(element for value in values if isinstance(value, list) for element in value)]
        if name == "$exists":
            return bool(values) == bool(wanted)
        if name in ("$ne", "$nin"):
            return not one(path, "$eq" if name == "$ne" else "$in", wanted)
        if name == "$in":
            return any(one(path, "$eq", value) for value in wanted)
        if name == "$all":
            return bool(wanted) and all(one(path, "$eq", value) for value in wanted)
        if name == "$size":
            return any(isinstance(value, list) and len(value) == wanted for value in values)
        if name == "$elemMatch":
            lists = [value for value in values if isinstance(value, list)]
            return any(all(meets(element, *item) for item in wanted.items()) for value in lists for element in value)
        if name == "$not":
            return not all(one(path, *item) for item in wanted.items())
        if wanted is None:
            return name in ("$eq", "$gte", "$lte") and (None in candidates or not values)
        return any(meets(value, name, wanted) for value in candidates)

    parts = []
    for key, wanted in filters.items():
        if key == "$and":
            parts.append(all(holds(document, inner) for inner in wanted))
        elif key == "$or":
            parts.append(any(holds(document, inner) for inner in wanted))
        elif key == "$nor":
            parts.append(not any(holds(document, inner) for inner in wanted))
        elif key == "$not":
            parts.append(not holds(document, wanted))
        else:
            operators = wanted if isinstance(wanted, dict) else {"$eq": wanted}
            parts.append(all(one(key, *item) for item in operators.items()))
    return all(parts)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("service")
    with contextlib.ExitStack() as stack:
        asked = Asked(folder, None if request.param == "sqlite" else stack.enter_context(postgres(folder)))
        yield asked
        asked.searches.close()
        asked.database.close()


VALUES = [0.1, 0.01, 3, 3.0, "ann", "3", "true", "null", "", True, False, None, [], [1, 2], [2, 1], [1, "a", None], ["ann", True]]
VALUES += [[1.0, 2.0], [[1, 2]], ["true"], {"q": 1}, [{"q": 1}, {"q": [2, 3]}], [{"q": "x"}]]


@pytest.fixture(scope="module")
def known(asked: Asked) -> dict[str, dict[str, Any]]:
    """Sixty runs by name, as documents."""
    chance = random.Random(4)
    found: dict[str, dict[str, Any]] = {}
    for number in range(60):
        config = {"lr": chance.choice([0.1, 0.01, 1e-3]), "layers": chance.randint(1, 4), "kind": chance.choice(["ann", "svm"])}
        config |= {"nested": {"q": chance.randint(0, 2)}, "fast": chance.random() < 0.5} if chance.random() < 0.7 else {}
        config |= {"any": chance.choice(VALUES)} if chance.random() < 0.9 else {}
        summary = {"loss": round(chance.random(), 1) if chance.random() < 0.8 else float("nan"), "any": chance.choice(VALUES)}
        tags = [tag for tag in ("a", "b", "a b", 'q"\\') if chance.random() < 0.4]
        name, group = f"run{number:02}", chance.choice(["g1", "g2", None])
        wrapped = json.dumps({key: {"value": value} for key, value in config.items()})
        values = {"config": wrapped, "summaryMetrics": json.dumps(summary), "tags": tags, "displayName": f"the {number}"}
        asked.run(name, **values, **({"groupName": group} if group else {}))
        found[name] = {"name": name, "display_name": f"the {number}", "state": "running", "config": config}
        found[name] |= {"summary_metrics": summary} | ({"tags": tags} if tags else {}) | ({"group": group} if group else {})
    return found


def value_of(document: dict[str, Any], path: str) -> Any:
    """Return the value of a path by which documents are ordered; ABSENT where there is none."""
    return next(reached(document, path.removesuffix(".value").split(".")), ABSENT)


def names(asked: Asked, filters: Any, order: str | None = None) -> list[str]:
    with asked.database.session() as session:
        project = session.scalar(sa.select(Project))
        assert project is not None
        text = filters if isinstance(filters, str) else json.dumps(filters)
        found = runs.found_runs(session, project, filters=text, order=order, first=1000)
        assert runs.count_runs(session, project, text) == len(found)
        return [run.name for run in found]


def random_filter(chance: random.Random, depth: int = 3) -> dict[str, Any]:
    if depth and chance.random() < 0.4:
        name = chance.choice(["$and", "$or", "$nor"])
        return {name: [random_filter(chance, depth - 1) for _ in range(chance.randint(0, 3))]}
    if depth and chance.random() < 0.1:
        return {"$not": random_filter(chance, depth - 1)}
    plain: list[Any] = [value for value in VALUES if not isinstance(value, dict) and "{" not in json.dumps(value)]
    path, values = chance.choice(
        [
            ("config.lr", [0.1, 0.01, 5, "0.1"]),
            ("config.layers.value", [1, 2, 3.0, 4]),
            ("config.kind", ["ann", "svm", "a", 3]),
            ("config.nested.q", [0, 1, 2]),
            ("config.nested", [None, 1]),
            ("config.fast", [True, False, "true"]),
            ("config.absent", [1, "x", None]),
            ("summary_metrics.loss", [0.0, 0.3, 0.5, 0.9]),
            ("group", ["g1", "g2", "g", None, 1]),
            ("name", ["run01", "run30"]),
            ("display_name", ["the 5", "the 50"]),
            ("state", ["running", "finished"]),
            ("tags", ["a", "b", "a b", " ", 'q"\\']),
            *[(f"{head}.any", plain) for head in ("config", "summary_metrics")] * 3,
            ("config.any.0", [1, 2, "a", "ann"]),
            ("summary_metrics.any.q", [1, 2, "x", [2, 3]]),
            ("summary_metrics.any.1.q.0", [2, 3]),
        ]
    )
    operators = ["$eq", "$ne", "$in", "$nin", "$all", "$size", "$regex", "$exists", "$contains"]
    operators += [] if path == "tags" else ["$gt", "$gte", "$lt", "$lte", "$elemMatch"]
    name = chance.choice(operators)
    value: Any = chance.choice(values)
    if name in ("$in", "$nin", "$all"):
        value = [chance.choice(values) for _ in range(chance.randint(0, 3))]
    elif name == "$size":
        value = chance.randint(path == "tags", 3)  # of no tags nothing is said
    elif name == "$exists":
        value = chance.random() < 0.5
    elif name in ("$regex", "$contains"):
        value = chance.choice(["^run0", "5", "n", "g[12]", "^s"] if name == "$regex" else ["run0", "5", "n", ""])
        path = chance.choice(["config.any", "config.kind", "group", "name"])
    elif name == "$elemMatch":
        ordered = [one for one in values if isinstance(one, str | int | float)]
        value = {chance.choice(["$gte", "$ne", "$eq"]): chance.choice(ordered or [1]), "$lte": chance.choice(ordered or [1])}
    elif name in COMPARED:
        value = chance.choice([one for one in values if not isinstance(one, list)] or [1])
    if name == "$eq" and chance.random() < 0.5:
        return {path: value}
    return {path: {"$not": {name: value}} if chance.random() < 0.1 else {name: value}}


@pytest.mark.parametrize("seed", range(200))
def test_sql_finds_what_the_words_say(asked: Asked, known: dict[str, dict[str, Any]], seed: int) -> None:
    filters = random_filter(random.Random(seed))
    assert names(asked, filters) == [name for name, values in known.items() if holds(values, filters)], filters


@pytest.mark.parametrize("path", ["config.lr", "summary_metrics.loss", "config.kind.value", "display_name", "group"])
@pytest.mark.parametrize("sign", ["+", "-", ""])
def test_runs_are_ordered_and_those_without_the_value_come_last(
    asked: Asked, known: dict[str, dict[str, Any]], path: str, sign: str
) -> None:
    found = [value_of(known[name], path) for name in names(asked, {}, f"{sign}{path}")]
    present = [value for value in found if value is not ABSENT and value == value]
    assert found[: len(present)] == present
    assert present == sorted(present, reverse=sign == "-")


def test_times_are_compared_in_any_zone(asked: Asked, known: dict[str, dict[str, Any]]) -> None:
    with asked.database.session(writing=True) as session:
        from datetime import datetime

        session.execute(sa.update(Run).where(Run.name == "run07").values(created_at=datetime(2020, 1, 1, 12)))
    for moment in ("2020-01-01T12:00:30Z", "2020-01-01T13:00:30+01:00", 1577880030):
        assert names(asked, {"created_at": {"$lt": moment}}) == ["run07"]
    assert names(asked, {}, "+created_at")[0] == "run07"
    assert names(asked, {"username": "someone", "createdAt": {"$lt": "2020-06-01"}}) == ["run07"]


@pytest.mark.parametrize(
    "moment", ["2020-01-01T14:00:00+02:00", "2020-01-01T05:30:00-06:30", "2020-01-01T12:00:00Z", "2020-01-01T12:00:00"]
)
def test_a_time_is_the_same_moment_in_every_zone(asked: Asked, known: dict[str, dict[str, Any]], moment: str) -> None:
    from datetime import datetime

    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).where(Run.name == "run07").values(created_at=datetime(2020, 1, 1, 12)))
    assert names(asked, {"created_at": moment}) == ["run07"]
    assert names(asked, {"created_at": {"$in": [moment, "2019-01-01"]}}) == ["run07"]
    assert names(asked, {"created_at": {"$lte": moment}}) == ["run07"]
    assert names(asked, {"created_at": {"$lt": moment}}) == []
    assert "run07" in names(asked, {"created_at": {"$gte": moment}})
    assert "run07" not in names(asked, {"created_at": {"$gt": moment}})


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        ("{", "filters must be JSON"),
        ([1], "a filter must be a mapping"),
        ({"colour": 1}, "runs have no field 'colour'"),
        ({"displayname": "x"}, "did you mean 'display_name'"),
        ({"aaa.lr": 1}, "runs have no field 'aaa.lr'"),
        ({"zzz.lr": 1}, "runs have no field 'zzz.lr'"),
        ({"config": 1}, "runs have no field 'config'"),
        ({"summary": 1}, "runs have no field 'summary'"),
        ({"$xor": []}, r"\$xor is not an operator between filters"),
        ({"config.lr": {"$gtt": 1}}, r"\$gtt is not an operator of filters; did you mean '\$gt'"),
        ({"$and": {"state": "x"}}, r"\$and must have a list"),
        ({"config.lr": {"$in": 3}}, r"\$in must have a list"),
        ({"config.lr": {"$gt": [1]}}, "a filter compares with numbers, texts and booleans"),
        ({"tags": {"$gt": "a"}}, "tags are compared by"),
        ({"created_at": {"$gt": "yesterday"}}, "created_at must be a time"),
        ({"display_name": {"$regex": "*bad"}}, r"\$regex must be a regular expression"),
        ({"config.lr": {"$regex": r"(a)\1"}}, "without references to groups"),
        ({"tags": {"$regex": "a" * 1001}}, "at most 1,000 characters"),
        ("[" * 50_000, "filters must be JSON"),
        ({"$or": [{"state": "x"}] * 500}, "at most 400 paths, operators and values of "),
        ({"name": {"$in": ["x"] * 10_001}}, "10,000 values"),
        ({"tags": {"$in": ["x"] * 201}}, "at most 200 texts"),
    ],
)
def test_what_is_no_filter_is_named(asked: Asked, known: dict[str, Any], filters: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        names(asked, filters)


def test_long_lists_are_looked_through(asked: Asked, known: dict[str, Any]) -> None:
    others = [f"x{number}" for number in range(5000)]
    assert names(asked, {"name": {"$in": ["run07", None, *others]}}) == ["run07"]
    assert names(asked, {"config.lr": {"$in": [10**400, *others, *range(2, 4000)]}}) == []


def test_no_expression_takes_long(asked: Asked, known: dict[str, Any]) -> None:
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).where(Run.name == "run07").values(display_name="a" * 60 + "!"))
    assert names(asked, {"display_name": {"$regex": "^(a+)+$"}}) == []
    assert names(asked, {"display_name": {"$regex": "^(a+)+!$"}}) == ["run07"]


def test_tags_are_told_by_their_case(asked: Asked, known: dict[str, Any]) -> None:
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).where(Run.name == "run07").values(tags='["Chosen"]'))
    assert names(asked, {"tags": "chosen"}) == []
    assert names(asked, {"tags": "Chosen"}) == ["run07"]


def test_filters_that_are_too_deep_are_refused(asked: Asked, known: dict[str, Any]) -> None:
    deep: dict[str, Any] = {"state": "running"}
    for _ in range(50):
        deep = {"$and": [deep]}
    with pytest.raises(UsageError, match="at most 20 deep"):
        names(asked, deep)


def test_an_order_by_nothing_known_is_refused(asked: Asked, known: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="runs have no field 'lr'"):
        names(asked, {}, "-lr")


def test_a_value_that_changes_is_found_by_its_new_one(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    for loss in (0.5, float("nan"), 0.1):
        asked.run("one", summaryMetrics=json.dumps({"loss": loss, "other": 1}))
    assert names(asked, {"summary_metrics.loss": {"$lt": 0.2}}) == ["one"]
    assert names(asked, {"summary_metrics.loss": 0.5}) == []
    asked.run("one", summaryMetrics=json.dumps({"loss": 0.1}))
    assert names(asked, {"summary_metrics.other": {"$exists": True}}) == []
    assert isinstance(Account(1, "a", "member", "", ("a",)).entity, str)
