"""File locks between processes. The operating system releases a lock when its holder ends."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

POLL = 0.005  # seconds between tries to get a lock that another process holds
LOOKS = 3  # at a lock that seems held: another process may be looking at the same moment, which holds it that long


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock, whose file is made where there is none, in a folder that is there.

    Raises:
        BlockingIOError: if another holds it, and nobody is to wait.
        OSError: if the file cannot be written.
    """
    from filelock import FileLock, Timeout  # here, as it takes 20 ms of each --help

    if not path.parent.is_dir():  # FileLock would make it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire(poll_interval=POLL)
    except Timeout:
        raise BlockingIOError(f"{path} is held") from None
    try:
        yield
    finally:
        lock.release()


def is_free(path: Path) -> bool | None:
    """Whether nobody holds a lock; None where its file is not on this machine, or another person's."""
    for look in range(LOOKS):
        if not path.exists() or not os.access(path, os.R_OK | os.W_OK):
            return None
        try:
            with locked(path, wait=False):
                return True
        except BlockingIOError:
            time.sleep(0.001 * look)
        except OSError:
            return None
    return False
