"""The artefacts in tests/fixtures: each opens in this version and gives the numbers that were recorded when it was written."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paretune.core.errors import UsageError
from tests import measured
from tests.postgres import binaries, needs_postgres, postgres
from tests.samples import ROOT, environment

FIXTURES = ROOT / "tests" / "fixtures"
WRITTEN: dict[str, Any] = json.loads((FIXTURES / "written.json").read_text(encoding="utf-8"))
MOST_BYTES = 5_000_000
ROUNDING = {"rel": 1e-3, "abs": 1e-4}  # of numbers that another processor computes in another order
ONE_IMAGE = 0.01  # by which scores differ where rounding moves an image or two of some hundred
SOME_CLASSES = "some-classes"  # the model that was trained on three classes alone
SCORES = {"accuracy", "precision", "recall", "f1"}


def copied(name: str, to: Path) -> Path:
    """Copy an artefact to where a test may change it, and return the copy."""
    copy = to / Path(name).name
    shutil.copytree(FIXTURES / name, copy)
    return copy


def run(*command: str, cwd: Path, code: int = 0) -> str:
    """Run one of our commands; return what it prints."""
    line = [sys.executable, *command]
    values = {**environment(cwd), "PYTHONPATH": str(ROOT), "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    done = subprocess.run(line, cwd=cwd, env=values, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done.stdout


def assert_same(found: Any, wanted: Any, *, rel: float = 1e-9, abs: float = 1e-12, where: str = "") -> None:
    """Hold plain values against recorded ones: numbers within a tolerance, and scores within an image where one is given."""
    if isinstance(wanted, dict):
        assert set(found) == set(wanted), where
        for name in wanted:
            apart = ONE_IMAGE if rel > 1e-6 and name in SCORES else abs
            assert_same(found[name], wanted[name], rel=rel, abs=apart, where=f"{where}.{name}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for place, (mine, recorded) in enumerate(zip(found, wanted, strict=True)):
            assert_same(mine, recorded, rel=rel, abs=abs, where=f"{where}[{place}]")
    elif isinstance(wanted, float) and not isinstance(found, str) and found is not None:
        assert found == pytest.approx(wanted, rel=rel, abs=abs, nan_ok=True), where
    else:
        assert found == wanted, where


# -- as files


def files() -> list[Path]:
    return [path for path in sorted(FIXTURES.rglob("*")) if not path.is_dir() and "__pycache__" not in path.parts]


def test_the_fixtures_are_small_plain_files() -> None:
    assert sum(path.lstat().st_size for path in files()) <= MOST_BYTES
    for path in files():
        assert path.is_file(), path
        assert not path.is_symlink(), path
        assert path.stat().st_mode & 0o111 == 0, path


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_git_ignores_none_of_the_fixtures() -> None:
    names = "\n".join(str(path.relative_to(ROOT)) for path in files())
    done = subprocess.run(["git", "check-ignore", "--no-index", "--stdin"], cwd=ROOT, input=names, capture_output=True, text=True)
    assert done.stdout == ""


def test_the_fixtures_say_by_which_version_they_were_written() -> None:
    assert len(WRITTEN["commit"]) == 40
    assert {"python", "torch", "optuna", "wandb"} <= set(WRITTEN["versions"])


# -- models


@pytest.mark.parametrize("name", [name for name in WRITTEN["models"] if name != SOME_CLASSES])
def test_a_saved_model_gives_the_recorded_outputs(name: str, tmp_path: Path) -> None:
    found = measured.model(copied(f"models/{name}", tmp_path), FIXTURES / "pictures")
    assert_same(found, WRITTEN["models"][name], **ROUNDING)


def test_a_model_of_some_classes_predicts_as_recorded_and_is_evaluated_on_the_same_images_or_not_at_all(tmp_path: Path) -> None:
    folder, recorded = copied(f"models/{SOME_CLASSES}", tmp_path), dict(WRITTEN["models"][SOME_CLASSES])
    metrics = recorded.pop("metrics")
    assert_same(measured.outputs(folder, FIXTURES / "pictures"), recorded, **ROUNDING)
    refusal = ""
    try:
        assert_same(measured.evaluated(folder, "test"), metrics["test"], **ROUNDING)
    except UsageError as error:  # where the locked part is set apart before the classes are chosen, it is another one now
        refusal = str(error)
    assert not refusal or "must be the one that was set apart when the model was trained" in refusal


def test_the_commands_evaluate_and_predict_with_a_saved_model(tmp_path: Path) -> None:
    folder, recorded = copied("models/svm-probabilities", tmp_path), WRITTEN["models"]["svm-probabilities"]
    said = json.loads(run("-m", "trainers.evaluate", str(folder), "--json", "--device=cpu", cwd=tmp_path))
    assert_same({name: said[name] for name in recorded["metrics"]["test"]}, recorded["metrics"]["test"], **ROUNDING)
    rows = list(csv.DictReader(io.StringIO(run("-m", "trainers.predict", str(folder), str(FIXTURES / "pictures"), cwd=tmp_path))))
    assert [row["label"] for row in rows] == recorded["labels"]
    by_class = [
        [float(row[f"p({name})"]) for name in "0123456789"] for row in rows
    ]  # of pictures that it may bring to digits' form
    assert [sum(row) for row in by_class] == pytest.approx([1.0] * len(rows), abs=1e-4)


# -- studies


def sweep(folder: Path, file: str, trials: int, *flags: str) -> str:
    offline = str(ROOT / "sweeps" / "offline.py")
    return run(offline, file, f"--trials={trials}", "--seed=7", "--runs=runs", *flags, cwd=folder)


def test_a_finished_study_and_its_model_are_read_as_recorded(tmp_path: Path) -> None:
    folder, recorded = copied("studies/finished", tmp_path), dict(WRITTEN["finished"])
    assert_same(measured.model(folder / "models" / "finished", FIXTURES / "pictures"), recorded.pop("model"), **ROUNDING)
    assert_same(measured.study(folder / "runs" / "finished", {"precision": "maximize", "recall": "maximize"}), recorded)


def test_the_report_of_a_finished_study_shows_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from paretune.analysis.report import main

    folder, recorded = copied("studies/finished", tmp_path), WRITTEN["finished"]
    monkeypatch.chdir(folder)
    assert main(["runs/finished", "--models=models", "--to=report"]) == 0
    said = capsys.readouterr().out
    assert f"chosen {recorded['chosen']}" in said
    assert f"accuracy {recorded['model']['metrics']['test']['accuracy']:.4f} on the locked test part" in said
    assert (folder / "report" / "report.pdf").stat().st_size > 0


def test_a_finished_study_goes_on(tmp_path: Path) -> None:
    folder, recorded = copied("studies/finished", tmp_path), WRITTEN["finished"]
    sweep(folder, "sweep.yaml", len(recorded["runs"]) + 1, "--name=finished")
    found = measured.study(folder / "runs" / "finished", {"f1": "maximize"})["runs"]
    assert_same({name: found[name] for name in recorded["runs"]}, recorded["runs"])
    assert len(found) == len(recorded["runs"]) + 1


def test_a_stopped_study_is_read_as_recorded(tmp_path: Path) -> None:
    folder, recorded = copied("studies/stopped", tmp_path), WRITTEN["stopped"]["killed"]
    found = measured.study(folder / "runs" / "stopped", {"f1": "maximize"})
    assert_same(found, recorded)
    assert [one["state"] for one in found["runs"].values()].count("running") == 1


def test_a_stopped_study_goes_on_in_another_folder_as_if_nothing_had_stopped_it(tmp_path: Path) -> None:
    folder, recorded = copied("studies/stopped", tmp_path), WRITTEN["stopped"]["whole"]["runs"]
    sweep(folder, "sweep.yaml", len(recorded), "--name=stopped")  # at once: the copied lock shows that its worker is dead
    found = measured.study(folder / "runs" / "stopped", {"f1": "maximize"})["runs"]
    ended = [one for one in found.values() if one["state"] != "interrupted"]
    assert [one["state"] for one in found.values()].count("interrupted") == 1
    assert len(ended) == len(recorded)

    def by_rate(runs: Any) -> list[Any]:
        return sorted(runs, key=lambda one: float(one["config"]["learning_rate"]))

    for mine, theirs in zip(by_rate(ended), by_rate(recorded.values()), strict=True):
        assert_same(mine["config"], theirs["config"])
        assert_same(mine["rows"]["epoch"], theirs["rows"]["epoch"])
        assert_same(mine["rows"]["test_loss"], theirs["rows"]["test_loss"], rel=0.02)


def test_a_stopped_study_whose_lock_is_missing_goes_on_after_a_lease(tmp_path: Path) -> None:
    folder, recorded = copied("studies/stopped", tmp_path), WRITTEN["stopped"]["whole"]["runs"]
    shutil.rmtree(folder / "runs" / "stopped" / "workers")
    said = sweep(folder, "sweep.yaml", len(recorded), "--name=stopped", "--lease=1")
    assert f"stopped: {len(recorded)} complete" in said


def test_a_study_of_another_program_is_read_and_goes_on(tmp_path: Path) -> None:
    folder, recorded = copied("studies/own", tmp_path), copy.deepcopy(WRITTEN["own"])
    for known in recorded["runs"].values():
        del known["config"]["best_metric"]  # which that version added to the study's trials: the program has none
    assert_same(measured.study(folder / "runs" / "own", {"loss": "minimize", "size": "minimize"}), recorded)
    said = sweep(folder, "own.yaml", len(recorded["runs"]) + 1)
    assert f"own: {len(recorded['runs']) + 1} complete" in said


# -- caches and drawings


@pytest.mark.parametrize("source", ["offline", "online"])
def test_the_runs_that_were_kept_as_parquet_are_read_as_recorded(source: str, tmp_path: Path) -> None:
    from tests.fixtures.write import kept_runs

    shutil.copytree(FIXTURES / "histories", tmp_path / "histories")
    recorded = WRITTEN["histories"]["offline"] if source == "offline" else WRITTEN["sqlite"]["kept"]
    assert_same(kept_runs(tmp_path / "histories" / f"{source}.parquet"), recorded)


def test_drawings_are_counted_read_and_merged(tmp_path: Path) -> None:
    painter = copied("painter", tmp_path)
    assert_same(measured.drawings(painter / "drawings"), WRITTEN["drawings"])
    count = sum(WRITTEN["drawings"]["counts"].values())
    said = run("-m", "paretune.painter.drawings", "merge", str(painter / "drawings.zip"), "--to=merged", cwd=tmp_path)
    assert f"{count} added, 0 known already, 0 passed over" in said
    assert_same(measured.drawings(tmp_path / "merged"), WRITTEN["drawings"])


# -- services


def assert_kept(address: str, recorded: dict[str, Any], folder: Path) -> None:
    """Hold what a service says against what it said when it was written; its sweep then hands out a next run."""
    found, wanted = measured.service(address, folder), {**recorded}
    for each in (found, wanted):
        each.pop("never_begun", None)
        each.pop("kept", None)
    assert_same(found, wanted)
    going_on = recorded["sweeps"]["going-on"]
    command = measured.next_run(address, going_on["id"])
    assert command["type"] == "run"
    assert command["run_id"] not in going_on["runs"]
    assert 0 <= command["args"]["x"]["value"] <= 1
    assert command["args"]["kind"]["value"] in ("a", "b")


def test_a_services_folder_opens_with_all_that_it_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from paretune.service.__main__ import main

    data = copied("service/sqlite", tmp_path)
    with measured.served(data) as address:
        assert_kept(address, WRITTEN["sqlite"], tmp_path / "client")
    main(["doctor", "--data", str(data), "--full"])
    wrong = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok")]
    assert [line.split()[1] for line in wrong] in ([], ["heartbeats:"]), "but that the killed agent's run is silent, all is well"


def test_a_backup_of_a_service_is_restored(tmp_path: Path) -> None:
    shutil.copyfile(FIXTURES / "service" / "backup.tar", tmp_path / "backup.tar")
    run("-m", "paretune.service", "restore", "backup.tar", "--data=restored", cwd=tmp_path)
    with measured.served(tmp_path / "restored") as address:
        assert_kept(address, WRITTEN["sqlite"], tmp_path / "client")


@needs_postgres
def test_a_dump_of_a_services_postgresql_opens_with_all_that_it_keeps(tmp_path: Path) -> None:
    programs = binaries()
    assert programs is not None
    if not (programs / "psql").exists():
        pytest.skip("psql is not installed (apt-get install postgresql)")
    data = copied("service/postgres", tmp_path)
    with postgres(tmp_path / "server") as url:
        restore = [str(programs / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-f", str(data / "dump.sql"), url]
        done = subprocess.run(restore, capture_output=True, text=True, env={**os.environ, "PGCONNECT_TIMEOUT": "10"})
        assert done.returncode == 0, done.stderr
        with measured.served(data, "--database", url) as address:
            assert_kept(address, WRITTEN["postgres"], tmp_path / "client")
