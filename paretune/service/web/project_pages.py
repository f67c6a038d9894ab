"""The lists: projects of everyone whose runs the account may see, of one entity, and the sweeps of a project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import Response

from paretune.service.store import runs
from paretune.service.store.safe_json import is_whole
from paretune.service.store.tables import Entity, Project, Run, Sweep
from paretune.service.web.visits import Visit

PAGE = 100


def home(visit: Visit) -> Response:
    """Every project that the account may see."""
    entities = None if visit.account.role == "admin" else visit.account.entities
    return _projects(visit, entities, title="Projects", entity=None)


def entity(visit: Visit) -> Response:
    """The projects of one user or team."""
    name = visit.entity()
    if visit.session.scalar(sa.select(Entity.id).where(Entity.name == name)) is None:
        raise HTTPException(404, f"there is no user or team {name} here that you may see.")
    return _projects(visit, [name], title=name, entity=name)


def sweep_list(visit: Visit) -> Response:
    """The sweeps of a project, the latest first."""
    project, skip = visit.project(), skipped(visit, PAGE)
    query = sa.select(Sweep).where(Sweep.project_id == project.id).order_by(Sweep.id.desc())
    found = visit.session.scalars(query.offset(skip).limit(PAGE + 1)).all()
    names = [sweep.name for sweep in found]
    ended = sa.func.sum(sa.case((Run.state.in_(runs.LIVE), 0), else_=1))
    counted = (
        sa.select(Run.sweep_name, sa.func.count(Run.id), ended)
        .where(Run.project_id == project.id, Run.sweep_name.in_(names))
        .group_by(Run.sweep_name)
    )
    counts = {name: (count, done) for name, count, done in visit.session.execute(counted)}
    return visit.page(
        "sweeps.html", project=project, sweeps=found[:PAGE], counts=counts, more=len(found) > PAGE, page=skip // PAGE + 1
    )


def skipped(visit: Visit, size: int) -> int:
    """Return how many to skip for the page that the address names, counted from 1."""
    text = visit.request.query_params.get("page", "1")
    return (int(text) - 1) * size if is_whole(text, 7) and int(text) > 0 else 0


def _projects(visit: Visit, entities: Sequence[str] | None, **values: Any) -> Response:
    live = sa.func.sum(sa.case((Run.state.in_(runs.LIVE), 1), else_=0))
    runs_of = (
        sa.select(
            Run.project_id, sa.func.count(Run.id).label("runs"), live.label("live"), sa.func.max(Run.heartbeat_at).label("last")
        )
        .group_by(Run.project_id)
        .subquery()
    )
    sweeps_of = sa.select(Sweep.project_id, sa.func.count(Sweep.id).label("sweeps")).group_by(Sweep.project_id).subquery()
    last = sa.func.coalesce(runs_of.c.last, Project.created_at)
    query = (
        sa.select(Entity.name, Project.name, runs_of.c.runs, runs_of.c.live, sweeps_of.c.sweeps, last)
        .select_from(Project)
        .join(Entity)
        .outerjoin(runs_of, runs_of.c.project_id == Project.id)
        .outerjoin(sweeps_of, sweeps_of.c.project_id == Project.id)
        .order_by(last.desc(), Project.id)
    )
    if entities is not None:
        query = query.where(Entity.name.in_(entities))
    skip = skipped(visit, PAGE)
    found = visit.session.execute(query.offset(skip).limit(PAGE + 1)).all()
    rows = [dict(zip(("entity", "name", "runs", "live", "sweeps", "last"), row, strict=True)) for row in found[:PAGE]]
    return visit.page("projects.html", rows=rows, more=len(found) > PAGE, page=skip // PAGE + 1, **values)
