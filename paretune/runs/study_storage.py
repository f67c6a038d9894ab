"""Where a study is kept: SQLite in its folder by default; PostgreSQL, or Optuna's journal file, by URL.

SQLite writes ahead and does not wait for the disk at every commit: twice as fast as its default, and a process that is killed
loses nothing. It and the journal serve one machine; PostgreSQL any number (docs/decisions.md has the figures).
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.core.errors import UsageError, first_line
from paretune.core.host_process import is_ours

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

JOURNAL = "journal://"
FULL = 100_000  # bytes, with which SQLite cannot go on
PATIENCE = 120  # seconds that a writer waits for the others
AWAY_PAUSE = 0.5  # seconds between two tries to reach a database server that is away
OPENING_PAUSES = (0.1, 0.3, 1.0, 3.0)  # seconds


def is_local(url: str) -> bool:
    """Whether only processes of this machine can use a storage."""
    return url.startswith(("sqlite:", JOURNAL))


def shown(url: str) -> str:
    """Return a storage URL without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if url.startswith(JOURNAL):
        return url
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def open_storage(url: str, *, writing: bool = True, waits: bool = True) -> BaseStorage:
    """Open `sqlite:///PATH`, `journal:///PATH`, `postgresql://…` or any other URL of SQLAlchemy's.

    Args:
        waits: whether a writer waits while a database server that was there restarts; otherwise it fails at once.

    Raises:
        UsageError: if a file that is only to be read is not there; to open it would make an empty one.
    """
    file = url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else url.removeprefix(JOURNAL)
    if not writing and file != url and "?" not in file and not Path(file).is_file():
        raise UsageError(f"{file} is not there: give a study's folder (runs/NAME), its study.db, or a storage URL with #NAME.")

    if url.startswith(JOURNAL):
        from optuna.storages.journal import JournalFileBackend, JournalStorage

        return JournalStorage(JournalFileBackend(url.removeprefix(JOURNAL)))
    from optuna.storages import RDBStorage

    sqlite = url.startswith("sqlite:")
    engine: dict[str, Any] = {"connect_args": {"timeout": PATIENCE}} if sqlite else {"pool_pre_ping": True}
    if writing:
        _make_tables(url, engine)
    storage = RDBStorage(url, engine_kwargs=engine)
    if not writing:
        return storage
    from sqlalchemy import event

    if not sqlite:
        if waits:
            event.listen(storage.engine, "do_connect", _connected)
        return storage

    def write_ahead(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(storage.engine, "connect", write_ahead)
    storage.engine.dispose()  # the connections that opened it were made without
    return storage


def _connected(dialect: Any, _: Any, arguments: Any, parameters: Any) -> Any:
    """Connect to a database that was there before; while its server restarts, wait up to PATIENCE seconds.

    The engine asks each connection before it is used whether it still lives, so that a worker meets a restart here.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return dialect.connect(*arguments, **parameters)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(AWAY_PAUSE)


def _make_tables(url: str, engine: dict[str, Any]) -> None:
    """Make the tables of a new database, as another process may be doing at this moment: then one of the two is refused."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
    from sqlalchemy.pool import NullPool  # the connections of what was refused would stay open otherwise

    for pause in OPENING_PAUSES:
        try:
            RDBStorage(url, engine_kwargs={**engine, "poolclass": NullPool})
            return
        except (IntegrityError, ProgrammingError, OperationalError) as error:
            if not any(words in str(error) for words in ("already exists", "UNIQUE constraint")):
                raise
            time.sleep(pause)


def settle(study: optuna.Study) -> None:
    """Close the connections of a study, which can still be used and opens others then.

    The last process leaves an ordinary SQLite file: a copy of it alone is whole, and it can be read where nobody may write.
    """
    engine = _engine(study._storage)
    if engine is not None and engine.dialect.name == "sqlite":
        with contextlib.suppress(Exception), engine.connect() as connection:  # another process may be at it
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    close(study._storage)


def close(storage: BaseStorage) -> None:
    """Close the connections of a storage."""
    engine = _engine(storage)
    if engine is not None:
        engine.dispose()


class StudyFile:
    """The file of a local study, watched: after its removal SQLite would go on in a file that no name leads to.

    Args:
        url: of a storage that is open; there is nothing to watch of one on a server.
    """

    def __init__(self, url: str) -> None:
        self.path = Path(url.removeprefix("sqlite:///").removeprefix(JOURNAL).partition("?")[0]) if is_local(url) else None
        self._identity = self._now()

    def _now(self) -> tuple[int, int] | None:
        try:
            found = None if self.path is None else self.path.stat()
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)

    @property
    def lost(self) -> bool:
        """Whether the file was removed, or another one has its name."""
        return self._identity is not None and self._now() != self._identity

    def check(self) -> None:
        """Refuse to go on without the file.

        Raises:
            UsageError: that says what is left.
        """
        if self.lost:
            assert self.path is not None
            raise UsageError(
                f"{self.path} must stay where it is while its sweep runs. It was removed or replaced, and its trials are lost; "
                f"their run files stay in {self.path.parent / 'wandb'}: restore the file, or run the same command for a new study."
            )


def _engine(storage: BaseStorage) -> Any:
    return getattr(getattr(storage, "_backend", storage), "engine", None)


@contextlib.contextmanager
def readable_errors(url: str, *, writing: bool = True) -> Iterator[None]:
    """Turn the errors of a storage into one sentence.

    Raises:
        UsageError: that says what failed and that finished trials are kept.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ is not None else error
        reason = first_line(getattr(cause, "orig", None) or cause)
        if url.startswith("sqlite:") and _is_full(Path(url.removeprefix("sqlite:///")).parent):
            reason = f"the disk is full: {reason}"  # SQLite may say no more than that its file failed
        if not writing:
            known = "give a study's folder (runs/NAME), its study.db, or a storage URL"
            raise UsageError(f"{shown(url).removeprefix('sqlite:///')} cannot be read as a study ({reason}): {known}.") from None
        raise UsageError(
            f"the study {shown(url).removeprefix('sqlite:///')} cannot be read or written ({reason}); finished trials stay in it: "
            "mend the cause (space, rights, address) and run the same command again."
        ) from None


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < FULL
    except OSError:
        return False


def database(source: str | Path, name: str | None = None) -> tuple[str, str | None]:
    """Return the storage URL and the study's name behind what a person points at.

    `source` is a study's folder (runs/NAME), its study.db, or a storage URL, with `#NAME` where it holds several studies.

    Raises:
        UsageError: if there is no study.
    """
    text = str(source)
    if "://" in text:
        url, _, after = text.partition("#")
        return url, after or name
    path = Path(source)
    file = path / "study.db" if path.is_dir() else path
    if file.suffix != ".db" or not file.is_file():
        raise UsageError(f"{source} holds no study: give its folder (runs/NAME), its study.db, or a storage URL with #NAME.")
    return f"sqlite:///{file}", name


def quiet_optuna() -> None:
    """Let Optuna tell warnings alone, in a process that is a command's."""
    import optuna

    if is_ours():
        optuna.logging.set_verbosity(optuna.logging.WARNING)
