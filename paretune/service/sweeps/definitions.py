"""Parsed sweep definitions, each parsed once."""

from __future__ import annotations

import functools
from pathlib import Path

import yaml

from paretune.core.errors import UsageError
from paretune.search.spec import yaml_lines
from paretune.search.spec.sweep import Sweep as Definition
from paretune.search.spec.sweep import read_sweep
from paretune.service.store.safe_json import fit, fitted
from paretune.service.store.tables import Sweep


def definition_of(sweep: Sweep) -> Definition:
    """Return what a sweep's text says; it was checked when it came."""
    return read_definition(sweep.definition, sweep.name)


def fit_definition(text: str) -> str:
    """Return a definition without texts that no database holds, also where YAML writes them as escapes."""
    text = fit(text)
    if "\\" not in text:
        return text
    try:
        values = yaml_lines.read_definition(Path("sweep.yaml"), text).values  # which bounds what anchors write out
        fit_values = fitted(values)
    except (UsageError, RecursionError):
        return text  # `read_definition` says why
    return text if fit_values == values else yaml.safe_dump(fit_values, sort_keys=False)


@functools.lru_cache(maxsize=512)
def read_definition(text: str, name: str) -> Definition:
    """Read a sweep that a client sent.

    Raises:
        UsageError: a sentence for every fault.
    """
    return read_sweep(Path(f"{name}.yaml"), text=text)
