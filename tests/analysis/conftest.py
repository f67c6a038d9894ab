"""What the analysis is tested on: one tiny sweep per classifier, and their retrained models, made once."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from paretune.analysis import retrain
from paretune.search.engine import worker
from paretune.search.spec.sweep import read_sweep
from tests.analysis.truth import Run, truth_of, written_out

SOFTMAX = """
name: tiny
program: trainers/softmax.py
method: random
metric: {name: f1, goal: maximize}
early_terminate: {type: hyperband, min_iter: 1, eta: 2}
parameters:
  epochs: {value: 3}
  learning_rate: {distribution: log_uniform_values, min: 0.0003, max: 0.5}
  batch_size: {values: [64, 128, 256]}
"""
SVM = """
name: tiny-svm
program: trainers/svm.py
method: random
metric: {name: f1, goal: maximize}
parameters:
  train_size: {value: 150}
  kernel: {values: [rbf, linear]}
  C: {min: 1.0, max: 10.0}
"""


def searched(folder: Path, definition: str, name: str, trials: int) -> optuna.Study:
    path = folder / f"{name}.yaml"
    path.write_text(definition, encoding="utf-8")
    study = worker.run(read_sweep(path), trials=trials, name=name, seed=0, device="cpu", runs=folder)
    written_out(folder / name)
    return study


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sweeps."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def study(runs_folder: Path) -> optuna.Study:
    """Five trials of softmax regression: the baseline first, the last one stopped early."""
    return searched(runs_folder, SOFTMAX, "tiny", 5)


@pytest.fixture(scope="session")
def study_folder(runs_folder: Path, study: optuna.Study) -> Path:
    """The folder that the sweep wrote: study.db and W&B's run files."""
    return runs_folder / "tiny"


@pytest.fixture(scope="session")
def truth(study: optuna.Study) -> list[Run]:
    """What the sweep recorded, read from the study without any code of `analysis`."""
    found = truth_of(study)
    assert {run.state for run in found} == {"finished", "pruned"}, "the tests need a run that was stopped early"
    return found


@pytest.fixture(scope="session")
def svm_folder(runs_folder: Path) -> Path:
    """The folder of a sweep of the SVM, whose runs have one epoch and no loss."""
    searched(runs_folder, SVM, "tiny-svm", 2)
    return runs_folder / "tiny-svm"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, study_folder: Path, svm_folder: Path) -> SimpleNamespace:
    """The retrained models of both sweeps, and copies of the sweeps, on whose record that is."""
    folder, runs = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("retrained")
    sources = [copied(source, runs) for source in (study_folder, svm_folder)]
    for source in sources:
        assert retrain.main([str(source), "--to", str(folder / source.name), "--device", "cpu"]) == 0
    return SimpleNamespace(folder=folder, sources=sources)


def copied(source: Path, to: Path) -> Path:
    """Copy a sweep, as a retrain puts its reading of the locked part on the study's record."""
    return Path(shutil.copytree(source, to / source.name, symlinks=True))
