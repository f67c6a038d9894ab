"""`python -m paretune.search.agent`: the runs of an online sweep in one process, against a stand-in server."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from paretune.analysis.sources.server import server_runs
from paretune.core.errors import UsageError
from paretune.search.agent import main, run_agent
from paretune.search.online import prior_run
from tests.samples import ROOT, environment, start
from tests.search.ending import ENDING
from tests.stand_in_server import ENTITY, KEY, PROJECT, SWEEP, StandInServer
from tests.waiting import wait_until

PATH = f"{ENTITY}/{PROJECT}/{SWEEP}"
CONFIGURATIONS = [{"epochs": 2, "learning_rate": 0.1}, {"epochs": 1, "learning_rate": 0.2}, {"epochs": 1}]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    errors = capsys.readouterr().err
    assert exit_.value.code == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors


def agent(server: StandInServer, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    folders = {"WANDB_DIR": str(folder), "WANDB_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    return start(sys.executable, "-m", "paretune.search.agent", PATH, *arguments, cwd=folder, **account, **folders)


@pytest.mark.slow
def test_one_process_trains_what_the_server_asks_for_up_to_the_count(tmp_path: Path) -> None:
    with StandInServer(CONFIGURATIONS) as server:
        server.definition = yaml.safe_load((ROOT / "sweeps/softmax.yaml").read_text())
        result = agent(server, tmp_path, "--count=2", "--device=cpu")
        assert result.returncode == 0, result.stderr
        assert sorted(server.runs) == ["run00001", "run00002"], "the third waits for another agent"
        for name, wanted in zip(["run00002", "run00001"], CONFIGURATIONS, strict=False):
            config = {key: entry["value"] for key, entry in server.runs[name]["config"].items() if key != "_wandb"}
            assert {key: config[key] for key in wanted} == wanted
            assert (config["classifier"], server.runs[name]["state"], server.runs[name]["sweep"]) == ("softmax", "finished", SWEEP)
            assert [row["epoch"] for row in server.rows(name)] == list(range(1, wanted["epochs"] + 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "how", "code"), [("os._exit(3)", "exited with code 3", 3), ("os.kill(os.getpid(), 9)", "was killed by SIGKILL", 137)]
)
def test_a_training_that_ends_the_agent_is_said_by_how_it_ended(end: str, how: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "ending.py").write_text(ENDING.format(end=end))
    with StandInServer(CONFIGURATIONS[:1]) as server:
        server.definition = {"program": "ending.py", "method": "random", "parameters": {"epochs": {"values": [1]}}}
        result = agent(server, tmp_path, "--count=1", "--device=cpu")
    assert result.returncode == code
    assert f"error: {PATH}: the training of this agent's last run {how}, and with it the agent; W&B shows" in result.stderr
    assert result.stderr.count("and with it the agent") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("handled", [False, True])
def test_an_agent_that_is_asked_to_end_gets_the_signal_once_and_nothing_is_said(number: int, handled: bool, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = f"import os, pathlib, signal, sys, time\nsignal.signal({number}, signal.SIG_DFL)\n" + (
        f"signal.signal({number}, lambda *_: (time.sleep(0.5), sys.exit(128 + {number})))\n" if handled else ""
    )
    program += f"pathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)\n"
    watching = (
        "import sys\nfrom paretune.search import agent\nown = sys.executable\n"
        f"agent.tethered = lambda command: [own, '-c', {program!r}]\nsys.exit(agent.watch_agent('a/b/c', []))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", watching], env=environment(tmp_path, PYTHONPATH=str(ROOT)), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(ready.exists)
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.slow
def test_a_sweep_of_another_program_is_sent_to_wandb_agent(tmp_path: Path) -> None:
    with StandInServer([]) as server:
        server.definition = {"program": "mine.py", "method": "random", "parameters": {"x": {"values": [1]}}}
        result = agent(server, tmp_path)
    assert result.returncode == 2
    assert result.stderr == f"error: {PATH} runs 'mine.py', which is not a trainer of ours: use 'wandb agent {PATH}'.\n"


@pytest.mark.slow
def test_a_sweep_that_does_not_exist_is_a_sentence(tmp_path: Path) -> None:
    with StandInServer([]) as server:
        server.definition = None
        result = agent(server, tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {PATH}: W&B has no such sweep (")


@pytest.mark.parametrize("path", ["sweep001", "someone/sweep001", "a/b/c/d", "a b/c/d"])
def test_what_is_no_path_of_a_sweep_is_refused(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must be ENTITY/PROJECT/SWEEP" in refused(capsys, path)


def test_without_credentials_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("paretune.runs.tracking.logged_in", lambda: False)
    assert "needs W&B credentials" in refused(capsys, PATH)


@pytest.mark.parametrize("error", [WandbApiFailedError(""), WandbApiFailedError("no rights."), requests.ConnectionError("away")])
@pytest.mark.parametrize("asks", [lambda: run_agent(PATH, None, "cpu"), lambda: prior_run("e/p/r"), lambda: server_runs("e/p")])
def test_whatever_the_api_of_wandb_raises_is_a_sentence(
    asks: Callable[[], Any], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    for module in ("paretune.search.online", "paretune.analysis.sources.server"):
        monkeypatch.setattr(f"{module}.logged_in", lambda: True)
    monkeypatch.setattr("wandb.Api", lambda **_: SimpleNamespace(run=fail, sweep=fail, runs=fail))
    with pytest.raises(UsageError, match=rf"W&B has no such .* \({str(error).rstrip('.') or 'WandbApiFailedError'}\)\.$"):
        asks()


@pytest.mark.parametrize("said", ["offline", "disabled"])
@pytest.mark.parametrize("module", ["paretune.search.agent", "paretune.search.online"])
def test_after_wandb_offline_or_disabled_no_online_sweep_begins(said: str, module: str, tmp_path: Path) -> None:
    assert start(str(Path(sys.executable).with_name("wandb")), said, cwd=tmp_path).returncode == 0
    asked = PATH if module == "paretune.search.agent" else str(ROOT / "sweeps" / "softmax.yaml")
    environment = {"WANDB_API_KEY": "a" * 40, "WANDB_SILENT": "true", "PYTHONPATH": str(ROOT)}
    refused = start(sys.executable, "-m", module, asked, cwd=tmp_path, closed=True, **environment)
    assert refused.returncode == 2
    assert f"which is {said} here, by WANDB_MODE or by 'wandb {said}'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
