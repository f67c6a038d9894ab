"""Per-user concurrency limits and a minimum rate for request bodies."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import AsyncIterator, Hashable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TURNS = 4  # requests of one user that are worked on at once; as many of what it streams
LARGE_TURNS, LARGE = 2, 2**20  # requests of one user whose bodies have more bytes than this, kept at once
BODY_TURNS, SMALL_BODY = 16, 2**16  # the same for others; smaller ones are read faster than another thread is woken
MOST_WAITING = 500  # requests of one user
MOST_BODIES_WAITING = 100  # of them, whose beginnings take up to 300 KB each
BODY_SECONDS, BODY_RATE = 20.0, 500  # a client may keep a body waiting for so long, and a second more for so many bytes (as Apache)
MOST_LEFT = 60.0  # seconds that it may stop for, however much of it has come


class Turns:
    """The turns of users; each ends with its request, once the answer is sent."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Lane] = {}

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Return an application whose requests can take turns, and whose bodies must not come too slowly."""

        async def taking(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            async with contextlib.AsyncExitStack() as turns:
                scope["take_turn"] = functools.partial(self._take, turns)
                await app(scope, SlowBody(receive), send)

        return taking

    async def _take(self, turns: contextlib.AsyncExitStack, user: Hashable, number: int, waiting: int) -> None:
        await turns.enter_async_context(self._turn((user, number), number, waiting))

    @contextlib.asynccontextmanager
    async def _turn(self, key: Hashable, number: int, waiting: int) -> AsyncIterator[None]:
        lane = self._lanes.setdefault(key, _Lane(number))
        if lane.requests >= waiting + number:
            sentence = f"this user has {waiting} requests waiting already. Try again in 1 s."
            raise HTTPException(429, sentence, headers={"retry-after": "1"})
        lane.requests += 1
        try:
            async with lane:
                yield
        finally:
            lane.requests -= 1
            if lane.requests == 0:
                del self._lanes[key]


async def take_turn(request: Request, user: Hashable, number: int = TURNS, waiting: int | None = None) -> None:
    """Wait for a turn of a user, who has `number` of this kind; where nobody counts them, there is one.

    Raises:
        HTTPException: 429 where too many wait.
    """
    take = request.scope.get("take_turn")
    if take is not None:
        await take(user, number, MOST_WAITING if waiting is None else waiting)


async def take_body_turn(request: Request, user: Hashable) -> None:
    """Wait for a turn to send a body that is not small, where a request announces one or does not say how large it is.

    Raises:
        HTTPException: 429 where too many wait.
    """
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() else math.inf
    if size > SMALL_BODY:
        await take_turn(request, user, LARGE_TURNS if size > LARGE else BODY_TURNS, MOST_BODIES_WAITING)


class _Lane(asyncio.Semaphore):
    requests = 0  # that have a turn or wait for one


class SlowBody:
    """The channel of a request, which refuses a body that keeps the server waiting."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._left, self._is_whole = receive, BODY_SECONDS, False

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        begin = time.monotonic()
        try:
            async with asyncio.timeout(max(self._left, 0.0)):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(
                408,
                f"a body must come within {BODY_SECONDS:g} s and one more for each {BODY_RATE} bytes, "
                f"and may stop for {MOST_LEFT:g} s at most.",
                headers={"connection": "close"},
            ) from None
        left = self._left + len(message.get("body", b"")) / BODY_RATE - (time.monotonic() - begin)
        self._left = min(left, MOST_LEFT)
        self._is_whole = not message.get("more_body", False)
        return message
