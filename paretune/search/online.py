"""Create a sweep at W&B from the same file that runs offline, and start W&B's own agent on it.

usage: python -m paretune.search.online SWEEP.yaml [--data NAME] [--count N] [--project NAME] [--entity NAME]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError, first_line
from paretune.core.folders import ROOT
from paretune.runs.tracking import PROJECT, api_errors, check_online, logged_in
from paretune.search.spec.yaml_lines import read_definition


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.search.online", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("sweep", metavar="SWEEP.yaml", help="a W&B sweep file, such as sweeps/ann.yaml")
    parser.add_argument("--data", help="fix the data set (default: what the file says, else digits)")
    parser.add_argument("--count", type=int, help="runs that this agent shall do (default: until the sweep ends)")
    parser.add_argument("--project", help="W&B project (default: the file's)")
    parser.add_argument("--entity", help="W&B user or team (default: the file's, else yours)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        path = create(options)
        print(f"start agents on other machines with: wandb agent {path}", flush=True)
        start_agent(path, options.count)
    return 0


def create(options: argparse.Namespace) -> str:
    """Create the sweep; return entity/project/id.

    Raises:
        UsageError: without credentials, or if W&B refuses the file.
    """
    definition = read_definition(Path(options.sweep)).values
    if options.data:
        definition.setdefault("parameters", {})["data"] = {"value": options.data}
    check_online(options.sweep)
    import wandb

    project = options.project or definition.get("project") or PROJECT
    try:
        entity = options.entity or definition.get("entity") or wandb.Api().default_entity
        sweep = wandb.sweep(definition, entity=entity, project=project)
    except api_errors(ValueError, OSError) as error:
        reason = first_line(error)
        raise UsageError(f"{options.sweep}: W&B did not create the sweep ({reason}).") from None
    return f"{entity}/{project}/{sweep}"


def prior_run(path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return config and logged rows of a run at W&B, entity/project/run.

    Raises:
        UsageError: without credentials, or if there is no such run.
    """
    if not logged_in():
        raise UsageError(f"{path} is no file here, and W&B cannot be asked for it: log in with 'wandb login' first.")
    import wandb

    try:
        run = wandb.Api(timeout=60).run(path)
        rows = [dict(row) for row in run.scan_history()] or [dict(run.summary)]
    except api_errors(ValueError) as error:
        reason = first_line(error)
        raise UsageError(f"{path}: W&B has no such run ({reason}).") from None
    return dict(run.config), rows


def start_agent(path: str, count: int | None) -> None:
    """Become `wandb agent`, in the project's folder, with this Python first on the path."""
    os.chdir(ROOT)
    folder = str(Path(sys.executable).parent)  # the agent starts trainers with /usr/bin/env python
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")
    command = [sys.executable, "-m", "wandb", "agent", "--forward-signals", *(["--count", str(count)] if count else []), path]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    sys.exit(main())
