"""W&B's filters and orderings of runs (the query language of MongoDB, as `Api().runs` takes it) as conditions of SQL.

A path is a field of the run (`state`, `tags`, `sweep`, `created_at`, …) or a value of its config or summary
(`config.lr`, `config.lr.value`, `summary_metrics.loss`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from service.database import Run, Sweep, User, Value
from trainers.errors import UsageError, did_you_mean

Fields = Mapping[str, sa.orm.InstrumentedAttribute[Any]]
FIELDS: Fields = {
    "name": Run.name,
    "display_name": Run.display_name,
    "displayName": Run.display_name,
    "state": Run.state,
    "sweep": Run.sweep_name,
    "group": Run.group_name,
    "jobType": Run.job_type,
    "job_type": Run.job_type,
    "notes": Run.notes,
    "host": Run.host,
    "commit": Run.commit,
    "created_at": Run.created_at,
    "createdAt": Run.created_at,
    "heartbeat_at": Run.heartbeat_at,
    "heartbeatAt": Run.heartbeat_at,
    "username": User.name,
}
SWEEP_FIELDS: Fields = {
    "name": Sweep.name,
    "display_name": Sweep.display_name,
    "displayName": Sweep.display_name,
    "state": Sweep.state,
    "method": Sweep.method,
    "description": Sweep.description,
    "created_at": Sweep.created_at,
    "createdAt": Sweep.created_at,
    "updated_at": Sweep.updated_at,
    "updatedAt": Sweep.updated_at,
    "heartbeat_at": Sweep.heartbeat_at,
    "heartbeatAt": Sweep.heartbeat_at,
}
TIMES = {"created_at", "createdAt", "heartbeat_at", "heartbeatAt", "updated_at", "updatedAt"}
COMPARED: dict[str, Callable[[Any, Any], sa.ColumnElement[bool]]] = {
    "$gt": lambda column, value: column > value,
    "$gte": lambda column, value: column >= value,
    "$lt": lambda column, value: column < value,
    "$lte": lambda column, value: column <= value,
}
DEPTH = 20  # of conditions inside conditions


def condition_of(filters: str | Mapping[str, Any] | None, fields: Fields = FIELDS) -> sa.ColumnElement[bool]:
    """Return the condition that a filter states; of runs, the query must select from Run and outer-join User.

    Raises:
        UsageError: if it is no filter, or has an operator or a path that is not known.
    """
    read: Any = filters
    if isinstance(filters, str):
        try:
            read = json.loads(filters) if filters else {}
        except ValueError:
            raise UsageError(f"filters must be JSON. Got {filters[:80]!r}.") from None
    return _all(read or {}, DEPTH, fields)


def order_of(order: str | None) -> list[sa.ColumnElement[Any]]:
    """Return what to order by, of `+created_at`, `-summary_metrics.loss`, `+config.lr.value`; runs without the value come last.

    Raises:
        UsageError: if the path is not known.
    """
    order = order or "+created_at"
    descending, path = order.startswith("-"), order.lstrip("+-")
    place = _place(path)
    columns: list[Any]
    if place is None:
        columns = [FIELDS[_known(path, FIELDS)]]
    else:
        value = aliased(Value)
        columns = [
            sa.select(column)
            .where(value.run_id == Run.id, value.place == place[0], value.key == place[1])
            .correlate(Run)
            .scalar_subquery()
            for column in (value.number, value.text)
        ]
    ordered: list[sa.ColumnElement[Any]] = []
    for column in columns:
        ordered += [column.is_(None), column.desc() if descending else column.asc()]
    return [*ordered, Run.id.desc() if descending else Run.id.asc()]


def flat_values(values: Any, prefix: str = "") -> dict[str, float | str]:
    """Return the numbers and texts of a nested mapping by dotted path; what is neither, or not a number, is left out."""
    found: dict[str, float | str] = {}
    for key, value in values.items() if isinstance(values, dict) else ():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            found |= flat_values(value, f"{path}.")
        elif isinstance(value, bool):
            found[path] = "true" if value else "false"
        elif isinstance(value, int | float):
            if value == value:
                found[path] = float(value) if abs(value) < 1e308 else math.inf if value > 0 else -math.inf
        elif isinstance(value, str):
            found[path] = value
    return found


def _all(filters: Any, depth: int, fields: Fields) -> sa.ColumnElement[bool]:
    if not isinstance(filters, Mapping):
        raise UsageError(f"a filter must be a mapping of paths and operators. Got {json.dumps(filters)[:80]}.")
    if depth == 0:
        raise UsageError(f"filters may stand at most {DEPTH} deep in each other.")
    parts: list[sa.ColumnElement[bool]] = []
    for key, value in filters.items():
        if key in ("$and", "$or", "$nor"):
            if not isinstance(value, Sequence) or isinstance(value, str):
                raise UsageError(f"{key} must have a list of filters. Got {json.dumps(value)[:80]}.")
            inner = [_all(one, depth - 1, fields) for one in value]
            joined = sa.and_(sa.true(), *inner) if key == "$and" else sa.or_(sa.false(), *inner)
            parts.append(sa.not_(joined) if key == "$nor" else joined)
        elif key == "$not":
            parts.append(sa.not_(_all(value, depth - 1, fields)))
        elif key.startswith("$"):
            raise UsageError(f"{key} is not an operator between filters{did_you_mean(key, ['$and', '$or', '$not', '$nor']) or '.'}")
        else:
            parts.append(_of_path(key, value, depth, fields))
    return sa.and_(sa.true(), *parts)


def _of_path(path: str, wanted: Any, depth: int, fields: Fields) -> sa.ColumnElement[bool]:
    operators = wanted if isinstance(wanted, Mapping) and any(str(key).startswith("$") for key in wanted) else {"$eq": wanted}
    parts = []
    for operator, value in operators.items():
        if operator == "$not":
            parts.append(sa.not_(_of_path(path, value, depth - 1, fields)))
        else:
            parts.append(_compared(path, operator, value, fields))
    return sa.and_(sa.true(), *parts)


def _compared(path: str, operator: str, value: Any, fields: Fields) -> sa.ColumnElement[bool]:
    known = ["$eq", "$ne", *COMPARED, "$in", "$nin", "$regex", "$exists", "$not"]
    if operator not in known:
        raise UsageError(f"{operator} is not an operator of filters{did_you_mean(operator, known) or f'; there are {known}.'}")
    if operator in ("$ne", "$nin"):
        return sa.not_(_compared(path, "$eq" if operator == "$ne" else "$in", value, fields))
    if operator == "$in":
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise UsageError(f"$in must have a list. Got {json.dumps(value)[:80]}.")
        return sa.or_(sa.false(), *(_compared(path, "$eq", one, fields) for one in value))
    if path == "tags" and fields is FIELDS:
        return _tagged(operator, value)
    place = _place(path) if fields is FIELDS else None
    if place is None:
        return _of_field(fields[_known(path, fields)], path, operator, value)
    return _of_value(place, operator, value)


def _of_field(column: sa.orm.InstrumentedAttribute[Any], path: str, operator: str, value: Any) -> sa.ColumnElement[bool]:
    if operator == "$exists":
        return column.is_not(None) if value else column.is_(None)
    if operator == "$regex":
        return sa.func.coalesce(column, "").regexp_match(str(value))
    if value is None:
        return column.is_(None) if operator == "$eq" else sa.false()
    if path in TIMES:
        value = _time(path, value)
    elif not isinstance(value, str):
        return sa.false()
    comparison = column == value if operator == "$eq" else COMPARED[operator](column, value)
    return sa.func.coalesce(comparison, sa.false())


def _of_value(place: tuple[str, str], operator: str, value: Any) -> sa.ColumnElement[bool]:
    found = aliased(Value)
    own = (found.run_id == Run.id, found.place == place[0], found.key == place[1])
    if operator == "$exists" or (operator == "$eq" and value is None):
        there = sa.exists().where(*own)
        return there if operator == "$exists" and value else sa.not_(there)
    if operator == "$regex":
        return sa.exists().where(*own, found.text.regexp_match(str(value)))
    if isinstance(value, bool):
        value = "true" if value else "false"
    if isinstance(value, int | float):
        column: Any = found.number
    elif isinstance(value, str):
        column = found.text
    else:
        raise UsageError(f"a filter compares with numbers and texts. Got {json.dumps(value)[:80]}.")
    return sa.exists().where(*own, column == value if operator == "$eq" else COMPARED[operator](column, value))


def _tagged(operator: str, value: Any) -> sa.ColumnElement[bool]:
    if operator == "$exists":
        return Run.tags != "[]" if value else Run.tags == "[]"
    if operator == "$regex":
        return Run.tags.regexp_match(str(value))
    if operator != "$eq" or not isinstance(value, str):
        raise UsageError("tags are compared by $eq, $ne, $in, $nin, $regex and $exists, with texts.")
    return Run.tags.contains(json.dumps(value), autoescape=True)


def _place(path: str) -> tuple[str, str] | None:
    """Return where the value of a path is kept: place and key; None for a field of the run."""
    head, _, key = path.partition(".")
    if head == "config" and key:
        return "c", key.removesuffix(".value")
    if head in ("summary_metrics", "summaryMetrics", "summary") and key:
        return "s", key
    return None


def _known(path: str, fields: Fields) -> str:
    if path not in fields:
        names = [*fields, *(("tags", "config.NAME", "summary_metrics.NAME") if fields is FIELDS else ())]
        near = did_you_mean(path, names) or f"; there are {', '.join(names)}."
        raise UsageError(f"{'runs' if fields is FIELDS else 'sweeps'} have no field {path!r}{near}")
    return path


def _time(path: str, value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise UsageError(f"{path} must be a time such as 2026-11-21T15:04:05Z. Got {json.dumps(value)[:80]}.") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
