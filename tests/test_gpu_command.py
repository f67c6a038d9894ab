"""`make gpu`: complete on a simulated device in a bare environment, refused without a GPU, bounded, and stopped without a loss."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import _gpu_batched, _gpu_single, gpu
from benchmarks._gpu_pictures import generated
from benchmarks._gpu_process import run_bounded
from benchmarks._gpu_report import read_rows
from paretune.models.run_config import configure
from paretune.trainers.ann import Ann
from paretune.trainers.autoencoder import Autoencoder
from tests.samples import ROOT, environment, start

COMMAND = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
BARE_PYTHON = os.environ.get("BARE_PYTHON", "")
EIGHT_MINUTES = 480


def report_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "gpu.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def states(folder: Path) -> dict[str, str]:
    return {part["name"]: part["state"] for part in report_in(folder)["parts"]}


@pytest.mark.slow
@pytest.mark.skipif(not BARE_PYTHON, reason="BARE_PYTHON names no environment of tests/gpu/bare-environment.txt; .ci/run makes one")
def test_it_completes_in_a_bare_environment_without_network(tmp_path: Path) -> None:
    for name in ("wandb", "optuna", "pydantic"):
        assert start(BARE_PYTHON, "-c", f"import {name}", cwd=tmp_path).returncode == 1, (
            f"{name} is there: the environment is not bare"
        )
    flags = [f"PYTHON={BARE_PYTHON}", "SIMULATED=1", "QUICK=1", f"TO={tmp_path / 'to'}"]
    done = start("make", "gpu", *flags, cwd=ROOT, home=tmp_path, closed=True, timeout=EIGHT_MINUTES)
    assert done.returncode == 0, done.stdout + done.stderr
    report, table = report_in(tmp_path / "to"), (tmp_path / "to" / "gpu.md").read_text(encoding="utf-8")
    assert states(tmp_path / "to") == dict.fromkeys(list(gpu.PARTS)[1:], "done")
    assert all(part["rows"] for part in report["parts"])
    assert report["machine"]["torch"].startswith("2.11.")
    assert "Simulated device: times mean nothing." in table
    rows = [row for part in report["parts"] for row in part["rows"]]
    assert all(f"| {row['name']} |" in table for row in rows)
    names = (
        "labels equal to those of at once",
        "labels equal to the CPU's",
        "labels equal on both",
        "labels equal after saving, on the CPU",
    )
    equal = [value for row in rows for name, value in row["figures"].items() if name in names]
    assert len(equal) >= 10
    assert min(equal) > 0.99
    (tests,) = report["parts"][0]["rows"]
    assert set(tests["figures"]) == {"passed"}


def test_without_a_gpu_it_is_refused_in_one_sentence(tmp_path: Path) -> None:
    refused = start(*COMMAND, "--to", str(tmp_path / "to"), cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert refused.returncode == 2
    assert refused.stderr == "error: torch finds no CUDA device here: make gpu needs one (SIMULATED=1 tries the command without).\n"
    assert not (tmp_path / "to").exists()


def test_without_pydantic_and_wheels_it_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        gpu.RefusedError, match=r"pydantic is missing and .*: run `make gpu-wheels FOR=3\.\d+` where there is a network"
    ):
        gpu.carried(tmp_path / "wheels").__enter__()


def test_the_bounds_together_are_eight_minutes_at_most() -> None:
    assert sum(bound for bound, _ in gpu.PARTS.values()) <= EIGHT_MINUTES


@pytest.mark.slow
def test_a_part_is_ended_at_its_bound_or_fails_and_the_others_are_done(tmp_path: Path) -> None:
    flags = ["--simulated", "--quick", "--to", str(tmp_path / "to"), "--parts", "cnn", "retrain_ann", "--bound", "cnn=0.5"]
    done = start(*COMMAND, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert states(tmp_path / "to") == {"cnn": "ended at its bound", "retrain_ann": "done"}
    assert "(ended at its bound)" in (tmp_path / "to" / "gpu.md").read_text(encoding="utf-8")
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "MNIST" / "raw" / f"{name}-ubyte").write_bytes(b"broken")
    failed = start(*COMMAND, *flags[:3], str(tmp_path / "to"), "--parts", "retrain_ann", cwd=tmp_path, DATA_ROOT=str(tmp_path))
    assert failed.returncode == 1
    (part,) = report_in(tmp_path / "to")["parts"]
    assert part["state"] == "failed"
    assert "is not a whole idx file" in part["notes"][0]
    assert "is not a whole idx file" in (tmp_path / "to" / "retrain_ann.txt").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_parts_that_are_done(number: signal.Signals, tmp_path: Path) -> None:
    to = tmp_path / "to"
    flags = ["--simulated", "--quick", "--to", str(to), "--parts", "retrain_ann", "cnn", "svm"]
    with subprocess.Popen(
        [*COMMAND, *flags], cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as command:
        end = time.monotonic() + 120
        while not (to / "gpu.json").exists() or states(to)["retrain_ann"] != "done":
            assert time.monotonic() < end
            time.sleep(0.1)
        command.send_signal(number)
        output, _ = command.communicate(timeout=30)
    assert command.returncode == 128 + number
    assert output.endswith(f"stopped: what was measured is in {to}\n")
    report = report_in(to)
    assert report["state"] == "stopped"
    assert states(to)["retrain_ann"] == "done"
    assert set(states(to).values()) <= {"done", "stopped"}
    assert report["parts"][0]["rows"][0]["ratio"] > 0
    assert "ANN 784-256-128-10" in (to / "gpu.md").read_text(encoding="utf-8")


def test_what_a_process_wrote_before_its_bound_is_kept_and_its_children_end(tmp_path: Path) -> None:
    code = f"""
import subprocess, time
child = subprocess.Popen(["sleep", "600"])
with open({str(tmp_path / "rows")!r}, "w") as file:
    file.write('{{"row": "a", "gpu_seconds": 2.0, "figures": {{"x": 1}}, "peak_gpu_mib": 5}}\\n')
    file.write('{{"row": "a", "cpu_seconds": 6.0, "figures": {{"y": 2}}, "peak_gpu_mib": 3}}\\n{{"row": "b", "gpu')
print(child.pid, flush=True)
time.sleep(600)
"""
    looks: list[int] = []
    begun = run_bounded(
        [sys.executable, "-c", code],
        folder=tmp_path,
        environment=os.environ,
        log=tmp_path / "log",
        seconds=3,
        look=lambda: looks.append(1),
    )
    assert begun is None
    assert looks
    row = {"name": "a", "gpu_seconds": 2.0, "cpu_seconds": 6.0, "ratio": 3.0, "figures": {"x": 1, "y": 2}, "peak_gpu_mib": 5}
    assert read_rows(tmp_path / "rows") == [row]
    process = Path("/proc") / (tmp_path / "log").read_text().strip() / "stat"
    assert not process.exists() or process.read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_configurations_are_those_of_the_presets() -> None:
    for kind, preset, values in (
        (Autoencoder, "autoencoder_64", _gpu_batched.AUTOENCODER_64),
        (Ann, "sigmoid_32", _gpu_batched.SIGMOID_32),
        (Ann, "simple_cnn", _gpu_single.SIMPLE_CNN),
    ):
        wanted = configure(kind, {"preset": preset})[0].to_dict()
        left_out = {"epochs", "learning_rate", "momentum", "batch_size"}  # batch_size: as benchmarks/cnn_epoch.py has it
        found = kind.Config.from_dict(values).to_dict()
        assert {key: value for key, value in found.items() if key not in left_out} == {
            key: value for key, value in wanted.items() if key not in left_out
        }


def test_generated_pictures_are_always_the_same_and_of_every_class() -> None:
    x, y = generated(300)
    again, labels = generated(300)
    assert x.shape == (300, 1, 28, 28)
    assert x.dtype == np.uint8
    assert set(y.tolist()) == set(range(10))
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, labels)
