"""Sockets to serve pages on."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from trainers.errors import UsageError

HOST = "127.0.0.1"
PORTS = range(8080, 8100)  # tried in turn where none is named


def open_socket(host: str, port: int | None) -> socket.socket:
    """Return a socket that is bound to a port: the one that is named (0 is any), or the first of PORTS that is free.

    Raises:
        UsageError: if the port is taken or not allowed, or the host is no address of this machine.
    """
    ports: Sequence[int] = PORTS if port is None else [port]
    for candidate in ports:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's delay of 40 ms on
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((host, candidate))
        except (OSError, OverflowError):
            opened.close()
            continue
        return opened
    if port is None:
        raise UsageError(f"--host {host}: the ports {PORTS[0]} to {PORTS[-1]} cannot be listened on: name another with --port.")
    raise UsageError(f"port {port} of {host} cannot be listened on, as it is taken or not allowed: name another with --port.")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is of this machine alone."""
    return host.startswith("127.") or host in ("localhost", "::1")
