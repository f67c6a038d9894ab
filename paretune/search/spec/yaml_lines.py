"""Read a sweep's YAML with the line of every key, and gather its faults so that all are said at once.

The values are those of `yaml.safe_load`, which W&B's client uses too; the lines and the traps come from the node tree.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretune.core.errors import UsageError, did_you_mean, first_line

Place = tuple[str | int, ...]  # where a value stands: ("parameters", "learning_rate", "min")

BOOLEAN_WORDS = {"yes", "no", "on", "off", "y", "n"}
# what looks like a number and is text to YAML 1.1: 1e-4 (it wants a point and a sign, 1.0e-4), 0o17, 08, nan; None is text, too
TEXTS = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)e[-+]?\d+|[-+]?0o[0-7]+|[-+]?0\d+|nan|[-+]?inf|(?-i:None)", re.IGNORECASE)
OPENED = {  # what PyYAML was reading -> how a person calls it
    "while parsing a flow sequence": "a list '['",
    "while parsing a flow mapping": "a mapping '{'",
    "while scanning a quoted scalar": "a quoted text",
}
LARGEST_FLOAT = sys.float_info.max
LARGEST_OF_64_BITS = 2**63 - 1  # beyond 64 bits neither a Parquet file nor most programs hold a number
LARGEST = 100_000  # nodes with every anchor written out: a few lines of anchors in anchors can stand for billions


@dataclass
class Definition:
    """The mapping in a YAML file, the line of each of its places, and what was written where YAML reads it as another thing."""

    path: Path
    values: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)
    written: dict[Place, str] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    elsewhere: bool = False  # its program runs on other machines, and need not be here

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the nearest place around it; 0 where it is not in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def fault(self, place: Place, sentence: str) -> None:
        """Keep one fault: what must hold at a place, what came, what to do."""
        self.faults.append((self.line(place), sentence))

    def note(self, place: Place, sentence: str) -> None:
        """Keep what is accepted and may not be meant, with its line."""
        line = self.line(place)
        self.notes.append(f"{self.path}{f':{line}' if line else ''}: {_shown(sentence)}")

    def trap(self, place: Place) -> str:
        """Return how YAML has read what stands at a place, or an empty text where it read it as it looks."""
        text = self.written.get(place)
        if text is None:
            return ""
        value = _at(self.values, place)
        if isinstance(value, str):
            meant = _meant(text)
            return f"; YAML reads {text} as text{f': write {meant}' if meant else ''}"
        if isinstance(value, bool):
            return f"; YAML reads the bare word {text} as {value}: write '{text}'"
        return f"; YAML reads {text} as {value}: write {value} if that is meant, a text in quotes"

    def check(self) -> None:
        """Raise every fault found so far, in the order of the lines.

        Raises:
            UsageError: one sentence a line, each with the file and the line.
        """
        if self.faults:
            found = sorted(dict.fromkeys(self.faults), key=lambda fault: fault[0])
            raise UsageError("\n".join(f"{self.path}{f':{line}' if line else ''}: {_shown(sentence)}" for line, sentence in found))


def _shown(sentence: str) -> str:
    """Return a sentence on one line, whatever a person's key or value holds."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in sentence)


def read_definition(path: Path, text: str | None = None) -> Definition:
    """Read a YAML file that holds a mapping.

    Args:
        text: what the file holds, where it was sent from elsewhere; `path` is then only its name.

    Raises:
        UsageError: if it is not there, not YAML, or no mapping; naming the line.
    """
    import yaml

    try:
        elsewhere = text is not None
        text = path.read_text(encoding="utf-8") if text is None else text
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if _written_out(path, tree, {}) > LARGEST:
            raise UsageError(f"{path}: holds more than {LARGEST:,} values once its anchors are written out: use fewer anchors.")
        values = yaml.safe_load(text)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file{_near(path)}") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder: give the path of a sweep YAML.") from None
    except yaml.YAMLError as error:
        raise UsageError(not_yaml(path, error)) from None
    except UsageError:
        raise
    except UnicodeDecodeError:
        raise UsageError(f"{path}: cannot be read as UTF-8 text: save it with the encoding UTF-8.") from None
    except (ValueError, LookupError, AttributeError, ArithmeticError) as error:  # a date such as 2026-13-40, !!bool perhaps
        raise UsageError(f"{path}: YAML cannot read a value in it ({' '.join(str(error).split())}): put it in quotes.") from None
    except RecursionError:
        raise UsageError(f"{path}: cannot be read: lists or mappings are nested too deeply in it.") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}).") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}:1: a sweep must be a mapping with program, method, metric and parameters. Got {_kind(values)}.")
    definition = Definition(path, values, elsewhere=elsewhere)
    _walk(definition, tree, (), set())
    return definition


def not_yaml(path: Path, error: Exception) -> str:
    """Return a sentence, with the line, on why a file is not YAML, or the JSON that is read as YAML."""
    mark, begun = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    line = f":{mark.line + 1}" if mark is not None else ""
    problem = getattr(error, "problem", None) or first_line(error)
    context = getattr(error, "context", None) or ""
    if "'`'" in problem:
        return f'{path}{line}: a text that begins with a backquote stands in quotes, such as "`val/loss` <= 2.5".'
    if "another document" in problem:
        return f"{path}{line}: '---' begins a second document; a sweep is one: give each a file of its own."
    if "'\\t'" in problem:
        return f"{path}{line}: a tab begins something here; YAML indents with spaces only: replace it by spaces."
    if begun is not None and mark is not None and context in OPENED:
        found = f"line {mark.line + 1}: {problem}"
        return f"{path}:{begun.line + 1}: {OPENED[context]} is opened here and not closed in its place ({found})."
    if "mapping values are not allowed" in problem:
        problem += "; a text that holds ': ' stands in quotes, and a key begins a line of its own"
    return f"{path}{line}: not valid {'JSON' if path.suffix == '.json' else 'YAML'} ({problem})."


def _near(path: Path) -> str:
    """Return the file beside a missing one whose name is like it, as a question; the ending that all share is not compared."""
    there = {file.stem: file.name for file in path.parent.glob("*.y*ml")} if path.parent.is_dir() else {}
    near = difflib.get_close_matches(path.stem, there, n=1, cutoff=0.6)
    return f"; did you mean {there[near[0]]!r}?" if near else "; give the path of a sweep YAML."


def _written_out(path: Path, node: Any, counts: dict[int, int]) -> int:
    """Return how many nodes a tree has once every anchor is written out.

    Raises:
        UsageError: if an anchor is used inside itself, which no value can hold.
    """
    if node is None:  # an empty file
        return 0
    if id(node) in counts:
        if counts[id(node)] < 0:
            raise UsageError(f"{path}:{node.start_mark.line + 1}: an anchor that begins here is used inside itself: remove that.")
        return counts[id(node)]
    counts[id(node)] = -1
    parts = [part for pair in node.value for part in pair] if node.id == "mapping" else node.value
    counts[id(node)] = 1 + (0 if node.id == "scalar" else sum(_written_out(path, part, counts) for part in parts))
    return counts[id(node)]


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
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith((":str", ":merge")):
                definition.lines[(*place, str(yaml.SafeLoader("").construct_object(key)))] = line  # on, for one, is the key True
            _walk(definition, value, (*place, name), seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            definition.lines[(*place, index)] = item.start_mark.line + 1
            _walk(definition, item, (*place, index), seen)
    elif isinstance(node, yaml.ScalarNode) and node.style is None:
        _note_trap(definition, node.tag.rpartition(":")[2], node.value, place)


def _note_trap(definition: Definition, kind: str, text: str, place: Place) -> None:
    strange_number = kind in {"int", "float"} and (":" in text or re.fullmatch(r"[-+]?0[\d_]+", text) is not None)
    number_as_text = kind == "str" and TEXTS.fullmatch(text) is not None
    if strange_number or number_as_text or (kind == "bool" and text.lower() in BOOLEAN_WORDS):
        definition.written[place] = text


def _meant(text: str) -> str:
    """Return how YAML writes what a text looks like; empty where that is no value of a sweep."""
    if text == "None":
        return "null"
    try:
        if text.lstrip("+-").isdecimal():  # 08, which is no octal number
            return str(int(text))
        return number_in_yaml(float(text)) if math.isfinite(float(text)) else ""
    except ValueError:  # 0o17
        return str(int(text, 8))


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


def whole_number(definition: Definition, value: Any, place: Place, where: str, least: float = 1) -> int | None:
    """Return a whole number of the YAML, also one that is written as 5.0; keep as a fault what is none, and return None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and place not in definition.written and least <= value <= LARGEST_OF_64_BITS and float(value).is_integer():
        return int(value)
    definition.fault(place, f"{where} must be a whole number of at least {least}. Got {value!r}{_trap(definition, place)}.")
    return None


def _trap(definition: Definition, place: Place) -> str:
    """Return how YAML has read a number; a text in quotes would be none."""
    return definition.trap(place).partition(", a text")[0]


def number(definition: Definition, value: Any, place: Place, where: str) -> float | int | None:
    """Return a number of the YAML, or keep as a fault what YAML made of it and return None."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | str)
        or (isinstance(value, float) and not math.isfinite(value))
        or (isinstance(value, int) and abs(value) > LARGEST_FLOAT)
    ):
        trap = definition.trap(place).partition(": write")[0]  # a word in quotes would be no number either
        definition.fault(place, f"{where} must be a number. Got {value!r}{trap}.")
        return None
    if not isinstance(value, str):
        if place in definition.written:
            definition.fault(place, f"{where} must be a number that reads one way only{_trap(definition, place)}.")
            return None
        return value
    try:
        meant = float(value)
        if not math.isfinite(meant):
            raise ValueError
    except ValueError:
        definition.fault(place, f"{where} must be a number. Got the text {value!r}.")
        return None
    definition.fault(
        place, f"{where} must be a number. Got the text {value!r}; YAML reads it as text: write {number_in_yaml(meant)}."
    )
    return None
