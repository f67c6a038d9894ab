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

from paretune.core.errors import UsageError, did_you_mean
from paretune.service.store import safe_json
from paretune.service.store.re2 import expression_of
from paretune.service.store.tables import Run, Sweep, User, Value

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
MOST_CONDITIONS = 400  # paths and operators in one filter; SQLite takes 1,000 conditions
MOST_TAGS = 200  # that a run may have one of
MOST_COMPARED = 10_000  # values in one filter, those of $in with them


def condition_of(filters: str | Mapping[str, Any] | None, fields: Fields = FIELDS) -> sa.ColumnElement[bool]:
    """Return the condition that a filter states; of runs, the query must select from Run and outer-join User.

    Raises:
        UsageError: if it is no filter, or has an operator or a path that is not known.
    """
    return _all(read_filters(filters), DEPTH, fields)


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


def read_filters(filters: str | Mapping[str, Any] | None) -> Any:
    """Return a filter as a mapping, from JSON if need be.

    Raises:
        UsageError: if it is no JSON, or has too many conditions.
    """
    try:
        read = safe_json.read(filters or "{}") if isinstance(filters, str) else filters
        conditions, values = _size(read)
    except (ValueError, RecursionError):
        raise UsageError(f"filters must be JSON. Got {str(filters)[:80]!r}.") from None
    if conditions > MOST_CONDITIONS or values > MOST_COMPARED:
        raise UsageError(f"a filter may have at most {MOST_CONDITIONS} paths and operators, and {MOST_COMPARED:,} values.")
    return {} if read is None else read


def _size(filters: Any) -> tuple[int, int]:
    """Return how many paths and operators a filter has, and how many values."""
    if not isinstance(filters, Mapping | list):
        return 0, 1
    sizes = [_size(one) for one in (filters.values() if isinstance(filters, Mapping) else filters)]
    own = len(filters) if isinstance(filters, Mapping) else 0
    return own + sum(conditions for conditions, _ in sizes), sum(values for _, values in sizes)


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
                found[path] = float_of(value)
        elif isinstance(value, str):
            found[path] = value
    return found


def float_of(value: float) -> float:
    """Return a number as one of 64 bits; a larger one is infinite."""
    if abs(value) < 1e308 or value != value:
        return float(value)
    return math.inf if value > 0 else -math.inf


def holds(column: Any, text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a text stands in a column, as it is written; LIKE ignores case on SQLite."""
    return sa.func.replace(column, text, "") != column


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
    if depth == 0:
        raise UsageError(f"filters may stand at most {DEPTH} deep in each other.")
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
        if path != "tags":
            return _among(path, value, fields)
        if len(value) > MOST_TAGS:
            raise UsageError(f"tags are compared with at most {MOST_TAGS} texts. Got {len(value):,}.")
        return sa.or_(sa.false(), *(_compared(path, "$eq", one, fields) for one in value))
    if path == "tags" and fields is FIELDS:
        return _tagged(operator, value)
    place = _place(path) if fields is FIELDS else None
    if place is None:
        return _of_field(fields[_known(path, fields)], path, operator, value)
    return _of_value(place, operator, value)


def _among(path: str, values: Sequence[Any], fields: Fields) -> sa.ColumnElement[bool]:
    """Return the condition that a path has one of the values; each kind of them is one list of SQL."""
    place = _place(path) if fields is FIELDS else None
    parts: list[sa.ColumnElement[bool]]
    if place is None:
        column: Any = fields[_known(path, fields)]
        known = [_time(path, one) if path in TIMES else one for one in values if one is not None]
        known = [one for one in known if isinstance(one, str | datetime)]
        parts = [sa.func.coalesce(column.in_(known), sa.false())]
    else:
        found = aliased(Value)
        own = (found.run_id == Run.id, found.place == place[0], found.key == place[1])
        kept = [_kept(one) for one in values if one is not None]
        texts, numbers = ([one for one in kept if isinstance(one, kind)] for kind in (str, float))
        parts = [sa.exists().where(*own, sa.or_(found.text.in_(texts), found.number.in_(numbers)))]
    if None in values:
        parts.append(_compared(path, "$eq", None, fields))
    return sa.or_(sa.false(), *parts)


def _of_field(column: sa.orm.InstrumentedAttribute[Any], path: str, operator: str, value: Any) -> sa.ColumnElement[bool]:
    if operator == "$exists":
        return column.is_not(None) if value else column.is_(None)
    if operator == "$regex":
        return sa.func.coalesce(column, "").regexp_match(expression_of(value))
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
        return sa.exists().where(*own, found.text.regexp_match(expression_of(value)))
    kept = _kept(value)
    column: Any = found.text if isinstance(kept, str) else found.number
    return sa.exists().where(*own, column == kept if operator == "$eq" else COMPARED[operator](column, kept))


def _kept(value: Any) -> float | str:
    """Return a value as those of a config or summary are kept."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return float_of(value)
    if isinstance(value, str):
        return value
    raise UsageError(f"a filter compares with numbers and texts. Got {json.dumps(value)[:80]}.")


def _tagged(operator: str, value: Any) -> sa.ColumnElement[bool]:
    if operator == "$exists":
        return Run.tags != "[]" if value else Run.tags == "[]"
    if operator == "$regex":
        return Run.tags.regexp_match(expression_of(value))
    if operator != "$eq" or not isinstance(value, str):
        raise UsageError("tags are compared by $eq, $ne, $in, $nin, $regex and $exists, with texts.")
    return holds(Run.tags, json.dumps(value))


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
