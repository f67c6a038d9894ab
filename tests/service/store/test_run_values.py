"""Values of configs and summaries as rows: what each is, where it lies, how many there are, and that long ones stay apart."""

from __future__ import annotations

import json
import math

import pytest

from paretune.service.store import run_values
from paretune.service.store.run_values import Kept, Named, Place, kept_of, named_by, rows_of, shortened


def test_every_kind_of_value_is_kept() -> None:
    values = {
        "a": 1,
        "b": {"c": "x", "d": {"e": True}},
        "n": None,
        "nan": float("nan"),
        "inf": -(10**400),
        "l": [1, 2.0],
        "none": [],
    }
    found, _ = rows_of(values)
    assert found == {
        "a": Kept("n", number=1.0),
        "b": Kept("m"),
        "b.c": Kept("t", text="x"),
        "b.d": Kept("m"),
        "b.d.e": Kept("b", text="true"),
        "n": Kept("z"),
        "nan": Kept("n"),
        "inf": Kept("n", number=-math.inf),
        "l": Kept("l", text="[1,2]", size=2),
        "none": Kept("l", text="[]", size=0),
    }


def test_elements_are_kept_by_their_path_and_their_places_in_lists() -> None:
    _, found = rows_of({"a": [{"b": [5, "x"]}, [7]]})
    assert {place: (kept.kind, kept.number or kept.text) for place, kept in found.items()} == {
        Place("a", ",1:0,", True): ("m", None),
        Place("a.b", ",1:0,", False): ("l", '[5,"x"]'),
        Place("a.b", ",1:0,2:0,", True): ("n", 5.0),
        Place("a.b", ",1:0,2:1,", True): ("t", "x"),
        Place("a", ",1:1,", True): ("l", "[7]"),
        Place("a.1", ",2:0,", True): ("n", 7.0),
    }


def test_a_number_in_a_path_is_a_key_or_a_place_in_a_list() -> None:
    assert named_by("a.b") == [Named("a.b")]
    assert named_by("a.0.b") == [Named("a.0.b"), Named("a.b", (",1:0,",))]
    assert named_by("a.0.b.12") == [
        Named("a.0.b.12"),
        Named("a.b.12", (",1:0,",)),
        Named("a.0.b", (",3:12,",), True),
        Named("a.b", (",1:0,", ",2:12,"), True),
    ]
    assert len(named_by("a" + ".1" * 50)) == 2**run_values.MOST_NUMBERS


@pytest.mark.parametrize("shape", [{"a": list(range(5000))}, {str(number): [number] for number in range(5000)}])
def test_there_are_so_many_at_most(shape: dict[str, list[int]]) -> None:
    found, elements = rows_of(shape)
    assert len(found) <= run_values.MOST_VALUES
    assert len(elements) == run_values.MOST_ELEMENTS


def test_what_lies_deep_is_left_out() -> None:
    deep = json.loads("[" * 400 + "1" + "]" * 400)
    mappings = json.loads('{"a":' * 400 + "1" + "}" * 400)
    found, elements = rows_of({"l": deep, "m": mappings, "both": [mappings]})
    assert len(found) < 100
    assert all(len(place.position) <= run_values.MOST_KEY for place in elements)


def test_long_texts_stay_apart() -> None:
    one, other = kept_of("t" * 600 + "a"), kept_of("t" * 600 + "b")
    assert one != other
    assert len(str(one.text)) == run_values.MOST_TEXT
    assert shortened("short", 10) == "short"
    assert kept_of([1] * 600) != kept_of([1] * 601)
