"""The person's own Optuna code, offline: a study factory with its terminator, and a define-by-run space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from search import training
from search.offline import run
from search.suggest import SlotSampler
from search.sweep import read_sweep
from tests.samples import small_data
from trainers import records
from trainers.errors import UsageError

SOURCE = """
import optuna

def study(sweep):
    assert sweep.config["metric"]["name"] == "f1"
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=4)), lambda s: len(s.trials) >= 4

def backwards(sweep):
    return optuna.create_study(direction="minimize")

def space(trial):
    values = {"learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True)}
    values["optimizer"] = trial.suggest_categorical("optimizer", ["sgd", "adam"])
    if values["optimizer"] == "sgd":
        values["momentum"] = trial.suggest_float("momentum", 0.0, 0.9)
    return values

def nothing(trial):
    return trial.suggest_float("learning_rate", 0.01, 0.1)
"""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "load_data", lambda options, **_: small_data())


def searched(folder: Path, trials: int, parameters: dict[str, Any], **functions: str) -> optuna.Study:
    (folder / "source.py").write_text(SOURCE)
    definition = {
        "program": "trainers/softmax.py",
        "method": "custom",
        "metric": {"name": "f1", "goal": "maximize"},
        "scheduler": {"engine": "optuna", "source": "source.py", **functions},
        "parameters": parameters,
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(definition))
    return run(read_sweep(path), trials=trials, name="s", mode="disabled", device="cpu", runs=folder / "runs")


RANGE = {"epochs": {"value": 1}, "learning_rate": {"min": 0.1, "max": 0.5}}


def test_the_persons_own_sampler_suggests_and_the_terminator_ends_it(tmp_path: Path) -> None:
    study = searched(tmp_path, 99, RANGE, optimizer="study")
    assert len(study.trials) == 4
    assert isinstance(study.sampler, SlotSampler)
    assert isinstance(study.sampler.own, optuna.samplers.RandomSampler)
    assert len(searched(tmp_path, 99, RANGE, optimizer="study").trials) == 4


def test_a_study_of_another_direction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"backwards must make a study with directions=\['maximize'\]\. Got \['minimize'\]"):
        searched(tmp_path, 2, RANGE, optimizer="backwards")


def test_the_persons_own_space_is_drawn_run_by_run_and_gone_on_with(tmp_path: Path) -> None:
    fixed = {"epochs": {"value": 1}}
    searched(tmp_path, 5, fixed, search_space="space")
    trials = searched(tmp_path, 12, fixed, search_space="space").get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 12
    assert {len(trial.params) for trial in trials} == {2, 3}
    for trial in trials:
        config = trial.user_attrs[records.RUN]["config"]
        assert config["epochs"] == 1
        assert {name: config[name] for name in trial.params} == trial.params


def test_a_space_that_returns_no_mapping_is_the_cause_of_failure(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing must return a mapping of parameters to values"):
        searched(tmp_path, 5, {"epochs": {"value": 1}}, search_space="nothing")
