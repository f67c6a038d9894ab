"""Config: a frozen, keyword-only set of checked values; the one source of flags, help texts and run configs.

The same field name is the YAML key, the command-line flag, the `wandb.config` key and the history column `config.<name>`.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from paretune.core.errors import UsageError, did_you_mean


def whole_numbers_as_int(value: Any) -> Any:
    """Turn 16.0 into 16, at any depth: quantised distributions and JSON hand whole numbers over as floats."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole_numbers_as_int(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_numbers_as_int(item) for item in value]
    return value


@dataclass(frozen=True)
class ActiveWhen:
    """Declares when a field has an effect: `momentum: Annotated[float, ActiveWhen(lambda config: config.optimizer == "sgd")]`.

    A field without it always has one. `holds` gets the whole Config (or Part); where it is false, the field is an inactive
    parameter: no value of it changes any result.
    """

    holds: Callable[[Any], bool]


class Part(BaseModel):
    """A group of values inside a Config, such as one convolutional block."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Config(BaseModel):
    """The values of one classifier (or of the data), checked on construction; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UsageError(faults_in(error, type(self))) from None

    @model_validator(mode="before")
    @classmethod
    def _accept_whole_floats(cls, values: Any) -> Any:
        return whole_numbers_as_int(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a Config from a mapping.

        Raises:
            UsageError: naming every unknown or unfit value at once.
        """
        return cls(**dict(values))

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain JSON values; `from_dict` takes them back."""
        return self.model_dump(mode="json")

    def replace(self, **values: Any) -> Self:
        """Return a checked copy with some values changed."""
        return self.from_dict({**self.to_dict(), **values})

    def inactive_parameters(self) -> list[str]:
        """Return the fields without an effect, given the others; those of a group in a list as `conv.0.pool_kind`."""
        return list(_inactive(self, ""))


def _inactive(part: Any, prefix: str) -> Iterator[str]:
    """Yield the paths of the fields below a Config, a Part or a list of Parts that have no effect."""
    if isinstance(part, list):
        for place, item in enumerate(part):
            yield from _inactive(item, f"{prefix}{place}.")
    elif isinstance(part, BaseModel):
        for name, field in type(part).model_fields.items():
            if all(note.holds(part) for note in field.metadata if isinstance(note, ActiveWhen)):
                yield from _inactive(getattr(part, name), f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"


def faults_in(error: ValidationError, config: type[Config]) -> str:
    """Say every fault of a failed check in the words of the person's own keys."""
    by_field: dict[str, list[Any]] = {}
    for fault in error.errors():
        by_field.setdefault(str(fault["loc"][0]) if fault["loc"] else "", []).append(fault)
    sentences = []
    for name, faults in by_field.items():
        sentences.append(_sentence(name, _meant(faults), config))
    return " ".join(sentences)


def _meant(faults: Sequence[Any]) -> Any:
    """A field of several types reports a fault for each; the first past the type check says what the person meant."""
    return next((fault for fault in faults if not fault["type"].endswith("_type")), faults[0])


def _sentence(name: str, fault: Any, config: type[Config]) -> str:
    kind, came = fault["type"], fault["input"]
    inner = [str(step) for step in fault["loc"][1:] if isinstance(step, int) or str(step).isidentifier()]
    inner = [step for step in inner if step not in {"int", "float", "str", "bool", "list", "dict"}]
    where = ".".join([name, *inner])
    if kind == "extra_forbidden":
        if len(fault["loc"]) > 1:
            return f"{where} is not known here."
        return f"{name} is not a hyper-parameter of {config.__name__}{did_you_mean(name, config.model_fields) or '.'}"
    if kind == "value_error":
        text = str(fault["ctx"]["error"])
        return text if not name else f"{where} {text}. Got {came!r}."
    must = fault["msg"].removeprefix("Input should ").removeprefix("be ")
    if kind.endswith("_type"):
        must = _types_of(config, name) or must
    return f"{where} must be {must}. Got {came!r}."


def _types_of(config: type[Config], name: str) -> str:
    field = config.model_fields.get(name)
    if field is None or not get_args(field.annotation):
        return ""
    names = {"NoneType": "None", "str": "a text", "int": "a whole number", "float": "a number", "bool": "True or False"}
    words = []
    for kind in get_args(field.annotation):
        text = getattr(kind, "__name__", str(kind))
        if str(kind).startswith(("list", "dict")):
            text = {"list": "a list", "dict": "a mapping"}[text]
        elif "Literal" in str(kind):
            text = " or ".join(repr(choice) for choice in get_args(kind))
        elif text == "Annotated":
            text = getattr(get_args(kind)[0], "__name__", text)
        words.append(names.get(text, text))
    return " or ".join(dict.fromkeys(words))


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    """Return what checks one field by itself, as strictly as its Config does."""
    return TypeAdapter(field.rebuild_annotation(), config=ConfigDict(strict=True, allow_inf_nan=False))


def value_from_text(name: str, field: FieldInfo, text: str) -> Any:
    """Read a flag's text as the field's type: a Python literal where the field takes it, else the text itself.

    `wandb agent` writes `--flag=True --hidden=[64, 32] --gamma=scale`: literals, not JSON.
    """
    adapter = _adapter(field)
    try:
        value: Any = whole_numbers_as_int(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    for candidate in (value, text):
        try:
            adapter.validate_python(candidate)
            return candidate
        except ValidationError:
            continue
    return value


def value_fits(name: str, field: FieldInfo, value: Any) -> str:
    """Return a sentence that says why a value does not fit a field, or an empty text where it fits."""
    adapter = _adapter(field)
    try:
        adapter.validate_python(whole_numbers_as_int(value))
    except ValidationError as error:
        fault = _meant(error.errors())
        return _sentence(name, {**fault, "loc": (name, *fault["loc"])}, Config)
    return ""


def add_fields(group: argparse._ArgumentGroup, config: type[Config], *, leave_out: Sequence[str] = ()) -> None:
    """Add one flag per field of a Config; a flag without a value means True."""
    for field_name, field in config.model_fields.items():
        if field_name in leave_out:
            continue
        default = field.get_default(call_default_factory=True)
        text = (field.description or "").replace("%", "%%")
        group.add_argument(
            f"--{field_name}",
            nargs="?",
            const="True",
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{text} (default: {default})".replace("(default: )", "(default: none)"),
        )
