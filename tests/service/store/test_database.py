"""The database: one writer at a time, a commit at the end and none after an error, and sentences where it cannot be opened."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.core.errors import UsageError
from paretune.service.store.database import Database, driven, made_once
from paretune.service.store.tables import Entity
from tests.service.serving import Asked


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path / 'own.db'}")


def names(database: Database) -> list[str]:
    with database.session() as session:
        return list(session.scalars(sa.select(Entity.name).order_by(Entity.name)))


def test_a_transaction_that_writes_is_kept_and_one_that_reads_or_fails_is_not(database: Database) -> None:
    with database.session(writing=True) as session:
        session.add(Entity(name="kept"))
    with database.session() as session:
        session.add(Entity(name="of a reader"))
        session.flush()
    with pytest.raises(sa.exc.IntegrityError), database.session(writing=True) as session:
        session.add_all([Entity(name="of a failure"), Entity(name="kept")])
    assert names(database) == ["kept"]


def test_who_writes_waits_for_the_writer_before_and_reads_what_it_wrote(database: Database) -> None:
    seen: list[int] = []

    def count_and_add(number: int) -> None:
        with database.session(writing=True) as session:
            seen.append(session.scalar(sa.select(sa.func.count(Entity.id))) or 0)
            session.add(Entity(name=str(number)))

    threads = [threading.Thread(target=count_and_add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(8))


def test_a_row_is_made_once_also_where_another_makes_it_at_the_same_moment(database: Database) -> None:
    def find(session: Any) -> Entity | None:
        return session.scalar(sa.select(Entity).where(Entity.name == "a"))

    with database.session(writing=True) as session:
        first = made_once(session, lambda: find(session), lambda: Entity(name="a"))
        again = made_once(session, lambda: find(session), lambda: pytest.fail("it is there"))
        assert again is first
        answers = [None, first]  # as if it came between the look and the making
        assert made_once(session, lambda: answers.pop(0), lambda: Entity(name="a")) is first
    assert names(database) == ["a"]


def test_postgresql_has_the_driver_of_the_requirements() -> None:
    assert driven("postgresql://u@h/postgresql://x") == "postgresql+psycopg://u@h/postgresql://x"
    assert driven("postgresql+psycopg://u@h/d") == "postgresql+psycopg://u@h/d"
    assert driven("sqlite:///x.db") == "sqlite:///x.db"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "--database must be a URL such as postgresql://user@host/name. Got 'nonsense'."),
        ("nodatabase://user:secret@host/name", r"the database nodatabase://user:\*\*\*@host/name cannot be opened"),
        (
            "sqlite:////nonexistent/folder/own.db",
            r"cannot be opened \(unable to open database file\): check --database",
        ),
    ],
)
def test_a_database_that_cannot_be_opened_is_one_sentence_without_its_password(url: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Database(url)


def test_sqlite_is_set_up_as_a_server_needs_it(database: Database) -> None:
    with database.session() as session:
        settings = [session.scalar(sa.text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")]
        assert settings == ["wal", 2, 1]
        assert session.scalar(sa.text("SELECT 'abc' REGEXP '^a.c$'")) == 1


def test_a_database_knows_where_its_contents_lie(asked: Asked, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path / 'service.db'}")
    other.keep_contents_in(asked.files)
    with other.session() as session:
        assert session.info["files"] is asked.files
    other.close()
