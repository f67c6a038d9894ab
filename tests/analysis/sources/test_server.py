"""Runs at W&B: who they are, what their sweep looks for, and what is said where the server does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
import wandb

from paretune.analysis.sources import bulk, parquet_cache, server
from paretune.analysis.sources.server import server_runs
from paretune.core.errors import UsageError
from tests.analysis.truth import Run, Server, ServerRun

ROWS = [{"epoch": 1, "f1": 0.5}, {"epoch": 2, "f1": 0.75}]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_cache, "ROOT", tmp_path)
    monkeypatch.setattr(server, "logged_in", lambda: True)
    monkeypatch.setattr(bulk, "pulled", lambda *_: {})


def run_of(name: str, state: str = "finished", **others: Any) -> ServerRun:
    return ServerRun(Run(name, f"run-{name}", state, {"width": 8}, ROWS, tags=["t"], created=1e9), **others)


def served(monkeypatch: pytest.MonkeyPatch, *runs: ServerRun) -> Server:
    found = Server(list(runs))
    monkeypatch.setattr(wandb, "Api", found)
    return found


def test_a_run_is_what_the_server_says_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch, run_of("a"))
    (run,) = server_runs("me/project")
    assert (run.run, run.name, run.group, run.sweep, run.state, run.created) == ("a", "run-a", "tiny", "", "finished", 1e9)
    assert (run.file, run.tags, run.config["width"], run.goals) == ("https://wandb.example/a", ["t"], 8, {})
    assert {name: column.tolist() for name, column in run.columns.items()} == {"epoch": [1.0, 2.0], "f1": [0.5, 0.75]}
    assert run.summary == {"epoch": 2, "f1": 0.75}


def test_what_was_pruned_has_finished_at_the_server_and_says_so_in_its_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch, run_of("a", "pruned"))
    assert [run.state for run in server_runs("me/project")] == ["pruned"]


def test_the_goals_are_those_of_the_sweep_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = served(monkeypatch, run_of("a"))
    assert server_runs("me/project/s1")[0].goals == {"f1": "maximize", "seconds": "minimize"}
    assert server_runs("me/project", {"state": "finished"})[0].goals == {}
    assert asked.asked == [("me/project", {"sweep": "s1"}), ("me/project", {"state": "finished"})]


@pytest.mark.parametrize(
    ("config", "goals"),
    [
        ({"metric": {"name": "loss"}}, {"loss": "minimize"}),
        ({"metric": {"name": "f1", "goal": "maximize"}}, {"f1": "maximize"}),
        ({"metrics": [{"name": "a", "goal": "maximize"}, {"goal": "minimize"}, "x"]}, {"a": "maximize"}),
        ({"metric": {}}, {}),
        ({}, {}),
    ],
)
def test_a_goal_that_a_sweep_does_not_state_is_wandbs(config: dict[str, Any], goals: dict[str, str]) -> None:
    assert server.goals_in(config) == goals


@pytest.mark.parametrize(("state", "again"), [("finished", 0), ("crashed", 0), ("running", 1), ("preempting", 1)])
def test_a_run_that_has_ended_is_pulled_once(monkeypatch: pytest.MonkeyPatch, state: str, again: int) -> None:
    served(monkeypatch, run_of("a", state=state))
    ServerRun.scans = 0
    server_runs("me/project")
    assert ServerRun.scans == 1
    server_runs("me/project")
    assert ServerRun.scans == 1 + again


def test_a_run_whose_heartbeat_is_newer_is_pulled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = run_of("a")
    run.heartbeat_at = "1"
    served(monkeypatch, run)
    ServerRun.scans = 0
    for moment in ("1", "1", "2"):
        run.heartbeat_at = moment
        server_runs("me/project")
    assert ServerRun.scans == 2


def test_what_was_pulled_before_the_server_stopped_answering_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    broken: Any = run_of("b")
    answers = iter([requests.ConnectionError("down.\nmore"), iter(ROWS)])

    def scan(page_size: int) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    broken.scan_history = scan
    served(monkeypatch, run_of("a"), broken)
    with pytest.raises(UsageError, match=r"me/project: W&B stopped answering \(down\); what was pulled is kept: run this again"):
        server_runs("me/project")
    assert [run.run for run in server_runs("me/project")] == ["a", "b"]


@pytest.mark.parametrize(("filters", "words"), [(None, "has no run yet."), ({"x": 1}, "has no run that the filter lets through.")])
def test_a_project_without_runs_is_named(monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any] | None, words: str) -> None:
    served(monkeypatch)
    with pytest.raises(UsageError, match=f"me/project {words}"):
        server_runs("me/project", filters)


@pytest.mark.parametrize(
    ("filters", "words"),
    [(None, "no such project or sweep (x)."), ({"a": 1}, "no such project or sweep, or cannot filter so (x).")],
)
def test_a_project_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, filters: Any, words: str) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ValueError("x.")

    found = served(monkeypatch)
    monkeypatch.setattr(found, "runs", refuse)
    with pytest.raises(UsageError) as refusal:
        server_runs("me/project", filters)
    assert str(refusal.value) == f"me/project: W&B has {words}"
