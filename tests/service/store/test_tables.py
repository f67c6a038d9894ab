"""Identifiers, texts that no database holds, and times, as they are kept."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from sqlalchemy.dialects import sqlite

from paretune.service.store.tables import Words, as_json, global_id, names_of, now, number_of


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_an_identifier_is_wandbs_and_gives_its_names_back() -> None:
    identifier = global_id("Run", "r1", "tried", "someone")
    assert identifier == coded("Run:v1:r1:tried:someone")
    assert names_of(identifier, "Run") == ["r1", "tried", "someone"]
    assert names_of(identifier, "Sweep") is None


@pytest.mark.parametrize("identifier", ["", "%", "nonsense", coded("Run"), coded("Run:v2:a"), "/w==", "Ü"])
def test_what_is_no_identifier_has_no_names(identifier: str) -> None:
    assert names_of(identifier, "Run") is None
    assert number_of(identifier, "Run") is None


@pytest.mark.parametrize(
    ("name", "number"),
    [("7", 7), ("007", 7), ("999999999", 999_999_999), ("1000000000", None), ("-1", None), ("x", None)],
)
def test_the_number_of_a_row_has_at_most_nine_digits(name: str, number: int | None) -> None:
    assert number_of(global_id("Agent", name), "Agent") == number


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (None, None),
        ("a b", "a b"),
        ("ä€😀", "ä€😀"),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "😀"),
        ("", ""),
    ],
)
def test_what_no_database_holds_is_replaced(text: str | None, kept: str | None) -> None:
    assert Words(9).process_bind_param(text, sqlite.dialect()) == kept


def test_the_time_is_in_utc_without_a_zone() -> None:
    moment = now()
    assert moment.tzinfo is None
    assert abs((datetime.now(UTC).replace(tzinfo=None) - moment).total_seconds()) < 5


def test_json_is_short_and_holds_what_the_client_writes() -> None:
    assert as_json({"a": [1, float("nan"), float("-inf")], "b": "ü"}) == '{"a":[1,NaN,-Infinity],"b":"\\u00fc"}'
