"""Runs that were read once, kept as Parquet, so that a second reading takes only what is new or has changed.

One file holds many runs: their rows one after another, a column per metric, and who they are as JSON in the file's metadata.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paretune.analysis.sources.run_record import RunRecord, column_of
from paretune.core.folders import ROOT
from paretune.core.provenance import written_by_us
from paretune.runs.wandb_files import read_run

WORTHWHILE = 20  # run files below which reading them again costs nothing
VERSION, OLDER = "4", ("2", "3")  # with 4 a run in a file here begins when its client tells a server that it did
IDENTITY = (
    "run",
    "name",
    "group",
    "sweep",
    "state",
    "created",
    "file",
    "config",
    "tags",
    "goals",
    "feasible",
    "baseline",
    "cause",
    "damaged",
    "broken",
)


def place_of(kind: str, source: str | Path) -> Path:
    """Return where the runs of a source are kept: below WANDB_CACHE_DIR, or runs/ here."""
    folder = Path(os.environ.get("WANDB_CACHE_DIR") or ROOT / "runs") / ".pulled" / kind
    return folder / f"{hashlib.sha256(str(source).encode()).hexdigest()[:24]}.parquet"


def read(place: Path) -> list[tuple[str, RunRecord]]:
    """Return the runs that are kept, each with the mark it was kept under; nothing where the file is not ours or broken."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(place)
        described = json.loads((table.schema.metadata or {}).get(b"paretune", b"{}"))
    except (OSError, ValueError, pa.ArrowException):
        return []
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    if described.get("version") not in (VERSION, *OLDER):
        return []
    found = list(_parted(described["runs"], columns))
    if described["version"] == VERSION:
        return found
    return [
        (mark, _renewed(run))
        for entry, (mark, run) in zip(described["runs"], found, strict=True)
        if not Path(run.file).is_file() and not _is_doubtful(entry.get("state"), entry.get("config"))  # a file is read again
    ]


def _is_doubtful(state: str | None, config: Mapping[str, Any] | None) -> bool:
    """Whether an older version may have taken a run for another than it is: a damaged one, or another program's own `pruned`."""
    return state == "running" or (state == "pruned" and config is not None and not written_by_us(config))


def _renewed(run: RunRecord) -> RunRecord:
    """Return a run that an older version has kept, with its metrics under the names that they have now."""
    run.columns = {column_of(name): values for name, values in run.columns.items()}
    return run


def _parted(runs: Sequence[dict[str, Any]], columns: dict[str, Any]) -> Iterator[tuple[str, RunRecord]]:
    begin = 0
    for entry in runs:
        end = begin + entry["n_rows"]
        own = {name: columns[name][begin:end] for name in entry["columns"]}
        kept, file = entry.get("summary"), entry.get("file", "")
        read_summary = functools.partial(json.loads, kept) if kept is not None else functools.partial(_summary_in, file)
        environment = entry.get("environment")  # older versions did not keep it
        record = RunRecord(
            **{key: entry[key] for key in IDENTITY if key in entry},
            columns=own,
            read_summary=read_summary,
            read_environment=functools.partial(_environment_in, file)
            if environment is None
            else functools.partial(dict, environment),
        )
        yield entry.get("mark", ""), record
        begin = end


def _ours(run: RunRecord) -> bool:
    """Whether a run is our classifiers' own in a file here: its summary repeats its rows, and is read there when asked for."""
    return run.ours and run.file.endswith(".wandb")


def _summary_in(file: str) -> Mapping[str, Any]:
    found = read_run(Path(file)) if Path(file).is_file() else None
    return {} if found is None else found.summary


def _environment_in(file: str) -> Mapping[str, str]:
    found = read_run(Path(file)) if Path(file).is_file() else None
    return {} if found is None else found.environment


def write(place: Path, marked: Sequence[tuple[str, RunRecord]]) -> None:
    """Keep runs, each under a mark; where the folder cannot be written, nothing is kept and nothing is lost."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for _, run in marked for name in run.columns))
    blanks = {length: np.full(length, np.nan) for length in {run.n_rows for _, run in marked}}
    arrays = [np.concatenate([run.columns.get(name, blanks[run.n_rows]) for _, run in marked]) for name in names]
    described = [
        {
            **{key: getattr(run, key) for key in IDENTITY},
            "summary": None if _ours(run) else json.dumps(dict(run.read_summary()), default=str),
            "environment": dict(run.environment),
            "mark": mark,
            "n_rows": run.n_rows,
            "columns": list(run.columns),
        }
        for mark, run in marked
    ]
    metadata = {"paretune": json.dumps({"version": VERSION, "runs": described}, default=str)}
    table = pa.table(dict(zip(names, arrays, strict=True))).replace_schema_metadata(metadata)
    partial = place.with_suffix(f".{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, partial)
        partial.replace(place)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
