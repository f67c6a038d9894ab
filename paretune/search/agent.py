"""A W&B agent in process: runs the trials of an online sweep without starting an interpreter for each.

usage: python -m paretune.search.agent ENTITY/PROJECT/SWEEP [--count N] [--device NAME]

W&B's server suggests the configurations, as for `wandb agent`; the data stay in memory from run to run. The agent is a process of
its own: this one says how it ended where a training has ended it, as os._exit and the system's memory killer do.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.devices import pick_device
from paretune.core.errors import UsageError, first_line, how_it_ended
from paretune.models.programs import program_model
from paretune.runs.tracking import api_errors, check_online
from paretune.search.places.process_groups import tethered

WATCHED = "PARETUNE_WATCHED_AGENT"  # set for the process that is the agent
SAID = (0, 1, 2, 130)  # exit codes of an agent that has said why it ended


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.search.agent", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("sweep", metavar="ENTITY/PROJECT/SWEEP", help="as wandb sweep prints it")
    parser.add_argument("--count", type=int, metavar="N", help="runs that this agent shall do (default: until the sweep ends)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        if not re.fullmatch(r"[\w.-]+/[\w.-]+/[\w.-]+", options.sweep):
            raise UsageError(f"the sweep must be ENTITY/PROJECT/SWEEP, as wandb sweep prints it. Got {options.sweep!r}.")
        check_online()
        if WATCHED not in os.environ:
            return watch_agent(options.sweep, sys.argv[1:] if arguments is None else arguments)
        run_agent(options.sweep, options.count, options.device)
    return 0


def watch_agent(sweep: str, arguments: Sequence[str]) -> int:
    """Run the agent in a process of its own, which gets this one's signals; return its exit code, and say how it was ended.

    An end that somebody has asked for by a signal needs no words.
    """
    command = [sys.executable, "-m", "paretune.search.agent", *arguments]
    # a session of its own: the terminal's Ctrl-C comes here alone, and reaches the agent once
    process = subprocess.Popen(tethered(command), env={**os.environ, WATCHED: "1"}, start_new_session=True)
    asked = set[int]()

    def forward(number: int, _: Any) -> None:
        asked.add(number)
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code not in SAID and not asked & {-code, code - 128}:
        print(
            f"error: {sweep}: the training of this agent's last run {how_it_ended(code)}, and with it the agent; W&B shows the run "
            "as crashed: start the agent again to go on.",
            file=sys.stderr,
        )
    return code if code >= 0 else 128 - code


def run_agent(path: str, count: int | None, device: str) -> None:
    """Let W&B's agent call our training in this process.

    Raises:
        UsageError: if there is no such sweep, or its program is not a trainer of ours.
    """
    import wandb

    from paretune.models.train_command import train_in_sweep

    pick_device(device)
    entity, project, sweep = path.split("/")
    try:
        program = str(wandb.Api(timeout=60).sweep(path).config.get("program", ""))
    except api_errors(ValueError) as error:
        reason = first_line(error)
        raise UsageError(f"{path}: W&B has no such sweep ({reason}).") from None
    kind = program_model(program)
    if kind is None:
        raise UsageError(f"{path} runs {program!r}, which is not a trainer of ours: use 'wandb agent {path}'.")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    wandb.agent(sweep, function=lambda: train_in_sweep(kind, device), entity=entity, project=project, count=count)


if __name__ == "__main__":
    sys.exit(main())
