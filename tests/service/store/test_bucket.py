"""The contents of files in a bucket: what is kept there, fetched from there, and cleared away there."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from paretune.core.errors import UsageError
from paretune.service.__main__ import main
from paretune.service.http.storage_failures import AwayError
from paretune.service.store import compaction
from paretune.service.store.bucket import Bucket
from paretune.service.store.files import COPIES, Files
from tests.service.browsing import Shown
from tests.service.http.test_app import upload_address
from tests.service.serving import Asked, authorization
from tests.service.store.histories import rows, stream


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield f"memory://{tmp_path.name}/prefix" if request.param == "memory" else f"file://{tmp_path / 'bucket'}"
    fsspec.filesystem("memory").store.clear()


def received(files: Files, content: bytes) -> str:
    async def parts() -> AsyncIterator[bytes]:
        yield content[:3]
        yield content[3:]

    return anyio.run(files.receive, parts()).digest


def emptied(files: Files) -> None:
    shutil.rmtree(files.folder / "contents")


def test_a_content_is_fetched_from_the_bucket_where_the_copy_is_gone(url: str, tmp_path: Path) -> None:
    files = Files(tmp_path / "files", Bucket(url))
    one, two = received(files, b"of an upload"), files.keep(b"of this server")
    emptied(files)
    assert (files.has(one), files.has("0" * 64)) == (True, False)
    assert not list(files.folder.glob("contents/*/*")), "nothing is fetched to see that"
    assert files.path(one).read_bytes() == b"of an upload"
    assert files.path(two).read_bytes() == b"of this server"
    another = Files(tmp_path / "another machine", Bucket(url))
    assert another.path(one).read_bytes() == b"of an upload"
    assert not another.path("0" * 64).exists()
    assert list((another.folder / "incoming").iterdir()) == []


def test_what_nothing_names_goes_from_the_bucket_and_old_copies_from_here(tmp_path: Path) -> None:
    files = Files(tmp_path / "files", Bucket(f"file://{tmp_path / 'bucket'}"))
    named, unnamed, fresh = received(files, b"named"), received(files, b"unnamed"), received(files, b"fresh")
    long_ago = time.time() - COPIES - 10
    for path in (tmp_path / "bucket" / "contents").iterdir():
        if path.name != fresh:
            os.utime(path, (long_ago, long_ago))
    os.utime(files.path(named), (long_ago, long_ago))
    assert files.sweep(lambda digests: {named} & set(digests)) == 1
    assert sorted(path.name for path in (tmp_path / "bucket" / "contents").iterdir()) == sorted((named, fresh))
    assert [path.name for path in files.folder.glob("contents/*/*") if path.name == named] == [], "the copy has lain for long"
    assert files.path(named).read_bytes() == b"named"
    emptied(files)
    assert not files.path(unnamed).exists()


def test_a_run_s_file_goes_to_the_bucket_and_comes_back(url: str, tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    asked.files.bucket = Bucket(url)
    asked.run()
    assert asked.client.put(upload_address(asked, "a.txt"), content=b"hello").status_code == 200
    emptied(asked.files)
    query = '{ project(name: "tried") { run(name: "r1") { files { edges { node { directUrl } } } } } }'
    (edge,) = asked.ask(query)["project"]["run"]["files"]["edges"]
    assert asked.client.get(edge["node"]["directUrl"].removeprefix("http://testserver")).content == b"hello"


def refuse(*_: Any, **__: Any) -> Any:
    raise ConnectionError("the line is dead\nand more of it")


def test_a_bucket_that_is_away_is_a_fault_to_try_again_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, shown = Asked(tmp_path / "s"), Shown(tmp_path / "p")
    for served in (asked, shown):
        served.files.bucket = Bucket(f"file://{tmp_path / 'bucket'}")
        served.run()
        assert served.client.put(upload_address(served, "a.txt"), content=b"hello").status_code == 200
        emptied(served.files)
    for served in (asked, shown):
        for name in ("put_file", "get_file", "exists", "ls"):
            monkeypatch.setattr(served.files.bucket.system, name, refuse)
    query = '{ project(name: "tried") { run(name: "r1") { files { edges { node { directUrl } } } } } }'
    (edge,) = asked.ask(query)["project"]["run"]["files"]["edges"]
    for answer in (
        asked.client.get(edge["node"]["directUrl"].removeprefix("http://testserver")),
        asked.client.put(upload_address(asked, "b.txt"), content=b"other"),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"] == "the server does not reach its bucket: try again."
    page = shown.browser.get("/someone/tried/runs/r1/files/a.txt")
    assert page.status_code == 503
    assert "does not reach its bucket" in page.text
    with pytest.raises(AwayError, match=r"does not answer, or refuses \(the line is dead\)\.$"):
        asked.files.sweep(lambda _: set())


def test_the_history_of_a_bucket_that_is_away_is_not_called_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(tmp_path)
    asked.files.bucket = Bucket(f"file://{tmp_path / 'bucket'}")
    asked.run()
    stream(asked, rows(6), complete=True)
    assert compaction.compact_due(asked.database, asked.files) == 6
    emptied(asked.files)
    query = '{ project(name: "tried") { run(name: "r1") { history(minStep: 0, maxStep: 9) } } }'
    with monkeypatch.context() as patch:
        patch.setattr(asked.files.bucket.system, "get_file", refuse)
        answer = asked.client.post("/graphql", json={"query": query}, headers=authorization())
        assert (answer.status_code, "reach its bucket" in answer.text) == (503, True)
    assert len(asked.ask(query)["project"]["run"]["history"]) == 6


def test_an_empty_folder_that_a_bucket_does_not_keep_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(f"file://{tmp_path / 'bucket'}")

    def missing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError("bucket/contents")

    monkeypatch.setattr(bucket.system, "ls", missing)
    monkeypatch.setattr(bucket.system, "rm_file", missing)
    assert bucket.older(time.time() + 10) == []
    bucket.delete("0" * 64)


def test_a_bucket_that_is_not_there_is_not_created(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with s3://, whose makedirs creates the bucket itself."""
    monkeypatch.setattr(MemoryFileSystem, "_strip_protocol", classmethod(lambda _, path: str(path).removeprefix("memory://")))
    monkeypatch.setattr(MemoryFileSystem, "exists", lambda *_: False)
    with pytest.raises(UsageError, match="there is no bucket misspelt: create it, or name another"):
        Bucket("memory://misspelt/prefix")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("nosuch://bucket", "nosuch"),
        ("s3://bucket/prefix", "s3fs|cannot be reached"),
        ("file:///proc/nowhere", "cannot be reached"),
    ],
)
def test_a_bucket_that_cannot_be_reached_is_told_in_a_sentence(wrong: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Bucket(wrong)


def test_the_command_line_names_the_bucket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, bucket = tmp_path / "data", f"file://{tmp_path / 'bucket'}"
    main(["user", "add", "ada", "--data", str(data)])
    assert main(["doctor", "--data", str(data), "--files", bucket]) == 0
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--data", str(data), "--files", "nosuch://bucket"])
    assert stopped.value.code == 2
    assert "nosuch" in capsys.readouterr().err
