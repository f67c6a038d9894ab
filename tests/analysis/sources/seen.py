"""What the steps of the analysis make of a source, for tests that compare sources."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

from paretune.analysis.choose import aims_by, choose, default_rule
from paretune.analysis.figures.interactive import configurations
from paretune.analysis.findings.diagnosis import diagnose_runs
from paretune.analysis.findings.front import front_of, volumes_of
from paretune.analysis.findings.parameters import tried
from paretune.analysis.history import _whole, load_runs, runs_table, tidy
from paretune.search.importance import importances

OF_THE_SOURCE = ["file", "sweep"]  # columns that say where a run was found


def seen(source: str) -> dict[str, Any]:
    """Return everything that is made of a source, in plain values; runs are told by their ids."""
    runs = load_runs(source)
    aims = aims_by(runs, None)
    table, history = runs_table(runs), tidy(runs)
    front, left_out = front_of(table, list(aims), list(aims.values()))
    volumes, corner = volumes_of(front, list(aims), list(aims.values()))
    choice = choose(table, default_rule(runs, aims), aims, records=runs)
    metric, goal = next(iter(aims.items()))
    weighed = tried(runs, metric, goal)
    return {
        "order": [run.run for run in runs],
        "tags": {run.run: sorted(run.tags) for run in runs},
        "columns": [list(history), list(table), list(_whole(table, runs))],
        "table": _lines(table),
        "history": _lines(history),
        "aims": aims,
        "front": sorted(front.loc[front["on_front"], "run"]),
        "left out": left_out,
        "volumes": [*volumes.tolist(), *corner],
        "choice": {**choice.to_dict(), "candidates": sorted(choice.candidates)},
        "configurations": configurations(runs),
        "tried": _lines(weighed.values.rename_axis("run").reset_index()),
        "scores": dict(zip(weighed.values.index, weighed.scores.tolist(), strict=True)),
        "importance": importances(weighed, n_resamples=5, min_runs=2).table.to_dict("list"),
        "diagnoses": _lines(diagnose_runs(history, ours={run.run for run in runs if run.ours})),
    }


def _lines(table: Any) -> list[dict[str, str]]:
    """Return the rows of a table as texts, without what says where a run was found; columns in the order of their names."""
    columns = sorted(name for name in table.columns if name not in OF_THE_SOURCE)
    return sorted(({name: repr(row[name]) for name in columns} for row in table.to_dict("records")), key=lambda row: row["run"])


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(pickle.dumps(seen(sys.argv[1])))
    print("{}")
