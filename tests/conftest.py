"""What every test starts from: no credentials, no real data folder, no network."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tiny arrays: threads cost more than they give
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C, and so would what tests start


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    import os

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
