"""The pages of saved views: list, view and deletion."""

from __future__ import annotations

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import Response

from paretune.core.errors import UsageError
from paretune.service.store import views
from paretune.service.store.tables import Project, View
from paretune.service.web import runs_page, words
from paretune.service.web.project_pages import PAGE, skipped
from paretune.service.web.saved_views import MOST_CURVES, MOST_ROWS, MOST_SHOWN, sections_of
from paretune.service.web.visits import Visit, back


def project(visit: Visit) -> Response:
    """The page of a project: the workspace that `nw` names, as W&B's client links to it, else the table of runs."""
    wanted = visit.request.query_params.get("nw")
    if not wanted:
        return runs_page.table(visit)
    found = visit.session.scalar(views.views_of(visit.project(), views.WORKSPACE, f"nw-{wanted}-v").limit(1))
    return _shown(visit, found)


def report(visit: Visit) -> Response:
    """The page of a report, whose URL ends in its identifier without padding."""
    identifier = visit.request.path_params["title"].rpartition("--")[2].rstrip("=")
    try:
        found = views.view_by_id(visit.session, visit.account, identifier + "=" * (-len(identifier) % 4))
    except UsageError:
        found = None
    is_there = found is not None and found.project_id == visit.project().id and found.kind != views.WORKSPACE
    return _shown(visit, found if is_there else None)


def view_list(visit: Visit) -> Response:
    """The saved views of a project, those that changed last first."""
    project, skip = visit.project(), skipped(visit, PAGE)
    found = visit.session.scalars(views.views_of(project).offset(skip).limit(PAGE + 1)).all()
    rows = [(view, url_of(view)) for view in found[:PAGE]]
    may_write = visit.may_write(project)
    return visit.page("views.html", project=project, rows=rows, may_write=may_write, more=len(found) > PAGE, page=skip // PAGE + 1)


def delete(visit: Visit) -> Response:
    """Delete a saved view.

    Raises:
        HTTPException: 404 if the project has no such view.
        RefusedError: if the account may only look.
    """
    project = visit.project()
    found = visit.session.scalar(sa.select(View).where(View.project_id == project.id, View.name == visit.sent("view")))
    if found is None:
        raise HTTPException(404, f"there is no saved view {visit.sent('view')} in {project.entity.name}/{project.name}.")
    views.delete(visit.session, visit.account, found)
    return back(visit, words.path(project.entity.name, project.name, "views"))


def url_of(view: View) -> str:
    """Return the path of a view's page: the one that W&B's client prints."""
    here = words.path(view.project.entity.name, view.project.name)
    if view.kind == views.WORKSPACE:
        return f"{here}?nw={words.quoted(view.name.removeprefix('nw-').removesuffix('-v'))}"
    return f"{here}/reports/{words.quoted(f'{view.display_name}--{view.global_id}')}"


def _shown(visit: Visit, view: View | None) -> Response:
    project: Project = visit.project()
    if view is None:
        raise HTTPException(404, f"there is no such saved view in {project.entity.name}/{project.name}: it may have been deleted.")
    sections = sections_of(visit.session, visit.account, view)
    drawn = [
        {
            "runs": words.path(section.run_set.project.entity.name, section.run_set.project.name, "runs"),
            "rows": [[row.run.name, row.name] for row in section.run_set.rows[:MOST_CURVES]],
            "panels": section.panels,
        }
        for section in sections
        if section.run_set is not None
    ]
    return visit.page(
        "view.html",
        project=project,
        view=view,
        is_workspace=view.kind == views.WORKSPACE,
        sections=sections,
        most={"curves": MOST_CURVES, "rows": MOST_ROWS, "shown": MOST_SHOWN},
        may_write=visit.may_write(project),
        page={"sections": drawn},
    )
