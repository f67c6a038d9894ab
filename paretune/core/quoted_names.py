"""Names in backquotes: how an expression or a rule writes a metric or parameter whose name is no plain word, `val/loss`."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

WORD = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")  # what stands without backquotes; points join the names of nested parameters
PARTS = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`([^`]*)`")  # texts in quotes, in which a backquote is a letter; names
OPERATOR = re.compile(r"[^\W\d][\w.]*(?:[/-][\w.]+)+")  # what may be one name, or several that are divided or subtracted


def quoted(name: str) -> str:
    """Return a name as an expression or a rule writes it."""
    return name if WORD.fullmatch(name) and not keyword.iskeyword(name) else f"`{name}`"


def take_names(text: str) -> tuple[str, dict[str, str]]:
    """Return a text with a plain word for each name in backquotes, and the names by these words.

    Raises:
        ValueError: if a backquote is not closed, or nothing stands between two.
    """
    stem = "name_"
    while stem in text:
        stem += "_"
    names: dict[str, str] = {}

    def word_for(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        if not found[1].strip():
            raise ValueError("names nothing between two backquotes")
        word = f"{stem}{len(names)}"
        names[word] = found[1].strip()
        return f" {word} "

    taken = PARTS.sub(word_for, text)
    if "`" in PARTS.sub("", taken):
        raise ValueError("opens a backquote and does not close it")
    return taken, names


def unquoted_name(text: str, known: Iterable[str]) -> str:
    """Return the known name that stands in a text without the backquotes that it needs; empty where there is none."""
    rest = PARTS.sub(lambda found: "\0" * len(found[0]), text)
    for name in sorted(set(known), key=len, reverse=True):
        if quoted(name) == name or WORD.fullmatch(name) or not re.search(r"[^\W\d]", name) or _is_number(name):
            continue
        if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", rest):
            return name
    return ""


def doubtful_names(text: str, known: Iterable[str]) -> list[str]:
    """Return what a text divides or subtracts without a space and may be one name, as not all of its parts are known."""
    rest, known = PARTS.sub("", text), set(known)
    found = OPERATOR.findall(rest)
    parts = {name: [part for part in re.split("[/-]", name) if not _is_number(part)] for name in found}
    return [name for name in found if not set(parts[name]) <= known]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
