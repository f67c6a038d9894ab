"""Every sweep that W&B takes is read, and whatever is wrong in a file gets its sentence, with its line, all at once."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any

import optuna
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field
from pydantic.fields import FieldInfo

from paretune.core.errors import UsageError
from paretune.models.registry import MODELS
from paretune.search.sampling.slot_sampler import draw
from paretune.search.spec.space import read_space
from paretune.search.spec.sweep import TOP_LEVEL, WITHOUT_EFFECT, Objective, Sweep, _check_values, read_sweep
from paretune.search.spec.yaml_lines import Definition
from tests.samples import ROOT

FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
MALFORMED_FILES = Path(__file__).parent / "malformed"
GOOD: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "bayes",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"learning_rate": {"min": 0.01, "max": 0.1}, "epochs": {"value": 2}},
}
# The top level of W&B's own schema, sweeps/config/schema.json of its package sweeps 0.3.0.
WANDB_KEYS = {
    *("apiVersion", "kind", "controller", "description", "program", "job", "image_uri", "entity", "project", "method"),
    *("command", "name", "run_cap", "metric", "metrics", "scheduler", "early_terminate", "parameters"),
}


def written(folder: Path, text: str | dict[str, Any], name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False))
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
    assert all(line.startswith(f"{path}:") for line in sentence.splitlines())
    return sentence


# Ours


@pytest.mark.parametrize("name", MODELS)
def test_every_classifier_has_its_sweep(name: str) -> None:
    assert any(getattr(read_sweep(path).classifier, "name", None) == name for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_sweep_of_ours_is_read(path: Path) -> None:
    sweep = read_sweep(path)
    assert sweep.space.distributions
    assert sweep.run_cap
    assert sweep.notes == []
    assert not sweep.space.outside(sweep.default_values()), "the default configuration shall be the first trial"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_sweep_of_ours_holds_only_what_wandb_knows(path: Path) -> None:
    definition = yaml.safe_load(path.read_text())
    assert set(definition) <= WANDB_KEYS
    assert ("scheduler" in definition) == (definition["method"] == "custom")
    assert (ROOT / definition["program"]).is_file()
    assert ("metric" in definition) != ("metrics" in definition)
    assert all(set(metric) == {"name", "goal"} for metric in definition.get("metrics", [definition.get("metric", {})]))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_corner_of_our_search_spaces_builds(path: Path) -> None:
    from paretune.models.run_config import configure

    sweep = read_sweep(path)
    assert sweep.classifier is not None
    for pick in (0, -1):
        drawn = {name: parameter.encode(parameter.ends()[pick]) for name, parameter in sweep.space.parameters.items()}
        configure(sweep.classifier, sweep.space.decode(drawn))


# As W&B's documentation writes them, "Define a sweep configuration" and "Sweep configuration options"

EXAMPLES = {
    "basic": """
program: train.py
name: sweepdemo
method: bayes
metric:
  goal: minimize
  name: validation_loss
parameters:
  learning_rate:
    min: 0.0001
    max: 0.1
  batch_size:
    values: [16, 32, 64]
  epochs:
    values: [5, 10, 15]
  optimizer:
    values: ["adam", "sgd"]
""",
    "nested": """
program: train.py
method: bayes
metric: {name: val_loss, goal: minimize}
parameters:
  optimizer:
    parameters:
      learning_rate:
        values: [0.01, 0.001]
      momentum:
        value: 0.9
""",
    "hyperband": """
program: train.py
method: bayes
metric:
  goal: maximize
  name: val_acc
  target: 0.99
early_terminate:
  type: hyperband
  s: 2
  eta: 3
  max_iter: 27
parameters:
  parameter1: {min: 1, max: 20}
""",
    "distributions": """
program: train.py
method: random
metric: {name: val_loss, goal: minimize}
parameters:
  parameter1: {distribution: normal, mu: 100, sigma: 10}
  parameter2: {distribution: log_uniform_values, min: 0.001, max: 1}
  parameter3: {values: [1, 2, 3], probabilities: [0.5, 0.3, 0.2]}
  parameter4: {distribution: q_log_uniform_values, q: 8, min: 32, max: 256}
  parameter5: {distribution: constant, value: 0.5}
""",
    "grid": "program: train.py\nmethod: grid\nparameters:\n  a: {values: [1, 2]}\n  b: {distribution: q_uniform, min: 0, max: 4}\n",
    "command": """
program: train.py
method: random
metric: {name: val_loss}
command: ["${env}", python3, "${program}", "${args_no_hyphens}", "--name=${envvar:NAME}"]
parameters:
  parameter1: {min: 0.0, max: 1.0}
""",
    "several-objectives": """
program: train.py
method: custom
scheduler: {engine: optuna}
metrics:
  - {name: val_loss, goal: minimize}
  - {name: val_acc, goal: maximize, target: 0.9}
parameters:
  parameter1: {min: 0.0, max: 1.0}
""",
    "search-section": """
program: train.py
method: bayes
metric: {name: val_loss, goal: minimize}
controller:
  type: local
  search:
    sampler: {name: tpe, multivariate: true}
    conditions: {momentum: "optimizer == 'sgd'"}
    constraints: ["latency <= 0.1"]
    stop: {trials: 20, improvement: 0.001}
parameters:
  optimizer: {values: [sgd, adam]}
  momentum: {min: 0.0, max: 0.9}
""",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_sweep_like_those_of_wandbs_documentation_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    sweep = read_sweep(written(tmp_path, EXAMPLES[name]))
    assert sweep.classifier is None
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), directions=["minimize"] * len(sweep.objectives))
    for _ in range(5):
        values = draw(study.ask(), sweep)
        assert sweep.space.outside(values) == []


# The top level


def test_every_key_of_wandbs_schema_is_known() -> None:
    assert {*TOP_LEVEL, *WITHOUT_EFFECT} == WANDB_KEYS


def test_every_key_of_wandbs_schema_is_accepted(tmp_path: Path) -> None:
    others = {"apiVersion": "v1", "kind": "sweep", "job": "j", "image_uri": "u", "description": "d", "run_cap": 5, "name": "mine"}
    others |= {"project": "p", "entity": "e", "command": ["${env}", "${interpreter}", "${program}", "${args}"]}
    others |= {"early_terminate": {"type": "hyperband", "min_iter": 3}, "controller": {"type": "cloud"}}
    several = [{"name": "f1", "goal": "maximize"}, {"name": "n_parameters"}]
    rest: dict[str, Any] = {"method": "custom", "scheduler": {"engine": "optuna"}, "metric": ..., "metrics": several}
    given = changed(**others)
    assert set(given) | set(rest) == WANDB_KEYS
    sweep = read_sweep(written(tmp_path, given))
    assert (sweep.name, sweep.method, sweep.metric, sweep.goal, sweep.run_cap) == ("mine", "bayes", "f1", "maximize", 5)
    assert (sweep.project, sweep.entity) == ("p", "e")
    assert sweep.space.fixed == {"epochs": 2}
    assert sweep.notes == ["apiVersion, kind, job, image_uri are W&B's alone, and without effect offline."]
    custom = read_sweep(written(tmp_path, changed(**others, **rest)))
    assert custom.goals == {"f1": "maximize", "n_parameters": "minimize"}
    assert "W&B refuses early_terminate beside a scheduler; offline both work." in custom.notes


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("metod", "; did you mean 'method'?"),
        ("paramters", "; did you mean 'parameters'?"),
        ("early_termination", "; did you mean 'early_terminate'?"),
        ("sampler", ": it stands below controller.search."),
        ("zzz", "; there are program, command, name,"),
        (True, "; there are program"),
    ],
)
def test_another_key_is_refused_with_what_is_near(tmp_path: Path, key: Any, hint: str) -> None:
    assert f"{key} is not a key of a sweep{hint}" in refusal(tmp_path, {**GOOD, key: 1})


def test_a_sweep_without_a_name_takes_its_files(tmp_path: Path) -> None:
    assert read_sweep(written(tmp_path, GOOD, "mine.yaml")).name == "mine"


def test_the_goal_is_minimize_where_the_file_gives_none(tmp_path: Path) -> None:
    assert read_sweep(written(tmp_path, changed(metric={"name": "test_loss"}))).goal == "minimize"


def test_a_metric_has_all_that_wandb_gives_it(tmp_path: Path) -> None:
    metric = {"name": "f1", "goal": "maximize", "target": 1, "impute": "latest", "impute_while_running": "best"}
    objective = read_sweep(written(tmp_path, changed(metric=metric))).objectives[0]
    assert objective == Objective("f1", "maximize", 1.0, "latest", "best")
    assert (objective.reached(1.0), objective.reached(0.99)) == (True, False)
    assert read_sweep(written(tmp_path, changed(metric={**metric, "impute_while_running": False}))).objectives[0] == Objective(
        "f1", "maximize", 1.0, "latest", "false"
    )


def test_a_target_to_minimize_is_reached_from_above() -> None:
    objective = Objective("test_loss", "minimize", 0.5)
    assert (objective.reached(0.5), objective.reached(0.51)) == (True, False)
    assert not Objective("test_loss").reached(-1e9)


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_grid_and_a_random_search_need_no_metric(tmp_path: Path, method: str) -> None:
    definition = changed(method=method, metric=..., parameters={"batch_size": {"values": [8, 16]}})
    assert read_sweep(written(tmp_path, definition)).metric == "f1"


def test_a_sweep_of_functions_sent_from_elsewhere_needs_no_program(tmp_path: Path) -> None:
    values = {key: value for key, value in GOOD.items() if key != "program"}
    assert read_sweep(tmp_path / "sent.yaml", text=yaml.safe_dump(values)).program == ""
    with pytest.raises(UsageError, match="program must name the script"):
        read_sweep(written(tmp_path, values))


def test_who_starts_processes_anyway_is_not_told_so(tmp_path: Path) -> None:
    values = {**GOOD, "command": ["/usr/bin/python3", "${program}", "${args}"]}
    note = "command holds more than W&B's macros, so each trial is a process of its own."
    assert note in read_sweep(written(tmp_path, values)).notes
    assert note not in read_sweep(tmp_path / "sent.yaml", text=yaml.safe_dump(values)).notes


def test_a_program_of_ones_own_without_a_metric_is_ranked_by_its_time(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("")
    definition = changed(method="random", metric=..., program=str(tmp_path / "own.py"), parameters={"x": {"values": [1, 2]}})
    sweep = read_sweep(written(tmp_path, definition))
    assert sweep.objectives == (Objective("_runtime"),)
    assert sweep.notes == ["no metric is named, so trials are ranked by their run time, W&B's _runtime."]


def test_several_metrics_beside_another_method_are_noted(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, changed(metric=..., metrics=[{"name": "f1", "goal": "maximize"}, {"name": "seconds"}])))
    assert sweep.goals == {"f1": "maximize", "seconds": "minimize"}
    assert sweep.notes == ["method bayes with several metrics is for the offline search; W&B wants method: custom there."]


def test_a_search_space_of_ones_own_needs_no_parameters(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def space(trial):\n    return {'learning_rate': trial.suggest_float('learning_rate', 0.1, 1)}\n"
    )
    scheduler = {"engine": "optuna", "source": "own.py", "search_space": "space"}
    sweep = read_sweep(written(tmp_path, changed(method="custom", scheduler=scheduler, parameters=...)))
    assert sweep.space.parameters == {}
    sweep = read_sweep(written(tmp_path, changed(method="custom", scheduler=scheduler)), {"data": "mnist"})
    assert sweep.space.parameters == {}
    assert sweep.space.fixed == {"epochs": 2, "data": "mnist"}
    assert sweep.scheduler is not None
    values_of = sweep.scheduler.space_of()
    values = draw(optuna.create_study().ask(), sweep, values_of)
    assert sorted(values) == ["data", "epochs", "learning_rate"]


# Programs and commands


@pytest.mark.parametrize("program", ["trainers/ann.py", "./trainers/ann.py", str(ROOT / "trainers" / "ann.py")])
def test_a_trainer_of_ours_runs_in_process(tmp_path: Path, program: str) -> None:
    sweep = read_sweep(written(tmp_path, changed(program=program)))
    assert sweep.classifier is not None
    assert sweep.classifier.name == "ann"


def test_a_command_that_holds_more_than_macros_starts_processes(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, changed(command=["${env}", "nice", "${interpreter}", "${program}", "${args}"])))
    assert sweep.classifier is None
    assert sweep.command == ("${env}", "nice", "${interpreter}", "${program}", "${args}")
    assert sweep.notes == ["command holds more than W&B's macros, so each trial is a process of its own."]


def test_a_command_without_a_program_needs_none(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, changed(program=..., command=["./train", "${args}"])))
    assert (sweep.program, sweep.classifier) == ("", None)


@pytest.mark.parametrize(
    "macro",
    [
        *("env", "interpreter", "program", "args", "args_no_equals", "args_no_hyphens", "args_no_boolean_flags"),
        *("args_json", "args_json_file", "args_append_hydra", "args_override_hydra", "envvar:HOME"),
    ],
)
def test_every_macro_of_wandb_is_known(tmp_path: Path, macro: str) -> None:
    assert read_sweep(written(tmp_path, changed(command=["${program}", f"${{{macro}}}"]))).command[1] == f"${{{macro}}}"


def test_a_program_of_ones_own_may_have_any_parameters(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("")
    definition = changed(program=str(tmp_path / "own.py"), metric={"name": "latency"}, parameters={"depth": {"min": 1, "max": 3}})
    sweep = read_sweep(written(tmp_path, definition))
    assert (sweep.classifier, sweep.metric, sweep.default_values()) == (None, "latency", {})


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ("{value: 1e-4}", "{path}:5: parameters.a.value: YAML reads 1e-4 as text: write 0.0001."),
        (
            "{values: [010, 020]}",
            "{path}:5: parameters.a.values.0: YAML reads 010 as 8: write 8 if that is meant, a text in quotes.",
        ),
        ("{values: [yes, maybe]}", "{path}:5: parameters.a.values.0: YAML reads the bare word yes as True: write 'yes'."),
    ],
)
def test_what_yaml_makes_of_a_value_is_noted_where_nobody_can_say_it_is_wrong(tmp_path: Path, given: str, note: str) -> None:
    (tmp_path / "own.py").write_text("")
    text = (
        f"program: {tmp_path / 'own.py'}\nmethod: random\nmetric: {{name: x}}\nparameters:\n  a: {given}\n  b: {{min: 1, max: 2}}\n"
    )
    path = written(tmp_path, text)
    assert note.format(path=path) in read_sweep(path).notes


# Fixed values


@pytest.mark.parametrize(("low", "high", "fits"), [(1, 3, True), (1, 4, False), (0, 3, False), (0, 0, False)])
def test_both_ends_of_a_nested_parameter_are_checked_with_the_field_that_it_is_in(low: int, high: int, fits: bool) -> None:
    field = FieldInfo(annotation=dict[str, Annotated[int, Field(ge=1, le=3)]])
    parameters = {"layers": {"parameters": {"depth": {"min": low, "max": high}}}}
    definition = Definition(Path("a.yaml"), {"parameters": parameters})
    _check_values(definition, read_space(definition, parameters), "layers", field, {})
    assert (definition.faults == []) is fits


def test_fixed_values_leave_the_search(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, with_parameters(batch_size={"values": [8, 16]})), {"learning_rate": 0.05, "data": "mnist"})
    assert list(sweep.space.distributions) == ["batch_size"]
    assert sweep.space.fixed == {"epochs": 2, "learning_rate": 0.05, "data": "mnist"}


def test_a_fixed_value_of_the_command_line_is_checked_too(tmp_path: Path) -> None:
    assert "epochs must be greater than 0" in refusal(tmp_path, GOOD, epochs=0)
    assert "needs a hold-out" in refusal(tmp_path, GOOD, holdout=0)


# Conditions, drawn


def test_what_does_not_exist_is_neither_drawn_nor_handed_over(tmp_path: Path) -> None:
    conditions = {"momentum": "optimizer == 'sgd'", "label_smoothing": "momentum > 0.5"}
    definition = with_parameters(
        label_smoothing={"min": 0.0, "max": 0.2}, momentum={"min": 0.0, "max": 0.9}, optimizer={"values": ["sgd", "adam"]}
    )
    sweep = read_sweep(written(tmp_path, {**definition, "controller": {"type": "local", "search": {"conditions": conditions}}}))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(40):
        trial = study.ask()
        values = draw(trial, sweep)
        assert set(values) == {*trial.params, "epochs"}
        assert ("momentum" in values) == (values["optimizer"] == "sgd")
        assert ("label_smoothing" in values) == (values.get("momentum", 0) > 0.5)
        seen.add(frozenset(values))
    assert len(seen) == 3


# Faults

MALFORMED: dict[str, list[tuple[int, str]]] = {  # file -> every fault: its line (0: what is missing has none), its words
    "01-number-as-text": [
        (7, "parameters.learning_rate.min must be a number. Got the text '1e-4'; YAML reads it as text:"),
        (8, "parameters.learning_rate.max must be a number. Got the text '1e-1'; YAML reads it as text:"),
    ],
    "02-yes-and-on": [
        (3, "name must be a text. Got True; YAML reads the bare word on as True: write 'on'."),
        (7, "parameters.optimizer: optimizer must be 'sgd', 'adam', 'adamw', 'nadam', 'radam', 'adamax',"),
        (9, "parameters.learning_rate.min must be a number. Got True; YAML reads the bare word yes as True."),
    ],
    "03-tab": [
        (5, "a tab begins something here; YAML indents with spaces only: replace it by spaces."),
    ],
    "04-written-twice": [
        (9, "parameters.epochs is written twice (first on line 5); YAML keeps the last: remove one."),
        (11, "method is written twice (first on line 2); YAML keeps the last: remove one."),
    ],
    "05-octal": [
        (6, "parameters.batch_size.min must be a number that reads one way only; YAML reads 010 as 8: write"),
        (7, "parameters.batch_size.max must be a number that reads one way only; YAML reads 064 as 52: write"),
    ],
    "06-sexagesimal": [
        (7, "parameters.learning_rate.max must be a number that reads one way only; YAML reads 1:30 as 90:"),
    ],
    "07-misspelt-at-every-level": [
        (0, "method must be bayes or random or grid or custom. Got nothing."),
        (2, "metod is not a key of a sweep; did you mean 'method'?"),
        (3, "metric.name must be the name of a metric. Got nothing."),
        (4, "metric.nam is not a key of a metric; did you mean 'name'?"),
        (5, "metric.goal must be minimize or maximize. Got 'maximise'; did you mean 'maximize'?"),
        (7, "parameters.learning_rat is not a hyper-parameter of trainers/softmax.py; did you mean"),
        (8, "parameters.learning_rat.mim is not a key of a parameter; did you mean 'min'?"),
        (10, "early_terminate needs min_iter, the epoch of the first comparison, or max_iter and s."),
        (12, "early_terminate.min_itr is not a key of hyperband; did you mean 'min_iter'?"),
        (16, "controller.search.smapler is not a key of controller.search; did you mean 'sampler'?"),
    ],
    "08-min-above-max": [
        (5, "parameters.learning_rate: min must not be above max. Got 0.5 and 0.1: exchange them."),
        (7, "parameters.batch_size: min must not be above max. Got 64 and 8: exchange them."),
    ],
    "09-missing-max": [
        (5, "parameters.learning_rate must hold value, values, or min and max, or name a distribution. Got min."),
        (7, "parameters.momentum.max is missing: uniform needs min and max."),
    ],
    "10-unknown-distribution": [
        (6, "parameters.learning_rate.distribution 'loguniform' is not known; did you mean 'log_uniform'?"),
        (10, "parameters.momentum.distribution 'gauss' is not known; there are constant, categorical,"),
    ],
    "11-wrong-probabilities": [
        (7, "parameters.optimizer.probabilities must be 0 or more and add up to 1. Got [0.5, 0.4], which add"),
        (10, "parameters.batch_size.probabilities must be a list of 3 numbers, one for each value. Got [0.5, 0.5]."),
    ],
    "12-hyperband": [
        (7, "early_terminate.type must be hyperband. Got 'hyperbnd'; did you mean 'hyperband'?"),
        (8, "early_terminate.min_iter must be a whole number of at least 1. Got 0."),
        (9, "early_terminate.eta must be a number above 1. Got 1."),
        (10, "early_terminate.strict must be true or false, without quotes. Got 'yes'."),
    ],
    "13-hyperband-without-start": [
        (6, "early_terminate needs min_iter, the epoch of the first comparison, or max_iter and s."),
    ],
    "14-unknown-hyper-parameter": [
        (6, "parameters.lr is not a hyper-parameter of trainers/softmax.py; 'python trainers/softmax.py"),
        (8, "parameters.bacth_size is not a hyper-parameter of trainers/softmax.py; did you mean 'batch_size'?"),
    ],
    "15-outside-the-trainers-limits": [
        (5, "parameters.momentum: momentum must be less than 1. Got 1.5."),
        (11, "parameters.batch_size: batch_size must be greater than 0. Got 0."),
        (13, "parameters.epochs: epochs must be greater than 0. Got -3."),
    ],
    "16-metric-not-logged": [
        (4, "metric.name 'F1' is not logged by trainers/softmax.py; there are train_loss, train_accuracy,"),
    ],
    "17-no-such-program": [
        (1, "program 'trainers/an.py' is no file seen from "),
    ],
    "18-metric-and-metrics": [
        (5, "metrics and metric cannot stand in one file: keep one of the two."),
    ],
    "19-one-of-several-metrics": [
        (2, "method custom needs a scheduler, such as 'scheduler: {engine: optuna}'."),
        (3, "metrics must be a list of at least two; one alone is 'metric'. Got [{'name': 'f1', 'goal':"),
    ],
    "20-nested": [
        (8, "parameters.dropout.parameters.rate: min must not be above max. Got 0.5 and 0.1: exchange them."),
        (10, "parameters.dropout.parameters.spot.parameters must be a mapping with at least one parameter. Got {}."),
        (12, "parameters.dropout.values cannot stand beside nested parameters: move it inside, or remove it."),
    ],
    "21-sampler-and-repeats": [
        (8, "controller.type must be cloud or local, or W&B refuses the file. Got 'remote'."),
        (10, "controller.search.sampler: 'tep' is not a sampler; did you mean 'tpe'?"),
        (13, "controller.search.repeats.seeds must be a whole number from 2 to 100. Got 1."),
        (14, "controller.search.stop must be a mapping with trials (and improvement). Got {'improvement': '1e-3'}."),
    ],
    "22-conditions": [
        (12, "controller.search.conditions.momentum speaks of sgd, which is no parameter here; a text stands"),
        (13, "controller.search.conditions.momentun is not a searched parameter; did you mean 'momentum'?"),
        (14, "controller.search.conditions.optimizer may hold names, numbers, texts, lists, comparisons, and,"),
        (16, "controller.search.constraints.0 speaks of n_parameter, which is no parameter or metric here;"),
        (17, "controller.search.constraints.1 must compare two sides by <=, <, >= or >, such as 'n_parameters"),
    ],
    "23-circle": [
        (11, "controller.search.conditions.optimizer depends on itself: break the circle."),
        (12, "controller.search.conditions.momentum depends on itself: break the circle."),
    ],
    "24-scheduler": [
        (5, "scheduler.engine must be optuna or ax or wandb. Got 'optnua'; did you mean 'optuna'?"),
        (6, "scheduler.sorce is not a key of scheduler; did you mean 'source'?"),
    ],
    "25-scheduler-without-source": [
        (6, "scheduler.source 'not_there.py' is neither here nor beside the sweep file."),
    ],
    "26-custom-without-scheduler": [
        (2, "method custom needs a scheduler, such as 'scheduler: {engine: optuna}'."),
    ],
    "27-empty": [
        (1, "a sweep must be a mapping with program, method, metric and parameters. Got an empty file."),
    ],
    "28-list": [
        (1, "a sweep must be a mapping with program, method, metric and parameters. Got a list."),
    ],
    "29-unclosed-bracket": [
        (6, "a list '[' is opened here and not closed in its place (line 7: expected ',' or ']', but got ':')."),
    ],
    "30-anchor-in-itself": [
        (4, "an anchor that begins here is used inside itself: remove that."),
    ],
    "31-not-utf-8": [
        (0, "cannot be read as UTF-8 text: save it with the encoding UTF-8."),
    ],
    "32-run-cap": [
        (1, "run_cap must be a whole number of at least 1. Got 0."),
    ],
    "33-goal": [
        (5, "metric.goal must be minimize or maximize. Got 'up'."),
        (6, "metric.target must be a number. Got the text 'high'."),
        (7, "metric.impute must be worst or best or latest. Got 'mean'."),
        (8, "metric.impute_while_running must be worst or best or latest or 'false'. Got True."),
    ],
    "34-nothing-but-a-program": [
        (0, "method must be bayes or random or grid or custom. Got nothing."),
        (0, "parameters must be a mapping with at least one parameter. Got nothing."),
        (0, "metric must be a mapping with name and goal. Got nothing."),
    ],
    "35-flat-parameters": [
        (5, "parameters.learning_rate must be a mapping such as 'value: 3' or 'values: [1, 2]'. Got 0.1."),
        (6, "parameters.batch_size must be a mapping such as 'value: 3' or 'values: [1, 2]'. Got [8, 16]."),
    ],
    "36-grid-without-end": [
        (5, "parameters.learning_rate has no countable values; method grid needs values (without"),
        (8, "parameters.optimizer has no countable values; method grid needs values (without probabilities),"),
    ],
    "37-grid-too-large": [
        (4, "a grid may hold 1,000,000 combinations at most. Got about 4,000,000: give fewer values, or"),
    ],
    "38-no-hold-out": [
        (6, "a sweep chooses, so it needs a hold-out. Got holdout=0 or curves_on_test, which would choose on"),
    ],
    "39-command": [
        (3, "command: ${interpretr} is not a macro of W&B; did you mean 'interpreter'?"),
    ],
    "40-colon-in-a-text": [
        (2, "not valid YAML (mapping values are not allowed here; a text that holds ': ' stands in quotes,"),
    ],
    "41-wandb-key-in-wrong-place": [
        (4, "sampler is not a key of a sweep: it stands below controller.search."),
        (6, "parameters.learning_rate.log is not a key of a parameter; there are a, b, distribution, max,"),
        (7, "parameters.epochs.value does not belong to uniform, which takes min, max: remove it."),
    ],
    "42-logarithm-of-zero": [
        (7, "parameters.learning_rate.min must be above 0 for log_uniform_values. Got 0."),
        (11, "parameters.momentum: min and max of log_uniform are exponents of e, so they must lie between"),
    ],
    "43-undefined-anchor": [
        (5, "not valid YAML (found undefined alias 'rate')."),
    ],
    "44-value-kept-in-a-list": [
        (1, "program must name the script to run, such as trainers/ann.py. Got ['trainers/softmax.py']."),
        (4, "project must be a text. Got 3: put it in quotes."),
    ],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_every_fault_of_a_file_is_said_at_once_with_its_line(name: str) -> None:
    path = MALFORMED_FILES / f"{name}.yaml"
    with pytest.raises(UsageError) as error:
        read_sweep(path)
    found = str(error.value).splitlines()
    expected = [f"{path}{f':{line}' if line else ''}: {words}" for line, words in MALFORMED[name]]
    assert len(found) == len(expected)
    assert [sentence[: len(start)] for sentence, start in zip(found, expected, strict=True)] == expected
    assert all(sentence.endswith((".", "?")) for sentence in found)


def test_every_malformed_file_is_in_the_table() -> None:
    assert {path.stem for path in MALFORMED_FILES.iterdir()} == set(MALFORMED)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\u2028b", "\ud800"])
def test_a_sentence_stays_on_its_line_whatever_a_key_holds(tmp_path: Path, name: str) -> None:
    sentence = refusal(tmp_path, changed(**{name: 1}, run_cap=0))
    assert len(sentence.splitlines()) == 2
    assert sentence.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        (changed(program=...), "program must name the script to run, such as trainers/ann.py. Got nothing."),
        (changed(program="x" * 5000), "is no file seen from"),
        (changed(program="\0/ann.py"), "is no file seen from"),
        (changed(program=3), "program must name the script"),
        (changed(method="bays"), "Got 'bays'; did you mean 'bayes'?"),
        (changed(method=["bayes"]), "method must be bayes or random or grid or custom. Got ['bayes']"),
        (changed(metric="f1"), "metric must be a mapping with name and goal. Got 'f1'."),
        (changed(metric={"name": ["f1"]}), "metric.name must be the name of a metric. Got ['f1']."),
        (changed(metric={"name": "f1", "goal": ["up"]}), "metric.goal must be minimize or maximize. Got ['up']"),
        (changed(metric={"name": "f1", "impute": {}}), "metric.impute must be worst or best or latest. Got {}."),
        (changed(metric=..., metrics=3), "metrics must be a list of at least two; one alone is 'metric'. Got 3."),
        (changed(metric=..., metrics=[{"name": "f1"}, {"name": "f1"}]), "metrics names f1 twice: each objective stands once."),
        (changed(metric=..., metrics=[{"name": "f1"}, 3]), "metrics.1 must be a mapping with name and goal. Got 3."),
        (changed(parameters={}), "parameters must be a mapping with at least one parameter. Got {}."),
        (changed(parameters=[1]), "parameters must be a mapping with at least one parameter. Got [1]."),
        (changed(parameters={"epochs": {"value": 2}}), "parameters must hold one that is searched; all have a fixed value here."),
        (changed(run_cap="5"), "run_cap must be a whole number of at least 1. Got '5'."),
        (changed(run_cap=True), "run_cap must be a whole number of at least 1. Got True."),
        (changed(name=["a"]), "name must be a text. Got ['a']: put it in quotes."),
        (changed(command="python train.py"), "command must be a list such as [${env}, ${interpreter}, ${program}, ${args}]."),
        (with_parameters(hidden={"value": [3]}), "parameters.hidden is not a hyper-parameter of trainers/softmax.py"),
        (with_parameters(batch_size={"min": 1.5, "max": 8.0}), "parameters.batch_size: batch_size must be a valid integer"),
        (with_parameters(optimizer={"values": ["sgd", "adm"]}), "parameters.optimizer: optimizer must be"),
        (with_parameters(epochs={"value": 0}), "epochs must be greater than 0. Got 0."),
        (with_parameters(curves_on_test={"value": True}), "a sweep chooses, so it needs a hold-out."),
        (with_parameters(data={"value": 3}), "data must be a valid string. Got 3."),
        (with_parameters(batch_size={"distribution": "normal", "mu": -8}), "batch_size must be"),
    ],
)
def test_an_unfit_part_is_refused_in_words(tmp_path: Path, definition: dict[str, Any], sentence: str) -> None:
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
    sentence = refusal(tmp_path, with_parameters(**option))
    assert "needs a hold-out" in sentence
    line = next(i for i, text in enumerate((tmp_path / "a.yaml").read_text().splitlines(), 1) if next(iter(option)) in text)
    assert f":{line}: " in sentence


def test_a_loss_of_an_svm_needs_probabilities(tmp_path: Path) -> None:
    definition = changed(program="trainers/svm.py", metric={"name": "test_loss"}, parameters={"C": {"min": 1.0, "max": 9.0}})
    assert "an svm has a loss only with 'probability: {value: true}'" in refusal(tmp_path, definition)
    definition["parameters"]["probability"] = {"value": True}
    assert read_sweep(written(tmp_path, definition)).metric == "test_loss"


def test_repeats_set_what_is_not_searched(tmp_path: Path) -> None:
    search = {"controller": {"type": "local", "search": {"repeats": {"folds": 3}}}}
    assert "parameters.fold is searched, so repeats over folds cannot set it." in refusal(
        tmp_path, {**with_parameters(fold={"values": [0, 1]}, n_folds={"value": 3}), **search}
    )
    assert "parameters.n_folds must be the 3 of controller.search.repeats, or away." in refusal(
        tmp_path, {**with_parameters(n_folds={"value": 5}), **search}
    )
    assert read_sweep(written(tmp_path, {**GOOD, **search})).settings.repeats == 3


# Nothing but sentences: whatever the file holds


def sweep_or_sentence(path: Path) -> Sweep | None:
    try:
        return read_sweep(path)
    except UsageError as error:
        sentences = str(error)
    assert sentences
    assert all(line.startswith(str(path)) for line in sentences.splitlines())
    return None


WORDS = [*TOP_LEVEL, "values", "value", "min", "max", "distribution", "q", "mu", "sigma", "a", "b", "probabilities", "name", "goal"]
WORDS += [
    "hyperband",
    "type",
    "min_iter",
    "max_iter",
    "s",
    "eta",
    "strict",
    "search",
    "sampler",
    "conditions",
    "constraints",
    "stop",
]
WORDS += [
    "repeats",
    "trials",
    "seeds",
    "folds",
    "improvement",
    "engine",
    "source",
    "optuna",
    "optimizer",
    "learning_rate",
    "grid",
    "bayes",
]
WORDS += [
    "trainers/ann.py",
    "f1",
    "normal",
    "q_normal",
    "q_uniform",
    "log_uniform",
    "beta",
    "int_uniform",
    "constant",
    "preset",
    "target",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(WORDS)
    | st.sampled_from(
        [10**400, -(10**17), 1e308, -1e308, 5e-324, "1e-4", "1e999", "optimizer == 'sgd'", "${args}", "\0", "x" * 400]
    )
    | st.binary(max_size=3)
    | st.dates()
)
NODES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
FUZZ = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
FULL: dict[str, Any] = {
    **GOOD,
    "command": ["${env}", "${interpreter}", "${program}", "${args}"],
    "run_cap": 3,
    "early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 3, "strict": True},
    "parameters": {
        "optimizer": {"values": ["sgd", "adam"]},
        "momentum": {"distribution": "q_uniform", "min": 0.0, "max": 0.9, "q": 0.1},
        "learning_rate": {"distribution": "log_normal", "mu": -3, "sigma": 1},
        "weight_decay": {"values": [0.0, 0.1], "probabilities": [0.5, 0.5]},
        "epochs": {"value": 2},
    },
    "controller": {
        "type": "local",
        "search": {
            "sampler": {"name": "tpe", "n_startup_trials": 3},
            "conditions": {"momentum": "optimizer == 'sgd'"},
            "constraints": ["n_parameters <= 1e6"],
            "repeats": {"seeds": 2},
            "stop": {"trials": 3, "improvement": 0.1},
        },
    },
}


def places_of(node: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place, *(found for key, value in inner for found in places_of(value, (*place, key)))]


def test_what_is_changed_below_is_a_valid_sweep(tmp_path: Path) -> None:
    assert read_sweep(written(tmp_path, FULL)).settings.repeats == 2


@FUZZ
@given(data=st.data())
def test_a_sweep_in_which_anything_is_replaced_by_anything_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    definition = copy.deepcopy(FULL)
    definition["method"] = data.draw(st.sampled_from(["bayes", "random", "grid", "custom"]))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places_of(definition)[1:]))
        node: Any = definition
        for step in place[:-1]:
            node = node[step]
        node[place[-1]] = data.draw(NODES)
    sweep = sweep_or_sentence(written(tmp_path, definition))
    if sweep is not None and sweep.method != "grid":  # what is accepted can be drawn
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        draw(study.ask(), sweep)
    elif sweep is not None:
        assert next(sweep.space.combinations(), None) is not None


@FUZZ
@given(definition=st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), NODES, max_size=6) | NODES)
def test_any_structure_is_read_or_refused(tmp_path: Path, definition: Any) -> None:
    sweep_or_sentence(written(tmp_path, yaml.safe_dump(definition, allow_unicode=True)))


@FUZZ
@given(
    text=st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))
    | st.binary(max_size=60)
    | st.lists(
        st.sampled_from([*"[]{}:-?&*!|>'\"%@`#,\n\t ", "a", "&x ", "*x", "<<: ", "!!int ", "!!bool ", "- ", ": ", "\n  ", "1e-4"]),
        max_size=25,
    )
    .map("".join)
    .map(str.encode)
)
def test_any_file_is_read_or_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text)
    sweep_or_sentence(path)
