"""Retraining on a tiny sweep: on what, for how long, and how often the locked part is read."""

from __future__ import annotations

import json
import math
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from paretune.analysis import retrain as step
from paretune.analysis.choose import choose
from paretune.analysis.history import RunRecord, load_runs, runs_table
from paretune.analysis.retrain import config_of, fit_again, intervals, retrain, to_retrain
from paretune.core.errors import UsageError
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.models import checkpoint
from paretune.models.contract import Classifier
from paretune.models.export import run_onnx
from paretune.models.locked_readings import of_study
from paretune.models.registry import model_class
from paretune.models.saved_models import describe, load
from paretune.trainers.ann import Ann
from tests.analysis.conftest import copied
from tests.analysis.truth import Run
from tests.samples import ROOT, start

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


@pytest.fixture
def own_study(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sweep for each test, as a retrain puts its reading on the study's record."""
    return copied(study_folder, tmp_path_factory.mktemp("runs"))


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


def test_a_retrain_that_diverges_reads_nothing_and_leaves_no_model(own_study: Path, tmp_path: Path, evaluations: list[int]) -> None:
    run, row = chosen_of(own_study)
    run.config |= {"learning_rate": 1e39}
    reads = of_study(str(own_study))
    with pytest.raises(UsageError, match=r"must have a finite train_loss\. Got nan in epoch 1|weights that are finite numbers"):
        retrain(run, row, tmp_path / "model", choice={}, study=str(own_study))
    assert evaluations == []
    assert of_study(str(own_study)) == reads
    assert not (tmp_path / "model").exists()


def test_the_chosen_run_and_the_baseline_are_retrained_side_by_side(own_study: Path, truth: list[Run], tmp_path: Path) -> None:
    jobs = to_retrain(load_runs(own_study), "f1", tmp_path / "model")
    assert [(run.run, folder.name) for run, _, folder, _ in jobs] == [
        (choose(runs_table(load_runs(own_study))).run["run"], "model"),
        (truth[0].run, "model-baseline"),
    ]
    assert jobs[1][3]["rule"] == "baseline"


@pytest.mark.parametrize(
    ("flags", "folder", "seeds"),
    [([], "models/tiny", 1), (["--to=elsewhere", "--seeds=3"], "elsewhere", 3), (["--seeds=1"], "models/tiny", 1)],
)
def test_without_flags_one_model_goes_into_a_folder_of_the_sources_name(
    flags: list[str], folder: str, seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Path, int]] = []
    run = RunRecord("a", "run-a")
    monkeypatch.setattr(step, "ROOT", tmp_path)
    monkeypatch.setattr(step, "load_runs", lambda source: [run])
    monkeypatch.setattr(
        step,
        "to_retrain",
        lambda runs, rule, directory, *_: [(run, {"name": "a"}, directory, {"rule": "f1", "reason": "it is best"})],
    )
    monkeypatch.setattr(step, "retrain", lambda run, row, to, **given: asked.append((to, given["n_seeds"])))
    assert step.main(["runs/tiny", *flags]) == 0
    assert asked == [(Path("elsewhere") if "--to=elsewhere" in flags else tmp_path / folder, seeds)]
    assert "its locked part is not read again" in capsys.readouterr().out


def test_a_baseline_that_did_not_finish_is_not_retrained(own_study: Path, tmp_path: Path) -> None:
    runs = load_runs(own_study)
    next(run for run in runs if "baseline" in run.tags).state = "pruned"
    assert len(to_retrain(runs, "f1", tmp_path / "model")) == 1


def test_a_retrained_model_says_where_it_came_from(models: SimpleNamespace, own_study: Path) -> None:
    run, row = chosen_of(own_study)
    kept = describe(models.folder / "tiny")
    choice = choose(runs_table(load_runs(own_study)), records=load_runs(own_study))
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


def test_the_retrained_model_is_the_one_that_a_person_trains_by_hand(models: SimpleNamespace, own_study: Path) -> None:
    run, row = chosen_of(own_study)
    kind = model_class("softmax")
    values = {key: value for key, value in run.config.items() if key in kind.Config.model_fields}
    by_hand = kind(kind.Config.from_dict(values), device="cpu")
    for epoch in by_hand.fit_epochs(load_data(DataOptions(holdout=0.0))):
        if epoch.number == row["best_epoch"]:
            break
    assert_same_model(load(models.folder / "tiny", device="cpu"), by_hand)


@pytest.mark.parametrize("n_epochs", [1, 2])
def test_the_training_ends_at_the_best_epoch(n_epochs: int, own_study: Path, tmp_path: Path) -> None:
    run, row = chosen_of(own_study)
    row = row.copy()
    row["best_epoch"] = float(n_epochs)
    retrain(run, row, tmp_path / "model", choice={}, device="cpu")
    kind = model_class("softmax")
    by_hand = kind(load(tmp_path / "model", device="cpu").config, device="cpu")
    epochs = by_hand.fit_epochs(load_data(DataOptions(holdout=0.0)))
    for _ in range(n_epochs):
        next(epochs)
    assert_same_model(load(tmp_path / "model", device="cpu"), by_hand)
    assert describe(tmp_path / "model")["n_epochs"] == n_epochs
    assert describe(tmp_path / "model")["config"]["epochs"] == 3  # the schedule of the run stays its own


def test_the_locked_part_is_read_once_and_a_model_that_stands_is_kept(
    own_study: Path, tmp_path: Path, evaluations: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(own_study), "--to", str(tmp_path / "model"), "--device", "cpu"]
    assert step.main(command) == 0
    assert evaluations == [N_LOCKED, N_LOCKED]  # the chosen run's model and the baseline's
    out = capsys.readouterr().out
    assert out.count("locked test part (360 images): ") == 2
    before = {file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file()}
    assert step.main(command) == 0
    assert evaluations == [N_LOCKED, N_LOCKED]
    assert capsys.readouterr().out.count("stands in") == 2
    assert {file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file()} == before


def test_another_choice_replaces_the_model(own_study: Path, truth: list[Run], tmp_path: Path, evaluations: list[int]) -> None:
    folder = tmp_path / "model"
    for rule, runs in (("f1", 2), (f"run:{truth[2].name}", 3)):
        assert step.main([str(own_study), "--rule", rule, "--to", str(folder), "--device", "cpu"]) == 0
        assert len(evaluations) == runs
    assert describe(folder)["run"] == truth[2].run


def test_a_locked_part_that_changed_since_the_sweep_is_refused(own_study: Path, tmp_path: Path, evaluations: list[int]) -> None:
    run, row = chosen_of(own_study)
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
    kind = model_class("svm")
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
    arguments: list[str], sentence: str, own_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        step.main([*(argument.format(study=own_study) for argument in arguments), "--to", str(tmp_path / "model")])
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert not (tmp_path / "model").exists()


def test_a_model_with_broken_weights_is_made_anew(own_study: Path, tmp_path: Path) -> None:
    run, row = chosen_of(own_study)
    assert retrain(run, row, tmp_path / "model", choice={"rule": "f1"}) is not None
    assert retrain(run, row, tmp_path / "model", choice={"rule": "f1"}) is None
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert retrain(run, row, tmp_path / "model", choice={"rule": "f1"}) is not None
    load(tmp_path / "model")


def test_every_run_whose_locked_scores_were_read_is_kept_on_record(own_study: Path, tmp_path: Path) -> None:
    runs = load_runs(own_study)
    jobs = to_retrain(runs, "f1", tmp_path / "model")
    for run, row, _, choice in jobs:
        retrain(run, row, tmp_path / "model", choice=choice)
    reads = metrics_of(tmp_path / "model")["locked_part_reads"]
    assert [(entry["run"], entry["rule"]) for entry in reads] == [(run.run, choice["rule"]) for run, _, _, choice in jobs]


def test_a_folder_with_other_files_is_refused_before_the_locked_part_is_read(
    own_study: Path, tmp_path: Path, evaluations: list[int]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    run, row = chosen_of(own_study)
    with pytest.raises(UsageError, match="must be a new folder or one of a saved model alone"):
        retrain(run, row, tmp_path, choice={"rule": "f1"})
    assert evaluations == []


def retrained(source: Path, folder: Path, *flags: str) -> None:
    """Retrain the chosen run alone, into `folder`."""
    assert step.main([str(source), "--rule", "run:tiny-0", "--to", str(folder), "--device", "cpu", *flags]) == 0


def test_several_seeds_are_read_in_one_session_and_the_first_ones_model_is_kept(
    own_study: Path, tmp_path: Path, evaluations: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    retrained(own_study, tmp_path / "three", "--seeds", "3")
    out = capsys.readouterr().out
    assert evaluations == [N_LOCKED] * 3
    metrics = metrics_of(tmp_path / "three")
    (run,) = (run for run in load_runs(own_study) if run.name == "tiny-0")
    assert [entry["seed"] for entry in metrics["seeds"]] == [run.config["seed"] + i for i in range(3)]
    assert len(metrics["locked_part_reads"]) == 1
    assert metrics["locked_part_reads"][0]["accuracy"] == metrics["test"]["accuracy"] == metrics["seeds"][0]["accuracy"]
    retrained(own_study, tmp_path / "one")
    assert_same_model(load(tmp_path / "three", device="cpu"), load(tmp_path / "one", device="cpu"))
    assert metrics_of(tmp_path / "one")["seeds"] == metrics["seeds"][:1]
    assert metrics_of(tmp_path / "one")["interval"] == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three"]  # no part is left
    for name in ("accuracy", "f1", "loss"):
        values = [entry[name] for entry in metrics["seeds"]]
        assert len(set(values)) > 1 or name == "accuracy"
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert metrics["interval"][name] == pytest.approx([np.mean(values), low, high])
    assert "mean [95 % t interval] over the seeds 0 to 2: " in out
    assert "the model saved is that of seed 0, whatever the others reached" in out


def test_each_seeds_model_is_that_of_a_run_with_that_seed(own_study: Path, tmp_path: Path) -> None:
    retrained(own_study, tmp_path / "model", "--seeds", "2")
    (run,) = (run for run in load_runs(own_study) if run.name == "tiny-0")
    classifier, data, _ = fit_again({**config_of(run), "seed": 1}, describe(tmp_path / "model")["n_epochs"], device="cpu")
    accuracy = np.mean(classifier.predict(data.test.x) == data.test.y.numpy())
    assert metrics_of(tmp_path / "model")["seeds"][1]["accuracy"] == accuracy


def test_seeds_that_change_nothing_claim_no_interval(svm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = copied(svm_folder, tmp_path)
    assert step.main([str(source), "--to", str(tmp_path / "model"), "--device", "cpu", "--seeds", "2"]) == 0
    assert metrics_of(tmp_path / "model")["interval"] == {}
    assert len(metrics_of(tmp_path / "model")["seeds"]) == 2
    assert "all 2 seeds gave the same scores" in capsys.readouterr().out


def test_a_model_of_more_seeds_stands_for_fewer_and_one_of_fewer_is_made_anew_on_record(
    own_study: Path, tmp_path: Path, evaluations: list[int]
) -> None:
    for flags, n_read, n_sessions in ((("--seeds", "2"), 2, 1), ((), 2, 1), (("--seeds", "3"), 5, 2)):
        retrained(own_study, tmp_path / "model", *flags)
        assert len(evaluations) == n_read
        assert len(metrics_of(tmp_path / "model")["locked_part_reads"]) == n_sessions


KILLED = """
import os, signal
from paretune.analysis import retrain
from paretune.models import checkpoint
from paretune.trainers.softmax import Softmax
checkpoint.CHECKPOINT_SECONDS = 0.0
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
real = Softmax.fit_epochs
def fit_epochs(self, data):
    for epoch in real(self, data):
        print(self.config.seed, epoch.number, flush=True)
        if (self.config.seed, epoch.number) == {place}: die()
        yield epoch
Softmax.fit_epochs = fit_epochs
if {place} == "reading": retrain.evaluate = die
retrain.main({command})
"""


def test_a_killed_retrain_goes_on_and_ends_as_if_it_had_not_been(own_study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    base = [str(own_study), "--rule", "run:tiny-0", "--device", "cpu", "--seeds", "2", "--to"]
    (row,) = (row for _, row in runs_table(load_runs(own_study)).iterrows() if row["name"] == "tiny-0")
    n_epochs = int(row["best_epoch"])
    assert n_epochs == 3, "the test stops a training in its third epoch"

    def killed(place: Any) -> list[str]:
        code = KILLED.format(place=repr(place), command=[*base, str(folder)])
        result = start(sys.executable, "-c", code, cwd=ROOT, home=tmp_path)
        assert result.returncode == (-signal.SIGKILL if place else 0), result.stderr
        return [line for line in result.stdout.splitlines() if line[:1].isdigit()]

    assert killed((1, 2)) == ["0 1", "0 2", "0 3", "1 1", "1 2"]
    assert not folder.exists()
    assert killed("reading") == ["1 2", "1 3"]  # seed 0 stands, seed 1 goes on behind its first epoch
    begun = json.loads((tmp_path / ".model.parts" / step.READS).read_text(encoding="utf-8"))
    assert [entry["accuracy"] for entry in begun] == [None]
    assert killed(None) == []  # nothing is trained anew
    metrics = metrics_of(folder)
    assert [entry["accuracy"] for entry in metrics["locked_part_reads"]] == [None, metrics["test"]["accuracy"]]
    assert step.main([*base, str(tmp_path / "whole")]) == 0
    assert metrics_of(tmp_path / "whole")["seeds"] == metrics["seeds"]
    assert_same_model(load(folder, device="cpu"), load(tmp_path / "whole", device="cpu"))
    assert sorted(path.name for path in tmp_path.iterdir() if "model" in path.name) == ["model"]


def test_a_retrain_for_fewer_epochs_does_not_go_on_from_a_checkpoint_beyond_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    values = {"classifier": "softmax", "epochs": 6}

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(step, "save", stopped)  # when the fifth epoch is trained, and the fourth one's checkpoint lies there
        with pytest.raises(KeyboardInterrupt):
            fit_again(values, 5, device="cpu", part=tmp_path / "seed-0")
    assert [path.suffix for path in tmp_path.iterdir()] == [".checkpoint"]
    ours, _, _ = fit_again(values, 2, device="cpu", part=tmp_path / "seed-0")
    assert_same_model(ours, fit_again(values, 2, device="cpu")[0])


def test_a_model_that_was_kept_before_a_field_was_new_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"classifier": "ann", "data": "digits", "train_size": 60, "hidden": [4], "epochs": 1}
    fit_again(values, 1, device="cpu", part=tmp_path / "part")
    file = tmp_path / "part" / "config.json"
    description = json.loads(file.read_text(encoding="utf-8"))
    del description["config"]["backbone"]
    file.write_text(json.dumps(description), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(Ann, "fit_epochs", lambda *_: pytest.fail("it is trained again"))
        fit_again(values, 1, device="cpu", part=tmp_path / "part")
    description["config"]["learning_rate"] = 0.5
    file.write_text(json.dumps(description), encoding="utf-8")
    again, _, _ = fit_again(values, 1, device="cpu", part=tmp_path / "part")
    assert again.config.learning_rate == 1e-3


def test_a_reading_that_another_runs_retrain_did_not_end_stays_on_record(
    own_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrained(own_study, tmp_path / "model")

    def broken(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(step, "evaluate", broken)
        with pytest.raises(SystemExit):
            step.main([str(own_study), "--rule", "run:tiny-2", "--to", str(tmp_path / "model"), "--device", "cpu"])
    other = next(run.run for run in load_runs(own_study) if run.name == "tiny-2")
    for _ in range(2):
        retrained(own_study, tmp_path / "model")
        reads = metrics_of(tmp_path / "model")["locked_part_reads"]
        assert [(entry["run"], entry["accuracy"] is None) for entry in reads][1:] == [(other, True)]


def test_the_precision_is_on_record_and_another_one_makes_the_model_anew(
    own_study: Path, tmp_path: Path, evaluations: list[int]
) -> None:
    weights = []
    for precision in ("fp32", "bf16", "bf16"):
        retrained(own_study, tmp_path / "model", "--precision", precision)
        assert describe(tmp_path / "model")["precision"] == precision
        weights.append(load(tmp_path / "model", device="cpu").state()["net.output.weight"])
    assert len(evaluations) == 2
    assert not np.array_equal(weights[0], weights[1])
    assert math.isfinite(metrics_of(tmp_path / "model")["test"]["loss"])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--seeds", "0"], "--seeds must be from 1 to 100. Got 0."),
        (["--precision", "tf32"], "precision tf32 is of CUDA devices alone. Got the device cpu"),
        (["--precision", "half"], "precision must be one of fp32, tf32, bf16. Got 'half'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_read(
    flags: list[str], sentence: str, own_study: Path, tmp_path: Path, evaluations: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        step.main([str(own_study), "--to", str(tmp_path / "model"), "--device", "cpu", *flags])
    assert exit_info.value.code == 2
    assert sentence in capsys.readouterr().err
    assert evaluations == []
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_written_as_onnx_too_even_where_it_stands(
    own_study: Path, tmp_path: Path, evaluations: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    retrained(own_study, tmp_path / "model")
    retrained(own_study, tmp_path / "model", "--onnx")
    assert evaluations == [N_LOCKED]
    assert "model.onnx: images (n, 1, 8, 8)" in capsys.readouterr().out
    train = load_data(DataOptions(holdout=0.0)).train
    probabilities = run_onnx(tmp_path / "model" / "model.onnx", train.x[:40].numpy())
    np.testing.assert_allclose(probabilities, load(tmp_path / "model", device="cpu").predict_proba(train.x[:40]), atol=1e-5)


def test_seeds_that_agree_but_for_rounding_have_no_interval() -> None:
    assert intervals([{"accuracy": 0.3}, {"accuracy": 0.1 + 0.2}]) == {}
    assert set(intervals([{"accuracy": 0.3}, {"accuracy": 0.4}])) == {"accuracy"}
