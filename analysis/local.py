"""Runs on this machine: W&B's offline run files, and the trials of a study, joined."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.runs import RunRecord, columns_of
from trainers import records
from trainers.progress import Progress
from trainers.run_files import read_run

if TYPE_CHECKING:
    import optuna

SILENT = 3600.0  # seconds without a line in its file after which a run counts as crashed; W&B's samples come every 15 s
RUN_FOLDER = re.compile(r"(offline-)?run-\d{8}_\d{6}-.+")  # where nothing but run-*.wandb itself is of interest


def file_runs(path: Path) -> tuple[list[RunRecord], list[Path]]:
    """Read W&B's own files below a folder (or one file); return the runs, and the run files that hold none.

    Many of them are kept together, so that a second reading takes only what has changed (analysis/kept.py).
    """
    if path.is_file():
        files = [(str(path), "")]
        found = read_run_file(path)
        by_file = {} if found is None else {str(path): found}
    else:
        files = sorted(run_files_below(str(path)))
        by_file = _read_all(path, files)
    unreadable = [Path(file) for file, _ in files if file not in by_file and file.endswith(".wandb")]
    for run in by_file.values():
        if run.state == "running" and time.time() - os.path.getmtime(run.file) > SILENT:
            run.state = "crashed"
    return list(by_file.values()), unreadable


def _read_all(path: Path, files: Sequence[tuple[str, str]]) -> dict[str, RunRecord]:
    """Return the run of each file (with its mark) below a folder, without the files that hold none."""
    from analysis import kept

    if len(files) < kept.WORTHWHILE:
        runs = {file: read_run_file(Path(file)) for file, _ in files}
        return {file: run for file, run in runs.items() if run is not None}
    place = kept.place_of("offline", path.resolve())
    known = {run.file: (mark, run) for mark, run in kept.read(place)}
    new: dict[str, tuple[str, RunRecord]] = {}
    with Progress(
        f"reading {path}", sum(known.get(file, ("",))[0] != mark for file, mark in files), unit="run", every=2
    ) as progress:
        for file, mark in files:
            if known.get(file, ("",))[0] != mark:
                run = read_run_file(Path(file))
                progress.step(file)
                if run is not None:
                    new[file] = (mark, run)
    if new or len(known) > len(files):
        known = {file: known[file] for file, _ in files if file in known} | new
        kept.write(place, list(known.values()))
    return {file: known[file][1] for file, _ in files if file in known}


def run_files_below(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each run file below a folder, and a mark that changes with its content (size and time)."""
    with os.scandir(folder) as entries:
        inner = []
        inside = RUN_FOLDER.fullmatch(os.path.basename(folder)) is not None
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not inside:
                    inner.append(entry.path)
            elif entry.name.startswith("run-") and entry.name.endswith(".wandb"):
                found = entry.stat()
                yield entry.path, f"{found.st_size} {found.st_mtime_ns}"
    for path in inner:
        yield from run_files_below(path)


def read_run_file(path: Path) -> RunRecord | None:
    """Read one run file; None where not even the run's own record is in it (yet), or it cannot be opened."""
    try:
        found = read_run(path)
    except OSError:
        return None
    if found is None:
        return None
    return RunRecord(
        run=found.run_id,
        name=found.name,
        group=found.group,
        sweep=found.sweep,
        state=found.state,
        created=found.created,
        file=str(path),
        config=found.config,
        columns=columns_of(found.rows),
        tags=found.tags,
        read_summary=lambda: found.summary,
    )


def study_runs(source: str | Path) -> list[RunRecord]:
    """Read the trials of a study's file, or of the studies behind a storage URL (`#NAME` for one of them).

    Raises:
        UsageError: if it cannot be read.
    """
    import optuna

    from trainers.storage import close, database, open_storage, readable_errors

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url, wanted = database(source)
    with readable_errors(url, writing=False):
        storage = open_storage(url, writing=False)
        names = [name for name in optuna.get_all_study_names(storage) if wanted in (None, name)]
        studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
        found = [run for study in studies for run in _trial_runs(study)]
        close(storage)
    return found


def _trial_runs(study: optuna.Study) -> list[RunRecord]:
    states = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    result = []
    name = study.study_name
    directions = [direction.name.lower() for direction in study.directions]
    goals = study.user_attrs.get(records.GOALS) or dict(zip(study.metric_names or [], directions, strict=False))
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        state = states.get(trial.state.name, "running")
        if attributes.get(records.CAUSE) in (records.INTERRUPTED, records.SURPLUS):
            state = "interrupted"
        run = attributes.get(records.RUN)
        if run is None and (state == "failed" or records.epochs_of(attributes)):  # before its run began; or nothing is known of it
            run = {}
        if run is None:
            continue
        elsewhere = run.get("path") is not None and run.get("host") != socket.gethostname()
        result.append(
            RunRecord(
                run=run.get("id") or f"{name}-{trial.number}",
                name=f"{name}-{trial.number}",
                group=name,
                sweep=name,
                state=state,
                created=trial.datetime_start.timestamp() if trial.datetime_start else math.nan,
                file=f"on {run.get('host', 'an unknown machine')}" if elsewhere else "",
                config=run.get("config", {}),
                columns=columns_of(
                    [{key: value for key, value in row.items() if key != "last"} for row in records.epochs_of(attributes)]
                ),
                tags=["baseline"] if attributes.get(records.BASELINE) else [],
                goals=goals,
                feasible=all(value <= 0 for value in trial.constraints.values()) if trial.constraints else True,
            )
        )
    return result


def trial_of(file: Path, by_id: Mapping[str, RunRecord]) -> RunRecord | None:
    """Return the trial whose run file this is, by its name or by the folder that the trial was given."""
    names = (file.stem.removeprefix("run-"), *file.parts)
    return next((by_id[name] for name in names if name in by_id), None)


def join(trials: Sequence[RunRecord], files: Sequence[RunRecord]) -> list[RunRecord]:
    """Complete the runs of a study by their files: provenance, summary, and the rows where the file is whole.

    A program may have given its run an id of its own: then the file lies in the folder that the trial was given.
    """
    by_id = {run.run: run for run in trials}
    of_unknown_id = {run.run: run for run in trials if run.run == run.name}
    rest = []
    for file in files:
        trial = by_id.get(file.run) or trial_of(Path(file.file), by_id) or of_unknown_id.get(file.name)
        if trial is None:
            rest.append(file)
            continue
        trial.file, trial.read_summary = file.file, file.read_summary
        trial.config = {**file.config, **trial.config}
        if file.n_rows >= trial.n_rows:
            trial.columns = file.columns
    return [*trials, *rest]
