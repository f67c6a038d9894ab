"""Texts and numbers that a database cannot hold are normalised where they arrive."""

from __future__ import annotations

import json
import math

import pytest

from paretune.service.store import safe_json


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
    assert safe_json.read(text) == value
    assert json.loads(safe_json.bounded(text)) == value
    json.dumps(safe_json.read(text), ensure_ascii=False).encode()


def test_numbers_beyond_64_bits_are_infinite() -> None:
    assert safe_json.read("[1" + "0" * 400 + "]") == [math.inf]


def test_an_ordinary_line_stays_as_it_is() -> None:
    assert safe_json.bounded('{"loss":  0.5}') == '{"loss":  0.5}'
