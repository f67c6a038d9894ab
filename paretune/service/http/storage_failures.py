"""What it means to who asked that the database, the disk or the bucket fails: to try again, or that room must be made."""

from __future__ import annotations

import errno
import logging
import sqlite3
from dataclasses import dataclass

import sqlalchemy as sa

from paretune.core.errors import UsageError, first_line

log = logging.getLogger("service")


class AwayError(Exception):
    """The bucket does not answer, or refuses: what is asked for may be there all the same."""


# the errors that `fault_of` knows something of: of the database, those that pass by themselves
WAITING = (sa.exc.TimeoutError, sa.exc.PendingRollbackError)  # no connection is free, or one broke within a transaction
FAILING = (sa.exc.OperationalError, sa.exc.IntegrityError, *WAITING, OSError, AwayError)


@dataclass(frozen=True)
class Fault:
    """A status of HTTP and the sentence that goes with it."""

    status: int
    sentence: str

    @property
    def headers(self) -> dict[str, str]:
        """When to try again, which W&B's client heeds."""
        return {"retry-after": "1"} if self.status == 503 else {}


NO_ROOM = Fault(507, "the server's disk is full or cannot be written: make room there, then send this again.")
BUSY = Fault(503, "the database is busy: try again.")
AWAY = Fault(503, "the server does not reach its bucket: try again.")


def failing(error: BaseException | None) -> Exception | None:
    """Return the error of the database, disk or bucket in one or behind it, as Optuna wraps those of its studies; else None."""
    while error is not None and not isinstance(error, UsageError):
        if isinstance(error, FAILING):
            return error
        error = error.__cause__
    return None


def fault_of(error: BaseException | None) -> Fault | None:
    """Return what an error means, and log its cause; None where trying again would not help, and nothing is full."""
    error = failing(error)
    if isinstance(error, AwayError):
        log.error("%s", error)
        return AWAY
    if isinstance(error, sa.exc.IntegrityError):
        log.error("%s", first_line(error.orig or error))
        return BUSY if is_double(error) else None  # also after `retried`
    if isinstance(error, WAITING):
        log.error("the database is busy or away (%s)", first_line(error))
        return BUSY
    full = NO_ROOM if is_full(error) else None
    found = _of_database(error.orig) if isinstance(error, sa.exc.OperationalError) else full
    if found is not None and error is not None:
        cause = first_line(getattr(error, "orig", None) or error)
        log.error("%s (%s)", "the disk is full or cannot be written" if found is NO_ROOM else "the database is busy or away", cause)
    return found


def is_double(error: sa.exc.IntegrityError) -> bool:
    """Whether a row was refused because another transaction has inserted one of its key; other faults do not pass by themselves."""
    codes = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
    return getattr(error.orig, "sqlite_errorcode", None) in codes or getattr(error.orig, "sqlstate", None) == "23505"


def is_full(error: BaseException | None) -> bool:
    """Whether a file could not be written for want of room, or of the right to."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _of_database(error: BaseException | None) -> Fault | None:
    """Return what a driver's error means: it calls much operational, a statement too long for it, too."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY):
            return NO_ROOM
        return BUSY if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else None
    return NO_ROOM if getattr(error, "sqlstate", None) in ("53100", "25006") else BUSY  # disk_full, read_only_sql_transaction
