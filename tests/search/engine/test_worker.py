"""A sweep in process: counted right, seeded, pruned, resumed after any end, no trial trained or told twice."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError
from paretune.data.dataset import Data
from paretune.data.options import DataOptions
from paretune.runs import study_schema
from paretune.search.engine import in_process
from paretune.search.engine.signals import Interruption
from paretune.search.engine.study import finished, open_study
from paretune.search.engine.worker import MOST_ATTEMPTS, Engine, run, run_id_of
from paretune.search.spec.sweep import Sweep, read_sweep
from tests.samples import ROOT, environment, small_data, start
from tests.search.killing import Killed, killed_at

SOFTMAX: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "bayes",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {
        "epochs": {"value": 2},
        "learning_rate": {"distribution": "log_uniform_values", "min": 0.0001, "max": 0.5},
        "batch_size": {"values": [16, 32, 64]},
    },
}
GRID: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "grid",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {
        "epochs": {"value": 3},
        "optimizer": {"value": "sgd"},
        "learning_rate": {"values": [0.5, 0.4, 1e-9, 0.3, 1e-10]},
    },
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data())


def sweep_of(folder: Path, definition: dict[str, Any] = SOFTMAX, **changes: Any) -> Sweep:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**definition, **changes}))
    return read_sweep(path)


def searched(sweep: Sweep, trials: int, *, name: str = "s", seed: int = 0, storage: str | None = None) -> list[FrozenTrial]:
    runs = sweep.path.parent / "runs"
    study = run(sweep, trials=trials, name=name, seed=seed, storage=storage, mode="disabled", device="cpu", runs=runs)
    return study.get_trials()


def told_of(trials: list[FrozenTrial]) -> list[tuple[dict[str, Any], Any]]:
    return [(trial.params, trial.values) for trial in trials if trial.state == TrialState.COMPLETE]


def test_a_sweep_runs_as_many_trials_as_asked(tmp_path: Path) -> None:
    trials = searched(sweep_of(tmp_path), 4)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4


def test_run_again_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    first = searched(sweep, 2)
    second = searched(sweep, 5)
    assert len(second) == 5
    assert told_of(second)[:2] == told_of(first)
    assert len(searched(sweep, 5)) == 5
    assert len(searched(sweep, 3)) == 5


@pytest.mark.parametrize("method", ["bayes", "random"])
def test_the_default_configuration_is_the_first_trial(tmp_path: Path, method: str) -> None:
    sweep = sweep_of(tmp_path, method=method)
    trials = searched(sweep, 3)
    default = sweep.classifier.Config()
    assert trials[0].params == {"learning_rate": default.learning_rate, "batch_size": default.batch_size}
    assert [bool(trial.user_attrs.get(study_schema.BASELINE)) for trial in trials] == [True, False, False]


def test_a_default_outside_the_space_is_not_tried(tmp_path: Path) -> None:
    parameters = {"epochs": {"value": 1}, "batch_size": {"values": [8, 16]}}
    trials = searched(sweep_of(tmp_path, parameters=parameters), 2)
    assert not any(trial.user_attrs.get(study_schema.BASELINE) for trial in trials)


@pytest.mark.parametrize("method", ["bayes", "random"])
def test_the_same_seed_suggests_the_same_also_after_stops(tmp_path: Path, method: str) -> None:
    sweep = sweep_of(tmp_path, method=method)
    at_once = searched(sweep, 13, name="at_once")
    for trials in (1, 4, 11, 13):
        in_parts = searched(sweep, trials, name="in_parts")
    assert told_of(in_parts) == told_of(at_once)
    other = searched(sweep, 3, name="other", seed=1)
    assert told_of(other)[1:] != told_of(at_once)[1:3]


def test_the_study_keeps_every_epoch_and_where_the_run_is(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    runs = tmp_path / "runs"
    study = run(sweep, trials=2, name="s", mode="disabled", device="cpu", runs=runs)
    for trial in study.get_trials():
        rows = study_schema.epochs_of(trial.user_attrs)
        assert [row["epoch"] for row in rows] == [1, 2]
        assert [row[study_schema.LAST] for row in rows] == [False, True]
        assert trial.value == max(row["f1"] for row in rows)
        assert trial.intermediate_values == {row["epoch"]: row["f1"] for row in rows}
        assert trial.user_attrs[study_schema.RUN]["id"] == run_id_of(study.user_attrs[study_schema.STUDY_ID], trial.number, 0)
        config = trial.user_attrs[study_schema.RUN]["config"]
        assert config["learning_rate"] == trial.params["learning_rate"]
        assert (config["evaluation_split"], config["best_metric"], config["classifier"]) == ("holdout", "f1", "softmax")


def test_a_run_id_is_a_function_of_study_trial_and_attempt() -> None:
    ids = {run_id_of(study, trial, attempt) for study in "ab" for trial in range(3) for attempt in range(2)}
    assert len(ids) == 12
    assert run_id_of("a", 1, 0) == run_id_of("a", 1, 0)


def test_the_best_of_a_minimized_metric_is_the_lowest(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, metric={"name": "test_loss", "goal": "minimize"})
    for trial in searched(sweep, 3):
        assert trial.value == min(row["test_loss"] for row in study_schema.epochs_of(trial.user_attrs))


# A grid


def test_a_grid_tries_every_combination_once(tmp_path: Path) -> None:
    parameters = {"epochs": {"value": 1}, "batch_size": {"values": [16, 32]}, "normalize": {"values": ["none", "half"]}}
    sweep = sweep_of(tmp_path, GRID, parameters=parameters)
    wanted = [{"batch_size": size, "normalize": how} for size in (16, 32) for how in ("none", "half")]
    assert [trial.params for trial in searched(sweep, 3)[:3]] == wanted[:3]
    assert [trial.params for trial in searched(sweep, 99)] == wanted
    assert [trial.params for trial in searched(sweep, 99)] == wanted


def test_a_grid_killed_in_the_middle_still_tries_every_combination_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {"epochs": {"value": 2}, "batch_size": {"values": [16, 32, 64]}}
    sweep = sweep_of(tmp_path, GRID, parameters=parameters)
    restore = killed_at(monkeypatch, "_observe", 4)
    with pytest.raises(Killed):
        searched(sweep, 3)
    restore()
    trials = finished(searched(sweep, 3))
    assert sorted(trial.params["batch_size"] for trial in trials) == [16, 32, 64]


# Early termination


def test_a_poor_run_ends_early_and_counts(tmp_path: Path) -> None:
    rule = {"type": "hyperband", "min_iter": 1, "eta": 2}
    trials = searched(sweep_of(tmp_path, GRID, early_terminate=rule), 5)
    complete, pruned = TrialState.COMPLETE, TrialState.PRUNED
    assert [trial.state for trial in trials] == [complete, complete, pruned, complete, pruned]
    for trial in trials:
        rows = study_schema.epochs_of(trial.user_attrs)
        assert len(rows) == (1 if trial.state == pruned else 3)
        assert trial.user_attrs.get(study_schema.PRUNED) == (1 if trial.state == pruned else None)


def test_pruning_remembers_the_runs_before_a_stop(tmp_path: Path) -> None:
    rule = {"type": "hyperband", "min_iter": 1, "eta": 2}
    sweep = sweep_of(tmp_path, GRID, early_terminate=rule)
    searched(sweep, 2)
    assert searched(sweep, 3)[2].state == TrialState.PRUNED


# What cannot train


def test_a_diverging_configuration_fails_with_its_cause_and_counts(tmp_path: Path) -> None:
    parameters = {**GRID["parameters"], "learning_rate": {"values": [0.1, 1e38, 0.2]}}
    sweep = sweep_of(tmp_path, GRID, metric={"name": "test_loss", "goal": "minimize"}, parameters=parameters)
    trials = searched(sweep, 3)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert trials[1].user_attrs[study_schema.CAUSE] == "test_loss was never a finite number"
    assert len(finished(trials)) == 3


def test_a_configuration_that_cannot_be_built_fails_with_its_sentence(tmp_path: Path) -> None:
    parameters = {"epochs": {"value": 1}, "n_conv": {"values": [0, 1, 5]}, "channels": {"value": 2}}
    trials = searched(sweep_of(tmp_path, GRID, program="trainers/ann.py", parameters=parameters), 3)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
    assert "conv block 3" in trials[2].user_attrs[study_schema.CAUSE]
    assert "does not fit" in trials[2].user_attrs[study_schema.CAUSE]


def test_an_unforeseen_error_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paretune.trainers.softmax import Softmax

    original, rates = Softmax.network, list[float]()

    def breaking(self: Softmax) -> Any:
        rates.append(self.config.learning_rate)
        if list(dict.fromkeys(rates))[1:2] == rates[-1:]:  # the second trial's, however often it is looked at
            raise ZeroDivisionError("of the network")
        return original(self)

    monkeypatch.setattr(Softmax, "network", breaking)
    trials = searched(sweep_of(tmp_path), 3)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert trials[1].user_attrs[study_schema.CAUSE] == "ZeroDivisionError: of the network"
    assert "breaking" in trials[1].user_attrs["traceback"]


def test_a_sweep_whose_first_trials_all_fail_gives_up_and_says_why(tmp_path: Path) -> None:
    parameters = {"epochs": {"value": 1}, "class_weight": {"value": {"zebra": 2.0}}, "learning_rate": {"min": 0.1, "max": 0.2}}
    with pytest.raises(UsageError, match="the first 3 trials failed; the last one: class_weight names 'zebra'"):
        searched(sweep_of(tmp_path, parameters=parameters), 9)
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/runs/s/study.db")
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL] * 3, "none is left running or waiting"
    with pytest.raises(UsageError, match="the first 4 trials failed"):
        searched(sweep_of(tmp_path, parameters=parameters), 9)


# After a kill


@pytest.mark.parametrize("observed", [1, 3, 4, 6])
def test_killed_while_training_it_completes_the_count_and_repeats_nothing_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, observed: int
) -> None:
    sweep = sweep_of(tmp_path)
    wanted = told_of(searched(sweep, 4, name="whole"))
    restore = killed_at(monkeypatch, "_observe", observed)
    with pytest.raises(Killed):
        searched(sweep, 4)
    restore()
    trials = searched(sweep, 4)
    assert len(finished(trials)) == 4
    assert [trial.state for trial in trials].count(TrialState.FAIL) == 1
    interrupted = next(trial for trial in trials if trial.state == TrialState.FAIL)
    retry = next(trial for trial in trials if study_schema.RETRY_OF in trial.user_attrs)
    assert interrupted.user_attrs[study_schema.CAUSE] == study_schema.INTERRUPTED
    assert retry.user_attrs[study_schema.RETRY_OF] == interrupted.number
    assert retry.params == interrupted.params
    ids = [trial.user_attrs[study_schema.RUN]["id"] for trial in trials]
    assert len(set(ids)) == len(ids)
    assert told_of(trials) == wanted


def test_killed_twice_in_the_same_trial_it_is_tried_a_third_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(tmp_path)
    for _ in range(2):
        restore = killed_at(monkeypatch, "_observe", 1)
        with pytest.raises(Killed):
            searched(sweep, 2)
        restore()
    trials = searched(sweep, 2)
    assert len(finished(trials)) == 2
    assert [trial.user_attrs.get(study_schema.ATTEMPT, 0) for trial in trials[:3]] == [0, 1, 2]
    assert trials[2].user_attrs[study_schema.BASELINE]
    assert len({trial.user_attrs[study_schema.RUN]["id"] for trial in trials}) == len(trials)


@pytest.mark.parametrize("call", [1, 2])
def test_killed_before_its_report_a_finished_run_is_told_and_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    sweep = sweep_of(tmp_path)
    wanted = told_of(searched(sweep, 3, name="whole"))
    restore = killed_at(monkeypatch, "tell", call)
    with pytest.raises(Killed):
        searched(sweep, 3)
    restore()
    trained: list[int] = []
    original = Engine._train
    monkeypatch.setattr(
        Engine, "_train", lambda self, trial, values: (trained.append(trial.number), original(self, trial, values))[1]
    )
    trials = searched(sweep, 3)
    assert told_of(trials) == wanted
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert trained == list(range(call, 3))


def test_a_trial_whose_workers_die_again_and_again_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(tmp_path)
    for _ in range(MOST_ATTEMPTS):
        restore = killed_at(monkeypatch, "_observe", 1)
        with pytest.raises(Killed):
            searched(sweep, 2)
        restore()
    trials = searched(sweep, 2)
    assert [trial.user_attrs.get(study_schema.CAUSE) for trial in trials[:MOST_ATTEMPTS]][:-1] == [study_schema.INTERRUPTED] * (
        MOST_ATTEMPTS - 1
    )
    assert "its worker died 4 times" in trials[MOST_ATTEMPTS - 1].user_attrs[study_schema.CAUSE]
    assert len(trials) == MOST_ATTEMPTS + 1
    assert len(finished(trials)) == 2


def test_killed_before_its_report_a_pruned_run_is_told_as_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(tmp_path, GRID, early_terminate={"type": "hyperband", "min_iter": 1, "eta": 2})
    restore = killed_at(monkeypatch, "tell", 3)
    with pytest.raises(Killed):
        searched(sweep, 5)
    restore()
    trials = searched(sweep, 5)
    assert len(trials) == 5
    assert trials[2].state == TrialState.PRUNED


def test_killed_right_after_a_draw_the_drawn_configuration_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(tmp_path)
    wanted = told_of(searched(sweep, 3, name="whole"))
    restore = killed_at(monkeypatch, "claim", 2, after=True)
    with pytest.raises(Killed):
        searched(sweep, 3)
    restore()
    assert told_of(searched(sweep, 3)) == wanted


def test_killed_while_it_recovers_nothing_is_enqueued_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(tmp_path)
    restore = killed_at(monkeypatch, "_observe", 3)
    with pytest.raises(Killed):
        searched(sweep, 3)
    restore()
    restore = killed_at(monkeypatch, "_retry", 1)  # between the end of the old one and the new place in the queue
    with pytest.raises(Killed):
        searched(sweep, 3)
    restore()
    trials = searched(sweep, 3)
    assert len(finished(trials)) == 3
    assert sum(study_schema.RETRY_OF in trial.user_attrs for trial in trials) == 1
    assert len(trials) == 4


def test_an_interrupt_keeps_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(tmp_path)
    killed_at(monkeypatch, "_observe", 3, by=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        searched(sweep, 3)
    assert len(finished(searched(sweep, 3))) == 3


# What is refused


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"metric": {"name": "test_loss", "goal": "maximize"}}, "was started with another definition"),
        (
            {"parameters": {**SOFTMAX["parameters"], "batch_size": {"values": [16, 32]}}},
            r"was started with another definition \(values was",
        ),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3}}, r"another definition \(early_terminate was 'not set'"),
        ({"method": "random"}, r"another definition \(method was 'bayes', is 'random'\)"),
    ],
)
def test_a_changed_file_is_refused_and_the_difference_named(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    searched(sweep_of(tmp_path), 1)
    with pytest.raises(UsageError, match=sentence):
        searched(sweep_of(tmp_path, **changes), 2)


def test_a_changed_description_is_no_change(tmp_path: Path) -> None:
    searched(sweep_of(tmp_path), 1)
    assert len(searched(sweep_of(tmp_path, description="in other words", run_cap=7), 2)) == 2


def test_a_study_that_is_older_than_a_data_option_goes_on(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    searched(sweep, 1)
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/runs/s/study.db")
    values = study.user_attrs[study_schema.VALUES]
    study.set_user_attr(study_schema.VALUES, {name: value for name, value in values.items() if name != "fold"})
    assert len(searched(sweep_of(tmp_path), 2)) == 2


def test_another_direction_is_refused_in_words(tmp_path: Path) -> None:
    searched(sweep_of(tmp_path), 1)
    with pytest.raises(UsageError, match="was started with another"):
        searched(sweep_of(tmp_path, metric={"name": "f1", "goal": "minimize"}), 2)


def test_another_seed_is_refused(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    searched(sweep, 1)
    with pytest.raises(UsageError, match=r"was started with another seed \(0, now 1\)"):
        searched(sweep, 2, seed=1)


def test_other_fixed_values_are_refused(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    searched(sweep, 1)
    with pytest.raises(UsageError, match=r"other values \(epochs was 2, is 3\)"):
        searched(read_sweep(sweep.path, {"epochs": 3}), 2)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UsageError, match="cannot be written"):
        searched(sweep, 1)


# The parts


def test_data_are_kept_between_trials_of_the_same_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[DataOptions] = []
    monkeypatch.setattr(in_process, "load_data", lambda options, **_: (loads.append(options), small_data())[1])
    searched(sweep_of(tmp_path), 3)
    assert len(loads) == 1


# -- what the study keeps of the epochs that have become known


class Pruner(optuna.pruners.BasePruner):
    """Stops a trial at the epoch that is reported last."""

    def __init__(self, at: int) -> None:
        self.at = at

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.last_step == self.at


def observed(
    *values: Any, goals: tuple[str, ...] = ("f1",), pruner: optuna.pruners.BasePruner | None = None, ended: bool = False
) -> tuple[FrozenTrial, int | None]:
    """Let a trial have epochs of these values, all known at once; return it and the epoch at which it is to stop."""
    directions = ["maximize"] * len(goals)
    study = optuna.create_study(directions=directions, pruner=pruner or optuna.pruners.NopPruner())
    trial = study.ask()
    rows = [value if isinstance(value, dict) else {"f1": value} for value in values]
    epochs = [Epoch(number, row, last=number == len(rows)) for number, row in enumerate(rows, start=1)]
    sweep = SimpleNamespace(goals=dict.fromkeys(goals, "maximize"), early_terminate=None)
    engine: Any = SimpleNamespace(
        interruption=Interruption(), histories={0: []}, study=study, sweep=sweep, progress=None, _stops=lambda history: False
    )
    stop = Engine._observe(engine, trial, {}, in_process.Batch(epochs, ended))
    return study.get_trials()[0], stop


def test_every_metric_of_an_epoch_is_kept_but_a_programs_own_count() -> None:
    trial, _ = observed({"accuracy": 0.5, "epoch": 17.0, "f1": 0.25, "Zeta": 1.0}, {"f1": 0.5})
    assert study_schema.epochs_of(trial.user_attrs) == [
        {"epoch": 1, "accuracy": 0.5, "f1": 0.25, "Zeta": 1.0, study_schema.LAST: False},
        {"epoch": 2, "f1": 0.5, study_schema.LAST: True},
    ]


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_many_epochs_are_kept_in_few_writes_and_none_is_lost(count: int) -> None:
    trial, _ = observed(*[number / 1000 for number in range(1, count + 1)])
    assert [(row["epoch"], row["f1"]) for row in study_schema.epochs_of(trial.user_attrs)] == [
        (number, number / 1000) for number in range(1, count + 1)
    ]
    assert len(trial.user_attrs) == -(-count // 100)


@pytest.mark.parametrize(
    ("count", "steps"), [(2, [1, 2]), (20, list(range(1, 21))), (21, list(range(1, 22, 2))), (45, list(range(3, 46, 3)))]
)
def test_of_many_epochs_twenty_at_most_go_into_optunas_curve_the_last_among_them(count: int, steps: list[int]) -> None:
    trial, _ = observed(*[float(number) for number in range(1, count + 1)])
    assert trial.intermediate_values == {step: float(step) for step in steps}


def test_the_curve_holds_finite_values_of_one_objective_and_more_than_one_epoch() -> None:
    nan, inf = float("nan"), float("inf")
    assert observed(0.5, nan, inf, 0.25)[0].intermediate_values == {1: 0.5, 4: 0.25}
    assert observed(0.5)[0].intermediate_values == {}, "a single epoch needs no curve beside its value"
    assert observed({"f1": 0.5, "loss": 1.0}, {"f1": 0.5, "loss": 1.0}, goals=("f1", "loss"))[0].intermediate_values == {}


def test_a_pruner_of_the_persons_own_stops_a_trial_where_it_says_so() -> None:
    trial, stop = observed(0.1, 0.2, 0.3, 0.4, pruner=Pruner(at=3))
    assert (stop, trial.user_attrs[study_schema.PRUNED]) == (3, 3)
    assert [row["epoch"] for row in study_schema.epochs_of(trial.user_attrs)] == [1, 2, 3]
    assert list(trial.intermediate_values) == [1, 2, 3]
    assert observed(0.1, 0.2, pruner=Pruner(at=3))[1] is None
    assert observed(0.1, 0.2, float("nan"), pruner=Pruner(at=3))[1] is None, "an epoch without a value is not judged"
    assert observed(0.1, 0.2, 0.3, pruner=Pruner(at=3), ended=True)[1] is None, "there is nothing left to stop"


def test_a_storage_of_ones_own_holds_the_study(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/mine.db"
    searched(sweep_of(tmp_path), 2, storage=storage)
    study = optuna.load_study(study_name="s", storage=storage)
    assert len(study.trials) == 2
    assert study.user_attrs[study_schema.CLASSIFIER] == "softmax"
    assert study.user_attrs[study_schema.GOALS] == {"f1": "maximize"}


def test_opening_a_study_twice_enqueues_its_first_trial_once(tmp_path: Path) -> None:
    sweep, storage = sweep_of(tmp_path), f"sqlite:///{tmp_path}/s.db"
    for _ in range(2):
        study = open_study(sweep, storage, "s", seed=0)
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]


# As a person starts it: its own process, W&B's offline files


def command(folder: Path, trials: int, *more: str) -> list[str]:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(SOFTMAX))
    flags = ["--trials", str(trials), "--name", "s", "--runs", str(folder / "runs"), "--device=cpu"]
    return [sys.executable, str(ROOT / "sweeps" / "offline.py"), str(path), *flags, *more]


def study_in(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/runs/s/study.db")


def wait_for_an_epoch_of_the_third_trial(database: Path) -> None:
    query = "SELECT 1 FROM trial_user_attributes a JOIN trials t USING (trial_id) WHERE t.number = 2 AND a.key = 'epoch:2'"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.closing(sqlite3.connect(database)) as connection, contextlib.suppress(sqlite3.OperationalError):
            if connection.execute(query).fetchone():
                return
        time.sleep(0.005)
    pytest.fail("the third trial did not start")


def test_killed_by_the_system_the_same_command_goes_on(tmp_path: Path) -> None:
    n_trials = 5
    line = command(tmp_path, n_trials, "--epochs=60")
    with subprocess.Popen(line, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for text in process.stderr:
            if "trial 2/5" in text:
                break
        wait_for_an_epoch_of_the_third_trial(tmp_path / "runs" / "s" / "study.db")
        process.send_signal(signal.SIGKILL)
    assert any(trial.state == TrialState.RUNNING for trial in study_in(tmp_path).get_trials())
    before = [(t.number, t.values, t.params) for t in study_in(tmp_path).get_trials() if t.state == TrialState.COMPLETE]
    assert len(before) >= 2
    result = start(*line, cwd=tmp_path, closed=True)
    assert result.returncode == 0, result.stderr
    trials = study_in(tmp_path).get_trials()
    assert len(finished(trials)) == n_trials
    assert [(t.number, t.values, t.params) for t in trials if t.state == TrialState.COMPLETE][: len(before)] == before
    ids = [trial.user_attrs[study_schema.RUN]["id"] for trial in trials if study_schema.RUN in trial.user_attrs]
    assert len(set(ids)) == len(ids)
    folders = [path.name.rpartition("-")[2] for path in (tmp_path / "runs" / "s" / "wandb").glob("offline-run-*")]
    assert set(folders) == set(ids)
    killed = [trial.user_attrs[study_schema.RUN]["id"] for trial in trials if study_schema.CAUSE in trial.user_attrs]
    assert sorted(folders) == sorted([*ids, *killed]), "one more file says that the run was interrupted"
    assert f"{n_trials} complete" in result.stdout
    assert "0 (default)" in result.stdout


def test_killed_between_a_runs_end_and_its_report_the_run_is_told_and_its_files_stand_once(tmp_path: Path) -> None:
    line = command(tmp_path, 2)
    code = (
        "import os, sys; from paretune.search.engine.worker import Engine; import paretune.search.command_line as door\n"
        "Engine.tell = lambda *_, **__: os._exit(9)\n"
        "door.main(sys.argv[1:])"
    )
    died = start(sys.executable, "-c", code, *line[2:], cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert died.returncode == 9, died.stderr
    (running,) = [trial for trial in study_in(tmp_path).get_trials() if trial.state == TrialState.RUNNING]
    result = start(*line, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    trials = study_in(tmp_path).get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert trials[0].user_attrs == running.user_attrs
    assert len(list((tmp_path / "runs" / "s" / "wandb").glob("offline-run-*"))) == 2


def test_json_of_the_study_holds_plain_values(tmp_path: Path) -> None:
    for trial in searched(sweep_of(tmp_path), 1):
        json.dumps(trial.user_attrs, allow_nan=False)


def test_a_default_that_is_written_out_is_no_other_study(tmp_path: Path) -> None:
    path = sweep_of(tmp_path).path
    first = searched(read_sweep(path, {"data": "digits"}), 1)
    assert len(searched(read_sweep(path), 2)) == len(first) + 1


@pytest.mark.parametrize("name", ["../outside", "a/b", "..", ""])
def test_a_study_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one part of a path"):
        searched(sweep_of(tmp_path), 1, name=name)


def test_a_broken_study_file_is_one_sentence(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    folder = tmp_path / "runs" / "s"
    folder.mkdir(parents=True)
    (folder / "study.db").write_text("not a database")
    with pytest.raises(UsageError, match=r"study\.db cannot be read or written"):
        searched(sweep, 1)


def test_missing_data_leave_no_study_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(options: DataOptions, **named: Any) -> Data:
        raise UsageError("the data are not there")

    monkeypatch.setattr(in_process, "load_data", missing)
    with pytest.raises(UsageError, match="the data are not there"):
        searched(sweep_of(tmp_path), 1)
    assert not (tmp_path / "runs").exists()


def test_a_trial_that_failed_leaves_no_checkpoint_one_that_is_tried_again_does(tmp_path: Path) -> None:
    engine = engine_of(sweep_of(tmp_path), tmp_path)
    causes = ["it took too long", study_schema.INTERRUPTED, study_schema.SURPLUS]
    (tmp_path / "checkpoints").mkdir()
    for cause in causes:
        trial = engine.study.ask()
        engine.checkpoint_of(trial).touch()
        assert engine.fail(trial.number, cause) is not None
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["1.pt", "2.pt"]
    assert engine.fail(1, "of a worker that was taken for dead") is None
    assert engine.checkpoint_of(engine.study.get_trials()[1]).exists(), "another worker goes on from it"


def test_a_trial_beats_until_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(sweep_of(tmp_path), tmp_path, lease_seconds=0.2)
    row = {"epoch": 1, "f1": 0.5, study_schema.LAST: True}
    beats: list[int] = []

    def written(trial: optuna.Trial, **_: Any) -> None:
        beats.append(engine._frozen(trial.number).user_attrs.get(study_schema.BEAT, 0))
        time.sleep(0.5)
        beats.append(engine._frozen(trial.number).user_attrs.get(study_schema.BEAT, 0))

    def trained(trial: optuna.Trial, values: dict[str, Any]) -> Any:
        yield False
        return [row]

    monkeypatch.setattr(engine, "_train", trained)
    monkeypatch.setattr(engine, "_write_outcome", written)
    told = engine.run_trial(engine.study.ask(), {})
    assert told is not None
    assert told.values == [0.5]
    before, after = beats
    assert before < after, "the program's W&B client, or the server, may take longer than a lease"


def test_a_trial_that_is_interrupted_as_its_beat_begins_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(sweep_of(tmp_path), tmp_path)

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.lease, "beating", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.run_trial(engine.study.ask(), {})
    states = [(trial.state, trial.user_attrs.get(study_schema.CAUSE)) for trial in engine.study.trials]
    assert states[0] == (TrialState.FAIL, study_schema.INTERRUPTED)
    assert states[1][0] == TrialState.WAITING


def engine_of(sweep: Sweep, folder: Path, lease_seconds: float = 60.0) -> Engine:
    from paretune.search.engine.in_process import InProcess
    from paretune.search.engine.liveness import Lease, Watch
    from paretune.search.engine.stopping_rules import Plan

    study = open_study(sweep, f"sqlite:///{folder}/study.db", "s", seed=0)
    lease = Lease(folder, seconds=lease_seconds)
    return Engine(sweep, study, folder, InProcess(sweep), lease, Plan(sweep, 3), Watch(local=True))


def test_histories_of_other_workers_are_taken_over_as_they_grow_and_end(tmp_path: Path) -> None:
    engine = engine_of(sweep_of(tmp_path), tmp_path)
    study = engine.study
    theirs, failing = study.ask(), study.ask()
    for trial in (theirs, failing):
        trial.set_user_attr(
            *study_schema.epochs_entry([{"epoch": number, "f1": number / 10, study_schema.LAST: False} for number in (1, 2)])
        )
    engine._learn()
    assert engine.histories == {number: [(1, [0.1]), (2, [0.2])] for number in (theirs.number, failing.number)}
    theirs.set_user_attr(*study_schema.epochs_entry([{"epoch": 3, "f1": 0.3, study_schema.LAST: True}]))
    study.tell(theirs, 0.3)
    study.tell(failing, state=TrialState.FAIL)
    engine._learn()
    assert engine.histories == {theirs.number: [(1, [0.1]), (2, [0.2]), (3, [0.3])]}
