"""Merges the files of one W&B run, and selects the run of a trial.

A run has several files if it was resumed offline or if several processes wrote it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from paretune.runs.wandb_files import DAMAGED, RunFile, numbers

# What `define_metric(NAME, summary=…)` puts below NAME in the summary (`best` in files of older clients)
BEST, MEAN, LAST, FIRST = "best", "mean", "last", "first"
EXTREMUM = {"minimize": "min", "maximize": "max"}


def merge_run_files(files: Iterable[RunFile]) -> list[RunFile]:
    """Return one run per project and id, in the order of their start.

    As at W&B, a later row updates an earlier row of the same step; config and summary are updated likewise.
    """
    by_run: dict[tuple[str, str, str], list[RunFile]] = {}
    for file in sorted(files, key=lambda file: (math.isnan(file.created), file.created)):
        same = (key for key in by_run if key[2] == file.run_id)
        if file.damaged and not file.project and (key := next(same, None)) is not None:
            by_run[key].insert(0, file)  # its run record is damaged
        else:
            by_run.setdefault((file.entity, file.project, file.run_id), []).append(file)
    return [_merged(parts) for parts in by_run.values()]


def _merged(parts: Sequence[RunFile]) -> RunFile:
    first, newest = parts[0], parts[-1]
    if len(parts) == 1:
        return newest
    config: dict[str, Any] = {}
    for part in parts:
        config |= part.config
    damaged = tuple(file for part in parts for file in part.damaged)
    run = replace(
        newest,
        state=DAMAGED if damaged else newest.state,
        damaged=damaged,
        file=next((part.file for part in reversed(parts) if part.rows), newest.file),
        name=newest.name or first.name,
        group=newest.group or first.group,
        sweep=newest.sweep or first.sweep,
        tags=newest.tags or first.tags,
        created=first.created,
        config=config,
        environment={**first.environment, **newest.environment},
        rows=_merged_rows([part.rows for part in parts if part.rows]),
        summaries=[raw for part in parts for raw in part.summaries],
    )
    run.judge()
    return run


def _merged_rows(parts: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    if len(parts) < 2:  # the other files say how it ended
        return list(*parts)
    rows: dict[Any, dict[str, Any]] = {}
    for part in parts:
        for number, row in enumerate(part):
            step = row.get("_step", number)
            rows[step] = {**rows.get(step, {}), **row}
    return [rows[step] for step in sorted(rows)]


def own_run(metrics_by_id: Mapping[str, Collection[str]], run_id: str, goals: Collection[str]) -> str | None:
    """Return the id of the trial's own run; None if it cannot be determined.

    It is the run with the trial's id. If the program chose its own ids, it is the only run, or the only one that holds every
    objective. The trial's other runs are its members.
    """
    if run_id in metrics_by_id:
        return run_id
    candidates = list(metrics_by_id)
    if len(candidates) > 1:
        candidates = [name for name, metrics in metrics_by_id.items() if set(metrics) >= set(goals)]
    return candidates[0] if len(candidates) == 1 else None


def summary_numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a run's summary. The client writes null for NaN."""
    return {**numbers(summary), **{name: math.nan for name, value in summary.items() if value is None}}


def summary_values(summary: Mapping[str, float], latest: Mapping[str, float], goals: Mapping[str, str]) -> dict[str, float]:
    """Return the objectives that a program set in its summary, by `run.summary[NAME] = …` or `define_metric`.

    Args:
        summary: the numbers of the run's summary, nested ones by names with points.
        latest: the last logged value of each metric, the default of W&B's summary.
        goals: objective -> minimize or maximize.
    """
    decided = {}
    for name, goal in goals.items():
        aggregates = [f"{name}.{kind}" for kind in (BEST, EXTREMUM[goal], MEAN, LAST, FIRST) if f"{name}.{kind}" in summary]
        if name in summary:
            if name not in latest or not _equal(summary[name], latest[name]):
                decided[name] = summary[name]
        elif aggregates:
            decided[name] = summary[aggregates[0]]
    return decided


def _equal(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=1e-12) or (math.isnan(value) and math.isnan(other))
