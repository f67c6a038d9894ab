"""The painter's pages at /painter/, for whoever has logged in; its models are read when it is first opened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.web.login import COOKIE


def painter_of(models: Path, drawings: Path) -> ASGIApp:
    """Return the painter for a folder of saved models, collecting into a folder of drawings."""
    from demo.drawings import Drawings
    from demo.models import Models
    from demo.pages import application

    return application(Models([models]), Drawings(drawings), own_names=False)


class Guarded:
    """An application that is made at the first request, and answers nobody who has not logged in.

    Args:
        is_known: whether a cookie lets anybody in.
        make: makes the application.
    """

    def __init__(self, is_known: Callable[[str | None], bool], make: Callable[[], ASGIApp]) -> None:
        self.is_known, self.make = is_known, make
        self._made: ASGIApp | None = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if not await run_in_threadpool(self.is_known, request.cookies.get(COOKIE)):
            if request.method != "GET":
                raise HTTPException(401, "you are not logged in any more: open the page anew.")
            return await RedirectResponse("/login?next=/painter/", status_code=303)(scope, receive, send)
        app = await run_in_threadpool(self._application)
        return await app(scope, receive, send)

    def _application(self) -> ASGIApp:
        with self._lock:
            if self._made is None:
                self._made = self.make()
            return self._made
