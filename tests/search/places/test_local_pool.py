"""Many workers on one study, killed at random: nothing lost, nothing twice, nothing stuck; and Ctrl-C once and twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from paretune.analysis.history import load_runs
from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.runs.outcome_file import packed
from paretune.runs.study_storage import close
from paretune.search.engine import time_limit
from paretune.search.engine.study import finished
from paretune.search.places import local_pool
from paretune.search.places.local_pool import Crew, Work, cores, environments, gpus_of
from tests.postgres import needs_postgres, postgres
from tests.samples import ROOT, environment, start
from tests.search.ending import ENDING

SWEEP: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "random",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {
        "epochs": {"value": 1},
        "train_size": {"value": 20},
        "learning_rate": {"distribution": "log_uniform_values", "min": 0.0001, "max": 0.5},
    },
}


def command(folder: Path, *more: str, **changes: Any) -> list[str]:
    path = folder / "workers.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, **changes}))
    flags = ["--name=s", "--runs", str(folder / "runs"), "--device=cpu", "--wandb=disabled"]
    return [sys.executable, str(ROOT / "sweeps" / "offline.py"), str(path), *flags, *more]


def trials_in(folder: Path, storage: str | None = None) -> list[FrozenTrial]:
    study = optuna.load_study(study_name="s", storage=storage or f"sqlite:///{folder}/runs/s/study.db")
    trials = study.get_trials()
    close(study._storage)
    return trials


def children_of(process: subprocess.Popen[str]) -> list[int]:
    """The worker processes: children that are no helper of multiprocessing's own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@contextlib.contextmanager
def started(line: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            line, cwd=folder, env=environment(folder), stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


MOST_IN_A_ROW = 4  # kills


def killed_at_random_until_done(line: list[str], folder: Path, *, every: float, timeout: float) -> int:
    """Start a sweep, kill one of its workers every few seconds until it has ended; return how many were killed.

    After MOST_IN_A_ROW kills a trial ends first: on a busy machine a worker takes longer to start than kills are apart, and a sweep
    whose workers all die is given up.
    """
    choice, kills, deadline = random.Random(0), 0, time.monotonic() + timeout
    in_a_row = ended = 0
    with started(line, folder) as process:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(every * choice.uniform(0.5, 1.5))
            if process.poll() is not None:
                assert process.returncode == 0, (folder / "output.txt").read_text()
                return kills
            assert time.monotonic() < deadline, (folder / "output.txt").read_text()
            known, ended = ended, (folder / "output.txt").read_text().count(": trial ")
            in_a_row = in_a_row if ended == known else 0
            children = children_of(process)
            if not children or in_a_row >= MOST_IN_A_ROW:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(choice.choice(children), signal.SIGKILL)
                kills, in_a_row = kills + 1, in_a_row + 1


def assert_each_configuration_was_finished_once(trials: list[FrozenTrial], count: int) -> None:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == count == len(finished(trials))
    assert len({tuple(trial.params.items()) for trial in complete}) == count, "a configuration was issued twice"
    assert not [trial for trial in trials if trial.state in (TrialState.RUNNING, TrialState.WAITING)], "a trial is stuck"
    interrupted = {t.number for t in trials if t.user_attrs.get(study_schema.CAUSE) == study_schema.INTERRUPTED}
    retried = [trial.user_attrs[study_schema.RETRY_OF] for trial in trials if study_schema.RETRY_OF in trial.user_attrs]
    assert sorted(retried) == sorted(interrupted), "each interrupted trial is retried once"
    assert len(trials) == count + len(interrupted)


@pytest.mark.slow
def test_four_workers_killed_at_random_on_sqlite_finish_200_trials(tmp_path: Path) -> None:
    kills = killed_at_random_until_done(command(tmp_path, "--workers=4", "--trials=200"), tmp_path, every=3.0, timeout=600)
    assert kills >= 2
    assert_each_configuration_was_finished_once(trials_in(tmp_path), 200)


@pytest.mark.slow
@needs_postgres
def test_eight_workers_killed_at_random_on_postgresql_finish_200_trials(tmp_path: Path) -> None:
    with postgres(tmp_path) as storage:
        line = command(tmp_path, "--workers=8", "--trials=200", "--lease=3", "--storage", storage)
        kills = killed_at_random_until_done(line, tmp_path, every=5.0, timeout=900)
        assert kills >= 2
        assert_each_configuration_was_finished_once(trials_in(tmp_path, storage), 200)


@pytest.mark.slow
@needs_postgres
def test_the_same_command_elsewhere_joins_the_sweep(tmp_path: Path) -> None:
    """Two machines: folders of their own, one database. Each asks for 30 in all; 30 it is."""
    with postgres(tmp_path) as storage:
        folders = [tmp_path / "one", tmp_path / "two"]
        processes = []
        for folder in folders:
            folder.mkdir()
            line = command(folder, "--trials=30", "--storage", storage)
            processes.append(subprocess.Popen(line, cwd=folder, env=environment(folder), stderr=subprocess.PIPE, text=True))
        errors = [process.communicate(timeout=300)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], errors
        trials = trials_in(tmp_path, storage)
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        assert len(complete) == 30
        assert len({tuple(trial.params.items()) for trial in complete}) == 30
        locks = {trial.user_attrs[study_schema.WORKER]["lock"] for trial in complete}
        assert {Path(lock).parents[3].name for lock in locks} == {"one", "two"}, "both have worked"


def test_two_processes_of_one_folder_share_a_sweep(tmp_path: Path) -> None:
    line = command(tmp_path, "--trials=12")
    processes = [
        subprocess.Popen(line, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert_each_configuration_was_finished_once(trials_in(tmp_path), 12)


LONG = {"parameters": {**SWEEP["parameters"], "epochs": {"value": 4000}, "train_size": {"value": 1000}}}


def wait_until(folder: Path, running: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            trials = trials_in(folder)
            begun = [trial for trial in trials if trial.state == TrialState.RUNNING and study_schema.epochs_of(trial.user_attrs)]
            if len(begun) >= running:
                return
        time.sleep(0.2)
    pytest.fail((folder / "output.txt").read_text())


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_twice_the_running_trials_are_given_back_and_the_study_stays_clean(tmp_path: Path, workers: int) -> None:
    line = command(tmp_path, f"--workers={workers}", "--trials=5", **LONG)
    with started(line, tmp_path) as process:
        wait_until(tmp_path, workers)
        process.send_signal(signal.SIGINT)
        time.sleep(1.0)
        assert process.poll() is None, "once: the running trials go on"
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == 130
    output = (tmp_path / "output.txt").read_text()
    assert "once more to give" in output
    assert "run the same command again to go on" in output
    assert "Traceback" not in output
    trials = trials_in(tmp_path)
    causes = [trial.user_attrs.get(study_schema.CAUSE) for trial in trials if trial.state == TrialState.FAIL]
    assert causes == [study_schema.INTERRUPTED] * workers
    assert sum(trial.state == TrialState.WAITING for trial in trials) == workers


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_once_the_running_trials_end_and_no_other_begins(tmp_path: Path, workers: int) -> None:
    parameters = {**SWEEP["parameters"], "epochs": {"value": 40}, "train_size": {"value": 1000}}
    line = command(tmp_path, f"--workers={workers}", "--trials=500", parameters=parameters)
    stale = tmp_path / "runs" / "s" / "cache" / "products-1111111111111111.npy"
    stale.parent.mkdir(parents=True)
    stale.touch()
    with started(line, tmp_path) as process:
        wait_until(tmp_path, workers)
        assert not stale.exists(), "killed workers have left it"
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == 130
    trials = trials_in(tmp_path)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert "Traceback" not in (tmp_path / "output.txt").read_text()


def test_workers_whose_parent_is_killed_stop_after_their_trial(tmp_path: Path) -> None:
    parameters = {**SWEEP["parameters"], "epochs": {"value": 40}, "train_size": {"value": 1000}}
    with started(command(tmp_path, "--workers=2", "--trials=5000", parameters=parameters), tmp_path) as process:
        wait_until(tmp_path, 2)
        children = children_of(process)
        process.kill()
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{child}/cmdline").exists() for child in children) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not any(Path(f"/proc/{child}/cmdline").exists() for child in children)
    assert {trial.state for trial in trials_in(tmp_path)} == {TrialState.COMPLETE}


def test_a_mistake_in_a_worker_is_one_sentence(tmp_path: Path) -> None:
    result = start(*command(tmp_path, "--workers=2", "--trials=3", "--data=folder:/no/where"), cwd=tmp_path)
    assert result.returncode == 2
    assert "/no/where" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_mistake_in_a_worker_is_said_before_the_others_have_ended(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import os, time\n"
        "try:\n    os.close(os.open('slow', os.O_CREAT | os.O_EXCL))\nexcept FileExistsError:\n    raise SystemExit('no good')\n"
        "time.sleep(300)\n"
    )
    changes = {"program": "own.py", "metric": {"name": "loss"}, "parameters": {"rate": {"min": 0.0, "max": 1.0}}}
    (tmp_path / "workers.yaml").write_text(yaml.safe_dump({**SWEEP, **changes}))
    line = [
        sys.executable,
        str(ROOT / "sweeps" / "offline.py"),
        "workers.yaml",
        "--workers=2",
        "--trials=9",
        "--name=s",
        "--runs=runs",
    ]
    with subprocess.Popen(line, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        for text in process.stderr:
            said += text
            if "waiting for the running trials to end" in text:
                time.sleep(1)  # as a person would: two signals at the same time are one
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 2
    assert "error: the first 3 trials failed; the last one: the program exited with code 1; its last line: no good" in said
    assert said.index("the first 3 trials failed") < said.index("waiting for the running trials to end")
    assert said.index("waiting for the running trials to end") < said.index("giving the running trials back")
    states = [trial.state for trial in trials_in(tmp_path)]
    assert sorted(state.name for state in states) == ["FAIL"] * 4 + ["WAITING"]


# What takes too long


SEARCHED: Any = SimpleNamespace(goals={"f1": "maximize"}, project=None, entity=None, judged=lambda outcome, *_: outcome)


class Process:
    """A worker process that takes note of what becomes of it."""

    def __init__(self, study: optuna.Study) -> None:
        self.pid, self.study, self.at_kill = 77, study, list[TrialState]()

    def is_alive(self) -> bool:
        return True

    def kill(self) -> None:
        self.at_kill = [trial.state for trial in self.study.get_trials()]

    def join(self) -> None:
        pass


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crew:
    """Eight trials that one worker trains as one program, each with a limit of 8 seconds, and a clock that stands at 0."""
    study = optuna.create_study()
    for _ in range(8):
        lock = str(tmp_path / "s" / "workers" / "77-abc.lock")
        study.ask().set_user_attr(study_schema.WORKER, {"host": socket.gethostname(), "lock": lock})
    crew = Crew(Work(tmp_path / "s.yaml", {}, {"runs": tmp_path, "name": "s", "mode": "offline"}), study, [{}], 8.0)
    crew.processes = [Process(study)]  # type: ignore[list-item]
    monkeypatch.setattr(Crew, "_start", lambda self, share: None)
    at(monkeypatch, 0.0)
    return crew


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in (local_pool, time_limit):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds))


def look(crew: Crew) -> Process:
    (process,) = crew.processes
    crew._end_overdue([trial for trial in crew.study.get_trials() if trial.state == TrialState.RUNNING], SEARCHED)
    return process  # type: ignore[return-value]


def test_the_last_of_a_batch_has_the_time_of_all_that_were_in_it(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    look(crew)
    for number in range(7):
        crew.study.tell(number, state=TrialState.PRUNED)
    for seconds in (20.0, 63.0, 68.0):
        at(monkeypatch, seconds)
        assert look(crew).at_kill == []
    at(monkeypatch, 70.0)
    look(crew)
    assert crew.processes == [None]
    cause = crew.study.get_trials()[7].user_attrs[study_schema.CAUSE]
    assert cause.startswith(
        "it took longer than its trial_timeout of 8 s, as one of 8 that share their time; its worker was killed"
    )


def test_hanging_trials_have_failed_before_their_worker_is_killed_and_leave_no_checkpoint(
    crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = tmp_path / "s" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for number in range(8):
        (checkpoints / f"{number}.pt").touch()
    crew.study.tell(0, state=TrialState.PRUNED)
    look(crew)
    at(monkeypatch, 100.0)
    assert look(crew).at_kill == [TrialState.PRUNED, *[TrialState.FAIL] * 7]
    assert [path.name for path in checkpoints.iterdir()] == ["0.pt"]


def test_the_run_of_a_hanging_trial_says_why_it_failed(crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s" / "wandb" / "offline-run-20260101_000000-r0"
    path.mkdir(parents=True)
    (path / "run-r0.wandb").write_bytes(packed([]))  # nothing is written yet
    known = {"id": "r0", "path": f"wandb/{path.name}", "config": {"rate": 0.5}}
    crew.study._storage.set_trial_user_attr(crew.study.trials[0]._trial_id, study_schema.RUN, known)
    look(crew)
    at(monkeypatch, 100.0)
    look(crew)
    (run,) = load_runs(tmp_path / "s")
    assert (run.run, run.state, run.config) == ("r0", "failed", {"rate": 0.5})
    assert run.cause == crew.study.get_trials()[0].user_attrs[study_schema.CAUSE]


def test_a_worker_whose_trials_have_ended_meanwhile_is_left_alone(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    look(crew)
    seen = crew.study.get_trials()
    for number in range(8):
        crew.study.tell(number, 1.0)
    at(monkeypatch, 100.0)
    crew._end_overdue(seen, SEARCHED)
    assert [process.at_kill for process in crew.processes if isinstance(process, Process)] == [[]]


# Shares


def test_cores_are_shared_and_gpus_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cores() == 8
    shares = environments(3, ["0", "2"])
    assert [share["OMP_NUM_THREADS"] for share in shares] == ["2", "2", "2"]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "2", "0"]
    assert [share["OMP_NUM_THREADS"] for share in environments(16, [])] == ["1"] * 16
    assert "CUDA_VISIBLE_DEVICES" not in environments(1, [])[0]


def test_gpus_are_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert gpus_of("all") == ["0", "1", "2"]
    assert gpus_of("0, 2") == ["0", "2"]
    with pytest.raises(UsageError, match=r"--gpus must be 'all' or some of 0,1,2\. Got '5'"):
        gpus_of("5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert gpus_of("all") == ["4", "6", "7"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="this machine shows none"):
        gpus_of("all")


@pytest.mark.slow
def test_a_training_that_ends_its_worker_is_said_tried_again_and_fails(away: Path) -> None:
    (away / "ending.py").write_text(ENDING.format(end="os._exit(3)"))
    parameters = {**SWEEP["parameters"], "learning_rate": {"value": 0.1}, "seed": {"values": [0, 1]}}
    line = command(away, "--workers=2", program="ending.py", method="grid", parameters=parameters)
    done = subprocess.run(line, cwd=away, env=environment(away), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("a worker exited with code 3; another takes its place") == 4
    assert "s: 1 complete, 1 failed" in done.stdout
    assert ": its worker died 4 times, last on " in done.stdout
