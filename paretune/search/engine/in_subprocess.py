"""Run a program of the person's own, one process per trial as `wandb agent` does, and read its metrics from its W&B run file.

The program is handed its values as the sweep's `command` says, and through WANDB_SWEEP_PARAM_PATH, from which `wandb.init`
fills `wandb.config`. W&B's client writes its file in blocks of 32 KiB, so a running program shows its epochs with a delay.
Of several W&B runs of a program, the one with the id that was handed out (WANDB_RUN_ID) is the trial's.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError, did_you_mean, excerpt, how_it_ended
from paretune.runs.outcome_file import add_outcome
from paretune.runs.sweep_outcome import SweepOutcome
from paretune.runs.tracking import PROJECT
from paretune.runs.wandb_files import INTERNAL, RunFile, numbers
from paretune.runs.whole_runs import summary_numbers
from paretune.search.engine.in_process import Attempt, Batch, Epochs
from paretune.search.engine.study import with_latest, with_summary
from paretune.search.engine.time_limit import TimeLimit
from paretune.search.engine.trial_runs import COLOURS, TrialRuns
from paretune.search.places.process_groups import end, end_group, start
from paretune.search.spec.sweep import Sweep

POLL = 0.25  # seconds between looks at the run file
UNKNOWN_POLL = 0.05  # the same while no run file is known: W&B's service holds that of a short run open for little longer
READING_SHARE = 10  # times the seconds that a reading takes, to the next one, unless the program ends
KEPT = 500  # rows that a study keeps of a run before it keeps fewer and fewer of them, beside the last
ENVIRONMENT_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")  # capitals only, as at W&B
# a sweep of W&B's and a service of its client, around this one
NOT_INHERITED = {"WANDB_SERVICE", "WANDB_SWEEP_ID", "WANDB_RESUME", "WANDB_DISABLED"}
RUNTIME = "_runtime"  # W&B's seconds since the start of a run
LATE_SECONDS = 5.0  # within which W&B's client writes the end of a run file, after its program has ended
TAIL = 64 * 1024  # bytes at the end of what a program printed, in which its last line is looked for


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
        attempt.started(values, str(folder))
        output = folder / "output.log"
        runs = TrialRuns(folder, attempt.run_id, output)
        with output.open("wb") as log:
            environment = self._environment(attempt, folder, parameters)
            process = start(arguments, environment, log, folder)
            try:
                yield from self._watched(process, runs, attempt.limit)
            except BaseException:
                end(process)
                end_group(process.pid)
                raise
        if self._stopped:
            return
        if process.returncode:
            raise UsageError(f"the program {how_it_ended(process.returncode)}{_last_line(output) or ' without a message'}")
        if self._run_code:
            raise UsageError(
                f"the program ended its W&B run with exit code {self._run_code}, as by run.finish(exit_code={self._run_code})"
                f"{_last_line(output)}"
            )
        if self._unfinished:
            raise UsageError(
                "the program exited with code 0 and left its W&B run unfinished, so that its last rows may be missing: it must end "
                f"without os._exit, or call run.finish() first{_last_line(output)}"
            )
        if not self._found:
            raise UsageError(self._why_nothing(runs))

    def write_outcome(self, known: RunFile, folder: Path, outcome: SweepOutcome) -> None:
        runs = TrialRuns(folder, known.run_id, folder / "output.log", earlier=True)
        found = runs.read()
        run = runs.own(found, self.sweep.goals)
        if not found and (files := runs.files()):  # the client was killed before it wrote anything
            run = replace(known, file=str(files[-1]))
        if run is not None:
            add_outcome(run, outcome, folder, online=self.mode == "online")

    def shape(self, values: dict[str, Any]) -> None:
        """Return None: a program of the person's own trains alone."""

    def together(self, values: Any, checkpoints: Any) -> Any:
        """Never called."""
        raise AssertionError("a program of the person's own trains alone")

    def _watched(self, process: subprocess.Popen[bytes], runs: TrialRuns, limit: TimeLimit | None) -> Epochs:
        """Yield the rows that hold an objective, as they become readable, until the program has ended.

        When its run has ended the rest waits for the program's end, as only the exit code says whether it went well: then
        the last row, and no other, is the end of the training.

        Raises:
            TrialTimeoutError: if the program takes longer than it may.
        """
        self._stopped, self._found = False, False
        seen, kept = 0, set[int]()
        while True:
            code = process.poll()
            runs.look(process.pid if code is None else None)
            begin = time.monotonic()
            by_itself = code is not None and code >= 0
            rows, over = self._late_rows(runs) if by_itself else self._rows(runs, ended=code is not None)
            places = {place for place in range(seen, len(rows)) if place % (place // KEPT + 1) == 0} - kept
            if code is not None:
                self._found = bool(rows)
                if rows:
                    places |= {len(rows) - 1}
                well = not (code or self._unfinished or self._run_code)
                epochs = [Epoch(place + 1, rows[place], well and place == len(rows) - 1) for place in sorted(places)]
                self._stopped = bool(epochs) and (yield Batch(epochs, ended=True)) is not None
                return
            if not over:
                seen = len(rows)
                kept |= places
                if places and (yield Batch([Epoch(place + 1, rows[place]) for place in sorted(places)])) is not None:
                    self._stopped = True
                    end(process)
                    return
            if limit is not None and limit.left <= 0:
                raise limit.error()
            pause = max(POLL if runs.files() else UNKNOWN_POLL, READING_SHARE * (time.monotonic() - begin))
            wait_for_end(process, pause if limit is None else min(pause, max(limit.left, 0)))

    def _late_rows(self, runs: TrialRuns) -> tuple[list[dict[str, float]], bool]:
        """Return what `_rows` does of a program that was not killed, once W&B's client has written the end, or is too late."""
        deadline = time.monotonic() + LATE_SECONDS
        while True:
            found = self._rows(runs, ended=True)
            if not self._unwritten or time.monotonic() > deadline:
                return found
            time.sleep(POLL)

    def _rows(self, runs: TrialRuns, *, ended: bool) -> tuple[list[dict[str, float]], bool]:
        """Return the rows of the trial's own run that hold an objective, and whether they are all.

        The last one also holds the objectives that the program decided in the run's summary.
        """
        found = runs.read()
        all_ended = bool(found) and all(run.state != "running" for run in found)
        over = ended or all_ended
        run = runs.own(found, self.sweep.goals)
        self._unfinished = run is not None and run.state == "running"
        self._run_code = run.exit_code if run is not None else None
        self._unwritten = self._unfinished or (run is None and not all_ended and bool(runs.files()))
        if run is None:
            return [], over
        rows = with_latest(map(_numbers, run.rows), self.sweep.goals.keys())
        if self.sweep.metric == RUNTIME:  # it counts up: only its end says something
            return (rows[-1:] if over else []), over
        if over:
            rows = with_summary(rows, _storable(summary_numbers(run.summary)), self.sweep.goals, whole=run.state != "running")
        return rows, over

    def _why_nothing(self, runs: TrialRuns) -> str:
        """Return why a program that ended well has no result."""
        found, metric, goals = runs.read(), self.sweep.metric, self.sweep.goals
        files = runs.files()
        if not found and files:
            return (
                f"the program exited with code 0 before W&B's client had written anything of its run ({files[-1].name} holds "
                f"{files[-1].stat().st_size} bytes): it must end without os._exit, or call run.finish() first"
            )
        if not found:
            return f"the program wrote no W&B run below {Path.cwd()} or {runs.folder}: it must call wandb.init and log {metric}"
        run = runs.own(found, goals)
        if run is None:
            return (
                f"the program wrote {len(found)} W&B runs, none of which has the id that it was handed, {runs.run_id}: log "
                f"{' and '.join(goals)} to the run of a plain wandb.init()"
            )
        names = {name: None for row in (*run.rows, run.summary) for name in _numbers(row) if name != RUNTIME}
        return (
            f"the program never logged {metric}"
            + (" to the trial's own run" if len(found) > 1 else "")
            + (did_you_mean(metric, names) or f"; it logged {excerpt(', '.join(names)) or 'nothing'}")
        )

    def _environment(self, attempt: Attempt, folder: Path, parameters: Path) -> dict[str, str]:
        own, program = str(Path(sys.executable).parent), Path(self.sweep.program).resolve()
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        return {
            "WANDB_GIT_ROOT": str(program.parent if program.is_file() else Path.cwd()),  # else WANDB_DIR, which may lie in another
            "PYTHONUNBUFFERED": "1",  # output.log shows what the program prints as it prints it
            **inherited,
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


def wait_for_end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for so many seconds, or until a process has ended: reading a large run file makes the pauses long."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


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


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return a row's numbers; infinity as NaN, which every storage of a study keeps."""
    return _storable(numbers(row, INTERNAL - {RUNTIME}))


def _storable(found: Mapping[str, float]) -> dict[str, float]:
    return {name: value if math.isfinite(value) else math.nan for name, value in found.items()}


def _last_line(path: Path) -> str:
    """Return the last line that a program printed, as the end of a sentence, but not what W&B's client says when it ends."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.strip() for line in COLOURS.sub("", text).splitlines() if line.strip() and not line.startswith("wandb:")]
    return f"; its last line: {excerpt(lines[-1])}" if lines else ""
