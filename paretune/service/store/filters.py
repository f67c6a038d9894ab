"""W&B's filters and orderings of runs (the query language of MongoDB, as `Api().runs` takes it) as conditions of SQL.

A path is a field of the run (`state`, `tags`, `sweep`, `created_at`, …) or a value of its config or summary
(`config.lr`, `config.lr.value`, `summary_metrics.loss`). Kinds of values are told apart and lists looked into as MongoDB does.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from paretune.core.errors import UsageError, did_you_mean
from paretune.service.store import safe_json
from paretune.service.store.filter_targets import COMPARED, Field, Tags, Target, Values, list_of
from paretune.service.store.re2 import expression_of
from paretune.service.store.run_values import BOOLEAN, MOST_KEY, NUMBER, TEXT, named_by, shortened
from paretune.service.store.tables import Run, Sweep, User, Value

Fields = Mapping[str, sa.orm.InstrumentedAttribute[Any]]


def in_both_cases(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns by their names in snake case and in camel case, as W&B's client uses both."""
    camel = {re.sub(r"_(.)", lambda match: match[1].upper(), name): column for name, column in columns.items()}
    return {**columns, **camel}


FIELDS: Fields = in_both_cases(
    {
        "name": Run.name,
        "display_name": Run.display_name,
        "state": Run.state,
        "sweep": Run.sweep_name,
        "sweep_name": Run.sweep_name,
        "group": Run.group_name,
        "job_type": Run.job_type,
        "notes": Run.notes,
        "description": Run.description,
        "host": Run.host,
        "commit": Run.commit,
        "created_at": Run.created_at,
        "heartbeat_at": Run.heartbeat_at,
        "updated_at": Run.heartbeat_at,
        "username": User.name,
        "user": User.name,
    }
)
COMPUTED = {"duration": ("s", "_runtime"), "runtime": ("s", "_runtime")}  # fields that are values of the summary
SWEEP_FIELDS: Fields = in_both_cases(
    {
        "name": Sweep.name,
        "display_name": Sweep.display_name,
        "state": Sweep.state,
        "method": Sweep.method,
        "description": Sweep.description,
        "created_at": Sweep.created_at,
        "updated_at": Sweep.updated_at,
        "heartbeat_at": Sweep.heartbeat_at,
    }
)
KNOWN = ["$eq", "$ne", *COMPARED, "$in", "$nin", "$all", "$size", "$elemMatch", "$contains", "$regex", "$exists", "$not"]
ELEMENTAL = {"$eq", "$ne", *COMPARED, "$in", "$nin", "$regex"}  # operators that $elemMatch can have
DEPTH = 20  # of conditions inside conditions
MOST_CONDITIONS = 400  # paths, operators and values of $all in one filter; SQLite takes 1,000 conditions
MOST_COMPARED = 10_000  # values in one filter, those of $in with them; SQLite takes 32,766, and each is sent twice


def condition_of(filters: str | Mapping[str, Any] | None, fields: Fields = FIELDS) -> sa.ColumnElement[bool]:
    """Return the condition that a filter states; of runs, the query must select from Run and outer-join User.

    Raises:
        UsageError: if it is no filter, or has an operator or a path that is not known.
    """
    return condition_by(filters, functools.partial(_target, fields=fields))


def condition_by(filters: str | Mapping[str, Any] | None, target_of: Callable[[str], Target]) -> sa.ColumnElement[bool]:
    """Return the condition that a filter states.

    Args:
        target_of: returns what a path names, and raises UsageError where there is no such path.

    Raises:
        UsageError: if it is no filter, or has an operator or a path that is not known.
    """
    return _all(read_filters(filters), DEPTH, target_of)


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
        columns = [Run.tags if path == "tags" else FIELDS[_known(path, FIELDS)]]
    else:
        value = aliased(Value)
        key, kinds = shortened(place[1], MOST_KEY), (NUMBER, TEXT, BOOLEAN)
        columns = [
            sa.select(column)
            .where(value.run_id == Run.id, value.place == place[0], value.key == key, value.kind.in_(kinds))
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
        raise UsageError(
            f"a filter may have at most {MOST_CONDITIONS} paths, operators and values of $all, and {MOST_COMPARED:,} values; "
            f"behind a path, each number in it doubles their count. Got {conditions:,} and {values:,}."
        )
    return {} if read is None else read


def _size(filters: Any) -> tuple[int, int]:
    """Return how many conditions a filter makes, and with how many values, as often as a path may name different things."""
    if isinstance(filters, list):
        sizes = [_size(one) for one in filters]
    elif isinstance(filters, Mapping):
        sizes = [(len(filters), 0)]
        for key, value in filters.items():
            conditions, values = _size(value)
            if key == "$all" and isinstance(value, list):
                conditions += len(value)
            meanings = len(named_by(key))
            sizes.append((conditions * meanings, values * meanings))
    else:
        return 0, 1
    return sum(conditions for conditions, _ in sizes), sum(values for _, values in sizes)


def _all(filters: Any, depth: int, target_of: Callable[[str], Target]) -> sa.ColumnElement[bool]:
    if not isinstance(filters, Mapping):
        raise UsageError(f"a filter must be a mapping of paths and operators. Got {json.dumps(filters)[:80]}.")
    if depth == 0:
        raise UsageError(f"filters may stand at most {DEPTH} deep in each other.")
    parts: list[sa.ColumnElement[bool]] = []
    for key, value in filters.items():
        if key in ("$and", "$or", "$nor"):
            inner = [_all(one, depth - 1, target_of) for one in list_of(key, value)]
            joined = sa.and_(sa.true(), *inner) if key == "$and" else sa.or_(sa.false(), *inner)
            parts.append(sa.not_(joined) if key == "$nor" else joined)
        elif key == "$not":
            parts.append(sa.not_(_all(value, depth - 1, target_of)))
        elif key.startswith("$"):
            raise UsageError(f"{key} is not an operator between filters{did_you_mean(key, ['$and', '$or', '$not', '$nor']) or '.'}")
        else:
            parts.append(_of_path(key, value, depth, target_of))
    return sa.and_(sa.true(), *parts)


def _of_path(path: str, wanted: Any, depth: int, target_of: Callable[[str], Target]) -> sa.ColumnElement[bool]:
    if depth == 0:
        raise UsageError(f"filters may stand at most {DEPTH} deep in each other.")
    target = target_of(path)
    parts = []
    for operator, value in _operators_of(wanted).items():
        if operator == "$not":
            parts.append(sa.not_(_of_path(path, value, depth - 1, target_of)))
        else:
            parts.append(_compared(target, operator, value))
    return sa.and_(sa.true(), *parts)


def _operators_of(wanted: Any) -> Mapping[str, Any]:
    """Return the operators that a path is compared by; a value alone is one that it shall equal."""
    return wanted if isinstance(wanted, Mapping) and any(str(key).startswith("$") for key in wanted) else {"$eq": wanted}


def _compared(target: Target, operator: str, value: Any) -> sa.ColumnElement[bool]:
    """Return the condition that an operator states of what a path names.

    Raises:
        UsageError: if there is no such operator, or it has another kind of value.
    """
    if operator in ("$ne", "$nin"):
        return sa.not_(_compared(target, "$eq" if operator == "$ne" else "$in", value))
    if operator == "$eq":
        return target.equals([value])
    if operator == "$in":
        return target.equals(list_of(operator, value))
    if operator == "$all":
        wanted = list_of(operator, value)
        return sa.and_(sa.true(), *(target.equals([one]) for one in wanted)) if wanted else sa.false()
    if operator in COMPARED:
        if value is None:  # null is as large as itself, and is compared with nothing else
            return target.equals([None]) if operator in ("$gte", "$lte") else sa.false()
        return target.ordered(operator, value)
    if operator == "$exists":
        return target.exists() if value else sa.not_(target.exists())
    if operator == "$regex":
        return target.matches(expression_of(value))
    if operator == "$contains":
        if not isinstance(value, str):
            raise UsageError(f"$contains must have a text. Got {json.dumps(value)[:80]}.")
        return target.contains(value)
    if operator == "$size":
        if not isinstance(value, int | float) or isinstance(value, bool) or value != value // 1 or not 0 <= value < 2**31:
            raise UsageError(f"$size must have a whole number. Got {json.dumps(value)[:80]}.")
        return target.has_size(int(value))
    if operator == "$elemMatch":
        if not isinstance(value, Mapping) or not value or not set(value) <= ELEMENTAL:
            raise UsageError(f"$elemMatch must have a mapping of {', '.join(sorted(ELEMENTAL))}. Got {json.dumps(value)[:80]}.")
        return target.has_element(value)
    raise UsageError(f"{operator} is not an operator of filters{did_you_mean(operator, KNOWN) or f'; there are {KNOWN}.'}")


def _target(path: str, fields: Fields) -> Target:
    place = _place(path) if fields is FIELDS else None
    if path == "tags" and fields is FIELDS:
        return Tags(Run.tags)
    if place is not None:
        return Values(*place)
    known = _known(path, fields)
    return Field(fields[known], known)


def _place(path: str) -> tuple[str, str] | None:
    """Return where the value of a path is kept: place and key; None for a field of the run."""
    if path in COMPUTED:
        return COMPUTED[path]
    head, _, key = path.partition(".")
    if head == "config" and key:
        return "c", _unwrapped(key)
    if head in ("summary_metrics", "summaryMetrics", "summary") and key:
        return "s", key
    return None


def _unwrapped(key: str) -> str:
    """Return a key of a config without W&B's `value` around it: behind the first part, or else at the end."""
    head, value, rest = key.partition(".value.")
    return f"{head}.{rest}" if value and "." not in head else key.removesuffix(".value")


def _known(path: str, fields: Fields) -> str:
    if path not in fields:
        names = [*fields, *(("tags", "config.NAME", "summary_metrics.NAME") if fields is FIELDS else ())]
        near = did_you_mean(path, names) or f"; there are {', '.join(names)}."
        raise UsageError(f"{'runs' if fields is FIELDS else 'sweeps'} have no field {path!r}{near}")
    return path
