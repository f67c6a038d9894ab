"""A service with runs of ours and of somebody else, and the dashboard command against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from paretune.service.store.tables import View
from tests.samples import ROOT
from tests.service.serving import KEY, Asked

SWEEP = "mutation M($input: UpsertSweepInput!) { upsertSweep(input: $input) { sweep { name } } }"
RUN = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"


def filled(asked: Asked, project: Mapping[str, Any]) -> str:
    """Put a project of `runs.json` (tests/fixtures/views), its sweep and runs, into a service; return the sweep's new id."""
    named = {"projectName": project["name"], "entityName": "someone"}
    made = asked.ask(SWEEP, input={**named, "config": yaml.safe_dump(project["sweep"])})
    sweep: str = made["upsertSweep"]["sweep"]["name"]
    for run in project["runs"]:
        add_run(asked, project["name"], run["name"], run["config"], run["history"], run["summary"], sweep=sweep)
    return sweep


def add_run(
    asked: Asked,
    project: str,
    name: str,
    config: Mapping[str, Any],
    history: Iterable[Mapping[str, Any]],
    summary: Mapping[str, Any],
    **more: Any,
) -> None:
    """Put a finished run into a service."""
    wrapped = json.dumps({key: {"value": value} for key, value in config.items()})
    asked.ask(RUN, input={"name": name, "modelName": project, "entityName": "someone", "config": wrapped, **more})
    lines = [json.dumps({"_step": step, **row}) for step, row in enumerate(history)]
    files = {"wandb-history.jsonl": {"offset": 0, "content": lines}}
    files["wandb-summary.json"] = {"offset": 0, "content": [json.dumps(summary)]}
    assert asked.stream(name, project=project, files=files, complete=True, exitcode=0).status_code == 200


def command(address: str, folder: Path, *arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    """Run `python -m analysis.dashboard` as a user of the service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    ours = {"WANDB_BASE_URL": address, "WANDB_DIR": str(folder), "HOME": str(folder), "WANDB_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "analysis.dashboard", *arguments],
        cwd=ROOT,
        env={**kept, **ours, "WANDB_ERROR_REPORTING": "false", **({"WANDB_API_KEY": key} if key else {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


def views(asked: Asked, project: str, sweep: str = "") -> list[dict[str, Any]]:
    """Return what the service keeps of a project's views, the first that was made first; what is new each time as a mark."""
    with asked.database.session() as session:
        found = session.scalars(sa.select(View).order_by(View.id)).all()
        kept = [view for view in found if view.project.name == project]
        return [{"kind": view.kind, "spec": marked(json.loads(view.spec), sweep)} for view in kept]


def marked(value: Any, sweep: str = "", parent: str = "") -> Any:
    """Return a spec in which what is new each time, names of panels and a sweep's id, is a mark."""
    if isinstance(value, dict):
        is_new = {"__id__"} | ({"id"} if parent in ("runSets", "project") else set())
        return {key: "*" if key in is_new else marked(inner, sweep, key) for key, inner in value.items()}
    if isinstance(value, str) and sweep:
        return value.replace(sweep, "*")
    return [marked(inner, sweep, parent) for inner in value] if isinstance(value, list) else value
