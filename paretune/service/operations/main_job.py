"""The whole path through a server of one's own: the sweeps by W&B's agents, the analysis from what the server keeps.

usage: python -m paretune.service.operations.main_job SWEEP.yaml … [--data digits] [--trials N] [--workers N] [--rule f1]
                                  [--seeds K] [--to reports/NAME]

The server listens on a free port of this machine while this runs; no account and no network are needed. After
Ctrl-C or a kill the same command goes on; runs that were being trained then count as failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError, excerpt, how_it_ended
from paretune.core.folders import ROOT
from paretune.core.locks import locked
from paretune.core.progress import Progress
from paretune.painter.sockets import open_socket
from paretune.search.places.process_groups import end, end_orphan, start
from paretune.search.spec.sweep import read_sweep
from paretune.service.store.accounts import FIRST_USER, add_key, add_user, has_users, remove_key
from paretune.service.store.database import Database

FOLDER = ROOT / "runs" / "service"
PATIENCE = 60.0  # seconds for the server to answer
PAUSE = 2.0  # seconds between looks at how far a sweep is
STATE = """query S($entity: String, $project: String, $sweep: String!) { project(name: $project, entityName: $entity) {
    sweep(sweepName: $sweep) { state bestLoss runCountExpected runs { edges { node { id state } } } } } }"""
FAILED = 'mutation F($id: ID!) { updateRunState(input: {id: $id, state: "failed"}) { success } }'


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(
        prog="python -m paretune.service.operations.main_job", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("sweeps", nargs="+", metavar="SWEEP.yaml", help="W&B sweep files of trainers of ours")
    parser.add_argument("--data", default="digits", help="data set (default: digits)")
    parser.add_argument("--trials", type=int, metavar="N", help="runs of each sweep (default: the file's run_cap)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="agents at the same time (default: 1)")
    parser.add_argument("--rule", help="as analysis.retrain takes it")
    parser.add_argument("--seeds", type=int, default=1, metavar="K", help="models that are trained of each choice (default: 1)")
    parser.add_argument("--to", default="reports", help="folder of the report (default: reports)")
    parser.add_argument("--language", default="en", help="of the report (default: en)")
    parser.add_argument("--folder", default=str(FOLDER), help="where the server keeps everything (default: runs/service)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        if options.workers < 1 or (options.trials is not None and options.trials < 1):
            raise UsageError("--workers and --trials must be at least 1.")
        with serving(Path(options.folder)) as server:
            paths = [server.swept(Path(file), options.data, options.trials, options.workers) for file in options.sweeps]
            rule = [] if options.rule is None else ["--rule", options.rule]
            for path in paths:
                server.call("analysis.retrain", path, *rule, "--seeds", str(options.seeds))
            server.call("analysis.report", *paths, *rule, "--to", options.to, "--language", options.language)
    return 0


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve on a free port, with everything in a folder, and a key that holds as long.

    Raises:
        UsageError: if another such command is at work in the folder, or the server does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder), open_socket("127.0.0.1", 0) as free:
        port = int(free.getsockname()[1])
        free.close()
        for place in (folder, *folder.glob("agent*")):  # of a command that was killed
            end_orphan(place)
        database = Database(f"sqlite:///{(folder / 'service.db').resolve()}")
        key = add_key(database, FIRST_USER) if has_users(database) else add_user(database, FIRST_USER, role="admin")
        with (folder / "server.log").open("ab") as log:
            command = [sys.executable, "-m", "paretune.service", "--port", str(port), "--data", str(folder)]
            process = start(command, {**os.environ, "PYTHONPATH": str(ROOT)}, log, folder)
            try:
                server = Server(folder, f"http://127.0.0.1:{port}", FIRST_USER, key)
                server.wait(process)
                yield server
            finally:
                end(process)
                remove_key(database, key)
                database.close()


class Server:
    """A server of one's own that listens, and what is done by it."""

    def __init__(self, folder: Path, address: str, user: str, key: str) -> None:
        self.folder, self.address, self.user, self._key = folder, address, user, key
        own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        own |= {"WANDB_BASE_URL": address, "WANDB_API_KEY": key, "WANDB_ENTITY": user, "WANDB_DIR": str(folder)}
        self.environment = {**own, "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", "PYTHONPATH": str(ROOT)}

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it answers.

        Raises:
            UsageError: if it does not start.
        """
        import requests

        begin = time.monotonic()
        while time.monotonic() - begin < PATIENCE and process.poll() is None:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.address}/healthz", timeout=5).ok:
                    return
            time.sleep(0.1)
        raise UsageError(f"the server did not start: {self.folder / 'server.log'} says why.")

    def swept(self, file: Path, data: str, trials: int | None, workers: int) -> str:
        """Run a sweep to its end, or go on with it; return entity/project/sweep."""
        definition = definition_of(file, data, trials)
        path = self._kept(file, data, definition)
        self._give_up(path)
        with self._agents(path, workers) as agents:
            self._watch(path, definition.get("name", file.stem), agents)
        return path

    def call(self, module: str, *arguments: str) -> None:
        """Run a command of ours that asks this server.

        Raises:
            UsageError: if it ends with an error, which it has said.
        """
        code = subprocess.run([sys.executable, "-m", module, *arguments], env=self.environment).returncode
        if code != 0:
            raise UsageError(f"python -m {module} ended with an error (see above); run the same command again to go on.")

    def ask(self, query: str, **variables: Any) -> Any:
        """Return the data of an operation.

        Raises:
            UsageError: if the server refuses it.
        """
        import requests

        answer = requests.post(
            f"{self.address}/graphql", auth=("api", self._key), json={"query": query, "variables": variables}, timeout=120
        ).json()
        if answer.get("errors"):
            raise UsageError(f"the server refused: {answer['errors'][0]['message']}")
        return answer["data"]

    def state(self, path: str) -> dict[str, Any]:
        """Return how far a sweep is; empty where there is none."""
        entity, project, sweep = path.split("/")
        found = self.ask(STATE, entity=entity, project=project, sweep=sweep)["project"]
        return (found and found["sweep"]) or {}

    def _kept(self, file: Path, data: str, definition: Mapping[str, Any]) -> str:
        """Return the sweep that was begun with this definition, or a new one."""
        note = self.folder / f"{file.stem}-{Path(data.removeprefix('folder:')).name}.json"
        with contextlib.suppress(OSError, ValueError, KeyError):
            kept = json.loads(note.read_text(encoding="utf-8"))
            if kept["definition"] == json.loads(json.dumps(definition)) and self.state(kept["path"]):
                return str(kept["path"])
        program = "import json, sys, wandb; print(wandb.sweep(json.load(sys.stdin), project=sys.argv[1]))"
        project = str(definition.get("project", "paretune"))
        made = subprocess.run(
            [sys.executable, "-c", program, project],
            input=json.dumps(definition),
            env=self.environment,
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            said = made.stderr.strip().splitlines() or [f"the client {how_it_ended(made.returncode)}"]
            raise UsageError(f"{file}: the sweep was not created ({excerpt(said[-1])}).")
        path = f"{self.user}/{project}/{made.stdout.split()[-1]}"
        note.write_text(json.dumps({"path": path, "definition": definition}), encoding="utf-8")
        return path

    def _give_up(self, path: str) -> None:
        """Count the runs whose agents were killed with the command before as failed, rather than wait until they are silent."""
        for edge in self.state(path)["runs"]["edges"]:
            if edge["node"]["state"] == "running":
                self.ask(FAILED, id=edge["node"]["id"])

    @contextlib.contextmanager
    def _agents(self, path: str, workers: int) -> Iterator[list[subprocess.Popen[bytes]]]:
        agents: list[subprocess.Popen[bytes]] = []
        wanted = 0 if self.state(path)["state"] == "FINISHED" else workers
        try:
            for number in range(wanted):
                place = self.folder / f"agent{number}"
                place.mkdir(exist_ok=True)
                with (place / "log").open("ab") as log:
                    agents.append(start([sys.executable, "-m", "paretune.search.agent", path], self.environment, log, place))
            yield agents
        finally:
            for agent in agents:
                end(agent)

    def _watch(self, path: str, name: str, agents: Sequence[subprocess.Popen[bytes]]) -> None:
        """Show how far a sweep is until its agents have left.

        Raises:
            UsageError: if they left before its end.
        """
        found = self.state(path)
        done = _ended(found)
        with Progress(f"{name} at {self.address}", found["runCountExpected"], done=done, unit="run") as progress:
            while True:
                left = all(agent.poll() is not None for agent in agents)
                found = self.state(path)
                for _ in range(_ended(found) - done):
                    progress.step("" if found["bestLoss"] is None else f"best {found['bestLoss']:.4f}")
                done = max(done, _ended(found))
                if left:
                    break
                time.sleep(PAUSE)
        if found["state"] != "FINISHED":
            raise UsageError(f"the agents of {path} left before its end: {self.folder}/agent0/log says why.")


def definition_of(file: Path, data: str, trials: int | None) -> dict[str, Any]:
    """Return a sweep file's definition with its data, and its number of runs."""
    definition = dict(read_sweep(file).definition)
    definition["parameters"] = {**definition.get("parameters", {}), "data": {"value": data}}
    return definition if trials is None else {**definition, "run_cap": trials}


def _ended(found: Mapping[str, Any]) -> int:
    return sum(edge["node"]["state"] in ("finished", "failed", "crashed", "killed") for edge in found["runs"]["edges"])


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Have a folder for oneself.

    Raises:
        UsageError: if another command has it.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder / "lock", wait=False))
        except OSError:
            raise UsageError(f"another such command is at work in {folder}: wait for it, or name another --folder.") from None
        yield


if __name__ == "__main__":
    sys.exit(main())
