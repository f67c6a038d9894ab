"""Which contents of files the tables name: what a backup takes along, and what is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from paretune.service.store import artifact_tables  # noqa: F401  (its tables name contents, too)
from paretune.service.store.tables import CONTENT, Base

PIECE = 1 << 20  # bytes read at once


def naming() -> list[sa.Column[str]]:
    """Return the columns that name contents: those of `info` CONTENT (paretune/service/store/tables.py)."""
    return [column for table in Base.metadata.sorted_tables for column in table.columns if column.info == CONTENT]


def named(connection: sa.Connection) -> Iterator[tuple[str, str, int | None]]:
    """Yield every content that a table names: its SHA-256, the table, and its size in bytes where the table has it.

    A content may come more than once.
    """
    for column in naming():
        size = column.table.columns.get("size", sa.null())
        for digest, bytes_of in connection.execute(sa.select(column, size).where(column != "")):
            yield digest, str(column.table), bytes_of


def kept(folder: Path) -> Iterator[Path]:
    """Yield every content in a folder of files."""
    yield from (path for path in (folder / "contents").glob("??/*") if path.is_file())


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            sha.update(piece)
    return sha.hexdigest()
