"""The `parameters` of a sweep as Optuna distributions: `dict[str, BaseDistribution]`, and back from drawn to real values.

Meanings as in W&B's documentation, "Sweep configuration options". Choices that are not scalars are kept as JSON text:
Optuna warns about lists.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from trainers.errors import UsageError, did_you_mean

DISTRIBUTIONS = ("constant", "categorical", "uniform", "int_uniform", "q_uniform", "log_uniform_values", "q_log_uniform_values")
WANDB_DISTRIBUTIONS = (
    *DISTRIBUTIONS,
    *("categorical_w_probabilities", "log_uniform", "q_log_uniform", "inv_log_uniform", "inv_log_uniform_values"),
    *("normal", "q_normal", "log_normal", "q_log_normal", "beta", "q_beta"),
)
KEYS = {"value", "values", "min", "max", "distribution", "q"}


@dataclass
class Space:
    """What is searched (`distributions`, by name) and what is fixed (`values`)."""

    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, list[Any]] = field(default_factory=dict)  # the real values behind categorical texts

    def decode(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return the real values of what Optuna drew, with the fixed ones."""
        values = dict(self.fixed)
        for name, value in drawn.items():
            values[name] = json.loads(value) if name in self.choices else value
        return values

    def encode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return real values as Optuna keeps them; only of the searched names."""
        return {
            name: json.dumps(values[name], sort_keys=True) if name in self.choices else values[name]
            for name in self.distributions
            if name in values
        }

    def fix(self, name: str, value: Any) -> None:
        """Take a parameter out of the search and give it one value."""
        self.distributions.pop(name, None)
        self.choices.pop(name, None)
        self.fixed[name] = value

    def outside(self, values: Mapping[str, Any]) -> list[str]:
        """Return the searched names whose value in `values` the space does not hold."""
        encoded = self.encode(values)
        return [
            name
            for name, distribution in self.distributions.items()
            if name not in encoded or not _contains(distribution, encoded[name])
        ]

    def grid(self) -> list[dict[str, Any]]:
        """Return every combination, by sorted names with the last one changing fastest, as W&B orders them.

        Raises:
            UsageError: if a range has no steps.
        """
        import itertools

        names = sorted(self.distributions)
        return [dict(zip(names, row, strict=True)) for row in itertools.product(*(_steps(n, self.distributions[n]) for n in names))]


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return distribution.low <= value <= distribution.high  # type: ignore[attr-defined]


def _steps(name: str, distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return [min(distribution.low + i * distribution.step, distribution.high) for i in range(count)]
    raise UsageError(
        f"parameters.{name} has no countable values; method grid needs values, whole numbers, or a distribution with q."
    )


def read_space(parameters: Mapping[str, Any], where: str) -> Space:
    """Turn the `parameters` section into a Space.

    Raises:
        UsageError: naming the parameter, what it must hold and what came.
    """
    space = Space()
    for name, given in parameters.items():
        _read_parameter(space, str(name), given, f"{where}: parameters.{name}")
    return space


def _read_parameter(space: Space, name: str, given: Any, where: str) -> None:
    if not isinstance(given, Mapping):
        raise UsageError(f"{where} must be a mapping such as 'value: 3' or 'values: [1, 2]'. Got {given!r}.")
    if "parameters" in given:
        raise UsageError(f"{where}: nested parameters run under wandb agent, and not yet offline; write one mapping as a value.")
    for key in given:
        if key not in KEYS | {"mu", "sigma", "a", "b", "probabilities"}:
            raise UsageError(f"{where}.{key} is not a key of a parameter{did_you_mean(str(key), KEYS) or '.'}")
    distribution = given.get("distribution") or _inferred(given, where)
    if distribution not in DISTRIBUTIONS or "probabilities" in given:
        if distribution not in WANDB_DISTRIBUTIONS:
            near = did_you_mean(str(distribution), WANDB_DISTRIBUTIONS) or f"; there are {', '.join(DISTRIBUTIONS)}."
            raise UsageError(f"{where}.distribution {distribution!r} is not known{near}")
        name_ = "probabilities" if "probabilities" in given else distribution
        raise UsageError(f"{where}: {name_!r} runs under wandb agent, and not yet offline; there are {', '.join(DISTRIBUTIONS)}.")
    if distribution == "constant":
        if "value" not in given:
            raise UsageError(f"{where} of distribution constant needs a value.")
        space.fixed[name] = given["value"]
    elif distribution == "categorical":
        values = given.get("values")
        if not isinstance(values, list) or not values:
            raise UsageError(f"{where}.values must be a list with at least one value. Got {values!r}.")
        _add_choices(space, name, values)
    else:
        space.distributions[name] = _range(given, distribution, where)


def _inferred(given: Mapping[str, Any], where: str) -> str:
    if "value" in given:
        return "constant"
    if "values" in given:
        return "categorical"
    if "min" in given and "max" in given:
        low, high = number(given, "min", where), number(given, "max", where)
        return "int_uniform" if isinstance(low, int) and isinstance(high, int) else "uniform"
    raise UsageError(f"{where} must hold value, values, or min and max. Got {', '.join(map(str, given)) or 'nothing'}.")


def _add_choices(space: Space, name: str, values: list[Any]) -> None:
    if all(value is None or isinstance(value, bool | int | float | str) for value in values):
        space.distributions[name] = CategoricalDistribution(list(dict.fromkeys(values)))
    else:
        texts = list(dict.fromkeys(json.dumps(value, sort_keys=True) for value in values))
        space.choices[name] = values
        space.distributions[name] = CategoricalDistribution(texts)


def _range(given: Mapping[str, Any], distribution: str, where: str) -> BaseDistribution:
    low, high = number(given, "min", where), number(given, "max", where)
    if low > high:
        raise UsageError(f"{where}: min must not be above max. Got {low!r} and {high!r}.")
    if distribution == "int_uniform":
        if not (isinstance(low, int) and isinstance(high, int)):
            raise UsageError(f"{where}: int_uniform takes whole numbers. Got {low!r} and {high!r}.")
        return IntDistribution(low, high)
    if "log" in distribution and low <= 0:
        raise UsageError(f"{where}.min must be above 0 for {distribution}. Got {low!r}.")
    if not distribution.startswith("q_"):
        return FloatDistribution(float(low), float(high), log="log" in distribution)
    step = number(given, "q", where) if "q" in given else 1
    if step <= 0:
        raise UsageError(f"{where}.q must be above 0. Got {step!r}.")
    # W&B rounds a draw to the nearest multiple of q
    low, high = math.ceil(low / step - 1e-9) * step, math.floor(high / step + 1e-9) * step
    if low > high:
        raise UsageError(f"{where}: no multiple of q={step!r} lies between min and max.")
    whole = all(float(value).is_integer() for value in (low, high, step))
    if "log" in distribution:
        if not whole or step != 1:
            raise UsageError(f"{where}: q_log_uniform_values runs offline with q: 1 for now. Got q: {step!r}.")
        return IntDistribution(int(low), int(high), log=True)
    return (
        IntDistribution(int(low), int(high), step=int(step))
        if whole
        else FloatDistribution(float(low), float(high), step=float(step))
    )


def number(given: Mapping[str, Any], key: str, where: str) -> float | int:
    """Return a number from a YAML mapping, or say what YAML made of it."""
    value = given.get(key)
    if isinstance(value, str):
        try:
            meant = float(value)
        except ValueError:
            raise UsageError(f"{where}.{key} must be a number. Got the text {value!r}.") from None
        raise UsageError(
            f"{where}.{key} must be a number. Got the text {value!r}; YAML reads it as text: write {_yaml_number(meant)}."
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{where}.{key} must be a number. Got {value!r}.")
    return value


def _yaml_number(value: float) -> str:
    text = repr(value)
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}{'' if '.' in mantissa else '.0'}e{exponent}" if e else text
