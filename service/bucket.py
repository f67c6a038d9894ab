"""A bucket for the contents of files, by its URL: s3://name/prefix, or whatever else fsspec reaches (gcs://, abfs://, file://).

Contents never change, so what was fetched once is kept beside the server as a copy.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainers.errors import UsageError


class Bucket:
    """The contents below one URL, each under its SHA-256.

    Raises:
        UsageError: if there is no such kind of bucket, what reaches it is not installed, or it cannot be written.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self.system, root = fsspec.core.url_to_fs(url)
            self.root = root.rstrip("/") + "/contents"
            self.system.makedirs(self.root, exist_ok=True)
        except ImportError as error:
            raise UsageError(f"--files {url}: {error} (for s3:// that is: pip install s3fs).") from None
        except Exception as error:  # each kind of bucket has errors of its own
            raise UsageError(
                f"--files {url} cannot be reached ({_first_line(error)}): check the URL and the credentials."
            ) from None

    def keep(self, path: Path, digest: str) -> None:
        """Upload a content; one that is there already is the same."""
        self.system.put_file(str(path), self._place(digest))

    def fetch(self, digest: str, path: Path) -> bool:
        """Download a content to a path; return whether it is there."""
        try:
            self.system.get_file(self._place(digest), str(path))
        except FileNotFoundError:
            return False
        return True

    def has(self, digest: str) -> bool:
        """Whether a content is there."""
        return bool(self.system.exists(self._place(digest)))

    def older(self, before: float) -> list[str]:
        """Return the digests of contents that arrived before a time (seconds since 1970)."""
        found = self.system.ls(self.root, detail=True, refresh=True)
        return [str(one["name"]).rpartition("/")[2] for one in found if _moment(one) < before]

    def delete(self, digest: str) -> None:
        """Delete a content."""
        self.system.rm_file(self._place(digest))

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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
