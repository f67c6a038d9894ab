"""Uploads of artifacts' files, and the addresses of them that W&B's client builds itself where it was handed none."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from paretune.service.artifacts import artifact_collections as collections
from paretune.service.artifacts import artifacts
from paretune.service.http.auth import permitted
from paretune.service.http.service import Service
from paretune.service.store import runs
from paretune.service.store.accounts import Account
from paretune.service.store.artifact_tables import Artifact, ArtifactCollection, ArtifactFile, ArtifactManifest, ArtifactMember
from paretune.service.store.files import Content
from paretune.service.store.tables import Entity, Project


def routes(service: Service) -> list[Route]:
    """Return the routes."""

    async def upload(request: Request) -> Response:
        """Take the content of an artifact's file or manifest; the address is the permission."""
        said = permitted(service.files, "artifact", request)
        content = await service.files.receive(request.stream())
        await run_in_threadpool(note, said, content)
        return Response(status_code=200)

    def note(said: dict[str, int], content: Content) -> None:
        with service.database.session(writing=True) as session:
            if "file" in said:
                artifacts.arrived(session.get(ArtifactFile, said["file"]), content)
            else:
                artifacts.arrived(session.get(ArtifactManifest, said["manifest"]), content)

    async def download(request: Request) -> Response:
        """Give the content of a file that has this MD5, in a collection or anywhere of an owner, to who may see it."""
        account = await service.authenticated(request)

        def find() -> str | None:
            with service.database.session() as session:
                return digest_of(session, account, **request.path_params)

        digest = await run_in_threadpool(find)
        if digest is None:
            raise HTTPException(404, "there is no such file.")
        return RedirectResponse(f"{service.base_of(request)}/contents/{service.files.signed('content', digest=digest)}/file")

    collection = "/artifactsV2/{region}/{entity}/{project}/{collection}"
    return [
        Route("/artifact-uploads/{token}", upload, methods=["PUT"]),
        Route(collection + "/{birth}/{md5}/{name}", download),
        Route(collection + "/{artifact}/{birth}/{md5}/{name}", download),
        Route("/artifacts/{entity}/{md5}", download),
    ]


def digest_of(
    session: Session, account: Account, entity: str, md5: str, project: str | None = None, collection: str | None = None, **_: str
) -> str | None:
    """Return the SHA-256 of a file of an owner's artifacts, or of those in one collection; None where the account sees none."""
    if not account.may_read(entity):
        return None
    query = sa.select(ArtifactFile.digest).where(ArtifactFile.md5 == md5, ArtifactFile.digest != "")
    if project is None:
        query = (
            query.join(Artifact, Artifact.id == ArtifactFile.artifact_id)
            .join(ArtifactCollection, ArtifactCollection.id == Artifact.collection_id)
            .join(Project, Project.id == ArtifactCollection.project_id)
            .join(Entity, Entity.id == Project.entity_id)
            .where(Entity.name == entity)
        )
    else:
        owner = runs.project_of(session, account, project, entity)
        found = None if owner is None else collections.collection_of(session, owner, collection or "")
        if found is None:
            return None
        members = sa.select(ArtifactMember.artifact_id).where(ArtifactMember.collection_id == found.id)
        query = query.where(ArtifactFile.artifact_id.in_(members))
    return session.scalar(query.limit(1))
