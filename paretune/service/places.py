"""Storage locations of the service, from the flags of its commands: the database and the blob store."""

from __future__ import annotations

import argparse
from pathlib import Path

from paretune.core.errors import UsageError
from paretune.service.store.bucket import Bucket
from paretune.service.store.database import Database
from paretune.service.store.files import Files


def check_kept(options: argparse.Namespace) -> None:
    """Refuse a folder that holds no service, in which one would be made.

    Raises:
        UsageError: that says which.
    """
    needed = Path(options.data) / ("files" if options.database else "service.db")
    if not needed.exists():
        raise UsageError(f"{options.data} holds no service ({needed.name} is not there): name its folder with --data.")


def files_of(options: argparse.Namespace) -> Files:
    """Return the contents of files, in the bucket that the flags name or in the folder.

    Raises:
        UsageError: if they cannot be reached or written.
    """
    return Files(Path(options.data) / "files", None if options.files is None else Bucket(options.files))


def open_database(options: argparse.Namespace) -> Database:
    """Open the database that the flags name.

    Raises:
        UsageError: if it cannot be opened, or the folder cannot be written.
    """
    folder = Path(options.data)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # there are runs, files and the secret of addresses in it
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}): choose another folder with --data.") from None
    return Database(options.database or f"sqlite:///{folder.resolve() / 'service.db'}")
