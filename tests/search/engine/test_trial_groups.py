"""Trials that train as one program end as they would one by one: told, killed, interrupted, stopped or failed each by itself."""

from __future__ import annotations

import copy
import inspect
import itertools
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from paretune.batched import training as population
from paretune.batched.training import Program
from paretune.models.training_state import Run
from paretune.runs import study_schema
from paretune.runs.tracking import Tracker
from paretune.search.engine import batches, in_process, trial_groups
from paretune.search.engine.signals import Interruption
from paretune.search.engine.study import finished
from paretune.search.engine.worker import Engine, run
from paretune.search.spec import search_options
from paretune.search.spec.sweep import Sweep, read_sweep
from tests.samples import small_data
from tests.search.killing import Killed, killed_at

RANDOM: dict[str, Any] = {
    "program": "trainers/ann.py",
    "method": "random",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {
        "epochs": {"value": 3},
        "hidden": {"values": [[8], [6]]},
        "dropout": {"values": [0.0, 0.2]},
        "optimizer": {"values": ["sgd", "adam"]},
        "learning_rate": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.5},
    },
}
GRID: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "grid",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {
        "epochs": {"value": 3},
        "optimizer": {"value": "sgd"},
        "learning_rate": {"values": [0.5, 0.4, 1e-9, 0.3, 1e-10, 0.2]},
    },
}


CONTINUOUS: dict[str, Any] = {
    "epochs": {"value": 3},
    "learning_rate": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.5},
}


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let small trials train together, in one program; note how many there are in each program of several."""
    found: list[int] = []
    original = Program.__init__

    def noted(self: Program, models: Any, *rest: Any) -> None:
        found.extend([len(models)] * (len(models) > 1))
        original(self, models, *rest)

    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data())
    monkeypatch.setattr(batches, "STEPS", 1)
    monkeypatch.setattr(Program, "__init__", noted)
    monkeypatch.setattr(population.torch, "get_num_threads", lambda: 1)
    return found


def sweep_of(folder: Path, definition: dict[str, Any], **changes: Any) -> Sweep:
    path = folder / "small.yaml"
    whole = {**definition, **changes}
    path.write_text(yaml.safe_dump({key: value for key, value in whole.items() if value is not None}))
    return read_sweep(path)


def searched(sweep: Sweep, trials: int, *, name: str = "s", mode: str = "disabled") -> list[FrozenTrial]:
    study = run(sweep, trials=trials, name=name, seed=1, mode=mode, device="cpu", runs=sweep.path.parent / "runs")
    return study.get_trials()


def one_by_one(sweep: Sweep, trials: int) -> list[FrozenTrial]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_groups, "most_at_once", lambda *_: 1)
        return searched(sweep, trials, name="alone")


def by_parameters(trials: list[FrozenTrial]) -> list[tuple[str, TrialState, list[Any]]]:
    rows = []
    for trial in trials:
        if trial.state != TrialState.FAIL:
            epochs = [{**row, "seconds": 0} for row in study_schema.epochs_of(trial.user_attrs)]
            rows.append((repr(sorted(trial.params.items())), trial.state, epochs))
    return sorted(rows, key=lambda row: row[0])


def assert_same_trials(found: list[FrozenTrial], wanted: list[FrozenTrial]) -> None:
    pairs = list(zip(by_parameters(found), by_parameters(wanted), strict=True))
    for (name, state, rows), (other, other_state, others) in pairs:
        assert (name, state) == (other, other_state)
        assert [pytest.approx(row, rel=1e-4) for row in rows] == others


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_search_finds_the_same_side_by_side(method: str, tmp_path: Path, sizes: list[int]) -> None:
    sweep = sweep_of(tmp_path, RANDOM, method=method)
    wanted = one_by_one(sweep, 12)
    assert sizes == []
    found = searched(sweep, 12)
    assert len(sizes) >= 2, "two shapes at least trained as programs"
    assert_same_trials(found, wanted)
    assert len({trial.user_attrs[study_schema.RUN]["id"] for trial in found}) == 12


@pytest.mark.parametrize("sampler", ["auto", "tpe"])
def test_a_search_that_learns_asks_for_as_many_at_once_as_the_sweep_says(sampler: str, tmp_path: Path, sizes: list[int]) -> None:
    changes = {"method": "bayes", "controller": {"type": "local", "search": {"at_once": 4, "sampler": sampler}}}
    searched(sweep_of(tmp_path, GRID | {"parameters": CONTINUOUS}, **changes), 14)
    before = len(sizes)
    trials = searched(sweep_of(tmp_path, GRID | {"parameters": CONTINUOUS}, **changes), 22)
    assert sizes[before:] == [4, 4]
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 22
    assert len({trial.params["learning_rate"] for trial in trials}) == 22, "none is suggested a second time while it trains"


def test_a_grid_finds_the_same_side_by_side(tmp_path: Path, sizes: list[int]) -> None:
    sweep = sweep_of(tmp_path, GRID)
    found = searched(sweep, 99)
    assert sizes == [5], "the first trial alone, the others together"
    assert_same_trials(found, one_by_one(sweep, 99))


def test_each_trial_has_its_own_run(tmp_path: Path, sizes: list[int]) -> None:
    from paretune.analysis.history import load_runs

    trials = searched(sweep_of(tmp_path, GRID), 99, mode="offline")
    assert sizes == [5]
    runs = {run.config["learning_rate"]: run for run in load_runs(tmp_path / "runs" / "s" / "wandb")}
    assert len(runs) == 6
    for trial in trials:
        own = runs[trial.params["learning_rate"]]
        assert own.state == "finished"
        rows = study_schema.epochs_of(trial.user_attrs)
        assert list(own.columns["epoch"]) == [1, 2, 3]
        assert list(own.columns["train_loss"]) == pytest.approx([row["train_loss"] for row in rows])


def test_a_stopped_trial_leaves_the_program(tmp_path: Path, sizes: list[int]) -> None:
    sweep = sweep_of(tmp_path, GRID, early_terminate={"type": "hyperband", "min_iter": 1, "eta": 2})
    found = searched(sweep, 99)
    stopped = [trial for trial in found if trial.state == TrialState.PRUNED]
    assert stopped
    assert sizes[0] == 5
    for trial in found:
        rows = study_schema.epochs_of(trial.user_attrs)
        assert len(rows) == trial.user_attrs.get(study_schema.PRUNED, 3)
    wanted = {
        trial.params["learning_rate"]: study_schema.epochs_of(trial.user_attrs)
        for trial in one_by_one(sweep_of(tmp_path, GRID), 99)
    }
    for trial in found:
        for row in study_schema.epochs_of(trial.user_attrs):
            assert row["test_loss"] == pytest.approx(wanted[trial.params["learning_rate"]][row["epoch"] - 1]["test_loss"], rel=1e-4)


@pytest.mark.parametrize("observed", [4, 6, 9, 13, 18])
def test_killed_at_any_moment_it_completes_the_count_and_repeats_nothing_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], observed: int
) -> None:
    sweep, restore = sweep_of(tmp_path, GRID), killed_at(monkeypatch, "_observe", observed)
    with pytest.raises(Killed):
        searched(sweep, 99)
    restore()
    before = finished(optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/runs/s/study.db").get_trials())
    found = searched(sweep, 99)
    assert len(finished(found)) == 6
    assert {trial.number for trial in before} <= {trial.number for trial in finished(found)}
    assert_same_trials(found, one_by_one(sweep, 99))


@pytest.mark.parametrize("sizes_of_batches", [[64], [16, 64]], ids=["one shape", "two shapes"])
def test_only_the_trial_that_kills_its_process_fails(
    sizes_of_batches: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    parameters = {**GRID["parameters"], "batch_size": {"values": sizes_of_batches}}
    sweep, original, deaths = sweep_of(tmp_path, GRID, parameters=parameters), Run.conclude, 0

    def guilty(self: Run, *arguments: Any) -> Any:
        if (self.model.config.learning_rate, self.model.config.batch_size) == (0.3, sizes_of_batches[0]):
            raise Killed
        return original(self, *arguments)

    monkeypatch.setattr(Run, "conclude", guilty)
    while deaths < 20:
        try:
            trials = searched(sweep, 99)
            break
        except Killed:
            deaths += 1
    failed = [trial for trial in finished(trials) if trial.state != TrialState.COMPLETE]
    assert [trial.user_attrs[study_schema.CAUSE].split(",")[0] for trial in failed] == ["its worker died 4 times"]
    assert failed[0].params["learning_rate"] == 0.3
    assert deaths == 4
    assert len(finished(trials)) == 6 * len(sizes_of_batches)
    others = [trial for trial in finished(trials) if trial.params["batch_size"] != sizes_of_batches[0]]
    assert not any(trial.user_attrs.get(study_schema.ATTEMPT) for trial in others), "those that had not begun are not counted"


def test_a_trial_that_kills_its_process_before_its_run_begins_is_not_tried_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    sweep, original, deaths = sweep_of(tmp_path, GRID), in_process.InProcess.shape, 0

    def guilty(self: in_process.InProcess, values: dict[str, Any]) -> Any:
        if values["learning_rate"] == 0.3:
            raise Killed
        return original(self, values)

    monkeypatch.setattr(in_process.InProcess, "shape", guilty)
    while deaths < 20:
        try:
            trials = searched(sweep, 99)
            break
        except Killed:
            deaths += 1
    assert deaths <= 6
    assert len(finished(trials)) == 6


def test_an_interrupt_gives_every_trial_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    sweep = sweep_of(tmp_path, GRID)
    killed_at(monkeypatch, "_observe", 6, by=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        searched(sweep, 99)
    trials = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/runs/s/study.db").get_trials()
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]
    assert sum(trial.state == TrialState.WAITING for trial in trials) == 5
    found = searched(sweep, 99)
    assert_same_trials(found, one_by_one(sweep, 99))
    assert all(trial.user_attrs.get(study_schema.ATTEMPT, 0) == 0 for trial in found), "an interrupt is no death"


def test_a_configuration_that_cannot_be_built_fails_alone(tmp_path: Path, sizes: list[int]) -> None:
    search_options = {"optimizer_settings": {"values": [{}, {"nestrov": True}]}}
    sweep = sweep_of(tmp_path, GRID, parameters={**GRID["parameters"], **search_options})
    trials = searched(sweep, 99)
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert len(trials) == 12
    assert len(failed) == 6
    assert all("did you mean 'nesterov'" in trial.user_attrs[study_schema.CAUSE] for trial in failed)


def test_an_error_after_the_first_epoch_is_that_of_one_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    sweep, original = sweep_of(tmp_path, GRID), Run.conclude
    wanted = one_by_one(sweep, 99)

    def dividing(self: Run, *arguments: Any) -> Any:
        if self.model.config.learning_rate == 0.3 and self.number == 2:
            raise ZeroDivisionError("of its schedule")
        return original(self, *arguments)

    monkeypatch.setattr(Run, "conclude", dividing)
    trials = searched(sweep, 99)
    (failed,) = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert sizes == [5, 4], "the others go on together"
    assert (failed.params["learning_rate"], failed.user_attrs[study_schema.CAUSE]) == (0.3, "ZeroDivisionError: of its schedule")
    assert "dividing" in failed.user_attrs["traceback"]
    assert len(study_schema.epochs_of(failed.user_attrs)) == 1
    assert_same_trials(trials, [trial for trial in wanted if trial.params["learning_rate"] != 0.3])


def test_where_the_program_fails_each_trains_anew_and_fails_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    sweep, original, order = sweep_of(tmp_path, GRID), Program.train_epoch, list[float]()
    wanted = one_by_one(sweep, 99)

    def short_of_memory(self: Program, numbers: Any, *rest: Any) -> Any:
        rates = [model.config.learning_rate for model in self.models]
        if numbers[0] == 2 and 0.3 in rates:
            raise MemoryError("too large")
        order.extend(rates if len(rates) == 1 else [])
        return original(self, numbers, *rest)

    monkeypatch.setattr(Program, "train_epoch", short_of_memory)
    trials = searched(sweep, 99)
    (failed,) = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert (failed.params["learning_rate"], failed.user_attrs[study_schema.CAUSE]) == (0.3, "MemoryError: too large")
    assert len(trials) == 6
    assert len({trial.user_attrs[study_schema.RUN]["id"] for trial in trials}) == 6
    assert_same_trials(trials, [trial for trial in wanted if trial.params["learning_rate"] != 0.3])
    assert [rate for rate, _ in itertools.groupby(order)] == [0.5, 0.4, 1e-9, 0.3, 1e-10, 0.2], "one after the other"


@pytest.mark.parametrize("fails", ["log", "describe"])
def test_a_trial_that_fails_outside_its_training_leaves_the_program(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    sweep, together_made, describe, log = sweep_of(tmp_path, GRID), list[Any](), Tracker.describe, Tracker.log
    wanted = one_by_one(sweep, 99)
    rates: dict[int, float] = {}

    def described(self: Tracker, values: Any, origin: Any) -> None:
        rates[id(self)] = values["learning_rate"]
        if fails == "describe" and values["learning_rate"] == 0.3:  # its epochs are never asked for
            raise OSError(28, "No space left on device")
        describe(self, values, origin)

    def logged(self: Tracker, epoch: Any) -> None:
        if fails == "log" and rates[id(self)] == 0.3:
            raise OSError(28, "No space left on device")
        log(self, epoch)

    def kept(self: in_process.InProcess, *arguments: Any) -> Any:
        together_made.append(made(self, *arguments))
        return together_made[-1]

    made = in_process.InProcess.together
    monkeypatch.setattr(in_process.InProcess, "together", kept)
    monkeypatch.setattr(Tracker, "describe", described)
    monkeypatch.setattr(Tracker, "log", logged)
    trials = searched(sweep, 99)
    (failed,) = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert failed.params["learning_rate"] == 0.3
    assert "No space left on device" in failed.user_attrs[study_schema.CAUSE]
    assert sizes == [5, 4], "it is trained no further"
    (program,) = together_made
    assert inspect.getgeneratorstate(program._rounds) == inspect.GEN_CLOSED
    assert_same_trials(trials, [trial for trial in wanted if trial.params["learning_rate"] != 0.3])


def test_an_interrupt_says_how_many_trials_end_and_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    interruption, original = Interruption(), Program.train_epoch

    def interrupted(self: Program, *arguments: Any) -> Any:
        if len(self.models) > 1 and not interruption.asked:
            interruption._take(signal.SIGINT, None)
        return original(self, *arguments)

    monkeypatch.setattr(Program, "train_epoch", interrupted)
    sweep, folder = sweep_of(tmp_path, GRID), tmp_path / "runs"
    study = run(sweep, trials=99, name="s", seed=1, mode="disabled", device="cpu", runs=folder, interruption=interruption)
    said = capsys.readouterr().err
    assert "stopping when the 5 trials that train together have ended" in said
    assert "as soon as the epoch of all has ended" in said
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 6
    assert interruption.together == 1


def test_what_depends_on_results_is_asked_for_one_by_one(tmp_path: Path, sizes: list[int]) -> None:
    parameters = {**GRID["parameters"], "seed": {"min": 0, "max": 99}}
    trials = searched(sweep_of(tmp_path, GRID, method="random", parameters=parameters), 12)
    searching = {
        "tpe": {"controller": {"type": "local", "search": {"sampler": "tpe"}}},
        "stop": {"controller": {"type": "local", "search": {"stop": {"trials": 3}}}},
        "seconds": {"metric": {"name": "seconds", "goal": "minimize"}, "method": "random"},
        "one of two": {"metric": None, "metrics": [RANDOM["metric"], {"name": "seconds", "goal": "minimize"}], "method": "random"},
        "constraint": {"controller": {"type": "local", "search": {"constraints": ["seconds < 3"]}}, "method": "random"},
        "target": {"metric": {"name": "f1", "goal": "maximize", "target": 0.99}},
    }
    for changes in searching.values():
        assert batches.most_at_once(sweep_of(tmp_path, RANDOM, **{"method": "bayes", **changes}), trials) == 1, changes
    assert batches.most_at_once(sweep_of(tmp_path, RANDOM), trials) == search_options.MOST_AT_ONCE
    assert batches.most_at_once(sweep_of(tmp_path, RANDOM, method="bayes"), trials[:4]) == 6
    assert batches.most_at_once(sweep_of(tmp_path, RANDOM, method="bayes"), trials) == 1
    assert batches.most_at_once(sweep_of(tmp_path, RANDOM), []) == 1


def test_the_random_start_is_shared_by_all_workers_and_ends_on_time(tmp_path: Path, sizes: list[int]) -> None:
    trials = searched(sweep_of(tmp_path, GRID, method="random", parameters=CONTINUOUS), 10)
    live = [copy.copy(trial) for trial in trials]
    for trial in live:
        trial.state = TrialState.RUNNING

    def most(ended: int, running: int, mine: int = 0, **search: Any) -> int:
        controller = {"type": "local", "search": search}
        sweep = sweep_of(tmp_path, GRID, method="bayes", parameters=CONTINUOUS, controller=controller)
        return batches.most_at_once(sweep, [*trials[:ended], *live[:running]], mine)

    assert (most(1, 0), most(1, 3), most(1, 8), most(1, 9)) == (9, 6, 1, 1)
    assert (most(1, 5, 5), most(1, 9, 5)) == (9, 5), "its own among those that run"
    assert (most(9, 0, at_once=8), most(7, 2, at_once=8), most(10, 2, at_once=8)) == (1, 1, 8)
    assert (most(7, 0, at_once=8, sampler="tpe"), most(1, 0, at_once=8, sampler="gp")) == (3, 8)
    assert most(7, 0, at_once=8, sampler={"name": "tpe", "n_startup_trials": 5}) == 8


def test_what_other_workers_have_asked_for_since_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    """Let another worker draw a random trial before each that this one asks for beside its first."""
    sweep = sweep_of(tmp_path, GRID, method="bayes", parameters=CONTINUOUS)
    original, begun, found = Engine.claim, trial_groups._run, list[int]()

    def beside_another(self: Engine, wanted: Any = None) -> Any:
        if wanted is not None:
            self.study.ask().set_user_attr(study_schema.WORKER, self.lease.sign())
        return original(self, wanted)

    def noted(engine: Engine, group: list[Any]) -> Any:
        if len(group) > 1:
            found.append(len(group))
            raise Killed
        return begun(engine, group)

    monkeypatch.setattr(Engine, "claim", beside_another)
    monkeypatch.setattr(trial_groups, "_run", noted)
    with pytest.raises(Killed):
        searched(sweep, 40)
    assert found == [5], "of the nine after the first, this worker and the other each draw one in turn"


def test_on_a_storage_that_others_may_join_a_worker_asks_for_few(tmp_path: Path, sizes: list[int]) -> None:
    sweep, address = sweep_of(tmp_path, GRID), f"sqlite:///{tmp_path}/shared.db"
    run(sweep, trials=99, name="s", seed=1, mode="disabled", device="cpu", runs=tmp_path / "runs", storage=address)
    assert sizes == [4], "then one is left"


@pytest.mark.parametrize(("workers", "wanted"), [(1, 11), (2, 6), (3, 4)])
def test_a_worker_asks_for_no_more_than_its_share(
    workers: int, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    monkeypatch.setattr(trial_groups, "n_workers", lambda *_: workers)
    searched(sweep_of(tmp_path, GRID, method="random", parameters=CONTINUOUS), 12)
    assert sizes[0] == wanted


def test_beside_other_workers_nobody_keeps_trials_of_other_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    parts, original = list[list[int]](), trial_groups._groups

    def noted(*arguments: Any) -> Any:
        found = original(*arguments)
        parts.append([len(group) for group in found])
        return found

    monkeypatch.setattr(trial_groups, "_groups", noted)
    wanted = one_by_one(sweep_of(tmp_path, RANDOM), 12)
    searched(sweep_of(tmp_path, RANDOM), 12)
    assert any(len(groups) == 2 and min(groups) > 1 for groups in parts), "a worker alone keeps both shapes"
    parts.clear()
    monkeypatch.setattr(trial_groups, "n_workers", lambda *_: 2)
    found = searched(sweep_of(tmp_path, RANDOM), 12, name="two")
    assert all(groups[1:] in ([], [1]) for groups in parts)
    assert any(groups[0] > 1 for groups in parts)
    assert_same_trials(found, wanted)


def test_short_trials_train_one_by_one(tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "STEPS", 1000)
    searched(sweep_of(tmp_path, GRID), 99)
    assert sizes == []
