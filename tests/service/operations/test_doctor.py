"""The doctor finds each thing that can be wrong with what a service keeps, and says what to do."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from paretune.service.__main__ import main
from paretune.service.store import compaction, migrations
from paretune.service.store.tables import Chunk, Run, RunFile, Segment, now
from tests.service.operations.test_backup import CREATE, refused
from tests.service.serving import Asked
from tests.service.store.histories import rows, stream


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """A service with a run that is compacted, one that goes on, and a file."""
    asked = Asked(tmp_path)
    asked.run()
    stream(asked, rows(10), complete=True)
    compaction.compact_due(asked.database, asked.files)
    asked.run("r2")
    stream(asked, rows(5), run="r2")
    url = asked.ask(CREATE)["createRunFiles"]["files"][0]["uploadUrl"]
    assert asked.client.put(url, content=b"hello").status_code == 200
    return asked


def examined(tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, str]]:
    """Return the exit code, and what was found by check; the first word says whether it is well."""
    code = main(["doctor", "--data", str(tmp_path), *more])
    found = {}
    for line in capsys.readouterr().out.splitlines():
        verdict, _, rest = line.partition(" ")
        check, _, said = rest.strip().partition(": ")
        found[check] = f"{verdict} {said}"
    return code, found


CHECKS = ["folder", "free space", "database", "studies", "version", "contents", "histories", "heartbeats", "orphans", "clock"]


def test_a_service_that_is_well_has_a_line_for_each_check(asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--full"]):
        code, found = examined(tmp_path, capsys, *more)
        assert (code, list(found)) == (0, CHECKS)
        assert all(said.startswith("ok ") for said in found.values()), found
    assert "2 are there, and what was kept" in found["contents"]


def path_of(asked: Asked, kind: type[RunFile] | type[Segment]) -> Path:
    with asked.database.session() as session:
        return asked.files.path(session.scalars(sa.select(kind.digest)).one())


def change(asked: Asked, statement: sa.Executable) -> None:
    with asked.database.session(writing=True) as session:
        session.execute(statement)


def damage(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 8192) + whole[-4096:])


def damaged(asked: Asked, folder: Path) -> None:
    asked.database.close()
    for name in ("service.db-wal", "service.db-shm"):
        (folder / name).unlink(missing_ok=True)
    damage(folder / "service.db")


def studies_damaged(asked: Asked, folder: Path) -> None:
    sqlite3.connect(folder / "studies.db").execute("CREATE TABLE t (x)").connection.close()
    (folder / "studies.db").write_bytes(b"nothing of the kind" * 100)


def swapped(asked: Asked, folder: Path) -> None:
    path_of(asked, RunFile).write_bytes(b"HELLO")


def unreadable(asked: Asked, folder: Path) -> None:
    path = path_of(asked, Segment)
    path.write_bytes(b"x" * path.stat().st_size)


BREAKS: list[tuple[str, Callable[[Asked, Path], object], list[str], str]] = [
    ("database", damaged, [], "restore a backup"),
    ("studies", studies_damaged, [], "studies.db is damaged (file is not a database): restore a backup"),
    (
        "contents",
        lambda asked, _: path_of(asked, RunFile).unlink(),
        [],
        "of run_file is missing: copy them from contents/ of a backup",
    ),
    ("contents", lambda asked, _: path_of(asked, RunFile).write_bytes(b"hell"), [], "of run_file has 4 bytes, not 5"),
    ("contents", swapped, ["--full"], "of run_file is not what was kept"),
    ("histories", unreadable, [], "cannot be read: copy them"),
    ("histories", lambda asked, _: change(asked, sa.update(Segment).values(count=9)), [], "has 10 rows, not 9"),
    ("histories", lambda asked, _: change(asked, sa.update(Segment).values(first=1)), [], "lines 0 to 1 of the run 1 are missing"),
    ("histories", lambda asked, _: change(asked, sa.delete(Segment)), [], "has 0 lines in segments, not 10"),
    (
        "heartbeats",
        lambda asked, _: change(asked, sa.update(Run).where(Run.name == "r2").values(heartbeat_at=now() - timedelta(hours=1))),
        [],
        "1 runs are running and silent: start the server",
    ),
    (
        "clock",
        lambda asked, _: change(asked, sa.update(Run).values(heartbeat_at=now() + timedelta(hours=1))),
        [],
        "set this machine's",
    ),
    ("version", lambda asked, _: change(asked, version("0001")), [], "0001, and this program's is"),
    ("version", lambda asked, _: change(asked, version("9999")), [], "update the program"),
    ("database", lambda asked, _: orphaned_row(asked), [], "a row of run_file names none of run"),
]


def version(number: str) -> sa.Executable:
    return sa.text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '{number}'")


def orphaned_row(asked: Asked) -> None:
    with sqlite3.connect(asked.database.engine.url.database or "") as connection:
        connection.execute("UPDATE run_file SET run_id = 99")
    connection.close()


@pytest.mark.parametrize(("check", "broken", "more", "sentence"), BREAKS)
def test_each_thing_that_is_wrong_is_found(
    asked: Asked,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    check: str,
    broken: Callable[[Asked, Path], object],
    more: list[str],
    sentence: str,
) -> None:
    broken(asked, tmp_path)
    code, found = examined(tmp_path, capsys, *more)
    assert code == 1
    assert found[check].startswith("wrong ")
    assert sentence in found[check]


def test_what_only_reading_finds_is_found_in_full(asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swapped(asked, tmp_path)
    assert examined(tmp_path, capsys)[0] == 0
    assert examined(tmp_path, capsys, "--full")[0] == 1


def test_a_damaged_chunk_is_found_in_full(asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Chunk).values(content=b"damaged"))
    assert examined(tmp_path, capsys)[0] == 0
    code, found = examined(tmp_path, capsys, "--full")
    assert code == 1
    assert "of the run 2 is damaged" in found["histories"]


def test_a_folder_without_room_or_rights_is_found(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**10, 10**10, 10**6))  # type: ignore[attr-defined]
    code, found = examined(tmp_path, capsys)
    assert (code, found["free space"].startswith("wrong 0.0 GiB: make room")) == (1, True)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "files" and access(path, mode))
    assert "files cannot be read and written: give its rights" in examined(tmp_path, capsys)[1]["folder"]


def test_contents_that_nothing_names_are_counted(asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (b"one", b"other"):
        asked.files.keep(content)
    code, found = examined(tmp_path, capsys)
    assert code == 0, "the server removes them by itself"
    assert found["orphans"].startswith("ok 2 contents of 8 bytes are named by nothing")


def test_a_folder_without_a_service_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no service" in refused(capsys, "doctor", "--data", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_database_that_is_not_there_is_said(asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", "--data", str(tmp_path), "--database", "postgresql://nobody@127.0.0.1:1/none"])
    said = capsys.readouterr()
    assert "the database cannot be opened" in said.err
    assert ("see that it runs, and check --database" in said.err, said.out) == (True, "")
