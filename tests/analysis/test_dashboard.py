"""The dashboard: the page of a study as a browser gets it, and what W&B is sent, against the stand-in server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from paretune.analysis import dashboard
from paretune.analysis.dashboard import curves_hint, panels_of, study_server, workspace
from paretune.core.errors import UsageError
from paretune.runs.study_storage import open_storage
from tests.samples import ROOT
from tests.stand_in_server import ENTITY, KEY, PROJECT, SWEEP, StandInServer

with warnings.catch_warnings():  # the package is written in pydantic's old style
    warnings.simplefilter("ignore", DeprecationWarning)
    from wandb_workspaces.reports import v2

CONFIGS: list[dict[str, Any]] = [
    {"learning_rate": 1e-4, "hidden": [64], "dropout": 0.0, "epochs": 3, "classifier": "ann", "provenance": {"commit": "a"}},
    {"learning_rate": 1e-1, "hidden": [32], "dropout": 0.5, "epochs": 3, "classifier": "ann", "provenance": {"commit": "b"}},
]
SOURCE = f"{ENTITY}/{PROJECT}/{SWEEP}"


@contextmanager
def serving(source: str, port: int | None = 0) -> Iterator[str]:
    """Serve a study's page in a thread; yields its address."""
    server, address = study_server(source, port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def got(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read().decode()


def served_studies(address: str) -> list[dict[str, Any]]:
    return json.loads(got(f"{address.partition('/dashboard')[0]}/api/studies"))["study_summaries"]


# -- offline


def test_the_command_serves_the_study_until_ctrl_c_and_ends_quietly(study_folder: Path) -> None:
    command = [sys.executable, "-m", "analysis.dashboard", str(study_folder), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        found = re.fullmatch(r"the study is at (http://127\.0\.0\.1:\d+/dashboard/studies/1) until Ctrl-C\n", first)
        assert found, first
        assert second.endswith(f"wandb leet {study_folder / 'wandb'}\n")
        assert "<html" in got(found[1])
        assert [study["study_name"] for study in served_studies(found[1])] == ["tiny"]
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, error) == (0, "")


def trial_numbers(address: str) -> list[int]:
    host, _, number = address.partition("/dashboard/studies/")
    return [trial["number"] for trial in json.loads(got(f"{host}/api/studies/{number}?after=0"))["trials"]]


def test_the_page_shows_trials_that_a_sweep_adds_while_it_is_open(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=open_storage(url), study_name="live")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    with serving(str(tmp_path)) as address:
        assert [study["study_name"] for study in served_studies(address)] == ["live"]
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        assert trial_numbers(address) == [0, 1, 2]


def test_a_journal_with_several_studies_opens_at_the_list_and_at_the_one_that_is_named(tmp_path: Path) -> None:
    url = f"journal://{tmp_path / 'journal.log'}"
    storage = open_storage(url)
    for name in ("first", "second"):
        optuna.create_study(storage=storage, study_name=name)
    with serving(url) as address:
        assert address.endswith("/dashboard")
        assert {study["study_name"] for study in served_studies(address)} == {"first", "second"}
    number = storage.get_study_id_from_name("second")
    with serving(f"{url}#second") as address:
        assert address.endswith(f"/dashboard/studies/{number}")
    with pytest.raises(UsageError, match=r"#third: there is no study 'third'; there are first, second\."):
        study_server(f"{url}#third")


def test_a_port_that_is_taken_is_said_and_by_default_the_next_is_tried(study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"^port {port} of this machine cannot be listened on, .* with --port"):
            study_server(str(study_folder), port)
        monkeypatch.setattr(dashboard, "PORT", port)
        with serving(str(study_folder), None) as address:
            assert port < int(re.findall(r":(\d+)/", address)[0]) < port + dashboard.TRIES
        monkeypatch.setattr(dashboard, "TRIES", 1)
        with pytest.raises(UsageError, match=f"the ports {port} to {port} of this machine are all taken"):
            study_server(str(study_folder))


def test_curves_are_pointed_at_where_the_run_files_are(study_folder: Path, tmp_path: Path) -> None:
    hint = curves_hint(str(study_folder / "study.db"))
    assert hint is not None
    program, *arguments = shlex.split(hint)
    assert shutil.which(program) is not None
    assert arguments == ["leet", str(study_folder / "wandb")]
    assert curves_hint(str(tmp_path)) is None
    assert curves_hint("postgresql://somewhere/studies#a") is None


# -- online


def test_a_workspace_of_a_sweep_shows_curves_front_and_parameters() -> None:
    spec = workspace(SOURCE, CONFIGS)._to_model().model_dump(by_alias=True)["spec"]["section"]
    panels = [panel for section in spec["panelBankConfig"]["sections"] for panel in section["panels"]]
    lines = [panel["config"] for panel in panels if panel["viewType"] == "Run History Line Plot"]
    assert [line["metrics"] for line in lines[:2]] == [["train_loss", "test_loss"], ["train_accuracy", "test_accuracy"]]
    assert {line["xAxis"] for line in lines} == {"epoch"}
    (scatter,) = [panel["config"] for panel in panels if panel["viewType"] == "Scatter Plot"]
    assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:precision", "summary:recall")
    (importance,) = [panel["config"] for panel in panels if panel["viewType"] == "Parameter Importance"]
    assert importance["targetKey"] == "f1"
    (parallel,) = [panel["config"] for panel in panels if panel["viewType"] == "Parallel Coordinates Plot"]
    columns = [(column["accessor"], column["log"]) for column in parallel["columns"]]
    assert columns == [
        ("config:learning_rate.value", True),
        ("config:hidden.value", None),
        ("config:dropout.value", None),
        ("summary:f1", None),
    ]
    (runs,) = spec["runSets"]
    (only,) = runs["filters"]["filters"]
    assert (only["key"], only["op"], only["value"]) == ({"section": "run", "name": "sweep"}, "=", SWEEP)
    (key,) = runs["sort"]["keys"]
    assert (key["key"], key["ascending"]) == ({"section": "summary", "name": "f1"}, False)


def test_a_workspace_of_a_project_holds_every_run_and_a_loss_is_ordered_upwards() -> None:
    spec = workspace(f"{ENTITY}/{PROJECT}", CONFIGS, "test_loss")._to_model().model_dump(by_alias=True)["spec"]["section"]
    (runs,) = spec["runSets"]
    assert runs["filters"]["filters"] == []
    assert runs["sort"]["keys"][0]["ascending"] is True


def test_the_panels_do_not_overlap() -> None:
    for panels in panels_of(CONFIGS, "f1").values():
        cells = [
            (x, y)
            for panel in panels
            for x in range(panel.layout.x, panel.layout.x + panel.layout.w)
            for y in range(panel.layout.y, panel.layout.y + panel.layout.h)
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24  # W&B's grid


def test_of_a_single_run_no_parameter_was_searched() -> None:
    (parallel,) = [panel for panel in panels_of(CONFIGS[:1], "f1")["Choice"] if isinstance(panel, v2.ParallelCoordinatesPlot)]
    assert [column.metric for column in parallel.columns] == [v2.SummaryMetric("f1")]


def online(server: StandInServer, folder: Path, *arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    ours = {"WANDB_BASE_URL": server.url, "WANDB_DIR": str(folder), "HOME": str(folder), "WANDB_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-m", "analysis.dashboard", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**kept, **ours, **({"WANDB_API_KEY": key} if key else {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


def with_runs(server: StandInServer) -> None:
    for number, config in enumerate(CONFIGS):
        wrapped = {name: {"value": value} for name, value in config.items()}
        server.runs[f"run{number}"] = {"config": wrapped, "files": {}, "state": "finished", "sweep": SWEEP, "group": None}


@pytest.mark.slow
def test_the_command_saves_a_workspace_or_a_report_and_prints_its_address(tmp_path: Path) -> None:
    with StandInServer([]) as server:
        with_runs(server)
        for flags, kind in (((), "project-view"), (("--report",), "runs")):
            result = online(server, tmp_path, SOURCE, *flags)
            assert result.returncode == 0, result.stderr
            view = server.views[-1]
            assert (view["entityName"], view["projectName"], view["type"]) == (ENTITY, PROJECT, kind)
            assert view["displayName"] == f"Paretune sweep {SWEEP}"
            text = json.dumps(view["spec"])
            for name in ("Parameter Importance", "summary:precision", "config:learning_rate.value", "train_accuracy", SWEEP):
                assert name in text
            assert result.stdout.startswith(f"{server.url}/{ENTITY}/{PROJECT}")
            assert len(result.stdout.splitlines()) == 1
    assert server.unknown == []
    assert len(server.views) == 2


@pytest.mark.slow
def test_without_credentials_nobody_is_asked_and_without_runs_nothing_is_made(tmp_path: Path) -> None:
    with StandInServer([]) as server:
        result = online(server, tmp_path, SOURCE, key="")
        assert (result.returncode, server.operations) == (2, [])
        sentence = f"error: a workspace of {SOURCE} is kept by W&B: log in with 'wandb login', or give a study's folder"
        assert result.stderr.startswith(sentence)
        result = online(server, tmp_path, SOURCE)
        assert result.returncode == 2
        assert f"error: {SOURCE} has no run yet" in result.stderr
    assert server.views == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere holds no study: give its folder (runs/NAME)"),
        (["{folder}"], "holds no study"),
        (["{folder}", "--report"], "--report is for entity/project[/sweep] at W&B."),
        (["sqlite:///{folder}/study.db"], "is not there"),
        (["{folder}", "--port", "x"], "--port"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        dashboard.main([argument.format(folder=tmp_path) for argument in arguments])
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_a_port_beyond_all_ports_is_a_mistake(study_folder: Path) -> None:
    with pytest.raises(UsageError, match="port 70000 of this machine cannot be listened on"):
        study_server(str(study_folder), 70000)
