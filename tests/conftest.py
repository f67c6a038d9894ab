"""What every test starts from: no credentials, no real data folder, no network."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from paretune.core.host_process import own_process
from paretune.core.memory import available_memory
from tests.samples import SMALL_BACKBONE
from tests.simulated_device import simulated_cuda

own_process()  # as commands do
torch.set_num_threads(1)  # tiny arrays: threads cost more than they give
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C, and so would what tests start

MEMORY = 4 * 2**30  # of one of the processes that `make test` starts, and of what its tests start


@pytest.hookimpl(optionalhook=True)  # pytest-xdist asks; `make gpu` runs without it
def pytest_xdist_auto_num_workers() -> int:
    """As many processes as there are cores for this one, at most what memory has room for; this one alone where that is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(cores, available_memory() // MEMORY)
    return count if count > 1 else 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, files with slow tests come first, lest one of them is begun last and waited for alone."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    if request.node.get_closest_marker("needs_data") is None:
        monkeypatch.setenv("DATA_ROOT", "/nonexistent/data")


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and home, away from the project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def fetched_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Random weights of SMALL_BACKBONE, put where torch keeps the ImageNet weights that it has fetched."""
    from torchvision import models

    torch.manual_seed(5)
    net = models.get_model(SMALL_BACKBONE, weights=None)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(net.state_dict(), folder / Path(models.get_model_weights(SMALL_BACKBONE).DEFAULT.url).name)
    monkeypatch.setenv("TORCH_HOME", str(folder.parents[1]))
    return net.state_dict()


@pytest.fixture(params=["cpu", "cuda"])
def each_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a test on the CPU and on a simulated CUDA device; the device `auto` is the one that is returned."""
    if request.param == "cuda":
        with simulated_cuda():
            yield "cuda:0"
    else:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        yield "cpu"
