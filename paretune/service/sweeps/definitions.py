"""Parsed sweep definitions, each parsed once."""

from __future__ import annotations

import functools
from pathlib import Path

from paretune.search.spec.sweep import Sweep as Definition
from paretune.search.spec.sweep import read_sweep
from paretune.service.store.tables import Sweep


def definition_of(sweep: Sweep) -> Definition:
    """Return what a sweep's text says; it was checked when it came."""
    return read_definition(sweep.definition, sweep.name)


@functools.lru_cache(maxsize=512)
def read_definition(text: str, name: str) -> Definition:
    """Read a sweep that a client sent.

    Raises:
        UsageError: a sentence for every fault.
    """
    return read_sweep(Path(f"{name}.yaml"), text=text)
