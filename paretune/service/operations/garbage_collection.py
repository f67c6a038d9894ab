"""What is cleared away: artifacts whose lifetime is over or that were never committed, and contents that nothing names."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.service.artifacts import artifacts
from paretune.service.store import blob_index
from paretune.service.store.artifact_tables import PENDING, Artifact
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.store.tables import now

FIRST, EVERY = 300.0, 3600.0  # seconds after the start, and from then on
UNCOMMITTED = timedelta(days=7)  # after which a client is not waited for any more


class Cleaning:
    """Clears away some time after the start, then once in EVERY seconds."""

    def __init__(self, database: Database, files: Files) -> None:
        self.database, self.files = database, files
        self._next = time.monotonic() + FIRST

    def due(self) -> int:
        """Clear away if it is time to, and return how many artifacts and contents went."""
        if time.monotonic() < self._next:
            return 0
        self._next = time.monotonic() + EVERY
        return clean(self.database, self.files)


def clean(database: Database, files: Files) -> int:
    """Delete artifacts that are over and contents that nothing names; return how many."""
    with database.session(writing=True) as session:
        deleted = delete_expired(session)

    def named(digests: Sequence[str]) -> set[str]:
        with database.session() as session:
            return named_of(session, digests)

    return deleted + files.sweep(named)


def delete_expired(session: Session) -> int:
    """Delete the versions whose lifetime is over, and those that no client committed; return how many."""
    mortal = session.scalars(sa.select(Artifact).where(Artifact.ttl_seconds.is_not(None)))
    over = {one for one in mortal if one.created_at + timedelta(seconds=one.ttl_seconds or 0) < now()}
    over |= set(session.scalars(sa.select(Artifact).where(Artifact.state == PENDING, Artifact.updated_at < now() - UNCOMMITTED)))
    for artifact in over:
        artifacts.delete(session, artifact, with_aliases=True)
    return len(over)


def named_of(session: Session, digests: Sequence[str]) -> set[str]:
    """Return those of some SHA-256 that a row names."""
    return {
        digest
        for part in artifacts.parts(digests)
        for column in blob_index.naming()
        for digest in session.scalars(sa.select(column).where(column.in_(part)))
    }
