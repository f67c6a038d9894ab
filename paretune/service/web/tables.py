"""The table of runs: what the address says of filter, order, columns, groups and page, and the rows that follow from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from sqlalchemy.orm import Session, defer, joinedload

from paretune.core.best_epoch import known_goal
from paretune.core.errors import UsageError, did_you_mean
from paretune.runs.sweep_outcome import KEY
from paretune.service.store import runs, streams
from paretune.service.store.filters import condition_of, order_of
from paretune.service.store.run_values import BOOLEAN, LIST, TEXT
from paretune.service.store.safe_json import is_whole
from paretune.service.store.tables import Project, Run, User, Value
from paretune.service.web import words
from paretune.service.web.filter_text import COMPUTED, FIELD_OF, filter_of, is_literal, quoted, values_asked

FIELDS = ("state", "tags", "user", "created", "runtime", "sweep", "group", "job", "notes", "host", "id")
SORTED_BY = {**FIELD_OF, "name": "display_name", "id": "name"}  # a column -> what it is ordered by
USUAL = ("state", "created", "runtime")
MOST_USUAL = 5  # of the config, and of the summary, that are shown where no columns are chosen
SIZES = (50, 100)
MOST_IN_CSV = 50_000  # runs
MOST_GROUPED = 50_000  # runs that are put into groups
MOST_KEYS = 1000  # among which one that was meant is looked for
GROUPS = ("group", "sweep", "tag", "job")


@dataclass(frozen=True)
class Wanted:
    """What the address of a table asks for."""

    filter: str = ""
    sort: str = "-created"
    columns: tuple[str, ...] = ()
    group: str = ""
    page: int = 1
    size: int = SIZES[0]

    @classmethod
    def of(cls, query: Any) -> Wanted:
        """Return what the query of an address asks for."""
        page, size = query.get("page", "1"), query.get("size", "")
        return cls(
            filter=query.get("filter", "").strip(),
            sort=query.get("sort", "") or cls.sort,
            columns=tuple(dict.fromkeys(column for column in query.getlist("column") if is_column(column))),
            group=query.get("group", ""),
            page=int(page) if is_whole(page, 6) and int(page) > 0 else 1,
            size=int(size) if size in map(str, SIZES) else SIZES[0],
        )

    def address(self, **changes: Any) -> str:
        """Return the query of an address that asks for the same with these changes; from the first page, unless one is named."""
        values = {"filter": self.filter, "sort": self.sort, "column": self.columns, "group": self.group, "size": self.size}
        values |= {"page": 1, **changes}
        usual = {"filter": "", "sort": Wanted.sort, "column": (), "group": "", "size": SIZES[0], "page": 1}
        said = {key: value for key, value in values.items() if value != usual.get(key)}
        return f"?{urlencode(said, doseq=True)}" if said else "?"


def is_column(name: str) -> bool:
    """Whether a table can have a column of this name."""
    head, _, key = name.partition(".")
    return name in FIELDS or (head in ("config", "summary") and bool(key))


def matching(project: Project, text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a typed filter states, for runs of a project.

    Raises:
        UsageError: if the filter is not understood.
    """
    return sa.and_(Run.project_id == project.id, condition_of(filter_of(text)))


def why_none(session: Session, project: Project, text: str) -> str:
    """Return why a filter that is understood can find no run: a key that none has; empty where there is no such reason."""
    for path, values in values_asked(text):
        head, _, key = path.partition(".")
        own = (Run.project_id == project.id, Value.place == ("c" if head == "config" else "s"))
        kept = sa.select(Value.key).join(Run, Run.id == Value.run_id).where(*own).distinct()
        if session.scalar(kept.where(Value.key == key).limit(1)) is None:
            near = did_you_mean(key, session.scalars(kept.limit(MOST_KEYS)))
            return f"no run has a value {path}{near}{'' if near else '.'}"
        texts = [value for value in values if isinstance(value, str)]
        if texts and session.scalar(kept.where(Value.key == key, Value.kind == TEXT).limit(1)) is None:
            return f"{path} is a number in all runs that have it, and {texts[0]!r} is none."
    return ""


def ordering(sort: str) -> list[sa.ColumnElement[Any]]:
    """Return what a column's name, with a minus for the largest first, orders by.

    Raises:
        UsageError: if nothing can be ordered by it.
    """
    sign, name = ("-", sort[1:]) if sort.startswith("-") else ("+", sort)
    name = COMPUTED.get(name, name)
    if name == "tags" or (name not in SORTED_BY and not is_column(name)):
        raise UsageError(f"runs cannot be sorted by {name!r}: choose a column of the table.")
    return order_of(sign + SORTED_BY.get(name, name))


def count_of(session: Session, project: Project, wanted: Wanted) -> int:
    """Return how many runs there are on all pages.

    Raises:
        UsageError: if the filter is not understood.
    """
    counted = sa.select(sa.func.count(Run.id)).outerjoin(User, User.id == Run.user_id)
    return session.scalar(counted.where(matching(project, wanted.filter))) or 0


def page_of_runs(session: Session, project: Project, wanted: Wanted) -> Sequence[Run]:
    """Return the runs of a page.

    Raises:
        UsageError: if the filter or the order is not understood.
    """
    query = _runs(matching(project, wanted.filter), wanted)
    return session.scalars(query.offset((wanted.page - 1) * wanted.size).limit(wanted.size)).all()


def all_runs(session: Session, project: Project, wanted: Wanted) -> Iterable[Run]:
    """Return the runs of all pages, as far as a download goes."""
    return session.scalars(_runs(matching(project, wanted.filter), wanted).limit(MOST_IN_CSV)).yield_per(500)


def _runs(condition: sa.ColumnElement[bool], wanted: Wanted) -> sa.Select[Any]:
    query = sa.select(Run).outerjoin(User, User.id == Run.user_id).where(condition).order_by(*ordering(wanted.sort))
    return query.options(joinedload(Run.user), defer(Run.history_keys), defer(Run.system))


@dataclass(frozen=True)
class Row:
    """A run as a table shows it."""

    run: Run
    name: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    tags: Sequence[str]

    @classmethod
    def of(cls, run: Run) -> Row:
        """Return the row of a run."""
        return cls(run, run.display_name or run.name, runs.plain_config(run), json.loads(run.summary), json.loads(run.tags))

    def value(self, column: str) -> Any:
        """Return what stands in a column."""
        head, _, key = column.partition(".")
        if head == "config" and key:
            return streams.value_at(self.config, key)
        if head == "summary" and key:
            return streams.value_at(self.summary, key)
        return {
            "state": self.run.state,
            "tags": list(self.tags),
            "user": self.run.user.name if self.run.user else None,
            "created": self.run.created_at,
            "runtime": seconds_of(self.run, self.summary),
            "sweep": self.run.sweep_name,
            "group": self.run.group_name,
            "job": self.run.job_type,
            "notes": self.run.notes,
            "host": self.run.host,
            "id": self.run.name,
            "name": self.name,
        }.get(column)

    def text(self, column: str, most: int = words.MOST_CHARACTERS) -> str:
        """Return what stands in a column as a page shows it, in at most so many characters."""
        found = self.value(column)
        if column == "runtime":
            return words.duration(found)
        if column == "created":
            return words.ago(found)
        return words.value(found, most)


def seconds_of(run: Run, summary: Mapping[str, Any]) -> float:
    """Return how long a run has taken, in seconds, by its own clock where it says."""
    said = summary.get("_runtime")
    if isinstance(said, int | float) and not isinstance(said, bool):
        return words.as_float(said)
    return (run.heartbeat_at - run.created_at).total_seconds()


def keys_of(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return the columns that the configs and summaries of some runs can fill, those that differ first, and W&B's own left out."""
    config = {key: None for row in rows for key in _leaves(row.config)}
    summary = {key: None for row in rows for key in _leaves(row.summary) if not key.startswith("_")}
    differing = {key: len({json.dumps(streams.value_at(row.config, key), default=str) for row in rows}) > 1 for key in config}
    ordered = sorted(config, key=lambda key: not differing[key])
    return [f"config.{key}" for key in ordered], [f"summary.{key}" for key in summary]


def usual_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns of a table for which none are chosen."""
    config, summary = keys_of(rows)
    varied = [
        column for column in config if len({json.dumps(row.value(column), default=str) for row in rows}) > 1 or len(rows) == 1
    ]
    summary = [column for column in summary if not column.startswith(f"summary.{KEY}.")]  # what its sweep says of a run
    numbers = [column for column in summary if any(isinstance(row.value(column), int | float) for row in rows)]
    numbers.sort(key=_is_aside)
    more = [name for name in ("tags", "sweep", "group") if any(row.value(name) for row in rows)]
    return (*USUAL, *numbers[:MOST_USUAL], *varied[:MOST_USUAL], *more)


def _is_aside(column: str) -> bool:
    """Whether a metric is none by which runs are judged: of the training part, or of a name that tells no goal."""
    key = column.partition(".")[2]
    return key.startswith("train") or known_goal(key) is None


def _leaves(values: Mapping[str, Any], prefix: str = "", depth: int = 4) -> Iterable[str]:
    for key, value in values.items():
        if isinstance(value, dict) and depth and "_type" not in value and value:
            yield from _leaves(value, f"{prefix}{key}.", depth - 1)
        else:
            yield f"{prefix}{key}"


@dataclass(frozen=True)
class Group:
    """Runs that agree in something: how many there are, and mean and standard deviation of each column (None: no value)."""

    name: str
    count: int
    values: Mapping[str, tuple[float, float] | None]
    address: str | None  # of the table of its runs


def groups_of(session: Session, project: Project, wanted: Wanted, columns: Sequence[str]) -> list[Group]:
    """Return the runs of a table in groups, the largest first.

    Raises:
        UsageError: if nothing groups runs by that.
    """
    members = _members(session, project, wanted)
    numbers = _numbers(session, project, wanted, columns)
    found = []
    labels = words.values("(none)" if name is None else str(name) if isinstance(name, Literal) else name for name in members)
    for label, (name, names) in zip(labels, members.items(), strict=True):
        values = {
            column: _mean_and_deviation([numbers[column][run] for run in names if run in numbers[column]]) for column in columns
        }
        own = term(wanted.group, name)
        narrowed = " and ".join(part for part in (wanted.filter, own) if part)
        address = wanted.address(group="", filter=narrowed) if own else None
        found.append(Group(label, len(names), values, address))
    return sorted(found, key=lambda group: (-group.count, group.name))


@dataclass(frozen=True)
class Literal:
    """A value that a filter has without quotes: true, false or a list."""

    text: str

    def __str__(self) -> str:
        return self.text


def term(group: str, name: str | float | Literal | None) -> str | None:
    """Return the filter that finds the runs of a group; None where none says that."""
    if isinstance(name, Literal):
        return f"{group} = {name}" if is_literal(name.text) else None
    if isinstance(name, str):
        return f"{group} = {quoted(name)}"
    if name is None:
        return f"{group} = none" if group.startswith("config.") else None
    return f"{group} = {name!r}"


def _members(session: Session, project: Project, wanted: Wanted) -> dict[str | float | Literal | None, list[int]]:
    by: Any
    query = sa.select(Run.id).outerjoin(User, User.id == Run.user_id).where(matching(project, wanted.filter)).limit(MOST_GROUPED)
    if wanted.group == "tag":
        by = Run.tags
    elif wanted.group in GROUPS:
        by = {"group": Run.group_name, "sweep": Run.sweep_name, "job": Run.job_type}[wanted.group]
    elif wanted.group.startswith("config.") and is_column(wanted.group):
        key = wanted.group.partition(".")[2]
        query = query.outerjoin(Value, sa.and_(Value.run_id == Run.id, Value.place == "c", Value.key == key))
        by = None
        query = query.add_columns(Value.number, Value.text, Value.kind)
    else:
        raise UsageError(f"runs cannot be grouped by {wanted.group!r}: choose {', '.join(GROUPS)} or config.KEY.")
    if by is not None:
        query = query.add_columns(by)
    members: dict[str | float | Literal | None, list[int]] = {}
    values: list[Any]
    for run, *values in session.execute(query):
        if wanted.group == "tag":
            names: list[str | float | Literal | None] = json.loads(values[0]) or [None]
        elif len(values) == 3:
            names = [_name_of(*values)]
        else:
            names = [values[0]]
        for name in names:
            members.setdefault(name, []).append(run)
    return members


def _name_of(number: float | None, text: str | None, kind: str | None) -> str | float | Literal | None:
    """Return what the runs of one value of a config have in common."""
    if kind in (BOOLEAN, LIST):
        return Literal(str(text))
    return text if number is None else number


def _numbers(session: Session, project: Project, wanted: Wanted, columns: Sequence[str]) -> dict[str, dict[int, float]]:
    """Return the numbers of some columns by run."""
    found: dict[str, dict[int, float]] = {column: {} for column in columns}
    places = {("c" if column.startswith("config.") else "s", column.partition(".")[2]): column for column in columns}
    if not places:
        return found
    chosen = sa.or_(*(sa.and_(Value.place == place, Value.key == key) for place, key in places))
    query = (
        sa.select(Value.run_id, Value.place, Value.key, Value.number)
        .join(Run, Run.id == Value.run_id)
        .outerjoin(User, User.id == Run.user_id)
        .where(matching(project, wanted.filter), chosen)
    )
    for run, place, key, number in session.execute(query):
        if number is not None:
            found[places[place, key]][run] = number
    return found


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float] | None:
    if not values:
        return None
    mean = sum(values) / len(values)
    if not math.isfinite(mean) or len(values) < 2:
        return mean, 0.0 if math.isfinite(mean) else math.nan
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
