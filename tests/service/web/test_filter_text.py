"""What a person types over the table of runs, as the filter that it stands for."""

from __future__ import annotations

from typing import Any

import pytest

from paretune.core.errors import UsageError
from paretune.service.web.filter_text import MOST_TERMS, filter_of, is_literal, quoted, values_asked


def words(tag: str, expression: str) -> dict[str, Any]:
    """Return the condition of words: in the name, in the identifier, or a tag."""
    return {"$or": [{"display_name": {"$regex": expression}}, {"name": {"$regex": expression}}, {"tags": {"$eq": tag}}]}


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("state = finished", [{"state": {"$eq": "finished"}}]),
        ("state != crashed", [{"state": {"$ne": "crashed"}}]),
        ("config.lr==0.5", [{"config.lr": {"$eq": 0.5}}]),
        ("config.lr>=1e-3 AND summary.loss < .5", [{"config.lr": {"$gte": 0.001}}, {"summary.loss": {"$lt": 0.5}}]),
        ("config.lr<=2 and config.lr>1", [{"config.lr": {"$lte": 2.0}}, {"config.lr": {"$gt": 1.0}}]),
        ("config.fast = True and config.slow = false", [{"config.fast": {"$eq": True}}, {"config.slow": {"$eq": False}}]),
        ("config.x = none and config.y = NULL", [{"config.x": {"$eq": None}}, {"config.y": {"$eq": None}}]),
        ("config.x = 'none' and config.y = \"3\"", [{"config.x": {"$eq": "none"}}, {"config.y": {"$eq": "3"}}]),
        ("config.x = 'it''s'", [{"config.x": {"$eq": "it's"}}]),
        ('config.x = "a and b"', [{"config.x": {"$eq": "a and b"}}]),
        ("name ~ r.1", [{"display_name": {"$regex": r"(?i)r\.1"}}]),
        ("config.kind ~ sv", [{"config.kind": {"$regex": "(?i)sv"}}]),
        ("id = 007", [{"name": {"$eq": "007"}}]),
        ("runtime > 60", [{"summary._runtime": {"$gt": 60.0}}]),
        ("sand", [words("sand", "(?i)sand")]),
        ("sand box", [words("sand box", r"(?i)sand\ box")]),
        ("'a = b'", [words("a = b", r"(?i)a\ =\ b")]),
        ('"a and b > c"', [words("a and b > c", r"(?i)a\ and\ b\ >\ c")]),
    ],
)
def test_a_text_stands_for_conditions_that_all_hold(text: str, conditions: list[dict[str, Any]]) -> None:
    assert filter_of(text) == {"$and": conditions}


@pytest.mark.parametrize("moment", ["2020-01-01T14:00:00+02:00", "2020-01-01T05:30:00-06:30", "2020-01-01"])
def test_a_time_keeps_its_offset(moment: str) -> None:
    assert filter_of(f"created < {moment}") == {"$and": [{"created_at": {"$lt": moment}}]}


def test_nothing_is_no_condition() -> None:
    assert filter_of("") == filter_of("  ") == {}


@pytest.mark.parametrize("text", ["a", "a b", 'a "b" c', "it's", '"', "", "x = 1 and y"])
def test_a_quoted_text_is_read_as_it_is(text: str) -> None:
    assert filter_of(f"config.x = {quoted(text)}") == {"$and": [{"config.x": {"$eq": text}}]}


def test_the_values_that_a_filter_compares_are_told_by_their_paths() -> None:
    text = "config.lr > 1 and config.lr <= 3 and summary_metrics.loss = 2 and config.a.value < 5"
    text += " and config.x = none and state = running"
    assert values_asked(text) == [("config.lr", [1.0]), ("config.lr", [3.0]), ("summary.loss", []), ("config.a", [5.0])]
    assert values_asked("") == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("config.lr >", "'config.lr >' is not a condition: write for example config.lr > 0.01, joined by and."),
        ("'a' = ", "\"'a' =\" is not a condition"),
        ("lr > 3", "runs have no field 'lr': write config.lr or summary.lr for a value of theirs."),
        ("stat = running", "runs have no field 'stat'; did you mean 'state'?"),
        ("config. = 3", "runs have no field 'config.'"),
        ("state = runing", "runs have no state 'runing'; did you mean 'running'?"),
        ("config.x = 'a", 'the quote in "config.x = \'a" is not closed: a quote within quotes is written twice.'),
        (" and ".join(["a"] * (MOST_TERMS + 1)), f"a filter may have at most {MOST_TERMS} conditions. Got {MOST_TERMS + 1}."),
    ],
)
def test_a_text_that_is_not_understood_is_refused_with_the_part_that_is_not(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        filter_of(text)
    assert str(refusal.value).startswith(sentence)


def test_as_many_conditions_as_are_allowed_are_read() -> None:
    assert len(filter_of(" and ".join(["a"] * MOST_TERMS))["$and"]) == MOST_TERMS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ('"true"', "true"),
        ("[1,2]", [1, 2]),
        ('["a"]', ["a"]),
        ("[1", "[1"),
        ("5", 5.0),
        ('"5"', "5"),
        ("none", None),
    ],
)
def test_a_value_is_of_the_kind_that_it_is_written_as(text: str, value: object) -> None:
    (term,) = filter_of(f"config.x = {text}")["$and"]
    found = term["config.x"]["$eq"]
    assert (found, type(found)) == (value, type(value))
    assert is_literal(text) == isinstance(value, bool | list)
