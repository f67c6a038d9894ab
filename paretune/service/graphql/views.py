"""GraphQL resolvers of saved views: workspaces and reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from ariadne import MutationType, ObjectType, QueryType

from paretune.service.graphql.shared import as_time, binder, context_of, counted
from paretune.service.store import views
from paretune.service.store.tables import Project, User, View

query = QueryType()
mutation = MutationType()
project_type = ObjectType("Project")
view_type = ObjectType("View")
BOUND = (query, mutation, project_type, view_type)
view_field = binder(view_type)


@query.field("view")
def view(_: Any, info: Any, id: str) -> View:
    context = context_of(info)
    return views.view_by_id(context.session, context.account, id)


@mutation.field("upsertView")
def upsert_view(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    saved, is_new = views.upsert(context.session, context.account, input)
    return {"view": saved, "inserted": is_new}


@mutation.field("deleteView")
def delete_view(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    views.delete(context.session, context.account, views.view_by_id(context.session, context.account, input["id"]))
    return {"success": True, "pendingDrafts": False}


@project_type.field("allViews")
def all_views(
    project: Project,
    info: Any,
    viewType: str | None = None,
    viewName: str | None = None,
    userName: str | None = None,
    first: int | None = None,
    after: str | None = None,
) -> dict[str, Any]:
    found = views.views_of(project, viewType, viewName)
    if userName is not None:
        found = found.where(View.user_id.in_(sa.select(User.id).where(User.name == userName)))
    return counted(context_of(info), found, after, first)


view_field("id")(lambda view, _: view.global_id)
view_field("type")(lambda view, _: view.kind)
view_field("displayName")(lambda view, _: view.display_name)
view_field("createdAt")(lambda view, _: as_time(view.created_at))
view_field("updatedAt")(lambda view, _: as_time(view.updated_at))
