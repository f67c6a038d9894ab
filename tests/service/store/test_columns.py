"""Rows as columns of a Parquet file, and back exactly as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from paretune.service.store import columns
from paretune.service.store.safe_json import fitted
from tests.service.store.histories import exact, rows

SIMPLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=4),
)
VALUES = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2))
KINDS = [st.integers(-(2**70), 2**70), st.integers(-5, 5) | st.floats(), st.floats(), st.booleans(), st.text(max_size=3), VALUES]


@st.composite
def logged_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = st.sampled_from(["a", "a.b", "a.b.c", "x/y", "_step", "line", "ü"]) | st.text(
        st.characters(exclude_categories=()), max_size=3
    )
    kinds = draw(st.dictionaries(names, st.sampled_from(KINDS), max_size=5))
    row = st.fixed_dictionaries({}, optional=kinds)
    full = st.fixed_dictionaries(kinds)
    return draw(st.lists(draw(st.sampled_from([row, full])), min_size=1, max_size=8))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([{}, {"": 1}])
@example([{}, {}])
@example([{"a": None}, {}])
@example([{"a": 2**53 + 1}, {"a": 0.5}])
@example([{"a": 1}, {"a": True}, {"a": -0.0}])
@given(logged_rows())
def test_any_rows_come_back_as_they_were(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    logged, lines = fitted(logged), [json.dumps(row) for row in logged]  # an older version kept some that were not
    path = tmp_path / "history.parquet"
    path.write_bytes(columns.write(columns.table_of(lines)))
    assert exact(columns.rows_of(columns.read(path))) == exact(logged)
    part = columns.read(path, start=1, stop=3)
    assert exact(columns.rows_of(part, range(1, 1 + part.num_rows))) == exact(logged[1:3])
    assert exact(columns.rows_of(columns.read(path).take([0, len(lines) - 1]), [0, len(lines) - 1])) == exact(
        [logged[0], logged[-1]]
    )


def test_columns_are_typed_where_their_values_are_of_a_kind() -> None:
    logged = [
        {"_step": 0, "i": 1, "f": 1, "b": True, "s": "t", "m": 1, "n": None, "l": [1], "big": 2**64},
        {"_step": 1, "i": 2, "f": 0.5, "b": False, "s": "", "m": "1", "n": 1, "l": [], "big": 1},
    ]
    table = columns.table_of([json.dumps(row) for row in logged])
    kinds = {field.name: (str(field.type), b"paretune.form" in (field.metadata or {})) for field in table.schema}
    typed = {"_step": "int64", "i": "int64", "f": "double", "b": "bool", "s": "string"}
    assert kinds == {name: (kind, False) for name, kind in typed.items()} | dict.fromkeys(("m", "n", "l", "big"), ("string", True))


@pytest.mark.parametrize("group", [1, 3, 100])
def test_only_the_groups_that_hold_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    monkeypatch.setattr(columns, "GROUP", group)
    logged = [{"_step": 2 * step, "x": step if step % 3 else step / 4, **({"y": "t"} if step % 2 else {})} for step in range(10)]
    path = tmp_path / "history.parquet"
    path.write_bytes(columns.write(columns.table_of([json.dumps(row) for row in logged])))
    for start in range(11):
        for stop in (None, *range(start, 12)):
            part = columns.read(path, start=start, stop=stop)
            assert exact(columns.rows_of(part, range(start, start + part.num_rows))) == exact(logged[start:stop])
    assert columns.places_between(path, 3, 9) == range(2, 5)
    assert columns.places_between(path, 4, 4) == columns.places_between(path, 19, 99) == range(0)


def test_only_wanted_columns_are_read(tmp_path: Path) -> None:
    logged = [{"_step": 0, "a": 1, "a.b": 2, "c": {"d": 3}, "e": 4}]
    path = tmp_path / "history.parquet"
    path.write_bytes(columns.write(columns.table_of([json.dumps(row) for row in logged])))
    assert columns.rows_of(columns.read(path, ["a"])) == [{"a": 1}]
    assert columns.rows_of(columns.read(path, ["c.d", "_step"])) == [{"_step": 0, "c": {"d": 3}}]
    assert columns.rows_of(columns.read(path, ["none"])) == [{}]


@pytest.mark.parametrize(
    ("logged", "is_plain"),
    [
        (rows(3), True),
        (rows(1, text="t", flag=True), True),
        ([{"_step": 0, "x": 1}, {"_step": 1, "x": 0.5}], True),
        ([{"_step": 0, "x": float("nan")}], True),
        (rows(3, nested={"a": 1}), False),
        (rows(3, none=None), False),
        ([{"_step": 0, "x": 1}, {"_step": 1}], False),
        ([{"_step": 1, "x": 1}, {"_step": 1, "x": 2}], False),
        ([{"x": 1}], False),
    ],
)
def test_a_file_is_plain_where_the_client_reads_from_it_what_was_logged(logged: list[dict[str, Any]], is_plain: bool) -> None:
    assert columns.is_plain(columns.table_of([json.dumps(row) for row in logged])) is is_plain


def test_rows_of_very_many_keys_stay_lines() -> None:
    logged = [{"_step": number, f"key{number}": number} for number in range(columns.MOST_COLUMNS + 1)]
    table = columns.table_of([json.dumps(row) for row in logged])
    assert table.num_columns == 1
    assert exact(columns.rows_of(table)) == exact(logged)
