"""Filters and orderings of runs: what SQL finds is what the query language says, value by value."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.core.errors import UsageError
from paretune.service.store import runs
from paretune.service.store.accounts import Account
from paretune.service.store.filters import flat_values
from paretune.service.store.tables import Project, Run
from tests.service.serving import Asked

COMPARED = {"$gt": lambda a, b: a > b, "$gte": lambda a, b: a >= b, "$lt": lambda a, b: a < b, "$lte": lambda a, b: a <= b}
ABSENT = object()


def holds(values: dict[str, Any], filters: dict[str, Any]) -> bool:
    """Whether a run of these values by path matches, by the words of the language and not by SQL."""

    def one(path: str, operator: str, wanted: Any) -> bool:
        found = values.get(path.removesuffix(".value"), ABSENT)
        if operator == "$exists":
            return (found is not ABSENT) == bool(wanted)
        if operator == "$ne":
            return not one(path, "$eq", wanted)
        if operator == "$nin":
            return not one(path, "$in", wanted)
        if operator == "$in":
            return any(one(path, "$eq", value) for value in wanted)
        if operator == "$not":
            return not all(one(path, *item) for item in wanted.items())
        if path == "tags":
            return wanted in values["tags"]
        if wanted is None:
            return found is ABSENT
        if found is ABSENT:
            return False
        if operator == "$regex":
            return isinstance(found, str) and re.search(wanted, found) is not None
        if isinstance(found, bool) or isinstance(wanted, bool):
            found, wanted = (str(value).lower() if isinstance(value, bool) else value for value in (found, wanted))
        if isinstance(found, str) != isinstance(wanted, str):
            return False
        return found == wanted if operator == "$eq" else COMPARED[operator](found, wanted)

    parts = []
    for key, wanted in filters.items():
        if key == "$and":
            parts.append(all(holds(values, inner) for inner in wanted))
        elif key == "$or":
            parts.append(any(holds(values, inner) for inner in wanted))
        elif key == "$nor":
            parts.append(not any(holds(values, inner) for inner in wanted))
        elif key == "$not":
            parts.append(not holds(values, wanted))
        else:
            operators = wanted if isinstance(wanted, dict) else {"$eq": wanted}
            parts.append(all(one(key, *item) for item in operators.items()))
    return all(parts)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def known(asked: Asked) -> dict[str, dict[str, Any]]:
    """Sixty runs by name, with their values by path."""
    chance = random.Random(4)
    found: dict[str, dict[str, Any]] = {}
    for number in range(60):
        config = {"lr": chance.choice([0.1, 0.01, 1e-3]), "layers": chance.randint(1, 4), "kind": chance.choice(["ann", "svm"])}
        config |= {"nested": {"q": chance.randint(0, 2)}, "fast": chance.random() < 0.5} if chance.random() < 0.7 else {}
        summary = {"loss": round(chance.random(), 1)} if chance.random() < 0.8 else {"loss": float("nan")}
        tags = [tag for tag in ("a", "b", "a b") if chance.random() < 0.4]
        name, group = f"run{number:02}", chance.choice(["g1", "g2", None])
        wrapped = json.dumps({key: {"value": value} for key, value in config.items()})
        values = {"config": wrapped, "summaryMetrics": json.dumps(summary), "tags": tags, "displayName": f"the {number}"}
        asked.run(name, **values, **({"groupName": group} if group else {}))
        found[name] = {"name": name, "display_name": f"the {number}", "tags": tags, "state": "running"}
        found[name] |= {f"config.{key}": value for key, value in flat_plain(config).items()}
        found[name] |= {f"summary_metrics.{key}": value for key, value in summary.items() if value == value}
        found[name] |= {"group": group} if group else {}
    return found


def flat_plain(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat_plain(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


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
        operator = chance.choice(["$and", "$or", "$nor"])
        return {operator: [random_filter(chance, depth - 1) for _ in range(chance.randint(0, 3))]}
    if depth and chance.random() < 0.1:
        return {"$not": random_filter(chance, depth - 1)}
    path, values = chance.choice(
        [
            ("config.lr", [0.1, 0.01, 5, "0.1"]),
            ("config.layers.value", [1, 2, 3.0, 4]),
            ("config.kind", ["ann", "svm", "a", 3]),
            ("config.nested.q", [0, 1, 2]),
            ("config.fast", [True, False]),
            ("config.absent", [1, "x"]),
            ("summary_metrics.loss", [0.0, 0.3, 0.5, 0.9]),
            ("group", ["g1", "g2", "g"]),
            ("name", ["run01", "run30"]),
            ("display_name", ["the 5", "the 50"]),
            ("state", ["running", "finished"]),
            ("tags", ["a", "b", "a b", " "]),
        ]
    )
    operators = ["$eq", "$ne", "$in", "$nin"] + ([] if path == "tags" else ["$gt", "$gte", "$lt", "$lte", "$exists", "$regex"])
    operator = chance.choice(operators)
    value: Any = chance.choice(values)
    if operator in ("$in", "$nin"):
        value = [chance.choice(values) for _ in range(chance.randint(0, 3))]
    elif operator == "$exists":
        value = chance.random() < 0.5
    elif operator == "$regex":
        value = chance.choice(["^run0", "5", "n", "g[12]", "^s"])
    if operator == "$eq" and chance.random() < 0.5:
        return {path: value}
    return {path: {"$not": {operator: value}} if chance.random() < 0.1 else {operator: value}}


@pytest.mark.parametrize("seed", range(200))
def test_sql_finds_what_the_words_say(asked: Asked, known: dict[str, dict[str, Any]], seed: int) -> None:
    filters = random_filter(random.Random(seed))
    assert names(asked, filters) == [name for name, values in known.items() if holds(values, filters)], filters


@pytest.mark.parametrize("path", ["config.lr", "summary_metrics.loss", "config.kind.value", "display_name", "group"])
@pytest.mark.parametrize("sign", ["+", "-", ""])
def test_runs_are_ordered_and_those_without_the_value_come_last(
    asked: Asked, known: dict[str, dict[str, Any]], path: str, sign: str
) -> None:
    found = [known[name].get(path.removesuffix(".value"), ABSENT) for name in names(asked, {}, f"{sign}{path}")]
    present = [value for value in found if value is not ABSENT]
    assert found == present + [ABSENT] * (len(found) - len(present))
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
        ({"config.lr": {"$gt": [1]}}, "a filter compares with numbers and texts"),
        ({"tags": {"$gt": "a"}}, "tags are compared by"),
        ({"created_at": {"$gt": "yesterday"}}, "created_at must be a time"),
        ({"display_name": {"$regex": "*bad"}}, r"\$regex must be a regular expression"),
        ({"config.lr": {"$regex": r"(a)\1"}}, "without references to groups"),
        ({"tags": {"$regex": "a" * 1001}}, "at most 1,000 characters"),
        ("[" * 50_000, "filters must be JSON"),
        ({"$or": [{"state": "x"}] * 500}, "at most 400 paths and operators"),
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


def test_values_are_flat_numbers_and_texts() -> None:
    values = {"a": 1, "b": {"c": "x", "d": {"e": True}}, "n": None, "l": [1], "nan": float("nan"), "inf": -(10**400)}
    assert flat_values(values) == {"a": 1.0, "b.c": "x", "b.d.e": "true", "inf": float("-inf")}


def test_a_value_that_changes_is_found_by_its_new_one(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    for loss in (0.5, float("nan"), 0.1):
        asked.run("one", summaryMetrics=json.dumps({"loss": loss, "other": 1}))
    assert names(asked, {"summary_metrics.loss": {"$lt": 0.2}}) == ["one"]
    assert names(asked, {"summary_metrics.loss": 0.5}) == []
    asked.run("one", summaryMetrics=json.dumps({"loss": 0.1}))
    assert names(asked, {"summary_metrics.other": {"$exists": True}}) == []
    assert isinstance(Account(1, "a", "member", "", ("a",)).entity, str)
