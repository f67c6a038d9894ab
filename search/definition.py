"""Read a sweep's YAML with the line of every key, and gather its faults so that all are said at once.

The values are those of `yaml.safe_load`, which W&B's client uses too; the lines and the traps come from the node tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainers.errors import UsageError, did_you_mean

Place = tuple[str | int, ...]  # where a value stands: ("parameters", "learning_rate", "min")

BOOLEAN_WORDS = {"yes", "no", "on", "off", "y", "n"}
SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?e[-+]?\d+", re.IGNORECASE)  # YAML 1.1 wants a point and a sign: 1.0e-4


@dataclass
class Definition:
    """The mapping in a YAML file, the line of each of its places, and what was written where YAML reads it as another thing."""

    path: Path
    values: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)
    written: dict[Place, str] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the nearest place around it; 0 where it is not in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def fault(self, place: Place, sentence: str) -> None:
        """Keep one fault: what must hold at a place, what came, what to do."""
        self.faults.append((self.line(place), sentence))

    def trap(self, place: Place) -> str:
        """Return how YAML has read what stands at a place, or an empty text where it read it as it looks."""
        text = self.written.get(place)
        if text is None:
            return ""
        value = _at(self.values, place)
        if isinstance(value, str):
            return f"; YAML reads {text} as text: write {number_in_yaml(float(text))}"
        if isinstance(value, bool):
            return f"; YAML reads the bare word {text} as {value}: write '{text}'"
        return f"; YAML reads {text} as {value}: write it in decimal or in quotes"

    def check(self) -> None:
        """Raise every fault found so far, in the order of the lines.

        Raises:
            UsageError: one sentence a line, each with the file and the line.
        """
        if self.faults:
            found = sorted(dict.fromkeys(self.faults), key=lambda fault: fault[0])
            raise UsageError("\n".join(f"{self.path}{f':{line}' if line else ''}: {sentence}" for line, sentence in found))


def read_definition(path: Path) -> Definition:
    """Read a YAML file that holds a mapping.

    Raises:
        UsageError: if it is not there, not YAML, or no mapping; naming the line.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        near = did_you_mean(path.name, [file.name for file in path.parent.glob("*.yaml")]) if path.parent.is_dir() else ""
        raise UsageError(f"{path}: there is no such file{near or '; give the path of a sweep YAML.'}") from None
    except yaml.YAMLError as error:
        raise UsageError(_not_yaml(path, error)) from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-13-40
        raise UsageError(f"{path}: cannot be read ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}:1: a sweep must be a mapping with program, method, metric and parameters. Got {_kind(values)}.")
    definition = Definition(path, values)
    _walk(definition, tree, (), set())
    return definition


def _not_yaml(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark is not None else ""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if "'\\t'" in problem:
        return f"{path}{line}: a tab begins something here; YAML indents with spaces only: replace it by spaces."
    return f"{path}{line}: not valid YAML ({problem})."


def _walk(definition: Definition, node: Any, place: Place, seen: set[int]) -> None:
    """Note the lines of all places below a node, keys written twice, and words that YAML reads as another thing."""
    import yaml

    if id(node) in seen:  # an anchor that is used again, perhaps inside itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name = str(getattr(key, "value", key))
            line = key.start_mark.line + 1
            if name in first and name != "<<":
                place_text = ".".join(map(str, (*place, name)))
                definition.faults.append(
                    (line, f"{place_text} is written twice (first on line {first[name]}); YAML keeps the last: remove one.")
                )
            first.setdefault(name, line)
            definition.lines[(*place, name)] = line
            _walk(definition, value, (*place, name), seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            definition.lines[(*place, index)] = item.start_mark.line + 1
            _walk(definition, item, (*place, index), seen)
    elif isinstance(node, yaml.ScalarNode) and node.style is None:
        _note_trap(definition, node.tag.rpartition(":")[2], node.value, place)


def _note_trap(definition: Definition, kind: str, text: str, place: Place) -> None:
    strange_number = kind in {"int", "float"} and (":" in text or re.fullmatch(r"[-+]?0[\d_]+", text) is not None)
    scientific_text = kind == "str" and SCIENTIFIC.fullmatch(text) is not None
    if strange_number or scientific_text or (kind == "bool" and text.lower() in BOOLEAN_WORDS):
        definition.written[place] = text


def _at(values: Any, place: Place) -> Any:
    for step in place:
        try:
            values = values[step]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _kind(value: Any) -> str:
    if value is None:
        return "an empty file"
    return {"list": "a list", "str": "a text"}.get(type(value).__name__, repr(value))


def number_in_yaml(value: float) -> str:
    """Return a number as YAML 1.1 reads one: 1.0e-04, not 1e-04."""
    text = repr(value)
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    return f"{mantissa}{'' if '.' in mantissa else '.0'}e{exponent if exponent[0] in '+-' else '+' + exponent}"


def check_keys(definition: Definition, given: Mapping[Any, Any], known: Iterable[str], place: Place, what: str) -> None:
    """Keep a fault for every key that is not known at a place."""
    known = list(known)
    for key in given:
        if key not in known:
            name = ".".join(map(str, (*place, key)))
            near = did_you_mean(str(key), known) or f"; there are {', '.join(known)}."
            definition.fault((*place, str(key)), f"{name} is not a key of {what}{near}")
