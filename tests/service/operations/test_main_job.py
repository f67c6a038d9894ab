"""`make sweep SERVICE=1`: the main job through a server of one's own, which goes on after it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.service.operations import main_job
from paretune.service.store.database import Database
from paretune.service.store.tables import ApiKey, Run, Sweep

SWEEP = ROOT / "sweeps" / "svm.yaml"


def test_the_definition_has_the_data_and_the_number_of_runs() -> None:
    plain, changed = main_job.definition_of(SWEEP, "digits", None), main_job.definition_of(SWEEP, "mnist", 3)
    assert (plain["parameters"]["data"], plain["run_cap"]) == ({"value": "digits"}, 24)
    assert (changed["parameters"]["data"], changed["run_cap"]) == ({"value": "mnist"}, 3)


def test_one_command_at_a_time_has_the_folder(tmp_path: Path) -> None:
    with main_job._alone(tmp_path), pytest.raises(UsageError, match="another such command is at work"), main_job._alone(tmp_path):
        pass


@pytest.mark.parametrize("flag", ["--workers", "--trials"])
def test_no_worker_and_no_trial_is_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main_job.main([str(SWEEP), flag, "0"])
    assert ended.value.code == 2
    assert "must be at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_path_goes_on_after_a_kill(tmp_path: Path) -> None:
    folder, environment = tmp_path / "service", {**os.environ, "HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "paretune.service.operations.main_job", str(SWEEP), "--trials", "3", "--rule", "f1"]
    command += ["--folder", str(folder), "--to", str(tmp_path / "report")]
    given: dict[str, Any] = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, **given)
    assert first.stderr is not None
    line = next(line for line in first.stderr if "run 1/3" in line)
    assert "svm at http://127.0.0.1:" in line
    first.send_signal(signal.SIGKILL)
    first.communicate()
    time.sleep(1)  # the system ends what it had started
    done = subprocess.run(command, timeout=240, **given)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "report" / "report.html").is_file()
    database = Database(f"sqlite:///{folder / 'service.db'}")
    with database.session() as session:
        (sweep,) = session.scalars(sa.select(Sweep)).all()
        states = session.scalars(sa.select(Run.state).where(Run.sweep_name == sweep.name)).all()
        keys = session.scalar(sa.select(sa.func.count(ApiKey.id)))
    database.close()
    assert (sweep.state, len(states), set(states) <= {"finished", "failed"}) == ("FINISHED", 3, True)
    assert keys == 1, "of the command that was killed, and that nobody has any more"
    kept = json.loads((folder / "svm-digits.json").read_text(encoding="utf-8"))
    assert kept["path"].endswith(sweep.name)
    assert sweep.name in done.stdout
    for place in (ROOT / "models").glob(f"{sweep.name}*"):
        subprocess.run(["rm", "-rf", str(place)], check=True)
