"""What the service keeps of artifacts, as tables: collections, versions, what they contain, and which runs logged or used them.

A version belongs to the collection it was logged to and may be linked to others. In each it is a member with a number of its own.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from paretune.service.store.tables import CONTENT, NAME, NEVER_AGAIN, Base, LongWords, Project, Run, Words, global_id, now

PENDING, COMMITTED = "PENDING", "COMMITTED"
LOGGED, USED = "logged", "used"


def _of(table: str) -> ForeignKey:
    return ForeignKey(f"{table}.id", ondelete="CASCADE")


class ArtifactCollection(Base):
    """The versions of one name in a project, all of one type: those that were logged to it, or only links to others' versions."""

    __tablename__ = "artifact_collection"
    __table_args__ = (UniqueConstraint("project_id", "name"), NEVER_AGAIN)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(_of("project"))
    name: Mapped[str] = mapped_column(NAME)
    type: Mapped[str] = mapped_column(NAME)
    has_links: Mapped[bool] = mapped_column(default=False)
    description: Mapped[str | None] = mapped_column(LongWords)
    tags: Mapped[str] = mapped_column(LongWords, default="[]")
    versions: Mapped[int] = mapped_column(default=0)  # how many numbers are given; one that was deleted is not given again
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    project: Mapped[Project] = relationship()

    @property
    def global_id(self) -> str:
        """The identifier that clients get."""
        return global_id("ArtifactCollection", str(self.id))


class Artifact(Base):
    """A version of a collection. It has no number until it is committed."""

    __tablename__ = "artifact"
    __table_args__ = NEVER_AGAIN

    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(_of("artifact_collection"), index=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id", ondelete="SET NULL"), index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    state: Mapped[str] = mapped_column(String(16), default=PENDING)
    version: Mapped[int | None]
    digest: Mapped[str] = mapped_column(Words(64))  # of the names and digests of its files, as the client computes it
    description: Mapped[str | None] = mapped_column(LongWords)
    facts: Mapped[str | None] = mapped_column("metadata", Text)  # JSON
    tags: Mapped[str] = mapped_column(LongWords, default="[]")
    aliases: Mapped[str] = mapped_column(LongWords, default="[]")  # that it gets when it is committed
    size: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    file_count: Mapped[int] = mapped_column(default=0)
    history_step: Mapped[int | None] = mapped_column(sa.BigInteger)
    ttl_seconds: Mapped[int | None] = mapped_column(sa.BigInteger)  # after which it is deleted
    distributed_id: Mapped[str | None] = mapped_column(NAME)  # by which several processes log parts of it
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    collection: Mapped[ArtifactCollection] = relationship()
    run: Mapped[Run | None] = relationship()

    @property
    def global_id(self) -> str:
        """The identifier that clients get."""
        return global_id("Artifact", str(self.id))


class ArtifactClientId(Base):
    """The identifier that a client made up for a version before this server knew of it."""

    __tablename__ = "artifact_client_id"

    client_id: Mapped[str] = mapped_column(NAME, primary_key=True)
    artifact_id: Mapped[int] = mapped_column(_of("artifact"), primary_key=True)


class ArtifactMember(Base):
    """A version as a member of a collection, its own or one that it is linked to."""

    __tablename__ = "artifact_member"
    __table_args__ = (UniqueConstraint("collection_id", "version"), UniqueConstraint("collection_id", "artifact_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(_of("artifact_collection"))
    artifact_id: Mapped[int] = mapped_column(_of("artifact"), index=True)
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
    collection: Mapped[ArtifactCollection] = relationship()
    artifact: Mapped[Artifact] = relationship()


class ArtifactAlias(Base):
    """A name for one member of a collection; `latest` is the one that was logged or linked last."""

    __tablename__ = "artifact_alias"
    __table_args__ = (UniqueConstraint("collection_id", "alias"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(_of("artifact_collection"))
    artifact_id: Mapped[int] = mapped_column(_of("artifact"), index=True)
    alias: Mapped[str] = mapped_column(NAME)
    collection: Mapped[ArtifactCollection] = relationship()


class ArtifactManifest(Base):
    """A list of files as a client sent it: all of them (FULL), those added to a base (INCREMENTAL), or a process's part (PATCH)."""

    __tablename__ = "artifact_manifest"
    __table_args__ = NEVER_AGAIN

    id: Mapped[int] = mapped_column(primary_key=True)
    artifact_id: Mapped[int] = mapped_column(_of("artifact"), index=True)
    base_id: Mapped[int | None] = mapped_column(ForeignKey("artifact.id", ondelete="SET NULL"))
    kind: Mapped[str] = mapped_column(String(16))
    md5: Mapped[str] = mapped_column(Words(32), default="")  # announced; the content must have it
    digest: Mapped[str] = mapped_column(Words(64), default="", info=CONTENT)  # SHA-256 of the content, once it is here
    size: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    artifact: Mapped[Artifact] = relationship(foreign_keys=artifact_id)
    name = "wandb_manifest.json"

    @property
    def global_id(self) -> str:
        """The identifier that clients get."""
        return global_id("ArtifactManifest", str(self.id))


class ArtifactFile(Base):
    """A file of a version: its content lies under its SHA-256 in the folder of files, or elsewhere where `ref` says."""

    __tablename__ = "artifact_file"
    __table_args__ = (UniqueConstraint("artifact_id", "name"), NEVER_AGAIN)

    id: Mapped[int] = mapped_column(primary_key=True)
    artifact_id: Mapped[int] = mapped_column(_of("artifact"))
    name: Mapped[str] = mapped_column(Words(1024))
    size: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    md5: Mapped[str] = mapped_column(Words(32), default="", index=True)
    digest: Mapped[str] = mapped_column(Words(64), default="", info=CONTENT)
    ref: Mapped[str | None] = mapped_column(LongWords)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    artifact: Mapped[Artifact] = relationship()

    @property
    def global_id(self) -> str:
        """The identifier that clients get."""
        return global_id("ArtifactFile", str(self.id))

    @property
    def storage_path(self) -> str | None:
        """Where clients are told that the content lies, as at W&B below `wandb_artifacts`; None of one that lies elsewhere."""
        return f"wandb_artifacts/{self.artifact_id}/{self.md5}" if self.ref is None else None


class RunArtifact(Base):
    """That a run logged or used (`use`) a version."""

    __tablename__ = "run_artifact"

    run_id: Mapped[int] = mapped_column(_of("run"), primary_key=True)
    artifact_id: Mapped[int] = mapped_column(_of("artifact"), primary_key=True, index=True)
    use: Mapped[str] = mapped_column(String(8), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
