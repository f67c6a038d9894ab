"""Trains one trial of a study again and compares its epochs with the record."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.models.contract import Model
from paretune.models.programs import check_program, load_program
from paretune.models.registry import MODELS, model_class
from paretune.models.run_config import NOT_GIVEN
from paretune.runs import study_schema
from paretune.search.engine.in_process import Attempt, InProcess, Training
from paretune.search.engine.in_subprocess import Command
from paretune.search.spec.search_options import Settings
from paretune.search.spec.space import Space
from paretune.search.spec.sweep import Objective, Sweep, runs_file
from paretune.search.status import goals_of

TIMES = {"seconds", "_runtime", "_timestamp"}  # differ from run to run


@contextlib.contextmanager
def folder_for(source: str, name: str, *, mode: str) -> Iterator[Path]:
    """Give the folder for the files of a run again: one beside its study, where nobody takes them for a run of the sweep.

    It stands below runs/ where the study is behind a URL; with mode `disabled` it is removed at the end.
    """
    if mode == "disabled":
        with tempfile.TemporaryDirectory(prefix=f"{name}-again-") as temporary:
            yield Path(temporary)
        return
    path = Path(source)
    folder = ROOT / "runs" / name if "://" in source else (path if path.is_dir() else path.parent).resolve()
    yield folder.with_name(f"{folder.name}-again")


def trial_of(study: optuna.Study, number: int) -> FrozenTrial:
    """Return a trial that has a configuration.

    Raises:
        UsageError: if there is none of that number, or it never began.
    """
    trials = study.get_trials(deepcopy=False)
    if study_schema.SWEEP not in study.user_attrs and not any(study_schema.RUN in trial.user_attrs for trial in trials):
        raise UsageError(f"{study.study_name} is no study of a sweep of ours, so its trials cannot be run from here.")
    if not trials:
        raise UsageError(f"{study.study_name} has no trial yet. Got --trial {number}.")
    if not 0 <= number < len(trials):
        raise UsageError(f"{study.study_name} has the trials 0 to {len(trials) - 1}. Got --trial {number}.")
    known = trials[number].user_attrs
    if "config" not in known.get(study_schema.RUN, {}) and study_schema.epochs_of(known):
        raise UsageError(f"the configuration of trial {number} of {study.study_name} is unknown: choose another.")
    if "config" not in known.get(study_schema.RUN, {}):
        raise UsageError(f"trial {number} of {study.study_name} never began ({trials[number].state.name.lower()}): choose another.")
    return trials[number]


def again(study: optuna.Study, trial: FrozenTrial, folder: Path, *, device: str, mode: str) -> list[str]:
    """Train a trial again, printing its epochs; return the epochs that differ from the record, or are missing.

    Raises:
        UsageError: if it does not train.
    """
    run = trial.user_attrs[study_schema.RUN]
    recorded = {row["epoch"]: row for row in study_schema.epochs_of(trial.user_attrs)}
    training, values = _training(study, trial, device=device, mode=mode)
    attempt = Attempt(
        run_id=f"{run.get('id') or f'{study.study_name}-{trial.number}'}-again",
        name=f"{study.study_name}-{trial.number}-again",
        group=study.study_name,
        tags=["again"],
        folder=folder,
        started=lambda config, path: None,
    )
    differing, seen = [], set[int]()
    pruned = trial.user_attrs.get(study_schema.PRUNED)
    epochs = training.epochs(attempt, values)
    try:
        batch = next(epochs)
        while True:
            for epoch in batch.epochs:
                if epoch.number in seen or (pruned is not None and not recorded.keys() >= {epoch.number}):
                    continue  # a program may have gone on by the time that its epochs can be read
                seen.add(epoch.number)
                row = recorded.get(epoch.number, {})
                same = _same(row, epoch.metrics)
                differing += [] if same else [str(epoch.number)]
                print(f"epoch {epoch.number}{'' if same else ' (differs)'}  {_shown(epoch.metrics)}", flush=True)
                if row and not same:
                    print(f"  recorded: {_shown({name: row.get(name, math.nan) for name in epoch.metrics})}", flush=True)
            batch = epochs.send(pruned if pruned in seen else None)
    except StopIteration:
        return differing + [str(number) for number in recorded if number not in seen]
    except UsageError as error:
        raise UsageError(f"trial {trial.number} did not run again: {error}") from None


def _classifier(study: optuna.Study, name: str, program: str) -> type[Model] | None:
    """Return the model that a study's trials trained in process; None of a program that was started for each."""
    known = study.user_attrs.get(study_schema.PROGRAM)
    if known is None:
        return model_class(name) if name in MODELS else None
    if not Path(program).is_file():
        raise UsageError(f"program {program!r} is no file seen from {os.getcwd()}: start this where the sweep was started.")
    kind = load_program(program)
    check_program(name, {"file": program, "sha256": known}, f"the study {study.study_name}")
    return kind


def _training(study: optuna.Study, trial: FrozenTrial, *, device: str, mode: str) -> tuple[Training, dict[str, Any]]:
    """Return what trains as the study did, and the values of a trial."""
    definition, config = study.user_attrs.get(study_schema.SWEEP, {}), trial.user_attrs[study_schema.RUN]["config"]
    objectives = tuple(Objective(name, goal) for name, goal in goals_of(study).items())
    name = study.user_attrs.get(study_schema.CLASSIFIER) or config.get("classifier") or definition.get("program", "")
    values = {key: value for key, value in config.items() if key not in NOT_GIVEN}
    sweep = Sweep(
        path=Path(study.study_name),
        name=study.study_name,
        program=definition.get("program", ""),
        command=tuple(definition.get("command") or ("${env}", "${interpreter}", "${program}", "${args}")),
        classifier=_classifier(study, name, definition.get("program", "")),
        method="random",
        objectives=objectives,
        space=Space(),
        settings=Settings(repeats=config.get("repeats", 1), over=config.get("repeats_over", "seeds")),
    )
    if sweep.classifier is None:
        if sweep.program and runs_file(sweep.command) and not Path(sweep.program).exists():
            raise UsageError(
                f"program {sweep.program!r} is no file seen from {os.getcwd()}: start this where the sweep was started."
            )
        given = study_schema.given_names(study.user_attrs, trial.params)
        return Command(sweep, "offline" if mode == "disabled" else mode), study_schema.parted(config, given)[0]
    return InProcess(sweep, mode, device), values


def _shown(metrics: Mapping[str, float]) -> str:
    shown = (name for name in metrics if name not in TIMES and not name.startswith(study_schema.SUMMARY))
    return "  ".join(f"{name} {metrics[name]:.6f}" for name in shown)


def _same(recorded: Mapping[str, Any], metrics: Mapping[str, float]) -> bool:
    names = set(metrics) - TIMES
    return bool(recorded) and all(
        math.isclose(recorded.get(name, math.nan), metrics[name], rel_tol=1e-6, abs_tol=1e-9)
        or (math.isnan(recorded.get(name, math.nan)) and math.isnan(metrics[name]))
        for name in names
    )
