"""Groups of processes: started, ended with all that they started, and ended later where their sweep has died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paretune.core.errors import UsageError
from paretune.search.places import process_groups
from paretune.search.places.process_groups import RECORD, end, end_orphan, start
from tests.waiting import wait_until

# a program with a child that writes its number and then waits; "deaf" ignores the request to end
PROGRAM = """
import os, signal, subprocess, sys, time
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def started(folder: Path, how: str = "") -> tuple[subprocess.Popen[bytes], int]:
    with open(folder / "output", "wb") as output:
        process = start([sys.executable, "-c", PROGRAM, how], dict(os.environ), output, folder)
    wait_until(lambda: (folder / "output").read_text().endswith("\n"))
    return process, int((folder / "output").read_text())


def runs(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


linux = pytest.mark.skipif(not process_groups.LINUX, reason="reads /proc")


@linux
def test_a_program_ends_with_what_it_has_started(tmp_path: Path) -> None:
    process, child = started(tmp_path)
    assert runs(child)
    end(process)
    assert process.returncode == -signal.SIGTERM
    wait_until(lambda: not runs(child))


@linux
def test_a_program_that_does_not_heed_the_request_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_groups, "GRACE", 0.2)
    process, child = started(tmp_path, "deaf")
    end(process)
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: not runs(child))


@linux
def test_what_is_left_of_a_group_is_ended_by_its_record(tmp_path: Path) -> None:
    process, child = started(tmp_path)
    process.kill()
    process.wait()
    assert runs(child)
    assert end_orphan(tmp_path, grace=2.0)
    wait_until(lambda: not runs(child))
    assert not end_orphan(tmp_path)


@linux
@pytest.mark.parametrize("change", ["another boot", "another time", "no number", "no record"])
def test_a_group_that_may_be_anothers_is_left_alone(tmp_path: Path, change: str) -> None:
    process, child = started(tmp_path)
    record = tmp_path / RECORD
    kept = json.loads(record.read_text())
    boot, ticks = kept["began"]
    if change == "no record":
        record.unlink()
    else:
        changed = {
            "another boot": {"began": ["x", ticks]},
            "another time": {"began": [boot, ticks + 1]},
            "no number": {"group": "x"},
        }
        record.write_text(json.dumps({**kept, **changed[change]}))
    assert not end_orphan(tmp_path)
    assert process.poll() is None
    assert runs(child)
    end(process)


@pytest.mark.parametrize(("mode", "reason"), [(None, "No such file"), (0o644, "Permission denied")])
def test_what_cannot_be_started_is_one_sentence(tmp_path: Path, mode: int | None, reason: str) -> None:
    program = tmp_path / "program"
    if mode is not None:
        program.write_text("")
        program.chmod(mode)
    with pytest.raises(UsageError, match=rf"cannot be started \({reason}"):
        start([str(program)], dict(os.environ), subprocess.DEVNULL, tmp_path)  # type: ignore[arg-type]
    assert not (tmp_path / RECORD).exists()


def test_a_program_that_the_system_cannot_run_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_groups, "LINUX", False)  # else the tether is started, which says so itself
    program = tmp_path / "program"
    program.write_bytes(b"\0\1\2")
    program.chmod(0o755)
    with pytest.raises(UsageError, match=r"cannot be started \(Exec format error\)"):
        start([str(program)], dict(os.environ), subprocess.DEVNULL, tmp_path)  # type: ignore[arg-type]


def test_systems_without_process_groups_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    process_groups.check_groups()
    monkeypatch.setattr(process_groups, "GROUPS", False)
    with pytest.raises(UsageError, match="need a system with process groups"):
        process_groups.check_groups()


@linux
def test_a_process_that_is_not_there_began_at_no_time() -> None:
    assert process_groups._began(2**22 + 1) is None
    now = process_groups._began(os.getpid())
    assert now is not None
    assert now[1] <= time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
