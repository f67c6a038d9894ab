"""Several objectives and constraints from end to end: the front is the result, pruned trials never join it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from paretune.core.best_epoch import best_row
from paretune.runs import study_schema
from paretune.search.engine import in_process
from paretune.search.engine.study import feasible
from paretune.search.engine.worker import run
from paretune.search.spec.sweep import read_sweep
from paretune.search.status import table
from tests.samples import small_data

DEFINITION: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "bayes",
    "metrics": [{"name": "f1", "goal": "maximize"}, {"name": "train_loss", "goal": "minimize"}],
    "parameters": {
        "epochs": {"value": 4},
        "learning_rate": {"distribution": "log_uniform_values", "min": 0.0001, "max": 0.5},
        "label_smoothing": {"min": 0.0, "max": 0.4},
    },
}
HYPERBAND = {"type": "hyperband", "min_iter": 1, "eta": 3}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data())


def searched(folder: Path, trials: int, **changes: Any) -> optuna.Study:
    path = folder / "objectives.yaml"
    path.write_text(yaml.safe_dump({**DEFINITION, **changes}))
    return run(read_sweep(path), trials=trials, name="s", mode="disabled", device="cpu", runs=folder / "runs")


def test_all_values_of_a_trial_come_from_one_epoch(tmp_path: Path) -> None:
    for trial in searched(tmp_path, 4).get_trials():
        row = best_row(study_schema.epochs_of(trial.user_attrs), "f1", "maximize")
        assert row is not None
        assert trial.values == [row["f1"], row["train_loss"]]


def test_the_front_is_the_result_and_its_hypervolume_is_told(tmp_path: Path) -> None:
    study = searched(tmp_path, 8)
    text = table(study, {"f1": "maximize", "train_loss": "minimize"})
    front = {trial.number for trial in study.best_trials}
    assert f"front of {len(front)} {'trial' if len(front) == 1 else 'trials'}; hypervolume from the worst values" in text
    rows = [line.split()[0] for line in text.splitlines()[4:]]
    assert {int(number) for number in rows} - front <= {0}, "the front, and the default beside it"
    assert study.metric_names == ["f1", "train_loss"]


def test_with_several_objectives_a_pruned_trial_has_no_values_and_never_joins_the_front(tmp_path: Path) -> None:
    study = searched(tmp_path, 14, early_terminate=HYPERBAND)
    pruned = [trial for trial in study.get_trials() if trial.state == TrialState.PRUNED]
    assert pruned, "the rule stops the worst two thirds"
    assert all(trial.values is None for trial in pruned)
    assert {trial.number for trial in pruned}.isdisjoint(trial.number for trial in study.best_trials)
    assert f"{len(pruned)} pruned" in table(study, {"f1": "maximize", "train_loss": "minimize"})


def test_a_trial_that_breaks_a_constraint_does_not_compete(tmp_path: Path) -> None:
    constraints = ["label_smoothing <= 0.2", "n_parameters <= 1e6"]
    controller = {"type": "local", "search": {"constraints": constraints}}
    study = searched(tmp_path, 12, controller=controller)
    trials = study.get_trials()
    broken = [trial for trial in trials if not feasible(trial)]
    assert {trial.number for trial in broken} == {trial.number for trial in trials if trial.params["label_smoothing"] > 0.2}
    assert broken
    assert set(trials[0].constraints) == set(constraints)
    assert {trial.number for trial in broken}.isdisjoint(trial.number for trial in study.best_trials)
    text = table(study, {"f1": "maximize", "train_loss": "minimize"})
    assert f"{len(broken)} of the complete trials break a constraint and do not compete" in text


def test_the_same_seed_suggests_the_same_also_after_a_stop(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = [trial.params for trial in searched(tmp_path / "whole", 14).get_trials()]
    searched(tmp_path, 11)
    assert [trial.params for trial in searched(tmp_path, 14).get_trials()] == whole
