"""A bucket for the contents of files, by its URL: s3://name/prefix, or whatever else fsspec reaches (gcs://, abfs://, file://).

Contents never change, so what was fetched once is kept beside the server as a copy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paretune.core.errors import UsageError, first_line
from paretune.service.http.storage_failures import AwayError, is_full


class Bucket:
    """The contents below one URL, each under its SHA-256. Every method raises AwayError where the bucket does not answer.

    Raises:
        UsageError: if there is no such bucket, what reaches it is not installed, or it cannot be written.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        try:
            self.system, below = fsspec.core.url_to_fs(url)
            top, self.root = below.partition("/")[0], below.rstrip("/") + "/contents"
            if top and not self.system.exists(top):  # which some would create, whoever misspelt it
                raise UsageError(f"--files {url}: there is no bucket {top}: create it, or name another.")
            self.system.makedirs(self.root, exist_ok=True)
            self.system.pipe_file(f"{below.rstrip('/')}/tried", b"that it can be written")
        except UsageError:
            raise
        except ImportError as error:
            raise UsageError(f"--files {url}: {error} (for s3:// that is: pip install s3fs).") from None
        except Exception as error:  # each kind of bucket has errors of its own
            raise UsageError(
                f"--files {url} cannot be reached or written ({first_line(error)}): check the URL and the credentials."
            ) from None

    def keep(self, path: Path, digest: str) -> None:
        """Upload a content; one that is there already is the same."""
        with self._reaching():
            self.system.put_file(str(path), self._place(digest))

    def fetch(self, digest: str, path: Path) -> bool:
        """Download a content to a path; return whether it is there."""
        with self._reaching():
            try:
                self.system.get_file(self._place(digest), str(path))
            except FileNotFoundError:
                return False
            return True

    def has(self, digest: str) -> bool:
        """Whether a content is there."""
        with self._reaching():
            return bool(self.system.exists(self._place(digest)))

    def older(self, before: float) -> list[str]:
        """Return the digests of contents that arrived before a time (seconds since 1970)."""
        with self._reaching():
            try:
                found = self.system.ls(self.root, detail=True, refresh=True)
            except FileNotFoundError:  # a folder that is empty is none in most buckets
                return []
        return [str(one["name"]).rpartition("/")[2] for one in found if _moment(one) < before]

    def delete(self, digest: str) -> None:
        """Delete a content; one that is gone is deleted."""
        with self._reaching(), contextlib.suppress(FileNotFoundError):
            self.system.rm_file(self._place(digest))

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if is_full(error):  # of the copies
                raise
            raise AwayError(f"the bucket {self.url} does not answer, or refuses ({first_line(error)}).") from error

    def _place(self, digest: str) -> str:
        return f"{self.root}/{digest}"


def _moment(details: dict[str, Any]) -> float:
    """Return when a content arrived: each kind of bucket calls it otherwise; where none is said it counts as new."""
    for name in ("LastModified", "mtime", "created", "last_modified", "updated"):
        found = details.get(name)
        if isinstance(found, datetime):
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        if isinstance(found, int | float):
            return float(found)
    return float("inf")
