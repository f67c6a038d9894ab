"""Small data for tests: images whose class shows in them, and processes started as a person starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paretune.core.epoch import Epoch
from paretune.data.dataset import Data
from paretune.data.images import Samples
from paretune.kernel_svm.int8_products import AT_ONCE

ROOT = Path(__file__).resolve().parents[1]
SMALL_BACKBONE = "shufflenet_v2_x0_5"  # torchvision's smallest network
needs_bytes = pytest.mark.skipif(
    not any(torch.cpu.get_capabilities().get(name) for name in AT_ONCE), reason="this processor multiplies no bytes"
)


def images(n_samples: int, n_classes: int, shape: tuple[int, int, int] = (1, 6, 6), *, seed: int = 0) -> Samples:
    """Noise with a bright column per class, `n_samples` images with every class in turn."""
    random = np.random.default_rng(seed)
    y = np.arange(n_samples) % n_classes
    x = random.random((n_samples, *shape)) * 0.6
    for i, label in enumerate(y):
        x[i, :, :, label % shape[2]] += 0.4
    return Samples(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y))


def small_data(
    n_classes: int = 3,
    shape: tuple[int, int, int] = (1, 6, 6),
    *,
    n_train: int = 60,
    split: str = "holdout",
    average: str = "macro",
    positive: int | None = None,
) -> Data:
    """Return data of `n_classes`; `split` is holdout, test (curves on the locked part) or none (everything trains)."""
    train, holdout, test = (
        images(count, n_classes, shape, seed=seed) for seed, count in enumerate((n_train, 8 * n_classes, 7 * n_classes))
    )
    return Data(
        name="small",
        class_names=[f"c{label}" for label in range(n_classes)],
        train=train,
        holdout=holdout if split == "holdout" else None,
        test=test,
        evaluation_split="holdout" if split == "holdout" else "test",
        evaluated={"holdout": holdout, "test": test, "none": None}[split],
        average=average,
        positive=positive,
    )


def in_8_bits(data: Data) -> Data:
    """Return the same data with each pixel rounded to k / 255, as pictures have them."""

    def rounded(samples: Samples | None) -> Samples | None:
        return None if samples is None else replace(samples, x=samples.x.mul(255).round().div(255))

    parts: dict[str, Any] = {name: rounded(getattr(data, name)) for name in ("train", "holdout", "test", "evaluated")}
    return replace(data, **parts, kept={})


def assert_alike(found: list[Epoch], wanted: list[Epoch], *, within: float = 1e-5) -> None:
    """Hold the epochs of two trainings against each other that differ in the order of their sums alone."""
    assert [(epoch.number, epoch.last) for epoch in found] == [(epoch.number, epoch.last) for epoch in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        assert list(ours.metrics) == list(theirs.metrics)
        for name in set(ours.metrics) - {"seconds"}:
            assert ours.metrics[name] == pytest.approx(theirs.metrics[name], rel=within, abs=1e-7, nan_ok=True), (name, ours.number)


def environment(home: Path, **values: str) -> dict[str, str]:
    """What `env -i PATH=… HOME=…` leaves, with this Python first on the PATH; no credentials."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(home), "OMP_NUM_THREADS": "1", **values}  # one thread: the nets are tiny


def start(
    *command: str, cwd: Path, home: Path | None = None, timeout: float = 120, closed: bool = False, **values: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a bare environment; `closed` takes the network away where the system allows that."""
    line = list(command)
    if closed and can_close_the_network():
        line = ["unshare", "-rn", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *line]
    return subprocess.run(line, cwd=cwd, env=environment(home or cwd, **values), capture_output=True, text=True, timeout=timeout)


def can_close_the_network() -> bool:
    """Whether a process without a network can be started here."""
    try:
        command = ["unshare", "-rn", "sh", "-c", "ip link set lo up"]
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def run_records(folder: Path) -> Iterator[Any]:
    """Yield the records of the one offline run below `folder`: a 7-byte header, then 32 KiB blocks of (crc, length, type)."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    raw, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(raw):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(raw[position + 4 : position + 6], "little"), raw[position + 6]
        parts += raw[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def run_config(folder: Path) -> dict[str, Any]:
    """The config that the one offline run below `folder` holds."""
    config: dict[str, Any] = {}
    for record in run_records(folder):
        for item in [*record.run.config.update, *record.config.update]:
            config[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    return config


def run_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of the history of the one offline run below `folder`."""
    rows = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in run_records(folder)
    ]
    return [row for row in rows if "epoch" in row]


def run_summary(folder: Path) -> dict[str, Any]:
    """The summary that the one offline run below `folder` ended with."""
    summary: dict[str, Any] = {}
    for record in run_records(folder):
        for item in record.summary.update:
            summary[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    return summary
