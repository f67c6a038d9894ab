"""Signs of life: a held lock is alive, a freed one dead, and another machine is judged by its standing beat alone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.search.engine.liveness import LATELY, Claims, Lease, Watch, left_behind, n_workers, shared_cache
from tests.samples import ROOT


def trial_of(worker: dict[str, str] | None, *, beat: int | None = None) -> Any:
    study = optuna.create_study()
    trial = study.ask()
    if worker is not None:
        trial.set_user_attr(study_schema.WORKER, worker)
    if beat is not None:
        trial.set_user_attr(study_schema.BEAT, beat)
    return study.get_trials()[0]


ELSEWHERE = {"host": "elsewhere", "lock": "/no/such/folder/1-abc.lock"}


def test_a_worker_that_holds_its_lock_lives(tmp_path: Path) -> None:
    with Lease(tmp_path) as lease:
        assert not Watch(seconds=0, local=True).dead(trial_of(lease.sign()))
        assert left_behind(tmp_path) == []


def test_a_worker_that_ended_by_an_error_is_dead_at_once(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lease(tmp_path) as lease:
        raise ZeroDivisionError
    assert Watch(seconds=1e9, local=True).dead(trial_of(lease.sign()))
    assert left_behind(tmp_path) == [lease.path]


def test_a_worker_whose_studys_folder_was_moved_is_dead_at_once(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lease(tmp_path / "before") as lease:
        raise ZeroDivisionError
    (tmp_path / "before").rename(tmp_path / "after")
    trial = trial_of(lease.sign())
    assert Watch(seconds=1e9, local=True, folder=tmp_path / "after").dead(trial)
    assert not Watch(seconds=1e9, local=False).dead(trial)


def test_a_worker_that_was_killed_is_dead_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from paretune.search.engine.liveness import Lease\n"
        "with Lease(pathlib.Path(sys.argv[1])) as lease: print(lease.path, flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        trial = trial_of({"host": "here", "lock": process.stdout.readline().strip()})
        watch = Watch(seconds=1e9, local=True)
        assert not watch.dead(trial)
        process.kill()
        process.wait()
        assert watch.dead(trial)


def test_a_clean_end_leaves_no_file(tmp_path: Path) -> None:
    with Lease(tmp_path) as lease:
        pass
    assert not lease.path.exists()


def test_on_one_machine_a_trial_that_nobody_signed_is_lost() -> None:
    assert Watch(seconds=1e9, local=True).dead(trial_of(None))


def test_on_many_machines_a_trial_that_nobody_signed_may_be_signed_yet() -> None:
    watch = Watch(seconds=0.05, local=False)
    trial = trial_of(None)
    assert not watch.dead(trial)
    time.sleep(0.1)
    assert watch.dead(trial)


def test_another_machine_is_dead_when_its_beat_has_stood_still_for_a_lease() -> None:
    watch = Watch(seconds=0.2, local=False)
    assert not watch.dead(trial_of(ELSEWHERE, beat=1))
    time.sleep(0.1)
    assert not watch.dead(trial_of(ELSEWHERE, beat=1))
    time.sleep(0.15)
    assert not watch.dead(trial_of(ELSEWHERE, beat=2))  # it moved: the wait begins anew
    time.sleep(0.25)
    assert watch.dead(trial_of(ELSEWHERE, beat=2))


def test_a_trial_beats_four_times_a_lease(tmp_path: Path) -> None:
    study = optuna.create_study()
    trial = study.ask()
    with Lease(tmp_path, seconds=0.2) as lease, lease.beating(study, trial._trial_id):
        time.sleep(0.5)
    beats = study.get_trials()[0].user_attrs[study_schema.BEAT]
    assert beats >= 4
    time.sleep(0.15)
    assert study.get_trials()[0].user_attrs[study_schema.BEAT] == beats


def test_claims_are_held_by_one_at_a_time(tmp_path: Path) -> None:
    code = "import sys, pathlib; from paretune.search.engine.liveness import Claims\n"
    code += "with Claims(pathlib.Path(sys.argv[1])): print('held', flush=True)"
    with Claims(tmp_path):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=2)
    assert process.communicate(timeout=60)[0] == "held\n"


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("a file")
    with pytest.raises(UsageError, match="cannot be written"), Lease(tmp_path):
        pass


def test_workers_are_counted_here_by_their_locks_and_elsewhere_by_what_they_train_or_trained_lately(tmp_path: Path) -> None:
    study = optuna.create_study()

    def add(worker: dict[str, str], *, ended: bool) -> None:
        trial = study.ask()
        trial.set_user_attr(study_schema.WORKER, worker)
        if ended:
            study.tell(trial, 0.5)

    with Lease(tmp_path / "here") as own, Lease(tmp_path / "another folder") as other:
        assert n_workers(tmp_path / "here", []) == 1
        with Lease(tmp_path / "another folder") as left:
            add(left.sign(), ended=True)
        for lease in (own, other):
            add(lease.sign(), ended=False)
            add(lease.sign(), ended=True)
        assert n_workers(tmp_path / "here", study.get_trials()) == 2, "who has ended here counts no more"
        add(ELSEWHERE, ended=False)
        add(ELSEWHERE, ended=True)
        add(ELSEWHERE | {"lock": "/no/such/folder/2-abc.lock"}, ended=True)
        assert n_workers(tmp_path / "here", study.get_trials()) == 4
        for _ in range(LATELY):
            add(own.sign(), ended=True)
        assert n_workers(tmp_path / "here", study.get_trials()) == 3, "one still trains, the other has trained none for long"


def test_what_workers_share_goes_with_the_last_of_them(tmp_path: Path) -> None:
    with shared_cache(tmp_path) as cache:
        cache.mkdir()
        with Lease(tmp_path), shared_cache(tmp_path):  # another command's worker
            assert cache.exists()
        assert cache.exists(), "the other command ended while a worker lived"
    assert not cache.exists()


def test_what_killed_workers_shared_goes_as_the_next_command_starts(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "1-abc.lock").touch()
    with shared_cache(tmp_path) as cache:
        assert not cache.exists()


def test_a_beat_of_elsewhere_may_stand_for_a_lease_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("paretune.search.engine.liveness.time.monotonic", lambda: now[0])
    watch, trial = Watch(seconds=8.0, local=False), trial_of(ELSEWHERE, beat=1)
    found = []
    for moment in (100.0, 108.0, 108.5):
        now[0] = moment
        found.append(watch.dead(trial))
    assert found == [False, False, True]
    assert not watch.dead(trial_of(ELSEWHERE, beat=2))
