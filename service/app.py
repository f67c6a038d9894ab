"""The service as a Starlette application: GraphQL, the streams of runs, uploads and downloads.

A fault that will not go away is a 4xx or an error in the answer: W&B's client tries a 500 again for a long time, and looks hung.
Only a database that is busy is a 503, which it should try again.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sa
from graphql import GraphQLError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from demo.bodies import body_of
from service import answers, runs, sweeps
from service.accounts import Account, account_of
from service.answers.shared import Context, GoneError
from service.database import Database, Run, RunFile, now
from service.execution import answered
from service.files import Files, TooLargeError
from service.sweeps import Searches
from service.web import pages as web
from trainers.errors import UsageError

MOST_BODY = 64 * 2**20  # bytes of a request that is not an upload; the client's largest has about 10 MB
REMEMBERED = 30.0  # seconds for which a key is not looked up again
CRASHES = 30.0  # seconds between looks for runs that have fallen silent
log = logging.getLogger("service")


def application(database: Database, files: Files, searches: Searches, pages: ASGIApp | None = None) -> Starlette:
    """Return the service on a database, a folder of files, and the studies of its sweeps.

    Args:
        pages: what answers every other address: by default the web pages, as service.web.pages makes them.
    """
    service = Service(database, files, searches)
    routes = [
        Route("/graphql", service.graphql, methods=["POST"]),
        Route("/files/{entity}/{project}/{run}/file_stream", service.file_stream, methods=["POST"]),
        Route("/uploads/{token}", service.upload, methods=["PUT"]),
        Route("/downloads/{token}/{name}", service.download),
        Route("/healthz", service.health),
        Mount("/", web.application(database, files, searches) if pages is None else pages),
    ]
    handlers = {HTTPException: _refused, UsageError: _unfit, sa.exc.OperationalError: _busy, Exception: _failed}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=service.lifespan)


class Service:
    """The handlers."""

    def __init__(self, database: Database, files: Files, searches: Searches) -> None:
        self.database, self.files, self.searches = database, files, searches
        self.schema = answers.schema()
        self._accounts: dict[str, tuple[float, Account]] = {}

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[None]:
        """Look for runs that have fallen silent, as long as the service runs."""
        watch = asyncio.create_task(self._watch())
        yield
        watch.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CRASHES)
            try:
                await run_in_threadpool(self.mark_crashed)
            except sa.exc.SQLAlchemyError:
                log.exception("runs that fell silent could not be marked")

    def mark_crashed(self) -> int:
        """Mark the runs that have fallen silent, and return how many."""
        with self.database.session(writing=True) as session:
            return runs.mark_crashed(session)

    async def graphql(self, request: Request) -> Response:
        """Answer one operation."""
        account = await self.authenticated(request)
        values = json_of(await body_of(request, MOST_BODY, "a request"))
        query, variables = values.get("query"), values.get("variables") or {}
        if not isinstance(query, str) or not isinstance(variables, dict):
            raise HTTPException(400, "a request must have query, a text, and variables, a mapping.")
        return JSONResponse(await run_in_threadpool(self._executed, query, variables, account, str(request.base_url).rstrip("/")))

    def _executed(self, query: str, variables: dict[str, Any], account: Account, base: str) -> dict[str, Any]:
        try:
            changes = self.schema.is_mutation(query)
            with self.database.session(writing=changes) as session:
                context = Context(session, account, self.files, self.searches, base)
                result = self.schema.execute(query, variables, context)
                if result.errors:
                    session.rollback()
                    gone = [error for error in result.errors if isinstance(error.original_error, GoneError)]
                    if gone:
                        raise HTTPException(404, gone[0].message)
                return answered(result, _note)
        except GraphQLError as error:
            return {"data": None, "errors": [{"message": error.message}]}

    async def file_stream(self, request: Request) -> Response:
        """Take what a run streams."""
        account = await self.authenticated(request)
        values = json_of(await body_of(request, MOST_BODY, "a request"))
        return JSONResponse(await run_in_threadpool(self._received, account, values, **request.path_params))

    def _received(self, account: Account, values: dict[str, Any], entity: str, project: str, run: str) -> dict[str, Any]:
        with self.database.session(writing=True) as session:
            found = runs.project_of(session, account, project, entity)
            kept = None if found is None else runs.run_of(session, found, run)
            if found is None or kept is None:
                raise HTTPException(404, f"there is no run {entity}/{project}/{run}.")
            runs.check_writable(account, found)
            runs.receive(session, kept, values)
            if kept.sweep_name is not None and "wandb-history.jsonl" in (values.get("files") or {}) and kept.state in runs.LIVE:
                sweeps.observe(session, self.searches, kept)
            return {"stopped": True} if kept.stop_asked and kept.state in runs.LIVE else {}

    async def upload(self, request: Request) -> Response:
        """Take the content of a file; the address is the permission."""
        said = self.files.opened("upload", request.path_params["token"])
        if said is None:
            raise HTTPException(403, "this address is not one of this server's, or has expired.")
        content = await self.files.receive(request.stream())

        def note() -> None:
            with self.database.session(writing=True) as session:
                if session.get(Run, said["run"]) is None:
                    raise HTTPException(404, "the run of this file has been deleted.")
                query = sa.select(RunFile).where(RunFile.run_id == said["run"], RunFile.name == said["name"])
                file = session.scalar(query) or RunFile(run_id=said["run"], name=said["name"])
                file.size, file.md5, file.digest, file.updated_at = content.size, content.md5, content.digest, now()
                session.add(file)

        await run_in_threadpool(note)
        return Response(status_code=200)

    async def download(self, request: Request) -> Response:
        """Give the content of a file; the address is the permission."""
        said = self.files.opened("download", request.path_params["token"])
        if said is None:
            raise HTTPException(403, "this address is not one of this server's, or has expired.")

        def find() -> RunFile | None:
            with self.database.session() as session:
                return session.get(RunFile, said["file"])

        file = await run_in_threadpool(find)
        if file is None or not self.files.path(file.digest).exists():
            raise HTTPException(404, "there is no such file.")
        # whatever a run uploads, no browser runs it as this server's page
        headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
        return FileResponse(self.files.path(file.digest), media_type="application/octet-stream", headers=headers)

    async def health(self, _: Request) -> Response:
        """Say that the server lives."""
        return JSONResponse({"status": "ok"})

    async def authenticated(self, request: Request) -> Account:
        """Return who asks.

        Raises:
            HTTPException: 401 where the key is nobody's.
        """
        key = key_of(request.headers.get("authorization", ""))
        if key is not None:
            known = self._accounts.get(key)
            if known is not None and known[0] > time.monotonic():
                return known[1]
            account = await run_in_threadpool(account_of, self.database, key)
            if account is not None:
                if len(self._accounts) > 10_000:
                    self._accounts.clear()
                self._accounts[key] = (time.monotonic() + REMEMBERED, account)
                return account
        raise HTTPException(401, "this key is not known here: ask whoever runs this server for one (python -m service user add).")


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


def json_of(body: bytes) -> dict[str, Any]:
    """Return a JSON object; nothing at all is an empty one.

    Raises:
        HTTPException: 400 if it is anything else.
    """
    try:
        values = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise HTTPException(400, "a request must be a JSON object.")
    return values


def _note(error: BaseException) -> None:
    log.error("a request failed", exc_info=error)


def _answer(status: int, sentence: str) -> Response:
    return JSONResponse({"errors": [{"message": sentence}], "error": sentence}, status_code=status)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _answer(error.status_code, str(error.detail))
    if error.status_code == 401:
        response.headers["www-authenticate"] = 'Basic realm="paretune"'
    return response


async def _unfit(_: Request, error: Exception) -> Response:
    status = 403 if isinstance(error, runs.RefusedError) else 413 if isinstance(error, TooLargeError) else 400
    return _answer(status, str(error))


async def _busy(_: Request, error: Exception) -> Response:
    log.warning("the database is busy or away: %s", str(getattr(error, "orig", error)).splitlines()[0])
    response = _answer(503, "the database is busy: try again.")
    response.headers["retry-after"] = "1"
    return response


async def _failed(_: Request, error: Exception) -> Response:
    _note(error)
    return _answer(422, "the server failed at this; its log says why.")
