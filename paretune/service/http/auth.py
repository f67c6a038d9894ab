"""Who asks, and what for: the key of a request, looked up once in a while, how often it may ask, and addresses that permit."""

from __future__ import annotations

import asyncio
import base64
import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar

from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from paretune.service.store.accounts import Account, account_of, digest_of
from paretune.service.store.database import Database
from paretune.service.store.files import Files

REMEMBERED = 30.0  # seconds for which a key is not looked up again
MOST_REMEMBERED = 10_000
RATE = 300  # requests a second of one user, unless the server is told otherwise; fifty agents with their runs make about 20
REFUSALS = RateLimitItemPerMinute(60)  # wrong keys from one address
LOOK_UPS = 4  # keys that are looked up at once
WRONG = 60.0  # seconds for which a wrong key is not looked up again

Found = TypeVar("Found")


class Keys:
    """The accounts behind the keys that are in use, and the rates of both.

    Args:
        rate: requests a second that each user may make of this process; 0 for any number.
    """

    def __init__(self, database: Database, rate: int = RATE) -> None:
        self.database = database
        self._accounts: dict[str, tuple[float, Account]] = {}
        self._wrong: dict[str, float] = {}
        self._looking_up = asyncio.Semaphore(LOOK_UPS)
        self._rate = RateLimitItemPerSecond(rate) if rate else None
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def account(self, request: Request) -> Account:
        """Return who asks.

        Raises:
            HTTPException: 401 where the key is nobody's, 429 where too much was asked.
        """
        key = key_of(request.headers.get("authorization", ""))
        known = self._accounts.get(key) if key is not None else None
        if known is not None and known[0] > time.monotonic():
            account: Account | None = known[1]
        else:
            account = await self._account(request, key)
        if account is None:
            raise HTTPException(
                401, "this key is not known here: ask whoever runs this server for one (python -m paretune.service user add)."
            )
        self.count(account)
        return account

    async def _account(self, request: Request, key: str | None) -> Account | None:
        account = await self.looked_up(request, key, functools.partial(account_of, self.database))
        if key is not None and account is not None:
            if len(self._accounts) >= MOST_REMEMBERED:
                self._accounts.clear()
            self._accounts[key] = (time.monotonic() + REMEMBERED, account)
        return account

    async def looked_up(self, request: Request, key: str | None, look_up: Callable[[str], Found | None]) -> Found | None:
        """Return what is found by a key, looked up beside few others; wrong ones are counted, and remembered for a while.

        Raises:
            HTTPException: 429 where too many wrong keys came from this address; a right one is answered all the same.
        """
        found, digest = None, "" if key is None else digest_of(key)
        if key is not None and self._wrong.get(digest, 0.0) <= time.monotonic():
            async with self._looking_up:  # so that wrong keys do not keep users from the threads
                found = await run_in_threadpool(look_up, key)
            if found is None:
                if len(self._wrong) >= MOST_REMEMBERED:
                    self._wrong.clear()
                self._wrong[digest] = time.monotonic() + WRONG
        if found is None:
            self._refuse(request)
        return found

    def _refuse(self, request: Request) -> None:
        address = "" if request.client is None else request.client.host
        if not self._limiter.hit(REFUSALS, address):
            raise too_many(f"more than {REFUSALS.amount} wrong keys came from {address} within a minute.", 60)

    def count(self, account: Account) -> None:
        """Count one more request of a user.

        Raises:
            HTTPException: 429 where it was one too many.
        """
        if self._rate is not None and not self._limiter.hit(self._rate, str(account.id)):
            raise too_many(f"{account.name} makes more than {self._rate.amount} requests a second.", 1)

    def given_to(self, app: ASGIApp) -> ASGIApp:
        """Return an application that finds in the scope of each request how to `count` it, and how to `look_up` a key."""
        return functools.partial(self._counting, app)

    async def _counting(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        scope["count"], scope["look_up"] = self.count, self.looked_up
        await app(scope, receive, send)


def too_many(sentence: str, seconds: int) -> HTTPException:
    """Return a refusal of who asks too often; W&B's client waits as long as it says."""
    return HTTPException(429, f"{sentence} Try again in {seconds} s.", headers={"retry-after": str(seconds)})


def permitted(files: Files, purpose: str, request: Request) -> dict[str, Any]:
    """Return what the signed address of a request was given away for.

    Raises:
        HTTPException: 403 where it is forged, of another purpose, or too old.
    """
    said = files.opened(purpose, request.path_params["token"])
    if said is None:
        raise HTTPException(403, "this address is not one of this server's, or has expired.")
    request.state.is_known = True
    return said


def key_of(header: str) -> str | None:
    """Return the key in an Authorization header: the password of HTTP Basic; None where there is none."""
    kind, _, text = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        _, _, key = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        return None
    return key or None
