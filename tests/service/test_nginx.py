"""The service behind nginx, with the configuration of docs/deployment.md: the real client, uploads, and who is believed."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from paretune.service.http.app import application
from paretune.service.store.accounts import add_user
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.sweeps.searches import Searches
from tests.listening import listening
from tests.service.serving import KEY, client

ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
PROGRAM = """
    import json, os, wandb
    with wandb.init(project="proxied") as run:
        run.log({"loss": 0.5})
        open("large.bin", "wb").write(bytes(3_000_000))
        run.save("large.bin")
        artifact = wandb.Artifact("kept", type="data")
        artifact.add_file("large.bin")
        run.log_artifact(artifact)
        url = run.url
    api = wandb.Api()
    found = api.run(f"someone/proxied/{run.id}")
    found.file("large.bin").download(root="fetched")
    folder = api.artifact("someone/proxied/kept:v0").download(root="downloaded")
    rows = [row["loss"] for row in found.scan_history()]
    print(json.dumps({
        "url": url, "rows": rows, "fetched": os.path.getsize("fetched/large.bin"),
        "downloaded": os.path.getsize("downloaded/large.bin"),
    }))
"""


def documented(block: str) -> str:
    """Return the configuration that the documentation shows."""
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"```nginx\n(# {block}.*?)```", text, re.DOTALL)
    return str(found)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def nginx(folder: Path, port: int, server: str) -> Iterator[None]:
    """Run nginx with the documented configuration on a port, in front of a server."""
    folder.mkdir()
    site = documented("below a path")
    site = re.sub(r"listen .*;", f"listen 127.0.0.1:{port};", site)
    site = re.sub(r"\n *(ssl_certificate\w*|server_name) .*;", "", site).replace("http://127.0.0.1:8080", server)
    kinds = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    text = (
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; events {{}}\n"
        f"http {{ access_log off; {kinds}\n{site}\n}}\n"
    )
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    assert NGINX is not None
    with open(folder / "said", "w") as said:
        process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=said)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, (folder / "said").read_text(encoding="utf-8")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def test_the_client_works_through_nginx_below_a_path(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'service.db'}")
    add_user(database, "someone", key=KEY)
    searches = Searches(f"sqlite:///{tmp_path / 'studies.db'}")
    port = free_port()
    base = f"http://127.0.0.1:{port}/tracking"
    app = application(database, Files(tmp_path / "files"), searches, base_url=base)
    with listening(app, proxy_headers=True, forwarded_allow_ips="127.0.0.1") as server, nginx(tmp_path / "nginx", port, server):
        assert requests.get(f"{base}/ready", timeout=10).ok
        assert not requests.get(f"http://127.0.0.1:{port}/ready", timeout=10).ok  # which is nothing of ours
        page = requests.get(f"{base}/", timeout=10)
        assert page.url == f"{base}/login?next=/tracking/"
        found = client(base, tmp_path / "client", PROGRAM)
    database.close()
    assert found["url"].startswith(f"{base}/someone/proxied/runs/")
    assert (found["rows"], found["fetched"], found["downloaded"]) == ([0.5], 3_000_000, 3_000_000)
