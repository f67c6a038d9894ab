"""Columns, tag lists and config or summary values as SQL conditions of a filter.

A condition holds for a list if it holds for the list or one of its elements, and for values of its own kind alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from paretune.core.errors import UsageError
from paretune.service.store.re2 import expression_of
from paretune.service.store.run_values import BOOLEAN, LIST, MAPPING, NULL, NUMBER, TEXT, Kept, Named, float_of, kept_of, named_by
from paretune.service.store.tables import Element, Run, Value, as_json

COMPARED: dict[str, Callable[[Any, Any], sa.ColumnElement[bool]]] = {
    "$gt": lambda column, value: column > value,
    "$gte": lambda column, value: column >= value,
    "$lt": lambda column, value: column < value,
    "$lte": lambda column, value: column <= value,
}
MOST_TAGS = 200  # that something may have one of
TAGS_SENTENCE = "tags are compared by $eq, $ne, $in, $nin, $all, $size, $contains, $regex and $exists, with texts."


class Target(Protocol):
    """What a path names, and how its values become conditions."""

    def exists(self) -> sa.ColumnElement[bool]:
        """Return the condition that there is a value, be it null."""

    def equals(self, values: Sequence[Any]) -> sa.ColumnElement[bool]:
        """Return the condition that it, or an element of it, is one of some values."""

    def ordered(self, operator: str, value: Any) -> sa.ColumnElement[bool]:
        """Return the condition that it, or an element of it, is smaller or larger than a value of its kind."""

    def matches(self, expression: str) -> sa.ColumnElement[bool]:
        """Return the condition that it, or an element of it, is a text that a regular expression is found in."""

    def contains(self, text: str) -> sa.ColumnElement[bool]:
        """Return the condition that it, or an element of it, is a text with another one in it."""

    def has_size(self, size: int) -> sa.ColumnElement[bool]:
        """Return the condition that it is a list of so many elements."""

    def has_element(self, operators: Mapping[str, Any]) -> sa.ColumnElement[bool]:
        """Return the condition that one element of it meets all of some operators."""


@dataclass(frozen=True)
class Field:
    """A column of one kind: texts, times or numbers; its NULL is null, as if the field were missing."""

    column: Any
    name: str

    def exists(self) -> sa.ColumnElement[bool]:
        return self.column.is_not(None)

    def equals(self, values: Sequence[Any]) -> sa.ColumnElement[bool]:
        known = [one for one in map(self._fit, values) if one is not None]
        found = sa.func.coalesce(self.column.in_(known), sa.false())
        return sa.or_(found, self.column.is_(None)) if None in values else found

    def ordered(self, operator: str, value: Any) -> sa.ColumnElement[bool]:
        fit = self._fit(value)
        return sa.false() if fit is None else sa.func.coalesce(COMPARED[operator](self.column, fit), sa.false())

    def matches(self, expression: str) -> sa.ColumnElement[bool]:
        return sa.func.coalesce(self.column, "").regexp_match(expression) if self._has_texts else sa.false()

    def contains(self, text: str) -> sa.ColumnElement[bool]:
        if not self._has_texts:
            return sa.false()
        return sa.func.coalesce(holds(self.column, text), sa.false()) if text else self.exists()

    def has_size(self, size: int) -> sa.ColumnElement[bool]:
        return sa.false()

    def has_element(self, operators: Mapping[str, Any]) -> sa.ColumnElement[bool]:
        return sa.false()

    @property
    def _has_texts(self) -> bool:
        return not isinstance(self.column.type, sa.DateTime | sa.Integer)

    def _fit(self, value: Any) -> Any:
        """Return a value as the column has it; None where none of its kind is meant, which equals nothing."""
        if value is None:
            return None
        if isinstance(self.column.type, sa.DateTime):
            return time_of(self.name, value)
        if self._has_texts:
            return value if isinstance(value, str) else None
        return float_of(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Tags:
    """A column with a JSON list of texts."""

    column: Any

    def exists(self) -> sa.ColumnElement[bool]:
        return self.column != "[]"  # a run without tags has none, as its client does not say an empty list

    def equals(self, values: Sequence[Any]) -> sa.ColumnElement[bool]:
        if len(values) > MOST_TAGS:
            raise UsageError(f"tags are compared with at most {MOST_TAGS} texts. Got {len(values):,}.")
        parts: list[sa.ColumnElement[bool]] = []
        for value in values:
            if value is None:
                parts.append(self.column == "[]")
            elif isinstance(value, str):
                parts.append(holds(self.column, json.dumps(value)))
            elif isinstance(value, list):
                parts.append(self.column == as_json(value))
        return _any_of(parts)

    def ordered(self, operator: str, value: Any) -> sa.ColumnElement[bool]:
        raise UsageError(TAGS_SENTENCE)

    def matches(self, expression: str) -> sa.ColumnElement[bool]:
        return self.column.regexp_match(expression)

    def contains(self, text: str) -> sa.ColumnElement[bool]:
        return holds(self.column, json.dumps(text)[1:-1]) if text else self.exists()

    def has_size(self, size: int) -> sa.ColumnElement[bool]:
        return _length(self.column) == size

    def has_element(self, operators: Mapping[str, Any]) -> sa.ColumnElement[bool]:
        raise UsageError(TAGS_SENTENCE)


@dataclass(frozen=True)
class Values:
    """A path in a run's config (`place` c) or summary (s): a value there, or values in lists on the way to it."""

    place: str
    path: str

    def exists(self) -> sa.ColumnElement[bool]:
        return self._any(lambda _: sa.true())

    def equals(self, values: Sequence[Any]) -> sa.ColumnElement[bool]:
        kept = _kept(values)
        found = self._any(lambda row: _is_one_of(row, kept))
        return sa.or_(found, sa.not_(self.exists())) if Kept(NULL) in kept else found

    def ordered(self, operator: str, value: Any) -> sa.ColumnElement[bool]:
        return self._any(_is_ordered(operator, value))

    def matches(self, expression: str) -> sa.ColumnElement[bool]:
        return self._any(lambda row: sa.and_(row.kind == TEXT, row.text.regexp_match(expression)))

    def contains(self, text: str) -> sa.ColumnElement[bool]:
        return self._any(lambda row: sa.and_(row.kind == TEXT, holds(row.text, text) if text else sa.true()))

    def has_size(self, size: int) -> sa.ColumnElement[bool]:
        return self._any(lambda row: sa.and_(row.kind == LIST, row.size == size), elements=False)

    def has_element(self, operators: Mapping[str, Any]) -> sa.ColumnElement[bool]:
        rows = [_meets(operator, value) for operator, value in operators.items()]
        places = [named for named in named_by(self.path) if not named.is_element]
        return _any_of(
            [self._element(named, lambda row: sa.and_(row.is_element, *(meets(row) for meets in rows))) for named in places]
        )

    def _any(self, condition: Callable[[Any], sa.ColumnElement[bool]], *, elements: bool = True) -> sa.ColumnElement[bool]:
        """Return the condition that some value of the path meets another one.

        Args:
            elements: also one that is an element of the list that the path names.
        """
        parts: list[sa.ColumnElement[bool]] = []
        for named in named_by(self.path):
            if not named.positions:
                row = aliased(Value)
                parts.append(sa.exists().where(row.run_id == Run.id, row.place == self.place, row.key == named.key, condition(row)))
            if elements or named.is_element:
                parts.append(self._element(named, condition))
            else:
                parts.append(self._element(named, lambda row: sa.and_(sa.not_(row.is_element), condition(row))))
        return _any_of(parts)

    def _element(self, named: Named, condition: Callable[[Any], sa.ColumnElement[bool]]) -> sa.ColumnElement[bool]:
        row = aliased(Element)
        own = (row.run_id == Run.id, row.place == self.place, row.key == named.key)
        return sa.exists().where(*own, *(row.position.contains(position) for position in named.positions), condition(row))


def _kept(values: Sequence[Any]) -> list[Kept]:
    """Return what is kept of values that a filter compares with.

    Raises:
        UsageError: if one is a mapping.
    """
    kept = [kept_of(one) for one in values]
    if any(one.kind == MAPPING for one in kept):
        raise UsageError("a filter compares with texts, numbers, booleans, null and lists: name a mapping's values by their paths.")
    return kept


def _is_one_of(row: Any, kept: Sequence[Kept]) -> sa.ColumnElement[bool]:
    """Return the condition that a row is one of some values; it is never NULL, and may be negated."""
    parts = [row.kind == NULL] if Kept(NULL) in kept else []
    numbers = [one.number for one in kept if one.kind == NUMBER]
    if numbers:
        is_number = row.number.in_([one for one in numbers if one is not None])
        parts.append(sa.and_(row.kind == NUMBER, sa.or_(is_number, row.number.is_(None)) if None in numbers else is_number))
    for kind in (TEXT, BOOLEAN, LIST):
        texts = [one.text for one in kept if one.kind == kind]
        if texts:
            parts.append(sa.and_(row.kind == kind, row.text.in_(texts)))
    return _any_of(parts)


def _any_of(parts: Sequence[sa.ColumnElement[bool]]) -> sa.ColumnElement[bool]:
    """Return the condition that one of some others holds, which is never NULL.

    It is a function, as SQLAlchemy makes one row of all that stand side by side in OR, and SQLite takes 1,000.
    """
    return sa.func.coalesce(sa.or_(sa.false(), *parts), sa.false())


def _is_ordered(operator: str, value: Any) -> Callable[[Any], sa.ColumnElement[bool]]:
    kept = kept_of(value)
    if kept.kind not in (NUMBER, TEXT, BOOLEAN):
        raise UsageError(f"a filter compares with numbers, texts and booleans. Got {json.dumps(value)[:80]}.")
    return lambda row: sa.and_(
        row.kind == kept.kind, COMPARED[operator](*((row.number, kept.number) if kept.kind == NUMBER else (row.text, kept.text)))
    )


def _meets(operator: str, value: Any) -> Callable[[Any], sa.ColumnElement[bool]]:
    """Return what an operator of $elemMatch asks of one element."""
    if operator in COMPARED:
        return _is_ordered(operator, value)
    if operator == "$regex":
        expression = expression_of(value)
        return lambda row: sa.and_(row.kind == TEXT, row.text.regexp_match(expression))
    if operator in ("$ne", "$nin"):
        opposite = _meets("$eq" if operator == "$ne" else "$in", value)
        return lambda row: sa.not_(opposite(row))
    kept = _kept(list_of(operator, value) if operator == "$in" else [value])
    return lambda row: _is_one_of(row, kept)


def _length(column: Any) -> sa.ColumnElement[int]:
    """Return how many texts a JSON list of them has, by the quotes that no backslash escapes."""
    bare = sa.func.replace(sa.func.replace(column, "\\\\", ""), '\\"', "")
    return (sa.func.length(bare) - sa.func.length(sa.func.replace(bare, '"', ""))) // 2


def holds(column: Any, text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a text stands in a column, as it is written; LIKE ignores case on SQLite."""
    return sa.func.replace(column, text, "") != column


def list_of(operator: str, value: Any) -> list[Any]:
    """Return the list that an operator must have.

    Raises:
        UsageError: if it has none.
    """
    if not isinstance(value, list | tuple):
        what = "filters" if operator in ("$and", "$or", "$nor") else "values"
        raise UsageError(f"{operator} must have a list of {what}. Got {json.dumps(value)[:80]}.")
    return list(value)


def time_of(path: str, value: Any) -> datetime:
    """Return a moment that came as a text, in any zone, or in seconds since 1970.

    Raises:
        UsageError: if it is none.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (TypeError, ValueError, OverflowError, OSError):
        raise UsageError(f"{path} must be a time such as 2026-11-21T15:04:05Z. Got {json.dumps(value)[:80]}.") from None
