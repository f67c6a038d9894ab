"""The effective configuration of a run: its config without inactive parameters; and one text for each configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from paretune.core.errors import UsageError
from paretune.core.provenance import written_by_us
from paretune.models.registry import MODELS, model_class
from paretune.models.run_config import configure, inactive_in
from paretune.runs import study_schema

DIGITS = 12  # significant ones by which two numbers are one value: what arithmetic adds to 0.1 is no other configuration


def inactive_names(config: Mapping[str, Any]) -> list[str]:
    """Return the inactive parameters of a run, by its whole config; of other people's runs nothing is known.

    A run's provenance names them. Of runs that are older they follow from the Config of the model, if it comes with paretune.
    """
    if not written_by_us(config):
        return []
    origin, name = config["provenance"], config["classifier"]
    if isinstance(origin.get("inactive"), list):
        return [str(parameter) for parameter in origin["inactive"]]
    if "program" in origin or name not in MODELS:
        return []
    try:
        return inactive_in(*configure(model_class(name), {key: value for key, value in config.items() if key != "preset"}))
    except UsageError:  # of a version with other fields
        return []


def effective_configuration(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's config without its provenance and its inactive parameters."""
    ours = written_by_us(config)
    found: Any = {name: value for name, value in config.items() if name != "provenance"} if ours else study_schema.parted(config)[0]
    for path in inactive_names(config):
        found = _without(found, path.split("."))
    return dict(found)


def _without(value: Any, path: list[str]) -> Any:
    """Return a copy of nested mappings and lists that lacks what stands at a path."""
    step, *rest = path
    if isinstance(value, list):
        return [_without(item, rest) if rest and str(place) == step else item for place, item in enumerate(value)]
    if not isinstance(value, Mapping) or step not in value:
        return value
    if not rest:
        return {name: item for name, item in value.items() if name != step}
    return {**value, step: _without(value[step], rest)}


def plain(value: Any) -> Any:
    """Return a value in the form in which values are compared: 16.0 as 16, floats with DIGITS digits, tuples as lists."""
    if isinstance(value, float) and math.isfinite(value):
        rounded = float(f"{value:.{DIGITS}g}")
        return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def text_of(value: Any) -> str:
    """Return a JSON text that is equal for equal values, whatever the number format and the order of keys."""
    return json.dumps(plain(value), sort_keys=True, default=str)
