"""Runs on this machine: W&B's offline run files, and the trials of a study, joined."""

from __future__ import annotations

import functools
import math
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.analysis.sources import parquet_cache
from paretune.analysis.sources.run_record import BASELINE, RunRecord, column_of, columns_of
from paretune.core.progress import Progress
from paretune.runs import study_schema
from paretune.runs.study_storage import close, database, open_storage, quiet_optuna, readable_errors
from paretune.runs.wandb_files import RunFile, numbers, read_run
from paretune.runs.whole_runs import merge_run_files, own_run

if TYPE_CHECKING:
    import optuna

SILENT = 3600.0  # seconds without a line in its file after which a run counts as crashed; W&B's samples come every 15 s
RUN_FOLDER = re.compile(r"(offline-)?run-\d{8}_\d{6}-.+")  # where nothing but run-*.wandb itself is of interest
TRIAL_FOLDER = re.compile(r"(.*/trials/[^/]+)/")  # of a trial of a program of the person's own
Group = tuple[tuple[str, ...], str]  # the files of one id, and their mark


def file_runs(path: Path) -> tuple[list[RunRecord], list[Path]]:
    """Read W&B's own files below a folder (or one file); return the runs, and the run files that hold none.

    Several files of one id are one run. Many runs are kept together, so that a second reading takes only what has changed
    (analysis/sources/parquet_cache.py).
    """
    groups = [((str(path),), "")] if path.is_file() else _grouped(run_files_below(str(path)))
    runs, readable = _read_all(path, groups)
    files = [file for names, _ in groups for file in names]
    unreadable = [Path(file) for file in files if file not in readable and file.endswith(".wandb")]
    for run in runs:
        if run.state == "running" and time.time() - os.path.getmtime(run.file) > SILENT:
            run.state = "crashed"
    return runs, unreadable


def _grouped(files: Iterable[tuple[str, str]]) -> list[Group]:
    """Return the files of each run, and a mark that changes with any of them.

    A file has its run's id as its name. In a study each trial has its own runs, whatever ids its program gives them.
    """
    found = dict(sorted(files))
    # what a trial's folder links to is the trial's
    linked = {os.path.realpath(file) for file in found if os.path.islink(os.path.dirname(file))}
    by_run: dict[tuple[str, str], list[str]] = {}
    for file in found:
        if not linked or os.path.islink(os.path.dirname(file)) or os.path.realpath(file) not in linked:
            trial = TRIAL_FOLDER.match(file)
            by_run.setdefault(("" if trial is None else trial[1], os.path.basename(file)), []).append(file)
    return [(tuple(names), " ".join(found[name] for name in names)) for names in by_run.values()]


def _read_all(path: Path, groups: Sequence[Group]) -> tuple[list[RunRecord], set[str]]:
    """Return the runs of groups of files below a folder, and the files that hold one."""
    if len(groups) < parquet_cache.WORTHWHILE:
        return _runs_of([read_run_files(files) for files, _ in groups], groups)
    place = parquet_cache.place_of("offline", path.resolve())
    known: dict[str, list[tuple[str, RunRecord]]] = {}
    for mark, run in parquet_cache.read(place):
        known.setdefault(os.path.basename(run.file), []).append((mark, run))

    def kept_runs(files: tuple[str, ...], mark: str) -> list[RunRecord]:
        return [run for its_mark, run in known.get(os.path.basename(files[0]), ()) if its_mark == mark and run.file in files]

    found = [kept_runs(files, mark) for files, mark in groups]
    n_kept = sum(map(len, known.values()))
    new = [place for place, runs in enumerate(found) if not runs]
    with Progress(f"reading {path}", len(new), unit="run", every=2) as progress:
        for number in new:
            files = groups[number][0]
            found[number] = read_run_files(files)
            progress.step(files[-1])
    if any(found[number] for number in new) or n_kept > sum(map(len, found)):
        parquet_cache.write(place, [(mark, run) for runs, (_, mark) in zip(found, groups, strict=True) for run in runs])
    return _runs_of(found, groups)


def _runs_of(found: Sequence[list[RunRecord]], groups: Sequence[Group]) -> tuple[list[RunRecord], set[str]]:
    readable = {file for runs, (files, _) in zip(found, groups, strict=True) if runs for file in files}
    return [run for runs in found for run in runs], readable


def run_files_below(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each run file below a folder, and a mark that changes with its content (size and time)."""
    with os.scandir(folder) as entries:
        inner = []
        inside = RUN_FOLDER.fullmatch(os.path.basename(folder)) is not None
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and RUN_FOLDER.fullmatch(entry.name) and entry.is_dir()):
                if not inside:
                    inner.append(entry.path)
            elif entry.name.startswith("run-") and entry.name.endswith(".wandb"):
                found = entry.stat()
                yield entry.path, f"{found.st_size} {found.st_mtime_ns}"
    for path in inner:
        yield from run_files_below(path)


def read_run_files(files: Sequence[str]) -> list[RunRecord]:
    """Read the files of one id: one run, or one for each project where several gave it to a run."""
    if len(files) == 1:
        found = read_run_file(Path(files[0]))
        return [] if found is None else [found]
    readable = [run for run in map(_read, map(Path, files)) if run is not None]
    return [_record(run) for run in merge_run_files(readable)]


def read_run_file(path: Path) -> RunRecord | None:
    """Read one run file; None where not even the run's own record is in it (yet), or it cannot be opened."""
    found = _read(path)
    return None if found is None else _record(found)


def _read(path: Path) -> RunFile | None:
    try:
        return read_run(path)
    except OSError:
        return None


def _record(found: RunFile) -> RunRecord:
    return RunRecord(
        run=found.run_id,
        name=found.name,
        group=found.group,
        sweep=found.sweep,
        state=found.state,
        created=found.created,
        file=found.file,
        config=found.config,
        columns=columns_of(found.rows),
        tags=found.tags,
        damaged=list(found.damaged),
        read_environment=lambda: found.environment,
        read_summary=lambda: found.summary,
    ).take_outcome(found.outcome)


def study_runs(source: str | Path) -> list[RunRecord]:
    """Read the trials of a study's file, or of the studies behind a storage URL (`#NAME` for one of them).

    Raises:
        UsageError: if it cannot be read.
    """
    import optuna

    quiet_optuna()
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
    goals = study.user_attrs.get(study_schema.GOALS) or dict(zip(study.metric_names or [], directions, strict=False))
    trainer = study.user_attrs.get(study_schema.CLASSIFIER)  # of another program its path
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        state = states.get(trial.state.name, "running")
        cause = str(attributes.get(study_schema.CAUSE, "")) if state == "failed" else ""
        if cause in study_schema.UNCOUNTED:
            state = "interrupted"
        run = attributes.get(study_schema.RUN)
        if run is None and (
            state == "failed" or study_schema.epochs_of(attributes)
        ):  # before its run began; or nothing is known of it
            run = {}
        if run is None:
            continue
        elsewhere = run.get("path") is not None and run.get("host") != socket.gethostname()
        epochs = study_schema.epochs_of(attributes)
        decided = {
            key.removeprefix(study_schema.SUMMARY): row[key]
            for row in epochs
            for key in row
            if key.startswith(study_schema.SUMMARY)
        }
        logged = [
            {key: row[key] for key in row if key != study_schema.LAST and not key.startswith(study_schema.SUMMARY)}
            for row in epochs
        ]
        config, origin = study_schema.parted(run.get("config", {}), study_schema.given_names(study.user_attrs, trial.params))
        baseline = bool(attributes.get(study_schema.BASELINE))
        violations = study_schema.in_stated_order(trial.constraints or {}, study.user_attrs)
        result.append(
            RunRecord(
                run=run.get("id") or f"{name}-{trial.number}",
                name=f"{name}-{trial.number}",
                group=name,
                sweep=name,
                state=state,
                created=study_schema.begun(trial) or math.nan,
                file=f"on {run.get('host', 'an unknown machine')}" if elsewhere else "",
                config=config,
                columns=columns_of(logged),
                tags=[BASELINE] if baseline else [],
                goals={column_of(metric): goal for metric, goal in goals.items()},
                baseline=baseline,
                cause=cause,
                engine=run.get("origin") or origin,
                ours=trainer is not None and config.get("classifier") == trainer,
                feasible=all(value <= 0 for value in violations.values()),
                broken=[text for text, value in violations.items() if not value <= 0],
                read_summary=functools.partial(dict, decided),
            )
        )
    return result


def trial_of(file: Path, by_id: Mapping[str, RunRecord]) -> RunRecord | None:
    """Return the trial whose run file this is, by its name or by the folder that the trial was given."""
    names = (file.stem.removeprefix("run-"), *file.parts)
    return next((by_id[name] for name in names if name in by_id), None)


def join(trials: Sequence[RunRecord], files: Sequence[RunRecord]) -> list[RunRecord]:
    """Complete the runs of a study by their files: provenance, summary, and the rows where the file is whole.

    A program may have given its run an id of its own: then the file lies in the folder that the trial was given. The other
    runs of a trial, such as one for each fold, are its members: they have the state `member`, so that no step takes them for
    results of the sweep.
    """
    by_id = {run.run: run for run in trials}
    of_unknown_id = {run.run: run for run in trials if run.run == run.name}
    of_trial: dict[str, list[RunRecord]] = {}
    rest = []
    for file in files:
        trial = by_id.get(file.run) or trial_of(Path(file.file), by_id) or of_unknown_id.get(file.name)
        if trial is None:
            rest.append(file)
        else:
            of_trial.setdefault(trial.run, []).append(file)
    for run_id, candidates in of_trial.items():
        own = _own(candidates, by_id[run_id])
        if own is not None:
            _complete(by_id[run_id], own)
        for member in candidates:
            if member is not own:
                member.state = "member"
                rest.append(member)
    return [*trials, *rest]


def _own(candidates: Sequence[RunRecord], trial: RunRecord) -> RunRecord | None:
    """Return the trial's own run among those in its folder."""
    if len(candidates) == 1:
        return candidates[0]
    by_run = {run.run: run for run in reversed(candidates)}
    if trial.run in by_run:
        return by_run[trial.run]
    metrics = {run_id: {*run.columns, *map(column_of, numbers(run.summary))} for run_id, run in by_run.items()}
    own_id = own_run(metrics, trial.run, trial.goals)
    return None if own_id is None else by_run[own_id]


def _complete(trial: RunRecord, file: RunRecord) -> None:
    trial.file, trial.read_summary = file.file, file.read_summary
    trial.created = trial.created if math.isnan(file.created) else file.created  # so that it is the same without the study
    trial.config = {**file.config, **trial.config}
    trial.tags = list(dict.fromkeys([*trial.tags, *file.tags]))
    trial.ours = trial.ours or file.ours
    trial.damaged = file.damaged
    trial.feasible = trial.feasible and file.feasible
    trial.broken = trial.broken or file.broken
    trial.read_environment = file.read_environment
    if file.n_rows >= trial.n_rows:
        trial.columns = file.columns
