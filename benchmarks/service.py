"""The service beside MLflow's tracking server on this machine: rows taken, requests, listings, histories; and an agent's heartbeat.

Both keep everything in SQLite in a folder of their own, and are asked by the same plain HTTP client, with bodies made before the
clock starts: 8 senders, 100 rows of 10 metrics a request (the most that MLflow takes at once). The heartbeat of 50 agents, each
once a second (the client: every five), is timed in turn with an empty handler of the same framework under the same load.

    python benchmarks/service.py [--json] [--mlflow PATH] [--quick]
    python benchmarks/service.py --sync [--json] [--quick]      what it costs that all that is acknowledged is on the disk

Goals: 5 times MLflow's rows a second; listing and filtering no slower; 95 of 100 heartbeats within 5 times the empty handler's;
histories 10 times faster by the bulk endpoint than one by one. MLflow is no dependency of this project: install it in an
environment of its own (python -m venv E; E/bin/pip install mlflow), and give --mlflow E/bin/mlflow
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._result import Result, medians_in_turn, show, times

ROOT = Path(__file__).resolve().parents[1]
KEY = "local-" + "b" * 40
SENDERS, AGENTS = 8, 50
ROWS, METRICS = 100, 10  # of a request; their product is the most that MLflow takes
PAGE = 1000
NAMES = [f"metric{number}" for number in range(METRICS)]
UNSYNCED = """
import os
from paretune.service.store import database
os.fsync, prepare = lambda _: None, database._as_a_server
def unsynced(connection, record):
    prepare(connection, record)
    connection.execute("PRAGMA synchronous = NORMAL")
database._as_a_server = unsynced
from paretune.service.__main__ import main
raise SystemExit(main())
"""
EMPTY = """
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
async def empty(request):
    await request.body()
    return Response(status_code=204)
app = Starlette(routes=[Route("/graphql", empty, methods=["POST"]), Route("/healthz", empty)])
"""


def main() -> int:
    """Measure, and print the rows."""
    parser = argparse.ArgumentParser(description="The service beside MLflow's tracking server.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--mlflow", default=shutil.which("mlflow"), metavar="PATH", help="MLflow's program (default: from PATH)")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--sync", action="store_true", help="measure the service beside itself without syncing, and nothing else")
    options = parser.parse_args()
    part = 10 if options.quick else 1
    if options.sync:
        with tempfile.TemporaryDirectory() as name:
            show(synced(Path(name), part), as_json=options.json, notes=["ours: all is synced; theirs: the service without it"])
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.ExitStack() as stack:
            ours = Ours(stack.enter_context(started(ours_command(folder), "/healthz", folder)))
            theirs = None
            if options.mlflow:
                theirs = Theirs(stack.enter_context(started(mlflow_command(options.mlflow, folder), "/health", folder)))
            empty = stack.enter_context(started(empty_command(folder), "/healthz", folder))
            results = measured(ours, theirs, empty, part)
    notes = [f"{SENDERS} senders, {ROWS} rows of {METRICS} metrics a request; {os.cpu_count()} cores for servers and senders alike"]
    if theirs is None:
        notes.append("MLflow was not found: install it in an environment of its own, and give --mlflow PATH")
    show(results, as_json=options.json, notes=notes)
    return 0


def measured(ours: Ours, theirs: Theirs | None, empty: int, part: int) -> list[Result]:
    """Return every row; `part` divides the amounts."""
    sides: list[Any] = [ours] if theirs is None else [ours, theirs]
    results = []

    def beside(name: str, unit: str, measure: Callable[[Any], float], goal: float | str | None = None) -> None:
        mine, *other = [measure(side) for side in sides]
        ratio = None if not other else mine / other[0] if unit.endswith("/s") else other[0] / mine
        results.append(Result(name, mine, other[0] if other else None, unit, ratio, goal))

    histories = 1000 // part
    turns = {side: iter(range(3)) for side in sides}
    pace = medians_in_turn({id(side): functools.partial(rows_taken, side, histories // 2, turns[side]) for side in sides}, 3)
    beside("rows taken", "rows/s", lambda side: pace[id(side)], goal=5.0)
    beside("a run read, 8 at once", "requests/s", lambda side: requests(side, 4000 // part))
    runs = 10_000 // part
    for side in sides:
        in_parallel(side.create, [(f"listed{number}", number / runs) for number in range(runs)])
    beside(f"{runs:,} runs listed", "s", lambda side: timed(lambda: expect(len(side.listed()), runs)), goal=1.0)
    beside("a tenth of them filtered", "s", lambda side: timed(lambda: expect(len(side.listed(above=0.9)), runs // 10)), goal=1.0)
    names = [f"taken{number}" for number in range(histories // 2 * 3)]
    in_parallel(ours.end, [(name,) for name in names])
    first = timed(lambda: expect(ours.histories("taken"), len(names) * ROWS))
    one_by_one = timed(lambda: expect(sum(map(ours.history, names)), len(names) * ROWS))
    bulk = statistics.median(timed(lambda: expect(ours.histories("taken"), len(names) * ROWS)) for _ in range(3))
    results.append(times("the first time, which lays them down as Parquet", first, one_by_one))
    results.append(times(f"{len(names):,} histories at once, beside one by one", bulk, one_by_one, goal=10.0))
    if theirs is not None:
        some = names[::10]
        other = timed(lambda: expect(sum(map(theirs.history, some)), len(some) * ROWS)) * len(names) / len(some)
        results.append(times(f"{len(names):,} histories at once, beside MLflow's (a tenth of them, times ten)", bulk, other))
    results += heartbeats(ours, empty, 30.0 / part)
    return results


def synced(folder: Path, part: int) -> list[Result]:
    """Return what the service takes beside itself without syncing, in turn."""
    with contextlib.ExitStack() as stack:
        sides: dict[str, Ours] = {}
        for name, words in (("ours", ["-m", "paretune.service"]), ("theirs", ["-c", UNSYNCED])):
            (folder / name).mkdir()
            command = ours_command(folder / name, words)
            sides[name] = Ours(stack.enter_context(started(command, "/healthz", folder)))
        turns = {name: iter(range(7)) for name in sides}
        calls = {name: functools.partial(rows_taken, side, 500 // part, turns[name]) for name, side in sides.items()}
        pace = medians_in_turn(calls, 7)
        upload = medians_in_turn({name: functools.partial(uploads, side, 200 // part) for name, side in sides.items()}, 7)
    results = []
    for label, unit, found in (("rows taken", "rows/s", pace), ("files of 100 KB taken", "files/s", upload)):
        results.append(Result(label, found["ours"], found["theirs"], unit, found["ours"] / found["theirs"]))
    return results


def uploads(side: Ours, count: int) -> float:
    """Return how many files a second a side takes from all senders."""
    name = f"uploads{time.monotonic_ns()}"
    side.create(name, 0.0)
    addresses = side.upload_addresses(name, [f"{number}.bin" for number in range(count)])
    calls = [(address, os.urandom(100_000)) for address in addresses]
    return count / timed(lambda: in_parallel(side.upload, calls))


def rows_taken(side: Any, runs: int, turns: Iterator[int]) -> float:
    """Return the rows a second that a side takes from all senders; each turn fills runs of its own."""
    turn = next(turns)
    names = [f"taken{number}" for number in range(turn * runs, (turn + 1) * runs)]
    bodies = [(name, side.body(name)) for name in names]
    return runs * ROWS / timed(lambda: in_parallel(side.send, bodies))


def requests(side: Any, count: int) -> float:
    """Return how many small questions a second a side answers."""
    return count / timed(lambda: in_parallel(side.read, [("taken1",)] * count))


def heartbeats(ours: Ours, empty: int, seconds: float) -> list[Result]:
    """Return the heartbeat's quantiles beside those of an empty handler, in turn."""
    agents = ours.agents(AGENTS)
    measured: dict[str, list[float]] = {"ours": [], "empty": []}
    bodies = [ours.heartbeat(agent, number) for number, agent in enumerate(agents)]
    for _ in range(3):
        measured["empty"] += paced(empty, bodies, seconds / 3)
        measured["ours"] += paced(ours.port, bodies, seconds / 3)
    rows = []
    for name, share, goal in (("median", 0.5, None), ("95 of 100 within", 0.95, "<= 5x")):
        mine, other = (sorted(values)[int(share * len(values))] * 1000 for values in (measured["ours"], measured["empty"]))
        label = f"heartbeat of {AGENTS} agents, {name}; theirs: an empty handler"
        rows.append(Result(label, mine, other, "ms", other / mine, goal))
    return rows


def paced(port: int, bodies: Sequence[bytes], seconds: float) -> list[float]:
    """Send each body once a second for some seconds, each from a thread of its own; return the answers' seconds."""
    found: list[float] = []

    def sender(number: int, body: bytes) -> None:
        connection = Connection(port)
        begin = time.monotonic() + number / len(bodies)
        for beat in range(max(int(seconds), 1)):
            time.sleep(max(begin + beat - time.monotonic(), 0))
            since = time.perf_counter()
            connection.ask("POST", "/graphql", body)
            found.append(time.perf_counter() - since)

    threads = [threading.Thread(target=sender, args=pair) for pair in enumerate(bodies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class Connection:
    """One open connection, with the service's key; one that a server closed in a pause is opened again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.headers = {"content-type": "application/json", "authorization": f"Basic {b64encode(f'api:{KEY}'.encode()).decode()}"}
        self._open()

    def _open(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        self.connection.connect()
        assert self.connection.sock is not None
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Return an answer's body, which must be a good one."""
        try:
            self.connection.request(method, path, body, self.headers)
            response = self.connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):
            self._open()
            self.connection.request(method, path, body, self.headers)
            response = self.connection.getresponse()
        content = response.read()
        if response.status >= 300 or b'"errors":' in content[:300]:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:300]!r}")
        return content


class Side:
    """A server under load: each thread has a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._local = threading.local()

    def connection(self) -> Connection:
        """Return the connection of this thread."""
        if not hasattr(self._local, "connection"):
            self._local.connection = Connection(self.port)
        return self._local.connection  # type: ignore[no-any-return]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of an answer."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return json.loads(self.connection().ask(method, path, content) or b"{}")


class Ours(Side):
    """The service."""

    def query(self, text: str, **variables: Any) -> Any:
        return self.ask("POST", "/graphql", {"query": text, "variables": variables})["data"]

    def body(self, name: str) -> bytes:
        self._upsert(name, group="taken")
        lines = [json.dumps({"_step": step, "_runtime": step, **dict.fromkeys(NAMES, step / ROWS)}) for step in range(ROWS)]
        return json.dumps({"files": {"wandb-history.jsonl": {"offset": 0, "content": lines}}}).encode()

    def send(self, name: str, body: bytes) -> None:
        self.ask("POST", f"/files/bench/load/{name}/file_stream", body)

    def upload_addresses(self, name: str, files: Sequence[str]) -> list[str]:
        text = """mutation C($r: String!, $f: [String!]!) { createRunFiles(
            input: {entityName: "bench", projectName: "load", runName: $r, files: $f}) { files { uploadUrl } } }"""
        found = self.query(text, r=name, f=files)["createRunFiles"]["files"]
        return [urlsplit(file["uploadUrl"]).path for file in found]

    def upload(self, path: str, content: bytes) -> None:
        self.connection().ask("PUT", path, content)

    def end(self, name: str) -> None:
        self.ask("POST", f"/files/bench/load/{name}/file_stream", {"complete": True, "exitcode": 0})

    def read(self, name: str) -> None:
        self.query('query R($n: String!) { project(name: "load") { run(name: $n) { name state displayName } } }', n=name)

    def create(self, name: str, value: float) -> None:
        self._upsert(name, group="listed", value=value)

    def _upsert(self, name: str, group: str, value: float = 0.0) -> None:
        config = json.dumps({name: {"value": value} for name in NAMES[:5]})
        summary = json.dumps(dict.fromkeys(NAMES[:5], value))
        values = {"name": name, "modelName": "load", "groupName": group, "config": config, "summaryMetrics": summary}
        self.query("mutation M($i: UpsertBucketInput!) { upsertBucket(input: $i) { inserted } }", i=values)

    def listed(self, above: float | None = None) -> list[Any]:
        filters: dict[str, Any] = {"group": "listed"}
        if above is not None:
            filters[f"summary_metrics.{NAMES[0]}"] = {"$gte": above}
        fields = "id name state createdAt config summaryMetrics"
        text = f"""query L($f: JSONString, $a: String) {{ project(name: "load") {{ runs(filters: $f, after: $a, first: {PAGE}) {{
            edges {{ node {{ {fields} }} cursor }} pageInfo {{ hasNextPage endCursor }} }} }} }}"""
        found: list[Any] = []
        after, more = None, True
        while more:
            page = self.query(text, f=json.dumps(filters), a=after)["project"]["runs"]
            found += page["edges"]
            more, after = page["pageInfo"]["hasNextPage"], page["pageInfo"]["endCursor"]
        return found

    def history(self, name: str) -> int:
        text = 'query H($n: String!) { project(name: "load") { run(name: $n) { history(samples: 10000) } } }'
        return len([json.loads(row) for row in self.query(text, n=name)["project"]["run"]["history"]])

    def histories(self, group: str) -> int:
        import io

        import pyarrow.parquet as pq

        body = json.dumps({"entity": "bench", "project": "load", "filters": {"group": group}}).encode()
        return int(pq.read_table(io.BytesIO(Connection(self.port).ask("POST", "/bulk/histories", body))).num_rows)

    def agents(self, count: int) -> list[str]:
        definition = {"program": "train.py", "method": "random", "metric": {"name": NAMES[0], "goal": "minimize"}}
        config = json.dumps({**definition, "parameters": {"x": {"min": 0.0, "max": 1.0}}})
        text = 'mutation S($c: String) { upsertSweep(input: {config: $c, projectName: "load"}) { sweep { name } } }'
        sweep = self.query(text, c=config)["upsertSweep"]["sweep"]["name"]
        text = 'mutation A($s: String!) { createAgent(input: {host: "h", sweep: $s, projectName: "load"}) { agent { id } } }'
        found = [self.query(text, s=sweep)["createAgent"]["agent"]["id"] for _ in range(count)]
        for number, agent in enumerate(found):  # each is given its configuration, which its run then begins
            commands = json.loads(self.ask("POST", "/graphql", self.heartbeat(agent, None))["data"]["agentHeartbeat"]["commands"])
            values = {"name": commands[0]["run_id"], "modelName": "load", "sweep": sweep, "displayName": f"beating{number}"}
            self.query("mutation M($i: UpsertBucketInput!) { upsertBucket(input: $i) { inserted } }", i=values)
        return found

    @staticmethod
    def heartbeat(agent: str, going: int | None) -> bytes:
        text = "mutation H($id: ID!, $metrics: JSONString, $runState: JSONString) { "
        text += "agentHeartbeat(input: {id: $id, metrics: $metrics, runState: $runState}) { agent { id } commands } }"
        state = "{}" if going is None else json.dumps({f"going{going}": True})
        return json.dumps({"query": text, "variables": {"id": agent, "metrics": "{}", "runState": state}}).encode()


class Theirs(Side):
    """MLflow's tracking server."""

    API = "/api/2.0/mlflow"

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._identifiers: dict[str, str] = {}
        self.experiment = self.ask("POST", f"{self.API}/experiments/create", {"name": "listed"})["experiment_id"]
        self.other = self.ask("POST", f"{self.API}/experiments/create", {"name": "taken"})["experiment_id"]

    def body(self, name: str) -> bytes:
        identifier = self._created(name, self.other)
        rows = [
            {"key": key, "value": step / ROWS, "timestamp": 1_700_000_000_000 + step, "step": step}
            for step in range(ROWS)
            for key in NAMES
        ]
        return json.dumps({"run_id": identifier, "metrics": rows}).encode()

    def send(self, name: str, body: bytes) -> None:
        self.ask("POST", f"{self.API}/runs/log-batch", body)

    def read(self, name: str) -> None:
        self.ask("GET", f"{self.API}/runs/get?run_id={self._identifiers[name]}")

    def create(self, name: str, value: float) -> None:
        identifier = self._created(name, self.experiment)
        metrics = [{"key": key, "value": value, "timestamp": 1_700_000_000_000, "step": 0} for key in NAMES[:5]]
        params = [{"key": key, "value": str(value)} for key in NAMES[:5]]
        self.ask("POST", f"{self.API}/runs/log-batch", {"run_id": identifier, "metrics": metrics, "params": params})

    def _created(self, name: str, experiment: str) -> str:
        values = {"experiment_id": experiment, "run_name": name, "start_time": 1_700_000_000_000}
        identifier = self.ask("POST", f"{self.API}/runs/create", values)["run"]["info"]["run_id"]
        self._identifiers[name] = identifier
        return str(identifier)

    def listed(self, above: float | None = None) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            body: dict[str, Any] = {"experiment_ids": [self.experiment], "max_results": PAGE}
            if above is not None:
                body["filter"] = f"metrics.{NAMES[0]} >= {above}"
            page = self.ask("POST", f"{self.API}/runs/search", {**body, **({"page_token": token} if token else {})})
            found += page.get("runs", [])
            token = page.get("next_page_token")
            if not token:
                return found

    def history(self, name: str) -> int:
        counts = []
        for key in NAMES:
            address = f"{self.API}/metrics/get-history?run_id={self._identifiers[name]}&metric_key={key}&max_results=10000"
            counts.append(len(self.ask("GET", address)["metrics"]))
        return min(counts)


def in_parallel(function: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """Call a function with each tuple of values, from all senders at once."""
    with ThreadPoolExecutor(SENDERS) as pool:
        for done in [pool.submit(function, *values) for values in calls]:
            done.result()


def timed(function: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def expect(found: int, wanted: int) -> None:
    """Stop where a side did not give what was asked for."""
    if found != wanted:
        raise RuntimeError(f"{wanted} were asked for. Got {found}.")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ours_command(folder: Path, words: Sequence[str] = ("-m", "paretune.service")) -> Callable[[int], list[str]]:
    """Return how the service is started on a port, with a user `bench`; `words` are the program."""
    data = folder / "ours"
    add = [sys.executable, "-m", "paretune.service", "user", "add", "bench", "--key", KEY, "--data", str(data)]
    subprocess.run(add, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return lambda port: [sys.executable, *words, "--data", str(data), "--port", str(port), "--rate", "0"]


def mlflow_command(program: str, folder: Path) -> Callable[[int], list[str]]:
    """Return how MLflow's server is started on a port."""
    store = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--default-artifact-root", str(folder / "artifacts")]
    return lambda port: [program, "server", "--port", str(port), *store]


def empty_command(folder: Path) -> Callable[[int], list[str]]:
    """Return how a server whose handler does nothing is started on a port."""
    (folder / "empty_handler.py").write_text(EMPTY, encoding="utf-8")
    words = [sys.executable, "-m", "uvicorn", "empty_handler:app", "--log-level", "warning", "--no-access-log"]
    return lambda port: [*words, "--app-dir", str(folder), "--port", str(port)]


@contextlib.contextmanager
def started(command: Callable[[int], list[str]], health: str, folder: Path) -> Iterator[int]:
    """Start a server, and give its port once it answers."""
    port = free_port()
    with open(folder / f"{port}.log", "wb") as log:
        process = subprocess.Popen(command(port), cwd=ROOT, stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                Connection(port).ask("GET", health)
                break
            except (OSError, RuntimeError, http.client.HTTPException):
                time.sleep(0.1)
        else:
            raise RuntimeError(f"{command(port)[0]} did not answer: {(folder / f'{port}.log').read_text()[-1000:]}")
        yield port
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    sys.exit(main())
