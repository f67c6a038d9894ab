"""A service saved while it is used, and restored: what was there at that moment, whole."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from paretune.core.errors import UsageError
from paretune.service.__main__ import main
from paretune.service.http.app import application
from paretune.service.operations import backup
from paretune.service.store import compaction, migrations
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.store.tables import Base, Run, RunFile
from paretune.service.sweeps.searches import Searches
from tests.listening import listening as served
from tests.postgres import binaries, needs_postgres, postgres
from tests.samples import ROOT
from tests.service.logging_artifacts import Logged
from tests.service.serving import KEY, Asked, client, listening
from tests.service.store.histories import exact, kept, rows, stream

CREATE = (
    'mutation { createRunFiles(input: {entityName: "someone", projectName: "tried", runName: "r1", files: ["media/a.txt"]}) '
    "{ files { uploadUrl } } }"
)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """A service with a run that is compacted, one that is not, a file of a run, and an artifact."""
    folder = tmp_path / "data"
    folder.mkdir()
    asked = Asked(folder)
    asked.run()
    stream(asked, rows(10), complete=True)
    compaction.compact_due(asked.database, asked.files)
    asked.run("r2")
    stream(asked, rows(5), run="r2")
    url = asked.ask(CREATE)["createRunFiles"]["files"][0]["uploadUrl"]
    assert asked.client.put(url, content=b"hello").status_code == 200
    Logged(asked, {"weights.bin": b"0123"}).done()
    return asked


def command(*arguments: Any) -> int:
    return main([str(one) for one in arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@contextlib.contextmanager
def restored(data: Path) -> Any:
    """A service on a restored folder, asked with the key of before."""
    again = Asked.__new__(Asked)
    again.storage = f"sqlite:///{data / 'studies.db'}"
    again.database, again.files = Database(f"sqlite:///{data / 'service.db'}"), Files(data / "files")
    from starlette.testclient import TestClient

    from tests.service.serving import authorization

    again.client = TestClient(again.application(data), headers=authorization(), raise_server_exceptions=False)
    yield again
    again.database.close()


@pytest.mark.parametrize("name", ["saved.tar", "saved"])
def test_what_was_saved_is_what_is_restored(asked: Asked, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, new = tmp_path / "data", tmp_path / "new"
    assert command("backup", tmp_path / name, "--data", data) == 0
    assert "saved the database and 4 contents, " in capsys.readouterr().out
    assert command("restore", tmp_path / name, "--data", new) == 0
    assert "with 4 contents to" in capsys.readouterr().out
    with restored(new) as again:
        assert exact(kept(again)) == exact(rows(10))
        assert exact(kept(again, "r2")) == exact(rows(5))
        files = '{ project(name: "tried") { run(name: "r1") { files { edges { node { url } } } } } }'
        (edge,) = again.ask(files)["project"]["run"]["files"]["edges"]
        assert again.client.get(edge["node"]["url"]).content == b"hello"
        found = '{ project(name: "tried") { artifact(name: "things:latest") { files { edges { node { directUrl } } } } } }'
        (edge,) = again.ask(found)["project"]["artifact"]["files"]["edges"]
        assert again.client.get(edge["node"]["directUrl"]).content == b"0123"
        stream(again, rows(3, 5), first=5, run="r2")
        assert exact(kept(again, "r2")) == exact(rows(8))
    assert command("doctor", "--full", "--data", new) == 0
    assert (tmp_path / name).stat().st_mode & 0o077 == 0, "only its owner reads what all users logged"


@pytest.mark.slow
def test_a_backup_of_a_service_at_work_holds_a_prefix_of_each_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    saved: list[Path] = []
    with listening(data) as address:
        database, files = Database(f"sqlite:///{data / 'service.db'}"), Files(data / "files")
        stop = threading.Event()

        def log(name: str) -> None:
            """Stream rows, a file and its name now and then, as fast as the server takes them."""
            session = requests.Session()
            session.auth = ("api", KEY)
            upsert = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
            values = {"input": {"name": name, "modelName": "tried"}}
            session.post(f"{address}/graphql", json={"query": upsert, "variables": values})
            step = 0
            while not stop.is_set():
                lines = [json.dumps(row) for row in rows(50, step)]
                part = {"wandb-history.jsonl": {"offset": step, "content": lines}}
                assert session.post(f"{address}/files/someone/tried/{name}/file_stream", json={"files": part}).ok
                step += 50
                query = CREATE.replace("r1", name).replace("a.txt", f"{step}.txt")
                found = session.post(f"{address}/graphql", json={"query": query, "variables": {}}).json()
                url = found["data"]["createRunFiles"]["files"][0]["uploadUrl"]
                assert requests.put(url, data=f"{name} {step}".encode()).ok

        threads = [threading.Thread(target=log, args=(f"r{number}",)) for number in range(3)]
        program = """
            import json, time, wandb
            run = wandb.init(project="tried", id="real", settings=wandb.Settings(x_file_stream_transmit_interval=1))
            for step in range(300):
                run.log({"value": step})
                time.sleep(0.02)
            run.finish()
            print(json.dumps(None))
            """
        threads.append(threading.Thread(target=client, args=(address, tmp_path / "c", program)))
        for thread in threads:
            thread.start()
        for number in range(3):
            stop.wait(1.5)
            done = subprocess.run(
                [sys.executable, "-m", "paretune.service", "backup", str(tmp_path / f"{number}.tar"), "--data", str(data)],
                capture_output=True,
                text=True,
                cwd=ROOT,
            )
            assert done.returncode == 0, done.stderr
            saved.append(tmp_path / f"{number}.tar")
            with database.session(writing=True) as session:  # some of what is logged is compacted meanwhile
                session.execute(sa.update(Run).where(Run.name == "r0").values(state="crashed"))
            compaction.compact_due(database, files)
        stop.set()
        for thread in threads:
            thread.join()
        database.close()
    before: dict[str, int] = {}
    for number, path in enumerate(saved):
        new = tmp_path / f"new{number}"
        assert command("restore", path, "--data", new) == 0
        assert command("doctor", "--full", "--data", new) == 0
        with restored(new) as again:
            with again.database.session() as session:
                names = session.scalars(sa.select(Run.name)).all()
                for file in session.scalars(sa.select(RunFile)):
                    content = again.files.path(file.digest).read_bytes()
                    assert hashlib.sha256(content).hexdigest() == file.digest
                    assert hashlib.md5(content).hexdigest() == file.md5
                counts = {run.name: run.history_lines for run in session.scalars(sa.select(Run))}
            for name in names:
                found = kept(again, name)
                assert [row["_step"] for row in found] == list(range(counts[name]))
                if name != "real":
                    assert exact(found) == exact(rows(counts[name]))
            assert all(counts[name] >= count for name, count in before.items())
            before = counts
    assert before["r0"] > 100
    searches = Searches(f"sqlite:///{tmp_path / 'new2' / 'studies.db'}")
    database = Database(f"sqlite:///{tmp_path / 'new2' / 'service.db'}")
    with served(application(database, Files(tmp_path / "new2" / "files"), searches)) as address:
        program = (
            "import json, wandb\nprint(json.dumps([row['_step'] for row in wandb.Api().run('someone/tried/r0').scan_history()]))"
        )
        assert client(address, tmp_path / "c2", program) == list(range(before["r0"]))
    database.close()


@needs_postgres
@pytest.mark.slow
def test_a_postgresql_is_saved_and_restored_by_its_own_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    programs = binaries()
    assert programs is not None
    data, new = tmp_path / "data", tmp_path / "new"
    data.mkdir()
    with postgres(tmp_path) as url, pytest.MonkeyPatch.context() as patch:
        asked = Asked(data, url)
        asked.run()
        stream(asked, rows(10), complete=True)
        compaction.compact_due(asked.database, asked.files)
        path = os.environ["PATH"]
        patch.setenv("PATH", "")
        assert "pg_dump is not here" in refused(capsys, "backup", tmp_path / "saved.tar", "--data", data, "--database", url)
        patch.setenv("PATH", f"{programs}:{path}")
        assert command("backup", tmp_path / "saved.tar", "--data", data, "--database", url) == 0
        assert "name an empty database with --database" in refused(capsys, "restore", tmp_path / "saved.tar", "--data", new)
        said = refused(capsys, "restore", tmp_path / "saved.tar", "--data", new, "--database", url)
        assert "--database holds tables already" in said
        with asked.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("CREATE DATABASE again"))
        other = url.rpartition("/")[0] + "/again"
        assert command("restore", tmp_path / "saved.tar", "--data", new, "--database", other) == 0
        assert command("doctor", "--full", "--data", new, "--database", other) == 0
        again = Database(other)
        again.keep_contents_in(Files(new / "files"))
        asked.database, mine = again, asked.database
        assert exact(kept(asked)) == exact(rows(10))
        for one in (again, mine):
            one.close()
        asked.searches.close()


# -- what is refused


def test_nothing_is_overwritten_and_no_service_is_made_by_mistake(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, saved = tmp_path / "data", tmp_path / "saved.tar"
    assert "holds no service" in refused(capsys, "backup", saved, "--data", tmp_path / "empty")
    assert not (tmp_path / "empty").exists()
    command("backup", saved, "--data", data)
    assert "is there already" in refused(capsys, "backup", saved, "--data", data)
    assert "holds a service already" in refused(capsys, "restore", saved, "--data", data)
    assert "leave --database out" in refused(capsys, "restore", saved, "--data", tmp_path / "n", "--database", "postgresql://x/y")
    assert "cannot be restored" in refused(capsys, "restore", tmp_path / "absent.tar", "--data", tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    assert exact(kept(asked)) == exact(rows(10))


def rewritten(saved: Path, change: Any) -> Path:
    """Return a backup whose files were changed by a function of name and content; None leaves one out."""
    other = saved.with_name("changed.tar")
    with tarfile.open(saved) as old, tarfile.open(other, "w") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            found = change(member.name, file.read())
            if found is not None:
                name, content = found
                info = tarfile.TarInfo(name)
                info.size = len(content)
                new.addfile(info, io.BytesIO(content))
    return other


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda name, content: (name, content[:-1] + b"x") if name.startswith("contents/") else (name, content),
            "is damaged: contents/",
        ),
        (lambda name, content: None if name.startswith("contents/") else (name, content), "is damaged: it says"),
        (
            lambda name, content: None if name == "backup.json" else (name, content),
            "is no backup of a service: it has no backup.json",
        ),
        (lambda name, content: None if name == "service.db" else (name, content), "is damaged: it says that it has a database"),
        (lambda name, content: ("../" + name, content), "is no backup of a service: '../"),
        (lambda name, content: ("/tmp/" + name, content), "is no backup of a service: '/tmp/"),
        (
            lambda name, content: (
                (name, content[:4096] + b"\xff" * 4096 + content[8192:]) if name == "service.db" else (name, content)
            ),
            "is damaged: its service.db says",
        ),
        (lambda name, content: (name, b"") if name == "service.db" else (name, content), "it has no table service_version"),
        (lambda name, content: (name, b"not JSON") if name == "backup.json" else (name, content), "its backup.json cannot be read"),
        (lambda name, content: (name, b"[]") if name == "backup.json" else (name, content), "its backup.json cannot be read"),
        (lambda name, content: (name, b"{}") if name == "backup.json" else (name, content), "its backup.json cannot be read"),
        (lambda name, content: (name, b"\xff\xfe") if name == "backup.json" else (name, content), "its backup.json cannot be read"),
        (
            lambda name, content: (
                (name, b'{"version": 1, "contents": "many", "made": 0}') if name == "backup.json" else (name, content)
            ),
            "its backup.json cannot be read",
        ),
        (
            lambda name, content: (name, content.replace(f'"{migrations.head()}"'.encode(), b'"9999"')),
            "is of a newer program",
        ),
    ],
)
def test_a_backup_that_is_not_whole_makes_no_service(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, sentence: str
) -> None:
    command("backup", tmp_path / "saved.tar", "--data", tmp_path / "data")
    changed = rewritten(tmp_path / "saved.tar", change)
    assert sentence in refused(capsys, "restore", changed, "--data", tmp_path / "new")
    assert not any((tmp_path / "new").iterdir())


def test_a_backup_that_was_cut_short_makes_no_service(asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("backup", tmp_path / "saved.tar", "--data", tmp_path / "data")
    whole = (tmp_path / "saved.tar").read_bytes()
    for part in (len(whole) // 3, len(whole) // 2, 0):
        (tmp_path / "cut.tar").write_bytes(whole[:part])
        assert "cut.tar is" in refused(capsys, "restore", tmp_path / "cut.tar", "--data", tmp_path / "new")
        assert not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    "content", [b"", b"no tar", bytes(20_000), b"PK\x03\x04" + bytes(600), b"\x1f\x8b" + bytes(600), b"SQLite format 3\0"]
)
def test_a_file_that_is_none_of_ours_makes_no_service(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (tmp_path / "foreign").write_bytes(content)
    assert "is no backup of a service" in refused(capsys, "restore", tmp_path / "foreign", "--data", tmp_path / "new")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "foreign").write_bytes(content)
    assert "is no backup of a service" in refused(capsys, "restore", tmp_path / "folder", "--data", tmp_path / "new")
    assert not any((tmp_path / "new").iterdir())


def test_a_backup_that_fails_leaves_nothing_behind(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup.tarfile, "open", full)
    (tmp_path / "to").mkdir()
    with pytest.raises(UsageError, match="No space left on device"):
        backup.back_up(asked.database, Files(tmp_path / "data" / "files"), tmp_path / "to" / "saved.tar")
    assert list((tmp_path / "to").iterdir()) == []


def test_every_column_that_names_contents_says_so() -> None:
    named = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if "digest" in column.name and not column.info.get("content")
    }
    own = {"api_key.digest", "artifact.digest"}  # of a key, and what a client says of an artifact
    assert named == own, "a content that a backup does not know is lost (CONTENT in paretune/service/store/tables.py)"
