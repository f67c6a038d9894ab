"""Contents of files: whole or not at all, once each, with addresses that are signed, and swept when nothing names them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from itsdangerous import TimestampSigner

from paretune.core.errors import UsageError
from paretune.service.store import files as module
from paretune.service.store.files import Files, TooLargeError, checked_name
from tests.service.serving import forged


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "files")


async def parts_of(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def lying(files: Files) -> list[str]:
    return sorted(str(path.relative_to(files.folder)) for path in files.folder.rglob("*") if path.is_file())


def test_a_content_that_arrives_in_parts_is_kept_whole(files: Files) -> None:
    found = asyncio.run(files.receive(parts_of(b"ab", b"", b"c")))
    assert (found.digest, found.md5, found.size) == (hashlib.sha256(b"abc").hexdigest(), hashlib.md5(b"abc").hexdigest(), 3)
    assert files.path(found.digest).read_bytes() == b"abc"
    assert files.keep(b"abc") == found.digest
    assert lying(files) == [f"contents/{found.digest[:2]}/{found.digest}", "secret"]


@pytest.mark.parametrize(("size", "fits"), [(4, True), (5, False)])
def test_a_content_may_be_as_large_as_is_allowed(files: Files, monkeypatch: pytest.MonkeyPatch, size: int, fits: bool) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 4)
    if fits:
        assert asyncio.run(files.receive(parts_of(b"x" * size))).size == size
        return
    with pytest.raises(TooLargeError, match="a file may have at most 4 bytes"):
        asyncio.run(files.receive(parts_of(b"x" * (size - 1), b"x")))
    assert lying(files) == ["secret"]


def test_an_upload_that_breaks_off_leaves_nothing(files: Files) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        asyncio.run(files.receive(broken()))
    assert lying(files) == ["secret"]


def test_a_content_is_there_or_not(files: Files) -> None:
    digest = files.keep(b"")
    assert files.has(digest)
    assert not files.has("0" * 64)
    assert not files.path("0" * 64).exists()


def test_a_token_is_good_for_its_purpose_for_an_hour_and_for_this_folder(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    token = files.signed("upload", file="a", key=1)
    assert files.opened("upload", token) == {"file": "a", "key": 1}
    assert files.opened("download", token) is None
    assert not [key for key in range(100) if files.opened("upload", forged(files.signed("upload", file="a", key=key))) is not None]
    assert files.opened("upload", "nonsense") is None
    assert Files(files.folder).opened("upload", token) == {"file": "a", "key": 1}, "the secret outlives a restart"
    assert Files(files.folder.parent / "other").opened("upload", token) is None
    now = time.time()
    for seconds, good in ((module.EXPIRES - 60, True), (module.EXPIRES + 60, False)):
        monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self, seconds=seconds: int(now + seconds))
        assert (files.opened("upload", token) is not None) is good
        assert files.opened("upload", token, seconds=2 * module.EXPIRES) is not None
        assert files.opened("upload", token, seconds=1) is None


def test_the_secret_is_of_this_account_alone(files: Files) -> None:
    secret = files.folder / "secret"
    assert (secret.stat().st_mode & 0o777, len(secret.read_bytes())) == (0o600, 32)


def test_what_is_old_and_has_no_name_is_swept(files: Files) -> None:
    named, unnamed, fresh = files.keep(b"named"), files.keep(b"unnamed"), files.keep(b"fresh")
    partial = files.folder / "incoming" / "partial"
    partial.touch()
    for path in (files.path(named), files.path(unnamed), partial):
        os.utime(path, (0, time.time() - 100))
    assert files.sweep(lambda digests: {named} & set(digests), older=101) == 0
    assert files.sweep(lambda digests: {named} & set(digests), older=99) == 2
    assert [files.has(digest) for digest in (named, unnamed, fresh)] == [True, False, True]
    assert not partial.exists()


@pytest.mark.parametrize("name", ["a", "a/b.txt", "a..b", "..a/b", "x" * 1024])
def test_a_path_below_its_run_is_a_name(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "/a", "..", "a/../b", "a/..", "a\\b", "a\0", "x" * 1025])
def test_a_path_that_leads_elsewhere_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="a file's name must be a path below its artifact"):
        checked_name(name, "its artifact")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "files").touch()
    with pytest.raises(UsageError, match=r"cannot be written .*: choose another folder with --data"):
        Files(tmp_path / "files")
