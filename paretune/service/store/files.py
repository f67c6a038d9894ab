"""Contents of files, each kept once under its SHA-256, and the signed addresses by which they come and go.

Clients send no key with an upload, so its address is the permission: signed by this server, for one file, for an hour.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.concurrency import run_in_threadpool

from paretune.core.errors import UsageError
from paretune.service.store.bucket import Bucket

EXPIRES = 3600  # seconds that an address is good for
MOST_BYTES = 5 * 2**30  # of one file
UNNAMED = 3600.0  # seconds that a content is kept without a name
COPIES = 7 * 86_400.0  # seconds that a copy of what the bucket keeps stays here


class TooLargeError(UsageError):
    """More bytes came than a file may have."""


@dataclass(frozen=True)
class Content:
    """What is kept of an uploaded file: its SHA-256, MD5 (hexadecimal) and size in bytes."""

    digest: str
    md5: str
    size: int


class Files:
    """A folder of contents, and the secret that signs addresses (kept beside them, so that it outlives a restart).

    Args:
        bucket: where the contents are kept instead; the folder then has copies of those that were asked for.
    """

    def __init__(self, folder: Path, bucket: Bucket | None = None) -> None:
        self.folder, self.bucket = folder, bucket
        self._settling = threading.Lock()
        try:
            (folder / "incoming").mkdir(parents=True, exist_ok=True)
            self._signer = URLSafeTimedSerializer(_secret(folder / "secret"))
        except OSError as error:
            raise UsageError(f"{folder} cannot be written ({error.strerror}): choose another folder with --data.") from None

    def signed(self, purpose: str, **values: Any) -> str:
        """Return a token that says what may be done: `purpose` is upload or download."""
        return self._signer.dumps(values, salt=purpose)

    def opened(self, purpose: str, token: str, *, seconds: int | None = None) -> dict[str, Any] | None:
        """Return what a token of this purpose says; None where it is forged, of another purpose, or too old (EXPIRES)."""
        try:
            return self._signer.loads(token, salt=purpose, max_age=EXPIRES if seconds is None else seconds)
        except BadSignature:
            return None

    async def receive(self, parts: AsyncIterator[bytes]) -> Content:
        """Keep a content that arrives in parts; whole or not at all.

        Raises:
            TooLargeError: if it has more than MOST_BYTES.
        """
        sha, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        partial = self.folder / "incoming" / secrets.token_hex(12)
        try:
            with open(partial, "wb") as file:
                async for part in parts:
                    size += len(part)
                    if size > MOST_BYTES:
                        raise TooLargeError(f"a file may have at most {MOST_BYTES:,} bytes.")
                    sha.update(part)
                    md5.update(part)
                    file.write(part)
                await run_in_threadpool(_sync, file)
            digest = sha.hexdigest()
            if self.bucket is not None:
                await run_in_threadpool(self.bucket.keep, partial, digest)
            self._settle(partial, digest)
        finally:
            partial.unlink(missing_ok=True)
        return Content(digest, md5.hexdigest(), size)

    def keep(self, content: bytes) -> str:
        """Keep a content, whole or not at all, and return its SHA-256."""
        digest = hashlib.sha256(content).hexdigest()
        partial = self.folder / "incoming" / secrets.token_hex(12)
        try:
            with open(partial, "wb") as file:
                file.write(content)
                _sync(file)  # what it was made from is deleted next
            if self.bucket is not None:
                self.bucket.keep(partial, digest)
            self._settle(partial, digest)
        finally:
            partial.unlink(missing_ok=True)
        return digest

    def path(self, digest: str) -> Path:
        """Return where a content lies on this machine, fetched from the bucket if need be; nothing lies there if it is not kept."""
        place = self._place(digest)
        if self.bucket is not None and digest and not place.exists():
            partial = self.folder / "incoming" / secrets.token_hex(12)
            try:
                if self.bucket.fetch(digest, partial):
                    self._settle(partial, digest)
            finally:
                partial.unlink(missing_ok=True)
        return place

    def has(self, digest: str) -> bool:
        """Whether a content is kept, here or in the bucket; nothing is fetched."""
        return self._place(digest).exists() or (self.bucket is not None and bool(digest) and self.bucket.has(digest))

    def _place(self, digest: str) -> Path:
        return self.folder / "contents" / digest[:2] / digest

    def sweep(self, named: Callable[[Sequence[str]], set[str]], *, older: float = UNNAMED) -> int:
        """Delete the contents that nothing names any more, and what is left of uploads that broke off; return how many.

        Args:
            named: returns those of some digests that are still named.
            older: seconds since it last arrived that a content must have; what arrives now has no name yet.
        """
        before, deleted = time.time() - older, 0
        broken = [path for path in (self.folder / "incoming").iterdir() if path.stat().st_mtime < before]
        for folder in sorted((self.folder / "contents").glob("*")):
            old = [path.name for path in folder.iterdir() if path.stat().st_mtime < before]
            broken += [folder / digest for digest in set(old) - named(old)] if old else []
        for path in broken:
            with self._settling:  # it may just have arrived again
                if path.exists() and path.stat().st_mtime < before:
                    path.unlink()
                    deleted += 1
        return deleted + (0 if self.bucket is None else self._sweep_bucket(self.bucket, named, before))

    def _sweep_bucket(self, bucket: Bucket, named: Callable[[Sequence[str]], set[str]], before: float) -> int:
        """Delete from the bucket what nothing names, and here the copies that have lain for long; return how many of the former."""
        old = bucket.older(before)
        unnamed = set(old) - named(old) if old else set()
        for digest in unnamed:
            bucket.delete(digest)
        for copy in (self.folder / "contents").glob("*/*"):
            if copy.stat().st_mtime < time.time() - COPIES:
                copy.unlink(missing_ok=True)
        return len(unnamed)

    def _settle(self, partial: Path, digest: str) -> None:
        place = self._place(digest)
        is_new = not place.parent.exists()
        place.parent.mkdir(parents=True, exist_ok=True)
        with self._settling:
            os.replace(partial, place)
        for folder in (place.parent, *([place.parent.parent] if is_new else [])):
            _sync_folder(folder)


def _sync(file: IO[bytes]) -> None:
    """Have the disk hold what was written: the client does not send it again after our answer."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder; Windows does so by itself, and opens none."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checked_name(name: str, place: str = "its run") -> str:
    """Return a file's name, which is a path below its run or artifact (`place`).

    Raises:
        UsageError: if it leads elsewhere.
    """
    parts = name.split("/")
    if not name or len(name) > 1024 or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise UsageError(f"a file's name must be a path below {place}. Got {name[:80]!r}.")
    return name


def _secret(path: Path) -> bytes:
    """Return the secret of this folder; the first to ask makes it."""
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.touch(mode=0o600)
        partial.write_bytes(secrets.token_bytes(32))
        try:
            os.link(partial, path)  # fails where another process was first
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    return path.read_bytes()
