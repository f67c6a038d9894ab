"""Two servers on one PostgreSQL and 8 agents, while servers and agents are killed, PostgreSQL is paused and restarted, disks fill.

Every row and file that the server acknowledges is written down by who sent it, and compared at the end with what the server
holds. Four agents speak the protocol by plain HTTP, two more write to shared runs so, and two are W&B's own client (an agent, and a
process of the shared runs). The servers are as they are, but for how soon they call agents and runs silent.

    python benchmarks/chaos.py [--json] [--minutes 20] [--quick] [--seed 1] [--keep FOLDER]

Goals: no acknowledged row or file lost, no run trained by two agents at once, no configuration handed out as two runs, no
request refused for good, `doctor --full` finds nothing. It needs PostgreSQL's programs, and the right to mount (root) for full
disks, which are left out otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._chaos_agent import ENTITY, PROJECT, Journal, Server
from benchmarks._result import Result, how_many, show
from tests.postgres import binaries, free_port

ROOT = Path(__file__).resolve().parents[1]
KEY = "local-" + "c" * 40
KINDS = ["raw"] * 4 + ["raw-shared"] * 2 + ["client", "client-shared"]
RUN_CAP = 24  # runs of a sweep; the next begins when it ends
DISK = 256 * 2**20  # bytes of each disk that is filled
SETTLED_SECONDS = 60.0  # after the last trouble, until all that is silent is known to be
# four times as impatient: agents that are silent for 15 s, runs that nobody reports for 22; and runs that are silent for 40
SERVER = """
from datetime import timedelta
from paretune.service.http import service
from paretune.service.store import compaction, runs
from paretune.service.sweeps import agents, heartbeats, study_feedback
agents.SILENCE /= 4
agents.UNSTARTED = study_feedback.UNSTARTED = study_feedback.UNSTARTED / 4
service.PULSES, heartbeats.UNREACHED = service.PULSES / 4, heartbeats.UNREACHED / 4
runs.SILENCE, service.CRASHES, compaction.LIVE_LINES = timedelta(seconds=40), 5.0, 50
from paretune.service.__main__ import main
raise SystemExit(main())
"""


class Postgres:
    """A PostgreSQL that can be paused, killed and started."""

    def __init__(self, folder: Path) -> None:
        self.data, self.port = folder / "postgres", free_port()
        self.url = f"postgresql://sweep@127.0.0.1:{self.port}/postgres"
        programs = binaries()
        assert programs is not None, "main asks for them"
        self._programs = programs
        self._prefix: list[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            self.data.mkdir()
            shutil.chown(self.data, "postgres", "postgres")
            self._prefix = ["runuser", "-u", "postgres", "--"]
        self._call("initdb", "-A", "trust", "-U", "sweep", "--no-sync", "-E", "UTF8", "--locale=C")
        self.start()

    def _call(self, program: str, *flags: str, may_fail: bool = False) -> None:
        command = [*self._prefix, str(self._programs / program), "-D", str(self.data), *flags]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)
        if done.returncode and not may_fail:
            raise RuntimeError(f"{program} ended with {done.returncode}: {done.stdout}{done.stderr}")

    def start(self, *, may_fail: bool = False) -> None:
        """Start it, where it does not run."""
        settings = f"-F -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -p {self.port} -c max_wal_size=64MB"
        settings += " -c min_wal_size=32MB"
        if self.processes and not (self.data / "postmaster.pid").exists():
            time.sleep(1)
        self._call("pg_ctl", "-o", settings, "-l", str(self.data / "log"), "-w", "start", may_fail=may_fail)

    def stop(self) -> None:
        """End it as a power cut of its process would."""
        self._call("pg_ctl", "-m", "immediate", "-w", "stop", may_fail=True)

    @property
    def processes(self) -> list[int]:
        """The numbers of all its processes."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            first = int((self.data / "postmaster.pid").read_text().split()[0])
            return [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]
        return []

    def pause(self, seconds: float) -> None:
        """Let none of its processes do anything for a while."""
        stopped = self.processes
        for process in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
        time.sleep(seconds)
        for process in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


class Process:
    """A process of ours, with those that it starts."""

    def __init__(self, folder: Path, name: str, *command: str, **environment: str) -> None:
        own = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        with (folder / f"{name}.log").open("ab") as log:
            self.running = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env={**own, "PYTHONPATH": str(ROOT), **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.running.poll() is None

    def kill(self) -> None:
        """End it and W&B's own process below it, which is in a session of its own, at once."""
        pid = self.running.pid
        below = []
        with contextlib.suppress(OSError):
            below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        for child in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self.running.wait()


@dataclass
class Site:
    """Everything that runs."""

    folder: Path
    journals: Path
    data: Path
    postgres: Postgres
    chance: random.Random
    full_disks: bool
    ports: list[int] = field(default_factory=lambda: [free_port(), free_port()])
    servers: list[Process] = field(default_factory=list)
    agents: list[tuple[str, Process]] = field(default_factory=list)
    n_agents: int = 0
    kills: dict[str, float] = field(default_factory=dict)  # agent -> when it had ended
    troubles: Counter[str] = field(default_factory=Counter)
    sweeps: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Start the servers, the first sweep and the agents."""
        add = ["user", "add", ENTITY, "--key", KEY, *self.places()]
        subprocess.run([sys.executable, "-m", "paretune.service", *add], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        self.servers = [self.server(number) for number in range(2)]
        self.asking = Server(self.ports[0], KEY, Journal(self.folder / "main.jsonl"))
        self.next_sweep()
        self.agents = [self.agent(place) for place in range(len(KINDS))]

    def places(self) -> list[str]:
        """Return the flags that say where the service keeps everything."""
        return ["--data", str(self.data), "--database", self.postgres.url]

    def server(self, number: int) -> Process:
        """Start a server."""
        command = ["-c", SERVER, *self.places(), "--port", str(self.ports[number]), "--rate", "0"]
        return Process(self.folder, f"server{number}", *command)

    def agent(self, place: int) -> tuple[str, Process]:
        """Start an agent in a place; return its name as well."""
        kind, name, port = KINDS[place], f"{KINDS[place]}-{self.n_agents}", self.ports[place % 2]
        self.n_agents += 1
        home = self.folder / "homes" / name
        home.mkdir(parents=True)
        names = ("WANDB_SILENT", "WANDB_X_DISABLE_STATS", "WANDB_AGENT_DISABLE_FLAPPING")
        client = {**dict.fromkeys(names, "true"), "WANDB_CONSOLE": "off", "WANDB_ERROR_REPORTING": "false", "HOME": str(home)}
        client |= {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": KEY, "WANDB_DIR": str(home)}
        program = str(ROOT / "benchmarks" / "_chaos_agent.py")
        return name, Process(self.folder, f"agents-{place}", program, kind, str(port), KEY, str(self.journals), name, **client)

    def next_sweep(self) -> None:
        """Begin a sweep where none goes on."""
        if self.sweeps:
            query = 'query S($s: String!) { project(name: "chaos", entityName: "chaos") { sweep(sweepName: $s) { state } } }'
            if self.asking.ask(query, s=self.sweeps[-1])["project"]["sweep"]["state"] != "FINISHED":
                return
        definition = {"method": "random", "metric": {"name": "loss", "goal": "minimize"}, "run_cap": RUN_CAP, "program": "t.py"}
        config = json.dumps({**definition, "parameters": {"x": {"min": 0.0, "max": 1.0}}})
        query = 'mutation S($c: String) { upsertSweep(input: {config: $c, projectName: "chaos", entityName: "chaos"})'
        query += " { sweep { name } } }"
        self.sweeps.append(self.asking.ask(query, c=config)["upsertSweep"]["sweep"]["name"])
        (self.journals / "new").write_text(self.sweeps[-1], encoding="utf-8")
        os.replace(self.journals / "new", self.journals / "sweep")

    def look_after(self) -> None:
        """Start again what has ended."""
        for place, (name, process) in enumerate(self.agents):
            if not process.lives:
                self.kills.setdefault(name, time.monotonic())
                self.agents[place] = self.agent(place)
        for number, server in enumerate(self.servers):
            if not server.lives:
                self.servers[number] = self.server(number)

    def trouble(self) -> None:
        """Let one thing happen, and wait until it is over."""
        kinds: dict[str, Callable[[], None]] = {
            "an agent killed": self.kill_agent,
            "a server killed": self.kill_server,
            "PostgreSQL paused": lambda: self.postgres.pause(self.chance.uniform(2, 25)),
            "PostgreSQL paused, a server killed meanwhile": self.kill_in_pause,
            "PostgreSQL restarted": self.restart_postgres,
        }
        if self.full_disks:
            kinds["the disk of files full"] = lambda: self.fill(self.data)
            kinds["the disk of PostgreSQL full"] = lambda: self.fill(self.postgres.data.parent)
        weights = {"an agent killed": 6, "a server killed": 3}
        kind = self.chance.choices(list(kinds), [weights.get(name, 1) for name in kinds])[0]
        self.troubles[kind] += 1
        kinds[kind]()

    def kill_agent(self) -> None:
        """Kill an agent; another takes its place."""
        name, process = self.chance.choice(self.agents)
        process.kill()
        self.kills[name] = time.monotonic()

    def kill_server(self) -> None:
        """Kill a server, or both."""
        for server in self.chance.sample(self.servers, self.chance.choice([1, 1, 2])):
            server.kill()
        time.sleep(self.chance.uniform(0, 3))

    def kill_in_pause(self) -> None:
        """Kill a server whose statements PostgreSQL has yet to carry out."""
        stopped = self.postgres.processes
        for process in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
        time.sleep(self.chance.uniform(0.5, 3))
        self.chance.choice(self.servers).kill()
        time.sleep(self.chance.uniform(0.0, 1.0))
        for process in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    def restart_postgres(self) -> None:
        """Let PostgreSQL end at once, and start it a little later."""
        self.postgres.stop()
        time.sleep(self.chance.uniform(0, 8))
        self.postgres.start()

    def fill(self, disk: Path) -> None:
        """Fill a disk for a while; PostgreSQL may end of it, and is started again."""
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        time.sleep(self.chance.uniform(3, 12))
        ballast.unlink()
        if not self.postgres.processes or not self.answers():
            self.postgres.stop()
            self.postgres.start()

    def answers(self) -> bool:
        """Whether PostgreSQL answers within a while."""
        ready = [
            *self.postgres._prefix,
            str(self.postgres._programs / "pg_isready"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.postgres.port),
        ]
        for _ in range(20):
            if subprocess.run(ready, cwd="/", capture_output=True).returncode == 0:
                return True
            time.sleep(0.5)
        return False

    def end(self) -> None:
        """End what still runs."""
        for name, process in self.agents:
            process.kill()
            self.kills[name] = time.monotonic()
        for server in self.servers:
            server.kill()


@dataclass
class Findings:
    """What the comparison found."""

    n_rows: int = 0
    n_files: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    n_runs: int = 0
    n_sweeps: int = 0


def noted(journals: Path) -> Iterator[dict[str, Any]]:
    """Yield all that the agents noted; a last line that a kill cut off is none."""
    for path in sorted(journals.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                yield {**json.loads(line), "agent": path.stem}


def compared(site: Site) -> Findings:
    """Compare what was acknowledged with what the server holds."""
    import sqlalchemy as sa

    from paretune.service.store import streams
    from paretune.service.store.database import Database
    from paretune.service.store.files import Files
    from paretune.service.store.tables import Issue, Project, Run, RunFile, Sweep

    found = Findings()
    files = Files(site.data / "files")
    database = Database(site.postgres.url)
    database.keep_contents_in(files)
    notes = list(noted(site.journals))
    with database.session() as session:
        project = session.scalars(sa.select(Project).where(Project.name == PROJECT)).one()
        runs = {run.name: run for run in session.scalars(sa.select(Run).where(Run.project_id == project.id))}
        rows = {name: list(streams.rows_of(session, run)) for name, run in runs.items()}
        uploads = {(file.run_id, file.name): file.digest for file in session.scalars(sa.select(RunFile))}
        found.n_runs = len(runs)
        for sweep in session.scalars(sa.select(Sweep).where(Sweep.state == "FINISHED")):
            issues = session.scalars(sa.select(Issue).where(Issue.sweep_id == sweep.id)).all()
            counts = {len(issues), len({issue.values for issue in issues}), len({issue.run_name for issue in issues})}
            found.n_sweeps += 1
            if counts != {RUN_CAP}:
                found.twice.append(f"the sweep {sweep.name} of {RUN_CAP} runs has {sorted(counts)} runs and configurations")
    database.close()
    shared: dict[tuple[str, str], int] = defaultdict(int)
    for note in notes:
        run = runs.get(note.get("run", ""))
        if note["kind"] == "refused":
            found.refused.append(f"{note['path']}: {note['status']} {note['text']}")
        elif note["kind"] == "rows":
            held = rows.get(note["run"], [])[note["first"] : note["first"] + len(note["rows"])]
            found.n_rows += len(note["rows"])
            if [{key: row.get(key) for key in ("_step", "who", "loss")} for row in held] != note["rows"]:
                found.lost.append(f"{note['run']}: rows from {note['first']} of {note['agent']}: {note['rows']} are {held}")
        elif note["kind"] == "shared rows":
            found.n_rows += note["count"]
            shared[note["run"], note["who"]] = max(shared[note["run"], note["who"]], note["first"] + note["count"])
        elif note["kind"] == "ended":
            summary = {} if run is None else json.loads(run.summary)
            if run is None or run.state != "finished" or {key: summary.get(key) for key in note["summary"]} != note["summary"]:
                found.lost.append(f"the end of {note['run']}: {note['summary']} is {run and run.state} {summary}")
        elif note["kind"] == "file":
            found.n_files += 1
            digest = None if run is None else uploads.get((run.id, note["name"]))
            path = files.path(digest or "none")
            if digest != note["digest"] or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                found.lost.append(f"the file {note['name']} of {note['run']}")
    for (name, who), count in shared.items():
        numbers = [row["number"] for row in rows.get(name, []) if row.get("who") == who]
        if numbers[:count] != list(range(count)) or len(set(numbers)) != len(numbers):
            found.lost.append(f"{name}: {count} rows of {who} are {len(numbers)}")
    found.twice += trained_twice(notes, site.kills)
    return found


def trained_twice(notes: list[dict[str, Any]], kills: dict[str, float]) -> list[str]:
    """Return which runs were trained by two agents at the same time; a killed one trained until it had ended."""
    begun: dict[tuple[str, str], list[float]] = {}
    for note in notes:
        if note["kind"] == "begin":
            begun[note["run"], note["agent"]] = [note["at"], kills.get(note["agent"], float("inf"))]
        elif note["kind"] == "end":
            begun[note["run"], note["agent"]][1] = note["at"]
    spans: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for (run, agent), (start, stop) in begun.items():
        spans[run].append((start, stop, agent))
    twice = []
    for run, trained in spans.items():
        trained.sort()
        for (_, stop, one), (start, _, other) in itertools.pairwise(trained):
            if start < stop:
                twice.append(f"{run} was trained by {one} and, from {stop - start:.1f} s before its end, by {other}")
    return twice


def doctor(site: Site) -> str:
    """Return what the doctor finds to be wrong; empty where all is well. What was on a small disk is looked at elsewhere."""
    copy = site.folder / "copy"
    shutil.copytree(site.data, copy, ignore=shutil.ignore_patterns("ballast"))
    command = [sys.executable, "-m", "paretune.service", "doctor", "--full", "--data", str(copy), "--database", site.postgres.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}"


@contextlib.contextmanager
def disks(folder: Path) -> Iterator[bool]:
    """Make small disks of folder/service and folder/database, where this user may mount; say whether it may."""
    places = [folder / "service", folder / "database"]
    mounted = []
    try:
        for place in places:
            place.mkdir()
            place.chmod(0o755)
            if os.geteuid() == 0 and shutil.which("mount"):
                done = subprocess.run(
                    ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "none", str(place)], capture_output=True
                )
                mounted += [place] if done.returncode == 0 else []
        yield len(mounted) == len(places)
    finally:
        for place in mounted:
            subprocess.run(["umount", "-l", str(place)])


def main() -> int:
    """Let it all happen, compare, and print the rows; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description="The service under kills, pauses and full disks.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--minutes", type=how_many, default=20, help="for how long (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two minutes")
    parser.add_argument("--seed", type=int, default=1, help="of what happens when (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy logs and journals there")
    options = parser.parse_args()
    if binaries() is None:
        said = "chaos: skipped, as PostgreSQL is not installed (apt-get install postgresql)"
        print(said, file=sys.stderr if options.json else sys.stdout)
        return 0
    with tempfile.TemporaryDirectory(prefix="chaos") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with disks(folder) as full_disks:
            postgres = Postgres(folder / "database")
            (folder / "journals").mkdir()
            data = folder / "service" / "data"
            site = Site(folder, folder / "journals", data, postgres, random.Random(options.seed), full_disks)
            try:
                run(site, 2 if options.quick else options.minutes)
                found, ill = compared(site), doctor(site)
            finally:
                site.end()
                postgres.stop()
                if options.keep:
                    shutil.copytree(
                        folder,
                        options.keep,
                        ignore=shutil.ignore_patterns("homes", "service", "database", "copy"),
                        dirs_exist_ok=True,
                    )
    show(results(found, ill), as_json=options.json, notes=[f"{site.troubles[kind]} x {kind}" for kind in sorted(site.troubles)])
    for fault in [*found.lost[:20], *found.twice[:20], *found.refused[:20], *ill.splitlines()]:
        print(fault, file=sys.stderr)
    return 1 if found.lost or found.twice or found.refused or ill else 0


def run(site: Site, minutes: float) -> None:
    """Let troubles come for so long, then let everything settle."""
    site.start()
    stop = time.monotonic() + 60 * minutes
    while time.monotonic() < stop:
        site.trouble()
        site.look_after()
        for _ in range(site.chance.randint(2, 12)):
            time.sleep(1)
            site.look_after()
        site.next_sweep()
    time.sleep(SETTLED_SECONDS / 3)  # what is being sent arrives
    for name, process in site.agents:
        process.kill()
        site.kills[name] = time.monotonic()
    time.sleep(SETTLED_SECONDS)
    for server in site.servers:
        server.kill()


def results(found: Findings, ill: str) -> list[Result]:
    """Return the rows of the table."""
    return [
        Result("sweeps that ended", found.n_sweeps, None, "sweeps"),
        Result("runs", found.n_runs, None, "runs"),
        Result("rows acknowledged", found.n_rows, None, "rows"),
        Result("files acknowledged", found.n_files, None, "files"),
        Result("acknowledged rows, files, summaries and ends lost", len(found.lost), None, "", goal=0),
        Result("runs handed out twice", len(found.twice), None, "", goal=0),
        Result("requests refused for good", len(found.refused), None, "", goal=0),
        Result("findings of doctor --full", sum(line.startswith("wrong") for line in ill.splitlines()), None, "", goal=0),
    ]


if __name__ == "__main__":
    sys.exit(main())
