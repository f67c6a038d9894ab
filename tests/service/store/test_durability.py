"""What a client was told is stored survives a power cut: it is on the disk before the answer."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from paretune.service.store.database import Database
from paretune.service.store.tables import Run
from tests.service.operations.test_backup import CREATE
from tests.service.serving import Asked


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path / "service")


def test_an_upload_and_its_name_are_synced_before_the_answer(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.run()
    url = asked.ask(CREATE)["createRunFiles"]["files"][0]["uploadUrl"]
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            done.append("folder")
        elif path.parent.name == "incoming":
            assert path.read_bytes() == b"hello", "all of it has been written"
            done.append("content")
        sync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        done.append("named")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    assert asked.client.put(url, content=b"hello").status_code == 200
    assert done == ["content", "named", "folder", "folder"], "its folder is new as well"


def test_each_transaction_of_sqlite_is_synced(asked: Asked) -> None:
    with asked.database.session() as session:
        assert session.scalar(sa.text("PRAGMA synchronous")) == 2  # FULL: the log is synced at each commit


def test_rows_are_in_the_files_of_the_database_when_they_are_acknowledged(asked: Asked, tmp_path: Path) -> None:
    """What the files hold while the server lives is what a power cut leaves: nothing waits in the process."""
    asked.run()
    lines = [json.dumps({"_step": step, "loss": 1.0}) for step in range(20)]
    assert asked.stream("r1", files={"wandb-history.jsonl": {"offset": 0, "content": lines}}).status_code == 200
    (tmp_path / "after").mkdir()
    for file in (tmp_path / "service").glob("service.db*"):
        if not file.name.endswith("-shm"):  # which the first to open it makes anew
            shutil.copy(file, tmp_path / "after")
    found = Database(f"sqlite:///{tmp_path / 'after' / 'service.db'}")
    with found.session() as session:
        assert session.scalars(sa.select(Run)).one().history_lines == 20
    found.close()
