"""A study's files: a folder of somebody's is refused, a study that is removed is missed, data that change end the sweep."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.runs.study_storage import StudyFile
from paretune.search.engine import worker
from paretune.search.engine.worker import run
from paretune.search.spec.sweep import read_sweep
from tests.samples import ROOT, start

SWEEP = """
program: trainers/softmax.py
method: random
metric: {name: f1, goal: maximize}
parameters:
  epochs: {value: 2}
  learning_rate: {min: 0.001, max: 0.1}
"""


def searched(folder: Path, trials: int, **fixed: Any) -> Any:
    (folder / "sweep.yaml").write_text(SWEEP)
    sweep = read_sweep(folder / "sweep.yaml", fixed)
    return run(sweep, trials=trials, name="s", seed=1, mode="disabled", device="cpu", runs=folder / "runs")


@pytest.mark.parametrize("name", ["notes.txt", "cache.txt", "src"])
def test_a_folder_of_other_files_is_refused_and_stays(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "s"
    folder.mkdir(parents=True)
    (folder / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"must be a new folder or one of a study. Got {name} in it: .* --name"):
        searched(tmp_path, 1)
    assert [path.name for path in folder.iterdir()] == [name]


def test_what_others_keep_in_a_study_s_folder_stays(tmp_path: Path) -> None:
    searched(tmp_path, 1)
    cache = tmp_path / "runs" / "s" / "cache"
    cache.mkdir()
    for path in (cache / "mine.npy", cache.parent / "notes.txt"):
        path.write_text("mine")
    searched(tmp_path, 2)
    assert (cache / "mine.npy").read_text() == (cache.parent / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_study_that_is_removed_in_mid_sweep_ends_it_in_one_sentence(
    replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, file = worker.Engine.tell, tmp_path / "runs" / "s" / "study.db"

    def tell(self: Any, trial: Any, rows: Any) -> Any:
        told = real(self, trial, rows)
        if told.number == 2:
            for path in file.parent.glob("study.db*"):
                path.unlink()
            if replaced:
                file.write_bytes(b"")
        return told

    monkeypatch.setattr(worker.Engine, "tell", tell)
    with pytest.raises(UsageError, match=r"study.db must stay where it is while its sweep runs. It was removed or replaced"):
        searched(tmp_path, 9)
    assert file.exists() == replaced


def test_workers_notice_that_their_study_is_removed(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    flags = ["sweep.yaml", "--name=s", "--trials=4000", "--runs=runs", "--workers=2", "--device=cpu", "--wandb=disabled"]
    remover = (
        "import pathlib, threading, time, runpy, sys\n"
        "file = pathlib.Path('runs/s/study.db')\n"
        "def remove():\n"
        "    while not file.exists() or file.stat().st_size < 150_000: time.sleep(0.2)\n"
        "    [path.unlink() for path in file.parent.glob('study.db*')]\n"
        "if __name__ == '__main__':\n"
        "    threading.Thread(target=remove, daemon=True).start()\n"
        f"    sys.argv = ['offline.py', *{flags!r}]\n"
        f"    runpy.run_path({str(ROOT / 'sweeps' / 'offline.py')!r}, run_name='__main__')\n"
    )
    (tmp_path / "remover.py").write_text(remover)
    ended = start(sys.executable, "remover.py", cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("error: runs/s/study.db must stay where it is while its sweep runs. It was removed or replaced")
    assert "Traceback" not in ended.stderr


def test_a_study_on_a_server_has_no_file_to_watch() -> None:
    file = StudyFile("postgresql://somewhere/studies")
    assert not file.lost
    file.check()


@pytest.mark.parametrize("older", [False, True], ids=["of this version", "of an older one"])
@pytest.mark.parametrize("change", ["added", "removed", "redrawn", "relabelled"])
def test_a_sweep_does_not_go_on_over_changed_pictures(
    change: str, older: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "root"))
    folder, random = tmp_path / "set", np.random.default_rng(0)

    def draw(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)

    for label in ("cat", "dog"):
        for number in range(20):
            draw(folder / label / f"{number:02}.png")
    fixed = {"data": f"folder:{folder}", "image_size": 8}
    searched(tmp_path, 2, **fixed)
    searched(tmp_path, 3, **fixed)
    if change == "added":
        draw(folder / "dog" / "20.png")
    elif change == "removed":
        (folder / "dog" / "05.png").unlink()
    elif change == "redrawn":
        draw(folder / "dog" / "05.png")
    else:
        (folder / "dog" / "05.png").rename(folder / "cat" / "20.png")
    if older:  # its trials alone say what they were trained on
        with sqlite3.connect(next(tmp_path.rglob("study.db"))) as database:
            assert database.execute(f"DELETE FROM study_user_attributes WHERE key LIKE '{study_schema.DATA}%'").rowcount == 1
        database.close()
    with pytest.raises(
        UsageError, match=r"must go on with the data that its trials were trained on. folder:.* has changed since \("
    ):
        searched(tmp_path, 4, **fixed)
