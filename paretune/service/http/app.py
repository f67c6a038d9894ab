"""The service as a Starlette application: GraphQL, the streams of runs, uploads and downloads.

A fault that will not go away is a 4xx or an error in the answer: W&B's client tries a 500 again for a long time, and looks hung.
Only a database that is busy, or a bucket that does not answer, is a 503, which it should try again, and a full disk a 507.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paretune.core.errors import UsageError, first_line
from paretune.service.graphql.execution import UNFIT, UNFIT_SENTENCE
from paretune.service.http import artifact_routes
from paretune.service.http.auth import RATE
from paretune.service.http.public_url import PublicUrl
from paretune.service.http.service import Service, log_failure
from paretune.service.http.storage_failures import FAILING, fault_of
from paretune.service.store import runs
from paretune.service.store.database import Database
from paretune.service.store.files import Files, TooLargeError
from paretune.service.sweeps.searches import Searches
from paretune.service.web import pages as web

log = logging.getLogger("service")


def application(
    database: Database,
    files: Files,
    searches: Searches,
    pages: ASGIApp | None = None,
    *,
    rate: int = RATE,
    base_url: str | None = None,
) -> Starlette:
    """Return the service on a database, a folder of files, and the studies of its sweeps.

    Args:
        pages: what answers every other address: by default the web pages, as paretune.service.web.pages makes them.
        rate: requests a second that each user may make; 0 for any number.
        base_url: where clients reach it, if a proxy stands before it.
    """
    service = Service(database, files, searches, rate)
    routes = [
        Route("/graphql", service.graphql, methods=["POST"]),
        Route("/files/{entity}/{project}/{run}/file_stream", service.file_stream, methods=["POST"]),
        Route("/uploads/{token}", service.upload, methods=["PUT"]),
        Route("/downloads/{token}/{name}", service.download),
        Route("/downloads/{token}/{name}", service.download_options, methods=["OPTIONS"]),
        Route("/contents/{token}/{name:path}", service.content),
        Route("/bulk/histories", service.histories, methods=["POST"]),
        Route("/sdk/otel/v1/{kind}", service.telemetry, methods=["POST"]),
        Route("/healthz", service.health),
        Route("/ready", service.ready),
        Route("/metrics", service.metrics),
        *artifact_routes.routes(service),
        Mount("/", service.keys.given_to(web.application(database, files, searches) if pages is None else pages)),
    ]
    handlers = {HTTPException: _refused, UsageError: _unfit, **dict.fromkeys(FAILING, _failing), **dict.fromkeys(UNFIT, _too_large)}
    middleware = [Middleware(_catching), Middleware(service.observer.middleware), Middleware(service.turns.middleware)]
    if base_url is not None:
        middleware.insert(0, Middleware(PublicUrl, url=base_url))
    app = Starlette(routes=routes, exception_handlers=handlers, middleware=middleware, lifespan=service.lifespan)
    app.state.service = service
    return app


def _answer(status: int, sentence: str) -> Response:
    return JSONResponse({"errors": [{"message": sentence}], "error": sentence}, status_code=status)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _answer(error.status_code, str(error.detail))
    response.headers.update(error.headers or {})
    if error.status_code == 401:
        response.headers["www-authenticate"] = 'Basic realm="paretune"'
    return response


async def _unfit(_: Request, error: Exception) -> Response:
    status = 403 if isinstance(error, runs.RefusedError) else 413 if isinstance(error, TooLargeError) else 400
    return _answer(status, str(error))


async def _too_large(_: Request, error: Exception) -> Response:
    return _answer(400, f"{UNFIT_SENTENCE} ({first_line(error)}).")


async def _failing(_: Request, error: Exception) -> Response:
    fault = fault_of(error)
    if fault is None:
        raise error
    response = _answer(fault.status, fault.sentence)
    response.headers.update(fault.headers)
    return response


def _catching(app: ASGIApp) -> ASGIApp:
    """Return an application that answers what failed and logs it once, as Starlette's own handlers raise it again."""

    async def caught(scope: Scope, receive: Receive, send: Send) -> None:
        begun = ended = False

        async def noting(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await app(scope, receive, noting)
        except ClientDisconnect:
            log.info("a client hung up")
        except asyncio.CancelledError:  # of a request that Ctrl-C did not wait for
            if begun:
                raise
            await _answer(503, "the server ends: try again.")(scope, receive, send)
        except Exception as error:
            if not begun and (fault := fault_of(error)) is not None:
                response = _answer(fault.status, fault.sentence)
                response.headers.update(fault.headers)
                await response(scope, receive, send)
            elif not begun:
                log_failure(error)
                await _answer(422, "the server failed at this; its log says why.")(scope, receive, send)
            elif not ended:
                raise

    return caught
