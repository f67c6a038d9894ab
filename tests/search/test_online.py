"""The online path with the unmodified client: `wandb agent`, `wandb sync` and `wandb.Api()` against a stand-in server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stand_in_server import ENTITY, KEY, PROJECT, SWEEP, StandInServer

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATIONS = [
    {"epochs": 2, "learning_rate": 0.01, "hidden": [24, 12], "augment": True, "optimizer_settings": {"amsgrad": True}},
    {"epochs": 2, "learning_rate": 0.02},
]


def run(server: StandInServer, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    ours = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_DIR": str(folder), "HOME": str(folder)}
    ours["WANDB_CACHE_DIR"] = str(folder / "cache")
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env={**kept, **ours}, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_one_command_creates_the_sweep_and_its_agent_trains_what_the_server_asks_for(tmp_path: Path) -> None:
    with StandInServer(CONFIGURATIONS) as server:
        result = run(server, tmp_path, "-m", "paretune.search.online", "sweeps/ann.yaml", "--data", "digits")
        assert result.returncode == 0, result.stderr
        assert server.definition["program"] == "trainers/ann.py"
        assert server.definition["parameters"]["data"] == {"value": "digits"}
        assert sorted(server.runs) == ["run00000", "run00001"]
        for name, wanted in zip(["run00001", "run00000"], CONFIGURATIONS, strict=True):
            received = server.runs[name]
            config = {key: entry["value"] for key, entry in received["config"].items() if key != "_wandb"}
            assert {key: config[key] for key in wanted} == wanted
            assert (received["state"], received["sweep"], config["classifier"]) == ("finished", SWEEP, "ann")
            assert config["provenance"]["fingerprints"]["test"]
            rows, summary = server.rows(name), server.summary(name)
            assert [row["epoch"] for row in rows] == [1, 2]
            best = max(rows, key=lambda row: row["f1"])
            assert {key: summary[key] for key in ("f1", "precision", "recall")} == {
                key: best[key] for key in ("f1", "precision", "recall")
            }
            assert summary["last"]["f1"] == rows[-1]["f1"]

        server.busy = 2
        read = run(server, tmp_path, "-m", "analysis.pareto", f"{ENTITY}/{PROJECT}/{SWEEP}")
        assert read.returncode == 0, read.stderr
        assert "of 2 finished runs are on the front" in read.stdout
        assert server.busy == 0, "it was told to wait, waited and asked again"
        server.operations.clear()
        again = run(server, tmp_path, "-m", "analysis.history", f"{ENTITY}/{PROJECT}/{SWEEP}", "--filter", '{"state": "finished"}')
        assert again.returncode == 0, again.stderr
        assert "2 runs (2 finished), 4 rows" in again.stdout
        assert "HistoryPage" not in server.operations, "finished runs are pulled once"
    assert server.unknown == []


@pytest.mark.slow
def test_offline_runs_are_uploaded_as_one_group_and_not_twice(tmp_path: Path) -> None:
    with StandInServer([]) as server:
        trained = run(
            server, tmp_path, "sweeps/offline.py", "sweeps/softmax.yaml", "--trials=2", "--epochs=2", f"--runs={tmp_path / 'runs'}"
        )
        assert trained.returncode == 0, trained.stderr
        assert server.operations == []
        uploaded = run(server, tmp_path, "-m", "paretune.search.sync", str(tmp_path / "runs"))
        assert uploaded.returncode == 0, uploaded.stderr
        assert len(server.runs) == 2
        assert {received["group"] for received in server.runs.values()} == {"softmax-digits"}
        assert [len(server.rows(name)) for name in server.runs] == [2, 2]
        again = run(server, tmp_path, "-m", "paretune.search.sync", str(tmp_path / "runs"))
        assert again.returncode == 2
        assert "no offline run that is not uploaded yet" in again.stderr
