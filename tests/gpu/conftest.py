"""Runs the tests on the GPU, or on a simulated CUDA device where there is no GPU or GPU_TESTS=simulated asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.simulated_device import simulated_cuda


@pytest.fixture(autouse=True)
def simulated() -> Iterator[bool]:
    """Whether the device is a simulated one."""
    if torch.cuda.is_available() and os.environ.get("GPU_TESTS") != "simulated":
        yield False
        return
    with simulated_cuda():
        yield True


@pytest.fixture
def same_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw orders and uniform numbers on the CPU wherever they are wanted: a GPU draws others from the same seed."""
    orders, uniform = torch.randperm, torch.rand

    def randperm(n: int, *, device: Any = "cpu", generator: Any = None) -> torch.Tensor:
        return orders(n, generator=torch.Generator("cpu").manual_seed(n)).to(device)

    def rand(*shape: int, device: Any = "cpu") -> torch.Tensor:
        return uniform(*shape, generator=torch.Generator("cpu").manual_seed(len(shape))).to(device)

    monkeypatch.setattr(torch, "randperm", randperm)
    monkeypatch.setattr(torch, "rand", rand)
