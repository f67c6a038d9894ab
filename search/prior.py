"""Warm start: what is known already, from another study, from W&B's runs, or from a file of points.

Runs with a result join the study as finished trials, from which the sampler learns; they do not count as trials of the sweep.
Points without a result are tried first, and count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from search.study import finished
from search.sweep import Sweep
from trainers import records
from trainers.best import best_row
from trainers.errors import UsageError, did_you_mean
from trainers.storage import database, open_storage

FORMS = "a study's folder, a folder of offline runs, ENTITY/PROJECT/RUN, or a .yaml, .json or .csv file of points"


@dataclass(frozen=True)
class Known:
    """One configuration and, where it was trained already, its history."""

    label: str
    values: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()


def bring(study: optuna.Study, sweep: Sweep, sources: Sequence[str]) -> list[str]:
    """Add what the sources know to a study, each thing once; return a line per source on what came of it.

    Raises:
        UsageError: if a source cannot be read, or a point does not fit the space.
    """
    if sources and (sweep.method == "grid" or not sweep.space.parameters):
        raise UsageError(f"{sweep.path}: --prior is for a search of parameters; a grid tries every combination once.")
    there = {trial.user_attrs.get(key) for trial in study.get_trials(deepcopy=False) for key in (records.PRIOR, records.POINT)}
    lines = []
    for source in sources:
        told = asked = left = 0
        for known in read_prior(source, sweep):
            values = _objective_values(known, sweep)
            encoded = sweep.space.encode(known.values)
            if known.label in there:
                continue
            if values is None and not known.rows:
                _check_point(known, sweep)
                study.enqueue_trial(encoded, user_attrs={records.POINT: known.label})
                asked += 1
            elif values is None or sweep.space.outside(known.values):
                left += 1
            else:
                _tell(study, sweep, known, encoded, values)
                told += 1
        lines.append(f"{source}: {told} finished runs taken over, {asked} points to try, {left} left out (other space or metric)")
    return lines


def _tell(study: optuna.Study, sweep: Sweep, known: Known, encoded: Mapping[str, Any], values: Sequence[float]) -> None:
    space = sweep.space.distributions
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.COMPLETE,
            params=dict(encoded),
            distributions={name: space[name] for name in encoded},
            values=list(values),
            user_attrs={records.PRIOR: known.label},
        )
    )


def _objective_values(known: Known, sweep: Sweep) -> list[float] | None:
    row = best_row(known.rows, sweep.metric, sweep.goal) if known.rows else None
    values = [math.nan if row is None else row.get(name, math.nan) for name in sweep.goals]
    return values if all(map(math.isfinite, values)) else None


def _check_point(known: Known, sweep: Sweep) -> None:
    flat = sweep.space.flat(known.values)
    for name in flat:
        if name not in sweep.space.parameters and name not in sweep.space.fixed:
            near = did_you_mean(name, sweep.space.parameters) or f"; there are {', '.join(sweep.space.parameters)}."
            raise UsageError(f"{known.label}: {name} is not a searched parameter of {sweep.path}{near}")
    for name, parameter in sweep.space.parameters.items():
        if name in flat and not parameter.contains(flat[name]):
            raise UsageError(f"{known.label}: {name} must lie in the space of {sweep.path}. Got {flat[name]!r}.")


def read_prior(source: str, sweep: Sweep) -> Iterator[Known]:
    """Yield what a source knows.

    Raises:
        UsageError: if it is of no known form.
    """
    path = Path(source)
    if "://" in source or (path / "study.db").is_file() or path.suffix == ".db":
        yield from _of_study(source)
    elif path.is_dir() or path.suffix == ".wandb":
        yield from _of_run_files(path)
    elif path.suffix in {".yaml", ".yml", ".json", ".csv"}:
        yield from _of_points(path, sweep)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+/[\w.-]+", source):
        from search.online import prior_run

        config, rows = prior_run(source)
        yield Known(source, config, rows)
    else:
        raise UsageError(f"--prior takes {FORMS}. Got {source!r}.")


def _of_study(source: str) -> Iterator[Known]:
    url, name = database(source)
    storage = open_storage(url)
    for summary in optuna.get_all_study_summaries(storage):
        if name in (None, summary.study_name):
            study = optuna.load_study(study_name=summary.study_name, storage=storage)
            for trial in finished(study.get_trials(deepcopy=False)):
                config = trial.user_attrs.get(records.RUN, {}).get("config")
                if config is not None and trial.state == TrialState.COMPLETE:
                    label = f"{study.user_attrs.get(records.STUDY_ID)}/{trial.number}"
                    yield Known(label, config, records.epochs_of(trial.user_attrs))


def _of_run_files(path: Path) -> Iterator[Known]:
    from trainers.run_files import read_run

    files = sorted(path.rglob("run-*.wandb")) if path.is_dir() else [path]
    for file in files:
        run = read_run(file)
        if run is not None:
            yield Known(run.run_id, run.config, run.rows or ([run.summary] if run.summary else []))


def _of_points(path: Path, sweep: Sweep) -> Iterator[Known]:
    for index, point in enumerate(_points(path)):
        label = f"{path.name}:{index + 1}"
        if not isinstance(point, Mapping):
            raise UsageError(f"{label}: a point must be a mapping of parameters to values. Got {point!r}.")
        metrics = {name: float(point[name]) for name in sweep.goals if isinstance(point.get(name), int | float)}
        values = {str(name): value for name, value in point.items() if name not in sweep.goals}
        yield Known(label, _nested(values), [metrics] if len(metrics) == len(sweep.goals) else [])


def _points(path: Path) -> list[Any]:
    import yaml

    try:
        if path.suffix == ".csv":
            import csv

            with path.open(encoding="utf-8", newline="") as file:
                return [{name: yaml.safe_load(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
        points = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read ({' '.join(str(error).split())}): give {FORMS}.") from None
    if not isinstance(points, list):
        raise UsageError(f"{path} must hold a list of points, each a mapping of parameters to values. Got {type(points).__name__}.")
    return points


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nest `a.b` as {a: {b: …}}."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        place = nested
        *outer, last = name.split(".")
        for step in outer:
            place = place.setdefault(step, {})
        place[last] = value
    return nested
