"""Sockets to serve pages on."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from paretune.core.errors import UsageError

HOST = "127.0.0.1"
PORTS = range(8080, 8100)  # tried in turn where none is named


def open_socket(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens on a port: the one that is named (0 is any), or the first of PORTS that is free.

    Whoever comes before the server answers waits, and no other server can take the port meanwhile.

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
            opened.listen(1024)
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


def page_address(listening: socket.socket) -> str:
    """Return where a browser on this machine finds the page."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def network_address() -> str | None:
    """Return this machine's address in its network, None where it has none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("10.255.255.255", 1))
            return str(asked.getsockname()[0])
        except OSError:
            return None


def is_own_name(host: str) -> bool:
    """Whether a Host header names this machine: an address, localhost, or its own name.

    Another site's name that was made to lead here (DNS rebinding) is none of these.
    """
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        own = socket.gethostname().lower()
        return name.lower() in ("localhost", own, f"{own}.local")
    return True
