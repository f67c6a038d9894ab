"""Who asks, and what for: the key of a request, looked up once in a while, how often it may ask, and addresses that permit."""

from __future__ import annotations

import asyncio
import base64
import functools
import time
from typing import Any

from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from paretune.service.store.accounts import Account, account_of
from paretune.service.store.database import Database
from paretune.service.store.files import Files

REMEMBERED = 30.0  # seconds for which a key is not looked up again
MOST_REMEMBERED = 10_000
RATE = 300  # requests a second of one user, unless the server is told otherwise; fifty agents with their runs make about 20
REFUSALS = RateLimitItemPerMinute(60)  # wrong keys from one address
LOOK_UPS = 4  # keys that are looked up at once
WRONG = 60.0  # seconds for which a wrong key is not looked up again


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
            account = await self._looked_up(request, key)
        if account is None:
            raise HTTPException(
                401, "this key is not known here: ask whoever runs this server for one (python -m paretune.service user add)."
            )
        self.count(account)
        return account

    async def _looked_up(self, request: Request, key: str | None) -> Account | None:
        if key is None or self._wrong.get(key, 0.0) > time.monotonic():
            account = None
        else:
            async with self._looking_up:  # so that wrong keys do not keep users from the threads
                account = await run_in_threadpool(account_of, self.database, key)
        if key is None or account is None:
            self._refuse(request, key)
            return None
        if len(self._accounts) >= MOST_REMEMBERED:
            self._accounts.clear()
        self._accounts[key] = (time.monotonic() + REMEMBERED, account)
        return account

    def _refuse(self, request: Request, key: str | None) -> None:
        """Count a wrong key; a right one from the same address is answered all the same."""
        if key is not None and self._wrong.get(key, 0.0) <= time.monotonic():
            if len(self._wrong) >= MOST_REMEMBERED:
                self._wrong.clear()
            self._wrong[key] = time.monotonic() + WRONG
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
        """Return an application that counts its users' requests here: it finds `count` in the scope of each."""
        return functools.partial(self._counting, app)

    async def _counting(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        scope["count"] = self.count
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
