"""What is suggested: seeded by slot, a grid in its order, failures imputed as W&B does, conditions kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState, create_trial

from paretune.runs import study_schema
from paretune.search.sampling import slot_sampler
from paretune.search.sampling.slot_sampler import ImputedStudy, SlotSampler, draw, imputed, slot_of
from paretune.search.spec.sweep import Objective, Sweep, read_sweep

DEFINITION: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "random",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"learning_rate": {"min": 0.1, "max": 0.5}, "batch_size": {"values": [8, 16, 32]}},
}
CONDITIONS = {"momentum": "optimizer == 'sgd'", "label_smoothing": "optimizer == 'sgd' and momentum > 0.5"}


def sweep_of(folder: Path, **changes: Any) -> Sweep:
    path = folder / "suggest.yaml"
    path.write_text(yaml.safe_dump({**DEFINITION, **changes}))
    return read_sweep(path)


def study_of(sweep: Sweep, seed: int = 0) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=SlotSampler(sweep, seed))


def suggested(sweep: Sweep, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    study, found = study_of(sweep, seed), []
    for place in range(count):
        trial = study.ask()
        found.append(draw(trial, sweep))
        study.tell(trial, place / 10)
    return found


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_the_seed_decides_the_suggestions(tmp_path: Path, method: str) -> None:
    sweep = sweep_of(tmp_path, method=method)
    assert suggested(sweep, 4) == suggested(sweep, 4)
    assert suggested(sweep, 4) != suggested(sweep, 4, seed=1)


def test_retried_brought_and_surplus_trials_take_no_slot() -> None:
    study = optuna.create_study()
    kinds: list[dict[str, Any]] = [
        {},
        {study_schema.RETRY_OF: 0, study_schema.ORIGIN: 0},
        {study_schema.PRIOR: "x"},
        {study_schema.POINT: "y"},
        {study_schema.CAUSE: study_schema.SURPLUS},
        {study_schema.CAUSE: study_schema.INTERRUPTED},
        {},
    ]
    for attributes in kinds:
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attributes))
    trials = study.get_trials()
    assert [slot_of(trial, trials) for trial in trials] == [0, 0, 1, 1, 1, 1, 2]


def test_a_retried_trial_that_lost_its_draw_gets_the_same_again(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    study = study_of(sweep)
    study.enqueue_trial({}, user_attrs={})
    wanted = suggested(sweep, 2)
    first = study.ask()  # it dies before anything was drawn
    study.enqueue_trial({}, user_attrs={study_schema.RETRY_OF: first.number, study_schema.ORIGIN: first.number})
    study.tell(first, state=TrialState.FAIL)
    assert draw(study.ask(), sweep) == wanted[0]
    assert draw(study.ask(), sweep) == wanted[1]


def test_a_grid_goes_through_its_combinations_in_order(tmp_path: Path) -> None:
    parameters = {"epochs": {"values": [1, 2]}, "batch_size": {"values": [8, 16]}}
    sweep = sweep_of(tmp_path, method="grid", parameters=parameters)
    assert suggested(sweep, 4) == [{"batch_size": size, "epochs": epochs} for size in (8, 16) for epochs in (1, 2)]


def test_what_does_not_exist_is_neither_drawn_nor_handed_over(tmp_path: Path) -> None:
    parameters = {
        "label_smoothing": {"min": 0.0, "max": 0.2},
        "momentum": {"min": 0.0, "max": 0.9},
        "optimizer": {"values": ["sgd", "adam"]},
    }
    search = {"type": "local", "search": {"conditions": CONDITIONS, "sampler": "tpe"}}
    for method in ("random", "bayes"):
        found = suggested(sweep_of(tmp_path, method=method, parameters=parameters, controller=search), 30)
        assert {len(values) for values in found} == {1, 2, 3}
        for values in found:
            assert ("momentum" in values) == (values["optimizer"] == "sgd")
            assert ("label_smoothing" in values) == (values.get("momentum", 0) > 0.5)


# Imputing, by hand: values 0.2, 0.6 (complete); a failed run logged 0.9, 0.1; a running one 0.3, 0.4


def imputing(objective: Objective) -> ImputedStudy:
    study = optuna.create_study(direction="maximize")
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    for value in (0.2, 0.6):
        study.add_trial(create_trial(value=value, params={"x": value}, distributions=space))
    for rows, state in (((0.9, 0.1), TrialState.FAIL), ((0.3, 0.4), TrialState.RUNNING)):
        attributes = {study_schema.epoch_key(i + 1): {"f1": value, "last": False} for i, value in enumerate(rows)}
        study.add_trial(create_trial(state=state, params={"x": 0.5}, distributions=space, user_attrs=attributes))
    return ImputedStudy(study, [objective])


@pytest.mark.parametrize(
    ("impute", "running", "failed_value", "running_value"),
    [("worst", "false", 0.2, None), ("best", "worst", 0.9, 0.2), ("latest", "best", 0.1, 0.4), ("worst", "latest", 0.2, 0.4)],
)
def test_runs_without_a_value_get_the_one_that_wandb_gives_them(
    impute: str, running: str, failed_value: float, running_value: float | None
) -> None:
    failed, live = imputing(Objective("f1", "maximize", None, impute, running)).get_trials()[2:]
    assert (failed.state, failed.value) == (TrialState.COMPLETE, failed_value)
    assert live.state == (TrialState.RUNNING if running_value is None else TrialState.COMPLETE)
    assert running_value is None or live.value == running_value


@pytest.mark.parametrize(
    ("method", "search", "taken"),
    [
        ("bayes", {"sampler": {"name": "tpe", "n_startup_trials": 3}}, ("tpe", {"n_startup_trials": 3})),
        ("bayes", {}, ("auto", {})),
        ("random", {}, ("random", {})),
    ],
)
def test_the_sampler_and_its_options_are_those_of_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, search: dict[str, Any], taken: tuple[str, dict[str, Any]]
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    build = slot_sampler.build_sampler
    monkeypatch.setattr(slot_sampler, "build_sampler", lambda *given, **more: calls.append(given) or build(*given, **more))  # type: ignore[func-returns-value]
    study_of(sweep_of(tmp_path, method=method, controller={"type": "local", "search": search})).ask()
    assert calls == [taken]


@pytest.mark.parametrize(
    ("running", "state", "cause", "is_imputed"),
    [
        ("false", TrialState.FAIL, "it raised", True),
        ("false", TrialState.FAIL, study_schema.INTERRUPTED, False),
        ("false", TrialState.FAIL, study_schema.SURPLUS, False),
        ("false", TrialState.COMPLETE, None, False),
        ("false", TrialState.PRUNED, None, False),
        ("false", TrialState.RUNNING, None, False),
        ("best", TrialState.COMPLETE, None, True),
        ("latest", TrialState.COMPLETE, None, True),
        ("worst", TrialState.COMPLETE, None, True),
    ],
)
def test_a_study_is_seen_as_it_is_where_nothing_is_to_be_imputed(
    tmp_path: Path, running: str, state: TrialState, cause: str | None, is_imputed: bool
) -> None:
    metric = {**DEFINITION["metric"], "impute_while_running": running}
    sweep = sweep_of(tmp_path, metric=metric)
    study = study_of(sweep)
    attributes = {} if cause is None else {study_schema.CAUSE: cause}
    study.add_trial(create_trial(state=state, values=[0.5] if state == TrialState.COMPLETE else None, user_attrs=attributes))
    seen = SlotSampler(sweep, 0)._view(study)
    assert isinstance(seen, ImputedStudy) is is_imputed
    assert is_imputed or seen is study


def test_an_interrupted_run_is_not_imputed() -> None:
    view = imputing(Objective("f1", "maximize"))
    study = view._study
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={study_schema.CAUSE: study_schema.INTERRUPTED}))
    assert view.get_trials()[4].state == TrialState.FAIL


def test_without_any_value_nothing_can_be_imputed() -> None:
    assert imputed([], Objective("f1"), "worst", None) is None
    assert imputed([{"f1": float("nan")}], Objective("f1"), "latest", None) is None


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_take_the_imputed_values(tmp_path: Path, sampler: str) -> None:
    """Everything above 0.3 fails; with failures imputed as worst the search keeps below, without it would return there."""
    controller = {"type": "local", "search": {"sampler": {"name": sampler, "n_startup_trials": 6}}}
    sweep = sweep_of(tmp_path, method="bayes", parameters={"learning_rate": {"min": 0.1, "max": 0.5}}, controller=controller)
    study = study_of(sweep)
    failed = []
    for _ in range(18):
        trial = study.ask()
        rate = draw(trial, sweep)["learning_rate"]
        failed.append(rate > 0.3)
        if rate > 0.3:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, rate)
    assert sum(failed[12:]) <= 3


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_samplers_take_failed_runs_and_unknown_constraints_as_breaking_them(tmp_path: Path, sampler: str) -> None:
    constraint = "learning_rate <= 0.4"
    controller = {"type": "local", "search": {"sampler": {"name": sampler}, "constraints": [constraint]}}
    sweep = sweep_of(tmp_path, method="bayes", parameters={"learning_rate": {"min": 0.1, "max": 0.5}}, controller=controller)
    study = study_of(sweep)
    for number in range(14):
        trial = study.ask()
        rate = draw(trial, sweep)["learning_rate"]
        if number % 4 == 3:
            study.tell(trial, state=TrialState.FAIL)
            continue
        trial.set_constraint(constraint, math.inf if number % 4 == 2 else rate - 0.4)
        study.tell(trial, rate)
    view = ImputedStudy(study, sweep.objectives, [constraint])
    worst = max(
        [
            1.0,
            *(
                trial.constraints[constraint]
                for trial in study.trials
                if math.isfinite(trial.constraints.get(constraint, math.inf))
            ),
        ]
    )
    for trial, seen in zip(study.trials, view.trials, strict=True):
        known = trial.constraints.get(constraint, math.inf)
        assert seen.constraints == {constraint: known if math.isfinite(known) else worst}
        assert seen.state == TrialState.COMPLETE
