"""Artifacts: versions of files that runs log and use. Created, filled, committed, found.

A client announces a version, uploads what this server does not have yet, then the list of all its files (the manifest), and
commits. Only then does the version get its number, its aliases and the alias `latest`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.artifacts import artifact_collections as collections
from paretune.service.artifacts.artifact_values import (
    check_region,
    checked_facts,
    checked_tags,
    digest_of,
    md5_of,
    seconds_of,
    whole,
)
from paretune.service.store import runs, safe_json
from paretune.service.store.accounts import Account
from paretune.service.store.artifact_tables import (
    COMMITTED,
    LOGGED,
    PENDING,
    Artifact,
    ArtifactClientId,
    ArtifactCollection,
    ArtifactFile,
    ArtifactManifest,
    ArtifactMember,
    RunArtifact,
)
from paretune.service.store.files import Content, Files, checked_name
from paretune.service.store.tables import Project, Run, as_json, now, number_of

FULL, INCREMENTAL, PATCH = "FULL", "INCREMENTAL", "PATCH"
MOST_MANIFEST = 256 * 2**20  # bytes; it is read as a whole
AT_ONCE = 500  # values in one condition of SQL


def artifact_of(session: Session, account: Account, identifier: str) -> Artifact | None:
    """Return a version by the identifier that clients got; None where there is none that the account may see."""
    number = number_of(identifier, "Artifact")
    found = None if number is None else session.get(Artifact, number)
    return found if found is not None and account.may_read(found.collection.project.entity.name) else None


def writable(session: Session, account: Account, identifier: str) -> Artifact:
    """Return a version that the account may change.

    Raises:
        UsageError: if there is none.
        RefusedError: if the account may only look at it.
    """
    found = artifact_of(session, account, identifier)
    if found is None:
        raise UsageError(f"there is no artifact {identifier!r}.")
    runs.check_writable(account, found.collection.project)
    return found


def by_client_id(session: Session, account: Account, client_id: str) -> Artifact | None:
    """Return the version to which a client gave an identifier of its own."""
    query = sa.select(Artifact).join(ArtifactClientId).where(ArtifactClientId.client_id == client_id)
    found = session.scalars(query.order_by(Artifact.id.desc())).all()
    return next((one for one in found if account.may_read(one.collection.project.entity.name)), None)


def create(session: Session, account: Account, values: Mapping[str, Any]) -> Artifact:
    """Return the version that a client may fill; or, where a version with these contents is there, that one, committed.

    Args:
        values: of CreateArtifactInput.

    Raises:
        UsageError: if the collection has another type, there is no such run, or a name, tag, alias or the metadata is unfit.
        RefusedError: if the account may not write there.
    """
    check_region(values.get("storageRegion"))
    project = runs.project_of(session, account, values["projectName"], values["entityName"], create=True)
    assert project is not None
    runs.check_writable(account, project)
    name = values.get("artifactCollectionName") or next(iter(values.get("artifactCollectionNames") or ()), "")
    collection = collections.own_collection(session, project, name, values["artifactTypeName"])
    run = run_named(session, project, values["runName"]) if values.get("runName") else None
    wanted = collections.checked_aliases(one["alias"] for one in values.get("aliases") or ())
    tags = checked_tags(values.get("tags") or ())
    found = _there_already(session, collection, values)
    if found is None:
        found = Artifact(
            collection=collection,
            run=run,
            user_id=account.id,
            digest=values["digest"][:64],
            description=values.get("description"),
            facts=checked_facts(values.get("metadata")),
            tags=as_json(tags),
            aliases=as_json(wanted),
            history_step=whole(values.get("historyStep"), "historyStep"),
            ttl_seconds=seconds_of(values.get("ttlDurationSeconds")),
            distributed_id=values.get("distributedID"),
        )
        session.add(found)
        session.flush()
    elif found.state == COMMITTED:
        collections.point(session, collection, found, [*wanted, collections.LATEST])
        found.tags = as_json(list(dict.fromkeys([*json.loads(found.tags), *tags])))
    else:
        found.aliases = as_json(list(dict.fromkeys([*json.loads(found.aliases), *wanted])))
    if values.get("clientID"):
        session.merge(ArtifactClientId(client_id=str(values["clientID"])[:128], artifact_id=found.id))
    if run is not None:
        note_use(session, run, found, LOGGED)
    return found


def _there_already(session: Session, collection: ArtifactCollection, values: Mapping[str, Any]) -> Artifact | None:
    """Return the version of these contents, or the one that other processes log parts of."""
    of_collection = sa.select(Artifact).where(Artifact.collection_id == collection.id).order_by(Artifact.id.desc()).limit(1)
    if values.get("distributedID"):
        same = Artifact.distributed_id == values["distributedID"]
        return session.scalar(of_collection.where(Artifact.state == PENDING, same))
    if not values.get("enableDigestDeduplication"):
        return None
    return session.scalar(of_collection.where(Artifact.state == COMMITTED, Artifact.digest == values["digest"]))


def announce(session: Session, account: Account, files: Files, specs: Sequence[Mapping[str, Any]]) -> list[ArtifactFile]:
    """Note the files of versions, and return a row for each; one without a `digest` has yet to be uploaded.

    Args:
        specs: of CreateArtifactFileSpecInput.

    Raises:
        UsageError: if there is no such version, it is committed, or a name or digest is unfit.
        RefusedError: if the account may only look at it.
    """
    identifiers = {spec["artifactID"] for spec in specs}
    if len(identifiers) != 1:
        raise UsageError(f"the files of a request must be of one artifact. Got {len(identifiers)}.")
    artifact = pending(session, account, identifiers.pop())
    digests = {checked_name(spec["name"], "its artifact"): md5_of(spec["md5"]) for spec in specs}
    rows = rows_of(session, artifact, list(digests))
    kept = known_contents(session, artifact, list(digests.values()))
    for name, md5 in digests.items():
        row = rows.setdefault(name, ArtifactFile(artifact_id=artifact.id, name=name))
        row.md5, row.digest, row.updated_at = md5, "", now()
        there = kept.get(md5)
        if there is not None and files.has(there.digest):
            row.digest, row.size = there.digest, there.size
        session.add(row)
    session.flush()
    return [rows[spec["name"]] for spec in specs]


def arrived(row: ArtifactFile | ArtifactManifest | None, content: Content) -> None:
    """Note the content of a file or manifest that was uploaded.

    Raises:
        UsageError: if the version was deleted meanwhile, or the content is not what was announced.
    """
    if row is None:
        raise UsageError("the artifact of this file has been deleted.")
    if row.md5 != content.md5:
        raise UsageError(f"the upload has the MD5 {content.md5}, where {row.md5} was announced: upload the file as it was logged.")
    if not row.digest:
        row.digest, row.size, row.updated_at = content.digest, content.size, now()


def manifest_for(session: Session, account: Account, values: Mapping[str, Any]) -> ArtifactManifest:
    """Return the manifest of a version that a client may send; one that lists all files is there once.

    Args:
        values: of CreateArtifactManifestInput.

    Raises:
        UsageError: if there is no such version, or it is committed.
        RefusedError: if the account may only look at it.
    """
    artifact = pending(session, account, values["artifactID"])
    base = artifact_of(session, account, values["baseArtifactID"]) if values.get("baseArtifactID") else None
    query = sa.select(ArtifactManifest).where(ArtifactManifest.artifact_id == artifact.id, ArtifactManifest.kind == FULL)
    found = session.scalar(query) if values["type"] == FULL else None
    if found is None:
        found = ArtifactManifest(artifact_id=artifact.id, kind=values["type"], base_id=None if base is None else base.id)
        session.add(found)
    if values.get("digest"):
        found.md5, found.digest = md5_of(values["digest"]), ""
    session.flush()
    return found


def commit(session: Session, account: Account, files: Files, identifier: str) -> Artifact:
    """Give a version its number and aliases, all its files being here; one that is committed stays as it is.

    Raises:
        UsageError: if the manifest or a file is missing, or a name in it leads elsewhere.
        RefusedError: if the account may only look at it.
    """
    artifact = writable(session, account, identifier)
    if artifact.state == COMMITTED:
        return artifact
    entries = _entries(session, files, artifact)
    _keep_files(session, files, artifact, entries)
    collection = artifact.collection
    artifact.digest = digest_of(entries)
    artifact.size = sum(entry.get("size") or 0 for entry in entries.values())
    artifact.file_count = len(entries)
    artifact.state = COMMITTED
    artifact.version = collections.join(session, collection, artifact).version
    artifact.updated_at = now()
    collections.point(session, collection, artifact, [*json.loads(artifact.aliases), collections.LATEST])
    return artifact


def _entries(session: Session, files: Files, artifact: Artifact) -> dict[str, Any]:
    """Return a version's files by name, of all the manifests that came; several are kept as one."""
    query = sa.select(ArtifactManifest).where(ArtifactManifest.artifact_id == artifact.id).order_by(ArtifactManifest.id)
    found = session.scalars(query).all()
    if not found or any(not one.digest for one in found):
        raise UsageError(f"the manifest of {artifact.collection.name} has not arrived: upload it, then commit.")
    read = [_manifest(files, one.digest) for one in found]
    if len(found) == 1 and found[0].kind == FULL:
        return dict(read[0]["contents"])
    base = _base(session, artifact, found[0]) if found[0].kind == INCREMENTAL else None
    entries = dict(_manifest(files, base)["contents"]) if base is not None else {}
    for one in read:
        entries |= one["contents"]
    whole = files.keep(json.dumps({**read[0], "contents": entries}).encode())
    session.execute(sa.delete(ArtifactManifest).where(ArtifactManifest.artifact_id == artifact.id))
    session.add(ArtifactManifest(artifact_id=artifact.id, kind=FULL, digest=whole))
    return entries


def _base(session: Session, artifact: Artifact, manifest: ArtifactManifest) -> str | None:
    """Return the manifest to which an incremental one adds: that of the version it names, or the latest of its collection."""
    latest = collections.member_of(session, artifact.collection, collections.LATEST)
    base_id = manifest.base_id or (None if latest is None else latest.artifact_id)
    return session.scalar(
        sa.select(ArtifactManifest.digest)
        .join(Artifact, Artifact.id == ArtifactManifest.artifact_id)
        .where(Artifact.id == base_id, Artifact.collection_id == artifact.collection_id, Artifact.state == COMMITTED)
    )


def _manifest(files: Files, digest: str) -> dict[str, Any]:
    path = files.path(digest)
    if path.exists() and path.stat().st_size > MOST_MANIFEST:
        raise UsageError(f"a manifest may have at most {MOST_MANIFEST:,} bytes: log the files as several artifacts.")
    try:
        read = safe_json.read(path.read_text(encoding="utf-8"))
        fit = all(_is_fit(entry) for entry in read["contents"].values())
        region = (read.get("storagePolicyConfig") or {}).get("storageRegion")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        fit = False
    if not fit:
        raise UsageError("a manifest must be JSON with contents: files by name, each with a digest and a size in bytes.")
    check_region(region)
    return dict(read)


def _is_fit(entry: Any) -> bool:
    size, ref = entry.get("size") or 0, entry.get("ref")
    return isinstance(entry["digest"], str) and type(size) is int and 0 <= size < 2**60 and (ref is None or isinstance(ref, str))


def _keep_files(session: Session, files: Files, artifact: Artifact, entries: Mapping[str, Any]) -> None:
    """Make the rows of a version's files those of its manifest; contents that came with an earlier version are taken from there."""
    rows = rows_of(session, artifact)
    local = {name: md5_of(entry["digest"]) for name, entry in entries.items() if not entry.get("ref")}
    absent = [name for name, md5 in local.items() if name not in rows or rows[name].md5 != md5 or not rows[name].digest]
    kept = known_contents(session, artifact, [local[name] for name in absent])
    missing = [name for name in absent if local[name] not in kept or not files.has(kept[local[name]].digest)]
    if missing:
        raise UsageError(
            f"{len(missing)} of the {len(entries)} files of {artifact.collection.name} have not arrived "
            f"(the first is {missing[0][:200]!r}): upload them, then commit."
        )
    for name, row in rows.items():
        if name not in entries:
            session.delete(row)
    for name, entry in entries.items():
        row = rows.get(name) or ArtifactFile(artifact_id=artifact.id, name=checked_name(name, "its artifact"))
        if entry.get("ref"):
            row.ref, row.size = entry["ref"], entry.get("size") or 0
        elif name not in rows or not row.digest:
            there = kept[local[name]]
            row.md5, row.digest, row.size = local[name], there.digest, there.size
        session.add(row)
    session.flush()


def known_contents(session: Session, artifact: Artifact, digests: Sequence[str]) -> dict[str, ArtifactFile]:
    """Return by MD5 the files whose contents came with other versions of the same owner.

    Another owner's are not: who knows the MD5 of a file does not thereby get the file.
    """
    found: dict[str, ArtifactFile] = {}
    for part in parts(list(dict.fromkeys(digests))):
        first = (
            sa.select(sa.func.min(ArtifactFile.id))
            .join(Artifact, Artifact.id == ArtifactFile.artifact_id)
            .join(ArtifactCollection, ArtifactCollection.id == Artifact.collection_id)
            .join(Project, Project.id == ArtifactCollection.project_id)
            .where(ArtifactFile.md5.in_(part), ArtifactFile.digest != "")
            .where(Project.entity_id == artifact.collection.project.entity_id)
            .group_by(ArtifactFile.md5)
        )
        query = sa.select(ArtifactFile).where(ArtifactFile.id.in_(first))
        found |= {row.md5: row for row in session.scalars(query)}
    return found


def rows_of(session: Session, artifact: Artifact, names: Sequence[str] | None = None) -> dict[str, ArtifactFile]:
    """Return the files of a version by name; of `names` those that are there."""
    own = sa.select(ArtifactFile).where(ArtifactFile.artifact_id == artifact.id)
    queries = [own] if names is None else [own.where(ArtifactFile.name.in_(part)) for part in parts(names)]
    return {row.name: row for query in queries for row in session.scalars(query)}


def parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Return the parts of values that go into one condition of SQL."""
    return (values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE))


def pending(session: Session, account: Account, identifier: str) -> Artifact:
    """Return a version that the account may fill.

    Raises:
        UsageError: if there is none, or it is committed.
        RefusedError: if the account may only look at it.
    """
    found = writable(session, account, identifier)
    if found.state != PENDING:
        raise UsageError(f"{found.collection.name}:v{found.version} is committed: its files cannot change; log a new version.")
    return found


def note_use(session: Session, run: Run, artifact: Artifact, use: str) -> None:
    """Note that a run logged or used a version."""
    session.merge(RunArtifact(run_id=run.id, artifact_id=artifact.id, use=use))


def run_named(session: Session, project: Project, name: str) -> Run:
    """Return a run of a project.

    Raises:
        UsageError: if there is none.
    """
    run = runs.run_of(session, project, name)
    if run is None:
        raise UsageError(f"there is no run {project.entity.name}/{project.name}/{name}.")
    return run


def delete(session: Session, artifact: Artifact, *, with_aliases: bool) -> None:
    """Delete a version and its links; `latest` becomes the version before it. Contents are swept later.

    Raises:
        UsageError: if it has aliases and they are not to be deleted.
    """
    aliases = collections.aliases_of(session, artifact)
    if aliases and not with_aliases:
        shown = ", ".join(alias.alias for alias in aliases)
        raise UsageError(f"{artifact.collection.name}:v{artifact.version} has the aliases {shown}: pass delete_aliases=True.")
    members = session.scalars(sa.select(ArtifactMember).where(ArtifactMember.artifact_id == artifact.id)).all()
    touched = [member.collection for member in members]
    for row in (*aliases, *members, artifact):
        session.delete(row)
    session.flush()
    for collection in touched:
        collections.mend_latest(session, collection)


def delete_of(session: Session, run: Run) -> None:
    """Delete the versions that a run logged first."""
    for artifact in session.scalars(sa.select(Artifact).where(Artifact.run_id == run.id)).all():
        delete(session, artifact, with_aliases=True)
