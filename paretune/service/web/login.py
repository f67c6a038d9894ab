"""Logging in to the pages: with an API key, or by the link that the server prints at its start; a signed cookie remembers it.

The cookie names the key that opened it, so revoking the key ends the session. Its number is kept from the logout on.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import secrets
import threading
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.service.store.accounts import Account, account_in, digest_of
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.store.tables import ApiKey, User
from paretune.service.web import words

COOKIE = "paretune"
LASTS = 30 * 24 * 3600  # seconds of a session
LINK_LASTS = 3600.0  # seconds that a link is good for
MOST_FAILURES, WINDOW = 10, 60.0  # failed attempts with like keys from an address, and the seconds in which they count
PREFIX = 12  # characters by which keys are like: many people may share an address, and one who mistypes must not lock them out
MOST_REMEMBERED = 10_000  # failed addresses and prefixes


class Logins:
    """Who is logged in, and how one gets there."""

    def __init__(self, database: Database, files: Files) -> None:
        self.database, self.files = database, files
        self._lock = threading.Lock()
        self._links: dict[str, tuple[float, int]] = {}
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def new_link(self, name: str) -> str | None:
        """Return a token that logs a user in once, within an hour; None where the user has no key."""
        with self.database.session() as session:
            key = session.scalar(sa.select(ApiKey).join(User).where(User.name == name).order_by(ApiKey.id.desc()))
        if key is None:
            return None
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._links[token] = (time.monotonic() + LINK_LASTS, key.id)
        return token

    def follow(self, token: str) -> str | None:
        """Return the cookie's value for a link; None where it was followed before, has expired, or never was one."""
        with self._lock:
            until, identifier = self._links.pop(token, (-math.inf, 0))
        if until < time.monotonic():
            return None
        with self.database.session() as session:
            key = session.get(ApiKey, identifier)
        return None if key is None else self._cookie(key)

    def open(self, text: str) -> str | None:
        """Return the cookie's value for an API key; None where it is nobody's."""
        with self.database.session() as session:
            key = session.scalar(sa.select(ApiKey).where(ApiKey.digest == digest_of(text)))
        return None if key is None else self._cookie(key)

    def account(self, session: Session, cookie: str | None) -> Account | None:
        """Return who a cookie lets in; None where it is forged, too old, or its key has been revoked."""
        said = self._opened(cookie)
        if said is None or self._ended(said["number"]).exists():
            return None
        key = session.get(ApiKey, said["key"])
        return account_in(session, key.user) if key is not None and _mark(key) == said["mark"] else None

    def key_of(self, cookie: str | None) -> int | None:
        """Return the number of the key that opened a session, without asking whether it still lets anybody in."""
        said = self._opened(cookie)
        return None if said is None else said["key"]

    def close(self, cookie: str | None) -> None:
        """End a session: its cookie lets nobody in again, after a restart neither."""
        said = self._opened(cookie)
        if said is None:
            return
        ended = self._ended(said["number"])
        ended.parent.mkdir(exist_ok=True)
        for other in ended.parent.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another has just been here
                if other.stat().st_mtime < time.time() - LASTS:  # the cookie is too old by itself
                    other.unlink()
        ended.touch()

    def failed(self, address: str, key: str) -> None:
        """Note a failed attempt with a key."""
        pair = (address, key[:PREFIX])
        with self._lock:
            moments = self._failures.setdefault(pair, deque(maxlen=MOST_FAILURES))
            moments.append(time.monotonic())
            self._failures.move_to_end(pair)
            while len(self._failures) > MOST_REMEMBERED:
                self._failures.popitem(last=False)

    def wait(self, address: str, key: str) -> float:
        """Return for how many seconds an address may not try again with such a key."""
        with self._lock:
            moments = self._failures.get((address, key[:PREFIX]), deque())
            if len(moments) < MOST_FAILURES:
                return 0.0
            return max(0.0, moments[0] + WINDOW - time.monotonic())

    def _cookie(self, key: ApiKey) -> str:
        return self.files.signed("session", key=key.id, mark=_mark(key), number=secrets.token_hex(16))

    def _opened(self, cookie: str | None) -> dict[str, Any] | None:
        said = self.files.opened("session", cookie, seconds=LASTS) if cookie else None
        return said if said is not None and "number" in said else None

    def _ended(self, number: str) -> Path:
        return self.files.folder / "ended" / number


def _mark(key: ApiKey) -> str:
    """Return what tells a key from another that has got its number since."""
    return hashlib.sha256(key.digest.encode()).hexdigest()[:16]


def local_path(text: Any) -> str:
    """Return a path of this server to go to after the login; its first page where another place was named."""
    path, first = str(text or ""), f"{words.path()}/"
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if plain and path.startswith(first) else first
