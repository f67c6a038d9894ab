"""Which contents the tables name, and which lie in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import sqlalchemy as sa

from paretune.service.store import blob_index
from paretune.service.store.tables import Run, RunFile, Segment
from tests.service.serving import Asked


def test_every_content_of_runs_and_segments_is_named_with_its_table_and_size(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    asked.run()
    with asked.database.session(writing=True) as session:
        run = session.scalars(sa.select(Run)).one()
        session.add(RunFile(run_id=run.id, name="a.txt", digest="f" * 64, size=7, md5=""))
        session.add(RunFile(run_id=run.id, name="empty", digest="", size=0, md5=""))
        covered = {"first": 0, "count": 1, "first_step": 0, "last_step": 0}
        session.add(Segment(run_id=run.id, number=0, **covered, digest="e" * 64, size=9, plain=True))
    with asked.database.session() as session:
        found = {(digest, size) for digest, _, size in blob_index.named(session.connection())}
    assert found == {("f" * 64, 7), ("e" * 64, 9)}
    tables = {column.table.name for column in blob_index.naming()}
    assert {RunFile.__tablename__, Segment.__tablename__} < tables, "those of artifacts as well"


def test_contents_are_files_two_folders_deep(tmp_path: Path) -> None:
    for place in ("contents/ab/abc", "contents/ab/abd", "contents/stray", "contents/abc/x", "incoming/ab/x"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "contents/cd/folder").mkdir(parents=True)
    assert sorted(path.name for path in blob_index.kept(tmp_path)) == ["abc", "abd"]


def test_a_digest_is_the_sha_256_of_a_file_of_any_size(tmp_path: Path) -> None:
    for size in (0, 1, blob_index.PIECE, blob_index.PIECE + 1):
        path = tmp_path / str(size)
        path.write_bytes(b"x" * size)
        assert blob_index.digest_of(path) == hashlib.sha256(b"x" * size).hexdigest()
