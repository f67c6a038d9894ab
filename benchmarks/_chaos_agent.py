"""An agent of `chaos.py`: asks for runs of a sweep, or writes to runs that two processes share, and notes what is acknowledged.

    python benchmarks/_chaos_agent.py raw|raw-shared|client|client-shared PORT KEY FOLDER NAME

`raw` speaks the protocol by plain HTTP as the client does: it sends until it is acknowledged. Each line of FOLDER/NAME.jsonl is
something that the server has acknowledged, or the beginning or end of a training; it is written before the next request.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import random
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ENTITY, PROJECT = "chaos", "chaos"
AGAIN = (401, 408, 429, 500, 502, 503, 504, 507)  # what W&B's client sends again
SHARED_SECONDS = 20.0  # for which the processes of a shared run write to one, before they go on to the next
BEAT_SECONDS = 1.25  # the client's are five; the server of this test is as much more impatient
TIMEOUT = 30.0  # seconds, after which the client sends again


class RefusedError(Exception):
    """The server refused something for good."""


class Journal:
    """What this process notes, a line each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)  # a line that is written outlives this process
        self._lock = threading.Lock()

    def note(self, kind: str, **values: Any) -> None:
        """Write a line with the time."""
        with self._lock:
            self._file.write(json.dumps({"kind": kind, "at": time.monotonic(), **values}) + "\n")


class Server:
    """A server that is asked until it answers."""

    def __init__(self, port: int, key: str, journal: Journal, **headers: str) -> None:
        self.port, self.journal = port, journal
        self.headers = {"authorization": f"Basic {b64encode(f'api:{key}'.encode()).decode()}", **headers}

    def send(self, method: str, path: str, body: bytes, **headers: str) -> bytes:
        """Return the answer to a request, however often it has to be sent.

        Raises:
            RefusedError: if the client would not send it again.
        """
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
                try:
                    connection.request(method, path, body, {**self.headers, **headers})
                    response = connection.getresponse()
                    content = response.read()
                finally:
                    connection.close()
                if response.status < 300:
                    return content
                if response.status not in AGAIN:
                    self.refused(path, response.status, content)
            time.sleep(random.uniform(0.2, 0.6))

    def refused(self, path: str, status: int, content: bytes) -> None:
        """Note a refusal, and give up."""
        self.journal.note("refused", path=path, status=status, text=content.decode(errors="replace")[:300])
        raise RefusedError(path)

    def ask(self, query: str, **variables: Any) -> Any:
        """Return the data of an operation."""
        content = self.send("POST", "/graphql", json.dumps({"query": query, "variables": variables}).encode())
        answer = json.loads(content)
        if answer.get("errors"):
            self.refused("/graphql", 200, content)
        return answer["data"]

    def upsert(self, run: str, **values: Any) -> None:
        """Create a run, or go on with it."""
        query = "mutation M($i: UpsertBucketInput!) { upsertBucket(input: $i) { inserted } }"
        self.ask(query, i={"name": run, "modelName": PROJECT, "entityName": ENTITY, **values})

    def stream(self, run: str, **body: Any) -> None:
        """Send a part of a run's streams."""
        self.send("POST", f"/files/{ENTITY}/{PROJECT}/{run}/file_stream", json.dumps(body).encode())

    def upload(self, run: str, name: str, content: bytes) -> None:
        """Store a file of a run, and note it; while the disk is full, its address is asked for anew, as the client does."""
        query = """mutation C($p: String!, $r: String!, $f: [String!]!) { createRunFiles(
            input: {entityName: "chaos", projectName: $p, runName: $r, files: $f}) { files { uploadUrl } } }"""
        address = self.ask(query, p=PROJECT, r=run, f=[name])["createRunFiles"]["files"][0]["uploadUrl"]
        self.send("PUT", urlsplit(address).path, content)
        self.journal.note("file", run=run, name=name, digest=hashlib.sha256(content).hexdigest())


def agent(server: Server, folder: Path, who: str) -> None:
    """Train the runs of one sweep after another."""
    while True:
        sweep = newest_sweep(folder)
        query = 'mutation A($s: String!) { createAgent(input: {host: "h", sweep: $s, projectName: "chaos", entityName: "chaos"})'
        identifier = server.ask(query + " { agent { id } } }", s=sweep)["createAgent"]["agent"]["id"]
        while True:
            command = next(iter(beat(server, identifier)), {"type": "wait"})
            if command["type"] == "exit":
                break
            if command["type"] == "run":
                with contextlib.suppress(RefusedError), training(server, command["run_id"], identifier, who):
                    train(server, command["run_id"], sweep, who)
            time.sleep(BEAT_SECONDS)
        while newest_sweep(folder) == sweep:
            time.sleep(BEAT_SECONDS)


def newest_sweep(folder: Path) -> str:
    """Return the name of the sweep that goes on."""
    return (folder / "sweep").read_text(encoding="utf-8")


def beat(server: Server, agent: str, *runs: str) -> list[dict[str, Any]]:
    """Say what an agent runs, and return what it shall do."""
    query = "mutation H($i: ID!, $r: JSONString) { agentHeartbeat(input: {id: $i, runState: $r}) { commands } }"
    commands = server.ask(query, i=agent, r=json.dumps(dict.fromkeys(runs, True)))["agentHeartbeat"]["commands"]
    return json.loads(commands)  # type: ignore[no-any-return]


@contextlib.contextmanager
def training(server: Server, run: str, agent: str, who: str) -> Iterator[None]:
    """Note when a run is trained, and report it as running meanwhile."""
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(RefusedError):
                beat(server, agent, run)

    server.journal.note("begin", run=run, who=who)
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        server.journal.note("end", run=run, who=who)
        ended.set()
        reporter.join()


def train(server: Server, run: str, sweep: str, who: str) -> None:
    """Log rows, console lines and a file; some programs need long before they begin."""
    time.sleep(random.choice([0.0, 0.0, 0.5, random.uniform(5, 45)]))
    server.upsert(run, sweep=sweep, displayName=who)
    rows = [{"_step": step, "who": who, "loss": random.random()} for step in range(random.randint(3, 40))]
    first = 0
    while first < len(rows):
        part = rows[first : first + random.randint(1, 5)]
        history = {"offset": first, "content": [json.dumps(row) for row in part]}
        console = {"offset": first, "content": [f"{who} {row['_step']}" for row in part]}
        server.stream(run, files={"wandb-history.jsonl": history, "output.log": console})
        server.journal.note("rows", run=run, first=first, rows=part)
        first += len(part)
        time.sleep(random.uniform(0.05, 0.5))
    if random.random() < 0.5:
        server.upload(run, f"media/{who}.bin", random.randbytes(random.randint(1, 400_000)))
    summary = {"offset": 0, "content": [json.dumps({"loss": rows[-1]["loss"], "who": who})]}
    server.stream(run, files={"wandb-summary.json": summary}, complete=True, exitcode=0)
    server.journal.note("ended", run=run, summary={"loss": rows[-1]["loss"], "who": who})


def shared_run() -> str:
    """Return the run that all processes of shared runs write to now."""
    return f"shared{int(time.monotonic() / SHARED_SECONDS)}"


def share(server: Server, who: str) -> None:
    """Write to one shared run after another, as a process of its own in each."""
    while True:
        run, client, first = shared_run(), f"{who}-{random.getrandbits(32):08x}", 0
        server.headers |= {"X-WANDB-USE-ASYNC-FILESTREAM": "true", "X-WANDB-ASYNC-CLIENT-ID": client}
        with contextlib.suppress(RefusedError):
            server.upsert(run)
            while shared_run() == run:
                rows = [{"_step": first + at, "who": client, "number": first + at} for at in range(random.randint(1, 4))]
                history = {"offset": first, "content": [json.dumps(row) for row in rows]}
                server.stream(run, files={"wandb-history.jsonl": history})
                server.journal.note("shared rows", run=run, who=client, first=first, count=len(rows))
                first += len(rows)
                time.sleep(random.uniform(0.05, 0.5))


def client_agent(journal: Journal, folder: Path, who: str) -> None:
    """Train runs of the newest sweep by W&B's own client and agent; what it has sent is known when a run ends."""
    import wandb

    def train() -> None:
        with wandb.init() as run:
            journal.note("begin", run=run.id, who=who)
            try:
                rows = [{"who": who, "loss": random.random()} for _ in range(random.randint(3, 20))]
                for row in rows:
                    run.log(row)
                    time.sleep(0.2)
                run.finish()
                journal.note("rows", run=run.id, first=0, rows=[{**row, "_step": step} for step, row in enumerate(rows)])
            finally:
                journal.note("end", run=run.id, who=who)

    wandb.agent(newest_sweep(folder), function=train, entity=ENTITY, project=PROJECT)


def client_share(journal: Journal, who: str) -> None:
    """Write to one shared run after another by W&B's own client."""
    import wandb

    while True:
        name, count = shared_run(), 0
        settings = wandb.Settings(mode="shared", x_label=who, x_primary=False, x_update_finish_state=False)
        run = wandb.init(entity=ENTITY, project=PROJECT, id=name, settings=settings)
        client = f"{who}-{name}"
        while shared_run() == name:
            run.log({"who": client, "number": count})
            count += 1
            time.sleep(0.2)
        run.finish()
        journal.note("shared rows", run=name, who=client, first=0, count=count)


def main(kind: str, port: str, key: str, folder: str, name: str) -> None:
    """Be the agent until killed."""
    journal = Journal(Path(folder) / f"{name}.jsonl")
    if kind == "client":
        client_agent(journal, Path(folder), name)
    elif kind == "client-shared":
        client_share(journal, name)
    elif kind == "raw-shared":
        share(Server(int(port), key, journal), name)
    else:
        agent(Server(int(port), key, journal), Path(folder), name)


if __name__ == "__main__":
    main(*sys.argv[1:])
