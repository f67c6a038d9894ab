"""JSON at the bounds of 64 bits, texts that no database holds, and whole numbers in digits that `int` reads."""

from __future__ import annotations

import json
import math

import pytest

from paretune.service.store.safe_json import LONGEST, bounded, is_whole, read


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("0", True),
        ("007", True),
        ("9" * LONGEST, True),
        ("9" * (LONGEST + 1), False),
        ("", False),
        ("-1", False),
        ("1.0", False),
        (" 1", False),
        ("²", False),
        ("٣", False),
    ],
)
def test_a_whole_number_is_of_the_digits_0_to_9(text: str, whole: bool) -> None:
    assert is_whole(text) is whole


def test_the_number_of_digits_is_what_the_caller_says() -> None:
    assert is_whole("123", 3)
    assert not is_whole("1234", 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        (str(10**18), 10**18),
        (str(10**308), 10**308),
        (str(10**309), math.inf),
        (str(-(10**309)), -math.inf),
        ("1e999", math.inf),
        ('{"a": ' + "9" * 400 + ', "b": 2}', {"a": math.inf, "b": 2}),
        ('"' + "9" * 400 + '"', "9" * 400),
    ],
)
def test_a_number_beyond_floats_is_infinite(text: str, value: object) -> None:
    assert read(text) == value
    assert json.loads(bounded(text)) == value


def test_a_text_that_needs_no_change_stays_as_it_is() -> None:
    assert bounded('{"a" :1 }') == '{"a" :1 }'


@pytest.mark.parametrize("text", ["{", "[1,]", "", "9" * 400 + "x"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Extra data|Illegal"):
        read(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'{"a\u0000b": 1}', {"a\ufffdb": 1}),
        (r'["\ud800"]', ["\ufffd"]),
        (r'["\udc00\ud800"]', ["\ufffd\ufffd"]),
        (r'["\ud83d\ude00"]', ["\U0001f600"]),
        ('["\U0001f600 \u00f1"]', ["\U0001f600 \u00f1"]),
        ('["\ud800"]', ["\ufffd"]),
        (r'{"a": {"b": ["\u0000", {"\udfff": null}]}}', {"a": {"b": ["\ufffd", {"\ufffd": None}]}}),
        (r'["\\u0000"]', [r"\u0000"]),
    ],
)
def test_texts_have_no_nul_and_no_half_of_a_pair(text: str, value: object) -> None:
    assert read(text) == value
    assert json.loads(bounded(text)) == value
    json.dumps(read(text), ensure_ascii=False).encode()
