"""The server process: sockets, start-up messages, and serving until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import functools
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from paretune.core.errors import UsageError
from paretune.core.locks import locked
from paretune.painter.sockets import is_loopback, network_address, open_socket, page_address
from paretune.service.http import metrics
from paretune.service.http.app import application
from paretune.service.http.connections import ACCEPTED_AT_ONCE, Server, allowed_connections, protocol
from paretune.service.places import files_of
from paretune.service.store.accounts import FIRST_USER, add_user, has_users
from paretune.service.store.database import Database
from paretune.service.sweeps.searches import Searches
from paretune.service.web.login import Logins
from paretune.service.web.pages import application as web_pages
from paretune.service.web.painter import painter_of

SWITCH = 0.0005  # seconds for which a thread that computes keeps others waiting (Python: 0.005)
GRACE = 5  # seconds that Ctrl-C leaves to requests that have not ended


@contextlib.contextmanager
def only_server(options: argparse.Namespace) -> Iterator[None]:
    """Be the only server of a folder with SQLite, whose sweeps two would spoil; several may share a PostgreSQL.

    Raises:
        UsageError: if another server runs on it.
    """
    if options.database:
        yield
        return
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(Path(options.data) / "server.lock", wait=False))
        except BlockingIOError:
            raise UsageError(
                f"a server runs on {options.data} already: end it first, or name another folder with --data."
            ) from None
        yield


def client_address(listening: socket.socket) -> str:
    """Return where clients find the server: those of the network, where it serves them."""
    address = page_address(listening).rstrip("/")
    if listening.getsockname()[0] in ("0.0.0.0", "::"):
        return address.replace("127.0.0.1", network_address() or "127.0.0.1")
    return address


def print_lines(database: Database, options: argparse.Namespace, address: str) -> None:
    """Print what to paste; the first start makes the user `local` and shows its key."""
    if has_users(database):
        places = [f" --{name} {value}" for name in ("data", "database") if (value := getattr(options, name))]
        print(f"to use this server, paste with a key (a new one: python -m paretune.service user key NAME{''.join(places)}):")
        print(f"  export WANDB_BASE_URL={address} WANDB_API_KEY=KEY")
        return
    key = add_user(database, FIRST_USER, role="admin")
    print(f"created the user {FIRST_USER}; its key is shown this once. To use this server, paste:")
    print(f"  export WANDB_BASE_URL={address} WANDB_API_KEY={key}")


def serve(database: Database, options: argparse.Namespace) -> None:
    """Serve until Ctrl-C.

    Raises:
        UsageError: if the port cannot be listened on, or the network is to be served while nobody has a key yet.
    """
    if not has_users(database) and not is_loopback(options.host):
        raise UsageError(
            f"--host {options.host} would open the server to a network while nobody has a key: "
            "add a user first, by python -m paretune.service user add NAME."
        )
    listening = open_socket(options.host, options.port)
    address = options.base_url or client_address(listening)
    print_lines(database, options, address)
    files = files_of(options)
    searches = Searches(options.database or f"sqlite:///{Path(options.data).resolve() / 'studies.db'}")
    logins = Logins(database, files)
    pages = web_pages(
        database,
        files,
        searches,
        logins=logins,
        painter=functools.partial(painter_of, Path(options.models), Path(options.data) / "drawings"),
        own_names=is_loopback(options.host),
        own_host=None if options.base_url is None else urlsplit(options.base_url).netloc,
    )
    print(f"serving W&B's client at {address} until Ctrl-C", flush=True)
    link = logins.new_link(FIRST_USER) if is_loopback(options.host) else None
    if link is not None:
        first_page = page_address(listening) if options.base_url is None else f"{options.base_url}/"
        print(f"the pages, once within an hour: {first_page}login/{link}", flush=True)
    metrics.start_log(options.log_format)
    app = application(database, files, searches, pages, rate=options.rate, base_url=options.base_url)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        log_config=None,
        proxy_headers=bool(options.trusted_proxies),
        forwarded_allow_ips=options.trusted_proxies,
        timeout_graceful_shutdown=GRACE,
        http=protocol(allowed_connections()),
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
    )
    sys.setswitchinterval(SWITCH)
    try:
        Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        print()
    finally:
        searches.close()
