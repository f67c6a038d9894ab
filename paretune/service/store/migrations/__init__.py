"""The tables through time: opening a database brings it to the tables of this program.

Each file `versions/NNNN_what.py` is one step, a migration of alembic, and names the one before it. A change of the tables in
paretune/service/store/tables.py (or wherever else tables of `Base` are declared) goes with a new step:

    python -m paretune.service.store.migrations new "runs say who stopped them"

writes it from the difference between the steps and the tables; read it, for it sees neither renamed columns nor what the rows
must become. New columns of old tables need a `server_default` or must be nullable. On SQLite, what is more than a new table, column
or index goes into `with op.batch_alter_table(…)`. Two branches that both add a step: the later to be merged takes the next number
(file name, `revision`, `down_revision`). A test compares the steps with the tables, on SQLite and PostgreSQL.

alembic is imported only where there is a step to take: a database of this version is known by one SELECT, a new one gets the
tables as they are. Our version stands in `service_version`, as Optuna keeps its own `alembic_version` in the same PostgreSQL.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from paretune.core.errors import UsageError

FOLDER = Path(__file__).parent
VERSION_TABLE = "service_version"
FIRST = "0001"  # what databases were that say no version
LOCK = 0x7061726574756E65  # of PostgreSQL, for whoever changes the tables


def head() -> str:
    """Return the version of this program's tables."""
    return max(path.name[:4] for path in (FOLDER / "versions").glob("[0-9][0-9][0-9][0-9]_*.py"))


def version_of(connection: sa.Connection) -> str | None:
    """Return the version of a database's tables; None where it says none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))


def upgrade(engine: sa.Engine, metadata: sa.MetaData) -> None:
    """Bring a database to the tables of this program; several processes may do so at once, and one does it.

    Raises:
        UsageError: if a newer program has been at it.
    """
    with engine.connect() as connection:
        if version_of(connection) == head():
            return
    with _alone(engine) as connection:
        version = version_of(connection)
        if version == head():
            return
        if version is not None and version > head():
            raise UsageError(
                f"the database is of version {version}, and this program knows versions up to {head()}: "
                "update the program, or open another database."
            )
        if version is None and not sa.inspect(connection).has_table("entity"):
            metadata.create_all(connection)
            _stamp(connection, head())
            return
        if version is None:
            _stamp(connection, FIRST)
        print(
            f"the database is brought from version {version or FIRST} to {head()}: with many runs this takes minutes; let it end.",
            file=sys.stderr,
            flush=True,
        )
        _take_steps(connection)


@contextlib.contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that no other process that changes tables runs beside."""
    with engine.connect().execution_options(writing=True) as connection:
        if engine.dialect.name == "sqlite":
            # a table that is made anew takes the place of the old one, whose rows others point at
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute("PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    yield connection
            finally:
                raw.execute("PRAGMA foreign_keys = ON")
        else:
            with connection.begin():
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({LOCK})"))
                yield connection


def _stamp(connection: sa.Connection, version: str) -> None:
    connection.execute(
        sa.text(
            f"CREATE TABLE {VERSION_TABLE} "
            f"(version_num VARCHAR(32) NOT NULL, CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(sa.text(f"INSERT INTO {VERSION_TABLE} VALUES (:version)"), {"version": version})


def _take_steps(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
