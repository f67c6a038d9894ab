"""What a person sees of the server at work: numbers for Prometheus, and a log of requests."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paretune.service.store.database import Database
from paretune.service.store.tables import Agent, Run, Sweep, now
from paretune.service.sweeps.agents import SILENCE

MINUTE, MOST_LINES = 60.0, 100  # seconds, and the warnings and errors of a logger in them
MOST_OPERATIONS = 300  # that are counted each by its name
log = logging.getLogger("service.requests")


class Observer:
    """Counts and times the requests of one application."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        labels = ("handler", "operation", "status")
        self.requests = Counter("paretune_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram("paretune_request_seconds", "Seconds until the answer.", ("handler",), registry=self.registry)
        self.lines = Counter("paretune_lines", "Lines of history, system metrics and console taken.", registry=self.registry)
        self._operations: set[str] = set()
        self.registry.register(_Kept(database))

    def exposed(self) -> bytes:
        """Return all numbers as Prometheus reads them."""
        return generate_latest(self.registry)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Return an application whose requests are counted, timed and logged."""

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            begin, status = time.perf_counter(), 500  # which stays where the server itself fails, though the client gets 422

            async def noting(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, noting)
            finally:
                self._note(scope, status, time.perf_counter() - begin)

        return observed

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        handler = getattr(scope.get("endpoint"), "__name__", "none")
        operation = scope.get("state", {}).get("operation", "")
        if operation not in self._operations and len(self._operations) >= MOST_OPERATIONS:
            operation = "other"  # names come from outside: each would be kept for ever
        self._operations.add(operation)
        self.requests.labels(handler, operation, str(status)).inc()
        self.seconds.labels(handler).observe(seconds)
        level = logging.WARNING if status >= 400 else logging.DEBUG
        if log.isEnabledFor(level):
            user = scope.get("state", {}).get("user", "")
            # an address may hold a permission, which is nothing for a log: the handler's name says enough, or its first part
            handler = f"/{scope['path'].split('/')[1][:40]}" if handler == "none" else handler
            details = {"method": scope["method"], "handler": handler, "operation": operation, "status": status, "user": user}
            sentence = f"{scope['method']} {handler} {operation}".rstrip() + f": {status} in {seconds * 1000:.1f} ms"
            log.log(level, sentence, extra={"details": {**details, "seconds": round(seconds, 6)}})


class _Kept(Collector):
    """How much the database holds, counted when it is asked."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self.database.session() as session:
            for kind, name in ((Run, "runs"), (Sweep, "sweeps")):
                family = GaugeMetricFamily(f"paretune_{name}", f"{name.capitalize()} by state.", labels=["state"])
                counted = sa.select(kind.state, sa.func.count()).group_by(kind.state)
                for state, count in session.execute(counted):
                    family.add_metric([state], count)
                yield family
            alive = sa.select(sa.func.count()).select_from(Agent).where(Agent.heartbeat_at > now() - SILENCE)
            yield GaugeMetricFamily("paretune_agents", "Agents that spoke within a minute.", value=session.scalar(alive) or 0)


class JsonLines(logging.Formatter):
    """A log as JSON, an object a line: time, level, logger, message, and a request's details."""

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "details", {}),
        }
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values)


class Sparing(logging.Filter):
    """Leaves out the warnings and errors of a logger that writes very many, and says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, tuple[float, int]] = {}  # when the minute of a logger began, and how many lines it has had

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        begun, lines = self._windows.get(record.name, (record.created, 0))
        if record.created >= begun + MINUTE:
            if lines > MOST_LINES:
                record.msg = f"{record.getMessage()} ({lines - MOST_LINES:,} lines of {record.name} were left out before this one)"
                record.args = None
            begun, lines = record.created, 0
        self._windows[record.name] = (begun, lines + 1)
        return lines < MOST_LINES


def start_log(form: str) -> None:
    """Log to the terminal: as `text`, what went wrong; as `json`, every request."""
    handler = logging.StreamHandler()
    if form != "json":
        handler.addFilter(Sparing())
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    log.setLevel(logging.DEBUG if form == "json" else logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
