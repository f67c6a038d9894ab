"""A PostgreSQL server of the tests' own, on a free port of this machine, from Debian's packages."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


def binaries() -> Path | None:
    """Return the folder of initdb and pg_ctl; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in folders if (folder / "pg_ctl").is_file()), None)


needs_postgres = pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed (apt-get install postgresql)")


def free_port() -> int:
    """Return a port that nobody listens on, below those that a system gives to whoever asks for any: none takes it meanwhile."""
    choice = random.SystemRandom()
    while True:
        port = choice.randrange(20_000, 32_000)
        with suppress(OSError), socket.socket() as server:
            server.bind(("127.0.0.1", port))
            return port


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Start a server with its data below `folder`; yield its URL; stop it."""
    programs = binaries()
    assert programs is not None, "PostgreSQL is not installed"
    data, port = folder / "postgres", free_port()
    if os.geteuid() == 0:
        data.mkdir(parents=True)
        shutil.chown(data, "postgres", "postgres")
    _call(data, "initdb", "-A", "trust", "-U", "sweep", "--no-sync", "-E", "UTF8", "--locale=C")
    _start(data, port)
    try:
        yield f"postgresql://sweep@127.0.0.1:{port}/postgres"
    finally:
        _call(data, "pg_ctl", "-m", "immediate", "stop")


@contextmanager
def postgres_away(folder: Path, url: str) -> Iterator[None]:
    """Stop the server of `postgres` for a while."""
    data = folder / "postgres"
    _call(data, "pg_ctl", "-m", "fast", "stop")
    try:
        yield
    finally:
        _start(data, int(url.rpartition(":")[2].partition("/")[0]))


def _start(data: Path, port: int) -> None:
    settings = f"-F -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -p {port}"
    _call(data, "pg_ctl", "-o", settings, "-l", str(data / "log"), "-w", "start")


def _call(data: Path, program: str, *arguments: str) -> None:
    programs = binaries()
    assert programs is not None
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # the server refuses to run as root
    for parent in data.parents if as_user else ():  # another run of pytest may close them again
        if parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(parent.stat().st_mode | 0o011)
    command = [*as_user, str(programs / program), "-D", str(data), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120)
    log = data / "log"
    said = f"{done.stdout}{done.stderr}{log.read_text()[-4000:] if log.is_file() else ''}"
    assert done.returncode == 0, f"{program} ended with {done.returncode}: {said}"
