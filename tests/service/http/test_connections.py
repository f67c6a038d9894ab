"""Connections that keep the server waiting are ended, and too many do not shut anybody out."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from paretune.service.http import connections, turns
from paretune.service.http.connections import allowed_connections, protocol
from tests.listening import listening
from tests.service.serving import Asked, authorization

HALF = b"POST /graphql HTTP/1.1\r\nHost: here\r\nX-Half: "


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.2)
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(turns, "BODY_SECONDS", 0.2)
    with listening(Asked(tmp_path).application(tmp_path), http=protocol(20), ws="none", timeout_keep_alive=1) as address:
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
        time.sleep(0.5)
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
