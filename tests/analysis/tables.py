"""Runs tables made by hand, as `paretune.analysis.history.runs_table` lays them out."""

from __future__ import annotations

from typing import Any

import pandas as pd

OURS = {"classifier": "ann", "provenance": {"fingerprints": {}, "n_holdout": 270}}  # what only runs of ours say


def runs_of(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return a runs table: `a`, `b`, … finished on the hold-out, unless a row says otherwise."""
    lines = []
    for place, row in enumerate(rows):
        letter = chr(ord("a") + place)
        base = {"run": letter, "name": f"run-{letter}", "state": "finished", "created": float(place)}
        lines.append({**base, "evaluation_split": "holdout", "best_epoch": 3.0, **row})
    return pd.DataFrame(lines)


def scored(precision: float, recall: float, f1: float = 0.5, **others: Any) -> dict[str, Any]:
    """Return the scores of one run."""
    return {"precision": precision, "recall": recall, "f1": f1, **others}
