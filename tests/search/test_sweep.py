"""Every sweep file of ours is read, and each kind of mistake in one gets its sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.sweep import Sweep, read_sweep
from tests.samples import ROOT
from trainers import CLASSIFIERS
from trainers.errors import UsageError

FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
# W&B's documentation, "Sweep configuration options" and "Define a sweep configuration".
WANDB_KEYS = {
    "program",
    "command",
    "name",
    "description",
    "project",
    "entity",
    "method",
    "metric",
    "parameters",
    "early_terminate",
    "run_cap",
}
WANDB_DISTRIBUTIONS = {
    "constant",
    "categorical",
    "categorical_w_probabilities",
    *("int_uniform", "uniform", "q_uniform", "normal", "q_normal", "beta", "q_beta"),
    *("log_uniform", "log_uniform_values", "inv_log_uniform", "inv_log_uniform_values", "q_log_uniform"),
    *("q_log_uniform_values", "log_normal", "q_log_normal"),
}
GOOD: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "bayes",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"learning_rate": {"min": 0.01, "max": 0.1}, "epochs": {"value": 2}},
}


def written(folder: Path, text: str | dict[str, Any], name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    return path


def changed(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in {**GOOD, **values}.items() if value is not ...}


def with_parameters(**parameters: Any) -> dict[str, Any]:
    return changed(parameters={**GOOD["parameters"], **parameters})


def refusal(folder: Path, text: str | dict[str, Any], **fixed: Any) -> str:
    path = written(folder, text)
    with pytest.raises(UsageError) as error:
        read_sweep(path, fixed)
    sentence = str(error.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    return sentence.removeprefix(str(path))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_has_its_sweep(name: str) -> None:
    assert any(read_sweep(path).classifier.name == name for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_sweep_of_ours_is_read(path: Path) -> None:
    sweep = read_sweep(path)
    assert sweep.space.distributions
    assert sweep.run_cap
    assert not sweep.space.outside(sweep.default_values()), "the default configuration shall be the first trial"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_sweep_of_ours_holds_only_what_wandb_knows(path: Path) -> None:
    definition = yaml.safe_load(path.read_text())
    assert set(definition) <= WANDB_KEYS
    assert definition["method"] in {"bayes", "random", "grid"}
    assert (ROOT / definition["program"]).is_file()
    assert set(definition["metric"]) == {"name", "goal"}
    for name, given in definition["parameters"].items():
        assert set(given) <= {"value", "values", "min", "max", "distribution", "q", "mu", "sigma", "probabilities"}, name
        assert given.get("distribution", "uniform") in WANDB_DISTRIBUTIONS
    hyperband = definition.get("early_terminate", {"type": "hyperband"})
    assert set(hyperband) <= {"type", "min_iter", "max_iter", "s", "eta", "strict"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_corner_of_our_search_spaces_builds(path: Path) -> None:
    from optuna.distributions import CategoricalDistribution

    from trainers.command_line import configure

    sweep = read_sweep(path)
    for pick in (0, -1):
        drawn = {
            name: distribution.choices[pick]
            if isinstance(distribution, CategoricalDistribution)
            else (distribution.low, distribution.high)[pick]
            for name, distribution in sweep.space.distributions.items()
        }
        configure(sweep.classifier, sweep.space.decode(drawn))


def test_a_sweep_is_what_the_file_says(tmp_path: Path) -> None:
    sweep: Sweep = read_sweep(written(tmp_path, changed(run_cap=5, name="mine", project="p", entity="e")))
    assert (sweep.name, sweep.method, sweep.metric, sweep.goal, sweep.run_cap) == ("mine", "bayes", "f1", "maximize", 5)
    assert (sweep.project, sweep.entity) == ("p", "e")
    assert sweep.classifier.name == "softmax"
    assert sweep.space.fixed == {"epochs": 2}


def test_a_sweep_without_a_name_takes_its_files(tmp_path: Path) -> None:
    assert read_sweep(written(tmp_path, GOOD, "mine.yaml")).name == "mine"


def test_the_goal_is_minimize_where_the_file_gives_none(tmp_path: Path) -> None:
    assert read_sweep(written(tmp_path, changed(metric={"name": "test_loss"}))).goal == "minimize"


def test_a_grid_needs_no_metric(tmp_path: Path) -> None:
    definition = changed(method="grid", metric=..., parameters={"batch_size": {"values": [8, 16]}})
    assert read_sweep(written(tmp_path, definition)).metric == "f1"


def test_fixed_values_leave_the_search(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, with_parameters(batch_size={"values": [8, 16]})), {"learning_rate": 0.05, "data": "mnist"})
    assert list(sweep.space.distributions) == ["batch_size"]
    assert sweep.space.fixed == {"epochs": 2, "learning_rate": 0.05, "data": "mnist"}


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        ("", "a sweep must be a mapping with program, method, metric and parameters."),
        ("- 1\n", "a sweep must be a mapping with program, method, metric and parameters."),
        ("program: [\n", "not valid YAML"),
        ("a: b: c\n", ":1: not valid YAML"),
        (changed(metod="bayes"), ": metod is not a key of a sweep; did you mean 'method'?"),
        (changed(program=...), ": program must name the trainer, such as trainers/ann.py. Got None."),
        (changed(program="trainers/an.py"), ": program 'trainers/an.py' is not a trainer that runs in process; did you mean"),
        (changed(program=3), ": program must name the trainer"),
        (changed(method=...), ": method must be bayes or random or grid. Got None"),
        (changed(method="bays"), "Got 'bays'; did you mean 'bayes'?"),
        (changed(metric=...), ": metric must be a mapping with name and goal. Got None."),
        (changed(metric="f1"), ": metric must be a mapping with name and goal. Got 'f1'."),
        (changed(metric={"name": "f1", "goal": "up"}), ": metric.goal must be minimize or maximize. Got 'up'."),
        (changed(metric={"name": "F1"}), ": metric.name 'F1' is not logged by trainers/softmax.py"),
        (changed(metric={"name": "val_loss"}), "is not logged by trainers/softmax.py"),
        (changed(parameters=...), ": parameters must be a mapping with at least one parameter. Got None."),
        (changed(parameters={}), ": parameters must be a mapping with at least one parameter. Got {}."),
        (changed(parameters=[1]), ": parameters must be a mapping with at least one parameter. Got [1]."),
        (changed(run_cap=0), ": run_cap must be a whole number of at least 1. Got 0."),
        (changed(run_cap="5"), ": run_cap must be a whole number of at least 1. Got '5'."),
        (changed(run_cap=True), ": run_cap must be a whole number of at least 1. Got True."),
        (changed(early_terminate={"type": "hyperbnd"}), ": early_terminate must be a mapping with type: hyperband"),
        (changed(early_terminate=None), ": early_terminate must be a mapping with type: hyperband"),
        (changed(metrics=[{"name": "f1"}]), ": metrics is not searched offline yet"),
        (
            with_parameters(learning_rat={"value": 1}),
            ": parameters.learning_rat is not a hyper-parameter of trainers/softmax.py; did you mean 'learning_rate'?",
        ),
        (with_parameters(hidden={"value": [3]}), ": parameters.hidden is not a hyper-parameter of trainers/softmax.py"),
        (
            with_parameters(learning_rate={"min": "1e-4", "max": 1}),
            ": parameters.learning_rate.min must be a number. Got the text '1e-4'; YAML reads it as text: write 0.0001.",
        ),
        (with_parameters(momentum={"min": 0.0, "max": 1.5}), ": parameters.momentum: momentum must be less than 1. Got 1.5."),
        (with_parameters(batch_size={"min": 0, "max": 8}), ": parameters.batch_size: batch_size must be greater than 0. Got 0."),
        (with_parameters(batch_size={"min": 1.5, "max": 8.0}), ": parameters.batch_size: batch_size must be a valid integer"),
        (with_parameters(optimizer={"values": ["sgd", "adm"]}), ": parameters.optimizer: optimizer must be"),
        (with_parameters(epochs={"value": 0}), ": epochs must be greater than 0. Got 0."),
        (with_parameters(holdout={"value": 0}), ": a sweep chooses, so it needs a hold-out."),
        (with_parameters(curves_on_test={"value": True}), ": a sweep chooses, so it needs a hold-out."),
        (with_parameters(data={"value": 3}), ": data must be a valid string. Got 3."),
    ],
)
def test_a_malformed_file_is_refused_with_file_key_and_what_came(
    tmp_path: Path, definition: str | dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(tmp_path, definition)


@pytest.mark.parametrize(
    "option",
    [
        {"holdout": {"values": [0.15, 0]}},
        {"holdout": {"values": [0.0, 0.2]}},
        {"holdout": {"min": 0.0, "max": 0.2}},
        {"curves_on_test": {"values": [False, True]}},
    ],
)
def test_no_trial_of_a_sweep_may_choose_on_the_locked_part(tmp_path: Path, option: dict[str, Any]) -> None:
    assert "needs a hold-out" in refusal(tmp_path, with_parameters(**option))


def test_a_loss_of_an_svm_needs_probabilities(tmp_path: Path) -> None:
    definition = changed(program="trainers/svm.py", metric={"name": "test_loss"}, parameters={"C": {"min": 1.0, "max": 9.0}})
    assert "an svm has a loss only with 'probability: {value: true}'" in refusal(tmp_path, definition)
    definition["parameters"]["probability"] = {"value": True}
    assert read_sweep(written(tmp_path, definition)).metric == "test_loss"


def test_a_fixed_value_of_the_command_line_is_checked_too(tmp_path: Path) -> None:
    assert "epochs must be greater than 0" in refusal(tmp_path, GOOD, epochs=0)
    assert "needs a hold-out" in refusal(tmp_path, GOOD, holdout=0)


def test_a_missing_file_gets_a_suggestion(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "softmax.yaml")
    with pytest.raises(UsageError, match=r"there is no such file; did you mean 'softmax.yaml'"):
        read_sweep(tmp_path / "sofmax.yaml")
    with pytest.raises(UsageError, match="there is no such file"):
        read_sweep(tmp_path / "nowhere" / "x.yaml")


def test_a_folder_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_sweep(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UsageError, match=r"cannot be read|not valid YAML"):
        read_sweep(tmp_path / "b.yaml")
