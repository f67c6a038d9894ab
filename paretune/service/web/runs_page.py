"""The table of a project's runs: shown, downloaded as CSV, and changed."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace

import sqlalchemy as sa
from starlette.responses import RedirectResponse, Response

from paretune.core.errors import UsageError
from paretune.core.short_names import shortened
from paretune.service.store import runs
from paretune.service.store.tables import Run, Sweep, as_json
from paretune.service.web import tables, words
from paretune.service.web.visits import Visit, back

MOST_COMPARED = 20
LONGEST = 10_000  # characters of a value that is told from others
MOST_CHANGED = 1000  # runs at once
FORMULA = re.compile(r"^[=+\-@\t\r]")


def table(visit: Visit) -> Response:
    """The table; a filter or order that is not understood gives its sentence beside the box."""
    project, wanted = visit.project(), tables.Wanted.of(visit.request.query_params)
    problem, none, rows, count, groups = "", "", [], 0, []
    try:
        count = tables.count_of(visit.session, project, wanted)
        wanted = replace(wanted, page=min(wanted.page, max(1, -(-count // wanted.size))))
        found = tables.page_of_runs(visit.session, project, wanted)
        rows = [tables.Row.of(run) for run in found]
        none = "" if rows else tables.why_none(visit.session, project, wanted.filter)
    except UsageError as error:
        problem = str(error)
    config, summary = tables.keys_of(rows)
    columns = wanted.columns or tables.usual_columns(rows)
    if wanted.group and not problem:
        columns = tuple(column for column in columns if column.startswith(("summary.", "config.")) and column != wanted.group)
        try:
            groups = tables.groups_of(visit.session, project, wanted, columns)
        except UsageError as error:
            problem = str(error)
    sweeps = visit.session.scalar(sa.select(sa.func.count(Sweep.id)).where(Sweep.project_id == project.id))
    live = visit.session.scalar(sa.select(sa.func.count(Run.id)).where(Run.project_id == project.id, Run.state.in_(runs.LIVE)))
    return visit.page(
        "runs.html",
        project=project,
        wanted=wanted,
        problem=problem or none,
        rows=rows,
        texts={column: shortened([row.text(column, LONGEST) for row in rows], words.MOST_IN_ROW) for column in ("name", *columns)},
        numeric={column for column in columns if any(isinstance(row.value(column), int | float) for row in rows)},
        count=count,
        columns=columns,
        known=list(dict.fromkeys((*tables.FIELDS, *config, *summary, *columns))),
        groups=groups,
        groupings=[*tables.GROUPS, *config],
        pages=max(1, -(-count // wanted.size)),
        sizes=tables.SIZES,
        n_sweeps=sweeps,
        live=live,
        may_write=visit.may_write(project),
    )


def download(visit: Visit) -> Response:
    """What the table shows, of all its pages, as CSV."""
    project, wanted = visit.project(), tables.Wanted.of(visit.request.query_params)
    found = tables.all_runs(visit.session, project, wanted)
    out, columns = io.StringIO(), wanted.columns
    if not columns:
        first = tables.page_of_runs(visit.session, project, wanted)
        columns = tables.usual_columns([tables.Row.of(run) for run in first])
    writer = csv.writer(out)
    writer.writerow([plain_cell(name) for name in ("id", "name", *columns)])
    for run in found:
        row = tables.Row.of(run)
        values = [run.name, row.name, *(_cell(row, column) for column in columns)]
        writer.writerow([plain_cell(value) for value in values])
    name = re.sub(r"[^\w.-]+", "_", f"{project.entity.name}-{project.name}")
    headers = {"content-disposition": f'attachment; filename="{name}.csv"', "cache-control": "no-store"}
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _cell(row: tables.Row, column: str) -> object:
    value = row.value(column)
    if column == "created":
        return words.iso(value)
    if column == "tags":
        return " ".join(value)
    return json.dumps(value) if isinstance(value, dict | list) else value


def plain_cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def change(visit: Visit) -> Response:
    """Compare, stop, delete or tag the runs that were ticked.

    Raises:
        UsageError: if none is ticked, or what is to be done with them is not known.
    """
    project = visit.project()
    here = words.path(project.entity.name, project.name)
    names = list(dict.fromkeys(visit.form.get("run", [])))[:MOST_CHANGED]
    if not names:
        raise UsageError("no run is ticked: tick some in the table first.")
    action = visit.sent("action")
    if action == "compare":
        if len(names) > MOST_COMPARED:
            raise UsageError(f"at most {MOST_COMPARED} runs are compared at once. Got {len(names)}.")
        return RedirectResponse(f"{here}/compare?runs={','.join(map(words.quoted, names))}", status_code=303)
    runs.check_writable(visit.account, project)
    found = visit.session.scalars(sa.select(Run).where(Run.project_id == project.id, Run.name.in_(names))).all()
    tag = visit.sent("tag").strip()
    actions: dict[str, Callable[[Run], None]] = {
        "stop": runs.ask_to_stop,
        "delete": lambda run: runs.delete(visit.session, run),
        "tag": lambda run: set_tags(run, [*json.loads(run.tags), tag]),
        "untag": lambda run: set_tags(run, [one for one in json.loads(run.tags) if one != tag]),
    }
    if action not in actions:
        raise UsageError(f"runs can be compared, stopped, deleted and tagged. Got {action!r}.")
    if action in ("tag", "untag") and not tag:
        raise UsageError("a tag must be at least one character: type it beside the button.")
    for run in found:
        actions[action](run)
    return back(visit, here)


def set_tags(run: Run, tags: list[str]) -> None:
    """Replace a run's tags.

    Raises:
        UsageError: if a tag is too long.
    """
    kept = list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    if any(len(tag) > 128 for tag in kept):
        raise UsageError("a tag may have at most 128 characters.")
    run.tags = as_json(kept)
