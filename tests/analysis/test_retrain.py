"""Retraining on a tiny sweep: on what, for how long, and how often the locked part is read."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analysis import retrain as step
from analysis.choose import choose
from analysis.history import RunRecord, load_runs, runs_table
from analysis.retrain import config_of, fit_again, retrain, to_retrain
from tests.analysis.sources import Run
from trainers import classifier_class
from trainers.base import Classifier
from trainers.data import DataOptions, load_data
from trainers.errors import UsageError
from trainers.saved import describe, load

N_LOCKED = 360  # a fifth of the 1,797 digits
N_REST = 1437


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the parts that were evaluated."""
    sizes: list[int] = []
    real = step.evaluate

    def counted(classifier: Any, samples: Any, data: Any) -> Any:
        sizes.append(len(samples))
        return real(classifier, samples, data)

    monkeypatch.setattr(step, "evaluate", counted)
    return sizes


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def chosen_of(source: Path) -> tuple[RunRecord, Any]:
    runs = load_runs(source)
    row = choose(runs_table(runs)).run
    return next(run for run in runs if run.run == row["run"]), row


def assert_same_model(ours: Classifier, theirs: Classifier) -> None:
    arrays = theirs.state()
    assert ours.state().keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(ours.state()[name], array)


def test_the_chosen_run_and_the_baseline_are_retrained_side_by_side(study_folder: Path, truth: list[Run], tmp_path: Path) -> None:
    jobs = to_retrain(load_runs(study_folder), "f1", tmp_path / "model")
    assert [(run.run, folder.name) for run, _, folder, _ in jobs] == [
        (choose(runs_table(load_runs(study_folder))).run["run"], "model"),
        (truth[0].run, "model-baseline"),
    ]
    assert jobs[1][3]["rule"] == "baseline"


def test_a_baseline_that_did_not_finish_is_not_retrained(study_folder: Path, tmp_path: Path) -> None:
    runs = load_runs(study_folder)
    next(run for run in runs if "baseline" in run.tags).state = "pruned"
    assert len(to_retrain(runs, "f1", tmp_path / "model")) == 1


def test_a_retrained_model_says_where_it_came_from(models: SimpleNamespace, study_folder: Path) -> None:
    run, row = chosen_of(study_folder)
    kept = describe(models.folder / "tiny")
    choice = choose(runs_table(load_runs(study_folder)), records=load_runs(study_folder))
    assert (kept["run"], kept["n_epochs"]) == (run.run, row["best_epoch"])
    assert kept["choice"] == choice.to_dict()
    assert kept["choice"]["rule"] == "f1"
    assert kept["choice"]["candidates"]
    assert "highest f1" in kept["choice"]["reason"]
    assert kept["provenance"]["fingerprints"]["test"] == run.config["provenance"]["fingerprints"]["test"]
    assert "holdout" not in kept["provenance"]["fingerprints"]


@pytest.mark.parametrize("name", ["tiny", "tiny-baseline", "tiny-svm"])
def test_a_retrained_model_was_scored_on_the_locked_part_after_training_on_all_else(name: str, models: SimpleNamespace) -> None:
    metrics = metrics_of(models.folder / name)
    assert metrics["split"] == "test"
    assert metrics["locked_part_read"]
    assert metrics["n_train"] == N_REST
    assert metrics["test"]["n_samples"] == np.sum(metrics["test"]["confusion"]) == N_LOCKED
    assert metrics["holdout"]["f1"] != metrics["test"]["f1"]


@pytest.mark.parametrize("name", ["tiny", "tiny-svm"])
def test_the_scores_beside_a_model_are_those_of_the_saved_model(name: str, models: SimpleNamespace) -> None:
    locked = load_data(DataOptions(holdout=0.0)).test
    labels = load(models.folder / name, device="cpu").predict(locked.x)
    assert metrics_of(models.folder / name)["test"]["accuracy"] == np.mean(labels == locked.y.numpy())


def test_the_retrained_model_is_the_one_that_a_person_trains_by_hand(models: SimpleNamespace, study_folder: Path) -> None:
    run, row = chosen_of(study_folder)
    kind = classifier_class("softmax")
    values = {key: value for key, value in run.config.items() if key in kind.Config.model_fields}
    by_hand = kind(kind.Config.from_dict(values), device="cpu")
    for epoch in by_hand.fit_epochs(load_data(DataOptions(holdout=0.0))):
        if epoch.number == row["best_epoch"]:
            break
    assert_same_model(load(models.folder / "tiny", device="cpu"), by_hand)


@pytest.mark.parametrize("n_epochs", [1, 2])
def test_the_training_ends_at_the_best_epoch(n_epochs: int, study_folder: Path, tmp_path: Path) -> None:
    run, row = chosen_of(study_folder)
    row = row.copy()
    row["best_epoch"] = float(n_epochs)
    retrain(run, row, tmp_path / "model", choice={}, device="cpu")
    kind = classifier_class("softmax")
    by_hand = kind(load(tmp_path / "model", device="cpu").config, device="cpu")
    epochs = by_hand.fit_epochs(load_data(DataOptions(holdout=0.0)))
    for _ in range(n_epochs):
        next(epochs)
    assert_same_model(load(tmp_path / "model", device="cpu"), by_hand)
    assert describe(tmp_path / "model")["n_epochs"] == n_epochs
    assert describe(tmp_path / "model")["config"]["epochs"] == 3  # the schedule of the run stays its own


def test_the_locked_part_is_read_once_and_a_model_that_stands_is_kept(
    study_folder: Path, tmp_path: Path, evaluations: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(study_folder), "--to", str(tmp_path / "model"), "--device", "cpu"]
    assert step.main(command) == 0
    assert evaluations == [N_LOCKED, N_LOCKED]  # the chosen run's model and the baseline's
    out = capsys.readouterr().out
    assert out.count("locked test part (360 images): ") == 2
    before = {file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file()}
    assert step.main(command) == 0
    assert evaluations == [N_LOCKED, N_LOCKED]
    assert capsys.readouterr().out.count("stands in") == 2
    assert {file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file()} == before


def test_another_choice_replaces_the_model(study_folder: Path, truth: list[Run], tmp_path: Path, evaluations: list[int]) -> None:
    folder = tmp_path / "model"
    for rule, runs in (("f1", 2), (f"run:{truth[2].name}", 3)):
        assert step.main([str(study_folder), "--rule", rule, "--to", str(folder), "--device", "cpu"]) == 0
        assert len(evaluations) == runs
    assert describe(folder)["run"] == truth[2].run


def test_a_locked_part_that_changed_since_the_sweep_is_refused(study_folder: Path, tmp_path: Path, evaluations: list[int]) -> None:
    run, row = chosen_of(study_folder)
    run.config["provenance"]["fingerprints"]["test"] = "0123456789abcdef"
    with pytest.raises(UsageError, match="the locked test part of digits is not the one of the sweep"):
        retrain(run, row, tmp_path / "model", choice={}, device="cpu")
    assert evaluations == []
    assert not (tmp_path / "model").exists()


def test_train_size_holdout_and_early_stopping_are_dropped() -> None:
    values = {
        "classifier": "softmax",
        "epochs": 1,
        "train_size": 50,
        "holdout": 0.5,
        "early_stopping": 2,
        "evaluation_split": "holdout",
    }
    classifier, data, options = fit_again(values, 1, device="cpu")
    assert len(data.train) == N_REST
    assert data.holdout is None
    assert classifier.config.early_stopping is None
    assert (options.train_size, options.holdout) == (None, 0.0)


def test_a_run_of_one_fold_is_retrained_on_every_fold() -> None:
    values = {"classifier": "softmax", "epochs": 1}
    of_fold = {**values, "n_folds": 4, "fold": 3, "evaluation_split": "holdout"}
    (ours, data, options), (theirs, whole, _) = (fit_again(kind, 1, device="cpu") for kind in (of_fold, values))
    assert (options.n_folds, options.fold, options.holdout) == (None, 0, 0.0)
    assert (len(data.train), data.holdout) == (N_REST, None)
    assert data.fingerprints == whole.fingerprints
    assert_same_model(ours, theirs)


def test_an_svm_gets_probabilities_and_keeps_its_labels(models: SimpleNamespace, svm_folder: Path) -> None:
    run, _ = chosen_of(svm_folder)
    assert run.config["probability"] is False
    kind = classifier_class("svm")
    values = {key: value for key, value in config_of(run).items() if key in kind.Config.model_fields}
    data = load_data(DataOptions(holdout=0.0))
    without = kind(kind.Config.from_dict(values), device="cpu").fit(data)
    ours = load(models.folder / "tiny-svm", device="cpu")
    np.testing.assert_array_equal(ours.predict(data.test.x), without.predict(data.test.x))
    np.testing.assert_allclose(ours.predict_proba(data.test.x).sum(axis=1), 1.0)
    assert metrics_of(models.folder / "tiny-svm")["test"]["loss"] > 0


def test_another_locked_split_trains_on_other_images() -> None:
    values = {"classifier": "softmax", "epochs": 1}
    usual, other = (fit_again(values, 1, device="cpu", locked_split=split)[1] for split in (20_240_501, 1))
    assert usual.fingerprints["test"] != other.fingerprints["test"]
    assert len(usual.test) == len(other.test)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["/nowhere/at/all"], "/nowhere/at/all is no folder here"), (["{study}", "--rule", "knees"], "did you mean 'knee'?")],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, study_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        step.main([*(argument.format(study=study_folder) for argument in arguments), "--to", str(tmp_path / "model")])
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert not (tmp_path / "model").exists()


def test_a_model_with_broken_weights_is_made_anew(study_folder: Path, tmp_path: Path) -> None:
    run, row = chosen_of(study_folder)
    assert retrain(run, row, tmp_path / "model", choice={"rule": "f1"}) is not None
    assert retrain(run, row, tmp_path / "model", choice={"rule": "f1"}) is None
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert retrain(run, row, tmp_path / "model", choice={"rule": "f1"}) is not None
    load(tmp_path / "model")


def test_every_run_whose_locked_scores_were_read_is_kept_on_record(study_folder: Path, tmp_path: Path) -> None:
    runs = load_runs(study_folder)
    jobs = to_retrain(runs, "f1", tmp_path / "model")
    for run, row, _, choice in jobs:
        retrain(run, row, tmp_path / "model", choice=choice)
    reads = metrics_of(tmp_path / "model")["locked_part_reads"]
    assert [(entry["run"], entry["rule"]) for entry in reads] == [(run.run, choice["rule"]) for run, _, _, choice in jobs]


def test_a_folder_with_other_files_is_refused_before_the_locked_part_is_read(
    study_folder: Path, tmp_path: Path, evaluations: list[int]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    run, row = chosen_of(study_folder)
    with pytest.raises(UsageError, match="holds files that are not a saved model"):
        retrain(run, row, tmp_path, choice={"rule": "f1"})
    assert evaluations == []
