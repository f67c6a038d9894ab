"""Whether all that a service keeps is there and whole: one finding a check, with what to do where something is wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from paretune.core.errors import UsageError, first_line
from paretune.service.operations import backup
from paretune.service.store import blob_index, migrations, runs, segments
from paretune.service.store.database import driven
from paretune.service.store.files import Files
from paretune.service.store.tables import Chunk, Run, Segment, now

LEAST_FREE = 2**30  # bytes
AHEAD = timedelta(minutes=1)  # that a moment in the database may be later than the clock
RESTORE = "restore a backup (python -m paretune.service restore)"
COPY = "copy them from contents/ of a backup to files/contents/ here"


@dataclass(frozen=True)
class Finding:
    """What a check found: `advice` says what to do where something is wrong, and is empty where all is well."""

    check: str
    found: str
    advice: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.advice

    def __str__(self) -> str:
        return f"{'ok' if self.is_well else 'wrong':6} {self.check}: {self.found}" + (f": {self.advice}" if self.advice else "")


@dataclass
class Examined:
    """The service that is looked at."""

    data: Path
    connection: sa.Connection
    is_sqlite: bool
    full: bool
    files: Files


def findings(files: Files, url: str | None, *, full: bool = False) -> Iterator[Finding]:
    """Look at a service, which may be running, and yield what is found.

    Args:
        files: of the service, in its folder.
        url: of its PostgreSQL; None for the SQLite in the folder.
        full: also read every content.

    Raises:
        UsageError: if the database cannot be opened at all.
    """
    data = files.folder.parent
    if url is None:
        yield from (_folder(data), _free(data))
    engine = sa.create_engine(driven(url or f"sqlite:///{(data / backup.SERVICE).resolve()}"))
    try:
        with engine.connect() as connection:
            if url is not None:  # what is said of the folder is of no use where the database is away
                yield from (_folder(data), _free(data))
            examined = Examined(data, connection, url is None, full, files)
            for check in (_database, _studies, _version):
                finding = _sound(check, examined)
                yield finding
                if not finding.is_well and check is not _studies:
                    yield Finding("the rest", "was not looked at", "mend this first")
                    return
            for check in (_contents, _segments, _silent, _orphans, _clock):
                yield _sound(check, examined)
    except sa.exc.SQLAlchemyError as error:
        reason = first_line(getattr(error, "orig", None) or error)
        advice = "restore a backup" if url is None else "see that it runs, and check --database"
        raise UsageError(f"the database cannot be opened ({reason}): {advice}.") from None
    finally:
        engine.dispose()


def _sound(check: Callable[[Examined], Finding], examined: Examined) -> Finding:
    try:
        return check(examined)
    except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
        reason = first_line(getattr(error, "orig", None) or error)
        return Finding(check.__name__.strip("_"), reason, RESTORE)


def _folder(data: Path) -> Finding:
    places = [data, data / "files", *(path for path in data.glob("*.db"))]
    closed = [path for path in places if not os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))]
    if closed:
        return Finding("folder", f"{closed[0]} cannot be read and written", "give its rights to the user that runs the server")
    return Finding("folder", f"{data} can be read and written")


def _free(data: Path) -> Finding:
    free = shutil.disk_usage(data).free
    advice = (
        ""
        if free >= LEAST_FREE
        else f"make room, or move {data}: below {LEAST_FREE / 2**30:.0f} GiB the server may stop taking data"
    )
    return Finding("free space", f"{free / 2**30:.1f} GiB", advice)


def _database(examined: Examined) -> Finding:
    if not examined.is_sqlite:
        version = str(examined.connection.scalar(sa.text("SHOW server_version"))).split()[0]
        return Finding("database", f"PostgreSQL {version} answers")
    return _sqlite("database", examined.data / backup.SERVICE)


def _studies(examined: Examined) -> Finding:
    path = examined.data / backup.STUDIES
    return _sqlite("studies", path) if path.exists() else Finding("studies", "there are none yet")


def _sqlite(check: str, path: Path) -> Finding:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            faults = [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            faults += [f"a row of {row[0]} names none of {row[2]}" for row in connection.execute("PRAGMA foreign_key_check")]
        except sqlite3.DatabaseError as error:
            faults = [str(error)]
    if faults:
        return Finding(check, f"{path.name} is damaged ({faults[0]:.200})", RESTORE)
    return Finding(check, f"{path.name} is whole, {path.stat().st_size / 2**20:.1f} MiB")


def _version(examined: Examined) -> Finding:
    version, head = migrations.version_of(examined.connection) or "none", migrations.head()
    advice = "" if version == head else "update the program" if version > head and version != "none" else "start the server once"
    return Finding("version", version if not advice else f"{version}, and this program's is {head}", advice)


def _contents(examined: Examined) -> Finding:
    wanted = {digest: (table, size) for digest, table, size in blob_index.named(examined.connection)}
    faults = []
    for digest, (table, size) in wanted.items():
        path = examined.files.path(digest)
        if not path.is_file():
            faults.append(f"{digest} of {table} is missing")
        elif size is not None and path.stat().st_size != size:
            faults.append(f"{digest} of {table} has {path.stat().st_size:,} bytes, not {size:,}")
        elif examined.full and blob_index.digest_of(path) != digest:
            faults.append(f"{digest} of {table} is not what was kept")
    if faults:
        return Finding("contents", f"{len(faults):,} of {len(wanted):,} are wrong, first {faults[0]}", COPY)
    return Finding("contents", f"{len(wanted):,} are there, {'and what was kept' if examined.full else 'of the right size'}")


def _segments(examined: Examined) -> Finding:
    import pyarrow.parquet as pq

    query = sa.select(Segment.run_id, Segment.first, Segment.count, Segment.digest).order_by(Segment.run_id, Segment.number)
    ends: dict[int, int] = {}
    faults, count = [], 0
    for run, first, lines, digest in examined.connection.execute(query):
        count += 1
        if ends.get(run, 0) != first:
            faults.append(f"lines {ends.get(run, 0)} to {first} of the run {run} are missing")
        ends[run] = first + lines
        try:
            with segments.reading(digest):
                path = examined.files.path(digest)
                rows = segments.read(examined.files, digest).num_rows if examined.full else pq.read_metadata(path).num_rows
        except segments.LostError:
            faults.append(f"{digest} cannot be read")
        else:
            if rows != lines:
                faults.append(f"{digest} has {rows:,} rows, not {lines:,}")
    compacted = examined.connection.execute(sa.select(Run.id, Run.compacted).where(Run.compacted > 0))
    faults += [
        f"the run {run} has {ends.get(run, 0):,} lines in segments, not {lines:,}"
        for run, lines in compacted
        if ends.get(run, 0) != lines
    ]
    if examined.full:
        for number, run, lines, content in examined.connection.execute(
            sa.select(Chunk.id, Chunk.run_id, Chunk.count, Chunk.content).execution_options(yield_per=100)
        ):
            if _lines_in(content) != lines:
                faults.append(f"the chunk {number} of the run {run} is damaged")
    if faults:
        return Finding("histories", f"{len(faults):,} faults in {count:,} files, first {faults[0]}", COPY)
    return Finding("histories", f"{count:,} files can be read")


def _lines_in(content: bytes) -> int:
    """Return how many lines a chunk holds; 0 where it is damaged."""
    try:
        return zlib.decompress(content).decode().count("\n") + 1
    except (zlib.error, ValueError):
        return 0


def _silent(examined: Examined) -> Finding:
    silent = sa.select(sa.func.count()).where(Run.state.in_(("running", "preempting")), Run.heartbeat_at < now() - 2 * runs.SILENCE)
    count = examined.connection.scalar(silent) or 0
    if count:
        return Finding(
            "heartbeats",
            f"{count:,} runs are running and silent",
            "start the server, which marks them as crashed after five minutes",
        )
    return Finding("heartbeats", "no run is running and silent")


def _orphans(examined: Examined) -> Finding:
    # files first, then names: what is named meanwhile is not taken for an orphan
    there = {path.name: path.stat().st_size for path in blob_index.kept(examined.files.folder)}
    orphans = there.keys() - {digest for digest, _, _ in blob_index.named(examined.connection)}
    if not orphans:
        return Finding("orphans", "every content is named")
    size = sum(there[digest] for digest in orphans)
    return Finding(
        "orphans", f"{len(orphans):,} contents of {size:,} bytes are named by nothing; the server removes them within hours"
    )


def _clock(examined: Examined) -> Finding:
    latest = examined.connection.scalar(sa.select(sa.func.max(Run.heartbeat_at)))
    if latest is not None and latest > now() + AHEAD:
        return Finding("clock", f"a run was heard of at {latest:%Y-%m-%d %H:%M} UTC, which is to come", "set this machine's clock")
    return Finding("clock", f"{now():%Y-%m-%d %H:%M} UTC, and nothing is later")
