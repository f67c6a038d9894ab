"""When a sweep goes on, waits, and ends: by count, grid, target, or because nothing moves any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState, create_trial

from paretune.runs import study_schema
from paretune.search.engine.stopping_rules import Outlook, Plan
from paretune.search.spec.sweep import Sweep, read_sweep

DEFINITION: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "random",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"learning_rate": {"min": 0.1, "max": 0.5}},
}
SEVERAL = [{"name": "f1", "goal": "maximize"}, {"name": "test_loss", "goal": "minimize"}]


def sweep_of(folder: Path, **changes: Any) -> Sweep:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**DEFINITION, **changes}.items() if value is not None}))
    return read_sweep(path)


def trials_of(*kinds: Any) -> list[FrozenTrial]:
    """A number or tuple is a complete trial; a word says what else it is."""
    states = {"pruned": TrialState.PRUNED, "running": TrialState.RUNNING, "waiting": TrialState.WAITING}
    study = optuna.create_study(
        directions=["minimize"] * max(len(k) if isinstance(k, tuple) else 1 for k in kinds) if kinds else None
    )
    for kind in kinds:
        values = list(kind) if isinstance(kind, tuple) else [kind] if isinstance(kind, float) else None
        attributes = {study_schema.CAUSE: kind} if kind in ("interrupted", "surplus") else {}
        if kind == "prior":
            values, attributes = [9.0], {study_schema.PRIOR: "elsewhere"}
        state = TrialState.COMPLETE if values else states.get(str(kind), TrialState.FAIL)
        study.add_trial(create_trial(state=state, values=values, user_attrs=attributes))
    return study.get_trials()


@pytest.mark.parametrize(
    ("kinds", "outlook"),
    [
        ([], Outlook.WORK),
        ([0.5, 0.5], Outlook.WORK),
        ([0.5, 0.5, 0.5], Outlook.DONE),
        ([0.5, "pruned", "failed"], Outlook.DONE),
        ([0.5, "interrupted", "surplus", "prior"], Outlook.WORK),
        ([0.5, 0.5, "running"], Outlook.WAIT),
        ([0.5, "running", "waiting"], Outlook.WORK),
        (["running", "running", "running"], Outlook.WAIT),
    ],
)
def test_finished_and_running_trials_make_up_the_number(tmp_path: Path, kinds: list[Any], outlook: Outlook) -> None:
    assert Plan(sweep_of(tmp_path), 3).outlook(trials_of(*kinds)) is outlook


def test_a_grid_ends_with_its_last_combination(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, method="grid", parameters={"batch_size": {"values": [8, 16]}, "epochs": {"values": [1, 2]}})
    plan = Plan(sweep, 99)
    assert plan.trials == 4
    assert plan.outlook(trials_of(0.1, 0.1, 0.1)) is Outlook.WORK
    assert plan.outlook(trials_of(0.1, 0.1, "interrupted", "running")) is Outlook.WAIT
    assert plan.outlook(trials_of(0.1, 0.1, 0.1, 0.1)) is Outlook.DONE


def test_of_trials_asked_for_at_once_the_later_is_too_many(tmp_path: Path) -> None:
    plan, trials = Plan(sweep_of(tmp_path), 2), trials_of(0.5, "running", "running")
    assert not plan.beyond(1, trials)
    assert plan.beyond(2, trials)


@pytest.mark.parametrize(("values", "ends"), [([0.5, 0.9], False), ([0.5, 0.951], True), ([0.95], True)])
def test_a_target_ends_the_sweep(tmp_path: Path, values: list[float], ends: bool) -> None:
    sweep = sweep_of(tmp_path, metric={"name": "f1", "goal": "maximize", "target": 0.95})
    plan = Plan(sweep, 99)
    assert (plan.outlook(trials_of(*values)) is Outlook.DONE) == ends
    assert ("reached the target" in plan.reason(trials_of(*values))) == ends


def test_a_minimized_target_is_reached_from_above(tmp_path: Path) -> None:
    plan = Plan(sweep_of(tmp_path, metric={"name": "test_loss", "goal": "minimize", "target": 0.1}), 99)
    assert not plan.reason(trials_of(0.2))
    assert plan.reason(trials_of(0.2, 0.1))


def test_several_targets_are_reached_by_one_trial_together(tmp_path: Path) -> None:
    metrics = [{**SEVERAL[0], "target": 0.9}, {**SEVERAL[1], "target": 0.2}]
    plan = Plan(sweep_of(tmp_path, metric=None, metrics=metrics), 99)
    assert not plan.reason(trials_of((0.95, 0.3), (0.8, 0.1)))
    assert plan.reason(trials_of((0.95, 0.3), (0.91, 0.15)))


def stopping(folder: Path, **changes: Any) -> Sweep:
    stop = {"trials": 3, "improvement": 0.01}
    return sweep_of(folder, controller={"type": "local", "search": {"stop": stop}}, **changes)


@pytest.mark.parametrize(
    ("kinds", "ends"),
    [
        ([0.5, 0.6, 0.7], False),
        ([0.5, 0.5, 0.5], False),  # three trials after the first are needed
        ([0.5, 0.5, 0.4, 0.505], True),
        ([0.5, 0.5, 0.4, 0.52], False),
        ([0.5, "pruned", "failed", 0.1], True),
        ([0.5, "pruned", "interrupted", 0.1], False),
        (["failed", "failed", "failed", "failed"], False),
    ],
)
def test_a_sweep_ends_when_its_best_has_not_moved(tmp_path: Path, kinds: list[Any], ends: bool) -> None:
    assert bool(Plan(stopping(tmp_path), 99).reason(trials_of(*kinds))) == ends


def test_with_several_objectives_the_hypervolume_must_move(tmp_path: Path) -> None:
    plan = Plan(stopping(tmp_path, metric=None, metrics=SEVERAL), 99)
    still = [(0.5, 0.5), (0.9, 0.1), (0.8, 0.2), (0.7, 0.3), (0.6, 0.4)]
    assert "the hypervolume has not moved for 3 trials" in plan.reason(trials_of(*still))
    assert not plan.reason(trials_of(*still[:4], (0.99, 0.2)))


def test_the_persons_own_terminator_ends_it(tmp_path: Path) -> None:
    assert Plan(sweep_of(tmp_path), 99, terminator=lambda: True).outlook([]) is Outlook.DONE
