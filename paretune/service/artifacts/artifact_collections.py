"""Collections of artifacts: found, made, renamed, deleted; their members, by number and by alias, and links between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.store import runs
from paretune.service.store.accounts import Account
from paretune.service.store.artifact_tables import COMMITTED, Artifact, ArtifactAlias, ArtifactCollection, ArtifactMember
from paretune.service.store.database import made_once
from paretune.service.store.tables import Project, now, number_of

LATEST = "latest"
REGISTRY = "wandb-registry-"  # how the names of W&B's registries begin
NAME_FORM = re.compile(r"[^/:\x00-\x1f]{1,128}")
VERSION_FORM = re.compile(r"v(\d{1,9})")


@dataclass(frozen=True)
class Kind:
    """A type of artifacts in a project: there since its first collection."""

    project: Project
    name: str
    created_at: datetime
    description: str | None = None


def kinds_of(session: Session, project: Project) -> list[Kind]:
    """Return the types of a project's artifacts, by name."""
    first = sa.func.min(ArtifactCollection.created_at)
    query = sa.select(ArtifactCollection.type, first).where(ArtifactCollection.project_id == project.id)
    found = session.execute(query.group_by(ArtifactCollection.type).order_by(ArtifactCollection.type))
    return [Kind(project, name, created_at) for name, created_at in found]


def kind_of(collection: ArtifactCollection) -> Kind:
    """Return the type of a collection."""
    return Kind(collection.project, collection.type, collection.created_at)


def collection_of(session: Session, project: Project, name: str) -> ArtifactCollection | None:
    """Return a collection of a project."""
    query = sa.select(ArtifactCollection).where(ArtifactCollection.project_id == project.id, ArtifactCollection.name == name)
    return session.scalar(query)


def is_seen(account: Account, collection: ArtifactCollection) -> bool:
    """Whether the account may see a collection, and not only a version of it that is linked to another."""
    return account.may_read(collection.project.entity.name)


def collection_by_id(session: Session, account: Account, identifier: str) -> ArtifactCollection | None:
    """Return a collection by the identifier that clients got; None where there is none that the account may see."""
    number = number_of(identifier, "ArtifactCollection")
    found = None if number is None else session.get(ArtifactCollection, number)
    return found if found is not None and is_seen(account, found) else None


def writable(session: Session, account: Account, identifier: str) -> ArtifactCollection:
    """Return a collection that the account may change.

    Raises:
        UsageError: if there is none.
        RefusedError: if the account may only look at it.
    """
    found = collection_by_id(session, account, identifier)
    if found is None:
        raise UsageError(f"there is no artifact collection {identifier!r}.")
    runs.check_writable(account, found.project)
    return found


def named(session: Session, account: Account, entity: str | None, project: str | None, name: str) -> ArtifactCollection:
    """Return a collection that the account may change, by name.

    Raises:
        UsageError: if there is none.
        RefusedError: if the account may only look at it.
    """
    owner = runs.project_of(session, account, project, entity)
    found = None if owner is None else collection_of(session, owner, name)
    if found is None:
        raise UsageError(f"there is no artifact collection {entity}/{project}/{name}.")
    runs.check_writable(account, found.project)
    return found


def own_collection(session: Session, project: Project, name: str, kind: str) -> ArtifactCollection:
    """Return the collection of a project to which versions of a type are logged; it is made where there is none.

    Raises:
        UsageError: if it has another type or holds links, or a name is unfit.
    """
    found = _collection(session, project, name, kind, has_links=False)
    if found.has_links:
        raise UsageError(f"{name} holds links to versions of other collections: log the artifact under another name.")
    return found


def _collection(session: Session, project: Project, name: str, kind: str, *, has_links: bool) -> ArtifactCollection:
    checked(name, "an artifact's name")
    checked(kind, "an artifact's type")
    found = made_once(
        session,
        lambda: collection_of(session, project, name),
        lambda: ArtifactCollection(project=project, name=name, type=kind, has_links=has_links),
    )
    if found.type != kind:
        raise UsageError(f"{name} has versions of type {found.type!r}: they cannot be of type {kind!r} too.")
    return found


def checked(name: str, what: str) -> str:
    """Return a name.

    Raises:
        UsageError: if it is unfit for one.
    """
    if not NAME_FORM.fullmatch(name):
        raise UsageError(f"{what} must be 1 to 128 characters without / and :. Got {name[:140]!r}.")
    return name


def checked_aliases(aliases: Iterable[str]) -> list[str]:
    """Return aliases without `latest`, which every new version gets.

    Raises:
        UsageError: if one is unfit, or says a number.
    """
    found = list(dict.fromkeys(aliases))
    for alias in found:
        checked(alias, "an alias")
        if VERSION_FORM.fullmatch(alias):
            raise UsageError(f"an alias cannot look like the number of a version. Got {alias!r}.")
    return [alias for alias in found if alias != LATEST]


def member_of(session: Session, collection: ArtifactCollection, alias: str) -> ArtifactMember | None:
    """Return a member of a collection by number (`v3`) or alias."""
    query = sa.select(ArtifactMember).where(ArtifactMember.collection_id == collection.id)
    number = VERSION_FORM.fullmatch(alias)
    if number is not None:
        return session.scalar(query.where(ArtifactMember.version == int(number[1])))
    own = (ArtifactAlias.artifact_id == ArtifactMember.artifact_id, ArtifactAlias.collection_id == collection.id)
    return session.scalar(query.join(ArtifactAlias, sa.and_(*own)).where(ArtifactAlias.alias == alias))


def member_named(session: Session, project: Project, name: str) -> ArtifactMember | None:
    """Return a member by `collection:alias`, `collection:v3` or `collection`, which is the latest."""
    collection, _, alias = name.partition(":")
    found = collection_of(session, project, collection)
    return None if found is None else member_of(session, found, alias or LATEST)


def membership(session: Session, collection: ArtifactCollection, artifact: Artifact) -> ArtifactMember | None:
    """Return a version as a member of a collection; None where it is none."""
    query = sa.select(ArtifactMember).where(ArtifactMember.collection_id == collection.id)
    return session.scalar(query.where(ArtifactMember.artifact_id == artifact.id))


def lock(session: Session, collection: ArtifactCollection) -> None:
    """Let nobody else give numbers or aliases of a collection until this transaction ends."""
    session.flush()
    session.refresh(collection, with_for_update={"key_share": True})


def join(session: Session, collection: ArtifactCollection, artifact: Artifact) -> ArtifactMember:
    """Make a version the next member of a collection."""
    lock(session, collection)
    member = ArtifactMember(collection=collection, artifact=artifact, version=collection.versions)
    collection.versions += 1
    collection.updated_at = now()
    session.add(member)
    session.flush()
    return member


def point(session: Session, collection: ArtifactCollection, artifact: Artifact, aliases: Iterable[str]) -> None:
    """Make aliases of a collection name a member of it."""
    lock(session, collection)
    for name in aliases:
        query = sa.select(ArtifactAlias).where(ArtifactAlias.collection_id == collection.id, ArtifactAlias.alias == name)
        alias = session.scalar(query) or ArtifactAlias(collection_id=collection.id, alias=name)
        alias.artifact_id = artifact.id
        session.add(alias)
    session.flush()


def unpoint(session: Session, collection: ArtifactCollection, artifact: Artifact, aliases: Iterable[str]) -> None:
    """Take aliases of a collection from a member of it."""
    own = (ArtifactAlias.collection_id == collection.id, ArtifactAlias.artifact_id == artifact.id)
    session.execute(sa.delete(ArtifactAlias).where(*own, ArtifactAlias.alias.in_(list(aliases))))


def aliases_of(session: Session, artifact: Artifact, collection: ArtifactCollection | None = None) -> Sequence[ArtifactAlias]:
    """Return a version's aliases, in one collection or in all."""
    query = sa.select(ArtifactAlias).where(ArtifactAlias.artifact_id == artifact.id).order_by(ArtifactAlias.id)
    if collection is not None:
        query = query.where(ArtifactAlias.collection_id == collection.id)
    return session.scalars(query).all()


def mend_latest(session: Session, collection: ArtifactCollection) -> None:
    """Let `latest` be the last member where the one that had it is gone."""
    if member_of(session, collection, LATEST) is None:
        query = sa.select(ArtifactMember).where(ArtifactMember.collection_id == collection.id)
        last = session.scalar(query.order_by(ArtifactMember.version.desc()).limit(1))
        if last is not None:
            point(session, collection, last.artifact, [LATEST])


def link(
    session: Session, account: Account, artifact: Artifact, place: tuple[str, str, str], aliases: Iterable[str]
) -> ArtifactMember:
    """Link a version to a collection of links, which is made where there is none; return it as its member.

    Args:
        place: entity, project and name of the collection.

    Raises:
        UsageError: if the version is not committed, the collection is not one of links or has another type, or it is a registry's.
        RefusedError: if the account may not write there.
    """
    entity, project_name, name = place
    if project_name.startswith(REGISTRY):
        raise UsageError("this server has no registries: link to a collection of a project, as ENTITY/PROJECT/COLLECTION.")
    if artifact.state != COMMITTED:
        raise UsageError(f"{artifact.collection.name} is not committed yet: wait for it (artifact.wait()), then link it.")
    project = runs.project_of(session, account, project_name, entity, create=True)
    assert project is not None
    runs.check_writable(account, project)
    collection = _collection(session, project, name, artifact.collection.type, has_links=True)
    if not collection.has_links:
        raise UsageError(f"{name} holds versions that were logged to it: link to a collection of another name.")
    lock(session, collection)
    member = membership(session, collection, artifact) or join(session, collection, artifact)
    point(session, collection, artifact, [*checked_aliases(aliases), LATEST])
    return member


def unlink(session: Session, collection: ArtifactCollection, artifact: Artifact) -> None:
    """Take a link to a version out of a collection.

    Raises:
        UsageError: if there is no such link.
    """
    member = membership(session, collection, artifact)
    if member is None or not collection.has_links:
        raise UsageError(f"{collection.name} has no link to this version: delete it where it was logged.")
    unpoint(session, collection, artifact, [alias.alias for alias in aliases_of(session, artifact, collection)])
    session.delete(member)
    session.flush()
    mend_latest(session, collection)


def change(session: Session, collection: ArtifactCollection, values: Mapping[str, Any]) -> None:
    """Rename or describe a collection.

    Raises:
        UsageError: if the name is unfit or taken.
    """
    name = values.get("name")
    if name is not None and name != collection.name:
        if collection_of(session, collection.project, checked(name, "a collection's name")) is not None:
            raise UsageError(f"there is a collection {name!r} in this project already: choose another name.")
        collection.name = name
    if values.get("description") is not None:
        collection.description = values["description"]
    collection.updated_at = now()
    session.flush()


def delete(session: Session, collection: ArtifactCollection) -> None:
    """Delete a collection with its versions; the links to them go too. Contents are swept later."""
    own = sa.select(Artifact.id).where(Artifact.collection_id == collection.id)
    members = session.scalars(sa.select(ArtifactMember).where(ArtifactMember.artifact_id.in_(own))).all()
    others = {member.collection for member in members} - {collection}
    for row in (*session.scalars(sa.select(ArtifactAlias).where(ArtifactAlias.artifact_id.in_(own))), *members):
        session.delete(row)
    session.flush()
    session.delete(collection)
    session.flush()
    for other in others:
        mend_latest(session, other)
