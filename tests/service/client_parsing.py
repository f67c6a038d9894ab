"""Parses answers with a client's own models, in whichever interpreter has the client; it needs nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any


def refused(answers: Iterable[Sequence[Any]]) -> list[tuple[str, str, str]]:
    """Return what models refuse of answers (package, model, label, answer), as (model, label, reason)."""
    faults = []
    for package, name, label, answer in answers:
        try:
            getattr(importlib.import_module(package), name).model_validate(answer)
        except ValueError as error:
            faults.append((name, label, str(error)))
    return faults
