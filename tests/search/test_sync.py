"""Offline runs that `wandb sync` has not uploaded yet, and what happens where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paretune.runs.outcome_file import packed
from paretune.search import sync
from paretune.search.sync import main, offline_runs


def run_in(folder: Path, name: str, *, synced: bool = False, empty: bool = False, records: Sequence[bytes] = (b"r",)) -> Path:
    run = folder / f"offline-run-{name}"
    run.mkdir(parents=True)
    if not empty:
        (run / f"run-{name}.wandb").write_bytes(packed(records))
    if synced:
        (run / f"run-{name}.wandb.synced").touch()
    return run


def test_runs_are_found_once_below_any_folder_unless_they_are_synced_or_empty(tmp_path: Path) -> None:
    second = run_in(tmp_path / "b" / "wandb", "2")
    first = run_in(tmp_path / "a", "1")
    run_in(tmp_path / "a", "3", synced=True)
    run_in(tmp_path / "a", "4", empty=True)
    run_in(tmp_path / "a", "6", records=())  # W&B's client uploads none of all where such a file is among them
    (tmp_path / "a" / "offline-run-5").touch()  # a file
    assert offline_runs([tmp_path / "b", tmp_path / "a", tmp_path]) == [first, second]
    assert offline_runs([tmp_path / "none"]) == []


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The folders that wandb sync was given, call by call."""
    found: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        assert command[1:5] == ["-m", "wandb", "sync", "--yes"]
        found.append([Path(path).name for path in command[5:]])
        return SimpleNamespace(returncode=0 if len(found) < 3 else 1)

    monkeypatch.setattr(sync.subprocess, "run", run)
    monkeypatch.setattr(sync, "logged_in", lambda: True)
    monkeypatch.setattr(sync, "AT_ONCE", 2)
    return found


def test_so_many_runs_are_uploaded_by_one_call(tmp_path: Path, calls: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        run_in(tmp_path, str(number))
    assert main([str(tmp_path)]) == 0
    assert calls == [["offline-run-0", "offline-run-1"], ["offline-run-2", "offline-run-3"]]
    assert capsys.readouterr().out == "uploaded 4 runs\n"


def test_an_error_of_wandb_sync_ends_the_upload(tmp_path: Path, calls: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(9):
        run_in(tmp_path, str(number))
    with pytest.raises(SystemExit) as exit_info:
        main([str(tmp_path)])
    assert exit_info.value.code == 2
    assert len(calls) == 3
    assert "run the same command again to go on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("logged_in", "runs", "sentence"),
    [(True, 0, "no offline run that is not uploaded yet is below "), (False, 2, "uploading 2 offline runs needs W&B credentials")],
)
def test_without_runs_or_credentials_nothing_is_called(
    tmp_path: Path,
    calls: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logged_in: bool,
    runs: int,
    sentence: str,
) -> None:
    monkeypatch.setattr(sync, "logged_in", lambda: logged_in)
    for number in range(runs):
        run_in(tmp_path, str(number))
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert calls == []
    assert sentence in capsys.readouterr().err
