"""What the offline search takes beyond W&B's grammar: sampler, conditions, constraints, repeats, stop, trial_timeout and others.

W&B's schema refuses unknown keys at the top level of a sweep, but lets any pass inside `controller` beside `type`. Ours stand
in `controller.search`, so that one file serves both: W&B does not act on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paretune.core.errors import did_you_mean
from paretune.core.quoted_names import doubtful_names, quoted
from paretune.search.duration import seconds_of
from paretune.search.sampling.sampler_options import check_sampler
from paretune.search.spec.expression import Expression, read_constraint, read_expression
from paretune.search.spec.space import Space
from paretune.search.spec.yaml_lines import Definition, Place, check_keys

KEYS = ("sampler", "conditions", "constraints", "repeats", "stop", "at_once", "ahead", "trial_timeout")
PLACE: Place = ("controller", "search")
SECONDS = "seconds"  # the metric that depends on what else trains at the same time
MOST_AT_ONCE = 32  # the gain of more is small, and an interrupt waits for all of them


@dataclass(frozen=True)
class Settings:
    """How the offline search goes about a sweep.

    `repeats` trainings make one trial, by other seeds or by other folds (`over`); a study stops when neither its best
    value nor its hypervolume has moved by more than `improvement` for `patience` trials. A sampler that learns suggests `at_once`
    trials that may train as one program before the first of them has ended; with `ahead`, the next trial while one trains. A trial
    that takes longer than `trial_timeout` seconds fails.
    """

    sampler: str = "auto"
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    constraints: tuple[Expression, ...] = ()
    repeats: int = 1
    over: str = "seeds"
    patience: int | None = None
    improvement: float = 0.0
    at_once: int = 1
    ahead: bool = False
    trial_timeout: float | None = None


def read_settings(definition: Definition, space: Space, metrics: list[str] | None, objectives: Sequence[str] = ()) -> Settings:
    """Read `controller`; conditions go to the space, faults to the definition.

    Args:
        metrics: the names that the trainer logs, None where nobody knows them.
        objectives: the names of the sweep's own metrics.
    """
    controller = definition.values.get("controller")
    if controller is None:
        return Settings()
    if not isinstance(controller, Mapping):
        definition.fault(("controller",), f"controller must be a mapping with type: cloud or local. Got {controller!r}.")
        return Settings()
    if controller.get("type") not in ("cloud", "local"):
        definition.fault(
            ("controller", "type"),
            f"controller.type must be cloud or local, or W&B refuses the file. Got {controller.get('type')!r}.",
        )
    given = controller.get("search")
    check_keys(definition, controller, ("type", "search"), ("controller",), "controller")
    if given is None:
        return Settings()
    if not isinstance(given, Mapping):
        definition.fault(PLACE, f"controller.search must be a mapping with {', '.join(KEYS)}. Got {given!r}.")
        return Settings()
    check_keys(definition, given, KEYS, PLACE, "controller.search")
    definition.notes.append("controller.search is for the offline search; W&B lets it pass and does not act on it.")
    sampler, options = _sampler(definition, given.get("sampler", "auto"))
    _read_conditions(definition, space, given.get("conditions"))
    constraints = _constraints(definition, space, given.get("constraints"), metrics, objectives)
    repeats, over = _repeats(definition, given.get("repeats"))
    patience, improvement = _stop(definition, given.get("stop"))
    at_once, ahead = _at_once(definition, given.get("at_once", 1)), _ahead(definition, given.get("ahead", False))
    timeout = _trial_timeout(definition, given.get("trial_timeout"))
    return Settings(sampler, options, constraints, repeats, over, patience, improvement, at_once, ahead, timeout)


def _sampler(definition: Definition, given: Any) -> tuple[str, dict[str, Any]]:
    place = (*PLACE, "sampler")
    name, options = given, {}
    if isinstance(given, Mapping):
        options = {str(key): value for key, value in given.items() if key != "name"}
        name = given.get("name")
    metrics = definition.values.get("metrics")
    fault = check_sampler(name, options, n_objectives=len(metrics) if isinstance(metrics, list) else 1)
    if fault:
        definition.fault(place, f"controller.search.sampler: {fault}")
        return "auto", {}
    return str(name), options


def _read_conditions(definition: Definition, space: Space, given: Any) -> None:
    place = (*PLACE, "conditions")
    if given is None:
        return
    if not isinstance(given, Mapping):
        definition.fault(place, f"controller.search.conditions must be a mapping of parameters to expressions. Got {given!r}.")
        return
    known = _known(definition, space)
    for written, text in given.items():
        here, key = (*place, str(written)), str(written).strip("`")
        if key not in space.parameters and key in known and key not in _names_in(space.fixed):
            continue  # it has a fault of its own
        if key not in space.parameters:
            outer = any(name.startswith(f"{key}.") for name in space.parameters)
            if outer or key not in known:  # what the command line fixed exists without condition
                near = did_you_mean(str(key), space.parameters) or "."
                definition.fault(here, f"controller.search.conditions.{key} is not a searched parameter{near}")
            continue
        expression = _expression(definition, here, text, known)
        if expression is not None:
            space.conditions[key] = expression
    for name in _circle(space):
        definition.fault((*place, name), f"controller.search.conditions.{name} depends on itself: break the circle.")


def _expression(
    definition: Definition,
    place: Place,
    text: Any,
    known: list[str],
    *,
    constraint: bool = False,
    anything: bool = False,  # whether a program of the person's own may log other names
) -> Expression | None:
    where = ".".join(map(str, place))
    try:
        expression = (read_constraint if constraint else read_expression)(text, known)
    except ValueError as error:
        definition.fault(place, f"{where} {error}")
        return None
    if constraint and not expression.names:
        definition.fault(place, f"{where} must speak of a metric or a parameter, such as 'n_parameters <= 1e6'. Got {text!r}.")
        return None
    for name in () if anything else sorted(expression.names - set(known)):
        near = did_you_mean(quoted(name), map(quoted, known)) or f"; a text stands in quotes: '{name}'."
        definition.fault(place, f"{where} speaks of {name}, which is no parameter{' or metric' if constraint else ''} here{near}")
        return None
    return expression


def _circle(space: Space) -> list[str]:
    """Return the parameters whose conditions lead back to themselves."""

    def leads_to(name: str) -> set[str]:
        reached: set[str] = set()
        waiting = {name}
        while waiting:
            named = set().union(*(space.conditions[other].names for other in waiting)) & set(space.conditions)
            waiting = named - reached
            reached |= named
        return reached

    return [name for name in space.conditions if name in leads_to(name)]


def _known(definition: Definition, space: Space) -> list[str]:
    """Return the names of parameters, also of those that have faults and so are in no space: a second fault would be false."""
    written = definition.values.get("parameters")
    return list(dict.fromkeys([*space.parameters, *_names_in(space.fixed), *_names_written(written)]))


def _names_written(parameters: Any, outer: str = "") -> list[str]:
    """Return the names of the parameters of a file, and of those nested in them with points between."""
    names = []
    for name, given in parameters.items() if isinstance(parameters, Mapping) else ():
        names.append(f"{outer}{name}")
        if isinstance(given, Mapping):
            names += _names_written(given.get("parameters"), f"{outer}{name}.")
    return names


def _names_in(fixed: Mapping[str, Any], outer: str = "") -> list[str]:
    """Return the names of fixed values, and of those nested in them with points between."""
    names = []
    for name, value in fixed.items():
        names.append(f"{outer}{name}")
        if isinstance(value, Mapping):
            names += _names_in(value, f"{outer}{name}.")
    return names


def _constraints(
    definition: Definition, space: Space, given: Any, metrics: list[str] | None, objectives: Sequence[str]
) -> tuple[Expression, ...]:
    place = (*PLACE, "constraints")
    if given is None:
        return ()
    if not isinstance(given, list):
        definition.fault(place, f"controller.search.constraints must be a list such as ['n_parameters <= 1e6']. Got {given!r}.")
        return ()
    read = []
    for index, text in enumerate(given):
        here, known = (*place, index), [*_known(definition, space), *(metrics or objectives)]
        expression = _expression(definition, here, text, known, constraint=True, anything=metrics is None)
        for name in doubtful_names(text, known) if expression is not None and metrics is None else ():
            definition.note(here, f"{'.'.join(map(str, here))} calculates {name}; a metric of that name is written {quoted(name)}.")
        read.append(expression)
    return tuple(expression for expression in read if expression is not None)


def _repeats(definition: Definition, given: Any) -> tuple[int, str]:
    place = (*PLACE, "repeats")
    if given is None:
        return 1, "seeds"
    if not isinstance(given, Mapping) or len(given) != 1 or next(iter(given)) not in ("seeds", "folds"):
        definition.fault(place, f"controller.search.repeats must be 'seeds: K' or 'folds: K'. Got {given!r}.")
        return 1, "seeds"
    over, count = next(iter(given.items()))
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= 100:
        definition.fault((*place, over), f"controller.search.repeats.{over} must be a whole number from 2 to 100. Got {count!r}.")
        return 1, "seeds"
    return count, str(over)


def _at_once(definition: Definition, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_AT_ONCE:
        definition.fault(
            (*PLACE, "at_once"), f"controller.search.at_once must be a whole number from 1 to {MOST_AT_ONCE}. Got {given!r}."
        )
        return 1
    return given


def _ahead(definition: Definition, given: Any) -> bool:
    if not isinstance(given, bool):
        place = (*PLACE, "ahead")
        definition.fault(place, f"controller.search.ahead must be true or false. Got {given!r}{definition.trap(place)}.")
        return False
    return given


def _trial_timeout(definition: Definition, given: Any) -> float | None:
    place = (*PLACE, "trial_timeout")
    seconds = None if place in definition.written else seconds_of(given)
    if given is not None and seconds is None:
        came = f"Got {given!r}{definition.trap(place)}."
        definition.fault(place, f"controller.search.trial_timeout must be seconds, or a time such as 90s, 10m or 2h. {came}")
    return seconds


def _stop(definition: Definition, given: Any) -> tuple[int | None, float]:
    place = (*PLACE, "stop")
    if given is None:
        return None, 0.0
    if not isinstance(given, Mapping) or "trials" not in given:
        definition.fault(place, f"controller.search.stop must be a mapping with trials (and improvement). Got {given!r}.")
        return None, 0.0
    check_keys(definition, given, ("trials", "improvement"), place, "controller.search.stop")
    trials, improvement = given["trials"], given.get("improvement", 0.0)
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        definition.fault((*place, "trials"), f"controller.search.stop.trials must be a whole number of at least 1. Got {trials!r}.")
        return None, 0.0
    if isinstance(improvement, bool) or not isinstance(improvement, int | float) or not 0 <= improvement < math.inf:
        trap = definition.trap((*place, "improvement"))
        definition.fault(
            (*place, "improvement"),
            f"controller.search.stop.improvement must be a number of at least 0. Got {improvement!r}{trap}.",
        )
        return None, 0.0
    return trials, float(improvement)
