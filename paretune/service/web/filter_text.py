"""The filter that a person types over the table of runs, as a filter of paretune/service/store/filters.py.

filter = term {"and" term};   term = PATH OPERATOR VALUE | WORD | "quoted words"
PATH is a field (name, state, tag, sweep, group, …), config.KEY or summary.KEY; OPERATOR one of = != > >= < <= and ~ (contains).
In quotes, a quote of the same kind is written twice. A word alone is looked for in the names, identifiers and tags.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

from paretune.core.errors import UsageError, did_you_mean
from paretune.service.store.filters import FIELDS
from paretune.service.store.runs import STATES

FIELD_OF = {  # as people write it -> as filters have it
    "name": "display_name",
    "id": "name",
    "tag": "tags",
    "tags": "tags",
    "user": "username",
    "created": "created_at",
    "seen": "heartbeat_at",
    "job": "job_type",
    **{name: name for name in FIELDS if name not in ("name", "displayName")},
}
COMPUTED = {"runtime": "summary._runtime"}  # as people write it -> the value that it is
OPERATORS = {"=": "$eq", "==": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte", "~": "$regex"}
QUOTED = r""""(?:[^"]|"")*"|'(?:[^']|'')*'"""  # a quote of its own kind within is written twice
TERM = re.compile(rf"\s*({QUOTED}|[^\s=!<>~]+)\s*(==|!=|>=|<=|=|>|<|~)\s*({QUOTED}|[^\s]+)\s*")
PIECE = re.compile(rf"(?<![^\s=!<>~])(?:{QUOTED})|(?P<and>\s+and\s+)|.", re.IGNORECASE | re.DOTALL)
MOST_TERMS = 20


def filter_of(text: str) -> dict[str, Any]:
    """Return what a person typed as a filter of runs; empty for nothing.

    Raises:
        UsageError: that says which part is not understood, and what can stand there.
    """
    if not text.strip():
        return {}
    terms = _terms(text)
    if len(terms) > MOST_TERMS:
        raise UsageError(f"a filter may have at most {MOST_TERMS} conditions. Got {len(terms)}.")
    return {"$and": [_term(term) for term in terms]}


def values_asked(text: str) -> list[tuple[str, list[Any]]]:
    """Return the values of config and summary that a filter wants, by path, and what each is compared with; not those with none."""
    found = []
    for condition in filter_of(text).get("$and", []):
        for path, compared in condition.items():
            head, _, key = path.partition(".")
            if head in ("config", "summary", "summary_metrics") and None not in compared.values():
                path = f"{head.removesuffix('_metrics')}.{key.removesuffix('.value') if head == 'config' else key}"
                found.append((path, [value for operator, value in compared.items() if operator in ("$gt", "$gte", "$lt", "$lte")]))
    return found


def is_literal(text: str) -> bool:
    """Whether a text in a filter, without quotes, stands for a boolean or a list."""
    return not re.search(r"\s", text) and isinstance(_value(text), bool | list)


def quoted(text: str) -> str:
    """Return a text as a value in a filter, whatever it holds."""
    return '"' + text.replace('"', '""') + '"'


def _terms(text: str) -> list[str]:
    terms = [""]
    for piece in PIECE.finditer(text.strip()):
        if piece["and"]:
            terms.append("")
        else:
            terms[-1] += piece[0]
    return terms


def _term(text: str) -> dict[str, Any]:
    if re.fullmatch(QUOTED, text.strip()):  # whatever it holds, operators too
        return _containing(_unquoted(text.strip()))
    found = TERM.fullmatch(text)
    if found is None:
        if re.search(r"[=<>~]", text):
            raise UsageError(f"{text.strip()!r} is not a condition: write for example config.lr > 0.01, joined by and.")
        return _containing(text.strip())
    path, operator, value = _unquoted(found[1]), OPERATORS[found[2]], found[3]
    if value[0] in "\"'" and not re.fullmatch(QUOTED, value):
        raise UsageError(f"the quote in {text.strip()!r} is not closed: a quote within quotes is written twice.")
    path = COMPUTED.get(path, path)
    head, _, key = path.partition(".")
    if head in ("config", "summary", "summary_metrics") and key:
        return {path: {operator: _contains(_unquoted(value)) if operator == "$regex" else _value(value)}}
    if path not in FIELD_OF:
        near = did_you_mean(path, FIELD_OF)
        raise UsageError(f"runs have no field {path!r}{near or f': write config.{path} or summary.{path} for a value of theirs.'}")
    if path == "state" and operator in ("$eq", "$ne") and _unquoted(value) not in STATES:
        near = did_you_mean(_unquoted(value), STATES)
        raise UsageError(f"runs have no state {_unquoted(value)!r}{near or ': choose ' + ', '.join(STATES) + '.'}")
    return {FIELD_OF[path]: {operator: _contains(_unquoted(value)) if operator == "$regex" else _unquoted(value)}}


def _containing(words: str) -> dict[str, Any]:
    part = {"$regex": _contains(words)}
    return {"$or": [{"display_name": part}, {"name": part}, {"tags": {"$eq": words}}]}


def _contains(text: str) -> str:
    return "(?i)" + re.escape(text)


def _value(text: str) -> float | bool | str | list[Any] | None:
    """Return what a value stands for: a number, true, false, none, a list as JSON has it, or a text."""
    if text[:1] in "\"'":
        return _unquoted(text)
    words: dict[str, bool | None] = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    with contextlib.suppress(ValueError, RecursionError):
        return float(text) if text[:1] != "[" else json.loads(text)
    return text


def _unquoted(text: str) -> str:
    return text[1:-1].replace(text[0] * 2, text[0]) if re.fullmatch(QUOTED, text) else text
