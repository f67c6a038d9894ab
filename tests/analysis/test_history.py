"""One conformance suite over every source of histories, and what each of them has for itself."""

from __future__ import annotations

import argparse
import copy
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import wandb

from paretune.analysis import history
from paretune.analysis.choose import choose
from paretune.analysis.findings.confidence import configurations
from paretune.analysis.findings.front import front_of
from paretune.analysis.history import (
    LEADING,
    RunRecord,
    add_sources,
    load_history,
    load_runs,
    runs_table,
    sources_of,
    tidy,
    write_table,
)
from paretune.analysis.sources import offline, parquet_cache
from paretune.analysis.sources.offline import read_run_file
from paretune.analysis.sources.run_record import columns_of
from paretune.core.epoch import METRICS, Epoch
from paretune.core.errors import UsageError
from paretune.runs import tracking
from tests.analysis.truth import Run, Server, ServerRun, written_out

SOURCES = ["study folder", "study.db", "study without run files", "run files", "one run file", "server"]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where pulled runs are kept."""
    monkeypatch.setattr(parquet_cache, "ROOT", tmp_path)
    return tmp_path / "runs" / ".pulled"


def serve(monkeypatch: pytest.MonkeyPatch, runs: list[ServerRun]) -> Server:
    server = Server(runs)
    monkeypatch.setattr(wandb, "Api", server)
    monkeypatch.setattr("paretune.analysis.sources.server.logged_in", lambda: True)
    return server


@pytest.fixture(params=SOURCES)
def source(
    request: pytest.FixtureRequest,
    study_folder: Path,
    truth: list[Run],
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[str, list[Run]]:
    """A source in the words that a person types, and the runs that it holds."""
    if request.param == "server":
        serve(monkeypatch, [ServerRun(run) for run in reversed(truth)])
        return "me/project", truth
    if request.param == "study without run files":
        shutil.copy(study_folder / "study.db", tmp_path / "study.db")
        return str(tmp_path), truth
    if request.param == "one run file":
        (file,) = study_folder.rglob(f"run-{truth[-1].run}.wandb")
        return str(file), truth[-1:]
    places = {"study folder": study_folder, "study.db": study_folder / "study.db", "run files": study_folder / "wandb"}
    return str(places[request.param]), truth


def same_value(ours: Any, theirs: Any) -> bool:
    return ours is None if theirs is None else bool(ours == theirs)


def test_a_source_gives_every_run_once_in_the_order_of_creation(source: tuple[str, list[Run]]) -> None:
    text, expected = source
    assert [(run.run, run.name, run.group) for run in load_runs(text)] == [(run.run, run.name, "tiny") for run in expected]


def test_a_source_gives_one_row_per_run_and_epoch(source: tuple[str, list[Run]]) -> None:
    text, expected = source
    table = load_history(text)
    pairs = [(run.run, row["epoch"]) for run in expected for row in run.epochs]
    assert list(zip(table["run"], table["epoch"], strict=True)) == pairs


def test_a_source_gives_the_very_metrics_that_were_logged(source: tuple[str, list[Run]]) -> None:
    text, expected = source
    table = load_history(text)
    for name in METRICS:
        assert table[name].tolist() == [row[name] for run in expected for row in run.epochs], name


def test_a_source_gives_every_config_value_and_keeps_none(source: tuple[str, list[Run]]) -> None:
    text, expected = source
    table = load_history(text)
    for run in expected:
        line = table[table["run"] == run.run].iloc[0]
        for name, value in run.config.items():
            assert same_value(line[f"config.{name}"], value), name
        assert line["config.train_size"] is None
    assert "config.provenance" not in table


def test_a_source_gives_the_columns_that_are_promised(source: tuple[str, list[Run]]) -> None:
    text, expected = source
    configs = [f"config.{name}" for name in expected[0].config]
    columns = list(load_history(text).columns)
    assert columns[: len(LEADING)] == LEADING
    assert set(columns[len(LEADING) : -len(METRICS) - 1]) == set(configs)
    assert columns[-len(METRICS) - 1 :] == ["epoch", *METRICS]


def test_a_source_says_how_each_run_ended(source: tuple[str, list[Run]]) -> None:
    text, expected = source
    assert [run.state for run in load_runs(text)] == [run.state for run in expected]


def test_a_source_says_which_run_is_the_baseline(source: tuple[str, list[Run]]) -> None:
    text, expected = source
    assert runs_table(load_runs(text))["baseline"].tolist() == [bool(run.tags) for run in expected]


# -- studies and their run files


@pytest.fixture
def copied(study_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(study_folder, tmp_path / "tiny", symlinks=True)
    return tmp_path / "tiny"


def run_file(folder: Path, run: Run) -> Path:
    (found,) = folder.rglob(f"run-{run.run}.wandb")
    return found


def test_a_trial_whose_run_file_is_missing_or_empty_comes_from_the_study(
    copied: Path, truth: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run_file(copied, truth[0]).parent)
    os.truncate(run_file(copied, truth[1]), 7)
    os.truncate(run_file(copied, truth[2]), 0)
    found = load_runs(copied)
    assert [run.rows for run in found] == [run.epochs for run in truth]
    assert [run.state for run in found] == [run.state for run in truth]
    assert [bool(run.file) for run in found] == [False, False, False, True, True]
    names = {f"run-{run.run}.wandb" for run in truth[1:3]}
    said = capsys.readouterr().err
    assert said.startswith(f"{copied}: no run can be read from 2 run files: ")
    assert said.endswith("; shown as the study knows them\n")
    assert all(name in said for name in names)


def test_the_study_completes_a_run_file_that_was_cut_off(copied: Path, truth: list[Run]) -> None:
    file = run_file(copied, truth[1])
    whole = file.stat().st_size
    for size in range(whole - 1, 7, -311):
        os.truncate(file, size)
        assert load_runs(copied)[1].rows == truth[1].epochs


def test_a_run_file_adds_provenance_to_its_trial(study_folder: Path) -> None:
    for run in load_runs(study_folder):
        assert set(run.config["provenance"]["fingerprints"]) == {"test", "train", "holdout"}


def test_runs_beside_the_study_in_its_folder_are_listed_as_well(copied: Path, truth: list[Run]) -> None:
    with tracking.track(mode="offline", quiet=True, directory=copied, run_id="byhand", name="by hand") as tracker:
        tracker.log(Epoch(1, {"f1": 0.5}))
    written_out(copied)
    assert [run.run for run in load_runs(copied)] == [*(run.run for run in truth), "byhand"]


def test_a_run_of_another_host_is_named(
    study_folder: Path, truth: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = offline.socket.gethostname()
    monkeypatch.setattr(offline.socket, "gethostname", lambda: "elsewhere")
    shutil.copy(study_folder / "study.db", tmp_path)
    assert {run.file for run in load_runs(tmp_path)} == {f"on {host}"}
    assert history.main([str(tmp_path)]) == 0
    assert f"run files on other machines: {', '.join(run.name for run in truth)}\n" in capsys.readouterr().out


def test_a_run_whose_file_was_fetched_from_another_host_is_not_called_elsewhere(
    study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline.socket, "gethostname", lambda: "elsewhere")
    assert all(run.file.endswith(".wandb") for run in load_runs(study_folder))


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose process was killed: one trial waits, one runs, one was interrupted, one failed."""
    folder = tmp_path_factory.mktemp("unfinished")
    study = optuna.create_study(storage=f"sqlite:///{folder}/study.db", study_name="killed", direction="maximize")
    study.set_user_attr("goals", {"f1": "maximize"})
    for place, cause in enumerate(["", "interrupted", "dropout must be in [0, 1)."]):
        trial = study.ask()
        config = {"classifier": "softmax", "evaluation_split": "holdout"}
        trial.set_user_attr("run", {"id": f"id{place}", "host": "here", "path": None, "config": config})
        trial.set_user_attr("epoch:10", {"f1": 0.75, "last": False})
        trial.set_user_attr("epoch:9", {"f1": 0.5, "last": False})
        if cause:
            trial.set_user_attr("cause", cause)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial({"x": 1})
    return folder


def test_runs_that_are_alive_were_killed_or_failed_come_from_the_study(unfinished: Path) -> None:
    found = load_runs(unfinished)
    assert [(run.run, run.state) for run in found] == [("id0", "running"), ("id1", "interrupted"), ("id2", "failed")]
    assert [run.file for run in found] == ["", "", ""]
    for run in found:
        assert run.rows == [{"epoch": 9.0, "f1": 0.5}, {"epoch": 10.0, "f1": 0.75}]


# -- run files


def test_a_metric_that_was_not_a_number_comes_back_so_and_tables_are_no_metrics(tmp_path: Path) -> None:
    import numpy as np

    with tracking.track(mode="offline", quiet=True, directory=tmp_path) as tracker:
        tracker.log(Epoch(1, {"f1": math.nan, "test_loss": math.inf}))
        tracker.log(Epoch(2, {"f1": 0.5, "test_loss": 1.0}))
        tracker.log_confusion(np.eye(2, dtype=int), ["a", "b"])
        tracker.run.log({"remark": "a text", "flag": True, "parts": {"inner": 1}}, step=3)
    (file,) = written_out(tmp_path)
    run = read_run_file(file)
    assert run is not None
    assert [set(row) for row in run.rows] == [{"epoch", "f1", "test_loss", "parts.inner"}] * 3
    assert math.isnan(run.rows[0]["f1"])
    assert run.rows[0]["test_loss"] == math.inf
    assert {key: run.rows[1][key] for key in ("epoch", "f1", "test_loss")} == {"epoch": 2.0, "f1": 0.5, "test_loss": 1.0}
    assert [row["parts.inner"] == 1.0 for row in run.rows] == [False, False, True]


def test_a_run_that_raised_is_failed(tmp_path: Path) -> None:
    def fail() -> None:
        with tracking.track(mode="offline", quiet=True, directory=tmp_path) as tracker:
            tracker.log(Epoch(1, {"f1": 0.5}))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    (file,) = written_out(tmp_path)
    run = read_run_file(file)
    assert run is not None
    assert run.state == "failed"
    assert run.rows == [{"epoch": 1.0, "f1": 0.5}]


# -- W&B's server


@pytest.fixture
def scans() -> Iterator[Any]:
    """How many histories were asked of the server since the last call."""
    ServerRun.scans = 0

    def since() -> int:
        count, ServerRun.scans = ServerRun.scans, 0
        return count

    return iter(since, object())


def test_only_runs_that_are_new_are_pulled_again(
    truth: list[Run], cache: Path, scans: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = [ServerRun(run) for run in truth]
    server = serve(monkeypatch, served[:3])
    first = load_history("me/project")
    assert next(scans) == 3
    assert [file.suffix for file in cache.rglob("*") if file.is_file()] == [".parquet"]
    pd.testing.assert_frame_equal(load_history("me/project"), first)
    assert next(scans) == 0
    server.found = served
    assert load_history("me/project")["run"].nunique() == 5
    assert next(scans) == 2


def test_a_run_that_is_alive_is_pulled_each_time(
    truth: list[Run], cache: Path, scans: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = Run("alive", "alive", "running", truth[0].config, truth[0].epochs[:1], created=truth[0].created)
    serve(monkeypatch, [ServerRun(truth[0]), ServerRun(alive)])
    assert sorted(len(run.rows) for run in load_runs("me/project")) == [1, 3]
    assert next(scans) == 2
    alive.epochs = truth[0].epochs
    serve(monkeypatch, [ServerRun(truth[0]), ServerRun(alive)])
    assert [len(run.rows) for run in load_runs("me/project")] == [3, 3]
    assert next(scans) == 1


def test_a_kept_run_keeps_what_was_not_a_number_and_what_was_none(
    truth: list[Run], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"epoch": 1, "f1": math.nan, "test_loss": math.inf}]
    odd = Run("odd", "odd", "finished", {**truth[0].config, "hidden": [64, 32]}, rows)
    serve(monkeypatch, [ServerRun(odd)])
    for _ in ("pulled", "kept"):
        (line,) = load_history("me/project").to_dict("records")
        assert math.isnan(line["f1"])
        assert line["test_loss"] == math.inf
        assert line["config.train_size"] is None
        assert line["config.hidden"] == [64, 32]


def test_a_sweep_is_asked_for_by_its_id(truth: list[Run], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, [ServerRun(run) for run in truth])
    load_runs("me/project/abc123")
    load_runs("me/project")
    assert server.asked == [("me/project", {"sweep": "abc123"}), ("me/project", {})]


def test_a_project_of_one_sweep_does_not_show_the_runs_kept_of_another(
    truth: list[Run], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(monkeypatch, [ServerRun(run) for run in truth[:2]])
    load_runs("me/project/one")
    server.found = [ServerRun(run) for run in truth[2:]]
    assert [run.run for run in load_runs("me/project/other")] == [run.run for run in truth[2:]]


# -- mistakes


def test_a_source_that_is_neither_folder_nor_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^/nowhere/at/all is no folder here, and not of the form entity/project"):
        load_runs("/nowhere/at/all")


@pytest.mark.parametrize("kind", ["empty folder", "folder of an empty run file", "text file"])
def test_a_source_without_a_run_is_refused(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if kind == "text file":
        place.write_text("nothing", encoding="utf-8")
    else:
        place.mkdir()
        if kind != "empty folder":
            (place / "run-x.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    with pytest.raises(UsageError, match=r"^[^\n]*place holds no run: give a study's folder [^\n]*$"):
        load_runs(place)


def test_a_database_that_holds_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"this is no database at all, whatever its name says")
    with pytest.raises(UsageError, match=r"^[^\n]*study.db cannot be read as a study \(file is not a database\)"):
        load_runs(tmp_path)


def test_the_server_is_not_asked_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, [])
    monkeypatch.setattr("paretune.analysis.sources.server.logged_in", lambda: False)
    with pytest.raises(UsageError, match=r"^me/project is no folder here, [^\n]*wandb login"):
        load_runs("me/project")
    assert server.asked == []


@pytest.mark.parametrize(
    "error", [ValueError("Could not find project"), wandb.errors.CommError("Could not find project\nhttp 404")]
)
def test_a_project_that_the_server_does_not_know_is_refused(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, [])

    def refuse(*args: Any, **settings: Any) -> None:
        raise error

    server.runs = refuse  # type: ignore[assignment, method-assign]
    with pytest.raises(UsageError, match=r"^me/project: W&B has no such project or sweep \(Could not find project\)\.$"):
        load_runs("me/project")


def test_a_project_without_a_run_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, [])
    with pytest.raises(UsageError, match="has no run yet"):
        load_runs("me/project")


# -- tables


def test_a_config_value_that_a_run_does_not_have_is_na_and_none_stays_none() -> None:
    table = tidy(
        [
            RunRecord(run="a", config={"hidden": None, "C": 1}, columns=columns_of([{"epoch": 1.0, "f1": 0.5}])),
            RunRecord(run="b", config={"hidden": [64]}, columns=columns_of([{"epoch": 1.0, "f1": 0.5}])),
        ]
    )
    assert table["config.hidden"].tolist() == [None, [64]]
    assert table["config.C"][0] == 1
    assert table["config.C"][1] is pd.NA


def test_a_run_without_rows_keeps_one_line_without_metrics() -> None:
    table = tidy(
        [RunRecord(run="a"), RunRecord(run="b", columns=columns_of([{"epoch": 1.0, "f1": 0.5}, {"epoch": 2.0, "f1": 0.6}]))]
    )
    assert table["run"].tolist() == ["a", "b", "b"]
    assert math.isnan(table["f1"][0])
    assert math.isnan(table["epoch"][0])


def test_a_metric_that_one_run_lacks_is_nan_there_and_keeps_its_place() -> None:
    table = tidy(
        [
            RunRecord(run="svm", columns=columns_of([{"epoch": 1.0, "own": 3.0, "f1": 0.9}])),
            RunRecord(run="ann", columns=columns_of([{"epoch": 1.0, "f1": 0.8, "test_loss": 0.1}])),
        ]
    )
    assert list(table.columns) == [*LEADING, "epoch", "test_loss", "f1", "own"]
    assert math.isnan(table["test_loss"][0])


OURS = {"classifier": "ann", "provenance": {"schema": 1}}  # in the config of a run


def rows_of(**columns: list[float]) -> list[dict[str, float]]:
    lines = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [{"epoch": float(number), **line} for number, line in enumerate(lines, 1)]


def test_every_value_of_a_run_is_from_its_one_best_epoch() -> None:
    rows = rows_of(f1=[0.5, 0.9, 0.7], precision=[0.99, 0.8, 0.7], test_loss=[0.1, 0.2, 0.3])
    (line,) = runs_table([RunRecord(run="a", config=OURS | {"evaluation_split": "holdout"}, columns=columns_of(rows))]).to_dict(
        "records"
    )
    assert (line["best_epoch"], line["f1"], line["precision"], line["test_loss"]) == (2.0, 0.9, 0.8, 0.2)
    assert line["epochs"] == 3


def test_of_equal_epochs_the_one_of_lower_loss_is_the_best() -> None:
    rows = rows_of(f1=[0.9, 0.9, 0.9], test_loss=[0.3, 0.1, 0.2])
    assert runs_table([RunRecord(run="a", config=OURS, columns=columns_of(rows))])["best_epoch"][0] == 2.0


def test_the_best_epoch_is_by_the_metric_of_the_run_and_the_goal_of_its_sweep() -> None:
    rows = rows_of(f1=[0.9, 0.5], own=[2.0, 1.0])
    config = OURS | {"best_metric": "own"}
    lines = [
        RunRecord(run="a", config=config, columns=columns_of(rows)),
        RunRecord(run="b", config=config, columns=columns_of(rows), goals={"own": "minimize"}),
    ]
    assert runs_table(lines)["best_epoch"].tolist() == [1.0, 2.0]


def test_nothing_is_picked_on_the_locked_test_part() -> None:
    rows = rows_of(f1=[0.9, 0.5])
    table = runs_table([RunRecord(run="a", config=OURS | {"evaluation_split": "test"}, columns=columns_of(rows))])
    assert (table["f1"][0], table["picked"][0]) == (0.5, False)


def of_a_script(**others: Any) -> RunRecord:
    """A run that logs its accuracy and loss in rows of their own, and a result after its end."""
    logged: list[dict[str, float]] = []
    for step, (accuracy, loss) in enumerate([(0.5, 0.9), (0.8, 0.6), (0.7, 0.7)]):
        logged += [{"_step": 2 * step, "val/acc": accuracy}, {"_step": 2 * step + 1, "val/loss": loss}]
    return RunRecord(run="a", columns=columns_of([*logged, {"_step": 6, "size": 12.0}]), **others)


def test_a_scripts_run_has_its_latest_values_as_in_the_summary_of_wandb() -> None:
    swept = of_a_script(goals={"val/acc": "maximize"}, config={"best_metric": "val/acc"})
    for line in runs_table([of_a_script(), swept]).to_dict("records"):
        assert [line[name] for name in ("picked", "val/acc", "val/loss", "size", "best_epoch")] == [False, 0.7, 0.7, 12.0, 6.0]


@pytest.mark.parametrize(("state", "value"), [("finished", 0.8), ("failed", 0.8), ("crashed", 0.7), ("running", 0.7)])
def test_what_a_script_decides_in_its_summary_counts_once_it_has_ended(state: str, value: float) -> None:
    run = of_a_script(state=state, read_summary=lambda: {"val/acc": {"max": 0.8}, "val/loss": 0.7, "size": 12.0})
    assert runs_table([run])["val/acc"][0] == value


def test_a_table_calls_no_last_row_best() -> None:
    script, ours = (
        of_a_script(),
        RunRecord(run="b", config=OURS, columns=columns_of(rows_of(f1=[0.5, 0.9], n_parameters=[1200.0, 1200.0]))),
    )
    shown = ["run", "best_epoch", "val/acc", "n_parameters"]
    assert history.as_text(runs_table([script, ours]), shown).split() == [
        *("run", "epoch", "val/acc", "n_parameters"),
        *("a", "last", "(6)", "0.7000", "-"),
        *("b", "2", "-", "1200"),
    ]
    assert history.as_text(runs_table([ours]), ["run", "best_epoch", "f1"]).split() == [
        "run",
        "best_epoch",
        "f1",
        "b",
        "2",
        "0.9000",
    ]


def test_a_written_table_of_runs_has_no_best_epoch_where_none_was_picked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_runs_in", lambda *_: [of_a_script()])
    assert history.main(["x", "--runs", str(tmp_path / "runs.csv")]) == 0
    table = pd.read_csv(tmp_path / "runs.csv")
    assert table["best_epoch"].isna().all()
    assert "picked" not in table


def test_one_run_is_counted_as_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunRecord(run="a", state="finished", columns=columns_of(rows_of(f1=[0.5])))
    monkeypatch.setattr(history, "_runs_in", lambda *_: [run])
    assert history.main(["x"]) == 0
    assert "\n1 run (1 finished), 1 row\n" in capsys.readouterr().out


# -- the command


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_history_that_was_written_reads_back(ending: str, study_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / f"history.{ending}"
    assert history.main([str(study_folder), "--to", str(file)]) == 0
    table = load_history(study_folder)
    back = pd.read_parquet(file) if ending == "parquet" else pd.read_csv(file)
    assert list(back.columns) == list(table.columns)
    for column in ["run", "epoch", "config.learning_rate", *METRICS]:
        assert back[column].tolist() == table[column].tolist(), column
    assert back["config.train_size"].isna().all()
    assert back["config.optimizer_settings"].tolist() == ["{}"] * len(table)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_runs_of_different_classifiers_are_written_together(ending: str, tmp_path: Path) -> None:
    table = tidy(
        [
            RunRecord(run="a", config={"gamma": "scale", "hidden": [64]}, columns=columns_of([{"epoch": 1.0, "f1": 0.5}])),
            RunRecord(run="b", config={"gamma": 0.5, "C": 2}, columns=columns_of([{"epoch": 1.0, "f1": 0.25}])),
        ]
    )
    file = tmp_path / f"both.{ending}"
    write_table(table, file)
    back = pd.read_parquet(file) if ending == "parquet" else pd.read_csv(file)
    assert back["config.hidden"][0] == "[64]"
    assert back["config.hidden"].isna().tolist() == [False, True]
    assert back["config.gamma"].tolist() == ["scale", "0.5"]
    assert back["f1"].tolist() == [0.5, 0.25]


def test_the_command_prints_every_run_and_counts_them(
    study_folder: Path, truth: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert history.main([str(study_folder)]) == 0
    out = capsys.readouterr().out
    assert all(run.run in out for run in truth)
    assert f"5 runs (4 finished, 1 pruned), {sum(len(run.epochs) for run in truth)} rows" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/nowhere/at/all"], "/nowhere/at/all is no folder here"),
        (["{study}", "--to", "history.xlsx"], "a table's file must end in .csv or .parquet. Got history.xlsx."),
        (["{study}", "--to", "{study}/absent/history.csv"], "absent/history.csv cannot be written"),
        ([], "SOURCE"),
        (["{study}", "--too", "x.csv"], "--too"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, study_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        history.main([argument.format(study=study_folder) for argument in arguments])
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1


def scored_run(name: str, config: dict[str, Any], precision: float, **others: Any) -> RunRecord:
    columns = {"epoch": np.ones(1), "precision": np.array([precision]), "recall": np.array([0.5])}
    return RunRecord(name, state="finished", config=config, columns=columns, **others)


def sources_given(monkeypatch: pytest.MonkeyPatch, folder: Path, *sources: list[RunRecord]) -> list[RunRecord]:
    """Return what `sources_of` makes of folders that hold these runs."""
    held = {}
    for place, runs in enumerate(sources):
        (folder / str(place)).mkdir()
        held[str(folder / str(place))] = runs
    monkeypatch.setattr(history, "_runs_here", lambda text, path: copy.deepcopy(held[text]))
    parser = argparse.ArgumentParser()
    add_sources(parser)
    return sources_of(parser.parse_args([*held]))


def test_two_runs_of_one_id_stay_two_runs_in_every_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours, theirs = scored_run("r1", {"lr": 1}, 0.9, created=1.0), scored_run("r1", {"lr": 2}, 0.6, created=2.0)
    for place, sources in enumerate(([[ours], [theirs]], [[ours, theirs]], [[ours, theirs], [theirs, ours]])):
        folder = tmp_path / str(place)
        folder.mkdir()
        runs = sources_given(monkeypatch, folder, *sources)
        assert [(run.run, run.name, run.config) for run in runs] == [("r1", "r1", {"lr": 1}), ("r1~2", "r1~2", {"lr": 2})]
        front, _ = front_of(runs_table(runs), ["precision", "recall"], records=runs)
        assert front[["run", "precision", "on_front"]].values.tolist() == [["r1", 0.9, True], ["r1~2", 0.6, False]]
        assert [one.means["precision"] for one in configurations(runs, runs_table(runs))] == [0.9, 0.6]
        for name, precision in (("r1", 0.9), ("r1~2", 0.6)):
            assert choose(runs_table(runs), f"run:{name}", records=runs).run["precision"] == precision
    assert [run.run for run in load_runs(str(folder / "0"))] == ["r1", "r1~2"]


def test_two_runs_of_one_source_are_two_whatever_they_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = sources_given(monkeypatch, tmp_path, [scored_run("r1", {"lr": 1}, value) for value in (0.9, 0.6)])
    assert [run.run for run in runs] == ["r1", "r1~2"]


def test_a_run_without_a_config_swallows_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crashed, other = RunRecord("r1", state="crashed"), scored_run("r1", {"lr": 1}, 0.9)
    assert [run.state for run in sources_given(monkeypatch, tmp_path, [crashed], [other])] == ["crashed", "finished"]


@pytest.mark.parametrize(
    "runs",
    [
        [scored_run("r1", {"lr": 1, "x": 2}, 0.9), scored_run("r1", {"lr": 1.0, "provenance": {}}, 0.9)],
        [RunRecord("r1", config={"a": 1}, file=__file__), RunRecord("r1", config={"b": 1}, file=__file__)],
        [scored_run("r1", {}, 0.9), scored_run("r1", {}, 0.9)],
    ],
)
def test_a_run_that_two_sources_hold_is_one(runs: list[RunRecord], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(sources_given(monkeypatch, tmp_path, *([run] for run in runs))) == 1


def test_a_metric_that_is_a_text_in_some_runs_alone_is_said_of_these(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    numbers = {"epoch": np.ones(1), "precision": np.ones(1)}
    runs = [
        RunRecord("a", state="finished", columns=numbers, read_summary=lambda: {"precision": 1.0, "note": "x"}),
        RunRecord("b", state="finished", read_summary=lambda: {"precision": "n/a"}),
    ]
    monkeypatch.setattr(history, "_runs_here", lambda *_: runs)
    load_runs(tmp_path)
    assert "2 metrics that are no numbers are left out here: note, precision (in 1 run)" in capsys.readouterr().err


def test_metrics_that_the_printed_table_has_no_room_for_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    columns = {"epoch": np.ones(1), **{f"m{number}": np.ones(1) for number in range(8)}}
    runs = [RunRecord("a", state="finished", columns=columns, created=0.0)]
    monkeypatch.setattr(history, "_runs_here", lambda *_: runs)
    assert history.main([str(tmp_path)]) == 0
    assert "not shown: m6, m7; --runs writes every column" in capsys.readouterr().out
