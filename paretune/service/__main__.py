"""Serve W&B's client on this machine or network, and keep its users: python -m paretune.service.

usage: python -m paretune.service [--host 127.0.0.1] [--port 8080] [--data service-data] [--database URL] [--models models]
                         [--files s3://BUCKET/PREFIX] [--rate N] [--log-format json] [--proxy-headers]
       python -m paretune.service user add NAME [--key KEY] [--role member] [--team TEAM]
       python -m paretune.service user list | key NAME | revoke NAME | role NAME ROLE | team NAME TEAM [--leave] | remove NAME
       python -m paretune.service backup FILE.tar|FOLDER
       python -m paretune.service restore FILE.tar|FOLDER --data NEW_FOLDER
       python -m paretune.service doctor [--full]

The first start creates the user `local` and prints the lines to paste. Everything is kept in the folder of --data; --database
names a PostgreSQL instead of the SQLite file there.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError

if TYPE_CHECKING:
    import argparse
    import socket

    from paretune.service.store.database import Database
    from paretune.service.store.files import Files

HOST, PORT = "127.0.0.1", 8080
SOON = "within half a minute where the server runs"
GRACE = 5  # seconds that Ctrl-C leaves to requests that have not ended


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.service", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add_places(parser)
    parser.add_argument("--host", default=HOST, help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=PORT, help="port to listen on (default: %(default)s)")
    parser.add_argument("--rate", type=rate, default=300, help="requests a second that each user may make; 0: any (default: 300)")
    parser.add_argument("--log-format", choices=("text", "json"), default="text", help="text: what went wrong; json: each request")
    parser.add_argument("--models", default="models", help="folder of saved models that the painter reads with (default: models)")
    parser.add_argument("--proxy-headers", action="store_true", help="believe a proxy on this machine who asks (X-Forwarded-For)")
    commands = parser.add_subparsers(dest="command", metavar="user|backup|restore|doctor")
    user = commands.add_parser("user", help="list, add, change and remove users and their keys", allow_abbrev=False)
    actions = user.add_subparsers(dest="action", required=True, metavar="list|add|key|revoke|role|team|remove")
    add = actions.add_parser("add", help="create a user and print its key", allow_abbrev=False)
    key = actions.add_parser("key", help="give a user one more key and print it", allow_abbrev=False)
    revoke = actions.add_parser("revoke", help="make every key of a user void", allow_abbrev=False)
    listed = actions.add_parser("list", help="name the users, their roles, keys and teams", allow_abbrev=False)
    role = actions.add_parser("role", help="give a user another role", allow_abbrev=False)
    team = actions.add_parser("team", help="put a user into a team, or take it out", allow_abbrev=False)
    remove = actions.add_parser("remove", help="let a user in no more; its runs stay", allow_abbrev=False)
    for one in (add, key, revoke, role, team, remove):
        one.add_argument("name", metavar="NAME")
    for one in (add, key, revoke, role, team, remove, listed):
        add_places(one, again=True)
    role.add_argument("role", metavar="ROLE", help="admin, member or viewer")
    team.add_argument("team", metavar="TEAM")
    team.add_argument("--leave", action="store_true", help="take the user out of the team")
    for one in (add, key):
        one.add_argument("--key", help="a key of at least 40 characters (default: a new one)")
    add.add_argument("--role", default="member", help="admin, member (default) or viewer")
    add.add_argument("--team", help="a team that the user shares with others")
    backup = commands.add_parser("backup", help="save all that is kept, also while the server runs", allow_abbrev=False)
    restore = commands.add_parser("restore", help="make a new folder from what was saved", allow_abbrev=False)
    doctor = commands.add_parser("doctor", help="check all that is kept, and say what to do", allow_abbrev=False)
    for one, what in ((backup, "to write"), (restore, "to read")):
        one.add_argument("file", metavar="FILE", type=Path, help=f"the backup {what}: a path that ends in .tar, or a folder")
    for one in (backup, restore, doctor):
        add_places(one, again=True)
    doctor.add_argument("--full", action="store_true", help="read every content, not only its size")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        if options.command in CARE:
            from paretune.service.http.storage_failures import AwayError

            try:
                return CARE[options.command](options)
            except AwayError as error:
                raise UsageError(str(error)) from None
        database = open_database(options)
        try:
            if options.command == "user":
                change_users(database, options)
            else:
                with only_server(options):
                    serve(database, options)
        finally:
            database.close()
    return 0


def save(options: argparse.Namespace) -> int:
    """Do what `backup` asks for."""
    from paretune.service.operations.backup import back_up

    check_kept(options)
    database = open_database(options)
    try:
        print(back_up(database, files_of(options), options.file))
    finally:
        database.close()
    return 0


def make_anew(options: argparse.Namespace) -> int:
    """Do what `restore` asks for."""
    from paretune.service.operations.backup import restore

    print(restore(options.file, Path(options.data), options.database))
    return 0


def examine(options: argparse.Namespace) -> int:
    """Do what `doctor` asks for; return 1 where something is wrong."""
    from paretune.service.operations.doctor import findings

    check_kept(options)
    healthy = True
    for finding in findings(files_of(options), options.database, full=options.full):
        print(finding, flush=True)
        healthy = healthy and finding.is_well
    return 0 if healthy else 1


CARE = {"backup": save, "restore": make_anew, "doctor": examine}


def rate(text: str) -> int:
    """Read --rate.

    Raises:
        ArgumentTypeError: if it is no whole number from 0.
    """
    from argparse import ArgumentTypeError

    from paretune.service.store.safe_json import is_whole

    if not is_whole(text):
        raise ArgumentTypeError(f"must be a whole number from 0 (any number of requests). Got {text!r}.")
    return int(text)


@contextlib.contextmanager
def only_server(options: argparse.Namespace) -> Iterator[None]:
    """Be the only server of a folder with SQLite, whose sweeps two would spoil; several may share a PostgreSQL.

    Raises:
        UsageError: if another server runs on it.
    """
    import fcntl

    if options.database:
        yield
        return
    with open(Path(options.data) / "server.lock", "w") as file:  # whose end, even by a crash, frees the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"a server runs on {options.data} already: end it first, or name another folder with --data."
            ) from None
        yield


def check_kept(options: argparse.Namespace) -> None:
    """Refuse a folder that holds no service, in which one would be made.

    Raises:
        UsageError: that says which.
    """
    needed = Path(options.data) / ("files" if options.database else "service.db")
    if not needed.exists():
        raise UsageError(f"{options.data} holds no service ({needed.name} is not there): name its folder with --data.")


def add_places(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Add the flags that say where things are kept; `again` for a command below one that has them already."""
    from argparse import SUPPRESS

    parser.add_argument("--data", default=SUPPRESS if again else "service-data", help="folder of everything that is kept")
    parser.add_argument("--database", default=SUPPRESS if again else None, help="URL of a PostgreSQL (default: SQLite in --data)")
    parser.add_argument(
        "--files", default=SUPPRESS if again else None, help="URL of a bucket for contents, such as s3://name/prefix"
    )


def files_of(options: argparse.Namespace) -> Files:
    """Return the contents of files, in the bucket that the flags name or in the folder.

    Raises:
        UsageError: if they cannot be reached or written.
    """
    from paretune.service.store.bucket import Bucket
    from paretune.service.store.files import Files

    return Files(Path(options.data) / "files", None if options.files is None else Bucket(options.files))


def open_database(options: argparse.Namespace) -> Database:
    """Open the database that the flags name.

    Raises:
        UsageError: if it cannot be opened, or the folder cannot be written.
    """
    from paretune.service.store.database import Database

    folder = Path(options.data)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # there are runs, files and the secret of addresses in it
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}): choose another folder with --data.") from None
    return Database(options.database or f"sqlite:///{folder.resolve() / 'service.db'}")


def change_users(database: Database, options: argparse.Namespace) -> None:
    """Do what `user` asks for."""
    from paretune.service.store import accounts

    name = getattr(options, "name", "")
    match options.action:
        case "list":
            for user, role, keys, teams in accounts.list_users(database):
                print(f"{user}: {role}, {keys} keys" + (f", of {', '.join(teams)}" if teams else ""))
        case "add":
            key = accounts.add_user(database, name, key=options.key, role=options.role, team=options.team)
            print(f"the key of {name}, shown this once: {key}")
        case "key":
            print(f"the key of {name}, shown this once: {accounts.add_key(database, name, key=options.key)}")
        case "revoke":
            print(f"{accounts.revoke_keys(database, name)} keys of {name} are void, {SOON}")
        case "remove":
            print(f"{name} is removed and its {accounts.remove_user(database, name)} keys are void, {SOON}; its runs stay")
        case "role":
            accounts.change_role(database, name, options.role)
            print(f"{name} is {options.role}, {SOON}")
        case "team":
            (accounts.leave_team if options.leave else accounts.join_team)(database, name, options.team)
            print(f"{name} is {'out of' if options.leave else 'in'} the team {options.team}, {SOON}")


def client_address(listening: socket.socket) -> str:
    """Return where clients find the server: those of the network, where it serves them."""
    from paretune.painter.sockets import network_address, page_address

    address = page_address(listening).rstrip("/")
    if listening.getsockname()[0] in ("0.0.0.0", "::"):
        return address.replace("127.0.0.1", network_address() or "127.0.0.1")
    return address


def print_lines(database: Database, options: argparse.Namespace, address: str) -> None:
    """Print what to paste; the first start makes the user `local` and shows its key."""
    from paretune.service.store.accounts import FIRST_USER, add_user, has_users

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
    import uvicorn

    from paretune.painter.sockets import is_loopback, open_socket, page_address
    from paretune.service.http.app import application
    from paretune.service.http.metrics import start_log
    from paretune.service.store.accounts import FIRST_USER, has_users
    from paretune.service.sweeps.searches import Searches
    from paretune.service.web import pages as web
    from paretune.service.web.login import Logins
    from paretune.service.web.painter import painter_of

    if not has_users(database) and not is_loopback(options.host):
        raise UsageError(
            f"--host {options.host} would open the server to a network while nobody has a key: "
            "add a user first, by python -m paretune.service user add NAME."
        )
    listening = open_socket(options.host, options.port)
    address = client_address(listening)
    print_lines(database, options, address)
    files = files_of(options)
    searches = Searches(options.database or f"sqlite:///{Path(options.data).resolve() / 'studies.db'}")
    logins = Logins(database, files)
    pages = web.application(
        database,
        files,
        searches,
        logins=logins,
        painter=functools.partial(painter_of, Path(options.models), Path(options.data) / "drawings"),
        own_names=is_loopback(options.host),
    )
    print(f"serving W&B's client at {address} until Ctrl-C", flush=True)
    link = logins.new_link(FIRST_USER) if is_loopback(options.host) else None
    if link is not None:
        print(f"the pages, once within an hour: {page_address(listening)}login/{link}", flush=True)
    start_log(options.log_format)
    app = application(database, files, searches, pages, rate=options.rate)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        log_config=None,
        proxy_headers=options.proxy_headers,
        timeout_graceful_shutdown=GRACE,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        print()
    finally:
        searches.close()


if __name__ == "__main__":
    sys.exit(main())
