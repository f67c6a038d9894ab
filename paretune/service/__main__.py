"""Serve W&B's client on this machine or network, and keep its users: python -m paretune.service.

usage: python -m paretune.service [--host 127.0.0.1] [--port 8080] [--data service-data] [--database URL] [--models models]
                         [--files s3://BUCKET/PREFIX] [--rate N] [--log-format json] [--base-url URL] [--trusted-proxies ADDRESSES]
       python -m paretune.service user add NAME [--key KEY] [--role member] [--team TEAM]
       python -m paretune.service user list | key NAME | revoke NAME | role NAME ROLE | team NAME TEAM [--leave] | remove NAME
       python -m paretune.service backup FILE.tar|FOLDER
       python -m paretune.service restore FILE.tar|FOLDER --data NEW_FOLDER
       python -m paretune.service doctor [--full]

The first start creates the user `local` and prints the lines to paste. Everything is kept in the folder of --data; --database
names a PostgreSQL instead of the SQLite file there.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.service.store.safe_json import is_whole

URL_FORM = re.compile(r"https?://[^/?#@\s]+(/[\w.~-]+)*/?", re.ASCII)
HOST, PORT = "127.0.0.1", 8080


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.service", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add_places(parser)
    parser.add_argument("--host", default=HOST, help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=PORT, help="port to listen on (default: %(default)s)")
    parser.add_argument("--rate", type=rate, default=300, help="requests a second that each user may make; 0: any (default: 300)")
    parser.add_argument("--log-format", choices=("text", "json"), default="text", help="text: what went wrong; json: each request")
    parser.add_argument("--models", default="models", help="folder of saved models that the painter reads with (default: models)")
    parser.add_argument(
        "--base-url", metavar="URL", type=base_url, help="where clients reach the server, if a proxy stands before it"
    )
    parser.add_argument(
        "--trusted-proxies",
        metavar="ADDRESSES",
        type=proxies,
        default=None,
        help="proxies whose X-Forwarded-For counts: 127.0.0.1,10.0.0.0/8",
    )
    parser.add_argument(
        "--proxy-headers",
        dest="trusted_proxies",
        action="store_const",
        const="127.0.0.1,::1",
        help="the same as --trusted-proxies 127.0.0.1,::1",
    )
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
        from paretune.service.commands import carry_out  # SQLAlchemy and the server: only once the flags are read

        return carry_out(options)


def rate(text: str) -> int:
    """Read --rate.

    Raises:
        ArgumentTypeError: if it is no whole number from 0.
    """
    if not is_whole(text):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 (any number of requests). Got {text!r}.")
    return int(text)


def base_url(text: str) -> str:
    """Read --base-url, and return it without a slash at its end.

    Raises:
        ArgumentTypeError: if it is none.
    """
    if not URL_FORM.fullmatch(text):
        raise argparse.ArgumentTypeError(f"must be http:// or https://, a host, and perhaps a path. Got {text!r}.")
    return text.rstrip("/")


def proxies(text: str) -> str:
    """Read --trusted-proxies.

    Raises:
        ArgumentTypeError: if one is neither an address nor a network.
    """
    for part in text.split(","):
        try:
            ipaddress.ip_network(part.strip())
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"must be addresses or networks, parted by commas, such as 10.0.0.0/8. Got {part!r}."
            ) from None
    return text


def add_places(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Add the flags that say where things are kept; `again` for a command below one that has them already."""
    none = argparse.SUPPRESS if again else None
    parser.add_argument("--data", default=argparse.SUPPRESS if again else "service-data", help="folder of everything that is kept")
    parser.add_argument("--database", default=none, help="URL of a PostgreSQL (default: SQLite in --data)")
    parser.add_argument("--files", default=none, help="URL of a bucket for contents, such as s3://name/prefix")


if __name__ == "__main__":
    sys.exit(main())
