"""Answers about users, entities and the server itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from ariadne import ObjectType, QueryType
from graphql import FieldNode

from paretune.core.errors import UsageError
from paretune.service.graphql.query_limits import MOST_IN_PAGE
from paretune.service.graphql.shared import ACCESS, Context, binder, context_of
from paretune.service.store.artifact_tables import Artifact, ArtifactCollection, ArtifactFile
from paretune.service.store.tables import ApiKey, Entity, Membership, Project, Run, RunFile, User, global_id

query = QueryType()
user_type = ObjectType("User")
entity_type = ObjectType("Entity")
BOUND = (query, user_type, entity_type)
user_field = binder(user_type)
ORGANIZATION = {  # a server is one organisation, of all its users and teams
    "id": global_id("Organization", "paretune"),
    "name": "paretune",
    "orgEntity": {
        "__typename": "Entity",
        "id": global_id("Entity", "paretune"),
        "name": "paretune",
        "entityType": "organization",
    },
    "featureFlags": [],
}
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
    "UPDATE_RUN_STATE",
    "FILESTREAM_GZIP",
)


user_field("id")(lambda user, _: global_id("User", user.name))
user_field("username")(lambda user, _: user.name)
user_field("admin")(lambda user, _: user.role == "admin")
user_field("flags")(lambda *_: "{}")
user_field("entity")(lambda user, _: user.entity.name)
user_field("organizations")(lambda *_: [ORGANIZATION])


@user_field("apiKeys")
def api_keys(user: User, context: Context) -> dict[str, Any]:
    """Return the names of a user's keys, to itself and to administrators; a key itself is not kept."""
    if context.account.role != "admin" and context.account.id != user.id:
        return {"edges": []}
    keys = context.session.scalars(sa.select(ApiKey).where(ApiKey.user_id == user.id).order_by(ApiKey.id))
    nodes = [{"id": global_id("ApiKey", str(key.id)), "name": key.name or f"key-{key.id}", "description": key.name} for key in keys]
    return {"edges": [{"node": node} for node in nodes]}


@user_field("teams")
def teams(user: User, context: Context) -> dict[str, Any]:
    """Return the teams of a user that the account sees."""
    found = sa.select(Entity).join(Membership, Membership.entity_id == Entity.id).where(Membership.user_id == user.id)
    seen = context.session.scalars(found.where(context.account.readable).order_by(Entity.name))
    return {"edges": [{"node": entity_values(team)} for team in seen]}


@query.field("viewer")
def viewer(_: Any, info: Any) -> User:
    context = context_of(info)
    return context.session.get_one(User, context.account.id)


@query.field("users")
def users(_: Any, info: Any, query: str | None = None) -> dict[str, Any]:
    """Find users by the beginning or end of their name or address; whose it is as a whole comes first.

    An administrator finds everybody, others themselves and who shares a team with them.
    """
    context, text = context_of(info), (query or "").lower()
    columns = (sa.func.lower(User.name), sa.func.lower(User.email))
    wanted = sa.or_(
        *(
            condition
            for column in columns
            for condition in (column.startswith(text, autoescape=True), column.endswith(text, autoescape=True))
        )
    )
    if context.account.role != "admin":
        shared = sa.select(Membership.user_id).join(Entity).where(Entity.name.in_(context.account.entities))
        wanted &= (User.id == context.account.id) | User.id.in_(shared)
    whole = [sa.case((sa.or_(*(column == text for column in columns)), 0), else_=1)] if text else []
    found = context.session.scalars(sa.select(User).where(wanted).order_by(*whole, User.name).limit(MOST_IN_PAGE))
    return {"edges": [{"node": user} for user in found]}


@query.field("serverInfo")
def server_info(*_: Any) -> dict[str, Any]:
    features = [{"name": name, "isEnabled": True} for name in FEATURES]
    return {"features": features, "cliVersionInfo": {"max_cli_version": TESTED[-1], "min_cli_version": TESTED[0]}}


@query.field("entity")
def entity(_: Any, info: Any, name: str | None = None) -> dict[str, Any] | None:
    """Return a user's or team's entity; None where the account sees none, or a refusal where a client cannot do without one."""
    context = context_of(info)
    wanted = name or context.account.entity
    found = context.session.scalar(sa.select(Entity).where(Entity.name == wanted))
    if found is not None and context.account.may_read(wanted):
        return entity_values(found)
    if any(isinstance(node, FieldNode) and node.name.value == "members" for node in info.field_nodes[0].selection_set.selections):
        raise UsageError(  # `Api().team` and `create_team` would end in a KeyError
            f"there is no team or user {wanted!r} that {context.account.name} may see: whoever runs this server makes teams, by "
            "python -m paretune.service user team NAME TEAM."
        )
    return None


def entity_values(entity: Entity) -> dict[str, Any]:
    """Return an entity as clients read it."""
    return {
        "id": global_id("Entity", entity.name),
        "name": entity.name,
        "isTeam": entity.is_team,
        "entityType": "team" if entity.is_team else "user",
        "available": True,
        "readOnly": False,
        "readOnlyAdmin": False,
        "privateOnly": True,
        "codeSavingEnabled": True,
        "defaultAccess": ACCESS,
        "organization": ORGANIZATION,
    }


@query.field("organization")
def organization(*_: Any, name: str | None = None) -> dict[str, Any] | None:
    return ORGANIZATION if name in (None, ORGANIZATION["name"]) else None


@entity_type.field("user")
def user_of(entity: Mapping[str, Any], info: Any) -> User | None:
    """Return whose an entity is; None of a team."""
    owned = sa.select(User).join(User.entity).where(Entity.name == entity["name"])
    return context_of(info).session.scalar(owned)


@entity_type.field("storageBytes")
def storage_bytes(entity: Mapping[str, Any], info: Any) -> int:
    """Return how large the files of an entity's runs and artifacts are, each counted where it is named."""
    session = context_of(info).session
    own = sa.select(Project.id).join(Project.entity).where(Entity.name == entity["name"])
    of_runs = sa.select(sa.func.sum(RunFile.size)).join(Run, Run.id == RunFile.run_id).where(Run.project_id.in_(own))
    of_artifacts = (
        sa.select(sa.func.sum(ArtifactFile.size))
        .join(Artifact, Artifact.id == ArtifactFile.artifact_id)
        .join(ArtifactCollection, ArtifactCollection.id == Artifact.collection_id)
        .where(ArtifactCollection.project_id.in_(own))
    )
    return int(session.scalar(of_runs) or 0) + int(session.scalar(of_artifacts) or 0)


@entity_type.field("members")
def members(entity: Mapping[str, Any], info: Any) -> list[dict[str, Any]]:
    """Return who may write to an entity."""
    own = sa.select(Entity.id).where(Entity.name == entity["name"])
    joined = sa.select(Membership.user_id).where(Membership.entity_id.in_(own))
    found = context_of(info).session.scalars(
        sa.select(User).where(User.id.in_(joined) | User.entity_id.in_(own)).order_by(User.name)
    )
    return [_member_values(user) for user in found]


def _member_values(user: User) -> dict[str, Any]:
    values = {"id": global_id("User", user.name), "name": user.name, "username": user.name, "email": user.email}
    return {**values, "admin": user.role == "admin", "pending": False, "accountType": user.role}
