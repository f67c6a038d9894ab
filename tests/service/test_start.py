"""The server as a process: what its start prints, what it refuses, and how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paretune.service.__main__ import main
from paretune.service.store.accounts import add_user
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from tests.service.serving import KEY

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def started(data: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Start a server on any port; give it and the lines that it prints before it serves."""
    command = [sys.executable, "-m", "paretune.service", "--port", "0", "--data", str(data), *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        try:
            lines = [server.stdout.readline()]
            while "until Ctrl-C" not in lines[-1]:
                assert lines[-1], lines
                lines.append(server.stdout.readline())
            yield server, lines
        finally:
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()


def export_of(lines: list[str]) -> tuple[str, int]:
    """Return the host and port of the line to paste, which must be those that it serves at."""
    (line,) = (line for line in lines if "export WANDB_BASE_URL" in line)
    found = re.search(r"WANDB_BASE_URL=(http://(\S+):([0-9]+)) ", line)
    assert found is not None
    assert f"at {found[1]} until" in lines[-1]
    return found[2].strip("[]"), int(found[3])


def test_a_start_prints_what_to_paste_and_no_other_starts_on_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    with started(data, "--host", "127.0.0.2") as (_, lines):
        assert lines[0].startswith("created the user local")
        assert export_of(lines)[0] == "127.0.0.2"
        with socket.create_connection(export_of(lines)):
            pass
        assert data.stat().st_mode & 0o077 == 0
        with pytest.raises(SystemExit, match="2"):
            main(["--port", "0", "--data", str(data)])
        assert f"a server runs on {data} already" in capsys.readouterr().err
        assert main(["user", "add", "another", "--data", str(data)]) == 0
        assert main(["doctor", "--data", str(data)]) == 0
    with started(data) as (_, lines):
        assert f"user key NAME --data {data}" in lines[0]
        assert export_of(lines)[0] == "127.0.0.1"


def test_a_port_that_is_taken_costs_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit, match="2"):
        main(["--port", str(taken.getsockname()[1]), "--data", str(tmp_path)])
    told = capsys.readouterr()
    assert ("cannot be listened on" in told.err, told.out) == (True, "")
    with pytest.raises(SystemExit, match="2"):
        main(["user", "key", "local", "--data", str(tmp_path)])


def test_a_rate_below_zero_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--rate", "-5", "--data", str(tmp_path)])
    assert "must be a whole number from 0" in capsys.readouterr().err


def test_ctrl_c_ends_it_while_an_upload_hangs(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'service.db'}")
    add_user(database, "local", key=KEY)
    database.close()
    token = Files(tmp_path / "files").signed("upload", run=1, born="", name="a")
    with started(tmp_path) as (server, lines), socket.create_connection(export_of(lines)) as hanging:
        hanging.sendall(f"PUT /uploads/{token} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbegun".encode())
        while not any((tmp_path / "files" / "incoming").iterdir()):
            time.sleep(0.02)
        os.kill(server.pid, signal.SIGINT)
        server.wait(15)
        assert server.stdout is not None
        assert "Traceback" not in server.stdout.read()


@pytest.mark.parametrize(
    ("flags", "trusted"),
    [([], None), (["--proxy-headers"], "127.0.0.1,::1"), (["--trusted-proxies", "10.0.0.0/8,127.0.0.1"], "10.0.0.0/8,127.0.0.1")],
)
def test_a_proxy_is_believed_only_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], trusted: str | None
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    seen = []
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: seen.append((server.config, sockets[0].close())[0]))
    monkeypatch.setattr("paretune.service.http.metrics.start_log", lambda form: None)
    assert main(["--port", "0", "--data", str(tmp_path), *flags]) == 0
    assert [config.proxy_headers for config in seen] == [bool(flags)]
    assert trusted is None or [config.forwarded_allow_ips for config in seen] == [trusted]
