"""Parsed sweep definitions, each parsed once."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import yaml

from paretune.core.errors import UsageError
from paretune.search.spec import yaml_lines
from paretune.search.spec.sweep import Sweep as Definition
from paretune.search.spec.sweep import read_sweep
from paretune.service.store.safe_json import fit, fitted
from paretune.service.store.tables import Sweep

MOST_CHARACTERS = 1_000_000
MARKS = (",", ":", "\n", "[", "{", "- ", "? ")  # YAML has at most one value more than it has of these
MOST_MARKS = 20_000  # a sweep of 1,000 values has about as many; PyYAML reads 10,000 a second
SHORT = 5_000  # characters of a definition that takes at most 0.2 MB once it is read; the longest takes 3
N_SHORT, N_LONG = 256, 16  # definitions that are remembered


def definition_of(sweep: Sweep) -> Definition:
    """Return what a sweep's text says; it was checked when it came."""
    return read_definition(sweep.definition, sweep.name)


def check_size(text: str) -> None:
    """Refuse a definition from a client that would take long to read.

    Raises:
        UsageError: that says what is too much.
    """
    if len(text) > MOST_CHARACTERS:
        raise UsageError(f"a sweep may have at most {MOST_CHARACTERS:,} characters. Got {len(text):,}.")
    marks = sum(map(text.count, MARKS))
    if marks > MOST_MARKS:
        raise UsageError(
            f"a sweep may have at most about {MOST_MARKS:,} lines, keys and values. Got {marks:,}: "
            "write a range of numbers as min and max instead of listing its values."
        )


def fit_definition(text: str) -> str:
    """Return a definition from a client without texts that no database holds, also where YAML writes them as escapes.

    Raises:
        UsageError: if it would take long to read.
    """
    check_size(text)
    text = fit(text)
    if "\\" not in text:
        return text
    try:
        values = yaml_lines.read_definition(Path("sweep.yaml"), text).values  # which bounds what anchors write out
        fit_values = fitted(values)
    except (UsageError, RecursionError):
        return text  # `read_definition` says why
    return text if fit_values == values else yaml.safe_dump(fit_values, sort_keys=False)


def read_definition(text: str, name: str) -> Definition:
    """Read a sweep of any size, as older versions stored them; it is called by its id where it has no name.

    Raises:
        UsageError: a sentence for every fault.
    """
    definition = _read(text)
    return definition if definition.definition.get("name") else dataclasses.replace(definition, name=name)


def _read(text: str) -> Definition:
    return (_short if len(text) <= SHORT else _long)(text)


def _parsed(text: str) -> Definition:
    return read_sweep(Path("sweep.yaml"), text=text)


_short, _long = (functools.lru_cache(maxsize=number)(_parsed) for number in (N_SHORT, N_LONG))
