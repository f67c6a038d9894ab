"""The web pages as an application: who may see them, how a handler is called, what every answer carries.

A handler is a plain function of a `Visit`: one request of somebody who is logged in, with a transaction that is open while it
answers. It runs in a thread, and its page is made from a template in which every text is escaped.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.resources
import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paretune.core.errors import UsageError
from paretune.painter.own_names import OwnNames
from paretune.service.http.storage_failures import FAILING, fault_of
from paretune.service.store import runs
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.sweeps.searches import Searches
from paretune.service.web import project_pages, run_page, runs_page, sweep_page, view_page, words
from paretune.service.web.login import Logins
from paretune.service.web.painter import Guarded
from paretune.service.web.visits import HERE, Handler, Web

POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; object-src 'none'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
log = logging.getLogger("paretune.service.web")


def application(
    database: Database,
    files: Files,
    searches: Searches,
    *,
    logins: Logins | None = None,
    painter: Callable[[], ASGIApp] | None = None,
    own_names: bool = False,
    own_host: str | None = None,
) -> Starlette:
    """Return the pages.

    Args:
        logins: where the link that is printed was made.
        painter: makes the painter's pages when they are first asked for; None: there are none.
        own_names: answer only who asks for this machine by an address or its own name (against DNS rebinding).
        own_host: or by this name, with its port.
    """
    web = Web(database, files, searches, logins or Logins(database, files), has_painter=painter is not None)
    middleware = [Middleware(Headers), Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)]
    if own_names:
        middleware.insert(0, Middleware(OwnNames, what="this server", also=own_host))
    handlers: Mapping[Any, Any] = {
        HTTPException: functools.partial(_sentence, web),
        UsageError: functools.partial(_sentence, web),
        ClientDisconnect: _given_up,
        **dict.fromkeys((*FAILING, Exception), functools.partial(_failed, web)),
    }
    return Starlette(routes=_routes(web, painter), exception_handlers=handlers, middleware=middleware)


def _routes(web: Web, painter: Callable[[], ASGIApp] | None) -> list[BaseRoute]:
    routes: list[BaseRoute] = [
        Route("/login", web.login_form),
        Route("/login", web.log_in, methods=["POST"]),
        Route("/login/{token}", web.follow_link),
        Route("/authorize", web.about_keys),
        Route("/logout", web.log_out, methods=["POST"]),
        Route("/static/plotly.min.js", plotly),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    if painter is not None:
        routes.append(Route("/painter", lambda _: RedirectResponse(f"{words.path('painter')}/", status_code=307)))
        routes.append(Mount("/painter", Guarded(web.account_of, painter)))
    here = "/{entity}/{project}"
    shown: dict[str, Handler] = {
        "/": project_pages.home,
        "/{entity}": project_pages.entity,
        here: view_page.project,
        f"{here}/runs": runs_page.table,
        f"{here}/runs.csv": runs_page.download,
        f"{here}/sweeps": project_pages.sweep_list,
        f"{here}/sweeps/{{sweep}}": sweep_page.show,
        f"{here}/sweeps/{{sweep}}/data.json": sweep_page.data,
        f"{here}/views": view_page.view_list,
        f"{here}/reports/{{title:path}}": view_page.report,
        f"{here}/compare": run_page.compare,
        f"{here}/runs/{{run}}": run_page.show,
        f"{here}/runs/{{run}}/history.json": run_page.history,
        f"{here}/runs/{{run}}/console.json": run_page.console,
        f"{here}/runs/{{run}}/files/{{name:path}}": run_page.file,
    }
    changed: dict[str, Handler] = {
        f"{here}/runs": runs_page.change,
        f"{here}/runs/{{run}}": run_page.change,
        f"{here}/sweeps/{{sweep}}": sweep_page.change,
        f"{here}/sweeps/{{sweep}}/chosen": sweep_page.choose,
        f"{here}/views": view_page.delete,
    }
    routes += [Route(path, web.changed(handler), methods=["POST"]) for path, handler in changed.items()]
    routes += [Route(path, web.shown(handler)) for path, handler in shown.items()]
    return routes


async def plotly(_: Request) -> Response:
    """The plotting library, from its package; its version stands in the address."""
    path = importlib.resources.files("plotly") / "package_data" / "plotly.min.js"
    return FileResponse(str(path), media_type="text/javascript", headers={"cache-control": "public, max-age=31536000, immutable"})


class Headers:
    """Adds to every answer what keeps a browser from running anything that is not of these pages."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        words.ROOT.set(scope.get("app_root_path", scope.get("root_path", "")))

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", POLICY)
                headers.setdefault("x-content-type-options", "nosniff")
                headers.setdefault("referrer-policy", "same-origin")
                headers.setdefault("cross-origin-opener-policy", "same-origin")
            await send(message)

        await self.app(scope, receive, sending)


async def _sentence(web: Web, request: Request, error: Exception) -> Response:
    """Answer a fault with its sentence."""
    if isinstance(error, HTTPException):
        status, sentence = error.status_code, str(error.detail)
        if status in (404, 405) and sentence in ("Not Found", "Method Not Allowed"):
            sentence = f"there is no page {request.url.path} here."
    else:
        status, sentence = 403 if isinstance(error, runs.RefusedError) else 400, str(error)
    response = _fault(web, request, status, sentence)
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _given_up(*_: Any) -> Response:
    """Answer nobody, with the status that nginx logs then."""
    return Response(status_code=499)


async def _failed(web: Web, request: Request, error: Exception) -> Response:
    fault = fault_of(error)
    if fault is None:
        log.error("a page failed", exc_info=error)
        return _fault(web, request, 500, "the server failed at this; its log says why.")
    return _fault(web, request, fault.status, fault.sentence)


def _fault(web: Web, request: Request, status: int, sentence: str) -> Response:
    """Return a fault as who asked can read it: a script's as JSON, a person's as a page."""
    if request.url.path.endswith(".json"):
        return JSONResponse({"problem": sentence}, status_code=status)
    return web.page("fault.html", status=status, sentence=sentence, title=words.TITLES.get(status, "Fault"))
