"""Which trial may be run again, where its files go, and what counts as the same epoch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.runs import study_schema
from paretune.search import repetition
from paretune.search.repetition import folder_for, trial_of

NAN = math.nan


def study_of(*runs: dict[str, Any], sweep: bool = True) -> optuna.Study:
    study = optuna.create_study(study_name="s")
    if sweep:
        study.set_user_attr(study_schema.SWEEP, {"program": "trainers/softmax.py"})
    for attributes in runs:
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attributes))
    return study


BEGUN = {study_schema.RUN: {"config": {"epochs": 1}}}


def test_a_trial_with_a_configuration_is_found_by_its_number() -> None:
    study = study_of({}, BEGUN)
    assert trial_of(study, 1).number == 1
    assert trial_of(study_of(BEGUN, sweep=False), 0).number == 0


@pytest.mark.parametrize(
    ("study", "number", "sentence"),
    [
        (study_of(sweep=False), 0, "s is no study of a sweep of ours, so its trials cannot be run from here."),
        (study_of({}, sweep=False), 0, "s is no study of a sweep of ours"),
        (study_of(), 0, "s has no trial yet. Got --trial 0."),
        (study_of(BEGUN, BEGUN), 2, "s has the trials 0 to 1. Got --trial 2."),
        (study_of(BEGUN, BEGUN), -1, "s has the trials 0 to 1. Got --trial -1."),
        (study_of({}), 0, "trial 0 of s never began (fail): choose another."),
        (study_of({"epoch:1": {"f1": 0.5}}), 0, "the configuration of trial 0 of s is unknown: choose another."),
    ],
)
def test_a_trial_that_cannot_be_run_again_is_refused(study: optuna.Study, number: int, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        trial_of(study, number)
    assert str(refusal.value).startswith(sentence)


def test_the_files_of_a_run_again_stand_beside_the_study(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "study.db").touch()
    for source in (folder, folder / "study.db"):
        with folder_for(str(source), "a", mode="offline") as found:
            assert found == tmp_path / "a-again"
    with folder_for("postgresql://host/studies", "b", mode="offline") as found:
        assert found == ROOT / "runs" / "b-again"


def test_without_wandb_they_are_removed(tmp_path: Path) -> None:
    with folder_for(str(tmp_path), "a", mode="disabled") as found:
        assert found.is_dir()
        assert found.name.startswith("a-again-")
        assert tmp_path not in found.parents
    assert not found.exists()


@pytest.mark.parametrize(
    ("recorded", "metrics", "same"),
    [
        ({"f1": 0.5, "epoch": 1}, {"f1": 0.5}, True),
        ({"f1": 0.5, "seconds": 1.0}, {"f1": 0.5, "seconds": 9.0, "_runtime": 3.0}, True),
        ({"f1": 1000.0}, {"f1": 1000.0005}, True),
        ({"f1": 1000.0}, {"f1": 1000.002}, False),
        ({"f1": 0.0}, {"f1": 5e-10}, True),
        ({"f1": 0.0}, {"f1": 2e-9}, False),
        ({"f1": NAN}, {"f1": NAN}, True),
        ({"f1": NAN}, {"f1": 0.5}, False),
        ({"f1": 0.5}, {"f1": NAN}, False),
        ({"f1": 0.5}, {"f1": 0.5, "loss": 0.1}, False),
        ({"loss": 0.1, "f1": 0.5}, {"f1": 0.5}, True),
        ({}, {}, False),
    ],
)
def test_epochs_are_the_same_where_their_metrics_differ_by_rounding_alone(
    recorded: dict[str, float], metrics: dict[str, float], same: bool
) -> None:
    assert repetition._same(recorded, metrics) is same


def test_an_epoch_is_shown_without_times_and_without_what_a_summary_decided() -> None:
    shown = repetition._shown({"f1": 0.5, "seconds": 3.0, "_runtime": 1.0, f"{study_schema.SUMMARY}f1": 0.9, "loss": 1 / 3})
    assert shown == "f1 0.500000  loss 0.333333"
