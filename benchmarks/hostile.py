"""The service under hostile load: how long other users wait, and how much memory it takes.

A member reads pages of runs and streams rows, 4 requests at once: alone; beside clients without a key (1,100 half requests, and
the server may open 1,024 files; 40 half-sent bodies of 32 MB; wrong keys); and beside 8 clients with a viewer's key (documents
that would take long to validate, or answer with a gigabyte; a sweep of 400,000 values; 300,000 names of files; bodies of 28 MB),
with 600 half-sent bodies of 1 MiB beside them.
`ours` is the 95th percentile of the member's seconds under load, `theirs` the one without, in the same run.

    python benchmarks/hostile.py [--json] [--quick]

Goals: at most 5 times as long (a ratio of 0.2); at most 600 MB of memory above idle.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import json
import multiprocessing
import random
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._result import Result, show, times
from benchmarks.service import ROOT, started

KEYS = {name: f"local-{name[0] * 40}" for name in ("member", "viewer")}
SECONDS, WARM_UP = 30.0, 3.0
OPEN_FILES = 1024
PAUSE = 0.02  # seconds between two requests of a member's thread
RUNS, CONFIG = 1000, 20_000  # runs of the project, and letters of the config of each
PROJECT = '{ project(name: "load", entityName: "shared") { '


def main() -> int:
    """Measure, and print the rows."""
    parser = argparse.ArgumentParser(description="The service under hostile load.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="a third of the time")
    options = parser.parse_args()
    seconds = SECONDS / 3 if options.quick else SECONDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with started(server_command(folder), "/healthz", folder) as port:
            server = process_of(port)
            fill(port)
            results = measured(port, server, seconds)
        size = sum(path.stat().st_size for path in folder.glob("*.log"))
    results.append(Result("log of the server", size / 2**20, None, "MB", goal=5.0))
    show(results, as_json=options.json, notes=[f"{seconds:g} s each; the server may open {OPEN_FILES} files"])
    return 0


def measured(port: int, server: int, seconds: float) -> list[Result]:
    """Return every row."""
    waits(port, WARM_UP)
    idle, memory = waits(port, seconds), resident(server)
    results = []
    for name in KINDS:
        with highest(server) as peak, hostile(name, port) as counted:
            time.sleep(WARM_UP + 2)  # its process starts
            found = waits(port, seconds)
        results.append(times(f"95 of 100 requests of others, beside load {name}", found, idle, goal=0.2))
        results.append(Result(f"memory above idle, load {name}", max(peak) - memory, None, "MB", goal=600))
        results.append(Result(f"hostile requests answered, {name}", counted.value, None, "", None))
    return results


# -- the member


def waits(port: int, seconds: float) -> float:
    """Return the 95th percentile of the seconds that a member waits for an answer."""
    end, found = time.monotonic() + seconds, []

    def work(number: int) -> None:
        step = 0
        while time.monotonic() < end:
            step += 1
            row = {"offset": random.randrange(10**6), "content": [json.dumps({"_step": step, "loss": 0.5})]}
            runs = PROJECT + "runs(first: 20) { edges { node { id name state createdAt } } } } }"
            for path, body in (
                ("/graphql", {"query": runs}),
                (f"/files/shared/load/own{number}/file_stream", {"files": {"wandb-history.jsonl": row}}),
            ):
                begin = time.perf_counter()
                ask(port, path, json.dumps(body).encode(), "member")
                found.append(time.perf_counter() - begin)
            time.sleep(PAUSE)

    in_threads([functools.partial(work, number) for number in range(4)])
    return statistics.quantiles(found, n=20)[-1]


def fill(port: int) -> None:
    """Create the runs of the project that is read."""
    text = "mutation M($i: UpsertBucketInput!) { upsertBucket(input: $i) { inserted } }"
    config = json.dumps({"text": {"value": "x" * CONFIG}})
    for name in [f"own{number}" for number in range(4)] + [f"r{number}" for number in range(RUNS)]:
        values = {"name": name, "modelName": "load", "entityName": "shared", "config": config}
        ask(port, "/graphql", json.dumps({"query": text, "variables": {"i": values}}).encode(), "member")


def ask(port: int, path: str, body: bytes, user: str | None) -> int:
    """Send a request, read the answer, and return its status; a member's must be 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {} if user is None else {"authorization": "Basic " + b64encode(f"api:{KEYS.get(user, user)}".encode()).decode()}
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        text = response.read()
    if user == "member" and response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {text[:200]!r}")
    return response.status


# -- hostile clients, in a process of their own


@contextlib.contextmanager
def hostile(name: str, port: int) -> Iterator[Any]:
    """Have hostile clients ask until the end; give the number of their requests that are answered, as `value`."""
    context = multiprocessing.get_context("spawn")
    ends, counted = context.Event(), context.Value("i", 0)
    process = context.Process(target=KINDS[name], args=(port, ends, counted), daemon=True)
    process.start()
    try:
        yield counted
    finally:
        ends.set()
        process.join(150)


def strangers(port: int, ends: Any, counted: Any) -> None:
    """Send half requests, half bodies and wrong keys until the end."""

    def wrong() -> None:
        while not ends.wait(0.01):
            with contextlib.suppress(OSError, http.client.HTTPException):
                ask(port, "/graphql", b"{}", f"local-{random.randrange(10**40):040}")
                counted.value += 1

    head = b"POST /sdk/otel/v1/traces HTTP/1.1\r\nHost: here\r\nContent-Length: 33000000\r\n\r\n"
    works = [lambda: half(port, ends, b"POST /graphql HTTP/1.1\r\nX-Half: ", 1100), wrong]
    in_threads([*works, *[lambda: half(port, ends, head + bytes(32_000_000), 10)] * 4])


def half(port: int, ends: Any, sent: bytes, count: int) -> None:
    """Open connections, send the same part of a request on each, and leave them so; again and again until the end."""
    while not ends.is_set():
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                with contextlib.suppress(OSError):
                    one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=0.5))
                    one.sendall(sent)
            ends.wait(15.0)


def viewers(port: int, ends: Any, counted: Any) -> None:
    """Send requests with a viewer's key from 8 clients, and half-sent ones from 4, until the end."""
    bodies = hostile_bodies()

    def work(number: int) -> None:
        turn = number
        while not ends.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                ask(port, "/graphql", bodies[turn % len(bodies)], "viewer")
                counted.value += 1
            turn += 1

    key = b64encode(f"api:{KEYS['viewer']}".encode()).decode()
    head = f"POST /graphql HTTP/1.1\r\nHost: here\r\nAuthorization: Basic {key}\r\nContent-Length: {2**20}\r\n\r\n".encode()
    works = [functools.partial(half, port, ends, head + b" " * (2**20 - 1), 150)] * 4
    in_threads([*works, *[functools.partial(work, number) for number in range(8)]])


KINDS = {"without a key": strangers, "with a viewer's key": viewers}


def hostile_bodies() -> list[bytes]:
    """Return what is cheap to send and was dear to answer."""
    names = " ".join(f"a{number}: config" for number in range(40))
    lists = " ".join(f"a{number}: history" for number in range(14))
    sweep = "method: grid\nparameters: {x: {values: [" + ", ".join(map(str, range(400_000))) + "]}}\n"
    upsert = "mutation M($i: UpsertSweepInput!) { upsertSweep(input: $i) { sweep { id } } }"
    create = "mutation M($i: CreateRunFilesInput!) { createRunFiles(input: $i) { runID } }"
    place = {"entityName": "shared", "projectName": "load"}
    documents: list[tuple[str, object]] = [
        ("{" + "viewer { teams { edges { node { id name } } } } " * 225 + "}", {}),
        (PROJECT + f"runs(first: 1000) {{ edges {{ node {{ {names} }} }} }} }} }}", {}),
        (PROJECT + f"runs(first: 1000) {{ edges {{ node {{ {lists} }} }} }} }} }}", {}),
        (PROJECT + "runs(first: 1000) { edges { node { id name state config summaryMetrics } } } } }", {}),
        (upsert, {"i": {**place, "config": sweep}}),
        (create, {"i": {**place, "runName": "r1", "files": [f"f{number}" for number in range(300_000)]}}),
        (create, {"i": {**place, "runName": "r1", "files": ["x" * 1000] * 20_000}}),
        ("{ viewer { id } }", {"i": [0.5] * 7_000_000}),
    ]
    return [json.dumps({"query": query, "variables": variables}, separators=(",", ":")).encode() for query, variables in documents]


# -- the server


def server_command(folder: Path) -> Callable[[int], list[str]]:
    """Return how the service is started on a port, with a member and a viewer of one team."""
    data = str(folder / "data")
    for name, key in KEYS.items():
        add = ["user", "add", name, "--key", key, "--role", name, "--team", "shared", "--data", data]
        subprocess.run([sys.executable, "-m", "paretune.service", *add], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    command = shlex.join([sys.executable, "-m", "paretune.service", "--data", data, "--rate", "0", "--port"])
    return lambda port: ["bash", "-c", f"ulimit -n {OPEN_FILES}; exec {command} {port}"]


def process_of(port: int) -> int:
    """Return the process that was started for a port."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().endswith(f"--port\0{port}\0".encode()):
                return int(path.parent.name)
    raise RuntimeError("the server was not found in /proc.")


def resident(process: int) -> float:
    """Return the megabytes of memory that a process has."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(found) / 1024


@contextlib.contextmanager
def highest(process: int) -> Iterator[list[float]]:
    """Give the memory that a process has, read 20 times a second until the end."""
    found, ends = [resident(process)], threading.Event()

    def watch() -> None:
        while not ends.wait(0.05):
            found.append(resident(process))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ends.set()
        thread.join()


def in_threads(works: Sequence[Callable[[], None]]) -> None:
    """Do work in threads, all of it."""
    faults: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


if __name__ == "__main__":
    sys.exit(main())
