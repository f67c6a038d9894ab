"""The database of the service, open: SQLite (writing ahead) by default, PostgreSQL by URL; read and written in transactions."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from paretune.core.errors import UsageError, first_line
from paretune.service.http.storage_failures import is_double
from paretune.service.store import artifact_tables, migrations, re2  # noqa: F401
from paretune.service.store.files import Files
from paretune.service.store.tables import Base, Row

Result = TypeVar("Result")
WAIT_SECONDS = 30  # for another's transaction to end
RETRIES = 3
LOCKS = 1_347_702_130  # tells this server's advisory locks from those of others in the same database


class Database:
    """A database that is open.

    Args:
        url: of SQLAlchemy: `sqlite:////folder/service.db`, or `postgresql+psycopg://…`.

    Raises:
        UsageError: if it cannot be opened, or a newer program has been at it.
    """

    def __init__(self, url: str) -> None:
        try:
            shown = sa.make_url(url).render_as_string(hide_password=True)
        except sa.exc.ArgumentError:
            raise UsageError(f"--database must be a URL such as postgresql://user@host/name. Got {url!r}.") from None
        url = driven(url)
        self.is_sqlite = url.startswith("sqlite")
        settings: dict[str, Any] = {"connect_args": {"timeout": WAIT_SECONDS}} if self.is_sqlite else {"pool_size": 16}
        try:
            self.engine = sa.create_engine(url, pool_pre_ping=not self.is_sqlite, **settings)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise UsageError(f"the database {shown} cannot be opened ({first_line(error)}).") from None
        if self.is_sqlite:
            event.listen(self.engine, "connect", _as_a_server)
            event.listen(self.engine, "begin", _begin)
        self._writer = threading.Lock()
        # not of the pool: who waits for a lock must not hold the connection that its owner needs
        self._locking = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        try:
            migrations.upgrade(self.engine, Base.metadata)
        except UsageError:
            self.close()
            raise
        except sa.exc.SQLAlchemyError as error:
            self.close()
            reason = first_line(getattr(error, "orig", None) or error)
            raise UsageError(f"the database {shown} cannot be opened ({reason}): check --database and its rights.") from None

    @contextlib.contextmanager
    def session(self, *, writing: bool = False) -> Iterator[Session]:
        """A transaction; one that writes is committed at its end, and waits for the others to end before it reads."""
        # SQLite has one writer, and who waits for it looks again ever more rarely; of one process, they queue here instead
        with self._writer if writing and self.is_sqlite else contextlib.nullcontext(), self._sessions() as session:
            session.connection(execution_options={"writing": writing})
            yield session
            if writing:
                session.commit()

    def keep_contents_in(self, files: Files) -> None:
        """Say where the contents lie that the tables name; every session has them as `info["files"]`."""
        self._sessions.configure(info={"files": files})

    @contextlib.contextmanager
    def alone(self, number: int) -> Iterator[None]:
        """Be the only process of this server that is inside with this number; on SQLite there is only one."""
        if self.is_sqlite:
            yield
            return
        with self._locking.connect() as connection:  # whose end, even by a crash, frees the lock
            connection.execute(sa.select(sa.func.pg_advisory_lock(LOCKS, number)))
            yield

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()


def retried(work: Callable[[], Result]) -> Result:
    """Return the result of a transaction, tried again where another one has inserted the same row at the same moment.

    Raises:
        sa.exc.IntegrityError: if that happens again and again.
    """
    for _ in range(RETRIES):
        try:
            return work()
        except sa.exc.IntegrityError as error:
            if not is_double(error):
                raise
    return work()


def made_once(session: Session, find: Callable[[], Row | None], make: Callable[[], Row]) -> Row:
    """Return a row that is there, or make it; where another transaction makes it at the same moment, that one's."""
    found = find()
    if found is None:
        with contextlib.suppress(sa.exc.IntegrityError), session.begin_nested():
            session.add(make())
        found = find()
    assert found is not None
    return found


def driven(url: str) -> str:
    """Return a URL with the driver of PostgreSQL that comes with the requirements."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def _as_a_server(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins the transactions
    connection.create_function("regexp", 2, re2.found_by, deterministic=True)  # Python's own can take for ever
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: sa.Connection) -> None:
    # a transaction that reads and then writes would fail at once where another has written meanwhile
    how = "BEGIN IMMEDIATE" if connection.get_execution_options().get("writing") else "BEGIN"
    connection.exec_driver_sql(how)
