"""Read a W&B sweep YAML and check it; every fault is said at once, with its line.

Source of the grammar: W&B's documentation, "Define a sweep configuration" and "Sweep configuration options", and the schema
in W&B's own `sweeps` package 0.3.0.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from paretune.core.config import value_fits
from paretune.core.errors import UsageError, did_you_mean
from paretune.data.options import DataOptions
from paretune.models.contract import Model
from paretune.models.programs import program_model, shipped_model
from paretune.models.registry import MODELS, program_of
from paretune.models.run_config import RunOptions, configure, read_preset
from paretune.runs.sweep_outcome import SweepOutcome
from paretune.search.spec.hyperband import Hyperband, read_hyperband
from paretune.search.spec.scheduler import Scheduler, read_scheduler
from paretune.search.spec.search_options import KEYS as SETTINGS
from paretune.search.spec.search_options import SECONDS, Settings, read_settings
from paretune.search.spec.space import Space, read_space
from paretune.search.spec.yaml_lines import Definition, Place, number, read_definition, whole_number

TOP_LEVEL = (
    *("program", "command", "name", "description", "project", "entity", "method", "metric", "metrics", "parameters"),
    *("early_terminate", "run_cap", "scheduler", "controller"),
)
WITHOUT_EFFECT = ("apiVersion", "kind", "job", "image_uri")
METHODS = ("bayes", "random", "grid", "custom")
METRIC_KEYS = ("name", "goal", "target", "impute", "impute_while_running")
IMPUTE = ("worst", "best", "latest")
MACROS = (
    *("env", "interpreter", "program", "args", "args_no_equals", "args_no_hyphens", "args_no_boolean_flags"),
    *("args_json", "args_json_file", "args_append_hydra", "args_override_hydra"),
)
LARGEST_GRID = 1_000_000
PYTHON = re.compile(r"python[0-9.]*(\.exe)?")
DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")


@dataclass(frozen=True)
class Objective:
    """One metric of the sweep: its goal, the value at which the sweep ends, and what stands for runs without a value."""

    name: str
    goal: str = "minimize"
    target: float | None = None
    impute: str = "worst"
    impute_while_running: str = "false"

    def reached(self, value: float) -> bool:
        """Whether a value is as good as the target; false where there is none."""
        if self.target is None:
            return False
        return value <= self.target if self.goal == "minimize" else value >= self.target


@dataclass
class Sweep:
    """A checked sweep: what to train, what to search, what to look for."""

    path: Path
    name: str
    program: str
    command: tuple[str, ...]
    classifier: type[Model] | None  # None: a program of the person's own, started once per trial
    method: str
    objectives: tuple[Objective, ...]
    space: Space
    early_terminate: Hyperband | None = None
    run_cap: int | None = None
    project: str | None = None
    entity: str | None = None
    settings: Settings = field(default_factory=Settings)
    scheduler: Scheduler | None = None
    definition: dict[str, Any] = field(default_factory=dict)  # the YAML as it was read
    notes: list[str] = field(default_factory=list)  # what is accepted, and means something else offline

    @property
    def alone(self) -> str | None:
        """What makes the search ask for one trial after the other; None where several may be asked for at once."""
        return one_by_one(self.settings, self.objectives, scheduled=self.scheduler is not None)

    @property
    def blind(self) -> str | None:
        """What suggests without regard to any result, the method or the sampler; None for a search that learns."""
        return draws_blindly(self.method, self.settings)

    @property
    def metric(self) -> str:
        """The name of the first objective, by which a run's best epoch is found."""
        return self.objectives[0].name

    @property
    def goal(self) -> str:
        """The goal of the first objective."""
        return self.objectives[0].goal

    @property
    def goals(self) -> dict[str, str]:
        """The goal of every objective by its name."""
        return {objective.name: objective.goal for objective in self.objectives}

    def violations(self, config: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float]:
        """Return by how much a run with this epoch exceeds each constraint; infinity where that cannot be evaluated.

        What cannot be seen to hold does not.
        """
        known = {**self.space.fixed, **config, **self.space.flat(config), **row}
        found = {}
        for constraint in self.settings.constraints:
            try:
                violation = constraint.violation(known)
            except (TypeError, ValueError):
                violation = math.inf
            found[constraint.text] = math.inf if math.isnan(violation) else violation
        return found

    def judged(self, outcome: SweepOutcome, config: Mapping[str, Any], row: Mapping[str, Any] | None) -> SweepOutcome:
        """Return an outcome with the constraints that a run breaks at the row that counts; as it is without either."""
        if not self.settings.constraints or row is None:
            return outcome
        broken = tuple(text for text, violation in self.violations(config, row).items() if violation > 0)
        return replace(outcome, feasible=not broken, broken=broken)

    def default_values(self) -> dict[str, Any]:
        """Return the classifier's default configuration with the sweep's preset and fixed values; empty for other programs."""
        if self.classifier is None:
            return {}
        preset = self.space.fixed.get("preset")
        values = {} if preset is None else read_preset(str(preset))
        return {**self.classifier.Config().to_dict(), **DataOptions().to_dict(), **values, **self.space.fixed}


def read_sweep(path: Path | str, fixed: Mapping[str, Any] | None = None, *, text: str | None = None) -> Sweep:
    """Read and check a sweep file; `fixed` values are taken out of the search.

    Args:
        text: what the file holds, where it was sent from another machine; its program is then not looked for on this one.

    Raises:
        UsageError: a sentence for every fault, with the file, the line, the key, what must hold and what came.
    """
    definition = read_definition(Path(path), text)
    sweep = _read(definition, fixed or {})
    definition.check()
    assert sweep is not None
    return sweep


def _read(definition: Definition, fixed: Mapping[str, Any]) -> Sweep | None:
    given = definition.values
    for key in given:
        if key not in (*TOP_LEVEL, *WITHOUT_EFFECT):
            near = did_you_mean(str(key), TOP_LEVEL) or f"; there are {', '.join(TOP_LEVEL)}."
            near = ": it stands below controller.search." if key in SETTINGS else near
            definition.fault((str(key),), f"{key} is not a key of a sweep{near}")
    without = [key for key in WITHOUT_EFFECT if key in given]
    if without:
        definition.notes.append(
            f"{', '.join(without)} {'is' if len(without) == 1 else 'are'} W&B's alone, and without effect offline."
        )
    texts = {key: _text(definition, key) for key in ("name", "description", "project", "entity")}
    scheduler = read_scheduler(definition)
    method = _method(definition, scheduler)
    command = _command(definition)
    program, classifier = _program(definition, command)
    space = _space(definition, method, scheduler, fixed)
    metrics = _logged(classifier, space)
    needed = method in {"bayes", "custom"} or "early_terminate" in given
    objectives = _objectives(definition, classifier, metrics, needed=needed)
    settings = read_settings(definition, space, metrics, [objective.name for objective in objectives])
    early_terminate = read_hyperband(definition) if given.get("early_terminate") is not None else None
    run_cap = _run_cap(definition)
    if "metrics" in given and method != "custom":
        definition.notes.append(f"method {method} with several metrics is for the offline search; W&B wants method: custom there.")
    if scheduler is not None and early_terminate is not None:
        definition.notes.append("W&B refuses early_terminate beside a scheduler; offline both work.")
    if scheduler is not None and isinstance(given.get("controller"), Mapping) and given["controller"].get("type") == "local":
        definition.notes.append("W&B refuses controller.type local beside a scheduler; offline both work.")
    _note_no_effect(definition, method, settings, objectives, ours=classifier is not None, scheduled=scheduler is not None)
    if method == "grid":
        _check_grid(definition, space)
        space = space if definition.faults else space.as_grid()
    if classifier is not None:
        _check_against_config(definition, classifier, space, settings, fixed)
    elif settings.repeats > 1:
        definition.fault(
            ("controller", "search", "repeats"),
            "controller.search.repeats is for the trainers here, which run in this process: leave it out, and let a program of "
            "your own repeat its training and log the mean.",
        )
    _note_traps(definition, classifier)
    if definition.faults:
        return None
    return Sweep(
        path=definition.path,
        name=texts["name"] or definition.path.stem,
        program=program,
        command=command,
        classifier=classifier,
        method=method,
        objectives=objectives,
        space=space,
        early_terminate=early_terminate,
        run_cap=run_cap,
        project=texts["project"],
        entity=texts["entity"],
        settings=settings,
        scheduler=scheduler,
        definition=given,
        notes=definition.notes,
    )


def one_by_one(settings: Settings, objectives: Sequence[Objective], *, scheduled: bool) -> str | None:
    """Return what makes the search ask for one trial after the other; None where several may be asked for at once."""
    compared = [{objective.name for objective in objectives}, *(constraint.names for constraint in settings.constraints)]
    named = {
        "repeats": settings.repeats > 1,
        "stop": settings.patience is not None,
        "a target": any(objective.target is not None for objective in objectives),
        "the metric seconds": any(SECONDS in names for names in compared),  # which says nothing of trials that share the time
        "a scheduler": scheduled,
    }
    return next((name for name, holds in named.items() if holds), None)


def draws_blindly(method: str, settings: Settings) -> str | None:
    """Return what suggests without regard to any result, the method or the sampler; None for a search that learns."""
    if method in ("grid", "random"):
        return f"method {method}"
    return f"the sampler {settings.sampler}" if settings.sampler in ("random", "qmc") else None


def _note_no_effect(
    definition: Definition, method: str, settings: Settings, objectives: Sequence[Objective], *, ours: bool, scheduled: bool
) -> None:
    """Note what leaves `at_once` or `ahead` without effect."""
    alone, blind = one_by_one(settings, objectives, scheduled=scheduled), draws_blindly(method, settings)
    beside = {
        "at_once": (settings.at_once > 1, alone or (blind if ours else "a program of your own")),
        "ahead": (settings.ahead, alone or blind),
    }
    for name, (is_set, found) in beside.items():
        if is_set and found is not None:
            definition.notes.append(f"controller.search.{name} is without effect beside {found}.")


def _note_traps(definition: Definition, classifier: type[Model] | None) -> None:
    """Say of the parameters' values what YAML made of them; a trainer of ours has its own say on yes and no."""
    for place in definition.written:
        trap = definition.trap(place).removeprefix("; ")
        if place[0] == "parameters" and not (classifier is not None and "bare word" in trap):
            definition.note(place, f"{'.'.join(map(str, place))}: {trap}.")


def _came(value: Any) -> str:
    """Return what came in the words of a sentence: a key that is not there came as nothing."""
    return "nothing" if value is None else repr(value)


def _text(definition: Definition, key: str) -> str | None:
    value = definition.values.get(key)
    if value is None or isinstance(value, str):
        return value
    advice = definition.trap((key,)) or ": put it in quotes"
    definition.fault((key,), f"{key} must be a text. Got {value!r}{advice}.")
    return None


def _method(definition: Definition, scheduler: Scheduler | None) -> str:
    method = definition.values.get("method")
    if method not in METHODS:
        near = did_you_mean(str(method), METHODS) or "."
        definition.fault(("method",), f"method must be {' or '.join(METHODS)}. Got {_came(method)}{near}")
        return "bayes"
    if method == "custom" and "scheduler" not in definition.values:
        definition.fault(("method",), "method custom needs a scheduler, such as 'scheduler: {engine: optuna}'.")
    if method != "custom" and scheduler is not None and scheduler.engine == "optuna":
        definition.notes.append(
            f"method {method} beside scheduler.engine optuna is for the offline search; W&B wants method: custom."
        )
    return str(method)


def _command(definition: Definition) -> tuple[str, ...]:
    command = definition.values.get("command")
    if command is None or command == []:  # as to W&B's agent
        return DEFAULT_COMMAND
    if not isinstance(command, list):
        definition.fault(("command",), f"command must be a list such as [{', '.join(DEFAULT_COMMAND)}]. Got {command!r}.")
        return DEFAULT_COMMAND
    for index, part in enumerate(command):
        text = str(part)
        if text.startswith("${") and text.endswith("}") and not text.startswith("${envvar:") and text[2:-1] not in MACROS:
            near = did_you_mean(text[2:-1], MACROS) or f"; there are {', '.join(MACROS)} and envvar:NAME."
            definition.fault(("command", index), f"command: {text} is not a macro of W&B{near}")
    return tuple(str(part) for part in command)


def _program(definition: Definition, command: tuple[str, ...]) -> tuple[str, type[Model] | None]:
    """Return the program, and its classifier where it is a trainer of ours that runs in process."""
    program = definition.values.get("program")
    if not isinstance(program, str) or not program:
        if program is None and definition.elsewhere:
            return "", None  # agents that call a function need none
        if program is None and "command" in definition.values and "${program}" not in command:
            return "", None
        definition.fault(("program",), f"program must name the script to run, such as trainers/ann.py. Got {_came(program)}.")
        return "", None
    path = Path(program)
    trainers = [f"trainers/{name}.py" for name in MODELS]
    plain = "${program}" in command and all(part.startswith("${") and not part.startswith("${envvar:") for part in command)
    ours = shipped_model(program)
    if ours is None and plain and not definition.elsewhere and _is_file(path):
        try:
            return program, program_model(program)
        except UsageError as error:
            definition.fault(("program",), str(error))
            return program, None
    if ours is not None:
        if plain:
            return program, ours
        if not definition.elsewhere:  # an agent starts a process for each anyway
            definition.notes.append("command holds more than W&B's macros, so each trial is a process of its own.")
        return program, None
    if not definition.elsewhere and runs_file(command) and not _exists(path):
        beside = definition.path.parent / path
        if _is_file(beside):
            definition.fault(
                ("program",),
                f"program {program!r} is no file seen from {os.getcwd()}, where it is run from; {beside} is one: start this from "
                f"{definition.path.parent}, or write 'program: {os.path.relpath(beside)}'.",
            )
            return program, None
        near = did_you_mean(program, trainers) or f"; the trainers here are {', '.join(trainers)}."
        definition.fault(("program",), f"program {program!r} is no file seen from {os.getcwd()}{near}")
    return program, None


def runs_file(command: Sequence[str]) -> bool:
    """Whether `command` certainly hands its program to an interpreter as the path of a file.

    A program may also be a module (`-m ${program}`), a command (`${program}` alone), or a label that `command` does not use.
    """
    place = list(command).index("${program}") if "${program}" in command else 0
    before = [part for part in command[:place] if not part.startswith("-") or part in ("-m", "-c")]
    return bool(before) and (before[-1] == "${interpreter}" or PYTHON.fullmatch(Path(before[-1]).name) is not None)


def _exists(path: Path) -> bool:
    try:
        return path.exists()  # a folder or an archive that holds a __main__.py runs as well
    except (OSError, ValueError):
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def _space(definition: Definition, method: str, scheduler: Scheduler | None, fixed: Mapping[str, Any]) -> Space:
    parameters = definition.values.get("parameters")
    own_space = scheduler is not None and scheduler.search_space is not None
    if own_space and parameters is None:
        return Space(fixed=dict(fixed))
    if not isinstance(parameters, Mapping) or not parameters:
        definition.fault(("parameters",), f"parameters must be a mapping with at least one parameter. Got {_came(parameters)}.")
        return Space()
    space = read_space(definition, parameters)
    if own_space and space.parameters:
        definition.notes.append("scheduler.search_space says what is searched; of the parameters only fixed values count.")
        space.parameters.clear()
    for name, value in fixed.items():
        space.fix(name, value)
    if method == "bayes" and not space.parameters and not definition.faults and not fixed:
        definition.fault(("parameters",), "parameters must hold one that is searched; all have a fixed value here.")
    return space


def _check_grid(definition: Definition, space: Space) -> None:
    for name in space.uncountable():
        definition.fault(
            place_of(space.parameters[name].path),
            f"parameters.{name} has no countable values; method grid needs values (without probabilities), whole numbers, or a "
            "bounded distribution with q.",
        )
    count = math.prod(float(parameter.n_values()) for parameter in space.parameters.values() if parameter.n_values() < math.inf)
    if count > LARGEST_GRID:
        definition.fault(
            ("parameters",),
            f"a grid may hold {LARGEST_GRID:,} combinations at most. Got about {count:,.0f}: give fewer values, or write "
            "method: random.",
        )


def _logged(classifier: type[Model] | None, space: Space) -> list[str] | None:
    """Return the metrics that a trainer of ours logs with the fixed values, None where nobody knows them."""
    if classifier is None:
        return None
    try:
        preset = space.fixed.get("preset")
        values = {**({} if preset is None else read_preset(str(preset))), **space.fixed}
        known = {key: value for key, value in values.items() if key in classifier.Config.model_fields}
        return classifier.metric_names(classifier.Config.from_dict(known))
    except UsageError:  # said where the fixed values are checked
        return classifier.metric_names(classifier.Config())


def _objectives(
    definition: Definition, classifier: type[Model] | None, metrics: list[str] | None, *, needed: bool
) -> tuple[Objective, ...]:
    given = definition.values
    if "metric" in given and "metrics" in given:
        definition.fault(("metrics",), "metrics and metric cannot stand in one file: keep one of the two.")
    if "metrics" in given:
        several = given["metrics"]
        if not isinstance(several, list) or len(several) < 2:
            definition.fault(("metrics",), f"metrics must be a list of at least two; one alone is 'metric'. Got {several!r}.")
            return (Objective("f1", "maximize"),)
        found = [_objective(definition, item, ("metrics", index), classifier, metrics) for index, item in enumerate(several)]
        names = [objective.name for objective in found if objective is not None]
        for name in sorted({name for name in names if names.count(name) > 1}):
            definition.fault(("metrics",), f"metrics names {name} twice: each objective stands once.")
        return tuple(objective for objective in found if objective is not None) or (Objective("f1", "maximize"),)
    if given.get("metric") is None and not needed:
        if classifier is not None:
            return (Objective("f1", "maximize"),)
        definition.notes.append("no metric is named, so trials are ranked by their run time, W&B's _runtime.")
        return (Objective("_runtime"),)
    return (_objective(definition, given.get("metric"), ("metric",), classifier, metrics) or Objective("f1", "maximize"),)


def _objective(
    definition: Definition, given: Any, place: Place, classifier: type[Model] | None, metrics: list[str] | None
) -> Objective | None:
    where = ".".join(map(str, place))
    if not isinstance(given, Mapping):
        why = "" if given is not None or "early_terminate" not in definition.values else ", as early_terminate compares runs by it"
        definition.fault(place, f"{where} must be a mapping with name and goal{why}. Got {_came(given)}.")
        return None
    name = given.get("name")
    if not isinstance(name, str):
        definition.fault((*place, "name"), f"{where}.name must be the name of a metric. Got {_came(name)}.")
    for key in given:
        if key not in METRIC_KEYS:
            near = did_you_mean(str(key), METRIC_KEYS) or f"; there are {', '.join(METRIC_KEYS)}."
            definition.fault((*place, str(key)), f"{where}.{key} is not a key of a metric{near}")
    goal = given.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        near = did_you_mean(str(goal), ("minimize", "maximize")) or "."
        definition.fault((*place, "goal"), f"{where}.goal must be minimize or maximize. Got {goal!r}{near}")
    target = None
    if given.get("target") is not None:
        target = number(definition, given["target"], (*place, "target"), f"{where}.target")
    impute, while_running = given.get("impute", "worst"), given.get("impute_while_running", "false")
    while_running = "false" if while_running is False else while_running
    if impute not in IMPUTE:
        definition.fault((*place, "impute"), f"{where}.impute must be {' or '.join(IMPUTE)}. Got {impute!r}.")
    if while_running not in (*IMPUTE, "false"):
        choices = " or ".join((*IMPUTE, "'false'"))
        definition.fault(
            (*place, "impute_while_running"), f"{where}.impute_while_running must be {choices}. Got {while_running!r}."
        )
    if not isinstance(name, str):
        return None
    if classifier is not None and metrics is not None and name not in metrics:
        hint = did_you_mean(name, metrics) or f"; there are {', '.join(metrics)}."
        if classifier.name == "svm" and name.endswith("_loss"):
            hint = "; an svm has a loss only with 'probability: {value: true}' among the parameters."
        definition.fault((*place, "name"), f"{where}.name {name!r} is not logged by {program_of(classifier)}{hint}")
    return Objective(name, str(goal), None if target is None else float(target), str(impute), str(while_running))


def _run_cap(definition: Definition) -> int | None:
    cap = definition.values.get("run_cap")
    return None if cap is None else whole_number(definition, cap, ("run_cap",), "run_cap")


def place_of(path: tuple[str, ...]) -> Place:
    """Return where a parameter stands in the file."""
    place: Place = ()
    for name in path:
        place = (*place, "parameters", name)
    return place


def _check_against_config(
    definition: Definition, classifier: type[Model], space: Space, settings: Settings, fixed: Mapping[str, Any]
) -> None:
    """Hold every name and value against the trainer's own checks."""
    fields = {**classifier.Config.model_fields, **DataOptions.model_fields, **RunOptions.model_fields}
    tops = dict.fromkeys([*(parameter.path[0] for parameter in space.parameters.values()), *space.fixed])
    for name in {**tops, **_faulty(definition)}:
        if name not in fields:
            near = did_you_mean(name, fields) or f"; 'python {program_of(classifier)} --help' lists them."
            definition.fault(
                ("parameters", name),
                f"parameters.{name} is not a hyper-parameter of {program_of(classifier)}{near}",
            )
    before = len(definition.faults)
    for name in [name for name in tops if name in fields]:
        _check_values(definition, space, name, fields[name], fixed)
    if len(definition.faults) > before:
        return
    where = "the command line" if fixed else "parameters"
    try:
        known = {name: value for name, value in space.fixed.items() if name in fields}
        searched_parts = {parameter.path[0] for parameter in space.parameters.values() if len(parameter.path) > 1}
        _, data, _ = configure(classifier, {name: value for name, value in known.items() if name not in searched_parts})
    except UsageError as error:
        definition.fault(("parameters",), f"{where}: {error}")
        return
    ends = {name: parameter.ends() for name, parameter in space.parameters.items()}
    if data.curves_on_test and definition.values.get("method") == "grid" and "early_terminate" not in definition.values:
        definition.notes.append("the runs' curves are of the locked test part: they are for drawing, and no run is chosen by them.")
    elif data.evaluation_split != "holdout" or 0 in ends.get("holdout", []) or True in ends.get("curves_on_test", []):
        definition.fault(
            ("parameters", "curves_on_test" if data.curves_on_test or True in ends.get("curves_on_test", []) else "holdout"),
            "a sweep chooses, so it needs a hold-out. Got holdout=0 or curves_on_test, which would choose on the locked part "
            "(a grid without early_terminate compares only, and may draw curves_on_test).",
        )
    if settings.repeats > 1:
        _check_repeats(definition, space, settings, classifier)


def _faulty(definition: Definition) -> dict[str, None]:
    """Return the names of parameters that have faults, and so are in no space: the name itself may be another fault."""
    parameters = definition.values.get("parameters")
    lines = {line for line, _ in definition.faults}
    places = [place for place in definition.lines if place[:1] == ("parameters",) and definition.lines[place] in lines]
    names = {str(place[1]) for place in places if len(place) > 1}
    return {name: None for name in parameters if name in names} if isinstance(parameters, Mapping) else {}


def _check_repeats(definition: Definition, space: Space, settings: Settings, classifier: type[Model]) -> None:
    name = {"seeds": "seed", "folds": "fold"}[settings.over]
    if name in space.parameters:
        definition.fault(
            ("controller", "search", "repeats"), f"parameters.{name} is searched, so repeats over {settings.over} cannot set it."
        )
    if settings.over == "folds" and space.fixed.get("n_folds") not in {None, settings.repeats}:
        definition.fault(
            ("parameters", "n_folds"), f"parameters.n_folds must be the {settings.repeats} of controller.search.repeats, or away."
        )


def _check_values(definition: Definition, space: Space, top: str, field_info: Any, fixed: Mapping[str, Any]) -> None:
    """Check one top-level name of the trainer: each choice or both ends of a range, or what its nested parts make up."""
    parts = [parameter for parameter in space.parameters.values() if parameter.path[0] == top]
    whole = [parameter for parameter in parts if len(parameter.path) == 1]
    if whole:
        listed = (
            definition.values["parameters"][top].get("values") if isinstance(definition.values.get("parameters"), Mapping) else None
        )
        for value in whole[0].ends():
            place: Place = ("parameters", top)
            if isinstance(listed, list) and value in listed:
                place = (*place, "values", listed.index(value))
            _check_value(definition, place, f"parameters.{top}", top, field_info, value)
        return
    candidates: list[Any] = []
    for end in (0, -1):
        drawn = {parameter.name: parameter.encode(parameter.ends()[end]) for parameter in parts}
        candidates.append(Space({p.name: p for p in parts}, space.fixed).decode(drawn)[top])
    place = ("parameters", top)
    if not parts and top not in fixed:
        place = (*place, "value")
    for value in candidates[: 1 if candidates[0] == candidates[-1] else 2]:
        where = f"{top}, fixed on the command line" if top in fixed else f"parameters.{top}"
        _check_value(definition, place, where, top, field_info, value)


def _check_value(definition: Definition, place: Place, where: str, name: str, field_info: Any, value: Any) -> None:
    fault = value_fits(name, field_info, value)
    if fault:
        trap = definition.trap(place)
        if not trap and place[-1:] != ("value",) and isinstance(value, str):
            trap = next((definition.trap(p) for p in definition.written if p[: len(place)] == place), "")
        definition.fault(place, f"{where}: {fault.rstrip('.') + trap + '.' if trap else fault}")
