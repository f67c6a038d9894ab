"""Answers about collections of artifacts: their types, versions, aliases, tags and links, and changes to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from ariadne import InterfaceType, MutationType, ObjectType, QueryType
from sqlalchemy.orm import contains_eager

from paretune.core.errors import UsageError
from paretune.service.artifacts import artifact_collections as collections
from paretune.service.artifacts import artifacts
from paretune.service.artifacts.artifact_collections import Kind
from paretune.service.artifacts.artifact_filters import COLLECTIONS, VERSIONS, condition_of, order_of
from paretune.service.artifacts.artifact_values import checked_tags
from paretune.service.graphql.artifacts import files_of, tag_values
from paretune.service.graphql.shared import as_time, binder, connection, context_of, counted, page_of
from paretune.service.store.artifact_tables import Artifact, ArtifactAlias, ArtifactCollection, ArtifactMember
from paretune.service.store.tables import Project, as_json, global_id

query = QueryType()
mutation = MutationType()
project_type = ObjectType("Project")
kind_type = ObjectType("ArtifactType")
member_type = ObjectType("ArtifactCollectionMembership")
alias_type = ObjectType("ArtifactAlias")
sequence_type = ObjectType("ArtifactSequence")
entity_type = ObjectType("Entity")
collection_type = InterfaceType(
    "ArtifactCollection", lambda found, *_: "ArtifactPortfolio" if found.has_links else "ArtifactSequence"
)
BOUND = (query, mutation, project_type, kind_type, member_type, alias_type, sequence_type, entity_type, collection_type)
member_field = binder(member_type)

entity_type.set_field("xxhashDigestsEnabled", lambda *_: False)  # contents are checked by MD5

collection_type.set_field("id", lambda collection, _: collection.global_id)
collection_type.set_field("state", lambda collection, _: "DELETED" if sa.inspect(collection).deleted else "READY")
collection_type.set_field("createdAt", lambda collection, _: as_time(collection.created_at))
collection_type.set_field("updatedAt", lambda collection, _: as_time(collection.updated_at))
collection_type.set_field("defaultArtifactType", lambda collection, _: collections.kind_of(collection))
sequence_type.set_field("digestAlgorithm", lambda *_: "MANIFEST_MD5")

kind_type.set_field("createdAt", lambda kind, _: as_time(kind.created_at))

member_field("id")(lambda member, _: global_id("ArtifactCollectionMembership", str(member.id)))
member_field("versionIndex")(lambda member, _: member.version)
member_field("createdAt")(lambda member, _: as_time(member.created_at))
member_field("artifactCollection")(lambda member, _: member.collection)
member_field("aliases")(lambda member, context: collections.aliases_of(context.session, member.artifact, member.collection))

alias_type.set_field("id", lambda alias, _: global_id("ArtifactAlias", str(alias.id)))
alias_type.set_field("artifactCollection", lambda alias, _: alias.collection)


@collection_type.field("project")
def project_of(collection: ArtifactCollection, info: Any) -> Project | None:
    """None where the account sees only versions that are linked to others, of which the client knows how to do without."""
    return collection.project if _is_seen(collection, info) else None


@collection_type.field("description")
def description(collection: ArtifactCollection, info: Any) -> str | None:
    return collection.description if _is_seen(collection, info) else None


def _is_seen(place: ArtifactCollection | Kind, info: Any) -> bool:
    return context_of(info).account.may_read(place.project.entity.name)


@kind_type.field("id")
def kind_id(kind: Kind, info: Any) -> str:
    place = (kind.project.name, kind.project.entity.name) if _is_seen(kind, info) else ()
    return global_id("ArtifactType", kind.name, *place)


@query.field("artifactCollection")
def artifact_collection(_: Any, info: Any, id: str) -> ArtifactCollection | None:
    context = context_of(info)
    return collections.collection_by_id(context.session, context.account, id)


@project_type.field("artifact")
def project_artifact(project: Project, info: Any, name: str) -> Artifact | None:
    member = collections.member_named(context_of(info).session, project, name)
    return None if member is None else member.artifact


@project_type.field("artifactCollectionMembership")
def project_member(project: Project, info: Any, name: str) -> ArtifactMember | None:
    return collections.member_named(context_of(info).session, project, name)


@project_type.field("artifactCollection")
def project_collection(project: Project, info: Any, name: str) -> ArtifactCollection | None:
    return collections.collection_of(context_of(info).session, project, name)


@project_type.field("artifactCollections")
def project_collections(
    project: Project,
    info: Any,
    after: str | None = None,
    first: int | None = None,
    filters: str | None = None,
    order: str | None = None,
) -> dict[str, Any]:
    return _collections(info, ArtifactCollection.project_id == project.id, after, first, filters, order)


def _collections(
    info: Any, own: sa.ColumnElement[bool], after: str | None, first: int | None, filters: str | None, order: str | None
) -> dict[str, Any]:
    matching = sa.select(ArtifactCollection).where(own, condition_of(filters, COLLECTIONS))
    return counted(context_of(info), matching.order_by(*order_of(order, COLLECTIONS, ArtifactCollection.id)), after, first)


@project_type.field("artifactType")
def project_type_named(project: Project, info: Any, name: str) -> Kind | None:
    return next((kind for kind in collections.kinds_of(context_of(info).session, project) if kind.name == name), None)


@project_type.field("artifactTypes")
def project_types(project: Project, info: Any, after: str | None = None, first: int | None = None) -> dict[str, Any]:
    kinds = collections.kinds_of(context_of(info).session, project)
    skip, first = page_of(after, first)
    return connection(kinds[skip : skip + first], skip, len(kinds))


@kind_type.field("artifactCollection")
def kind_collection(kind: Kind, info: Any, name: str) -> ArtifactCollection | None:
    found = collections.collection_of(context_of(info).session, kind.project, name) if _is_seen(kind, info) else None
    return found if found is not None and found.type == kind.name else None


@kind_type.field("artifactCollections")
def kind_collections(
    kind: Kind, info: Any, after: str | None = None, first: int | None = None, filters: str | None = None, order: str | None = None
) -> dict[str, Any] | None:
    if not _is_seen(kind, info):
        return None
    own = sa.and_(ArtifactCollection.project_id == kind.project.id, ArtifactCollection.type == kind.name)
    return _collections(info, own, after, first, filters, order)


@collection_type.field("tags")
def tags(collection: ArtifactCollection, info: Any, after: str | None = None, first: int | None = None) -> dict[str, Any]:
    found = tag_values(collection.tags) if _is_seen(collection, info) else []
    return connection(found, 0, len(found))


@collection_type.field("aliases")
def aliases(collection: ArtifactCollection, info: Any, after: str | None = None, first: int | None = None) -> dict[str, Any]:
    if not _is_seen(collection, info):
        return connection([], 0, 0)
    matching = sa.select(ArtifactAlias).where(ArtifactAlias.collection_id == collection.id).order_by(ArtifactAlias.id)
    return counted(context_of(info), matching, after, first)


@collection_type.field("artifacts")
def versions(
    collection: ArtifactCollection,
    info: Any,
    after: str | None = None,
    first: int | None = None,
    filters: str | None = None,
    order: str | None = None,
) -> dict[str, Any] | None:
    if not _is_seen(collection, info):
        return None
    matching = (
        sa.select(ArtifactMember)
        .join(Artifact, Artifact.id == ArtifactMember.artifact_id)
        .where(ArtifactMember.collection_id == collection.id, condition_of(filters, VERSIONS))
        .order_by(*order_of(order, VERSIONS, ArtifactMember.id))
        .options(contains_eager(ArtifactMember.artifact))
    )
    found = counted(context_of(info), matching, after, first)
    for edge in found["edges"]:
        edge["version"], edge["node"] = f"v{edge['node'].version}", edge["node"].artifact
    return found


@collection_type.field("artifactMembership")
def membership(collection: ArtifactCollection, info: Any, aliasName: str) -> ArtifactMember | None:
    return collections.member_of(context_of(info).session, collection, aliasName) if _is_seen(collection, info) else None


@sequence_type.field("latestArtifact")
def latest_artifact(collection: ArtifactCollection, info: Any) -> Artifact | None:
    member = membership(collection, info, collections.LATEST)
    return None if member is None else member.artifact


@member_type.field("files")
def member_files(
    member: ArtifactMember, info: Any, names: Sequence[str] | None = None, after: str | None = None, first: int | None = None
) -> dict[str, Any]:
    return files_of(context_of(info), member.artifact, names, after, first)


@mutation.field("addAliases")
def add_aliases(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, bool]:
    context = context_of(info)
    for collection, artifact, alias in _aliased(info, input):
        wanted = [collections.LATEST] if alias == collections.LATEST else collections.checked_aliases([alias])
        collections.point(context.session, collection, artifact, wanted)
    return {"success": True}


@mutation.field("deleteAliases")
def delete_aliases(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, bool]:
    for collection, artifact, alias in _aliased(info, input):
        collections.unpoint(context_of(info).session, collection, artifact, [alias])
    return {"success": True}


def _aliased(info: Any, values: Mapping[str, Any]) -> list[tuple[ArtifactCollection, Artifact, str]]:
    """Return each alias of an input with the collection that it belongs to, of which the version must be a member."""
    context = context_of(info)
    artifact = artifacts.artifact_of(context.session, context.account, values["artifactID"])
    if artifact is None:
        raise UsageError(f"there is no artifact {values['artifactID']!r}.")
    found = []
    for one in values["aliases"]:
        place = (one["entityName"], one["projectName"], one["artifactCollectionName"])
        collection = collections.named(context.session, context.account, *place)
        if collections.membership(context.session, collection, artifact) is None:
            raise UsageError(f"this version of {artifact.collection.name} is not in {'/'.join(place)}: link it there first.")
        found.append((collection, artifact, one["alias"]))
    return found


@mutation.field("linkArtifact")
def link_artifact(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    if input.get("artifactID"):
        artifact = artifacts.artifact_of(context.session, context.account, input["artifactID"])
    else:
        artifact = artifacts.by_client_id(context.session, context.account, input.get("clientID") or "")
    if artifact is None:
        raise UsageError("there is no such artifact to link: log it first.")
    if input.get("artifactPortfolioID"):
        target = collections.writable(context.session, context.account, input["artifactPortfolioID"])
        place = (target.project.entity.name, target.project.name, target.name)
    else:
        entity = input.get("entityName") or context.account.entity
        place = (entity, input.get("projectName") or "", input.get("artifactPortfolioName") or "")
    wanted = [one["alias"] for one in input.get("aliases") or ()]
    member = collections.link(context.session, context.account, artifact, place, wanted)
    return {"versionIndex": member.version, "artifactMembership": member}


@mutation.field("unlinkArtifact")
def unlink_artifact(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, bool]:
    context = context_of(info)
    artifact = artifacts.artifact_of(context.session, context.account, input["artifactID"])
    collection = collections.writable(context.session, context.account, input["artifactPortfolioID"])
    if artifact is None:
        raise UsageError(f"there is no artifact {input['artifactID']!r}.")
    collections.unlink(context.session, collection, artifact)
    return {"success": True}


@mutation.field("updateArtifactSequence")
@mutation.field("updateArtifactPortfolio")
def update_collection(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    collection = _collection(info, input)
    collections.change(context_of(info).session, collection, input)
    return {"artifactCollection": collection}


@mutation.field("moveArtifactSequence")
def move_collection(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    collection = _collection(info, input)
    collection.type = collections.checked(input["destinationArtifactTypeName"], "an artifact's type")
    return {"artifactCollection": collection}


@mutation.field("deleteArtifactSequence")
@mutation.field("deleteArtifactPortfolio")
def delete_collection(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    collection = _collection(info, input)
    collections.delete(context_of(info).session, collection)
    return {"artifactCollection": collection}


def _collection(info: Any, values: Mapping[str, Any]) -> ArtifactCollection:
    context = context_of(info)
    identifier = values.get("artifactSequenceID") or values.get("artifactPortfolioID") or ""
    return collections.writable(context.session, context.account, identifier)


@mutation.field("createArtifactCollectionTagAssignments")
def tag_collection(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    collection = _named(info, input)
    collection.tags = as_json(list(dict.fromkeys([*json.loads(collection.tags), *checked_tags(input["tags"])])))
    return {"tags": tag_values(collection.tags)}


@mutation.field("deleteArtifactCollectionTagAssignments")
def untag_collection(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, bool]:
    collection = _named(info, input)
    gone = {tag["tagName"] for tag in input["tags"]}
    collection.tags = as_json([tag for tag in json.loads(collection.tags) if tag not in gone])
    return {"success": True}


def _named(info: Any, values: Mapping[str, Any]) -> ArtifactCollection:
    context = context_of(info)
    place = (values["entityName"], values["projectName"], values["artifactCollectionName"])
    return collections.named(context.session, context.account, *place)
