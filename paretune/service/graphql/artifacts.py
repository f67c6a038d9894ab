"""Answers about the versions of artifacts: what they are and contain, and how a client logs, uses, changes and deletes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from ariadne import MutationType, ObjectType, QueryType, UnionType

from paretune.core.errors import UsageError
from paretune.service.artifacts import artifact_collections as collections
from paretune.service.artifacts import artifacts
from paretune.service.artifacts.artifact_values import base64_of, check_region, checked_facts, checked_tags, md5_of, seconds_of
from paretune.service.graphql.shared import Context, as_time, binder, connection, context_of, counted
from paretune.service.store import runs
from paretune.service.store.artifact_tables import (
    COMMITTED,
    LOGGED,
    USED,
    Artifact,
    ArtifactAlias,
    ArtifactCollection,
    ArtifactFile,
    ArtifactManifest,
    ArtifactMember,
    RunArtifact,
)
from paretune.service.store.tables import Project, Run, RunFile, User, as_json, global_id, now, number_of

query = QueryType()
mutation = MutationType()
artifact_type = ObjectType("Artifact")
file_type = ObjectType("File")
manifest_type = ObjectType("ArtifactManifest")
run_type = ObjectType("Run")
creator = UnionType("ArtifactCreator", lambda found, *_: "User" if isinstance(found, User) else "Run")
BOUND = (query, mutation, artifact_type, file_type, manifest_type, run_type, creator)
artifact_field = binder(artifact_type)
NO_TTL = -2  # how a client reads that a version is kept without end

artifact_field("id")(lambda artifact, _: artifact.global_id)
artifact_field("metadata")(lambda artifact, _: artifact.facts)
artifact_field("digestAlgorithm")(lambda *_: "MANIFEST_MD5")
artifact_field("versionIndex")(lambda artifact, _: artifact.version)
artifact_field("fileCount")(lambda artifact, _: artifact.file_count)
artifact_field("commitHash")(lambda artifact, _: artifact.digest if artifact.state == COMMITTED else None)
artifact_field("historyStep")(lambda artifact, _: artifact.history_step)
artifact_field("ttlDurationSeconds")(lambda artifact, _: artifact.ttl_seconds or NO_TTL)
artifact_field("ttlIsInherited")(lambda artifact, _: artifact.ttl_seconds is None)
artifact_field("createdAt")(lambda artifact, _: as_time(artifact.created_at))
artifact_field("updatedAt")(lambda artifact, _: as_time(artifact.updated_at))
artifact_field("artifactType")(lambda artifact, _: collections.kind_of(artifact.collection))
artifact_field("artifactSequence")(lambda artifact, _: artifact.collection)
artifact_field("tags")(lambda artifact, _: tag_values(artifact.tags))


def tag_values(tags: str) -> list[dict[str, str]]:
    """Return tags, kept as a JSON list, as clients read them."""
    return [{"id": global_id("Tag", name), "name": name} for name in json.loads(tags)]


@artifact_field("aliases")
def aliases(artifact: Artifact, context: Context) -> list[ArtifactAlias]:
    """Those in the collections that the account sees: a link may lead from one that it does not see."""
    found = collections.aliases_of(context.session, artifact)
    return [alias for alias in found if collections.is_seen(context.account, alias.collection)]


@artifact_field("createdBy")
def created_by(artifact: Artifact, context: Context) -> Run | User | None:
    if artifact.run is None:
        return context.session.get(User, artifact.user_id) if collections.is_seen(context.account, artifact.collection) else None
    return artifact.run if context.account.may_read(artifact.run.project.entity.name) else None


@query.field("artifact")
def artifact(_: Any, info: Any, id: str) -> Artifact | None:
    context = context_of(info)
    return artifacts.artifact_of(context.session, context.account, id)


@query.field("clientIDMapping")
def client_id_mapping(_: Any, info: Any, clientID: str) -> dict[str, str] | None:
    context = context_of(info)
    found = artifacts.by_client_id(context.session, context.account, clientID)
    return None if found is None else {"serverID": found.global_id}


@artifact_type.field("artifactMemberships")
def memberships(artifact: Artifact, info: Any, after: str | None = None, first: int | None = None) -> dict[str, Any]:
    context = context_of(info)
    seen = _seen(sa.select(ArtifactMember).join(ArtifactMember.collection).join(ArtifactCollection.project), context)
    own = ArtifactMember.artifact_id == artifact.id
    return counted(context, seen.where(own).order_by(ArtifactMember.id), after, first)


def _seen(query: sa.Select[Any], context: Context) -> sa.Select[Any]:
    """Return what the account may see of a query that joins Project."""
    return query.join(Project.entity).where(context.account.readable)


@artifact_type.field("currentManifest")
def current_manifest(artifact: Artifact, info: Any) -> ArtifactManifest | None:
    own = (ArtifactManifest.artifact_id == artifact.id, ArtifactManifest.digest != "")
    return context_of(info).session.scalar(sa.select(ArtifactManifest).where(*own))


manifest_type.set_field("id", lambda manifest, _: manifest.global_id)
manifest_type.set_field("digest", lambda manifest, _: base64_of(manifest.md5))


manifest_type.set_field("file", lambda manifest, _: manifest)


@artifact_type.field("usedBy")
def used_by(artifact: Artifact, info: Any, after: str | None = None, first: int | None = None) -> dict[str, Any]:
    own = (RunArtifact.artifact_id == artifact.id, RunArtifact.use == USED)
    context = context_of(info)
    users = sa.select(Run).join(RunArtifact, RunArtifact.run_id == Run.id).join(Run.project)
    return counted(context, _seen(users, context).where(*own).order_by(Run.id), after, first)


@run_type.field("outputArtifacts")
def output_artifacts(run: Run, info: Any, after: str | None = None, first: int | None = None) -> dict[str, Any]:
    return _artifacts_of(run, LOGGED, info, after, first)


@run_type.field("inputArtifacts")
def input_artifacts(run: Run, info: Any, after: str | None = None, first: int | None = None) -> dict[str, Any]:
    return _artifacts_of(run, USED, info, after, first)


def _artifacts_of(run: Run, use: str, info: Any, after: str | None, first: int | None) -> dict[str, Any]:
    context = context_of(info)
    own = (RunArtifact.run_id == run.id, RunArtifact.use == use, Artifact.version.is_not(None))
    found = sa.select(Artifact).join(RunArtifact, RunArtifact.artifact_id == Artifact.id)
    found = found.join(Artifact.collection).join(ArtifactCollection.project)
    return counted(context, _seen(found, context).where(*own).order_by(Artifact.id), after, first)


@artifact_type.field("files")
def files(
    artifact: Artifact, info: Any, names: Sequence[str] | None = None, after: str | None = None, first: int | None = None
) -> dict[str, Any]:
    return files_of(context_of(info), artifact, names, after, first)


def files_of(
    context: Context, artifact: Artifact, names: Sequence[str] | None = None, after: str | None = None, first: int | None = None
) -> dict[str, Any]:
    """Return a page of a version's files, of all or of some."""
    matching = sa.select(ArtifactFile).where(ArtifactFile.artifact_id == artifact.id).order_by(ArtifactFile.name)
    if names:
        matching = matching.where(ArtifactFile.name.in_(names))
    return counted(context, matching, after, first)


@artifact_type.field("filesByManifestEntries")
def files_by_manifest_entries(
    artifact: Artifact, info: Any, entries: Sequence[Mapping[str, Any]] | None = None, **_: Any
) -> dict[str, Any]:
    names = [entry["name"] for entry in entries or ()]
    rows = artifacts.rows_of(context_of(info).session, artifact, names)
    return connection([rows[name] for name in names if name in rows], 0, len(names))


file_type.set_field("displayName", lambda file, _: file.name)
file_type.set_field("storagePath", lambda file, _: file.storage_path if isinstance(file, ArtifactFile) else file.name)
file_type.set_field("digest", lambda file, _: base64_of(file.md5) if file.md5 else None)
file_type.set_field("uploadHeaders", lambda *_: [])


@file_type.field("uploadUrl")
def upload_url(file: RunFile | ArtifactFile | ArtifactManifest, info: Any) -> str | None:
    """Return where to upload a file; None where its content is here already."""
    if isinstance(file, RunFile) or file.digest:
        return None
    context = context_of(info)
    purpose = "manifest" if isinstance(file, ArtifactManifest) else "file"
    return f"{context.base}/artifact-uploads/{context.files.signed('artifact', **{purpose: file.id})}"


@mutation.field("createArtifact")
def create_artifact(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    return {"artifact": artifacts.create(context.session, context.account, input)}


@mutation.field("createArtifactFiles")
def create_artifact_files(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    check_region(input.get("storageRegion"))
    rows = artifacts.announce(context.session, context.account, context.files, input["artifactFiles"])
    return {"files": {**connection(rows, 0, len(rows)), "totalCount": len(rows)}}


@mutation.field("completeMultipartUploadArtifact")
def complete_multipart_upload(*_: Any, **__: Any) -> None:
    raise UsageError("this server takes each file in one upload: it gave no addresses for parts.")


@mutation.field("createArtifactManifest")
def create_artifact_manifest(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    return {"artifactManifest": artifacts.manifest_for(context.session, context.account, input)}


@mutation.field("updateArtifactManifest")
def update_artifact_manifest(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    number = number_of(input["artifactManifestID"], "ArtifactManifest")
    found = None if number is None else context.session.get(ArtifactManifest, number)
    if found is None:
        raise UsageError(f"there is no manifest {input['artifactManifestID']!r}.")
    artifacts.pending(context.session, context.account, global_id("Artifact", str(found.artifact_id)))
    if input.get("digest"):
        found.md5, found.digest = md5_of(input["digest"]), ""
    return {"artifactManifest": found}


@mutation.field("commitArtifact")
def commit_artifact(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    return {"artifact": artifacts.commit(context.session, context.account, context.files, input["artifactID"])}


@mutation.field("updateArtifact")
def update_artifact(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    found = artifacts.writable(context.session, context.account, input["artifactID"])
    if input.get("description") is not None:
        found.description = input["description"]
    if input.get("metadata") is not None:
        found.facts = checked_facts(input["metadata"])
    if input.get("ttlDurationSeconds") is not None:
        found.ttl_seconds = seconds_of(input["ttlDurationSeconds"])
    if input.get("aliases") is not None:
        wanted = collections.checked_aliases(one["alias"] for one in input["aliases"])
        had = [alias.alias for alias in collections.aliases_of(context.session, found, found.collection)]
        gone = [alias for alias in had if alias not in (*wanted, collections.LATEST)]
        collections.unpoint(context.session, found.collection, found, gone)
        collections.point(context.session, found.collection, found, wanted)
    added = checked_tags(input.get("tagsToAdd") or ())
    gone = [tag["tagName"] for tag in input.get("tagsToDelete") or ()]
    found.tags = as_json([tag for tag in dict.fromkeys([*json.loads(found.tags), *added]) if tag not in gone])
    found.updated_at = now()
    return {"artifact": found}


@mutation.field("deleteArtifact")
def delete_artifact(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    found = artifacts.writable(context.session, context.account, input["artifactID"])
    artifacts.delete(context.session, found, with_aliases=bool(input.get("deleteAliases")))
    return {"artifact": found}


@mutation.field("useArtifact")
def use_artifact(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    found = artifacts.artifact_of(context.session, context.account, input["artifactID"])
    if found is None:
        raise UsageError(f"there is no artifact {input['artifactID']!r}.")
    project = runs.project_of(context.session, context.account, input["projectName"], input["entityName"])
    if project is None:
        raise UsageError(f"there is no project {input['entityName']}/{input['projectName']}.")
    runs.check_writable(context.account, project)
    run = artifacts.run_named(context.session, project, input["runName"])
    artifacts.note_use(context.session, run, found, USED)
    return {"artifact": found}
