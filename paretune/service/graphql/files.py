"""Answers about the files of runs."""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from ariadne import MutationType, ObjectType

from paretune.core.errors import UsageError
from paretune.service.graphql.query_limits import MOST_IN_PAGE
from paretune.service.graphql.shared import Context, as_time, binder, connection, context_of, page_of, writable_run
from paretune.service.store import runs
from paretune.service.store.artifact_tables import ArtifactFile, ArtifactManifest
from paretune.service.store.files import checked_name
from paretune.service.store.tables import Run, RunFile, number_of

mutation = MutationType()
run_type = ObjectType("Run")
file_type = ObjectType("File")
BOUND = (mutation, run_type, file_type)
run_field = binder(run_type)


@run_field("fileCount")
def file_count(run: Run, context: Context) -> int:
    """Return how many files a run has; those of the runs that were found with it are counted at once."""
    if run.id not in context.file_counts:
        found = [row.id for row in context.session.identity_map.values() if isinstance(row, Run)]
        others = [number for number in found if number not in context.file_counts]
        wanted = {run.id, *others[:MOST_IN_PAGE]}
        counted = sa.select(RunFile.run_id, sa.func.count()).where(RunFile.run_id.in_(wanted)).group_by(RunFile.run_id)
        context.file_counts.update(dict.fromkeys(wanted, 0))
        context.file_counts.update({row[0]: row[1] for row in context.session.execute(counted)})
    return context.file_counts[run.id]


@mutation.field("createRunFiles")
def create_run_files(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    run = writable_run(info, input["entityName"], input["projectName"], input["runName"])
    signed = functools.partial(context.files.signed, "upload", **run.identity)
    files = [{"name": name, "uploadUrl": f"{context.base}/uploads/{signed(name=checked_name(name))}"} for name in input["files"]]
    return {"runID": run.global_id, "uploadHeaders": [], "files": files}


@mutation.field("markRunFilesUploaded")
def mark_run_files_uploaded(*_: Any, **__: Any) -> dict[str, Any]:
    return {"success": True}  # each was noted as it arrived


@mutation.field("deleteFiles")
def delete_files(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    numbers = {identifier: number_of(identifier, "File") for identifier in input["files"]}
    wanted = sorted({number for number in numbers.values() if number is not None})
    parts = [wanted[start : start + MOST_IN_PAGE] for start in range(0, len(wanted), MOST_IN_PAGE)]
    there: set[int] = set()
    for part in parts:
        own = sa.select(RunFile.id, RunFile.run_id).where(RunFile.id.in_(part))
        found = context.session.execute(own).all()
        for identifier in {row.run_id for row in found}:
            run = context.session.get_one(Run, identifier)
            if context.account.may_read(run.project.entity.name):
                runs.check_writable(context.account, run.project)
                there |= {row.id for row in found if row.run_id == identifier}
    for identifier, number in numbers.items():
        if number not in there:
            raise UsageError(f"there is no file {identifier!r}.")
    for part in parts:
        context.session.execute(sa.delete(RunFile).where(RunFile.id.in_(part)))
    return {"success": True}


@run_type.field("files")
def run_files(
    run: Run,
    info: Any,
    names: Sequence[str | None] | None = None,
    after: str | None = None,
    first: int | None = None,
    pattern: str | None = None,
    upload: bool = False,
) -> dict[str, Any]:
    session = context_of(info).session
    matching = sa.select(RunFile).where(RunFile.run_id == run.id)
    if names:
        matching = matching.where(RunFile.name.in_([posixpath.normpath(name) for name in names if name]))
    if pattern:
        matching = matching.where(RunFile.name.like(pattern))
    skip, first = page_of(after, first)
    found = session.scalars(matching.order_by(RunFile.name).offset(skip).limit(first + 1)).all()
    return connection(found[:first], skip, skip + len(found))


file_type.set_field("id", lambda file, _: file.global_id)
file_type.set_field("sizeBytes", lambda file, _: file.size)
file_type.set_field("updatedAt", lambda file, _: as_time(file.updated_at))
file_type.set_field("directUrl", lambda file, info: download_address(file, info))


@file_type.field("url")
def file_url(file: RunFile | ArtifactFile | ArtifactManifest, info: Any, upload: bool = False) -> str:
    return download_address(file, info)


@file_type.field("mimetype")
def mimetype(file: RunFile | ArtifactFile | ArtifactManifest, _: Any) -> str:
    import mimetypes

    return mimetypes.guess_type(file.name)[0] or "application/octet-stream"


def download_address(file: RunFile | ArtifactFile | ArtifactManifest, info: Any) -> str:
    """Return an address by which a file can be fetched for a while without a key; of one that lies elsewhere, where."""
    context = context_of(info)
    name = quote(file.name.rpartition("/")[2])
    if isinstance(file, RunFile):
        identity = context.session.get_one(Run, file.run_id).identity
        return f"{context.base}/downloads/{context.files.signed('download', **identity, name=file.name)}/{name}"
    if isinstance(file, ArtifactFile) and file.ref is not None:
        return file.ref
    if isinstance(file, ArtifactFile):
        name = f"{file.storage_path}/{name}"
    return f"{context.base}/contents/{context.files.signed('content', digest=file.digest)}/{name}"
