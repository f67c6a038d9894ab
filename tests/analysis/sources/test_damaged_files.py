"""Run files that are damaged in the middle: known as damaged by every step, never as running, and never a traceback."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from paretune.analysis import choose, diagnose, history, importance, pareto, report
from paretune.analysis.history import load_runs
from paretune.analysis.sources import parquet_cache
from paretune.runs.wandb_files import BLOCK, read_run
from tests.analysis.truth import Run

COMMANDS = [history, pareto, choose, diagnose]
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped byte": lambda raw: raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1 :],
    "a hole": lambda raw: raw[: len(raw) // 2] + bytes(100) + raw[len(raw) // 2 + 100 :],
    "a lost piece": lambda raw: raw[: len(raw) // 2] + raw[len(raw) // 2 + 300 :],
    "another file's bytes": lambda raw: raw[: len(raw) // 2] + os.urandom(BLOCK) + raw[len(raw) // 2 :],
    "the run's own record": lambda raw: raw[:60] + bytes([raw[60] ^ 1]) + raw[61:],
}


@pytest.fixture
def alone(study_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run files of a sweep without its study."""
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    return Path(shutil.copytree(study_folder / "wandb", tmp_path / "wandb", symlinks=True))


def file_of(folder: Path, run: Run) -> Path:
    return next(folder.rglob(f"run-{run.run}.wandb"))


@pytest.mark.parametrize("worthwhile", [2, 100])
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_step_says_that_a_file_is_damaged_and_leaves_its_run_out(
    damage: str,
    worthwhile: int,
    alone: Path,
    truth: list[Run],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet_cache, "WORTHWHILE", worthwhile)
    file = file_of(alone, truth[0])
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    os.utime(file, (1e9, 1e9))  # long ago: no run that has crashed either
    for command in (*COMMANDS, history):  # the last time what was kept of the first
        assert command.main([str(alone)]) == 0
        printed = capsys.readouterr()
        sentence = f"{alone}: 1 run file is damaged: {file.name}; only the rows that can be read are shown"
        assert sentence in printed.err
        assert printed.err.count("damaged") == 1
        assert ("left out: 1 damaged" in printed.out) == (command is pareto)
        assert "running" not in printed.out.partition("the first rule that holds")[0]
    (run,) = (run for run in load_runs(alone) if run.run == truth[0].run)
    assert run.state == "damaged"
    rows = [dict(row) for row in truth[0].epochs]
    assert all(row in rows for row in run.rows)
    assert all(run.state != "damaged" for run in load_runs(alone) if run.run != truth[0].run)


def test_a_report_of_such_runs_counts_them(
    alone: Path, truth: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_of(alone, truth[0])
    file.write_bytes(DAMAGES["a flipped byte"](file.read_bytes()))
    assert report.main([str(alone), "--models", str(tmp_path / "none"), "--to", str(tmp_path / "report")]) == 0
    assert f"1 run file is damaged: {file.name}" in capsys.readouterr().err
    assert "1 damaged run file" in (tmp_path / "report" / "report.html").read_text()


def test_the_study_knows_what_a_damaged_file_has_lost(
    study_folder: Path, truth: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(study_folder, tmp_path / "tiny", symlinks=True))
    file = file_of(folder, truth[0])
    file.write_bytes(DAMAGES["a hole"](file.read_bytes()))
    runs = load_runs(folder)
    assert f"{folder}: 1 run file is damaged: {file.name}; shown as the study knows them" in capsys.readouterr().err
    assert [run.state for run in runs] == [run.state for run in truth]
    assert [run.rows for run in runs] == [run.epochs for run in truth]


def test_a_file_without_its_end_is_not_damaged(alone: Path, truth: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    file = file_of(alone, truth[0])
    raw = file.read_bytes()
    for content in (raw[: len(raw) // 2], raw[: len(raw) // 2] + bytes(0), raw[:-40]):
        file.write_bytes(content)
        run = read_run(file)
        assert run is not None
        assert (run.state, run.damaged) == ("running", ())
    assert load_runs(alone)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", [*COMMANDS, importance])
def test_where_every_file_is_damaged_one_sentence_says_so(
    command: ModuleType, alone: Path, truth: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    for run in truth:
        file = file_of(alone, run)
        file.write_bytes(DAMAGES["a flipped byte"](file.read_bytes()))
    if command in (history, diagnose):
        assert command.main([str(alone)]) == 0
    else:
        with pytest.raises(SystemExit, match="2"):
            command.main([str(alone)])
    errors = capsys.readouterr().err
    assert f"{len(truth)} run files are damaged: " in errors
    assert ("no run has finished yet (5 damaged)" in errors) == (command not in (history, diagnose))
    assert "Traceback" not in errors
