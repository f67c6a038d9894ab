"""The Optuna study of a sweep: opened or created, its sampler, the trials that wait in it from the start."""

from __future__ import annotations

import json
import secrets
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from search.sweep import Sweep
from trainers import records
from trainers.data import DataOptions
from trainers.errors import UsageError


def open_study(sweep: Sweep, storage: str, name: str, *, seed: int, quiet: bool = True) -> optuna.Study:
    """Open the study `name`, or create it with its first trials waiting.

    The default configuration waits as the first trial of a Bayesian or random sweep; a grid waits as a whole.

    Raises:
        UsageError: if the study was started from another definition or seed.
    """
    if quiet:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage, study_name=name, direction=optuna.study.StudyDirection[sweep.goal.upper()], load_if_exists=True
    )
    expected = {
        records.SWEEP: comparable(sweep.definition),
        records.VALUES: {**DataOptions().to_dict(), **sweep.space.fixed},
        records.SEED: seed,
    }
    known = study.user_attrs
    if records.STUDY_ID not in known:
        for key, value in expected.items():
            study.set_user_attr(key, value)
        study.set_user_attr(records.CLASSIFIER, sweep.classifier.name)
        study.set_user_attr(records.GOALS, {sweep.metric: sweep.goal})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([sweep.metric])  # optuna-dashboard shows it
        study.set_user_attr(records.STUDY_ID, secrets.token_hex(8))  # last: it says that the others stand
        known = study.user_attrs
    for key, value in expected.items():
        if json.loads(json.dumps(value)) != known[key]:
            changed = _difference(known[key], value)
            other = {records.SWEEP: "another definition", records.VALUES: "other values"}.get(key, f"another {key}")
            raise UsageError(
                f"{sweep.path}: the study {name} was started with {other}{changed}; "
                "restore it to go on, or start a new study with --name."
            )
    _enqueue_first_trials(study, sweep)
    return study


def comparable(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a sweep file that must not change while a study runs."""
    return {key: definition[key] for key in ("program", "method", "metric", "parameters", "early_terminate") if key in definition}


def _difference(before: Any, now: Any) -> str:
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return f" ({before!r}, now {now!r})"
    for key in [*before, *now]:
        if before.get(key) != now.get(key):
            if isinstance(before.get(key), Mapping) and isinstance(now.get(key), Mapping):
                return _difference(before[key], now[key])
            return f" ({key} was {before.get(key, 'not set')!r}, is {now.get(key, 'not set')!r})"
    return ""


def _enqueue_first_trials(study: optuna.Study, sweep: Sweep) -> None:
    trials = study.get_trials(deepcopy=False)
    if sweep.method == "grid":
        there = {trial.user_attrs.get(records.GRID_INDEX) for trial in trials}
        for index, combination in enumerate(sweep.space.grid()):
            if index not in there:
                study.enqueue_trial(combination, user_attrs={records.GRID_INDEX: index})
        return
    defaults = sweep.default_values()
    if not trials and not sweep.space.outside(defaults):
        study.enqueue_trial(sweep.space.encode(defaults), user_attrs={records.BASELINE: True})


def sampler_for(sweep: Sweep, seed: int, slot: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one suggestion, seeded by the sweep's seed and the suggestion's place.

    So a sweep that was stopped and goes on suggests what it would have suggested without the stop.
    """
    drawn = int(np.random.SeedSequence([seed, slot]).generate_state(1)[0])
    if sweep.method == "bayes":
        return optuna.samplers.TPESampler(seed=drawn)
    return optuna.samplers.RandomSampler(seed=drawn)


def finished(trials: list[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
    """Return the trials that count: complete, pruned or failed by themselves; not those that were interrupted."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return [trial for trial in trials if trial.state in ended and trial.user_attrs.get(records.CAUSE) != records.INTERRUPTED]
