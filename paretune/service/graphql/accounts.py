"""Answers about users, entities and the server itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from ariadne import ObjectType, QueryType

from paretune.service.graphql.shared import context_of
from paretune.service.store.tables import Entity, Membership, User, global_id

query = QueryType()
entity_type = ObjectType("Entity")
BOUND = (query, entity_type)
TESTED = ("0.28.2", "0.31.0")  # the oldest and the newest client tried; only `wandb verify` asks
FEATURES = (
    "CLIENT_IDS",
    "LARGE_FILENAMES",
    "STRUCTURED_CONSOLE_LOGS",
    "MARK_RUN_FILES_UPLOADED",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "BULK_HISTORIES",  # ours: analysis/ asks for it
    "ARTIFACT_TAGS",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILE_DOWNLOAD_HANDLER",
    "ARTIFACT_COLLECTIONS_FILTERING_SORTING",
    "ARTIFACT_MEMBERSHIP_IN_LINK_ARTIFACT_RESPONSE",
    "ARTIFACT_V2_DOWNLOAD_HANDLER_SUPPORTS_ARTIFACT_ID",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
    "SWEEPS_LOCAL_SCHEDULER",
    "SWEEPS_QUERY_FILTERING",
)


def user_values(user: User, entities: Sequence[str] = ()) -> dict[str, Any]:
    """Return a user as clients read it."""
    teams = [{"node": {"id": global_id("Entity", name), "name": name, "isTeam": True, "readOnlyAdmin": False}} for name in entities]
    return {
        "id": global_id("User", user.name),
        "name": user.name,
        "username": user.name,
        "email": user.email,
        "admin": user.role == "admin",
        "flags": "{}",
        "entity": user.entity.name,
        "apiKeys": {"edges": []},
        "teams": {"edges": teams},
    }


@query.field("viewer")
def viewer(_: Any, info: Any) -> dict[str, Any]:
    context = context_of(info)
    user = context.session.get_one(User, context.account.id)
    return user_values(user, context.account.entities)


@query.field("users")
def users(_: Any, info: Any, query: str | None = None) -> dict[str, Any]:
    """Tell users by name or address: an administrator everybody, others themselves and who shares a team with them."""
    context = context_of(info)
    wanted = (User.name == query) | (User.email == query)
    if context.account.role != "admin":
        shared = sa.select(Membership.user_id).join(Entity).where(Entity.name.in_(context.account.entities))
        wanted &= (User.id == context.account.id) | User.id.in_(shared)
    found = context.session.scalars(sa.select(User).where(wanted)) if query else ()
    return {"edges": [{"node": user_values(user)} for user in found]}


@query.field("serverInfo")
def server_info(*_: Any) -> dict[str, Any]:
    features = [{"name": name, "isEnabled": True} for name in FEATURES]
    return {"features": features, "cliVersionInfo": {"max_cli_version": TESTED[-1], "min_cli_version": TESTED[0]}}


@query.field("entity")
def entity(_: Any, info: Any, name: str | None = None) -> dict[str, Any] | None:
    context = context_of(info)
    wanted = name or context.account.entity
    found = context.session.scalar(sa.select(Entity).where(Entity.name == wanted))
    return entity_values(found) if found is not None and context.account.may_read(wanted) else None


def entity_values(entity: Entity) -> dict[str, Any]:
    """Return an entity as clients read it."""
    kind = "team" if entity.is_team else "user"
    values = {"id": global_id("Entity", entity.name), "name": entity.name, "isTeam": entity.is_team, "entityType": kind}
    return {**values, "available": True, "readOnly": False, "readOnlyAdmin": False}


@entity_type.field("members")
def members(entity: Mapping[str, Any], info: Any) -> list[dict[str, Any]]:
    """Return who may write to an entity."""
    own = sa.select(Entity.id).where(Entity.name == entity["name"])
    joined = sa.select(Membership.user_id).where(Membership.entity_id.in_(own))
    found = context_of(info).session.scalars(
        sa.select(User).where(User.id.in_(joined) | User.entity_id.in_(own)).order_by(User.name)
    )
    return [{**user_values(user), "pending": False, "accountType": user.role} for user in found]
