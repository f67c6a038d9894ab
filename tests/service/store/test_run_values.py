"""Values of configs and summaries as rows: what each is, where it lies, how many there are, and that long ones stay apart."""

from __future__ import annotations

import json
import math
from typing import Any

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


def nested(value: Any, times: int, key: str | None = None) -> Any:
    for _ in range(times):
        value = [value if key is None else {key: value}]
    return value


@pytest.mark.parametrize(
    "values",
    [
        {"a": nested([0] * 20_000, 47)},
        {"a": nested([[0] * 5] * 4_000, 46)},
        {"a": nested(["t" * 200_000], 47)},
        {"a": nested([{"t" * 200_000: 1}], 47)},
        {"a": nested([0] * 20_000, 40, "b")},
        {"k" * 100_000: dict.fromkeys("abcdefghijklmnopqrstuvwxyz" * 10, 1) | dict.fromkeys(map(str, range(200)))},
        {"a": [{"k" * 100_000: {str(number): 0 for number in range(200)}}]},
    ],
    ids=["deep", "deep and many", "text", "key of a mapping", "mappings", "path", "path in a list"],
)
def test_what_lies_in_lists_is_written_a_few_times_at_most(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    original = shortened
    monkeypatch.setattr(run_values, "shortened", lambda text, most: written.append(len(text)) or original(text, most))
    rows_of(values)
    assert sum(written) < 1_000_000


def test_a_list_is_compared_as_a_whole_up_to_a_size() -> None:
    lists = [[0] * 9_000, [0] * 20_000, [[0] * 9 for _ in range(2_000)], ["x" * 15] * 9_000, ["x" * 400_000]]
    found, _ = rows_of({str(number): one for number, one in enumerate(lists)})
    assert [found[str(number)].text is not None for number in range(5)] == [True, False, False, True, False]
    assert found["0"] == kept_of(lists[0])
    assert found["1"] == Kept("l", size=20_000)


def test_a_small_list_is_compared_beside_a_large_one() -> None:
    found, _ = rows_of({**{str(number): [0] * 20_000 for number in range(50)}, "small": [1, 2]})
    assert found["small"] == kept_of([1, 2])


def test_of_histograms_and_media_no_more_is_kept_than_that_they_are_there() -> None:
    def logged(value: float) -> dict[str, Any]:
        histogram = {"_type": "histogram", "values": [value] * 64, "bins": {"edges": [value] * 65}}
        return {"h": histogram, "deep": {"h": histogram}}

    found, elements = rows_of(logged(0.5))
    assert (found, elements) == rows_of(logged(0.7))
    assert found["h._type"] == found["deep.h._type"] == Kept("t", text="histogram")
    assert found["h.values"] == Kept("l", size=64)
    assert found["deep.h.bins.edges"] == Kept("l", size=65)
    assert elements == {}
    _, elements = rows_of({"images": [{"_type": "image-file", "path": "a.png", "boxes": [[1], [2]]}]})
    assert elements == {
        Place("images", ",1:0,", True): Kept("m"),
        Place("images._type", ",1:0,", False): Kept("t", text="image-file"),
        Place("images.path", ",1:0,", False): Kept("t", text="a.png"),
        Place("images.boxes", ",1:0,", False): Kept("l", size=2),
    }


def test_a_config_may_have_a_value_that_is_called_type() -> None:
    _, elements = rows_of({"_type": "transformer", "layers": [64, 32]})
    assert [one.number for one in elements.values()] == [64, 32]


@pytest.mark.parametrize("part", ["9" * 5000, "²", "٣", "1e3", "-1", "1234567890"])
def test_what_is_no_place_in_a_list_is_a_key(part: str) -> None:
    assert named_by(f"a.{part}") == [Named(shortened(f"a.{part}", run_values.MOST_KEY))]
