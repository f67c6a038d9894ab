"""The objects that handle the service's requests, and its background tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import sqlalchemy as sa
from graphql import DocumentNode, GraphQLError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from paretune.core.errors import UsageError
from paretune.painter.bodies import body_of
from paretune.service import graphql as answers
from paretune.service.graphql.execution import answered, name_of, refused
from paretune.service.graphql.query_limits import AnswerSize, BusyAnswer
from paretune.service.graphql.shared import Context, GoneError
from paretune.service.http.auth import Keys, permitted
from paretune.service.http.compressed import unpacked
from paretune.service.http.health import Health
from paretune.service.http.metrics import Observer
from paretune.service.http.storage_failures import failing
from paretune.service.http.turns import SMALL_BODY, TURNS, Turns, take_body_turn, take_turn
from paretune.service.operations.garbage_collection import Cleaning
from paretune.service.store import bulk, compaction, runs, segments, shared_runs
from paretune.service.store.accounts import Account
from paretune.service.store.database import Database, retried
from paretune.service.store.files import Files
from paretune.service.store.safe_json import fitted
from paretune.service.store.tables import Run, RunFile, now
from paretune.service.sweeps import agents, pruning
from paretune.service.sweeps.heartbeats import Pulses
from paretune.service.sweeps.searches import WAITING, Searches

MOST_BODY = 32 * 2**20  # bytes of a request that is not an upload; the client's largest has about 10 MB
PIECE = 2**18  # bytes of an answer that are handed to the network at once
MOST_BRACKETS = 2_000_000  # in one, which JSON takes a second to read, and nothing else runs meanwhile
MOST_COMMAS = 3_000_000  # of the values between them, each takes up to 60 bytes of memory
TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # of JSON
MOST_QUOTES = 2_000_000  # of a request whose texts are told from the rest, which takes 0.2 s for so many
HEARTBEAT = re.compile(r'\s*mutation\b[^{}#"]*\{\s*agentHeartbeat\b')  # which is then all that the document asks for
HEARTBEAT_TURNS = WAITING + 8  # as many may wait for a study, and the others only say which runs are alive
OTHERS, STREAMS = ("", TURNS), ("streams", TURNS)  # of a user: what is read and changed, and what runs stream
PULSES = 5.0  # seconds between writings of who was heard
CRASHES = 30.0  # seconds between looks for runs that have fallen silent, and for histories to be compacted
log = logging.getLogger("service")


class Service:
    """The handlers of one service, and what it does by itself meanwhile."""

    def __init__(self, database: Database, files: Files, searches: Searches, rate: int) -> None:
        self.database, self.files, self.searches = database, files, searches
        database.keep_contents_in(files)
        self.schema = answers.schema()
        self.stopping = threading.Event()
        self.failed_compactions: set[int] = set()  # runs whose history stays as it arrived; logged once
        self.keys, self.observer = Keys(database, rate), Observer(database)
        self.cleaning, self.pulses = Cleaning(database, files), Pulses()
        self.turns, self.health_of = Turns(), Health(database, files)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[None]:
        """Look for runs that have fallen silent, histories to be compacted and what is over, as long as the service runs."""
        tasks = (self.mark_crashed, self.look_after_sweeps, self.compact, self.cleaning.due)
        await run_in_threadpool(agents.renew, self.database)
        watches = [asyncio.create_task(self._watch(task, CRASHES)) for task in tasks]
        watches.append(asyncio.create_task(self._watch(self.write_pulses, PULSES)))
        yield
        self.stopping.set()
        for watch in watches:
            watch.cancel()

    async def _watch(self, task: Callable[[], object], every: float) -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await run_in_threadpool(task)
            except Exception:
                log.exception("%s failed, and is tried again", task.__name__)

    def mark_crashed(self) -> int:
        """Mark the runs that have fallen silent, and return how many."""
        with self.database.session(writing=True) as session:
            if self.pulses.is_away or now() - self.pulses.begun < runs.SILENCE:
                return 0  # nobody could be heard while it did not run, or did not reach the database
            return runs.mark_crashed(session)

    def write_pulses(self) -> None:
        """Write down which agents were heard."""
        self.pulses.write(self.database)

    def look_after_sweeps(self) -> None:
        """Tell the studies of what ended by itself."""
        agents.look_after(self.database, self.searches, self.pulses)

    def compact(self) -> int:
        """Lay histories down as Parquet, and return how many lines."""
        return compaction.compact_due(self.database, self.files, self.stopping.is_set, self.failed_compactions)

    async def graphql(self, request: Request) -> Response:
        """Answer one operation."""
        account = await self.authenticated(request)
        values = await sent_values(request, account, lane_of=lane_of_operation)
        query, variables = values.get("query"), values.get("variables") or {}
        if not isinstance(query, str) or not isinstance(variables, dict):
            raise HTTPException(400, "a request must have query, a text, and variables, a mapping.")
        execute = functools.partial(self._executed, query, variables, account, request)
        return pieces_of(await run_in_threadpool(retried, execute))

    def _executed(self, query: str, variables: dict[str, Any], account: Account, request: Request) -> bytes:
        """Return the answer of an operation as JSON."""
        try:
            document = self.schema.read(query)
            writes = self.schema.writes(document)
            request.state.operation = name_of(document)
            self.schema.prepare(document, variables)
        except GraphQLError as error:
            return as_body(refused(error))
        except UsageError as error:
            return as_body({"data": None, "errors": [{"message": str(error)}]})
        try:
            with AnswerSize(waits=not writes) as answer:
                return as_body(self._in_transaction(document, variables, account, request, answer, writes=writes))
        except BusyAnswer:
            raise HTTPException(503, "the server makes other large answers: try again.", headers={"retry-after": "5"}) from None

    def _in_transaction(
        self,
        document: DocumentNode,
        variables: dict[str, Any],
        account: Account,
        request: Request,
        answer: AnswerSize,
        *,
        writes: bool,
    ) -> dict[str, Any]:
        base, client = self.base_of(request), shared_runs.client_of(request.headers)
        try:
            with self.database.session(writing=writes) as session:
                context = Context(session, account, self.files, self.searches, self.database, self.pulses, base, answer, client)
                result = self.schema.execute(document, variables, context)
                if result.errors:
                    session.rollback()
                    for error in result.errors:
                        if (cause := failing(error.original_error)) is not None:
                            raise cause
                    gone = [error for error in result.errors if isinstance(error.original_error, GoneError)]
                    if gone:
                        raise HTTPException(404, gone[0].message)
                return answered(result, log_failure)
        except GraphQLError as error:
            return refused(error)

    async def file_stream(self, request: Request) -> Response:
        """Take what a run streams."""
        account = await self.authenticated(request)
        values = await sent_values(request, account, lane_of=lambda _: STREAMS, in_texts=False)
        client = shared_runs.client_of(request.headers)
        receive = functools.partial(self._received, account, values, client, **request.path_params)
        return JSONResponse(await run_in_threadpool(retried, receive))

    def _received(
        self, account: Account, values: dict[str, Any], client: str | None, entity: str, project: str, run: str
    ) -> dict[str, Any]:
        with self.database.session(writing=True) as session:
            found = runs.project_of(session, account, project, entity)
            kept = None if found is None else runs.run_of(session, found, run, locked=True)
            if found is None or kept is None:
                raise HTTPException(404, f"there is no run {entity}/{project}/{run}.")
            runs.check_writable(account, found)
            self.observer.lines.inc(runs.receive(session, kept, values, client))
        if kept.state not in runs.LIVE:
            return {}
        stop = kept.stop_asked
        if not stop and kept.sweep_name is not None and "wandb-history.jsonl" in (values.get("files") or {}):
            with contextlib.suppress(segments.LostError):  # of another run, which is in the log
                stop = pruning.observe(self.database, self.searches, kept)
        return {"stopped": True} if stop else {}

    async def upload(self, request: Request) -> Response:
        """Take the content of a file; the address is the permission."""
        said = permitted(self.files, "upload", request)
        content = await self.files.receive(request.stream())

        def note() -> None:
            with self.database.session(writing=True) as session:
                run = _run_of(session, said)
                if run is None:
                    raise HTTPException(404, "the run of this file has been deleted.")
                query = sa.select(RunFile).where(RunFile.run_id == run.id, RunFile.name == said["name"])
                file = session.scalar(query) or RunFile(run_id=run.id, name=said["name"])
                file.size, file.md5, file.digest, file.updated_at = content.size, content.md5, content.digest, now()
                session.add(file)

        await run_in_threadpool(retried, note)
        return Response(status_code=200)

    async def download(self, request: Request) -> Response:
        """Give the content of a file; the address is the permission."""
        said = permitted(self.files, "download", request)

        def find() -> RunFile | None:
            with self.database.session() as session:
                run = _run_of(session, said)
                query = sa.select(RunFile).where(RunFile.name == said.get("name"))
                return None if run is None else session.scalar(query.where(RunFile.run_id == run.id))

        file = await run_in_threadpool(find)
        return await run_in_threadpool(self._given, None if file is None else file.digest)

    async def content(self, request: Request) -> Response:
        """Give a content by its SHA-256, whole or in parts; the address is the permission."""
        said = permitted(self.files, "content", request)
        return await run_in_threadpool(self._given, said["digest"])

    def _given(self, digest: str | None) -> Response:
        path = None if digest is None else self.files.path(digest)
        if path is None or not path.exists():
            raise HTTPException(404, "there is no such file.")
        # whatever a run uploads, no browser runs it as this server's page
        headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
        return FileResponse(path, media_type="application/octet-stream", headers=headers)

    async def histories(self, request: Request) -> Response:
        """Give the histories of many runs as one Parquet file."""
        account = await self.authenticated(request)
        wanted = bulk.wanted_of(await sent_values(request, account))
        pieces = await run_in_threadpool(bulk.histories, self.database, self.files, account, wanted)
        return StreamingResponse(pieces, media_type=bulk.MEDIA_TYPE)

    async def download_options(self, request: Request) -> Response:
        """Say that only pages of this server may fetch it; `wandb verify` asks."""
        return Response(
            status_code=204, headers={"access-control-allow-origin": f"{request.base_url.scheme}://{request.base_url.netloc}"}
        )

    async def telemetry(self, request: Request) -> Response:
        """Drop what the client tells its maker of its own use, piece by piece: it comes without a key."""
        async for _ in request.stream():
            pass
        return Response(media_type="application/x-protobuf")

    async def health(self, _: Request) -> Response:
        """Say that the server can keep what it is sent; 503 where it cannot."""
        fault = await self.health_of.fault()
        if fault:
            raise HTTPException(503, fault, headers={"retry-after": "5"})
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Say that the server takes requests: it can keep what it is sent, and does not end."""
        if self.stopping.is_set():
            raise HTTPException(503, "the server ends.", headers={"retry-after": "5"})
        return await self.health(request)

    async def metrics(self, request: Request) -> Response:
        """Give Prometheus its numbers; it sends a key as the client does."""
        await self.authenticated(request)
        return Response(await run_in_threadpool(self.observer.exposed), media_type="text/plain; version=0.0.4; charset=utf-8")

    def base_of(self, request: Request) -> str:
        """Return the URL of this server as a client sees it."""
        return str(request.base_url).rstrip("/")

    async def authenticated(self, request: Request) -> Account:
        """Return who asks; refusals are HTTPExceptions."""
        account = await self.keys.account(request)
        request.state.user, request.state.is_known = account.name, True
        return account


def _run_of(session: Session, said: dict[str, Any]) -> Run | None:
    """Return the run that an address was signed for; None where it has been deleted, though another may have its number."""
    run = session.get(Run, said["run"]) if "run" in said else None
    return run if run is not None and run.identity["born"] == said.get("born") else None


async def sent_values(
    request: Request,
    account: Account,
    *,
    lane_of: Callable[[dict[str, Any]], tuple[str, int]] = lambda _: OTHERS,
    in_texts: bool = True,
) -> dict[str, Any]:
    """Return the JSON object that a request carries, once it is its user's turn; a large one is read beside other requests.

    Args:
        lane_of: tells with which requests of the user this one takes turns, and how many; of large ones before they are read.
        in_texts: as of `json_of`.
    """
    await take_body_turn(request, account.id)
    body = await body_of(request, MOST_BODY, "a request")
    encoding = request.headers.get("content-encoding", "").lower()
    is_small = not encoding and len(body) < SMALL_BODY
    values = json_of(body, in_texts=in_texts) if is_small else {}
    lane, number = lane_of(values)
    await take_turn(request, (account.id, lane), number)
    if await request.is_disconnected():
        raise ClientDisconnect
    if encoding:
        body = await run_in_threadpool(unpacked, body, encoding, MOST_BODY)
    return values if is_small else await run_in_threadpool(json_of, body, in_texts=in_texts)


def lane_of_operation(values: dict[str, Any]) -> tuple[str, int]:
    """Return with which requests of its user an operation takes turns, and how many: heartbeats are heard beside all others."""
    query = values.get("query")
    return ("heartbeats", HEARTBEAT_TURNS) if isinstance(query, str) and HEARTBEAT.match(query) else OTHERS


def json_of(body: bytes, *, in_texts: bool = True) -> dict[str, Any]:
    """Return a JSON object; nothing at all is an empty one.

    Args:
        in_texts: whether what stands inside texts counts as values, too: it will be read at once. Else each text is bounded
            where it is read.

    Raises:
        HTTPException: 400 if it is anything else, 413 if it holds too many values.
    """
    if _has_too_many(body) and (
        in_texts or body.count(b'"') - body.count(b'\\"') > MOST_QUOTES or _has_too_many(TEXT.sub(b"", body))
    ):
        inside = ", those inside texts too" if in_texts else ""
        sentence = f"a request may hold at most {MOST_BRACKETS:,} lists and objects and {MOST_COMMAS:,} values{inside}."
        raise HTTPException(413, sentence)
    try:
        values = json.loads(body or b"{}")
        if b"\\u" in body or not body.isascii():
            values = fitted(values)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise HTTPException(400, "a request must be a JSON object.")
    return values


def _has_too_many(body: bytes) -> bool:
    return body.count(b"[") + body.count(b"{") > MOST_BRACKETS or body.count(b",") > MOST_COMMAS


def as_body(values: dict[str, Any]) -> bytes:
    """Return an answer as JSON; the thread that made it does so, as a large one takes a while."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def pieces_of(body: bytes) -> Response:
    """Return an answer of JSON that is sent piece by piece, as fast as the client reads."""
    if len(body) <= PIECE:
        return Response(body, media_type="application/json")

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), PIECE):
            yield body[start : start + PIECE]

    return StreamingResponse(pieces(), media_type="application/json", headers={"content-length": str(len(body))})


def log_failure(error: BaseException) -> None:
    """Write a failure of the service's own into the log."""
    log.error("a request failed", exc_info=error)
