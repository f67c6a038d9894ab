"""The command that compares the runs of a sweep with and without augmentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from paretune.analysis import augmentation as step
from paretune.search.engine import worker
from paretune.search.spec.sweep import read_sweep
from tests.analysis.reading import is_a_drawing
from tests.analysis.truth import written_out

SWEEP = """
name: augmented
program: trainers/ann.py
method: grid
metric: {name: f1, goal: maximize}
parameters:
  epochs: {value: 1}
  train_size: {value: 100}
  augment: {values: [true, false]}
  width: {values: [8, 16]}
"""


def test_the_command_compares_a_sweep_and_draws_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "augmented.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    worker.run(read_sweep(path), trials=4, name="augmented", seed=0, device="cpu", runs=tmp_path)
    written_out(tmp_path / "augmented")
    capsys.readouterr()
    assert step.main([str(tmp_path / "augmented"), "--figure", str(tmp_path / "images.png")]) == 0
    printed = capsys.readouterr().out
    assert "over 2 runs with augmentation and" in printed
    assert is_a_drawing(tmp_path / "images.png")
