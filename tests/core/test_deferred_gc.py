"""While a command starts the collector rests; a training finds it as it was."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paretune.core import deferred_gc
from paretune.core.deferred_gc import LATER, collect_as_usual, collecting_later
from paretune.models.train_command import main
from paretune.search.command_line import main as search_main
from paretune.trainers.softmax import Softmax
from tests.samples import ROOT

USUAL = gc.get_threshold()


@pytest.fixture(autouse=True)
def _nothing_stays_frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(deferred_gc, "_frozen", False)
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_the_collector_rests_until_the_start_is_over() -> None:
    with collecting_later():
        assert gc.get_threshold() == (LATER, *USUAL[1:])
        collect_as_usual()
        assert gc.get_threshold() == USUAL
        frozen = gc.get_freeze_count()
        assert frozen > 0
        collect_as_usual()
        assert gc.get_freeze_count() == frozen
    assert gc.get_threshold() == USUAL


def test_a_start_within_another_changes_nothing() -> None:
    with collecting_later():
        with collecting_later():
            assert gc.get_threshold() == (LATER, *USUAL[1:])
        assert gc.get_threshold() == (LATER, *USUAL[1:])
        collect_as_usual()
        with collecting_later():
            assert gc.get_threshold() == USUAL
    assert gc.get_threshold() == USUAL


def test_a_collector_that_is_switched_off_stays_off() -> None:
    gc.set_threshold(0)
    try:
        with collecting_later():
            assert gc.get_threshold()[0] == 0
            collect_as_usual()
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*USUAL)


def test_what_a_process_began_with_is_frozen() -> None:
    code = (
        "import gc; from paretune.core.deferred_gc import *; before = gc.get_freeze_count(); "
        "block = collecting_later(); block.__enter__(); "
        "collect_as_usual(); print(gc.get_freeze_count() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1000


def test_a_command_that_fails_leaves_the_collector_as_it_was() -> None:
    with pytest.raises(ValueError, match="no such file"), collecting_later():
        raise ValueError("no such file")
    assert gc.get_threshold() == USUAL
    assert gc.get_freeze_count() == 0


def test_nothing_changes_where_no_command_starts() -> None:
    collect_as_usual()
    assert gc.get_threshold() == USUAL
    assert gc.get_freeze_count() == 0


def test_garbage_of_an_earlier_start_is_still_collected() -> None:
    with collecting_later():
        collect_as_usual()
    before = gc.get_freeze_count()
    made: list[list[int]] = [[] for _ in range(1000)]
    with collecting_later():
        collect_as_usual()
    assert gc.get_freeze_count() <= before
    assert len(made) == 1000  # they were there, and were not frozen


@pytest.mark.parametrize("command", ["trainer", "search"])
def test_a_training_finds_the_collector_as_it_was(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    network = Softmax.network

    def spied(self: Softmax) -> object:
        seen.append(gc.get_threshold())
        return network(self)

    monkeypatch.setattr(Softmax, "network", spied)
    if command == "trainer":
        main("softmax", ["--epochs=1", "--wandb=disabled", "--save=none"])
    else:
        file = tmp_path / "sweep.yaml"
        file.write_text("program: trainers/softmax.py\nmethod: random\nparameters:\n  epochs:\n    value: 1\n", encoding="utf-8")
        search_main([str(file), "--trials=1", "--wandb=disabled", f"--runs={tmp_path}"])
    assert seen[-1] == USUAL
    assert gc.get_threshold() == USUAL
