"""The `parameters` of a sweep: what is searched, what is fixed, what exists only under a condition.

To Optuna a space is `dict[str, BaseDistribution]`; nested parameters are joined by points there, and nested again in the
values that a trainer gets.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paretune.core.errors import did_you_mean
from paretune.search.spec.distributions import (
    Choices,
    Parameter,
    Path,
    Quantile,
    Weighted,
    beta,
    int_uniform,
    log_normal,
    log_uniform,
    normal,
    q_log_uniform,
    q_uniform,
    uniform,
)
from paretune.search.spec.json_values import as_json, value_fault
from paretune.search.spec.yaml_lines import Definition, Place, check_keys, number, number_in_yaml

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from paretune.search.spec.expression import Expression

RANGE = ("min", "max")
KEYS: dict[str, tuple[str, ...]] = {  # what each distribution takes, beside `distribution`
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
    "int_uniform": RANGE,
    "uniform": RANGE,
    "q_uniform": (*RANGE, "q"),
    "log_uniform": RANGE,
    "log_uniform_values": RANGE,
    "q_log_uniform": (*RANGE, "q"),
    "q_log_uniform_values": (*RANGE, "q"),
    "inv_log_uniform": RANGE,
    "inv_log_uniform_values": RANGE,
    "normal": ("mu", "sigma"),
    "q_normal": ("mu", "sigma", "q"),
    "log_normal": ("mu", "sigma"),
    "q_log_normal": ("mu", "sigma", "q"),
    "beta": ("a", "b"),
    "q_beta": ("a", "b", "q"),
}
EXPONENTS = ("log_uniform", "q_log_uniform", "inv_log_uniform")  # their limits are exponents; those of NAME_values are values
DEFAULTS = {"q": 1.0, "mu": 0.0, "sigma": 1.0, "a": 1.0, "b": 1.0}
ABOVE_ZERO = {"q", "sigma", "a", "b"}
LARGEST_EXPONENT = 700  # exp(710) is no float any more
LARGEST_DRAWN = 2**53  # beyond it a float no longer tells neighbours apart, and Optuna keeps whole numbers as floats
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")  # of a parameter, as W&B's schema has it


@dataclass
class Space:
    """What is searched (`parameters`, by name), what is `fixed`, and the `conditions` under which a parameter exists."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, Expression] = field(default_factory=dict)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The searched parameters as Optuna draws them, by name."""
        return {name: parameter.distribution for name, parameter in self.parameters.items()}

    def decode(self, drawn: Mapping[str, Any], exact: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the real values of what was drawn, nested, with the fixed ones; those of `exact` as they stand there."""
        values = _copied(self.fixed)
        for name, draw in drawn.items():
            parameter = self.parameters[name]
            _put(values, parameter.path, exact[name] if exact and name in exact else parameter.decode(draw))
        return values

    def encode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return real, nested values as Optuna keeps them; only of searched names that exist under their conditions."""
        flat = self.flat(values)
        return {
            name: parameter.encode(flat[name])
            for name, parameter in self.parameters.items()
            if name in flat and self.exists(name, flat) and parameter.contains(flat[name])
        }

    def inexact(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those real values, by name, that their draw gives back only nearly: numbers drawn by their quantile."""
        flat = self.flat(values)
        draws = {name: draw for name, draw in self.encode(values).items() if isinstance(self.parameters[name], Quantile)}
        return {name: flat[name] for name, draw in draws.items() if self.parameters[name].decode(draw) != flat[name]}

    def flat(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by the names of the searched parameters and of the fixed top-level ones."""
        found = {name: value for name, value in values.items() if name not in self.parameters}
        for name, parameter in self.parameters.items():
            there, value = _get(values, parameter.path)
            if there:
                found[name] = value
        return found

    def exists(self, name: str, flat: Mapping[str, Any]) -> bool:
        """Whether a parameter exists beside these values."""
        condition = self.conditions.get(name)
        return condition is None or condition.holds(flat)

    def fix(self, name: str, value: Any) -> None:
        """Take a parameter (a nested one with all its parts) out of the search and give it one value."""
        if name in self.parameters:  # by its full name, with points where it is nested
            _put(self.fixed, self.parameters.pop(name).path, value)
            self.conditions.pop(name, None)
            return
        for known in [known for known, parameter in self.parameters.items() if parameter.path[0] == name]:
            del self.parameters[known]
            self.conditions.pop(known, None)
        self.fixed[name] = value

    def outside(self, values: Mapping[str, Any]) -> list[str]:
        """Return the searched names that exist under their conditions and whose value the space does not hold."""
        flat = self.flat(values)
        return [
            name
            for name, parameter in self.parameters.items()
            if self.exists(name, flat) and (name not in flat or not parameter.contains(flat[name]))
        ]

    def in_order(self) -> list[str]:
        """Return the searched names so that each comes after those that its condition speaks of."""
        ordered: list[str] = []
        waiting = list(self.parameters)
        while waiting:
            ready = [n for n in waiting if n not in self.conditions or not (self.conditions[n].names & set(waiting) - {n})]
            ordered += ready or waiting  # a circle is refused when the file is read
            waiting = [name for name in waiting if name not in ordered]
        return ordered

    def uncountable(self) -> list[str]:
        """Return the searched names that no grid can go through."""
        return [name for name, parameter in self.parameters.items() if parameter.n_values() == math.inf]

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of draws, by sorted names with the last changing fastest, as W&B orders them.

        Combinations that differ only in parameters which do not exist beside the rest come once.
        """
        ordered = sorted(self.parameters.values(), key=lambda parameter: parameter.path)
        seen: set[tuple[tuple[str, Any], ...]] = set()
        for row in itertools.product(*(parameter.choices for parameter in ordered)):  # type: ignore[attr-defined]
            drawn = dict(zip((parameter.name for parameter in ordered), row, strict=True))
            if self.conditions:
                drawn = self.existing(drawn)
                key = tuple(drawn.items())
                if key in seen:
                    continue
                seen.add(key)
            yield drawn

    def existing(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out the draws of parameters that do not exist beside the rest."""
        flat = dict(self.fixed.items())
        kept = {}
        for name in self.in_order():
            if self.exists(name, flat):
                kept[name] = drawn[name]
                flat[name] = self.parameters[name].decode(drawn[name])
        return {name: kept[name] for name in drawn if name in kept}

    def n_combinations(self) -> int:
        """Return how many combinations a grid has."""
        if self.conditions:
            return sum(1 for _ in self.combinations())
        counts: list[int] = [len(p.choices) for p in self.parameters.values()]  # type: ignore[attr-defined]
        return math.prod(counts)

    def as_grid(self) -> Space:
        """Return the space whose parameters are choices among their countable values."""
        listed: dict[str, Parameter] = {
            name: Choices.of(parameter.path, parameter.grid() or []) for name, parameter in self.parameters.items()
        }
        return Space(listed, self.fixed, self.conditions)


def _put(values: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        values = values.setdefault(name, {})
    values[path[-1]] = value


def _get(values: Any, path: Path) -> tuple[bool, Any]:
    for name in path:
        if not isinstance(values, Mapping) or name not in values:
            return False, None
        values = values[name]
    return True, values


def _copied(values: Any) -> Any:
    return {key: _copied(value) for key, value in values.items()} if isinstance(values, Mapping) else values


# Reading


def read_space(definition: Definition, parameters: Mapping[Any, Any], place: Place = ("parameters",)) -> Space:
    """Turn the `parameters` section into a Space; what does not fit becomes a fault of the definition."""
    space = Space()
    _read_level(definition, space, parameters, place, ())
    return space


def _read_level(definition: Definition, space: Space, parameters: Mapping[Any, Any], place: Place, path: Path) -> None:
    for key, given in parameters.items():
        here, name = (*place, str(key)), (*path, str(key))
        where = ".".join(map(str, here))
        if not isinstance(key, str) or not NAME.fullmatch(key):
            definition.fault(
                here,
                f"{where}: a parameter's name must begin with a letter and hold letters, digits, _ . - only. Got {key!r}"
                f"{'' if isinstance(key, str) else ': put it in quotes'}.",
            )
        elif not isinstance(given, Mapping):
            definition.fault(here, f"{where} must be a mapping such as 'value: 3' or 'values: [1, 2]'. Got {given!r}.")
        elif "parameters" in given:
            _read_nested(definition, space, given, here, name)
        else:
            _read_parameter(definition, space, given, here, name)


def _read_nested(definition: Definition, space: Space, given: Mapping[Any, Any], place: Place, path: Path) -> None:
    where = ".".join(map(str, place))
    for key in given:
        if key != "parameters":
            definition.fault(
                (*place, str(key)), f"{where}.{key} cannot stand beside nested parameters: move it inside, or remove it."
            )
    inner = given["parameters"]
    if not isinstance(inner, Mapping) or not inner:
        definition.fault(place, f"{where}.parameters must be a mapping with at least one parameter. Got {inner!r}.")
        return
    _read_level(definition, space, inner, (*place, "parameters"), path)


def _read_parameter(definition: Definition, space: Space, given: Mapping[Any, Any], place: Place, path: Path) -> None:
    where, name = ".".join(map(str, place)), ".".join(path)
    if name in space.parameters or _get_fixed(space, name):
        definition.fault(place, f"{where} has the same full name as another parameter: rename one of the two.")
        return
    all_keys = sorted({key for keys in KEYS.values() for key in keys} | {"distribution", "parameters"})
    before = len(definition.faults)
    check_keys(definition, given, all_keys, place, "a parameter")
    kind = given["distribution"] if "distribution" in given else _inferred(given)
    if kind is None and "distribution" not in given:
        if len(definition.faults) == before:
            came = ", ".join(map(str, given)) or "nothing"
            definition.fault(place, f"{where} must hold value, values, or min and max, or name a distribution. Got {came}.")
        return
    if not isinstance(kind, str) or kind not in KEYS:
        near = did_you_mean(str(kind), KEYS) or f"; there are {', '.join(KEYS)}."
        definition.fault((*place, "distribution"), f"{where}.distribution {kind!r} is not known{near}")
        return
    for key in given:
        if key in all_keys and key not in {*KEYS[kind], "distribution"}:
            takes = ", ".join(KEYS[kind])
            definition.fault((*place, str(key)), f"{where}.{key} does not belong to {kind}, which takes {takes}: remove it.")
    if len(definition.faults) > before:
        return
    if kind == "constant":
        if "value" not in given:
            definition.fault(place, f"{where} of distribution constant needs a value.")
        elif _can_be_kept(definition, given["value"], (*place, "value"), f"{where}.value"):
            _put(space.fixed, path, as_json(given["value"]))
        return
    parameter = _read_choices(definition, given, kind, place, path) if "values" in KEYS[kind] else None
    if "values" not in KEYS[kind]:
        parameter = _read_numbers(definition, given, kind, place, path)
    if parameter is not None:
        space.parameters[name] = parameter


def _get_fixed(space: Space, name: str) -> bool:
    """Whether a full name, with points, is that of a fixed value, nested or not."""
    return name in space.fixed or _get(space.fixed, tuple(name.split(".")))[0]


def _inferred(given: Mapping[Any, Any]) -> str | None:
    """Return the distribution that W&B infers where none is named."""
    if "value" in given:
        return "constant"
    if "values" in given:
        return "categorical_w_probabilities" if "probabilities" in given else "categorical"
    if "min" in given and "max" in given:
        whole = all(isinstance(given[key], int) and not isinstance(given[key], bool) for key in RANGE)
        return "int_uniform" if whole else "uniform"
    return None


def _read_choices(definition: Definition, given: Mapping[Any, Any], kind: str, place: Place, path: Path) -> Parameter | None:
    where = ".".join(map(str, place))
    values = given.get("values")
    if not isinstance(values, list) or not values:
        definition.fault((*place, "values"), f"{where}.values must be a list with at least one value. Got {values!r}.")
        return None
    spots = [(*place, "values", index) for index in range(len(values))]
    kept = [_can_be_kept(definition, value, spot, f"{where}.values[{spot[-1]}]") for value, spot in zip(values, spots, strict=True)]
    if not all(kept):
        return None
    values = as_json(values)
    if kind == "categorical":
        return Choices.of(path, values)
    given_probabilities = given.get("probabilities")
    if not isinstance(given_probabilities, list) or len(given_probabilities) != len(values):
        definition.fault(
            (*place, "probabilities"),
            f"{where}.probabilities must be a list of {len(values)} numbers, one for each value. Got {given_probabilities!r}.",
        )
        return None
    spot = (*place, "probabilities")
    numbers = [number(definition, item, (*spot, i), f"{where}.probabilities[{i}]") for i, item in enumerate(given_probabilities)]
    if None in numbers:
        return None
    probabilities = [float(item) for item in numbers if item is not None]
    if min(probabilities) < 0 or not math.isclose(sum(probabilities), 1.0, abs_tol=1e-3):
        came = f"{given_probabilities}, which add up to {sum(probabilities):.6g}"
        definition.fault(spot, f"{where}.probabilities must be 0 or more and add up to 1. Got {came}.")
        return None
    if not math.isclose(sum(probabilities), 1.0, rel_tol=1e-5):
        definition.note(spot, f"{where}.probabilities add up to {sum(probabilities):.6g}, which W&B refuses: it wants 1.")
    return Weighted.with_probabilities(path, values, probabilities)


def _can_be_kept(definition: Definition, value: Any, place: Place, where: str) -> bool:
    fault = value_fault(value)
    if fault:
        definition.fault(place, f"{where} must be a value that a configuration can hold. Got {fault}.")
    return not fault


def _read_numbers(definition: Definition, given: Mapping[Any, Any], kind: str, place: Place, path: Path) -> Parameter | None:
    where = ".".join(map(str, place))
    before = len(definition.faults)
    numbers: dict[str, Any] = {}
    for key in KEYS[kind]:
        if key not in given and key in DEFAULTS:
            numbers[key] = DEFAULTS[key]
            continue
        if key not in given:
            definition.fault(place, f"{where}.{key} is missing: {kind} needs {' and '.join(RANGE)}.")
            continue
        numbers[key] = number(definition, given[key], (*place, key), f"{where}.{key}")
        if numbers[key] is not None and key in ABOVE_ZERO and numbers[key] <= 0:
            definition.fault((*place, key), f"{where}.{key} must be above 0. Got {given[key]!r}.")
    if len(definition.faults) > before:
        return None
    if "min" in numbers:
        _check_range(definition, numbers, kind, place, where)
    if len(definition.faults) > before:
        return None
    parameter = BUILD[kind](path, numbers)
    if not _can_be_drawn(parameter):
        came = ", ".join(f"{key}={value!r}" for key, value in numbers.items())
        definition.fault(
            place, f"{where}: the numbers of {kind} go beyond what a computer holds: take smaller ones, or a larger q. Got {came}."
        )
        return None
    _note_what_is_drawn(definition, parameter, numbers, kind, place)
    return parameter


def _note_what_is_drawn(definition: Definition, parameter: Parameter, numbers: Mapping[str, Any], kind: str, place: Place) -> None:
    """Say what a distribution draws whose numbers may be meant otherwise: exponents as values, a q that leaves one value.

    W&B, too, warns of each `min` and `max` that are exponents. Negative ones can be nothing else.
    """
    where = ".".join(map(str, place))
    low, high = (parameter.decode(draw) for draw in Parameter.ends(parameter))
    if kind in EXPONENTS and numbers["min"] >= 0:
        definition.note(
            place,
            f"{where}: min and max of {kind} are exponents of e, so values from {low:.6g} to {high:.6g} are drawn; for limits of "
            f"the value itself write {kind}_values.",
        )
    elif kind in ("log_normal", "q_log_normal") and numbers["mu"] > 0:
        median, mean_of_itself = number_in_yaml(round(math.log(numbers["mu"]), 4)), kind.replace("log_", "")
        definition.note(
            place,
            f"{where}: mu and sigma of {kind} are those of the value's logarithm, so the median of what is drawn is "
            f"{parameter.decode(0.5):.6g}; for the median {numbers['mu']!r} write mu: {median}, for that mean of the value itself "
            f"{mean_of_itself}.",
        )
    if "q" in numbers and low == high and numbers.get("min") != numbers.get("max"):
        definition.note(place, f"{where}: each draw of {kind} is rounded to a multiple of q={numbers['q']!r}, and so is {low!r}.")


def _can_be_drawn(parameter: Parameter) -> bool:
    """Whether the far ends of a distribution are numbers, and so are their multiples of q."""
    try:
        low, high = (float(parameter.decode(draw)) for draw in Parameter.ends(parameter))
    except (ArithmeticError, ValueError):
        return False
    return math.isfinite(high - low)


def _check_range(definition: Definition, numbers: Mapping[str, Any], kind: str, place: Place, where: str) -> None:
    low, high = numbers["min"], numbers["max"]
    if low > high:
        definition.fault((*place, "min"), f"{where}: min must not be above max. Got {low!r} and {high!r}: exchange them.")
    elif kind == "int_uniform" and not (isinstance(low, int) and isinstance(high, int)):
        definition.fault(
            (*place, "min"), f"{where}: int_uniform takes whole numbers. Got {low!r} and {high!r}: write uniform for others."
        )
    elif kind == "int_uniform" and max(abs(low), abs(high)) > LARGEST_DRAWN:
        definition.fault((*place, "min"), f"{where}: whole numbers must lie between -2**53 and 2**53. Got {low!r} and {high!r}.")
    elif kind.endswith("_values") and low <= 0:
        definition.fault((*place, "min"), f"{where}.min must be above 0 for {kind}. Got {low!r}.")
    elif "log" in kind and not kind.endswith("_values") and max(abs(low), abs(high)) > LARGEST_EXPONENT:
        definition.fault(
            (*place, "min"),
            f"{where}: min and max of {kind} are exponents of e, so they must lie between -{LARGEST_EXPONENT} and "
            f"{LARGEST_EXPONENT}. Got {low!r} and {high!r}: for limits of the value itself write {kind}_values.",
        )
    elif low == high:
        definition.note((*place, "min"), f"{where}: W&B refuses a min that equals max; 'value: {low!r}' says the same.")


BUILD: dict[str, Callable[[Path, Mapping[str, Any]], Parameter]] = {
    "int_uniform": lambda path, n: int_uniform(path, n["min"], n["max"]),
    "uniform": lambda path, n: uniform(path, n["min"], n["max"]),
    "q_uniform": lambda path, n: q_uniform(path, n["min"], n["max"], n["q"]),
    "log_uniform": lambda path, n: log_uniform(path, math.exp(n["min"]), math.exp(n["max"])),
    "log_uniform_values": lambda path, n: log_uniform(path, n["min"], n["max"]),
    "q_log_uniform": lambda path, n: q_log_uniform(path, math.exp(n["min"]), math.exp(n["max"]), n["q"]),
    "q_log_uniform_values": lambda path, n: q_log_uniform(path, n["min"], n["max"], n["q"]),
    "inv_log_uniform": lambda path, n: log_uniform(path, math.exp(-n["max"]), math.exp(-n["min"])),
    "inv_log_uniform_values": lambda path, n: log_uniform(path, n["min"], n["max"]),
    "normal": lambda path, n: normal(path, n["mu"], n["sigma"]),
    "q_normal": lambda path, n: normal(path, n["mu"], n["sigma"], n["q"]),
    "log_normal": lambda path, n: log_normal(path, n["mu"], n["sigma"]),
    "q_log_normal": lambda path, n: log_normal(path, n["mu"], n["sigma"], n["q"]),
    "beta": lambda path, n: beta(path, n["a"], n["b"]),
    "q_beta": lambda path, n: beta(path, n["a"], n["b"], n["q"]),
}
