"""Locks between processes: one holder, freed by its end, also where the system has no flock; and systems that lack more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from paretune.core.locks import is_free, locked
from tests.samples import ROOT, environment, start

HOLDS = """\
import sys, time
from pathlib import Path
from paretune.core.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
# what Windows lacks, and what older Pythons and macOS do
LACKING = """\
import os, signal, sys
sys.modules["fcntl"] = None
for name in ("sched_getaffinity", "killpg", "setsid", "getpgid", "fork", "process_cpu_count"):
    if hasattr(os, name):
        delattr(os, name)
"""


def test_one_holds_a_lock_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    assert is_free(path) is None, "it is not there"
    with locked(path):
        assert is_free(path) is False
        with pytest.raises(BlockingIOError), locked(path, wait=False):
            pass
    assert is_free(path) is True


def test_a_lock_waits_for_another_thread(tmp_path: Path) -> None:
    path, order = tmp_path / "x.lock", list[str]()

    def other() -> None:
        with locked(path):
            order.append("other")

    with locked(path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        order.append("this")
    thread.join()
    assert order == ["this", "other"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_is_free_when_its_holder_has_died(how: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    values = {**environment(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, env=values, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_free(path) is False
        process.send_signal(how)
        process.wait(30)
    assert is_free(path) is True


def test_a_lock_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"), locked(tmp_path / "nowhere" / "x.lock"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_persons_lock_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.lock").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert is_free(tmp_path / "x.lock") is None


def test_where_the_system_lacks_it_all_a_model_is_searched_and_a_program_refused_in_one_sentence(tmp_path: Path) -> None:
    sweep = {"method": "random", "metric": {"name": "f1", "goal": "maximize"}}
    ours = {
        **sweep,
        "program": "trainers/softmax.py",
        "parameters": {"epochs": {"value": 1}, "learning_rate": {"max": 0.1, "min": 0.01}},
    }
    own = {**sweep, "program": "own.py", "parameters": {"rate": {"min": 0.0, "max": 1.0}}}
    for name, definition in (("ours", ours), ("own", own)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(definition))
    (tmp_path / "own.py").write_text("import wandb\n")
    code = f"{LACKING}\nfrom paretune.cli import main\nsys.exit(main(sys.argv[1:]))"

    def searched(name: str, *flags: str) -> subprocess.CompletedProcess[str]:
        flags = (f"{name}.yaml", "--trials=2", f"--name={name}", "--runs=runs", "--device=cpu", *flags)
        return start(sys.executable, "-c", code, "sweep", *flags, cwd=tmp_path, PYTHONPATH=str(ROOT))

    trained = searched("ours")
    assert trained.returncode == 0, trained.stderr
    assert "2 complete" in trained.stdout
    refused = searched("own")
    assert "programs of your own need a system with process groups (Linux, macOS)" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.returncode == 2


def test_where_no_affinity_is_known_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from paretune.search.places.local_pool import cores

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert cores() == 3
