"""The painter's pages at /painter/, for whoever has logged in; its models are read when it is first opened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paretune.painter.drawings import Drawings
from paretune.painter.models import Models
from paretune.painter.pages import application
from paretune.service.store.accounts import Account
from paretune.service.web import words

BODY = b"<body>"
BAR = {
    "en": '<p><a href="{root}/">All projects</a> · The drawings belong to this server: whoever can log in sees them.</p>',
    "es": '<p><a href="{root}/">Todos los proyectos</a> · Los dibujos son del servidor: los ve quien pueda entrar.</p>',
}


def painter_of(models: Path, drawings: Path) -> ASGIApp:
    """Return the painter for a folder of saved models, collecting into a folder of drawings."""
    return application(Models([models]), Drawings(drawings), own_names=False)


class Guarded:
    """An application that is made at the first request, and answers nobody who has not logged in; a viewer only looks.

    Args:
        account_of: returns who a request's cookie lets in; None where it lets nobody in.
        make: makes the application.
    """

    def __init__(self, account_of: Callable[[Request], Account | None], make: Callable[[], ASGIApp]) -> None:
        self.account_of, self.make = account_of, make
        self._made: ASGIApp | None = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        account = await run_in_threadpool(self.account_of, request)
        if account is None:
            if request.method != "GET":
                raise HTTPException(401, "you are not logged in any more: open the page anew.")
            return await RedirectResponse(f"{words.path('login')}?next={words.path('painter')}/", status_code=303)(
                scope, receive, send
            )
        path = request.url.path.removeprefix(scope["root_path"])
        if account.role == "viewer" and request.method not in ("GET", "HEAD") and path != "/api/read":
            problem = f"{account.name} is a viewer, who may look at drawings and add none."
            return await JSONResponse({"problem": problem}, status_code=403)(scope, receive, send)
        app = await run_in_threadpool(self._application)
        if path == "/" and request.method == "GET":
            send = with_bar(send)
        return await app(scope, receive, send)

    def _application(self) -> ASGIApp:
        with self._lock:
            if self._made is None:
                self._made = self.make()
            return self._made


def with_bar(send: Send) -> Send:
    """Return what sends a page with the way back, and whose the drawings are, at its top."""
    start: Message = {}

    async def sending(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        if start:
            body = message.get("body", b"")
            bar = (
                BAR["es" if b'<html lang="es"' in body else "en"].replace("{root}", words.path()).encode() if BODY in body else b""
            )
            headers = [
                (name, str(int(value) + len(bar)).encode() if name == b"content-length" else value)
                for name, value in start["headers"]
            ]
            await send({**start, "headers": headers})
            start, message = {}, {**message, "body": body.replace(BODY, BODY + bar, 1)}
        await send(message)

    return sending
