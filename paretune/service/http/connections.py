"""Connections of the server: time limits for request heads and unread bodies or answers, and a limit on how many are open.

uvicorn limits neither: a client that sends half a request and stays keeps its connection, until the process has no file left for
others. Bodies that are read, and how fast they must come, are the matter of `turns`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from operator import itemgetter
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0  # for the head of a request, from its first byte or, of a connection's first request, from its opening
LINGER_SECONDS = 5.0  # for the rest of a body that was answered unread, so that the client reads the answer
STALL_SECONDS = 60.0  # in which a client must read some of its answer
MOST_CONNECTIONS = 4000
OTHER_FILES = 320  # that the process may need beside its connections
ACCEPTED_AT_ONCE = 32  # before the first of them is counted
IDLE, SENDING, BUSY = range(3)
BACKLOG = 1024  # connections that the kernel keeps while the server is busy


def allowed_connections() -> int:
    """Return how many connections may be open, after raising the process's limit of open files as far as it may itself."""
    if os.name != "posix":
        return MOST_CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + OTHER_FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(MOST_CONNECTIONS, soft - OTHER_FILES))


class Connection(H11Protocol):
    """A connection that ends where its client keeps it waiting."""

    most = MOST_CONNECTIONS
    _open: dict[Connection, None]  # in the order in which they were opened, or last used

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._open[self] = None
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._wait_for_head(begin=True)
        if len(self._open) > self.most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.pop(self, None)
        self._wait_for_head(begin=False)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait_for_head(begin=self.conn.their_state is h11.IDLE and not self.transport.is_closing())

    def _wait_for_head(self, *, begin: bool) -> None:
        if begin and self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._end)
        elif not begin and self._head is not None:
            self._head.cancel()
            self._head = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._open.pop(self, None)
        if not self.transport.is_closing():
            self._open[self] = None
            if self.conn.their_state is h11.SEND_BODY:
                self.loop.call_later(LINGER_SECONDS, self._end_unread, self.cycle)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self._stall or self.loop.call_later(STALL_SECONDS, self._end)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _end_unread(self, cycle: Any) -> None:
        if self.cycle is cycle and self.conn.their_state is h11.SEND_BODY:
            self._end()

    def _end(self) -> None:
        self._open.pop(self, None)
        self.transport.abort()  # closing would wait until the client has read what is to be sent

    def _make_room(self) -> None:
        """End the oldest of the connections that are worth least; this one where all others are answered."""
        worth, oldest = min(((other._worth, other) for other in self._open if other is not self), key=itemgetter(0))
        (self if worth == BUSY else oldest)._end()

    @property
    def _worth(self) -> int:
        """How much is lost with it: nobody's request, a part of a body that a user sends again, or an answer that is made."""
        if self.conn.their_state is h11.IDLE or not (self.scope or {}).get("state", {}).get("is_known"):
            return IDLE
        return SENDING if self.conn.their_state is h11.SEND_BODY else BUSY


def protocol(most: int) -> type[Connection]:
    """Return the protocol of a server that may have so many connections open."""
    return type("ServerConnection", (Connection,), {"most": most, "_open": {}})


class Server(uvicorn.Server):
    """A server that accepts few connections at once, and lets many wait in the kernel; uvicorn has one number for both."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for opened in sockets or ():
            opened.listen(BACKLOG)
