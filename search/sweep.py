"""Read a W&B sweep YAML and check it: every check and every error message of the grammar lives here and in space.py.

Source of the grammar: W&B's documentation, "Define a sweep configuration" and "Sweep configuration options".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.hyperband import Hyperband, read_hyperband
from search.space import Space, read_space
from trainers import CLASSIFIERS, classifier_class
from trainers.base import Classifier
from trainers.command_line import RunOptions, configure, read_preset
from trainers.config import value_fits
from trainers.data import DataOptions
from trainers.errors import UsageError, did_you_mean

TOP_LEVEL = {
    "program",
    "command",
    "name",
    "description",
    "project",
    "entity",
    "method",
    "metric",
    "metrics",
    "parameters",
    "early_terminate",
    "run_cap",
    "scheduler",
}
WITHOUT_EFFECT = {"apiVersion", "kind", "controller", "job", "image_uri"}
METHODS = ("bayes", "random", "grid")


@dataclass
class Sweep:
    """A checked sweep: what to train, what to search, what to look for."""

    path: Path
    name: str
    classifier: type[Classifier]
    method: str
    metric: str
    goal: str
    space: Space
    early_terminate: Hyperband | None
    run_cap: int | None
    project: str | None
    entity: str | None
    definition: dict[str, Any]  # the YAML as it was read

    def default_values(self) -> dict[str, Any]:
        """Return the classifier's default configuration with the sweep's preset and fixed values."""
        preset = self.space.fixed.get("preset")
        values = {} if preset is None else read_preset(str(preset))
        return {**self.classifier.Config().to_dict(), **DataOptions().to_dict(), **values, **self.space.fixed}


def read_sweep(path: Path | str, fixed: Mapping[str, Any] | None = None) -> Sweep:
    """Read and check a sweep file; `fixed` values are taken out of the search.

    Raises:
        UsageError: one sentence with the file, the key, what must hold and what came.
    """
    path = Path(path)
    definition = read_definition(path)
    where = str(path)
    for key in definition:
        if key not in TOP_LEVEL | WITHOUT_EFFECT:
            raise UsageError(f"{where}: {key} is not a key of a sweep{did_you_mean(str(key), TOP_LEVEL) or '.'}")
    classifier = _classifier(definition, where)
    method = definition.get("method")
    if method not in METHODS:
        near = did_you_mean(str(method), METHODS) or f"; there are {', '.join(METHODS)}."
        raise UsageError(f"{where}: method must be {' or '.join(METHODS)}. Got {method!r}{near}")
    if "metrics" in definition or "scheduler" in definition:
        key = "metrics" if "metrics" in definition else "scheduler"
        raise UsageError(f"{where}: {key} is not searched offline yet; give one metric. The Pareto front needs no more than that.")
    parameters = definition.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters:
        raise UsageError(f"{where}: parameters must be a mapping with at least one parameter. Got {parameters!r}.")
    space = read_space(parameters, where)
    for name, value in (fixed or {}).items():
        space.fix(name, value)
    metric, goal = _metric(definition, classifier, space, where, required=method == "bayes" or "early_terminate" in definition)
    sweep = Sweep(
        path=path,
        name=str(definition.get("name") or path.stem),
        classifier=classifier,
        method=method,
        metric=metric,
        goal=goal,
        space=space,
        early_terminate=read_hyperband(definition["early_terminate"], where) if "early_terminate" in definition else None,
        run_cap=_run_cap(definition, where),
        project=definition.get("project"),
        entity=definition.get("entity"),
        definition=definition,
    )
    _check_against_config(sweep, where)
    return sweep


def read_definition(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file."""
    import yaml

    try:
        definition = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = did_you_mean(path.name, [file.name for file in path.parent.glob("*.yaml")]) if path.parent.is_dir() else ""
        raise UsageError(f"{path}: there is no such file{near or '; give the path of a sweep YAML.'}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise UsageError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', None) or 'unreadable'}).") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}).") from None
    if not isinstance(definition, dict):
        raise UsageError(f"{path}: a sweep must be a mapping with program, method, metric and parameters.")
    return definition


def _classifier(definition: Mapping[str, Any], where: str) -> type[Classifier]:
    program = definition.get("program")
    if not isinstance(program, str):
        raise UsageError(f"{where}: program must name the trainer, such as trainers/ann.py. Got {program!r}.")
    name = Path(program).stem
    if name not in CLASSIFIERS:
        near = did_you_mean(program, [f"trainers/{known}.py" for known in CLASSIFIERS]) or f"; there are {', '.join(CLASSIFIERS)}."
        raise UsageError(f"{where}: program {program!r} is not a trainer that runs in process{near}")
    return classifier_class(name)


def _metric(
    definition: Mapping[str, Any], classifier: type[Classifier], space: Space, where: str, *, required: bool
) -> tuple[str, str]:
    given = definition.get("metric")
    if given is None and not required:
        return "f1", "maximize"
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise UsageError(f"{where}: metric must be a mapping with name and goal. Got {given!r}.")
    goal = given.get("goal", "minimize")
    if goal not in {"minimize", "maximize"}:
        raise UsageError(f"{where}: metric.goal must be minimize or maximize. Got {goal!r}.")
    preset = space.fixed.get("preset")
    try:
        values = {**({} if preset is None else read_preset(str(preset))), **space.fixed}
        known = {key: value for key, value in values.items() if key in classifier.Config.model_fields}
        names = classifier.metric_names(classifier.Config.from_dict(known))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    name = given["name"]
    if name not in names:
        hint = did_you_mean(name, names) or f"; there are {', '.join(names)}."
        if classifier.name == "svm" and name.endswith("_loss"):
            hint = "; an svm has a loss only with 'probability: {value: true}' among the parameters."
        raise UsageError(f"{where}: metric.name {name!r} is not logged by trainers/{classifier.name}.py{hint}")
    return name, goal


def _run_cap(definition: Mapping[str, Any], where: str) -> int | None:
    cap = definition.get("run_cap")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise UsageError(f"{where}: run_cap must be a whole number of at least 1. Got {cap!r}.")
    return cap


def _check_against_config(sweep: Sweep, where: str) -> None:
    """Hold every name and value against the trainer's own checks."""
    fields = {**sweep.classifier.Config.model_fields, **DataOptions.model_fields, **RunOptions.model_fields}
    for name in [*sweep.space.distributions, *sweep.space.fixed]:
        if name not in fields:
            raise UsageError(
                f"{where}: parameters.{name} is not a hyper-parameter of trainers/{sweep.classifier.name}.py"
                f"{did_you_mean(name, fields) or '.'}"
            )
    searched: dict[str, list[Any]] = {}  # every choice, or both ends of a range
    for name, distribution in sweep.space.distributions.items():
        if name in sweep.space.choices:
            values: list[Any] = sweep.space.choices[name]
        elif hasattr(distribution, "choices"):
            values = list(distribution.choices)
        else:
            values = [distribution.low, distribution.high]  # type: ignore[attr-defined]
        for value in values:
            fault = value_fits(name, fields[name], value)
            if fault:
                raise UsageError(f"{where}: parameters.{name}: {fault}")
        searched[name] = values
    try:
        _, data, _ = configure(sweep.classifier, sweep.space.fixed)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if data.evaluation_split != "holdout" or 0 in searched.get("holdout", []) or True in searched.get("curves_on_test", []):
        raise UsageError(
            f"{where}: a sweep chooses, so it needs a hold-out. Got holdout=0 or curves_on_test, "
            "which would choose on the locked part."
        )
