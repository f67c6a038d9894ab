"""Artefacts that lack what newer versions store: it is labelled `unknown`, and nothing is refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paretune.runs.wandb_files import BLOCK, read_records
from tests import measured
from tests.samples import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
PICTURES = FIXTURES / "pictures"
WRITTEN: dict[str, Any] = json.loads((FIXTURES / "written.json").read_text(encoding="utf-8"))


def copied(name: str, to: Path) -> Path:
    copy = to / Path(name).name
    shutil.copytree(FIXTURES / name, copy)
    return copy


def without(values: Any, path: str) -> Any:
    """Return a mapping without the value at a path with points, where it is there."""
    name, _, rest = path.partition(".")
    if name not in values:
        return values
    if not rest:
        return {key: value for key, value in values.items() if key != name}
    return {**values, name: without(values[name], rest)}


def strip_json(file: Path, path: str) -> None:
    file.write_text(json.dumps(without(json.loads(file.read_text()), path)))


def strip_study(database: Path, *, study: str = "", trial: str = "") -> None:
    """Take an attribute out of a study, or out of all its trials; of a trial a path into it."""
    with sqlite3.connect(database) as connection:
        if study:
            connection.execute("DELETE FROM study_user_attributes WHERE key = ?", [study])
        if trial:
            name, _, rest = trial.partition(".")
            query = "SELECT trial_user_attribute_id, key, value_json FROM trial_user_attributes"
            for number, key, value in connection.execute(query).fetchall():
                if key.partition(":")[0] != name:
                    continue
                if not rest:
                    connection.execute("DELETE FROM trial_user_attributes WHERE trial_user_attribute_id = ?", [number])
                    continue
                written = json.dumps(without(json.loads(value), rest))
                query = "UPDATE trial_user_attributes SET value_json = ? WHERE trial_user_attribute_id = ?"
                connection.execute(query, [written, number])
    connection.close()


def strip_run_file(file: Path, change: Callable[[Any], bool]) -> None:
    """Write a run file of W&B's again; `change` may change each record, and says whether it stays."""
    from wandb.proto import wandb_internal_pb2

    written = bytearray(file.read_bytes()[:7])
    for raw in list(read_records(file)):
        record: Any = wandb_internal_pb2.Record.FromString(raw)  # type: ignore[attr-defined]
        if not change(record):
            continue
        data, first = record.SerializeToString(), True
        while data or first:
            left = BLOCK - len(written) % BLOCK
            if left < 7:
                written += bytes(left)
                left = BLOCK
            part, data = data[: left - 7], data[left - 7 :]
            kind = (1 if first else 4) if not data else (2 if first else 3)
            written += struct.pack("<IHB", zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part
            first = False
    file.write_bytes(bytes(written))


def strip_config(folder: Path, path: str) -> None:
    """Take a value of the config out of all runs of a study, wherever it stands."""
    strip_study(folder / "study.db", trial=f"run.config.{path}")
    name, _, rest = path.partition(".")

    def change(record: Any) -> bool:
        for updates in (record.run.config.update, record.config.update):
            for item in list(updates):
                key = item.key or item.nested_key[0]
                if key != name:
                    continue
                if rest and not item.nested_key:
                    item.value_json = json.dumps(without(json.loads(item.value_json), rest))
                elif not rest:
                    updates.remove(item)
        return True

    for file in folder.rglob("run-*.wandb"):
        strip_run_file(file, change)


# -- models


@pytest.mark.parametrize("path", ["provenance", "provenance.versions", "provenance.fingerprints", "data_options.split_seed"])
@pytest.mark.parametrize("name", ["softmax", "autoencoder"])
def test_a_model_without_its_origin_gives_the_same_numbers(name: str, path: str, tmp_path: Path) -> None:
    folder = copied(f"models/{name}", tmp_path)
    strip_json(folder / "config.json", path)
    recorded = WRITTEN["models"][name]["metrics"]["test"]
    assert measured.model(folder, PICTURES)["metrics"]["test"] == pytest.approx(recorded, rel=1e-3, abs=0.01)


def test_a_model_of_unknown_data_is_evaluated_on_data_that_a_person_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from paretune.trainers.evaluate import main

    folder = copied("models/softmax", tmp_path)
    strip_json(folder / "config.json", "data_options")
    assert main([str(folder), "--data=digits", "--device=cpu"]) == 0
    told = capsys.readouterr()
    assert f"accuracy {WRITTEN['models']['softmax']['metrics']['test']['accuracy']:.4f}" in told.out
    assert "trained on unknown data" in told.err
    with pytest.raises(SystemExit, match="2"):
        main([str(folder)])
    assert "does not say which data it was trained on (unknown): name a set" in capsys.readouterr().err


def test_a_model_without_metrics_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from paretune.trainers.predict import main

    folder = copied("models/ann-dense", tmp_path)
    (folder / "metrics.json").unlink()
    for path in ("provenance", "data_options"):
        strip_json(folder / "config.json", path)
    assert main([str(folder), str(PICTURES), "--device=cpu"]) == 0
    labels = [line.split(",")[2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert labels == WRITTEN["models"]["ann-dense"]["labels"]


def test_a_model_of_unknown_data_is_checked_on_random_images_when_it_is_exported(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from paretune.models.export import export_saved

    folder = copied("models/softmax", tmp_path)
    strip_json(folder / "config.json", "data_options")
    assert "random images, as the data that it was trained on are unknown" in export_saved(folder).sentence


# -- runs of a study


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(copied("studies/finished", tmp_path))
    return Path("runs") / "finished"


def sources(folder: Path) -> dict[str, str]:
    """Return what the report says of where a study's numbers come from, by the name of the row."""
    from paretune.analysis.document.document import Table
    from paretune.analysis.document.origins import sources_section
    from paretune.analysis.document.sections import summary_section
    from paretune.analysis.document.sweep_report import read_study

    study = read_study(str(folder), None, Path("models"))
    summary_section([study])
    return {row[1]: row[2] for row in [block for block in sources_section([study]) if isinstance(block, Table)][-1].rows}


CONFIG = {
    "provenance": ["data", "commit", "packages", "device"],
    "provenance.commit": ["commit"],
    "provenance.versions": ["packages"],
    "provenance.device": ["device"],
    "provenance.fingerprints": ["data"],
    "provenance.n_train": [],
    "provenance.n_holdout": [],
    "data": ["data"],
    "seed": ["seeds"],
    "split_seed": ["seeds"],
    "average": [],
    "best_metric": [],
    "evaluation_split": [],
    "holdout": [],
    "preset": [],
}


@pytest.mark.parametrize("path", CONFIG)
def test_runs_without_a_value_of_the_config_are_read_and_the_report_says_unknown(
    path: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from paretune.analysis import choose, history, pareto

    strip_config(finished, path)
    for step in (history, pareto, choose):
        assert step.main([str(finished)]) == 0
    assert WRITTEN["finished"]["chosen"] in capsys.readouterr().out
    (run,) = {one.config.get("evaluation_split", "unknown") for one in history.load_runs(finished)}
    assert run == ("unknown" if path == "evaluation_split" else "holdout")
    rows = sources(finished)
    assert [name for name, text in rows.items() if "unknown" in text] == CONFIG[path]
    assert not any("None" in text for text in rows.values())


def test_a_retrain_says_that_the_locked_part_of_the_run_is_unknown(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from paretune.analysis import retrain

    strip_config(finished, "provenance")
    strip_config(finished, "split_seed")
    assert retrain.main([str(finished), "--to=again", "--device=cpu"]) == 0
    assert "again: the fingerprint of the run's locked part is unknown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "path", "row"),
    [
        ("config.json", "provenance", "device"),
        ("config.json", "run", "run that was retrained"),
        ("config.json", "choice", None),
        ("config.json", "precision", None),
        ("metrics.json", "locked_part_read", "locked part read"),
        ("metrics.json", "locked_part_reads", None),
        ("metrics.json", "n_train", None),
        ("metrics.json", "seeds", None),
        ("metrics.json", "interval", None),
    ],
)
def test_the_report_reads_a_retrained_model_that_does_not_say_all(file: str, path: str, row: str | None, finished: Path) -> None:
    strip_json(Path("models") / "finished" / file, path)
    rows = sources(finished)
    assert [name for name, text in rows.items() if "unknown" in text] == ([] if row is None else [row])


def test_a_whole_report_is_written_of_a_study_that_says_nothing_of_its_origin(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from paretune.analysis.report import main

    for path in ("provenance", "split_seed", "best_metric"):
        strip_config(finished, path)
    for file, path in (
        ("config.json", "provenance"),
        ("metrics.json", "locked_part_reads"),
        ("metrics.json", "n_train"),
        ("metrics.json", "seeds"),
    ):
        strip_json(Path("models") / "finished" / file, path)
    (Path("models") / "finished" / "predictions.safetensors").unlink()
    assert main([str(finished), "--models=models", "--to=report"]) == 0
    text = (Path("report") / "report.html").read_text()
    assert "an unknown number of images drawn from the training images" in text
    assert "How often it was read is unknown." in text
    assert "retrained with the seeds unknown" in text
    assert "What it predicted for each image is unknown" in text
    assert f"chosen {WRITTEN['finished']['chosen']}" in capsys.readouterr().out


def test_run_files_without_time_name_or_end_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from paretune.analysis import history

    folder = copied("studies/own/runs/own", tmp_path)
    (folder / "study.db").unlink()

    def change(record: Any) -> bool:
        for name in ("start_time", "display_name", "run_group", "config"):
            record.run.ClearField(name)
        return record.WhichOneof("record_type") not in ("exit", "summary", "config")

    files = list(folder.rglob("run-*.wandb"))
    for file in files:
        strip_run_file(file, lambda record: change(record) if record.WhichOneof("record_type") != "history" else True)
    runs = history.load_runs(folder)
    assert [run.n_rows for run in runs] == [3] * len(files)
    assert all(run.created != run.created for run in runs), "no time is not the beginning of 1970"
    assert history.main([str(folder)]) == 0


# -- studies


STUDY = ["sweep", "values", "seed", "classifier", "goals", "study_id"]
TRIAL = [
    *("run", "run.id", "run.host", "run.path", "run.config", "run.suggested"),
    *("worker", "worker.host", "worker.lock", "beat", "baseline", "epoch.last"),
]


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(copied("studies/stopped", tmp_path))
    return Path("runs") / "stopped"


@pytest.mark.parametrize("attribute", [*(("study", name) for name in STUDY), *(("trial", name) for name in TRIAL)])
def test_a_study_that_does_not_say_all_of_itself_is_shown_read_and_goes_on(
    attribute: tuple[str, str], stopped: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from paretune.analysis import choose, history
    from paretune.search import command_line, status

    monkeypatch.setattr(command_line, "_seconds", float)  # a person's lease is of a second at least

    of, name = attribute
    strip_study(stopped / "study.db", **{of: name})
    assert status.main([str(stopped)]) == 0
    told = capsys.readouterr().out
    assert "stopped: 2 complete" in told
    assert ("on an unknown machine" in told) == (name in ("worker", "worker.host"))
    assert history.main([str(stopped)]) == choose.main([str(stopped)]) == 0
    assert WRITTEN["stopped"]["killed"]["chosen"] in capsys.readouterr().out
    runs = history.load_runs(stopped)
    assert len(runs) == 3 if name != "epoch.last" else len(runs) >= 2
    arguments = ["sweep.yaml", "--trials=3", "--seed=7", "--runs=runs", "--name=stopped", "--lease=0.1", "--wandb=disabled"]
    assert command_line.main(arguments) == 0
    told = capsys.readouterr()  # type: ignore[assignment]
    assert "stopped: 3 complete" in told.out  # type: ignore[attr-defined]
    assert ("is unknown" in told.err) == (attribute in [("study", key) for key in ("sweep", "values", "seed")])  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["sweep", "goals", "classifier"])
def test_a_trial_of_a_study_that_does_not_say_all_of_itself_is_run_again(name: str, stopped: Path) -> None:
    from paretune.search import run

    strip_study(stopped / "study.db", study=name)
    assert run.main([str(stopped), "--trial=0", "--device=cpu"]) in (0, 1)


def test_a_trial_of_unknown_configuration_is_named(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from paretune.search import run

    strip_study(stopped / "study.db", trial="run.config")
    with pytest.raises(SystemExit, match="2"):
        run.main([str(stopped), "--trial=0"])
    assert "the configuration of trial 0 of stopped is unknown" in capsys.readouterr().err


def test_a_study_that_differs_is_refused_as_before(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from paretune.search import command_line

    strip_study(stopped / "study.db", study="study_id")
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["sweep.yaml", "--trials=3", "--seed=8", "--runs=runs", "--name=stopped", "--wandb=disabled"])
    assert "was started with another seed (7, now 8)" in capsys.readouterr().err


# -- caches, drawings, services


@pytest.mark.parametrize(
    "name", ["mark", "name", "group", "sweep", "state", "created", "file", "config", "tags", "goals", "summary"]
)
@pytest.mark.parametrize("source", ["offline", "online"])
def test_kept_runs_without_a_value_are_read(source: str, name: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from paretune.analysis.sources import parquet_cache

    place = tmp_path / "kept.parquet"
    table = pq.read_table(FIXTURES / "histories" / f"{source}.parquet")
    described = json.loads(table.schema.metadata[b"paretune"])
    described["runs"] = [without(run, name) for run in described["runs"]]
    pq.write_table(table.replace_schema_metadata({"paretune": json.dumps(described)}), place)
    runs = [run for _, run in parquet_cache.read(place)]
    assert [run.n_rows for run in runs] == [run["n_rows"] for run in described["runs"]]
    assert all(isinstance(dict(run.summary), dict) for run in runs)


@pytest.mark.parametrize("name", ["label", "painter", "time", "size", "strokes"])
def test_drawings_without_a_value_are_merged_and_their_time_is_unknown(name: str, tmp_path: Path) -> None:
    from paretune.painter.drawings import Drawings

    folder = copied("painter/drawings", tmp_path)
    for file in folder.glob("strokes/*.json"):
        strip_json(file, name)
    for to, source in (("merged", folder), ("again", tmp_path / "merged")):
        merged = Drawings(tmp_path / to).merge(source)
        assert (merged.added, merged.refused) == (sum(WRITTEN["drawings"]["counts"].values()), [])
    times = {json.loads(file.read_text())["time"] for file in (tmp_path / "again").glob("strokes/*.json")}
    assert (times == {"unknown"}) == (name == "time")


def test_drawings_without_strokes_are_read(tmp_path: Path) -> None:
    folder = copied("painter/drawings", tmp_path)
    shutil.rmtree(folder / "strokes")
    assert measured.drawings(folder)["means"] == pytest.approx(WRITTEN["drawings"]["means"])


def test_a_service_shows_what_a_run_does_not_say_as_unknown(tmp_path: Path) -> None:
    data = copied("service/sqlite", tmp_path)
    with sqlite3.connect(data / "service.db") as connection:
        connection.execute('UPDATE run SET host = NULL, "commit" = NULL')
    connection.close()
    from starlette.testclient import TestClient

    from paretune.service.http.app import application
    from paretune.service.store.database import Database
    from paretune.service.store.files import Files
    from paretune.service.sweeps.searches import Searches
    from paretune.service.web import pages
    from paretune.service.web.login import Logins

    database, files = Database(f"sqlite:///{data / 'service.db'}"), Files(data / "files")
    searches = Searches(f"sqlite:///{data / 'studies.db'}")
    web = pages.application(database, files, searches, logins=Logins(database, files))
    client = TestClient(application(database, files, searches, web))
    client.post("/login", data={"key": measured.KEY})
    page = client.get("/someone/fixtures/runs/logged").text
    searches.close()
    database.close()
    assert page.count("unknown") == 2
