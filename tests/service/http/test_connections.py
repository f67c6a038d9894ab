"""Connections that keep the server waiting are ended, and too many do not shut anybody out."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import h11
import pytest
import requests

from paretune.service.http import connections, turns
from paretune.service.http.connections import allowed_connections, protocol
from tests.listening import listening
from tests.service.serving import Asked, authorization
from tests.waiting import wait_until

HALF = b"POST /graphql HTTP/1.1\r\nHost: here\r\nX-Half: "


@pytest.fixture
def kind() -> type[connections.Connection]:
    return protocol(20)


@pytest.fixture
def address(tmp_path: Path, kind: type[connections.Connection], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(connections, "LINGER_SECONDS", 1.0)
    monkeypatch.setattr(connections, "STALL_SECONDS", 1.0)
    monkeypatch.setattr(turns, "BODY_SECONDS", 1.0)
    with listening(Asked(tmp_path).application(tmp_path), http=kind, ws="none", timeout_keep_alive=1) as address:
        yield address


@contextlib.contextmanager
def opened(address: str, *sent: bytes) -> Iterator[socket.socket]:
    host = urlsplit(address)
    with socket.create_connection((host.hostname or "", host.port or 0), timeout=10) as connection:
        for part in sent:
            connection.sendall(part)
        yield connection


def everything(connection: socket.socket) -> bytes:
    """Return what a server sends until it ends the connection, which it must."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def body_of(address: str, length: int, *, path: str = "/graphql", key: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n{key}\r\n"
    return head.encode() + b"{"


@pytest.mark.parametrize("sent", [b"", HALF, b"GET /ready HTTP/1.1\r\nHost: here\r\n\r\n" + HALF])
def test_half_a_request_ends(address: str, sent: bytes) -> None:
    with opened(address, sent) as connection:
        found = everything(connection)
    assert found.startswith(b"HTTP/1.1 200") == sent.startswith(b"GET")


def test_a_body_that_does_not_come_is_a_408(address: str) -> None:
    key = f"Authorization: {authorization()['authorization']}\r\n"
    for path, more in (("/graphql", key), ("/sdk/otel/v1/traces", "")):
        with opened(address, body_of(address, 100, path=path, key=more)) as connection:
            found = everything(connection)
        assert found.startswith(b"HTTP/1.1 408")
        assert b"a body must come within" in found


def test_the_rest_of_a_body_that_is_refused_is_not_waited_for(address: str) -> None:
    with opened(address, body_of(address, 10**9)) as connection:
        assert everything(connection).startswith(b"HTTP/1.1 401")


def test_a_client_that_reads_nothing_is_left(address: str) -> None:
    with contextlib.suppress(ConnectionResetError, BrokenPipeError), opened(address) as connection:
        for _ in range(10):  # 45 MB
            connection.sendall(b"GET /static/plotly.min.js HTTP/1.1\r\nHost: here\r\n\r\n")
        time.sleep(2.0)
        assert len(everything(connection)) < 40 * 10**6


def test_many_half_requests_shut_nobody_out(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 60.0)
    with contextlib.ExitStack() as stack:
        half = [stack.enter_context(opened(address, HALF)) for _ in range(40)]
        assert requests.get(f"{address}/ready", timeout=10).ok
        assert everything(half[0]) == b""  # the first had to go
        half[-1].sendall(b"\r\nContent-Length: 0\r\n\r\n")
        assert half[-1].recv(100).startswith(b"HTTP/1.1 401")


def test_many_half_bodies_of_strangers_shut_nobody_out(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "BODY_SECONDS", 60.0)
    with contextlib.ExitStack() as stack:
        half = [stack.enter_context(opened(address, body_of(address, 1000, path="/sdk/otel/v1/traces"))) for _ in range(40)]
        assert requests.get(f"{address}/ready", timeout=10).ok
        assert everything(half[0]) == b""


@pytest.mark.parametrize("length", [1000, 2**20, 2**25])
def test_many_half_bodies_of_a_user_shut_nobody_out(
    address: str, kind: type[connections.Connection], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "BODY_SECONDS", 60.0)
    sent = body_of(address, length, key=f"Authorization: {authorization()['authorization']}\r\n")
    with contextlib.ExitStack() as stack:
        half = [stack.enter_context(opened(address, sent)) for _ in range(kind.most)]
        wait_until(lambda: sum("user" in (one.scope or {}).get("state", {}) for one in list(kind._open)) == kind.most)
        assert requests.get(f"{address}/ready", timeout=10).ok
        assert everything(half[0]) == b""


@pytest.mark.parametrize(
    ("opened", "ended"),
    [
        ([("answered", True), ("sends", True), ("sends", False), ("idle", None)], 2),
        ([("answered", True), ("sends", True), ("sends", True)], 1),
        ([("answered", True), ("answered", False)], 1),
        ([("answered", True), ("idle", True)], 1),
        ([("answered", True), ("sends", True), ("idle", None), ("idle", None)], 2),
        ([("answered", True), ("answered", True)], -1),  # the new one
    ],
)
def test_the_connection_that_makes_room_is_the_one_that_is_worth_least(
    opened: list[tuple[str, bool | None]], ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, found = protocol(3), []
    states = {"answered": h11.DONE, "sends": h11.SEND_BODY, "idle": h11.IDLE}
    monkeypatch.setattr(kind, "_end", lambda connection: found.append(connection))
    for state, is_known in [*opened, ("idle", None)]:
        connection = kind.__new__(kind)
        connection.conn = SimpleNamespace(their_state=states[state])  # type: ignore[assignment]
        connection.scope = None if is_known is None else {"state": {"is_known": is_known}}  # type: ignore[assignment, typeddict-item]
        kind._open[connection] = None
    connection._make_room()
    assert found == [list(kind._open)[ended]]


def test_there_are_fewer_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changed.append(limits))
    for limits, most, raised in (
        ((1024, 1024), 704, []),
        ((1024, 4096), 3776, [(4096, 4096)]),
        ((1024, resource.RLIM_INFINITY), 4000, [(4320, resource.RLIM_INFINITY)]),
        ((10**6, 10**6), 4000, []),
        ((resource.RLIM_INFINITY,) * 2, 4000, []),
    ):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        changed.clear()
        assert (allowed_connections(), changed) == (most, raised)
