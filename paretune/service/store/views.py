"""Saved views of a project (workspaces and reports of W&B's client): created, changed, found and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.store import runs, safe_json
from paretune.service.store.accounts import Account
from paretune.service.store.database import made_once
from paretune.service.store.tables import Project, View, now, number_of

WORKSPACE, REPORT = "project-view", "runs"  # `kind`, as the client names them
LENGTHS = {"type": 32, "name": 128, "displayName": 256}


def upsert(session: Session, account: Account, values: Mapping[str, Any]) -> tuple[View, bool]:
    """Create a view, or change the one of `id`, or else of its name; return it, and whether it is new.

    Raises:
        UsageError: if there is no such project or view, or its spec is no JSON object.
        RefusedError: if the account may not write there.
    """
    for field, most in LENGTHS.items():
        if len(values.get(field) or "") > most:
            raise UsageError(f"a view's {field} may have at most {most} characters.")
    if values.get("spec") is not None:
        read_spec(values["spec"])
    if values.get("id"):
        view, is_new = view_by_id(session, account, values["id"]), False
        runs.check_writable(account, view.project)
    else:
        entity, name = values.get("entityName"), values.get("projectName")
        project = runs.project_of(session, account, name, entity)
        if project is None:
            raise UsageError(f"there is no project {entity or account.entity}/{name}.")
        runs.check_writable(account, project)
        own = values.get("name") or runs.new_name()
        query = views_of(project, name=own)
        is_new = session.scalar(query) is None
        view = made_once(
            session, lambda: session.scalar(query), lambda: View(project=project, user_id=account.id, kind=REPORT, name=own)
        )
    for field, column in (("type", "kind"), ("displayName", "display_name"), ("description", "description"), ("spec", "spec")):
        if values.get(field) is not None:
            setattr(view, column, values[field])
    view.updated_at = now()
    session.flush()
    return view, is_new


def view_by_id(session: Session, account: Account, identifier: str) -> View:
    """Return a view by the identifier that clients got.

    Raises:
        UsageError: if there is none that the account may see.
    """
    number = number_of(identifier, "View")
    view = None if number is None else session.get(View, number)
    if view is None or not account.may_read(view.project.entity.name):
        raise UsageError(f"there is no saved view {identifier!r} that you may see.")
    return view


def views_of(project: Project, kind: str | None = None, name: str | None = None) -> sa.Select[View]:
    """Return the query of a project's views, those that changed last first."""
    query = sa.select(View).where(View.project_id == project.id).order_by(View.updated_at.desc(), View.id.desc())
    query = query if kind is None else query.where(View.kind == kind)
    return query if name is None else query.where(View.name == name)


def delete(session: Session, account: Account, view: View) -> None:
    """Delete a view; the runs that it shows stay.

    Raises:
        RefusedError: if the account may only look.
    """
    runs.check_writable(account, view.project)
    session.delete(view)


def read_spec(text: str) -> dict[str, Any]:
    """Return a view's spec.

    Raises:
        UsageError: if it is no JSON object.
    """
    try:
        spec = safe_json.read(text)
    except (ValueError, RecursionError):
        spec = None
    if not isinstance(spec, dict):
        raise UsageError(f"a view's spec must be a JSON object. Got {text[:80]!r}.")
    return spec
