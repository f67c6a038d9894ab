"""A process with a bound on its time, which ends with the one that started it. Standard library alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LOOK_SECONDS = 0.2
ENDED_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def run_bounded(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path, seconds: float, look: Callable[[], None]
) -> int | None:
    """Run a command to its end, or kill it and all that it has started at its bound.

    Args:
        log: takes what it prints.
        look: called again and again while it runs; what it raises kills the command as well.

    Returns:
        the exit code, None where it was killed at its bound.
    """
    end = time.monotonic() + seconds
    with log.open("w", encoding="utf-8") as output:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the command that waits here
            preexec_fn=_end_with_parent,
        )
        try:
            while child.poll() is None:
                if time.monotonic() > end:
                    return None
                look()
                time.sleep(LOOK_SECONDS)
            return child.returncode
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _end_with_parent() -> None:
    """Let the system kill this process when its parent dies, even of a signal that cannot be caught."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(ENDED_WITH_PARENT, signal.SIGKILL)
