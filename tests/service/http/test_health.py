"""What /healthz and /ready say of a service whose disk is full or whose database cannot be written."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.service.http import health
from tests.service.serving import Asked


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setattr(health, "VALID_SECONDS", 0.0)
    return Asked(tmp_path)


@pytest.mark.parametrize("address", ["/healthz", "/ready"])
def test_a_service_that_can_write_is_well_and_leaves_nothing_behind(asked: Asked, address: str) -> None:
    response = asked.client.get(address)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert list((asked.files.folder / "incoming").iterdir()) == []


@pytest.mark.parametrize("address", ["/healthz", "/ready"])
def test_a_full_disk_is_told(asked: Asked, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("paretune.service.http.health.os.fsync", full)
    response = asked.client.get(address)
    assert response.status_code == 503
    assert response.json()["error"] == "the server's disk is full or cannot be written: make room there, then send this again."
    assert response.headers["retry-after"] == "5"
    assert list((asked.files.folder / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (sqlite3.SQLITE_READONLY, "the server's disk is full or cannot be written"),
        (sqlite3.SQLITE_FULL, "the server's disk is full or cannot be written"),
        (sqlite3.SQLITE_BUSY, "the database is busy"),
        (sqlite3.SQLITE_CORRUPT, "the disk or the database fails"),
    ],
)
def test_a_database_that_cannot_be_written_is_told(asked: Asked, code: int, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> None:
        error = sqlite3.OperationalError("it fails")
        error.sqlite_errorcode = code
        raise sa.exc.OperationalError("", {}, error)

    monkeypatch.setattr(asked.database, "session", failing)
    response = asked.client.get("/healthz")
    assert response.status_code == 503
    assert response.json()["error"].startswith(sentence)


def test_a_database_that_is_read_only_is_told(tmp_path: Path, asked: Asked) -> None:
    with asked.database.session(writing=True) as session:
        session.connection().exec_driver_sql("PRAGMA query_only = ON")
    assert asked.client.get("/healthz").status_code == 503


def test_a_database_that_is_damaged_is_told_without_its_paths(
    tmp_path: Path, asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    asked.database.close()
    for path in tmp_path.glob("service.db*"):
        path.write_bytes(b"SQLite format 3\0" + b"\xaa" * 8192 if path.suffix == ".db" else b"")
    response = asked.client.get("/healthz")
    assert response.status_code == 503
    assert response.json()["error"] == "the disk or the database fails: the server's log says how."
    assert "the disk or the database fails (" in caplog.text


def test_a_disk_that_fails_is_told_without_its_paths(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error", "/secret/place")

    monkeypatch.setattr("paretune.service.http.health.os.fsync", failing)
    assert "secret" not in asked.client.get("/healthz").json()["error"]


def test_a_database_that_does_not_answer_is_told_in_time(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WAIT_SECONDS", 0.05)
    with asked.database._writer:
        assert "has not answered for 0.05 s" in asked.client.get("/healthz").json()["error"]


def test_a_server_that_ends_is_not_ready(asked: Asked) -> None:
    asked.client.app.state.service.stopping.set()  # type: ignore[attr-defined]
    assert asked.client.get("/ready").status_code == 503
    assert asked.client.get("/healthz").status_code == 200


def test_whoever_asks_often_causes_one_examination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, examined = Asked(tmp_path), []
    monkeypatch.setattr(health.Health, "_examined", lambda _: examined.append(True) or "")
    for _ in range(10):
        assert asked.client.get("/healthz").status_code == 200
    assert len(examined) == 1
