"""The dashboard: the page of a study as a browser gets it, and what W&B is sent, against our own server and what was recorded."""

from __future__ import annotations

import functools
import json
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
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import optuna
import pytest
from starlette.testclient import TestClient

from paretune.analysis import dashboard
from paretune.analysis.dashboard import Logged, curves_hint, panels_of, study_server, workspace
from paretune.core.errors import UsageError
from paretune.runs.study_storage import open_storage
from paretune.runs.sweep_outcome import SweepOutcome
from tests.analysis.dashboards import command, filled, marked, views
from tests.listening import listening
from tests.samples import ROOT
from tests.service.browsing import sent
from tests.service.serving import KEY, Asked, client

with warnings.catch_warnings():  # the package is written in pydantic's old style
    warnings.simplefilter("ignore", DeprecationWarning)
    from wandb_workspaces.reports import v2

ENTITY, PROJECT, SWEEP = "someone", "tried", "sweep001"
SOURCE = f"{ENTITY}/{PROJECT}/{SWEEP}"
FIXTURES = ROOT / "tests" / "fixtures" / "views"
METRICS = ["train_loss", "test_loss", "train_accuracy", "test_accuracy", "precision", "recall", "f1", "seconds"]
OURS = Logged(
    [
        {"learning_rate": 1e-4, "hidden": [64], "dropout": 0.0, "epochs": 3, "classifier": "ann"},
        {"learning_rate": 1e-1, "hidden": [32], "dropout": 0.5, "epochs": 3, "classifier": "ann"},
    ],
    ["epoch", *METRICS],
    ["epoch", *METRICS, "n_parameters"],
)


@contextmanager
def served_study(source: str, port: int | None = 0) -> Iterator[str]:
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
    with served_study(str(tmp_path)) as address:
        assert [study["study_name"] for study in served_studies(address)] == ["live"]
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        assert trial_numbers(address) == [0, 1, 2]


def test_a_journal_with_several_studies_opens_at_the_list_and_at_the_one_that_is_named(tmp_path: Path) -> None:
    url = f"journal://{tmp_path / 'journal.log'}"
    storage = open_storage(url)
    for name in ("first", "second"):
        optuna.create_study(storage=storage, study_name=name)
    with served_study(url) as address:
        assert address.endswith("/dashboard")
        assert {study["study_name"] for study in served_studies(address)} == {"first", "second"}
    number = storage.get_study_id_from_name("second")
    with served_study(f"{url}#second") as address:
        assert address.endswith(f"/dashboard/studies/{number}")
    with pytest.raises(UsageError, match=r"#third: there is no study 'third'; there are first, second\."):
        study_server(f"{url}#third")


def test_a_port_that_is_taken_is_said_and_by_default_the_next_is_tried(study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"^port {port} of this machine cannot be listened on, .* with --port"):
            study_server(str(study_folder), port)
        monkeypatch.setattr(dashboard, "PORT", port)
        with served_study(str(study_folder), None) as address:
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


def spec_of(logged: Logged, metric: str, source: str = SOURCE) -> dict[str, Any]:
    return workspace(source, logged, metric)._to_model().model_dump(by_alias=True)["spec"]["section"]


def panels_in(spec: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    panels = [panel for section in spec["panelBankConfig"]["sections"] for panel in section["panels"]]
    return [panel["config"] for panel in panels if panel["viewType"] == kind]


def test_a_workspace_of_a_sweep_shows_curves_front_and_parameters() -> None:
    spec = spec_of(OURS, "f1")
    lines = panels_in(spec, "Run History Line Plot")
    assert [line["metrics"] for line in lines] == [
        ["train_loss", "test_loss"],
        ["train_accuracy", "test_accuracy"],
        ["precision", "recall", "f1"],
    ]
    assert {line["xAxis"] for line in lines} == {"epoch"}
    (scatter,) = panels_in(spec, "Scatter Plot")
    assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:precision", "summary:recall")
    (importance,) = panels_in(spec, "Parameter Importance")
    assert importance["targetKey"] == "f1"
    (parallel,) = panels_in(spec, "Parallel Coordinates Plot")
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
    assert runs["runFeed"]["columnOrder"] == ["run:displayName", "summary:f1", "run:state"]


def test_a_workspace_of_a_project_holds_every_run_and_names_its_sweep_and_a_loss_is_ordered_upwards() -> None:
    spec = spec_of(OURS, "test_loss", f"{ENTITY}/{PROJECT}")
    (runs,) = spec["runSets"]
    assert runs["filters"]["filters"] == []
    assert runs["sort"]["keys"][0]["ascending"] is True
    assert runs["runFeed"]["columnOrder"][-1] == "run:sweep"


def test_the_sweeps_goal_counts_before_what_a_metrics_name_tells() -> None:
    logged = replace(OURS, goals={"f1": "minimize"})
    assert spec_of(logged, "f1")["runSets"][0]["sort"]["keys"][0]["ascending"] is True


LOGGED = {
    "ours": OURS,
    "an SVM's, without epochs": replace(OURS, history=["test_loss", "precision", "recall", "f1"]),
    "theirs": Logged(
        [{"batch size": 1, "opt/lr": 0.1, "opt.kind": "a"}, {"batch size": 2, "opt/lr": 0.2, "opt.kind": "b"}],
        ["val/loss", "top 5 acc"],
        ["val/loss", "top 5 acc", "size"],
        {"val/loss": "minimize", "size": "minimize"},
    ),
    "one metric": Logged([{"x": 1}], [], ["score"]),
    "many metrics": Logged([{"x": 1}], [f"m{place}" for place in range(40)], ["m0"], {"m0": "maximize"}),
}


@pytest.mark.parametrize("name", LOGGED)
def test_no_panel_names_what_no_run_logged_and_none_overlap_or_leave_holes_in_a_row(name: str) -> None:
    logged = LOGGED[name]
    metric = logged.metric(None if logged.goals or "f1" in logged.summary else "score")
    spec = spec_of(logged, metric)
    history = [name for line in panels_in(spec, "Run History Line Plot") for name in line["metrics"]]
    assert set(history) <= set(logged.history)
    assert bool(history) == bool(logged.history)
    finals = [axis for plot in panels_in(spec, "Scatter Plot") for axis in (plot["xAxis"], plot["yAxis"])]
    finals += [c["accessor"] for plot in panels_in(spec, "Parallel Coordinates Plot") for c in plot["columns"]]
    assert {one.removeprefix("summary:") for one in finals if one.startswith("summary:")} <= set(logged.summary)
    assert {line["xAxis"] for line in panels_in(spec, "Run History Line Plot")} <= {
        "epoch" if "epoch" in logged.history else "_step"
    }
    for panels in panels_of(logged, metric).values():
        cells = [
            (x, y)
            for panel in panels
            for x in range(panel.layout.x, panel.layout.x + panel.layout.w)
            for y in range(panel.layout.y, panel.layout.y + panel.layout.h)
        ]
        assert len(cells) == len(set(cells))
        assert {x for x, _ in cells} == set(range(24)), "W&B's grid has 24 columns"
        assert all(sum(y == row for _, y in cells) == 24 for _, row in cells)


def test_names_of_other_peoples_metrics_and_parameters_are_written_as_the_app_reads_them() -> None:
    spec = spec_of(LOGGED["theirs"], "val/loss")
    (parallel,) = panels_in(spec, "Parallel Coordinates Plot")
    accessors = [column["accessor"] for column in parallel["columns"]]
    assert accessors == ["config:batch size.value", "config:opt/lr.value", "config:opt.value.kind", "summary:val/loss"]
    (scatter,) = panels_in(spec, "Scatter Plot")
    assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:val/loss", "summary:size"), "two objectives of the sweep"
    assert [line["metrics"] for line in panels_in(spec, "Run History Line Plot")] == [["val/loss"], ["top 5 acc"]]


def test_of_a_single_run_no_parameter_was_searched() -> None:
    logged = replace(OURS, configs=OURS.configs[:1])
    (parallel,) = [panel for panel in panels_of(logged, "f1")["Choice"] if isinstance(panel, v2.ParallelCoordinatesPlot)]
    assert [column.metric for column in parallel.columns] == [v2.SummaryMetric("f1")]


def test_the_metric_is_the_one_that_is_named_else_the_sweeps_else_f1() -> None:
    theirs = LOGGED["theirs"]
    assert [theirs.metric(None), theirs.metric("size"), OURS.metric(None)] == ["val/loss", "size", "f1"]
    assert replace(theirs, goals={"gone": "minimize", "size": "minimize"}).metric(None) == "size"
    sentence = "no run has a final value of val/los; did you mean 'val/loss': name a metric by --metric"
    with pytest.raises(UsageError, match=re.escape(f"{sentence} (they have val/loss, top 5 acc, size).")):
        theirs.metric("val/los")
    with pytest.raises(UsageError, match=r"no run has a final value of f1: name a metric by --metric \(they have none"):
        Logged([{}], [], []).metric(None)


# -- against our own server


RUNS = json.loads((FIXTURES / "runs.json").read_text())


@dataclass
class Serving:
    """A service that listens, with what tests/fixtures/views/runs.json holds and a project without runs."""

    asked: Asked
    url: str
    folder: Path
    ours: str  # entity/project/sweep
    theirs: str  # entity/project

    def saved(self, *arguments: str) -> str:
        """Run the command, which must save something, and return what it prints."""
        done = command(self.url, self.folder, *arguments)
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        assert line.startswith(f"{self.url}/someone/")
        return line

    def page(self, url: str) -> str:
        """Return a page of the service as a person sees it who is logged in."""
        path = url.removeprefix(self.url)
        return self.browser.get(path).text

    @functools.cached_property
    def browser(self) -> TestClient:
        browser = TestClient(self.asked.client.app, follow_redirects=False)
        assert sent(browser, "/login", key=KEY).status_code == 303
        return browser

    def sentence(self, *arguments: str, key: str = KEY) -> str:
        """Run the command, which must fail, and return what it says."""
        done = command(self.url, self.folder, *arguments, key=key)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("serving")
    asked = Asked(folder / "service")
    ours = f"someone/{RUNS['ours']['name']}/{filled(asked, RUNS['ours'])}"
    filled(asked, RUNS["theirs"])
    asked.ask("mutation M($input: UpsertModelInput!) { upsertModel(input: $input) { inserted } }", input={"name": "empty"})
    with listening(asked.client.app) as url:
        yield Serving(asked, url, folder, ours, f"someone/{RUNS['theirs']['name']}")


READ_BACK = """
import json, sys
from wandb_workspaces import workspaces
from wandb_workspaces.reports import v2

def spec(made):
    return json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))

print(json.dumps([spec(workspaces.Workspace.from_url({workspace!r})), spec(v2.Report.from_url({report!r}))]))
"""


@pytest.mark.slow
def test_what_is_saved_is_what_was_recorded_and_can_be_read_back_shown_and_saved_again(serving: Serving) -> None:
    first, second = serving.saved(serving.ours), serving.saved(serving.theirs, "--report")
    sweep = serving.ours.rpartition("/")[2]
    (workspace_view,), (report_view,) = views(serving.asked, "ours", sweep), views(serving.asked, "not ours")
    assert workspace_view == json.loads((FIXTURES / "workspace.json").read_text())
    assert report_view == json.loads((FIXTURES / "report.json").read_text())
    read = client(serving.url, serving.folder, READ_BACK.format(workspace=first, report=unquote(second)))
    read[1]["width"] = "fluid"  # the package forgets it when it reads a report
    assert [marked(one, sweep) for one in read] == [workspace_view["spec"], report_view["spec"]]
    page = serving.page(first)
    for text in (f"Paretune sweep {sweep}", "Loss by epoch", "What was searched, and f1", "Not drawn here: Parameter Importance."):
        assert text in page
    ranked = sorted(RUNS["ours"]["runs"], key=lambda run: -run["summary"]["f1"])
    assert re.findall(r"/someone/ours/runs/(ann-\d)", page) == [run["name"] for run in ranked]
    page = serving.page(second)
    for text in ("top 5 acc", "val/loss and top 5 acc of the runs", "/someone/not%20ours/runs/run-0"):
        assert text in page
    assert [serving.saved(serving.ours), serving.saved(serving.theirs, "--report")] == [first, second], "it is changed, not doubled"
    assert [views(serving.asked, "ours", sweep), views(serving.asked, "not ours")] == [[workspace_view], [report_view]]


ADD = """
import json
from wandb_workspaces import workspaces
from wandb_workspaces.reports import v2

workspace = workspaces.Workspace.from_url({workspace!r})
workspace.sections.append(workspaces.Section(name="Mine", panels=[v2.BarPlot(metrics=["f1"])]))
workspace.sections[0].panels = []
workspace.save()
report = v2.Report.from_url({report!r})
report.blocks = [v2.P("Before."), *report.blocks, v2.H1("Mine"), v2.PanelGrid(panels=[v2.BarPlot(metrics=["f1"])])]
report.save()
print("null")
"""


@pytest.mark.slow
def test_what_a_person_added_stays_when_it_is_saved_again(serving: Serving) -> None:
    source = f"someone/{RUNS['ours']['name']}"
    urls = [serving.saved(source), serving.saved(source, "--report")]
    client(serving.url, serving.folder, ADD.format(workspace=urls[0], report=urls[1]))
    for url, place in zip(urls, ([], ["--report"]), strict=True):
        page = serving.page(url)
        assert "Mine" in page
        serving.saved(source, *place)
        again = serving.page(url)
        for text in ("Mine", "Choice", "Loss by epoch", "What was searched, and f1", *(["Before."] if place else [])):
            assert len(re.findall(rf">{re.escape(text)} ?<", again)) == 1, text


@pytest.mark.slow
def test_what_cannot_be_saved_is_one_sentence(serving: Serving) -> None:
    before = [views(serving.asked, name) for name in ("ours", "not ours", "empty")]
    project, _, sweep = serving.ours.rpartition("/")
    ours = serving.ours
    said = serving.sentence(ours, key="")
    assert said.startswith(f"error: a workspace of {ours} is kept by W&B: log in with 'wandb login', or give a study's folder")
    assert serving.sentence("someone/empty") == "error: someone/empty has no run yet: start an agent first."
    assert serving.sentence(f"{project}/absent") == f"error: {project} has no sweep absent; it has {sweep}."
    assert "could not be made at W&B (Could not find project 'absent')" in serving.sentence("someone/absent")
    assert "no run has a final value of f11; did you mean 'f1': name a metric by --metric" in serving.sentence(ours, "--metric=f11")
    assert [views(serving.asked, name) for name in ("ours", "not ours", "empty")] == before
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = command(url, serving.folder, ours)
    sentence = f"error: {url} does not answer (ConnectionError): try again later, or give a study's folder (runs/NAME).\n"
    assert (done.returncode, done.stderr) == (2, sentence)


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


def test_of_a_saved_report_our_headings_and_the_first_grid_below_each_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made = dashboard.report(SOURCE, OURS, "f1")
    mine = [v2.PanelGrid(panels=[v2.BarPlot(metrics=["f1"])]), v2.P("Mine.")]
    linked = v2.H1(["see ", v2.Link(text="there", url="https://example.com")])
    choice, grid, *rest = made.blocks
    saved = v2.Report(entity=ENTITY, project=PROJECT, blocks=[linked, choice, v2.P("Between."), grid, *mine, *rest, mine[0]])
    monkeypatch.setattr(dashboard, "_saved", lambda *_: SimpleNamespace(url=""))
    monkeypatch.setattr(v2.Report, "from_url", lambda _: saved)
    blocks = dashboard._current_report(None, SOURCE, OURS, "f1").blocks
    assert [type(block).__name__ for block in blocks[: len(made.blocks)]] == [type(block).__name__ for block in made.blocks]
    assert [type(block).__name__ for block in blocks[len(made.blocks) :]] == ["H1", "P", "PanelGrid", "P", "PanelGrid"]
    assert blocks[len(made.blocks)].text == linked.text


def test_what_paretune_says_of_a_run_is_no_metric_and_what_a_program_calls_so_is_one() -> None:
    ours, theirs = SweepOutcome({"f1": "maximize"}, feasible=True, created=1.0, pruned=3).to_summary(), {"paretune": {"rate": 1.0}}
    runs = [SimpleNamespace(config={}, history_keys=None, summary_metrics={"f1": 0.5, **said}) for said in (ours, theirs)]
    assert [list(Logged.of([run], {}).summary) for run in runs] == [["f1"], ["f1", "paretune.rate"]]
