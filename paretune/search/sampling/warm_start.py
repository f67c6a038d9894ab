"""Warm start: what is known already, from another study, from W&B's runs, or from a file of points.

Runs with a result join the study as finished trials, from which the sampler learns; they do not count as trials of the sweep.
Points without a result are tried first, and count.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from paretune.core.errors import UsageError, did_you_mean
from paretune.runs import study_schema
from paretune.runs.study_storage import close, database, open_storage, readable_errors
from paretune.runs.wandb_files import numbers, read_run
from paretune.runs.whole_runs import merge_run_files, summary_numbers
from paretune.search import online
from paretune.search.engine.study import counted_row, enqueue, finished, with_latest, with_summary
from paretune.search.spec.sweep import Sweep
from paretune.search.spec.yaml_lines import not_yaml

FORMS = "a study's folder, a folder of offline runs, ENTITY/PROJECT/RUN, or a .yaml, .json or .csv file of points"


@dataclass(frozen=True)
class Known:
    """One configuration and, where it was trained already, its history; `key` tells it from all others."""

    label: str
    values: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()
    key: str = ""

    @property
    def identity(self) -> str:
        """What a study remembers it by."""
        return self.key or self.label


def bring(study: optuna.Study, sweep: Sweep, sources: Sequence[str]) -> list[str]:
    """Add what the sources know to a study, each thing once; return a line per source on what came of it.

    Raises:
        UsageError: if a source cannot be read, or a point does not fit the space; then nothing is added.
    """
    if sources and (sweep.method == "grid" or not sweep.space.parameters):
        raise UsageError(f"{sweep.path}: --prior is for a search of parameters; a grid tries every combination once.")
    found = {source: list(read_prior(source, sweep)) for source in sources}
    own = f"{study.user_attrs.get(study_schema.STUDY_ID)}/"
    for source, all_known in found.items():
        if any(known.identity.startswith(own) for known in all_known):
            raise UsageError(f"--prior {source} is this study itself, which goes on by itself: leave it out, or give another.")
    there = identities(study)
    return [f"{source}: {add(study, sweep, all_known, there)}" for source, all_known in found.items()]


def identities(study: optuna.Study) -> set[str | None]:
    """Return what a study has been brought already."""
    return {
        trial.user_attrs.get(key) for trial in study.get_trials(deepcopy=False) for key in (study_schema.PRIOR, study_schema.POINT)
    }


def add(study: optuna.Study, sweep: Sweep, all_known: Sequence[Known], there: set[str | None]) -> str:
    """Add what is new to the study; return in words what came of it."""
    counts: dict[str, int] = {}
    for known in all_known:
        values, outside = _objective_values(known, sweep), sweep.space.outside(known.values)
        if known.identity in there:
            came = "known already"
        elif not known.rows:
            enqueue(study, sweep, known.values, {study_schema.POINT: known.identity})
            came = "to be tried first"
        elif values is None:
            came = f"left out, without {' and '.join(sweep.goals)}"
        elif outside:
            came = f"left out, with {', '.join(outside)} missing or outside the space"
        elif any(math.isinf(violation) for violation in _violations(known, sweep).values()):
            came = "left out, as a constraint could not be evaluated"
        else:
            _tell(study, sweep, known, sweep.space.encode(known.values), values)
            came = "learnt from"
        there.add(known.identity)
        counts[came] = counts.get(came, 0) + 1
    return told(counts)


def told(counts: Mapping[str, int]) -> str:
    """Return counts in words, without those that are 0."""
    return ", ".join(f"{count} {came}" for came, count in counts.items() if count)


def _tell(study: optuna.Study, sweep: Sweep, known: Known, encoded: Mapping[str, Any], values: Sequence[float]) -> None:
    space = sweep.space.distributions
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.COMPLETE,
            params=dict(encoded),
            distributions={name: space[name] for name in encoded},
            values=list(values),
            constraints=_violations(known, sweep),
            user_attrs={study_schema.PRIOR: known.identity},
        )
    )


def _counted(known: Known, sweep: Sweep) -> dict[str, Any] | None:
    return counted_row(known.rows, sweep.goals, ours=sweep.classifier is not None)


def _objective_values(known: Known, sweep: Sweep) -> list[float] | None:
    row = _counted(known, sweep)
    return None if row is None else [row[name] for name in sweep.goals]


def _violations(known: Known, sweep: Sweep) -> dict[str, float]:
    return sweep.violations(known.values, _counted(known, sweep) or {})


def check_point(known: Known, sweep: Sweep) -> None:
    """Refuse a point that does not fit the space.

    Raises:
        UsageError: naming the first parameter that does not.
    """
    space = sweep.space
    fixed = dict(_leaves(space.fixed, space.parameters))
    for name, value in _leaves(known.values, space.parameters):
        if name in space.parameters:
            if not space.parameters[name].contains(value):
                raise UsageError(f"{known.label}: {name} must lie in the space of {sweep.path}. Got {value!r}.")
        elif name not in fixed:
            near = did_you_mean(name, space.parameters) or f"; there are {', '.join(space.parameters)}."
            raise UsageError(f"{known.label}: {name} is not a searched parameter of {sweep.path}{near}")
        elif fixed[name] != value:
            raise UsageError(f"{known.label}: {name} is fixed at {fixed[name]!r} in {sweep.path}. Got {value!r}: leave it out.")


def _leaves(values: Mapping[str, Any], whole: Collection[str], outer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values by their full names, with points; those of `whole` as they are."""
    for key, value in values.items():
        name = f"{outer}{key}"
        if isinstance(value, Mapping) and name not in whole:
            yield from _leaves(value, whole, f"{name}.")
        else:
            yield name, value


def read_prior(source: str, sweep: Sweep) -> Iterator[Known]:
    """Yield what a source knows.

    Raises:
        UsageError: if it is of no known form, or holds nothing.
    """
    path = Path(source)
    if "://" in source or (path / "study.db").is_file() or path.suffix == ".db":
        yield from _of_study(source)
    elif path.is_dir() or path.suffix == ".wandb":
        yield from _of_run_files(path, sweep)
    elif path.suffix in {".yaml", ".yml", ".json", ".csv"}:
        yield from _of_points(path, sweep)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+/[\w.-]+", source):
        config, rows = online.prior_run(source)
        yield Known(source, config, rows)
    else:
        raise UsageError(f"--prior takes {FORMS}. Got {source!r}.")


def _of_study(source: str) -> Iterator[Known]:
    url, name = database(source)
    with readable_errors(url, writing=False):
        storage = open_storage(url, writing=False)
        names = sorted(optuna.get_all_study_names(storage))
        if not names or name not in (None, *names):
            raise UsageError(f"{source} holds no study{f' {name!r}' if name else ''}; there are {', '.join(names) or 'none'}.")
        studies = [optuna.load_study(study_name=name, storage=storage) for name in ([name] if name else names)]
        found = [known for study in studies for known in _of_trials(study)]
        close(storage)
    if not found:
        raise UsageError(f"{source} holds no finished trial of ours yet: run its sweep first.")
    yield from found


def _of_trials(study: optuna.Study) -> Iterator[Known]:
    for trial in finished(study.get_trials(deepcopy=False)):
        config = trial.user_attrs.get(study_schema.RUN, {}).get("config")
        if config is not None and trial.state == TrialState.COMPLETE:
            label = f"{study.user_attrs.get(study_schema.STUDY_ID)}/{trial.number}"
            yield Known(label, config, study_schema.epochs_of(trial.user_attrs))


def _of_run_files(path: Path, sweep: Sweep) -> Iterator[Known]:
    files = sorted(path.rglob("run-*.wandb")) if path.is_dir() else [path]
    of_run: dict[tuple[Path, str], list[Path]] = {}  # several files of one id in one folder are one run
    for file in files:
        of_run.setdefault((file.parent.parent, file.name), []).append(file)
    try:
        merged = (merge_run_files(filter(None, map(read_run, same))) for same in of_run.values())
        runs = [run for found in merged for run in found if run.state == "finished"]
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give {FORMS}.") from None
    if not runs:
        raise UsageError(f"{path} holds no finished run of W&B's: give {FORMS}.")
    for run in runs:
        rows = with_latest((numbers(row) for row in run.rows), sweep.goals)
        yield Known(run.run_id, run.config, with_summary(rows, summary_numbers(run.summary), sweep.goals))


def _of_points(path: Path, sweep: Sweep) -> Iterator[Known]:
    points = _points(path)
    if not points:
        raise UsageError(f"{path} holds no point: give a list of mappings of parameters to values.")
    for index, point in enumerate(points):
        label = f"{path.name}:{index + 1}"
        if not isinstance(point, Mapping):
            raise UsageError(f"{label}: a point must be a mapping of parameters to values. Got {point!r}.")
        read = {str(name): _number(value) for name, value in point.items()}
        given = {name: read[name] for name in sweep.goals if isinstance(read.get(name), int | float)}
        metrics = numbers({name: value for name, value in given.items() if not isinstance(value, bool)})
        values = nested({name: value for name, value in read.items() if name not in sweep.goals})
        text = json.dumps(read, sort_keys=True, default=str)  # a point that was changed in its file is another one
        known = Known(
            label,
            values,
            [metrics] if len(metrics) == len(sweep.goals) else [],
            key=f"{label} {hashlib.sha256(text.encode()).hexdigest()[:8]}",
        )
        if not known.rows:
            check_point(known, sweep)
        yield known


def _number(value: Any) -> Any:
    """Return 1e-3, which YAML takes for a text, as the number that is meant."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value) else value


def _points(path: Path) -> list[Any]:
    import yaml

    try:
        if path.suffix == ".csv":
            import csv

            with path.open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file)
                return [
                    {name: _cell(text, f"{path}:{rows.line_num}: {name}") for name, text in row.items() if text} for row in rows
                ]
        points = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give {FORMS}.") from None
    except yaml.YAMLError as error:
        raise UsageError(not_yaml(path, error)) from None
    except (UnicodeDecodeError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read ({' '.join(str(error).split())}): give {FORMS}.") from None
    if not isinstance(points, list):
        raise UsageError(f"{path} must hold a list of points, each a mapping of parameters to values. Got {type(points).__name__}.")
    return points


def _cell(text: str, place: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"{place} must be a number, or a text or list as in YAML. Got {text!r}.") from None


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nest `a.b` as {a: {b: …}}."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        place = nested
        *outer, last = name.split(".")
        for step in outer:
            place = place.setdefault(step, {})
        place[last] = value
    return nested
