"""Which contents of files the tables name: what a backup takes along, and what is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from service.database import Base

PIECE = 1 << 20  # bytes read at once


def named(connection: sa.Connection) -> Iterator[tuple[str, str, int | None]]:
    """Yield every content that a table names: its SHA-256, the table, and its size in bytes where the table has it.

    The columns are those of `info` CONTENT (service/database.py). A content may come more than once.
    """
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            if column.info.get("content"):
                size = table.columns.get("size", sa.null())
                for digest, bytes_of in connection.execute(sa.select(column, size).where(column != "")):
                    yield digest, table.name, bytes_of


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
