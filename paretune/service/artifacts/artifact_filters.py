"""W&B's filters and orderings of artifacts and their collections as conditions of SQL, over a few columns by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from paretune.core.errors import UsageError, did_you_mean
from paretune.service.store.artifact_tables import Artifact, ArtifactCollection
from paretune.service.store.filters import DEPTH, MOST_TAGS, holds, read_filters
from paretune.service.store.re2 import expression_of

Columns = Mapping[str, sa.orm.InstrumentedAttribute[Any]]
VERSIONS: Columns = {
    "state": Artifact.state,
    "version": Artifact.version,
    "versionIndex": Artifact.version,
    "digest": Artifact.digest,
    "description": Artifact.description,
    "size": Artifact.size,
    "createdAt": Artifact.created_at,
    "created_at": Artifact.created_at,
    "updatedAt": Artifact.updated_at,
    "tags": Artifact.tags,
}
COLLECTIONS: Columns = {
    "name": ArtifactCollection.name,
    "type": ArtifactCollection.type,
    "description": ArtifactCollection.description,
    "createdAt": ArtifactCollection.created_at,
    "created_at": ArtifactCollection.created_at,
    "updatedAt": ArtifactCollection.updated_at,
    "tags": ArtifactCollection.tags,
}
OPERATORS: dict[str, Callable[[Any, Any], sa.ColumnElement[bool]]] = {
    "$eq": lambda column, value: column.is_not_distinct_from(value),
    "$ne": lambda column, value: column.is_distinct_from(value),
    "$gt": lambda column, value: column > value,
    "$gte": lambda column, value: column >= value,
    "$lt": lambda column, value: column < value,
    "$lte": lambda column, value: column <= value,
    "$in": lambda column, value: column.in_(value),
    "$nin": lambda column, value: column.not_in(value),
    "$regex": lambda column, value: sa.func.coalesce(column, "").regexp_match(expression_of(value)),
    "$contains": lambda column, value: holds(column, str(value)) if value else sa.true(),
}


def condition_of(filters: str | None, columns: Columns) -> sa.ColumnElement[bool]:
    """Return the condition that a filter states.

    Raises:
        UsageError: if it is no filter, or has an operator or a path that is not known.
    """
    return _all(read_filters(filters), columns)


def order_of(order: str | None, columns: Columns, identifier: sa.orm.InstrumentedAttribute[int]) -> list[sa.ColumnElement[Any]]:
    """Return what to order by, of `+name` or `-createdAt`; the newest come first where nothing is asked for.

    Raises:
        UsageError: if the path is not known.
    """
    if not order:
        return [identifier.desc()]
    column = _column(order.lstrip("+-"), columns)
    return [column.desc(), identifier.desc()] if order.startswith("-") else [column.asc(), identifier.asc()]


def _all(filters: Any, columns: Columns, depth: int = DEPTH) -> sa.ColumnElement[bool]:
    if not isinstance(filters, Mapping):
        raise UsageError(f"a filter must be a mapping of paths and operators. Got {json.dumps(filters)[:80]}.")
    if depth == 0:
        raise UsageError(f"filters may stand at most {DEPTH} deep in each other.")
    parts: list[sa.ColumnElement[bool]] = []
    for key, value in filters.items():
        if key in ("$and", "$or", "$nor"):
            inner = [_all(one, columns, depth - 1) for one in _list(key, value)]
            joined = sa.and_(sa.true(), *inner) if key == "$and" else sa.or_(sa.false(), *inner)
            parts.append(sa.not_(joined) if key == "$nor" else joined)
        elif key == "$not":
            parts.append(sa.not_(_all(value, columns, depth - 1)))
        else:
            parts.append(_of_path(key, value, columns))
    return sa.and_(sa.true(), *parts)


def _of_path(path: str, wanted: Any, columns: Columns) -> sa.ColumnElement[bool]:
    column = _column(path, columns)
    parts = []
    for operator, value in (wanted if isinstance(wanted, Mapping) else {"$eq": wanted}).items():
        if operator not in OPERATORS:
            near = did_you_mean(operator, list(OPERATORS)) or f"; there are {', '.join(OPERATORS)}."
            raise UsageError(f"{operator} is not an operator of filters{near}")
        if path == "tags" and operator in ("$eq", "$in", "$ne", "$nin"):
            names = _list(operator, value) if operator in ("$in", "$nin") else [value]
            if len(names) > MOST_TAGS:
                raise UsageError(f"tags are compared with at most {MOST_TAGS} texts. Got {len(names):,}.")
            tagged = sa.or_(sa.false(), *(holds(column, json.dumps(name)) for name in names))
            parts.append(sa.not_(tagged) if operator in ("$ne", "$nin") else tagged)
        elif operator in ("$in", "$nin"):
            parts.append(OPERATORS[operator](column, [_value(path, one) for one in _list(operator, value)]))
        else:
            parts.append(OPERATORS[operator](column, _value(path, value)))
    return sa.and_(sa.true(), *parts)


def _list(operator: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"{operator} must have a list. Got {json.dumps(value)[:80]}.")
    return value


def _column(path: str, columns: Columns) -> sa.orm.InstrumentedAttribute[Any]:
    if path not in columns:
        near = did_you_mean(path, list(columns)) or f"; there are {', '.join(columns)}."
        raise UsageError(f"there is no field {path!r}{near}")
    return columns[path]


def _value(path: str, value: Any) -> Any:
    """Return a value as its column has it; a text for one that has numbers, or the other way round, equals nothing."""
    if path in ("version", "versionIndex", "size"):
        if not isinstance(value, int | float):
            raise UsageError(f"{path} must be compared with a number. Got {json.dumps(value)[:80]}.")
        return value
    if value is None:
        return None
    if path.startswith(("created", "updated")):
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise UsageError(f"{path} must be a time such as 2026-11-21T15:04:05Z. Got {json.dumps(value)[:80]}.") from None
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return str(value)
