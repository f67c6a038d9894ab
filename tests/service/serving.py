"""A service of its own for tests: in this process for requests, or listening for the real client."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.testclient import TestClient

from paretune.service.http.app import application
from paretune.service.store.accounts import add_user
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.sweeps.searches import Searches
from tests.listening import listening as served

KEY = "local-" + "k" * 40
PYTHON = sys.executable  # of the client; the fixture `each_client` changes it
GRACE = 60.0  # seconds in which a program ends by itself once it has said all
MOST_STUCK = 2  # programs of one run of the tests that need not
stuck: list[str] = []  # where they were


def authorization(key: str = KEY) -> dict[str, str]:
    """Return the header that the client sends."""
    return {"authorization": "Basic " + b64encode(f"api:{key}".encode()).decode()}


def forged(token: str) -> str:
    """Return a token, or an address that ends with one, with another signature.

    Its first character is changed: bits of the last one are padding, and a change of those alone leaves the signature as it was.
    """
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


class Asked:
    """A service in this process, asked as the user `someone`."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.storage = url or f"sqlite:///{folder / 'studies.db'}"
        self.database = Database(url or f"sqlite:///{folder / 'service.db'}")
        self.files = Files(folder / "files")
        add_user(self.database, "someone", key=KEY)
        self.client = TestClient(self.application(folder), headers=authorization(), raise_server_exceptions=False)

    def application(self, folder: Path, **options: Any) -> Starlette:
        """Return the service as it is after a start."""
        self.searches = Searches(self.storage)
        return application(self.database, self.files, self.searches, **options)

    def unlimited(self, folder: Path) -> TestClient:
        """Return a client that may ask as often as it likes."""
        return TestClient(self.application(folder, rate=0), headers=authorization(), raise_server_exceptions=False)

    def ask(self, query: str, /, *, key: str = KEY, **variables: Any) -> Any:
        """Return the data of an operation, which must have no errors."""
        answer = self.told(query, key=key, **variables)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def told(self, query: str, /, *, key: str = KEY, **variables: Any) -> dict[str, Any]:
        """Return the whole answer of an operation."""
        body = json.dumps({"query": query, "variables": variables, "operationName": ""})
        response = self.client.post("/graphql", content=body, headers=authorization(key))
        assert response.status_code == 200, response.text
        return response.json()

    def stream(
        self, run: str, *, key: str = KEY, project: str = "tried", entity: str = "someone", client: str | None = None, **body: Any
    ) -> Any:
        """Stream into a run, as a process `client` of a shared one where it is given, and return the answer."""
        address = f"/files/{entity}/{project}/{run}/file_stream"
        shared = {} if client is None else {"X-WANDB-USE-ASYNC-FILESTREAM": "true", "X-WANDB-ASYNC-CLIENT-ID": client}
        return self.client.post(address, content=json.dumps(body), headers={**authorization(key), **shared})

    def run(self, name: str = "r1", **values: Any) -> str:
        """Create or change a run of the project `tried`, and return its identifier."""
        query = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
        answer = self.ask(query, input={"name": name, "modelName": "tried", **values})
        return str(answer["upsertBucket"]["bucket"]["id"])


@contextlib.contextmanager
def listening(folder: Path) -> Iterator[str]:
    """Serve on a free port of this machine, for the user `someone`; give the address."""
    database = Database(f"sqlite:///{folder / 'service.db'}")
    add_user(database, "someone", key=KEY)
    searches = Searches(f"sqlite:///{folder / 'studies.db'}")
    with served(application(database, Files(folder / "files"), searches)) as address:
        yield address
    database.close()


def client(address: str, folder: Path, program: str, **more: str) -> Any:
    """Run a program with the real client against the service; return what it prints last, as JSON.

    The client has been seen to stay, its answers all printed, in its own exit, where it waits for threads and a process of its own.
    What a program has printed counts then, too: Python's watchdog, which its last line sets, says where it stands and ends it. A
    program that fails, or waits for the service, does not reach that line.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {
        "WANDB_BASE_URL": address,
        "WANDB_API_KEY": KEY,
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    last = "import faulthandler, sys; sys.stdout.flush()"
    last += f"; faulthandler.dump_traceback_later({GRACE}, exit=True, file=sys.__stderr__)"
    done = subprocess.run(
        [PYTHON, "-c", f"{textwrap.dedent(program)}\n{last}"],
        cwd=folder,
        env={**environment, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    if done.returncode and "Timeout (" in done.stderr:
        stuck.append(done.stderr[-3000:])
        assert len(stuck) <= MOST_STUCK, f"clients do not end; they stand here: {stuck}"
    else:
        assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
