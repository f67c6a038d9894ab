"""Reads the spec of a saved view: its sections, panels and run sets, as the pages draw them.

A spec is untrusted input: every field is checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, defer, joinedload

from paretune.core.best_epoch import goal_of
from paretune.core.errors import UsageError
from paretune.service.store import runs
from paretune.service.store.accounts import Account
from paretune.service.store.filters import condition_of
from paretune.service.store.tables import Project, Run, User, View, now
from paretune.service.store.views import WORKSPACE, read_spec
from paretune.service.web import curves, tables, words

MOST_SHOWN = 500  # runs in a scatter plot or between parallel axes
MOST_ROWS = 50  # runs in a table
MOST_CURVES = 20  # runs whose curves are drawn
MOST_PANELS = 100
MOST_BLOCKS = 100  # of a report
MOST_AXES = 30  # metrics of a plot, or parallel axes
LINES, SCATTER, BARS, PARALLEL = "Run History Line Plot", "Scatter Plot", "Bar Chart", "Parallel Coordinates Plot"
OPERATORS = {"=": "$eq", "==": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte", "IN": "$in", "NIN": "$nin"}
FIELDS = {  # of a run, as the client names them -> the columns of our tables
    "displayName": "name",
    "name": "id",
    "createdAt": "created",
    "duration": "runtime",
    "username": "user",
    "jobType": "job",
    **{name: name for name in ("state", "tags", "sweep", "group", "notes", "host")},
}


@dataclass
class RunSet:
    """The runs that panels are about: those of a project that a filter lets through, in an order; `problem` says why not."""

    project: Project
    rows: list[tables.Row] = field(default_factory=list)
    count: int = 0
    columns: tuple[str, ...] = ()
    problem: str = ""
    ignored: list[str] = field(default_factory=list)  # what of it has no effect here


@dataclass
class Section:
    """Panels under a name, and the runs that they are about; or a text of a report, which has none."""

    name: str
    run_set: RunSet | None = None
    text: str = ""
    panels: list[dict[str, Any]] = field(default_factory=list)
    not_drawn: list[str] = field(default_factory=list)


def sections_of(session: Session, account: Account, view: View) -> list[Section]:
    """Return what a page shows of a view."""
    spec = read_spec(view.spec)
    found = _of_workspace(session, account, view, spec) if view.kind == WORKSPACE else _of_report(session, account, view, spec)
    left = MOST_PANELS
    for section in found:
        section.panels, left = section.panels[:left], max(0, left - len(section.panels))
    return found


def _of_workspace(session: Session, account: Account, view: View, spec: Mapping[str, Any]) -> list[Section]:
    inner = _mapping(spec.get("section"))
    run_set = _run_set(session, account, view.project, _first(inner.get("runSets"), inner.get("openRunSet")))
    listed = _mappings(_mapping(inner.get("panelBankConfig")).get("sections"))
    sections = [_section(_text(one.get("name")), run_set, _mappings(one.get("panels"))) for one in listed]
    return [one for one in sections if one.panels or one.not_drawn] or [Section("", run_set)]


def _of_report(session: Session, account: Account, view: View, spec: Mapping[str, Any]) -> list[Section]:
    found: list[Section] = []
    heading, blocks = "", _mappings(spec.get("blocks"))
    for block in blocks[:MOST_BLOCKS]:
        kind = block.get("type")
        if kind == "heading":
            heading = _words_of(block)
            found.append(Section(heading))
        elif kind == "panel-grid":
            grid = _mapping(block.get("metadata"))
            run_set = _run_set(session, account, view.project, _first(grid.get("runSets"), grid.get("openRunSet")))
            panels = _mappings(_mapping(grid.get("panelBankSectionConfig")).get("panels"))
            if found and found[-1].name and found[-1].run_set is None:  # the heading is that of the grid
                found.pop()
            found.append(_section(heading, run_set, panels))
            heading = ""
        elif _words_of(block).strip():
            found.append(Section("", text=_words_of(block)))
        elif kind not in ("paragraph", "default", "horizontal-rule"):
            found.append(Section("", not_drawn=[_text(kind) or "a block"]))
    if len(blocks) > MOST_BLOCKS:
        found.append(Section("", not_drawn=[f"the {len(blocks) - MOST_BLOCKS} blocks after this one"]))
    return found


def _section(name: str, run_set: RunSet, panels: Sequence[Mapping[str, Any]]) -> Section:
    section = Section(name, run_set)
    for panel in panels:
        config, kind = _mapping(panel.get("config")), _text(panel.get("viewType"))
        drawn = DRAWN[kind](config, run_set) if kind in DRAWN else None
        if drawn is None:
            section.not_drawn.append(kind or "a panel")
        else:
            section.panels.append({"kind": kind, "title": _text(config.get("chartTitle")) or drawn.pop("named"), **drawn})
    return section


# -- panels


def _lines(config: Mapping[str, Any], _: RunSet) -> dict[str, Any] | None:
    metrics = [_text(name) for name in _list(config.get("metrics"))[:MOST_AXES]]
    axis = _text(config.get("xAxis")) or "_step"
    if not metrics:
        return None
    axis = axis if axis in curves.AXES else "_step"
    return {"named": ", ".join(metrics), "metrics": metrics, "axis": axis, "log": config.get("yLogScale") is True}


def _scatter(config: Mapping[str, Any], run_set: RunSet) -> dict[str, Any] | None:
    axes = [_text(config.get(name)) for name in ("xAxis", "yAxis")]
    if not all(axes):
        return None
    columns = [_column(axis) for axis in axes]
    logs = [config.get(f"{name}AxisLogScale") is True for name in "xy"]
    names = [_label(column) for column in columns]
    return {"named": f"{names[1]} over {names[0]}", "names": names, "logs": logs, "points": _values(run_set, columns)}


def _bars(config: Mapping[str, Any], run_set: RunSet) -> dict[str, Any] | None:
    columns = [_column(_text(name)) for name in _list(config.get("metrics"))[:MOST_AXES]]
    if not columns:
        return None
    names = [_label(column) for column in columns]
    return {"named": ", ".join(names), "names": names, "points": _values(run_set, columns)[:MOST_ROWS]}


def _parallel(config: Mapping[str, Any], run_set: RunSet) -> dict[str, Any] | None:
    axes = [(column, _column(_text(column.get("accessor")))) for column in _mappings(config.get("columns"))[:MOST_AXES]]
    parameters = [column for _, column in axes if not column.startswith("summary.")]
    metrics = [column for _, column in axes if column.startswith("summary.")]
    if len(axes) < 2:
        return None
    rows = [
        {
            "run": point["run"],
            "name": point["name"],
            "config": dict(zip(map(_label, parameters), point["values"], strict=False)),
            "values": point["values"][len(parameters) :],
        }
        for point in _values(run_set, [*parameters, *metrics])
    ]
    return {
        "named": ", ".join(_label(column) for _, column in axes),
        "rows": rows,
        "parameters": [_label(column) for column in parameters],
        "objectives": [{"name": _label(column), "goal": goal_of(_label(column))} for column in metrics],
        "logarithmic": [_label(column) for one, column in axes if one.get("log") is True],
    }


DRAWN = {LINES: _lines, SCATTER: _scatter, BARS: _bars, PARALLEL: _parallel}


def _values(run_set: RunSet, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return of each run the values of some columns; None for what a figure cannot show."""
    return [
        {"run": row.run.name, "name": row.name, "values": [_plain(row.value(column), column) for column in columns]}
        for row in run_set.rows
    ]


def _plain(value: Any, column: str) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if math.isfinite(words.as_float(value)) else None
    if value is None or isinstance(value, str):
        return value
    return words.iso(value) if column == "created" else words.value(value)


# -- the runs


def _run_set(session: Session, account: Account, project: Project, asked: Mapping[str, Any]) -> RunSet:
    """Return the runs of a run set of a spec; a report's may be of another project, if the account may see it."""
    named = _mapping(asked.get("project"))
    entity, name = _text(named.get("entityName")) or project.entity.name, _text(named.get("name")) or project.name
    known = runs.project_of(session, account, name, entity)
    if known is None:
        return RunSet(project, problem=f"there is no project {entity}/{name} here that you may see.")
    run_set = RunSet(known)
    try:
        condition = sa.and_(Run.project_id == known.id, condition_of(_filter(_mapping(asked.get("filters")))))
        order = [ordering for key in _mappings(_mapping(asked.get("sort")).get("keys"))[:1] for ordering in _order(key)]
    except UsageError as error:
        run_set.problem = str(error)
        return run_set
    query = sa.select(Run).outerjoin(User, User.id == Run.user_id).where(condition)
    run_set.count = session.scalar(query.with_only_columns(sa.func.count(Run.id))) or 0
    query = query.order_by(*order or [Run.id.desc()]).limit(MOST_SHOWN)
    found = session.scalars(query.options(joinedload(Run.user), defer(Run.history_keys), defer(Run.system)))
    run_set.rows = [tables.Row.of(run) for run in found]
    run_set.columns = _columns(_mapping(asked.get("runFeed"))) or tables.usual_columns(run_set.rows)
    applied = {
        "grouping": asked.get("grouping"),
        "the search for names": _mapping(asked.get("search")).get("query"),
        "runs that are hidden one by one": _mapping(asked.get("selections")).get("tree"),
    }
    run_set.ignored = [name for name, value in applied.items() if value]
    return run_set


def _columns(feed: Mapping[str, Any]) -> tuple[str, ...]:
    shown = {**_mapping(feed.get("columnVisible")), **_mapping(feed.get("columnPinned"))}
    ordered = dict.fromkeys([*map(_text, _list(feed.get("columnOrder"))), *shown])
    columns = [_column(name) for name in ordered if shown.get(name) is True]
    return tuple(column for column in columns if column != "name" and tables.is_column(column))


def _order(key: Mapping[str, Any]) -> Any:
    return tables.ordering(("" if key.get("ascending") is True else "-") + _column(_key(key)))


def _filter(tree: Mapping[str, Any], depth: int = 20) -> dict[str, Any]:
    """Return a filter of a spec, in either of the client's two forms, as one of paretune/service/store/filters.py.

    In the newer form a list holds leaves and groups, each joined to those before it by AND, which binds closer, or OR.
    """
    if _mapping(tree.get("key")).get("name"):
        return _leaf(tree)
    alternatives: list[list[dict[str, Any]]] = []
    for item in _mappings(tree.get("filters")) if depth else ():
        condition = _filter(item, depth - 1)
        if not condition:
            continue
        joint = item.get("connector") or tree.get("op") or "AND"
        if joint == "OR" or not alternatives:
            alternatives.append([])
        alternatives[-1].append(condition)
    return {"$or": [{"$and": conditions} for conditions in alternatives]} if alternatives else {}


def _leaf(item: Mapping[str, Any]) -> dict[str, Any]:
    operator, value = _text(item.get("op")), item.get("value")
    if item.get("disabled") is True:
        return {}
    if operator == "WITHINSECONDS" and isinstance(value, int | float) and abs(value) < 1e9:
        return {"created_at": {"$gte": (now() - timedelta(seconds=value)).isoformat() + "Z"}}
    if operator not in OPERATORS:
        raise UsageError(f"the filter of this view has an operator that is not served here: {operator!r}.")
    section, _, key = _key(item).partition(":")
    path = {"config": f"config.{_config_path(key)}", "summary": f"summary.{key}"}.get(section, key)
    return {path: {OPERATORS[operator]: value}}


# -- names


def _column(accessor: str) -> str:
    """Return the column of our tables that the client's name of a value means: `config:lr.value`, `summary:f1`, `run:state`."""
    for mark in (":", "."):
        section, found, key = accessor.partition(mark)
        if found and section == "config":
            return f"config.{_config_path(key)}"
        if found and section in ("summary", "summary_metrics"):
            return f"summary.{key}"
        if found and section == "run":
            return FIELDS.get(key, key)
    return f"summary.{accessor}"


def _config_path(key: str) -> str:
    """Return the path of a value of a config, which W&B keeps under `value` of its first name."""
    first, _, rest = key.partition(".")
    inner = "" if rest == "value" else rest.removeprefix("value.")
    return f"{first}.{inner}" if inner else first


def _key(item: Mapping[str, Any]) -> str:
    key = _mapping(item.get("key"))
    return f"{_text(key.get('section')) or 'run'}:{_text(key.get('name'))}"


def _label(column: str) -> str:
    head, _, key = column.partition(".")
    return key if key and head in ("config", "summary") else column


def _first(run_sets: Any, place: Any) -> Mapping[str, Any]:
    """Return the run set that is open, else the first."""
    listed = _mappings(run_sets)
    is_there = isinstance(place, int) and 0 <= place < len(listed)
    return listed[place if is_there else 0] if listed else {}


def _words_of(block: Mapping[str, Any], depth: int = 10) -> str:
    """Return the text of a block of a report."""
    inner = "".join(_words_of(child, depth - 1) for child in _mappings(block.get("children"))) if depth else ""
    return _text(block.get("text", block.get("content"))) + inner


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in _list(value) if isinstance(one, dict)]


def _text(value: Any) -> str:
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else ""
