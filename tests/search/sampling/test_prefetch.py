"""`controller.search.ahead`: the next trial is asked for while one trains, and whatever ends the sweep leaves none behind."""

from __future__ import annotations

import concurrent.futures
import inspect
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.search.engine import in_process, worker
from paretune.search.engine.worker import Engine, run
from paretune.search.sampling import prefetch
from paretune.search.spec.sweep import Sweep, read_sweep
from tests.samples import small_data
from tests.search.engine.test_worker import SOFTMAX
from tests.search.killing import Killed, killed_at

AHEAD: dict[str, Any] = {
    **SOFTMAX,
    "controller": {"type": "local", "search": {"ahead": True, "sampler": {"name": "tpe", "n_startup_trials": 2}}},
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data())


def sweep_of(folder: Path, **changes: Any) -> Sweep:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**AHEAD, **changes}))
    return read_sweep(path)


def searched(sweep: Sweep, trials: int, name: str = "s") -> list[FrozenTrial]:
    study = run(sweep, trials=trials, name=name, mode="disabled", device="cpu", runs=sweep.path.parent / "runs")
    return study.get_trials()


def left_by(sweep: Sweep) -> list[FrozenTrial]:
    return optuna.load_study(study_name="s", storage=f"sqlite:///{sweep.path.parent}/runs/s/study.db").get_trials()


def states(trials: list[FrozenTrial]) -> list[TrialState]:
    return [trial.state for trial in trials]


def parameters(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    return [trial.params for trial in trials if trial.state == TrialState.COMPLETE]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[TrialState]]:
    """Note which states the trials had when each one was suggested."""
    found: dict[int, list[TrialState]] = {}
    original = Engine._ask

    def noted(self: Engine, trials: list[FrozenTrial]) -> optuna.Trial:
        before = states(trials)
        trial = original(self, trials)
        found[trial.number] = before[: trial.number]  # without itself, which waits where it was given
        return trial

    monkeypatch.setattr(Engine, "_ask", noted)
    return found


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let a suggestion take so many seconds."""
    original = worker.draw

    def set_to(seconds: float) -> None:
        def sleeping(*arguments: Any) -> dict[str, Any]:
            time.sleep(seconds)
            return original(*arguments)

        monkeypatch.setattr(worker, "draw", sleeping)

    return set_to


def test_each_trial_is_suggested_while_the_one_before_it_trains(tmp_path: Path, known: dict[int, list[TrialState]]) -> None:
    trials = searched(sweep_of(tmp_path), 7)
    assert states(trials) == [TrialState.COMPLETE] * 7
    one_by_one = {number: [TrialState.COMPLETE] * number for number in (0, 1)}  # until one is complete
    assert known == one_by_one | {n: [TrialState.COMPLETE] * (n - 1) + [TrialState.RUNNING] for n in range(2, 7)}
    for before, after in itertools.pairwise(trials[1:]):
        assert after.datetime_start < before.datetime_complete


def test_a_seed_suggests_the_same_however_long_suggestions_take(tmp_path: Path, slow: Callable[[float], None]) -> None:
    sweep = sweep_of(tmp_path)
    wanted = parameters(searched(sweep, 7))
    slow(0.1)
    assert parameters(searched(sweep, 7, "slow")) == wanted


@pytest.mark.parametrize("changes", [{"method": "random"}, {"controller": {"type": "local"}}], ids=str)
def test_without_need_each_waits_for_the_one_before_it(
    changes: dict[str, Any], tmp_path: Path, known: dict[int, list[TrialState]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paretune.search.engine.trial_groups.most_at_once", lambda *_: 1)
    searched(sweep_of(tmp_path, **changes), 4)
    assert known == {number: [TrialState.COMPLETE] * number for number in range(4)}


def test_an_interrupt_gives_both_trials_back_and_the_search_goes_on_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: Callable[[float], None]
) -> None:
    sweep = sweep_of(tmp_path)
    wanted = parameters(searched(sweep, 6, "whole"))
    slow(0.2)
    undo = killed_at(monkeypatch, "_observe", 5, by=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        searched(sweep, 6)
    assert sorted(states(left_by(sweep))) == sorted([TrialState.COMPLETE] * 2 + [TrialState.FAIL] * 2 + [TrialState.WAITING] * 2)
    undo()
    trials = searched(sweep, 6)
    assert parameters(trials) == wanted
    assert not any(trial.user_attrs.get(study_schema.ATTEMPT) for trial in trials), "an interrupt is no death"


def test_when_the_running_trial_ends_after_an_interrupt_the_next_one_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, original = sweep_of(tmp_path), Engine._observe

    def asking(self: Engine, trial: optuna.Trial, *arguments: Any) -> int | None:
        if trial.number == 2:
            self.interruption._asked.set()
        return original(self, trial, *arguments)

    monkeypatch.setattr(Engine, "_observe", asking)
    trials = searched(sweep, 6)
    assert states(trials[:3]) == [TrialState.COMPLETE] * 3
    assert states(trials[3:]) in ([], [TrialState.FAIL, TrialState.WAITING])  # without, where the interrupt came before the claim
    monkeypatch.setattr(Engine, "_observe", original)
    assert len(parameters(searched(sweep, 6))) == 6


def test_a_killed_workers_next_trial_is_tried_again_and_no_death_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(tmp_path)
    undo = killed_at(monkeypatch, "_observe", 5)
    with monkeypatch.context() as patch:
        patch.setattr(prefetch.Ahead, "close", lambda self: self._pool.shutdown())
        with pytest.raises(Killed):
            searched(sweep, 6)
    undo()
    running = [trial for trial in left_by(sweep) if trial.state == TrialState.RUNNING]
    assert len(running) == 2
    trials = searched(sweep, 6)
    assert len(parameters(trials)) == 6
    attempts = {
        trial.user_attrs[study_schema.RETRY_OF]: trial.user_attrs[study_schema.ATTEMPT]
        for trial in trials[len(running) :]
        if trial.user_attrs.get(study_schema.RETRY_OF)
    }
    assert attempts[running[1].number] == 0
    assert not [trial for trial in trials if trial.state in (TrialState.RUNNING, TrialState.WAITING)]


def test_an_interrupt_while_the_trials_are_read_gives_the_trial_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, original, waits = sweep_of(tmp_path), threading.Event.wait, 0

    def waiting(self: threading.Event, timeout: float | None = None) -> bool:
        nonlocal waits
        result = original(self, timeout)
        if inspect.stack()[1].function == "drawing":
            waits += 1
            if waits == 3:
                raise KeyboardInterrupt
        return result

    monkeypatch.setattr(threading.Event, "wait", waiting)
    with pytest.raises(KeyboardInterrupt):
        searched(sweep, 6)
    monkeypatch.setattr(threading.Event, "wait", original)
    left = left_by(sweep)
    assert not [trial for trial in left if trial.state == TrialState.RUNNING]
    trials = searched(sweep, 6)
    assert len(parameters(trials)) == 6
    assert not any(trial.user_attrs.get(study_schema.ATTEMPT) for trial in trials), "an interrupt is no death"


def test_an_interrupt_while_a_suggestion_is_waited_for_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: Callable[[float], None]
) -> None:
    sweep, calls = sweep_of(tmp_path), 0

    def interrupted(futures: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return concurrent.futures.wait(futures)

    slow(0.1)
    monkeypatch.setattr(prefetch, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        searched(sweep, 6)
    assert not [trial for trial in left_by(sweep) if trial.state == TrialState.RUNNING]
    assert len(parameters(searched(sweep, 6))) == 6


def test_the_last_trials_are_left_to_workers_that_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[int, list[TrialState]]
) -> None:
    monkeypatch.setattr(prefetch, "n_workers", lambda *_: 3)
    searched(sweep_of(tmp_path), 7)
    asked_ahead = [number for number, seen in known.items() if TrialState.RUNNING in seen]
    assert asked_ahead == [2, 3, 4], "while there are as many left as workers"


def test_where_all_fail_the_sweep_gives_up_and_leaves_none_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(tmp_path)

    def failing(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "_observe", failing)
    with pytest.raises(UsageError, match="the first 3 trials failed"):
        searched(sweep, 6)
    assert states(left_by(sweep)) == [TrialState.FAIL] * 3


def test_an_error_of_the_storage_in_the_thread_is_the_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, original = sweep_of(tmp_path), Engine._ask

    def away(self: Engine, trials: list[FrozenTrial]) -> optuna.Trial:
        if len(trials) == 3:
            raise OSError("the disk is gone")
        return original(self, trials)

    monkeypatch.setattr(Engine, "_ask", away)
    with pytest.raises(OSError, match="the disk is gone"):
        searched(sweep, 6)
    assert states(left_by(sweep)) == [TrialState.COMPLETE] * 3, "the trial that trained meanwhile is kept"
