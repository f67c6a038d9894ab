"""The Optuna study of a sweep: opened or created once, however many processes do so, with its sampler and first trials."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import sys
import time
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from paretune.core.best_epoch import best_row
from paretune.core.errors import UsageError, excerpt
from paretune.core.run_order import order_key
from paretune.data.dataset import Data
from paretune.data.options import DataOptions
from paretune.runs import study_schema
from paretune.runs.study_storage import open_storage, quiet_optuna
from paretune.runs.whole_runs import summary_values
from paretune.search.sampling.slot_sampler import SlotSampler
from paretune.search.spec.sweep import Sweep

PATIENCE = 20.0  # seconds that the others wait for the process that creates a study
FIXED = ("program", "command", "method", "metric", "metrics", "parameters", "early_terminate", "scheduler", "controller")
UNTIMED = ("stop", "trial_timeout")  # of controller.search


def open_study(sweep: Sweep, storage: str | BaseStorage, name: str, *, seed: int) -> optuna.Study:
    """Open the study `name`, or create it with its first trial waiting.

    The default configuration waits as the first trial of a Bayesian or random sweep. `storage` is a URL, or one that is open
    already, which many studies then share.

    Raises:
        UsageError: if the study was started from another definition or seed.
    """
    quiet_optuna()
    store = open_storage(storage) if isinstance(storage, str) else storage
    directions = [optuna.study.StudyDirection[objective.goal.upper()] for objective in sweep.objectives]
    try:
        study = optuna.create_study(storage=store, study_name=name, directions=directions)
        mine = True
    except DuplicatedStudyError:
        study = optuna.load_study(storage=store, study_name=name)
        mine = False
    study.sampler = SlotSampler(sweep, seed)
    study.pruner = optuna.pruners.NopPruner()  # early_terminate is ours; Optuna's default would prune by the median
    expected = {
        study_schema.SWEEP: comparable(sweep.definition),
        study_schema.VALUES: {**DataOptions().to_dict(), **sweep.space.fixed},
        study_schema.SEED: seed,
    }
    source = None if sweep.classifier is None else sweep.classifier.source
    if source is not None:
        expected[study_schema.PROGRAM] = source.sha256
    if not (mine or _created(study)):
        mine = True  # who began to create it has died
    if mine:
        _create(study, sweep, expected)
        return study
    _compare(study, sweep, expected)
    if study_schema.STUDY_ID not in study.user_attrs:
        study.set_user_attr(study_schema.STUDY_ID, secrets.token_hex(8))
    return study


def check_same_data(study: optuna.Study, options: DataOptions, data: Data) -> None:
    """Refuse data other than those that the study's trials have been trained on, and keep which they are.

    Raises:
        UsageError: that names what has changed.
    """
    key = study_schema.DATA + hashlib.sha256(json.dumps(options.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
    now: dict[str, Any] = {"fingerprints": dict(data.fingerprints), "sizes": data.sizes, "class_names": list(data.class_names)}
    known = study.user_attrs.get(key)
    if known is None:
        known = _data_of_trials(study, options) or now
        study.set_user_attr(key, known)
    changed = [
        f"{part} {known['sizes'].get(part, 0):,} -> {data.sizes.get(part, 0):,} images"
        if known["sizes"].get(part) != data.sizes.get(part)
        else f"images or labels of {part}"
        for part, fingerprint in known["fingerprints"].items()
        if data.fingerprints.get(part) != fingerprint
    ]
    if known["class_names"] not in (None, now["class_names"]):
        changed.insert(0, f"classes {', '.join(known['class_names'])} -> {', '.join(now['class_names'])}")
    if changed:
        raise UsageError(
            f"the study {study.study_name} must go on with the data that its trials were trained on. {data.name} has changed since "
            f"({'; '.join(changed)}): restore the files, or start a new study with --name."
        )


def _data_of_trials(study: optuna.Study, options: DataOptions) -> dict[str, Any] | None:
    """Return the data of a study that an older version began, as its trials' runs say; None where none of them does."""
    for trial in study.get_trials(deepcopy=False):
        config = trial.user_attrs.get(study_schema.RUN, {}).get("config", {})
        origin = config.get("provenance") or {}
        same = {name: config[name] for name in DataOptions.model_fields if name in config}
        if "fingerprints" in origin and "data" in config and DataOptions.from_dict(same) == options:
            sizes = {part: origin[f"n_{part}"] for part in ("train", "holdout", "test") if f"n_{part}" in origin}
            return {"fingerprints": origin["fingerprints"], "sizes": sizes, "class_names": origin.get("class_names")}
    return None


def _created(study: optuna.Study) -> bool:
    """Wait until the process that creates a study has done so; return whether it has, as ended trials show as well."""
    begin = time.monotonic()
    while study_schema.STUDY_ID not in study.user_attrs:
        if any(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)):
            return True
        if time.monotonic() - begin > PATIENCE:
            return False
        time.sleep(0.1)
    return True


def _create(study: optuna.Study, sweep: Sweep, expected: Mapping[str, Any]) -> None:
    for key, value in expected.items():
        study.set_user_attr(key, value)
    study.set_user_attr(study_schema.CLASSIFIER, sweep.classifier.name if sweep.classifier is not None else sweep.program)
    study.set_user_attr(study_schema.GOALS, sweep.goals)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(sweep.goals))  # optuna-dashboard shows them
    defaults = sweep.default_values()
    wanted = sweep.method != "grid" and sweep.space.parameters and defaults and not sweep.space.outside(defaults)
    if wanted and not study.get_trials(deepcopy=False):
        enqueue(study, sweep, defaults, {study_schema.BASELINE: True})
    study.set_user_attr(study_schema.STUDY_ID, secrets.token_hex(8))  # last: it says that the rest stands


def enqueue(study: optuna.Study, sweep: Sweep, values: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Let a configuration of real, nested values wait, to be trained with exactly them."""
    inexact = sweep.space.inexact(values)
    exact = {study_schema.EXACT: inexact} if inexact else {}
    study.enqueue_trial(sweep.space.encode(values), user_attrs={**attributes, **exact})


def _compare(study: optuna.Study, sweep: Sweep, expected: Mapping[str, Any]) -> None:
    known = dict(study.user_attrs)
    if study_schema.VALUES in known:
        known[study_schema.VALUES] = {
            **DataOptions().to_dict(),
            **known[study_schema.VALUES],
        }  # an option that is newer than the study
    unknown = [key for key in expected if key not in known]
    if unknown:
        print(f"note: with which {' and '.join(unknown)} {study.study_name} was started is unknown: as now", file=sys.stderr)
    for key, value in expected.items():
        if key in known and json.loads(json.dumps(value, default=str)) != known[key]:
            changed = _difference(known[key], value)
            other = {study_schema.SWEEP: "another definition", study_schema.VALUES: "other values"}.get(key, f"another {key}")
            raise UsageError(
                f"{sweep.path}: the study {study.study_name} was started with {other}{changed}; "
                "restore it to go on, or start a new study with --name."
            )


def comparable(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a sweep file that must not change while a study runs; when it stops may."""
    kept = {key: definition[key] for key in FIXED if key in definition}
    search = (kept.get("controller") or {}).get("search")
    kept.pop("controller", None)
    if search:
        kept["search"] = {key: value for key, value in search.items() if key not in UNTIMED}
    for key in ("metric", "metrics"):
        if key in kept:
            metrics = kept[key] if key == "metrics" else [kept[key]]
            plain = [{name: value for name, value in metric.items() if name != "target"} for metric in metrics]
            kept[key] = plain if key == "metrics" else plain[0]
    return json.loads(json.dumps(kept, default=str))


def _difference(before: Any, now: Any) -> str:
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return f" ({before!r}, now {now!r})"
    for key in [*before, *now]:
        if before.get(key) != now.get(key):
            if isinstance(before.get(key), Mapping) and isinstance(now.get(key), Mapping):
                return _difference(before[key], now[key])
            return f" ({key} was {before.get(key, 'not set')!r}, is {now.get(key, 'not set')!r})"
    return ""


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count: complete, pruned or failed by themselves.

    Not those that were interrupted or too many, nor what was taken over from elsewhere.
    """
    return [trial for trial in trials if _counts(trial)]


def _counts(trial: FrozenTrial) -> bool:
    if study_schema.PRIOR in trial.user_attrs or not trial.state.is_finished():
        return False
    return trial.state != TrialState.FAIL or trial.user_attrs.get(study_schema.CAUSE) not in study_schema.UNCOUNTED


def fail_trial(study: optuna.Study, trial: FrozenTrial, cause: str) -> FrozenTrial | None:
    """Tell a study that a trial failed, and why; None where it had ended already."""
    try:
        study._storage.set_trial_user_attr(trial._trial_id, study_schema.CAUSE, cause)
        return study.tell(trial.number, state=TrialState.FAIL)
    except (UpdateFinishedTrialError, ValueError):
        return None


def without_retry(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the interrupted trials for which nobody has asked a retry: the process that gave them back died before it could."""
    retried = {trial.user_attrs.get(study_schema.RETRY_OF) for trial in trials}
    return [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL
        and trial.user_attrs.get(study_schema.CAUSE) == study_schema.INTERRUPTED
        and trial.number not in retried
    ]


def enqueue_retry(study: optuna.Study, trial: FrozenTrial, *, died: bool) -> None:
    """Let an interrupted trial be tried again with its values; those that it had not drawn yet are drawn as it would have.

    Args:
        died: whether its worker did, which counts as an attempt.
    """
    kept = {key: value for key, value in trial.user_attrs.items() if key in study_schema.GIVEN}
    tried = {
        study_schema.RETRY_OF: trial.number,
        study_schema.ATTEMPT: trial.user_attrs.get(study_schema.ATTEMPT, 0) + died,
        study_schema.ORIGIN: trial.user_attrs.get(study_schema.ORIGIN, trial.number),
    }
    drawn = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    study.enqueue_trial(drawn, user_attrs={**kept, **tried})


def feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps the constraints of its sweep."""
    return all(value <= 0 for value in trial.constraints.values()) if trial.constraints else True


def counted_row(rows: Iterable[Mapping[str, Any]], goals: Mapping[str, str], *, ours: bool) -> dict[str, Any] | None:
    """Return the row that gives a trial its values; None where it has no finite one of every objective.

    Args:
        ours: whether a trainer of ours wrote them: then the row that is best by the first objective counts, of those whose
            objectives are all finite. Of other programs the latest counts, as in W&B's summary, with the objectives that the
            program decided there (`study_schema.SUMMARY`).
    """

    def whole(row: Mapping[str, Any]) -> bool:
        return all(math.isfinite(row.get(name, math.nan)) for name in goals)

    rows = list(rows)
    if ours:
        finite = [row for row in rows if whole(row)]
        return dict(best_row(finite, *next(iter(goals.items()))) or finite[-1]) if finite else None
    last = last_row(rows, goals)
    return last if whole(last) else None


def why_no_value(rows: Sequence[Mapping[str, Any]], goals: Mapping[str, str], *, ours: bool) -> str:
    """Return why no row gives a trial its values, for rows of which `counted_row` returns none."""
    if not rows:
        return "it logged no epoch"
    last = last_row(rows, goals)
    for name in goals:
        if not any(math.isfinite(row.get(name, math.nan)) for row in rows):
            return f"{name} was never a finite number"
        if not ours and not math.isfinite(last.get(name, math.nan)):
            return f"{name} was no finite number in the end"
    return f"{' and '.join(goals)} were never finite numbers at the same time"


def storage_errors() -> tuple[type[Exception], ...]:
    """Return what a study's storage raises where it does not answer."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    return (StorageInternalError, SQLAlchemyError)


def cause_of(error: BaseException) -> str:
    """Return why a trial fails whose training ends with an error; INTERRUPTED where it is no fault of the trial's."""
    if isinstance(error, UsageError):  # it took too long, or this configuration cannot be built: the sentence is the result
        return str(error)
    if not isinstance(error, Exception) or isinstance(error, (UpdateFinishedTrialError, *storage_errors())):
        return study_schema.INTERRUPTED
    return f"{type(error).__name__}: {excerpt(str(error))}"


def last_row(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """Return the last of a program's rows, with the metrics that the program decided in its summary; empty without rows."""
    marks = {name: f"{study_schema.SUMMARY}{name}" for name in names}
    decided = {name: row[mark] for row in rows for name, mark in marks.items() if mark in row}
    return {**rows[-1], **decided} if rows else {}


def with_latest(rows: Iterable[Mapping[str, float]], names: Collection[str]) -> list[dict[str, float]]:
    """Return the rows that hold any of the names, each with the latest values of all of them as well.

    Programs may log their objectives in different rows; W&B takes each from the summary, which holds the last value.
    """
    found, latest = [], dict[str, float]()
    for row in rows:
        new = {name: row[name] for name in names if name in row}
        if new:
            latest |= new
            found.append({**row, **latest})
    return found


def with_summary(
    rows: Sequence[dict[str, float]], summary: Mapping[str, float], goals: Mapping[str, str], *, whole: bool = True
) -> list[dict[str, float]]:
    """Return rows of `with_latest`, the last one with the objectives that the program decided in its summary.

    A run that logged no objective has one row, its summary.

    Args:
        whole: whether the run ended in order, so that rows and summary are of the same time.
    """
    latest = rows[-1] if rows else {}
    decided = summary_values(summary, latest, goals)
    if not whole:
        decided = {name: value for name, value in decided.items() if name not in latest}
    if not decided:
        return list(rows)
    unlogged = {name: value for name, value in decided.items() if name not in latest}
    marks = {f"{study_schema.SUMMARY}{name}": value for name, value in decided.items() if rows}
    return [*rows[:-1], {**(latest or summary), **unlogged, **marks}]


def best_trials(trials: Sequence[FrozenTrial], goals: Mapping[str, str], count: int, *, ours: bool) -> list[FrozenTrial]:
    """Return the best complete trials by the first value, at most `count`, among those that keep the constraints.

    Equals are in the order of the analysis (`paretune.core.run_order`).
    """
    name, goal = next(iter(goals.items()))
    sign = 1.0 if goal == "minimize" else -1.0
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and feasible(trial)]
    complete.sort(key=lambda trial: sign * trial.values[0])
    last = sign * complete[:count][-1].values[0] if complete else math.inf
    contenders = [trial for trial in complete if sign * trial.values[0] <= last]
    if len(contenders) == 1:
        return contenders

    def key(trial: FrozenTrial) -> tuple[float, ...]:
        row = counted_row(study_schema.epochs_of(trial.user_attrs), {name: goal}, ours=ours) or {}
        return (*order_key(sign * trial.values[0], {**row, "created": study_schema.begun(trial)}, goals), trial.number)

    return sorted(contenders, key=key)[:count]


def best_trial(trials: Sequence[FrozenTrial], goals: Mapping[str, str], *, ours: bool) -> FrozenTrial | None:
    """Return the best of the trials as `best_trials` orders them; None without a complete one."""
    return next(iter(best_trials(trials, goals, 1, ours=ours)), None)
