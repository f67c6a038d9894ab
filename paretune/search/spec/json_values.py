"""Checks that the values of a sweep are JSON, in which W&B's client sends it, and that a program can be given them."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from typing import Any

from paretune.search.spec.yaml_lines import LARGEST_OF_64_BITS

NAMES = {datetime.datetime: "a time", datetime.date: "a date", bytes: "binary data", set: "a set"}


def value_fault(value: Any) -> str:
    """Return why a value of a sweep cannot be kept or handed over, and what to write; empty where it can.

    Lists and mappings are looked through; YAML makes dates, times, sets and binary data of some texts, and W&B's client fails on
    them.
    """
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not (key is None or isinstance(key, bool | int | float | str)):
                return f"{NAMES.get(type(key), type(key).__name__)} as a key: put it in quotes"
            fault = value_fault(key) or value_fault(item)
            if fault:
                return fault
        return ""
    if isinstance(value, list | tuple):
        return next(filter(None, map(value_fault, value)), "")
    if isinstance(value, str):
        if "\0" in value:
            return "a text with a zero byte, which no program can be given: leave it out"
        return "half of a surrogate pair, which is no text: leave it out" if any("\ud800" <= c <= "\udfff" for c in value) else ""
    if isinstance(value, int):
        return "" if abs(value) <= LARGEST_OF_64_BITS else "a whole number beyond 64 bits: write a text in quotes"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value}, which JSON does not hold: write a text in quotes"
    name = NAMES.get(type(value), type(value).__name__)
    shown = f" ({value})" if isinstance(value, datetime.date) else ""
    return f"{name}{shown}, which JSON does not hold: write {'a list' if isinstance(value, set) else 'a text in quotes'}"


def as_json(value: Any) -> Any:
    """Return a value as W&B's client sends it: keys are texts, a tuple is a list."""
    return json.loads(json.dumps(value))
