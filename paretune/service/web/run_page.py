"""The page of a run: its curves and console as they come, config, summary, files and media; and changes to it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response

from paretune.core.errors import UsageError
from paretune.service.store import runs, streams
from paretune.service.store.safe_json import is_whole
from paretune.service.store.tables import Project, Run, RunFile
from paretune.service.web import curves, tables, words
from paretune.service.web.filter_text import quoted
from paretune.service.web.runs_page import set_tags
from paretune.service.web.visits import Visit, back

MOST_FILES = 1000  # listed
MOST_NOTES = 50_000  # characters


def show(visit: Visit) -> Response:
    """The page."""
    run = visit.run()
    project, row = run.project, tables.Row.of(run)
    query = sa.select(RunFile).where(RunFile.run_id == run.id).order_by(RunFile.name)
    files = visit.session.scalars(query.limit(MOST_FILES + 1)).all()
    here = address(project, run)
    return visit.page(
        "run.html",
        project=project,
        run=run,
        row=row,
        here=here,
        config=by_key(row.config),
        summary=by_key(row.summary),
        files=files[:MOST_FILES],
        more_files=len(files) > MOST_FILES,
        media=curves.media_of(visit.session, visit.web.files, run),
        live=run.state in runs.LIVE,
        runtime=tables.seconds_of(run, row.summary),
        may_write=visit.may_write(project),
        tags=written(row.tags),
        group_filter=tables.term("group", run.group_name),
        page={"here": here, "live": run.state in runs.LIVE, "history": run.history_lines, "events": run.event_lines},
    )


def history(visit: Visit) -> Response:
    """The curves from the line that the address names on; where the run stands."""
    run, query = visit.run(), visit.request.query_params
    stream = streams.EVENTS if query.get("stream") == "events" else streams.HISTORY
    after = _line(query.get("after"))
    count = run.event_lines if stream == streams.EVENTS else run.history_lines
    if after > count:  # it was rewound
        after = 0
    found = visit.web.curves.of(visit.session, run, stream, after=after)
    summary = by_key(json.loads(run.summary))
    state = {"state": run.state, "stopping": run.stop_asked, "live": run.state in runs.LIVE, "from": after}
    runtime = words.duration(tables.seconds_of(run, json.loads(run.summary)))
    said = {"runtime": runtime, "summary": [[key, words.value(value)] for key, value in summary]}
    return as_json({**found, **state, **said})


def console(visit: Visit) -> Response:
    """The console's lines from the one that the address names on."""
    return as_json(curves.console(visit.session, visit.run(), after=_line(visit.request.query_params.get("after"))))


def file(visit: Visit) -> Response:
    """A file: an image as it is, everything else as a download, so that nothing of it runs as a page of this server."""
    run, name = visit.run(), visit.request.path_params["name"]
    found = visit.session.scalar(sa.select(RunFile).where(RunFile.run_id == run.id, RunFile.name == name))
    if found is None or not visit.web.files.path(found.digest).exists():
        raise HTTPException(404, f"run {run.name} has no file {name}.")
    image = curves.kind_of_image(name)
    headers = {"content-security-policy": "default-src 'none'; sandbox", "cache-control": "private, max-age=60"}
    if image is None:
        last = quote(name.rpartition("/")[2])
        headers["content-disposition"] = f"attachment; filename*=UTF-8''{last}"
    return FileResponse(visit.web.files.path(found.digest), media_type=image or "application/octet-stream", headers=headers)


def change(visit: Visit) -> Response:
    """Stop or delete the run, or change its name, notes and tags.

    Raises:
        UsageError: if a text is too long, or the change is none.
        RefusedError: if the account may only look.
    """
    run = visit.run()
    project = run.project
    runs.check_writable(visit.account, project)
    action = visit.sent("action")
    if action == "stop":
        runs.ask_to_stop(run)
    elif action == "delete":
        runs.delete(visit.session, run)
        return RedirectResponse(words.path(project.entity.name, project.name), status_code=303)
    elif action == "edit":
        name, notes = visit.sent("name").strip(), visit.sent("notes").replace("\r\n", "\n").strip()
        if len(name) > 256 or len(notes) > MOST_NOTES:
            raise UsageError(f"a run's name may have at most 256 characters, its notes {MOST_NOTES:,}.")
        run.display_name, run.notes = name or run.name, notes or None
        if visit.sent("tags") != written(json.loads(run.tags)):
            set_tags(run, read_tags(visit.sent("tags")))
    else:
        raise UsageError(f"a run can be stopped, deleted and edited. Got {action!r}.")
    return back(visit, address(project, run))


def written(tags: Sequence[str]) -> str:
    """Return tags as a person edits them: parted by commas, in quotes those that hold a comma or a quote."""
    return ", ".join(quoted(tag) if "," in tag or '"' in tag else tag for tag in tags)


def read_tags(text: str) -> list[str]:
    """Return the tags of a text as `written` writes it."""
    return next(csv.reader([text.replace("\r", " ").replace("\n", " ")], skipinitialspace=True), [])


def compare(visit: Visit) -> Response:
    """Runs side by side: curves, what differs of their configs, their summaries."""
    project = visit.project()
    names = list(dict.fromkeys(name for name in visit.request.query_params.get("runs", "").split(",") if name))[:20]
    query = sa.select(Run).where(Run.project_id == project.id, Run.name.in_(names))
    found = {run.name: run for run in visit.session.scalars(query)}
    rows = [tables.Row.of(found[name]) for name in names if name in found]
    if not rows:
        raise HTTPException(404, "none of these runs is here: tick runs in the table and press Compare ticked.")
    labels = told_apart(rows)
    addresses = [
        {"name": label, "here": address(project, row.run), "live": row.run.state in runs.LIVE}
        for label, row in zip(labels, rows, strict=True)
    ]
    return visit.page(
        "compare.html",
        project=project,
        rows=rows,
        labels=labels,
        missing=[name for name in names if name not in found],
        config=side_by_side([dict(curves.items(row.config)) for row in rows]),
        summary=side_by_side([dict(curves.items(row.summary)) for row in rows]),
        page={"runs": addresses},
    )


def told_apart(rows: Sequence[tables.Row]) -> list[str]:
    """Return the names of runs, with their ids where two have the same."""
    names = [row.name for row in rows]
    return [f"{row.name} ({row.run.name})" if names.count(row.name) > 1 else row.name for row in rows]


def side_by_side(columns: list[dict[str, Any]]) -> list[tuple[str, bool, list[Any]]]:
    """Return a line for each key: whether the columns differ in it, and its values; those that differ first."""
    keys = dict.fromkeys(key for column in columns for key in sorted(column))
    lines = [(key, len({json.dumps(c.get(key), default=str) for c in columns}) > 1, [c.get(key) for c in columns]) for key in keys]
    return sorted(lines, key=lambda line: not line[1])


def by_key(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return nested values by dotted path, sorted by it; two may have the same, one of them nested."""
    return sorted(curves.items(values), key=lambda item: item[0])


def address(project: Project, run: Run) -> str:
    """Return the address of a run's page."""
    return words.path(project.entity.name, project.name, "runs", run.name)


def as_json(values: Any) -> Response:
    """Return values for the scripts of these pages."""
    return JSONResponse(values, headers={"cache-control": "no-store"})


def _line(text: str | None) -> int:
    return int(text) if text and is_whole(text, 11) else 0
