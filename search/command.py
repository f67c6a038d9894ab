"""Run a program of the person's own, one process per trial as `wandb agent` does, and read its metrics from its W&B run file.

The program is handed its values as the sweep's `command` says, and through WANDB_SWEEP_PARAM_PATH, from which `wandb.init`
fills `wandb.config`. W&B's client writes its file in blocks of 32 KiB, so a running program shows its epochs with a delay.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.sweep import Sweep
from search.training import Attempt, Epochs
from trainers.base import Epoch
from trainers.provenance import git_commit, versions
from trainers.tracking import PROJECT

POLL = 0.25  # seconds between looks at the run file
GRACE = 30.0  # seconds from the request to end to the kill, as under W&B's agent
ENVIRONMENT_VARIABLE = re.compile(r"\$\{envvar:([A-Za-z0-9_]*)\}")


@dataclass
class Command:
    """Trains by starting the sweep's program."""

    sweep: Sweep
    mode: str = "offline"

    def epochs(self, attempt: Attempt, values: dict[str, Any]) -> Epochs:
        folder = (attempt.folder / "trials" / attempt.run_id).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        parameters = folder / "config.yaml"
        parameters.write_text(_parameter_file(values), encoding="utf-8")
        arguments = command_line(self.sweep.command, self.sweep.program, values, folder / "config.json")
        attempt.started(
            {**values, "best_metric": self.sweep.metric, "evaluation_split": "holdout", "provenance": _origin()}, str(folder)
        )
        output = folder / "output.log"
        with output.open("ab") as log:
            # a session of its own: Ctrl-C is for the sweep, which lets running trials end
            process = subprocess.Popen(
                arguments,
                env=self._environment(attempt, folder, parameters),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                yield from self._watched(process, folder)
            except BaseException:
                _end(process)
                raise
        if process.returncode not in (0, None) and not self._stopped:
            raise RuntimeError(f"the program ended with exit code {process.returncode}: {_last_line(output)}")

    def _watched(self, process: subprocess.Popen[bytes], folder: Path) -> Epochs:
        """Yield the rows that hold an objective, as they become readable, until the program has ended."""
        self._stopped = False
        shown = 0
        while True:
            ended = process.poll() is not None
            rows = self._rows(folder)
            for row in rows[shown:]:
                shown += 1
                last = ended and shown == len(rows)
                if (yield Epoch(shown, row, last)) and not ended:
                    self._stopped = True
                    _end(process)
                    return
            if ended:
                return
            time.sleep(POLL)

    def _rows(self, folder: Path) -> list[dict[str, float]]:
        from trainers.run_files import read_run

        found = [run for run in map(read_run, sorted(folder.glob("wandb/*run-*/run-*.wandb"))) if run is not None]
        if not found:
            return []
        rows = [_numbers(row) for row in found[-1].rows]
        rows = [row for row in rows if any(objective.name in row for objective in self.sweep.objectives)]
        if not rows:  # what a program only writes into its summary counts as its one row
            summary = _numbers(found[-1].summary)
            rows = [summary] if any(objective.name in summary for objective in self.sweep.objectives) else []
        return rows

    def _environment(self, attempt: Attempt, folder: Path, parameters: Path) -> dict[str, str]:
        own = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "PATH": own + os.pathsep + os.environ.get("PATH", ""),  # ${env} ${interpreter} is the first python there
            "WANDB_MODE": self.mode,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_DIR": str(folder),
            "WANDB_RUN_ID": attempt.run_id,
            "WANDB_NAME": attempt.name,
            "WANDB_RUN_GROUP": attempt.group,
            "WANDB_JOB_TYPE": "sweep",
            "WANDB_PROJECT": self.sweep.project or os.environ.get("WANDB_PROJECT") or PROJECT,
            **({"WANDB_ENTITY": self.sweep.entity} if self.sweep.entity else {}),
            **({"WANDB_TAGS": ",".join(attempt.tags)} if attempt.tags else {}),
            "WANDB_SWEEP_PARAM_PATH": str(parameters),
        }


def command_line(command: Sequence[str], program: str, values: Mapping[str, Any], json_file: Path) -> list[str]:
    """Return a sweep's `command` with its macros filled in, as `wandb agent` fills them.

    `${args_json_file}` writes `json_file`. An environment variable that is not set leaves its name, as there.
    """
    flags = [f"{name}={value}" for name, value in values.items()]
    without_false = [f"--{name}" if value is True else f"--{name}={value}" for name, value in values.items() if value is not False]
    macros = {
        "env": ["/usr/bin/env"],
        "interpreter": ["python"],
        "program": [program],
        "args": [f"--{flag}" for flag in flags],
        "args_no_equals": [part for name, value in values.items() for part in (f"--{name}", str(value))],
        "args_no_hyphens": flags,
        "args_no_boolean_flags": without_false,
        "args_json": [json.dumps(values)],
        "args_json_file": [str(json_file)],
        "args_append_hydra": [f"+{flag}" for flag in flags],
        "args_override_hydra": [f"++{flag}" for flag in flags],
    }
    if "${args_json_file}" in command:
        json_file.write_text(json.dumps(values), encoding="utf-8")
    filled: list[str] = []
    for part in command:
        text = ENVIRONMENT_VARIABLE.sub(lambda found: os.environ.get(found[1], found[1]), part)
        filled += macros.get(text[2:-1], []) if text.startswith("${") and text.endswith("}") else [text]
    return filled


def _parameter_file(values: Mapping[str, Any]) -> str:
    import yaml

    return "wandb_version: 1\n\n" + yaml.safe_dump({name: {"value": value} for name, value in values.items()}, sort_keys=False)


def _origin() -> dict[str, Any]:
    return {"commit": git_commit(), "versions": versions()}


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a logged row holds in numbers; W&B writes NaN and infinity as texts."""
    found = {}
    for name, value in row.items():
        if name in {"_step", "_timestamp"}:
            continue
        if value in ("NaN", "Infinity", "-Infinity"):
            found[name] = float(str(value).replace("Infinity", "inf"))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value) if math.isfinite(value) else math.nan
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a program and all that it has started to end; kill them where they do not."""
    for how, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
            break
        except subprocess.TimeoutExpired:
            continue


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"
