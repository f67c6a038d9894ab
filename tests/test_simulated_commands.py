"""The commands on simulated GPUs, each started in processes of its own: sweep, retrain, evaluate, predict, embed, export."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from PIL import Image

from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from tests.samples import ROOT, start

SIMULATED = {"PYTHONPATH": f"{ROOT / 'tests' / 'simulated_process'}:{ROOT}", "SIMULATED_DEVICES": "2"}
SWEEP = """
program: trainers/ann.py
method: random
metric: {name: f1, goal: maximize}
parameters:
  hidden: {value: [16]}
  n_conv: {values: [0, 1]}
  channels: {value: 4}
  dropout: {min: 0.0, max: 0.3}
  epochs: {value: 3}
  learning_rate: {min: 0.001, max: 0.01}
"""


def ran(folder: Path, *command: str, **values: str) -> subprocess.CompletedProcess[str]:
    done = start(sys.executable, *command, cwd=folder, **{**SIMULATED, **values})
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of four workers on two simulated GPUs, and its chosen run retrained in each precision."""
    folder = tmp_path_factory.mktemp("simulated")
    (folder / "sweep.yaml").write_text(SWEEP)
    flags = ["--name=s", "--trials=6", "--runs=runs", "--gpus=all", "--gpu_fraction=0.5"]
    ran(folder, str(ROOT / "sweeps" / "offline.py"), "sweep.yaml", *flags)
    for precision in ("fp32", "tf32", "bf16"):
        flags = [f"--precision={precision}", f"--to={precision}", *(["--onnx"] if precision == "fp32" else [])]
        ran(folder, "-m", "analysis.retrain", "runs/s", *flags)
    return folder


def json_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_sweep_is_searched_on_two_gpus_by_two_workers_each(folder: Path) -> None:
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/runs/s/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6
    configs = [text for path in (folder / "runs" / "s").rglob("run-*.wandb") if b'"cuda:0"' in (text := path.read_bytes())]
    assert len(configs) == 6, "each worker sees one device, its own"


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_chosen_run_is_retrained_on_the_gpu_in_each_precision(folder: Path, precision: str) -> None:
    config, metrics = json_of(folder / precision / "config.json"), json_of(folder / precision / "metrics.json")
    assert "cuda:0" in json.dumps([config, metrics])
    assert metrics["test"]["accuracy"] > 0.5


def test_the_cpu_retrains_the_same_model(folder: Path) -> None:
    ran(folder, "-m", "analysis.retrain", "runs/s", "--device=cpu", "--to=cpu")
    ours, theirs = (json_of(folder / name / "metrics.json")["test"] for name in ("fp32", "cpu"))
    assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=1 / 360)
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)


def test_a_model_of_the_gpu_is_used_on_either_side(folder: Path) -> None:
    test = load_data(DataOptions()).test
    (folder / "pictures").mkdir()
    for place in range(5):
        Image.fromarray((test.x[place, 0].numpy() * 255).round().astype("uint8")).save(folder / "pictures" / f"{place}.png")
    on_gpu = ran(folder, "-m", "trainers.predict", "bf16", "pictures").stdout
    on_cpu = ran(folder, "-m", "trainers.predict", "bf16", "pictures", SIMULATED_DEVICES="0").stdout
    rows, same = (list(csv.DictReader(text.splitlines())) for text in (on_gpu, on_cpu))
    assert len(rows) == 5
    assert [row["label"] for row in rows] == [row["label"] for row in same]
    both = [ran(folder, "-m", "trainers.evaluate", "bf16", f"--device={device}").stdout for device in ("cuda:1", "cpu")]
    assert both[0] == both[1]
    assert (folder / "fp32" / "model.onnx").is_file()


def test_what_the_layers_make_of_images_is_mapped_on_the_gpu(folder: Path) -> None:
    ran(folder, "-m", "analysis.embed", "tf32", "--layer=hidden_1.linear", "--method=pca", "--images=60", "--to=map.png")
    assert (folder / "map.png").is_file()


def test_gpus_that_are_not_there_are_refused_in_one_sentence(folder: Path) -> None:
    for flags, sentence in (
        (["--gpus=0,2"], "error: --gpus must be 'all' or some of 0,1. Got '0,2'."),
        (["--device=cuda:2"], "error: device must be auto, cpu, cuda, cuda:N or mps and on this machine. Got 'cuda:2'"),
    ):
        command = [sys.executable, str(ROOT / "sweeps" / "offline.py"), "sweep.yaml", "--trials=1", "--name=refused", *flags]
        refused = start(*command, cwd=folder, **SIMULATED)
        assert (refused.returncode, refused.stderr.startswith(sentence)) == (2, True), refused.stderr
