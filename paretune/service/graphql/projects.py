"""Answers about projects, and the runs of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from ariadne import MutationType, ObjectType, QueryType

from paretune.core.errors import UsageError
from paretune.service.graphql.accounts import entity_values
from paretune.service.graphql.query_limits import PAGE
from paretune.service.graphql.shared import ACCESS, as_time, binder, connection, context_of, page_of
from paretune.service.store import runs
from paretune.service.store.tables import Entity, Project, Run

query = QueryType()
mutation = MutationType()
project_type = ObjectType("Project")
BOUND = (query, mutation, project_type)
project_field = binder(project_type)


@query.field("project")
@query.field("model")
def project(_: Any, info: Any, name: str | None = None, entityName: str | None = None) -> Project | None:
    context = context_of(info)
    return runs.project_of(context.session, context.account, name, entityName)


@query.field("models")
def projects(
    _: Any,
    info: Any,
    entityName: str | None = None,
    after: str | None = None,
    first: int = PAGE,
) -> dict[str, Any]:
    context = context_of(info)
    wanted = entityName or context.account.entity
    if not context.account.may_read(wanted):
        return connection([], 0, 0)
    matching = sa.select(Project).join(Entity).where(Entity.name == wanted)
    skip, first = page_of(after, first)
    found = context.session.scalars(matching.order_by(Project.id.desc()).offset(skip).limit(first)).all()
    total = context.session.scalar(sa.select(sa.func.count()).select_from(matching.subquery())) or 0
    return connection(found, skip, total)


@mutation.field("upsertModel")
def upsert_model(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    known = runs.project_of(context.session, context.account, input.get("name"), input.get("entityName"))
    found = known or runs.project_of(context.session, context.account, input.get("name"), input.get("entityName"), create=True)
    assert found is not None
    runs.check_writable(context.account, found)
    if input.get("description") is not None:
        found.description = input["description"]
    return {"project": found, "model": found, "inserted": known is None}


project_field("id")(lambda project, _: project.global_id)
project_field("internalId")(lambda project, _: project.id)
project_field("entityName")(lambda project, _: project.entity.name)
project_field("entity")(lambda project, _: entity_values(project.entity))
project_field("access")(lambda *_: ACCESS)
project_field("views")(lambda *_: "{}")
project_field("createdAt")(lambda project, _: as_time(project.created_at))
project_field("isBenchmark")(lambda *_: False)
project_field("readOnly")(lambda project, context: not context.account.may_write(project.entity.name))


@project_type.field("run")
@project_type.field("bucket")
def run(project: Project, info: Any, name: str, missingOk: bool = True, desc: str | None = None) -> Run | None:
    found = runs.run_of(context_of(info).session, project, name)
    if found is None and not missingOk:
        raise UsageError(f"there is no run {name!r} in {project.entity.name}/{project.name}.")
    return found


@project_type.field("runCount")
def run_count(project: Project, info: Any, filters: str | None = None) -> int:
    return runs.count_runs(context_of(info).session, project, filters)


@project_type.field("runs")
def project_runs(
    project: Project,
    info: Any,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> dict[str, Any]:
    session = context_of(info).session
    skip, first = page_of(after, first)
    found = runs.found_runs(session, project, filters=filters, order=order, first=first + 1, skip=skip)
    return connection(found[:first], skip, skip + len(found))
