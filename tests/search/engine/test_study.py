"""A sweep's study: opened once by whoever comes first, compared by whoever comes later, and which of its rows and trials count."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState, create_trial

from paretune.core.errors import UsageError
from paretune.data.options import DataOptions
from paretune.runs import study_schema
from paretune.search.engine import study as module
from paretune.search.engine.study import (
    check_same_data,
    comparable,
    counted_row,
    feasible,
    finished,
    last_row,
    open_study,
    with_latest,
    with_summary,
)
from paretune.search.spec.sweep import Sweep, read_sweep

NAN, MARK = math.nan, study_schema.SUMMARY
DEFINITION: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "random",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"learning_rate": {"min": 0.0001, "max": 0.5}},
}


def sweep_of(folder: Path, **changes: Any) -> Sweep:
    path = folder / "a.yaml"
    path.write_text(yaml.safe_dump({**DEFINITION, **changes}))
    return read_sweep(path)


def storage_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}"


# -- opening


def test_who_comes_first_leaves_the_definition_and_the_default_configuration_waiting(tmp_path: Path) -> None:
    study = open_study(sweep_of(tmp_path), storage_of(tmp_path), "a", seed=3)
    known = study.user_attrs
    assert known[study_schema.SWEEP] == DEFINITION
    assert (known[study_schema.SEED], known[study_schema.GOALS]) == (3, {"f1": "maximize"})
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    (waiting,) = study.trials
    assert (waiting.state, waiting.user_attrs[study_schema.BASELINE]) == (TrialState.WAITING, True)
    again = open_study(sweep_of(tmp_path), storage_of(tmp_path), "a", seed=3)
    assert len(again.trials) == 1
    assert again.user_attrs == known


def test_neither_a_grid_nor_a_space_without_the_defaults_has_them_wait(tmp_path: Path) -> None:
    grid = sweep_of(tmp_path, method="grid", parameters={"batch_size": {"values": [8, 16]}})
    assert open_study(grid, storage_of(tmp_path), "grid", seed=0).trials == []
    elsewhere = sweep_of(tmp_path, parameters={"learning_rate": {"min": 0.4, "max": 0.5}})
    assert open_study(elsewhere, storage_of(tmp_path), "elsewhere", seed=0).trials == []


@pytest.mark.parametrize(
    ("changes", "seed", "sentence"),
    [
        ({"method": "bayes"}, 0, "was started with another definition (method was 'random', is 'bayes')"),
        (
            {"parameters": {"learning_rate": {"min": 0.0001, "max": 0.6}}},
            0,
            "was started with another definition (max was 0.5, is 0.6)",
        ),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3}}, 0, "(early_terminate was 'not set', is {"),
        ({}, 1, "was started with another seed (0, now 1)"),
    ],
)
def test_another_definition_or_seed_is_refused_with_what_differs(
    tmp_path: Path, changes: dict[str, Any], seed: int, sentence: str
) -> None:
    open_study(sweep_of(tmp_path), storage_of(tmp_path), "a", seed=0)
    with pytest.raises(UsageError) as refusal:
        open_study(sweep_of(tmp_path, **changes), storage_of(tmp_path), "a", seed=seed)
    assert sentence in str(refusal.value)
    assert str(refusal.value).endswith("restore it to go on, or start a new study with --name.")


def test_what_does_not_change_a_search_may_change(tmp_path: Path) -> None:
    metric = {"name": "f1", "goal": "maximize", "target": 0.9}
    changed = {**DEFINITION, "metric": metric, "run_cap": 9, "name": "other", "controller": {"search": {"stop": {"patience": 3}}}}
    assert comparable({**changed, "controller": {"type": "local"}}) == comparable(DEFINITION) == DEFINITION
    assert comparable(changed) == {**DEFINITION, "search": {}}
    several = {"metrics": [{"name": "a", "goal": "minimize", "target": 1}, {"name": "b", "goal": "maximize"}]}
    assert comparable(several) == {"metrics": [{"name": "a", "goal": "minimize"}, {"name": "b", "goal": "maximize"}]}
    assert comparable({"controller": {"search": {"sampler": "tpe", "stop": {"patience": 3}}}}) == {"search": {"sampler": "tpe"}}


def test_a_study_whose_creator_died_is_created_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: naps.append(seconds) or sleep(seconds))  # type: ignore[func-returns-value]
    optuna.create_study(storage=storage_of(tmp_path), study_name="a", directions=["maximize"])
    study = open_study(sweep_of(tmp_path), storage_of(tmp_path), "a", seed=0)
    assert study_schema.STUDY_ID in study.user_attrs
    assert len(study.trials) == 1
    assert sum(naps) > 0.3, "it is waited for"


def test_a_study_of_ended_trials_that_has_no_identity_gets_one_and_no_second_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = optuna.create_study(storage=storage_of(tmp_path), study_name="a", directions=["maximize"])
    old.add_trial(create_trial(state=TrialState.COMPLETE, values=[0.5]))
    study = open_study(sweep_of(tmp_path), storage_of(tmp_path), "a", seed=0)
    assert len(study.trials) == 1
    assert len(study.user_attrs[study_schema.STUDY_ID]) == 16
    assert capsys.readouterr().err.startswith("note: with which ")


# -- data


def data_of(**changes: Any) -> Any:
    plain = {
        "name": "digits",
        "fingerprints": {"train": "t", "test": "u"},
        "sizes": {"train": 1000, "test": 300},
        "class_names": ["0", "1"],
    }
    return SimpleNamespace(**{**plain, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprints": {"train": "x", "test": "u"}}, "(images or labels of train)"),
        ({"fingerprints": {"train": "x", "test": "y"}}, "(images or labels of train; images or labels of test)"),
        ({"fingerprints": {"train": "x", "test": "u"}, "sizes": {"train": 1001, "test": 300}}, "(train 1,000 -> 1,001 images)"),
        ({"class_names": ["0", "2"]}, "(classes 0, 1 -> 0, 2)"),
    ],
)
def test_a_study_goes_on_with_its_own_data_alone(changes: dict[str, Any], words: str) -> None:
    study = optuna.create_study(study_name="a")
    check_same_data(study, DataOptions(), data_of())
    check_same_data(study, DataOptions(), data_of())
    check_same_data(study, DataOptions(data="mnist"), data_of(**changes))  # each set has its own record
    with pytest.raises(UsageError) as refusal:
        check_same_data(study, DataOptions(), data_of(**changes))
    assert f"digits has changed since {words}: restore the files, or start a new study with --name." in str(refusal.value)


def test_the_data_of_an_older_study_are_those_of_its_trials() -> None:
    study = optuna.create_study(study_name="a")
    origin = {"fingerprints": {"train": "t", "test": "u"}, "n_train": 900, "n_test": 300}
    config = {**DataOptions().to_dict(), "provenance": origin}
    for known in ({}, {"data": "mnist", "provenance": {"fingerprints": {"train": "z"}}}, config):
        study.add_trial(create_trial(state=TrialState.COMPLETE, values=[1], user_attrs={study_schema.RUN: {"config": known}}))
    with pytest.raises(UsageError, match=r"\(train 900 -> 1,000 images\)"):
        check_same_data(study, DataOptions(), data_of(fingerprints={"train": "x", "test": "u"}))
    check_same_data(study, DataOptions(), data_of(class_names=["a"]))  # which older trials do not tell


# -- trials


def trial_of(number: int, state: TrialState, values: list[float] | None = None, **attributes: Any) -> FrozenTrial:
    made = create_trial(state=state, values=values, user_attrs=attributes)
    made.number = number
    return made


def test_trials_count_that_ended_by_themselves() -> None:
    cause = study_schema.CAUSE
    trials = [
        trial_of(0, TrialState.COMPLETE, [1.0]),
        trial_of(1, TrialState.PRUNED),
        trial_of(2, TrialState.FAIL, **{cause: "it raised"}),
        trial_of(3, TrialState.FAIL),
        trial_of(4, TrialState.FAIL, **{cause: study_schema.INTERRUPTED}),
        trial_of(5, TrialState.FAIL, **{cause: study_schema.SURPLUS}),
        trial_of(6, TrialState.RUNNING),
        trial_of(7, TrialState.WAITING),
        trial_of(8, TrialState.COMPLETE, [1.0], **{study_schema.PRIOR: "elsewhere"}),
        trial_of(9, TrialState.COMPLETE, [1.0], **{cause: study_schema.INTERRUPTED}),
    ]
    assert [trial.number for trial in finished(trials)] == [0, 1, 2, 3, 9]


def test_a_trial_keeps_its_constraints_where_none_is_above_0() -> None:
    study = optuna.create_study()
    for violations in ({}, {"x <= 1": 0.0}, {"x <= 1": -1.0, "y <= 1": 0.0}, {"x <= 1": 1e-9}, {"x <= 1": -1.0, "y <= 1": 0.5}):
        trial = study.ask()
        for text, violation in violations.items():
            trial.set_constraint(text, violation)
        study.tell(trial, 0.5)
    assert [feasible(trial) for trial in study.get_trials()] == [True, True, True, False, False]


# -- rows


def test_of_our_own_rows_the_best_counts_and_of_other_programs_the_last() -> None:
    rows = [{"epoch": 1, "f1": 0.5}, {"epoch": 2, "f1": 0.9}, {"epoch": 3, "f1": 0.7}]
    assert counted_row(rows, {"f1": "maximize"}, ours=True) == rows[1]
    assert counted_row(rows, {"f1": "minimize"}, ours=True) == rows[0]
    assert counted_row(rows, {"f1": "maximize"}, ours=False) == rows[2]
    assert counted_row([], {"f1": "maximize"}, ours=True) is counted_row([], {"f1": "maximize"}, ours=False) is None


def test_a_row_counts_where_every_objective_is_a_finite_number() -> None:
    rows = [{"f1": 0.5, "loss": 1.0}, {"f1": 0.9, "loss": NAN}, {"f1": math.inf, "loss": 1.0}, {"f1": 0.8}]
    goals = {"f1": "maximize", "loss": "minimize"}
    assert counted_row(rows, goals, ours=True) == rows[0]
    assert counted_row(rows, goals, ours=False) is None
    assert counted_row([*rows, {"f1": 0.1, "loss": 2.0}], goals, ours=False) == {"f1": 0.1, "loss": 2.0}


def test_what_a_program_decided_in_its_summary_takes_the_place_of_its_last_value() -> None:
    rows: list[Mapping[str, Any]] = [{"f1": 0.9, f"{MARK}f1": 0.9}, {"f1": 0.5, "other": 1}]
    assert last_row(rows, ["f1"]) == {"f1": 0.9, "other": 1}
    assert last_row(rows, ["other"]) == {"f1": 0.5, "other": 1}
    assert last_row([], ["f1"]) == {}
    assert counted_row(rows, {"f1": "maximize"}, ours=False) == {"f1": 0.9, "other": 1}


def test_objectives_of_different_rows_are_put_together_by_their_latest_values() -> None:
    rows = [{"a": 1.0}, {"c": 5.0}, {"b": 2.0}, {"a": 3.0, "c": 6.0}]
    assert with_latest(rows, ["a", "b"]) == [{"a": 1.0}, {"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0, "c": 6.0}]
    assert with_latest([{"c": 1.0}], ["a"]) == []


def test_a_summary_completes_the_last_row() -> None:
    goals = {"f1": "maximize"}
    assert with_summary([], {"f1": 0.5, "x": 1.0}, goals) == [{"f1": 0.5, "x": 1.0}]
    assert with_summary([], {"x": 1.0}, goals) == []
    assert with_summary([{"f1": 0.5}], {"f1": 0.5}, goals) == [{"f1": 0.5}]
    rows = [{"f1": 0.9}, {"f1": 0.5}]
    assert with_summary(rows, {"f1": 0.9}, goals) == [{"f1": 0.9}, {"f1": 0.5, f"{MARK}f1": 0.9}]
    assert with_summary(rows, {"f1": 0.9}, goals, whole=False) == rows, "the summary may be older than the row"
    assert with_summary([{"x": 1.0}], {"f1": 0.9}, goals, whole=False) == [{"x": 1.0, "f1": 0.9, f"{MARK}f1": 0.9}]
    assert json.dumps(rows) == '[{"f1": 0.9}, {"f1": 0.5}]'
