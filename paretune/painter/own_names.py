"""Whom pages on this machine answer: those who name it by an address or by its own name."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from paretune.painter.sockets import is_own_name


class OwnNames:
    """Refuses requests that name another host: a page elsewhere whose name was made to lead here (DNS rebinding).

    Args:
        what: who refuses, for its sentence.
        also: a host that is answered, too.
    """

    def __init__(self, app: ASGIApp, *, what: str, also: str | None = None) -> None:
        self.app, self.what, self.also = app, what, also

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if host != self.also and not is_own_name(host):
                app = JSONResponse({"problem": f"{self.what} does not answer for {host}: open it by its address."}, status_code=421)
        await app(scope, receive, send)
