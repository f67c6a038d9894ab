"""Start a program with all that it starts as one group, end that group, and end one whose sweep has died.

A sweep that is killed cannot end its program. On Linux the system does (die_with_parent.py); what is left of the group, the next
command ends, by the group's number and the time at which it began, which the folder of the trial keeps.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from paretune.core.errors import UsageError

GRACE = 30.0  # seconds from the request to end to the kill, as under W&B's agent
RECORD = "process.json"
TETHER = Path(__file__).with_name("die_with_parent.py")
LINUX = sys.platform == "linux"
GROUPS = hasattr(os, "killpg") and hasattr(os, "setsid")
STARTED = 19  # place of the time at which a process began, in ticks since the boot, behind its name in /proc/PID/stat


def check_groups() -> None:
    """Refuse a system on which a program could not be ended with all that it has started.

    Raises:
        UsageError: in one sentence.
    """
    if not GROUPS:
        raise UsageError(
            "programs of your own need a system with process groups (Linux, macOS), which end all processes that a program starts: "
            "use Linux, macOS or WSL, or search online with wandb agent."
        )


def start(arguments: Sequence[str], environment: Mapping[str, str], output: IO[Any], folder: Path) -> subprocess.Popen[bytes]:
    """Start a program in a group of its own; `folder` keeps which it is.

    Raises:
        UsageError: if it cannot be started.
    """
    if shutil.which(arguments[0], path=environment.get("PATH")) is None:
        reason = os.strerror(errno.EACCES if Path(arguments[0]).exists() else errno.ENOENT)
        raise UsageError(f"{arguments[0]} cannot be started ({reason}).")
    try:  # a session of its own: Ctrl-C is for the sweep, which lets running trials end
        process = subprocess.Popen(
            tethered(arguments),
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(f"{arguments[0]} cannot be started ({error.strerror}).") from None
    began = _began(process.pid)
    if began is not None:
        (folder / RECORD).write_text(json.dumps({"group": process.pid, "began": began}), encoding="utf-8")
    return process


def tethered(arguments: Sequence[str]) -> list[str]:
    """Return a command line that the system ends when this process dies, where it can."""
    return [*([sys.executable, "-I", "-S", str(TETHER), str(os.getpid())] if LINUX else []), *arguments]


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a program and all that it has started to end; kill them where they do not, or where the person insists."""
    how = signal.SIGTERM
    while process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            process.wait(GRACE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            how = signal.SIGKILL


def end_group(group: int) -> None:
    """Kill what a program that has ended has left of its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def end_orphan(folder: Path, grace: float = 5.0) -> bool:
    """End what is left of the group that a trial's folder keeps, whose sweep has died; return whether there was anything."""
    try:
        kept = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        group, began = int(kept["group"]), kept["began"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    now = _began(group) if GROUPS else None
    if not GROUPS or began[0] != _boot() or (now is not None and now != began):  # a number is free again when its group has ended
        return False
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, how)
        except (ProcessLookupError, PermissionError):
            return how == signal.SIGKILL
        deadline = time.monotonic() + grace
        while _alive(group) and time.monotonic() < deadline:
            time.sleep(0.05)
    return True


def _began(process: int) -> list[Any] | None:
    """Return the boot and the time since it at which a process began; None where there is none, or no /proc."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return [_boot(), int(stat.rpartition(")")[2].split()[STARTED])]


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return ""


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
