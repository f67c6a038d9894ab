"""A service saved while it runs, and made anew from what was saved.

A backup is a tar or a folder: the database and the studies, each as it was at one moment, and the contents of files that the
database names then, which never change. The service's database is saved before the studies: a study that knows more than it is what
a restart finds, too. PostgreSQL is saved by its own pg_dump, in the transaction in which the contents are listed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from paretune.core.errors import UsageError, excerpt, first_line, how_it_ended
from paretune.service.store import blob_index, migrations
from paretune.service.store.database import Database, driven
from paretune.service.store.files import Files
from paretune.service.store.tables import now

SERVICE, STUDIES, DUMP, SAID = "service.db", "studies.db", "database.dump", "backup.json"
CONTENT = re.compile(r"contents/([0-9a-f]{2})/(\1[0-9a-f]{62})")


def back_up(database: Database, files: Files, target: Path) -> str:
    """Save a service, also while it runs, and return a sentence that says what was saved.

    Args:
        files: of the service, in its folder.
        target: a path that ends in .tar, or a folder; there must be nothing yet.

    Raises:
        UsageError: if there is something, if it cannot be written, or if PostgreSQL cannot be saved.
    """
    if target.exists():
        raise UsageError(f"{target} is there already: name a file or folder that is not.")
    data = files.folder.parent
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as place:
            folder = Path(place)
            wanted = _saved_postgresql(database, folder) if not database.is_sqlite else _saved_sqlite(data, folder)
            size = lost = 0
            with _tar(partial) if target.suffix == ".tar" else _folder(partial) as keep:
                for name, path in [*((path.name, path) for path in folder.iterdir()), *_places(files, wanted)]:
                    try:
                        keep(path, name)
                        size += path.stat().st_size
                    except FileNotFoundError:  # lost before, or deleted since the database was saved
                        lost += 1
                made = now().isoformat(timespec="seconds")
                said = {"made": made, "version": migrations.head(), "contents": len(wanted) - lost}
                (folder / SAID).write_text(json.dumps(said))
                keep(folder / SAID, SAID)
            os.replace(partial, target)
    except OSError as error:
        _remove(partial)
        raise UsageError(f"{target} cannot be written ({error.strerror}): choose another place.") from None
    except BaseException:
        _remove(partial)
        raise
    missing = f"; {lost:,} contents are missing: see python -m paretune.service doctor" if lost else ""
    return f"saved the database and {len(wanted) - lost:,} contents, {size:,} bytes, in {target}{missing}"


def restore(source: Path, data: Path, url: str | None) -> str:
    """Make a service anew from a backup, and return a sentence that says what there is.

    Args:
        data: its folder, which must hold none yet.
        url: of an empty PostgreSQL, for a backup of one.

    Raises:
        UsageError: if the folder holds a service, or the backup is none, is damaged, or is of a newer program.
    """
    if any((data / name).exists() for name in (SERVICE, STUDIES, "files")):
        raise UsageError(f"{data} holds a service already: name a new folder with --data.")
    if not source.exists():
        raise UsageError(f"{source} cannot be restored: it is not there.")
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data, prefix=".restore-") as place:
            folder = Path(place)
            _read(source, folder)
            said = _checked(source, folder)
            if (folder / DUMP).exists():
                _restore_postgresql(folder / DUMP, url)
            elif url is not None:
                raise UsageError(f"{source} is a backup of SQLite: leave --database out.")
            (folder / "files").mkdir()
            if (folder / "contents").exists():
                os.replace(folder / "contents", folder / "files" / "contents")
            for name in ("files", STUDIES, SERVICE):
                if (folder / name).exists():
                    os.replace(folder / name, data / name)
    except UsageError:
        raise
    except (OSError, ValueError) as error:  # a name or a text in it that nothing can be
        raise UsageError(f"{source} cannot be restored to {data} ({getattr(error, 'strerror', None) or error}).") from None
    Database(url or f"sqlite:///{(data / SERVICE).resolve()}").close()  # brings an older one to the tables of this program
    return f"restored the service of {said['made']} with {said['contents']:,} contents to {data}"


def _saved_sqlite(data: Path, folder: Path) -> set[str]:
    """Save both databases, and return the contents that the first names."""
    for name in (SERVICE, STUDIES):
        if (data / name).exists():
            with (
                contextlib.closing(sqlite3.connect(data / name)) as live,
                contextlib.closing(sqlite3.connect(folder / name)) as copy,
            ):
                live.backup(copy)  # in one step: the state of one moment, and nobody waits
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, without one of what was written ahead
    engine = sa.create_engine(f"sqlite:///{folder / SERVICE}")
    with engine.connect() as connection:
        wanted = {digest for digest, _, _ in blob_index.named(connection)}
    engine.dispose()
    return wanted


def _saved_postgresql(database: Database, folder: Path) -> set[str]:
    """Save a PostgreSQL by pg_dump, and return the contents that it names at that moment."""
    with database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        moment = str(connection.scalar(sa.text("SELECT pg_export_snapshot()")))
        _call_postgresql(
            "pg_dump", database.engine.url, f"--snapshot={moment}", "--format=custom", "--no-owner", f"--file={folder / DUMP}"
        )
        return {digest for digest, _, _ in blob_index.named(connection)}


def _restore_postgresql(dump: Path, url: str | None) -> None:
    if url is None:
        raise UsageError("this is a backup of PostgreSQL: name an empty database with --database.")
    engine = sa.create_engine(driven(url))
    try:
        tables = sa.inspect(engine).get_table_names()
    except sa.exc.SQLAlchemyError as error:
        reason = first_line(getattr(error, "orig", None) or error)
        raise UsageError(f"--database cannot be opened ({reason}).") from None
    finally:
        engine.dispose()
    if tables:
        raise UsageError(f"--database holds tables already ({tables[0]}, …): name an empty database.")
    _call_postgresql("pg_restore", engine.url, "--no-owner", "--exit-on-error", str(dump))


def _call_postgresql(program: str, url: sa.URL, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on a database; the password goes by the environment, where no other user sees it."""
    found = shutil.which(program)
    if found is None:
        raise UsageError(f"{program} is not here, which saves and restores PostgreSQL: install PostgreSQL's client programs.")
    address = url.set(drivername="postgresql", password=None).render_as_string()
    password = {"PGPASSWORD": str(url.password)} if url.password else {}
    done = subprocess.run(
        [found, f"--dbname={address}", *arguments], capture_output=True, text=True, env={**os.environ, **password}
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [how_it_ended(done.returncode)]
        raise UsageError(f"{program} failed ({excerpt(said[0])}).")


# The databases hold what all users logged: a backup is for nobody else to read.


@contextlib.contextmanager
def _tar(target: Path) -> Iterator[Callable[[Path, str], object]]:
    with (
        open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        yield lambda path, name: tar.add(path, name, recursive=False)


@contextlib.contextmanager
def _folder(target: Path) -> Iterator[Callable[[Path, str], object]]:
    def keep(path: Path, name: str) -> None:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)

    target.mkdir(mode=0o700)
    yield keep


def _read(source: Path, folder: Path) -> None:
    """Bring a backup's files into a folder; a name that no backup has is refused."""
    try:
        for name, file in _files_of(source):
            content = CONTENT.fullmatch(name)
            if content is None and name not in (SERVICE, STUDIES, DUMP, SAID):
                raise UsageError(f"{source} is no backup of a service: {name!r} is in none.")
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(place, "wb") as copy:
                shutil.copyfileobj(file, copy)
            if content is not None and blob_index.digest_of(place) != content[2]:
                raise UsageError(f"{source} is damaged: {name} is not what was saved.")
    except tarfile.TarError as error:
        raise UsageError(f"{source} is no backup of a service, or was cut short ({error}).") from None


def _files_of(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield what a folder or a tar holds, by name; what is no plain file is passed over."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                with open(path, "rb") as file:
                    yield path.relative_to(source).as_posix(), file
        return
    with tarfile.open(source, "r:") as tar:
        for member in tar:
            held = tar.extractfile(member) if member.isreg() else None
            if held is not None:
                yield member.name, held


def _checked(source: Path, folder: Path) -> dict[str, Any]:
    """Return what a backup says of itself, once it has all of that."""
    if not (folder / SAID).exists():
        raise UsageError(f"{source} is no backup of a service: it has no {SAID}, or was cut short.")
    try:
        said = json.loads((folder / SAID).read_text(encoding="utf-8"))
        version, contents, _ = str(said["version"]), int(said["contents"]), str(said["made"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{source} is no backup of a service, or is damaged: its {SAID} cannot be read.") from None
    if version > migrations.head():
        raise UsageError(f"{source} is of a newer program (version {version:.40}): update this one.")
    there = sum(1 for _ in blob_index.kept(folder))
    if there != contents or not any((folder / name).exists() for name in (SERVICE, DUMP)):
        raise UsageError(f"{source} is damaged: it says that it has a database and {contents} contents, and has {there}.")
    for name in (SERVICE, STUDIES):
        verdict = _verdict(folder / name, migrations.VERSION_TABLE if name == SERVICE else "studies")
        if verdict != "ok":
            raise UsageError(f"{source} is damaged: its {name} says {verdict!r:.200}.")
    return said


def _verdict(path: Path, table: str) -> str:
    """Return what SQLite says of a database that must have a table; `ok` where there is none."""
    if not path.exists():
        return "ok"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            verdict = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
            has_table = bool(connection.execute(f"PRAGMA table_info({table})").fetchall())
            return verdict if verdict != "ok" or has_table else f"it has no table {table}"
        except sqlite3.DatabaseError as error:
            return str(error)


def _places(files: Files, wanted: set[str]) -> Iterator[tuple[str, Path]]:
    yield from ((f"contents/{digest[:2]}/{digest}", files.path(digest)) for digest in sorted(wanted))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
