"""One sweep on PostgreSQL by many real agents, while the server and the agents are killed: no row and no configuration is lost.

The size is AGENTSxRUNS in the environment's SERVICE_KILL_SIZE: 4x4 in a minute or so, 8x25 for the whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from paretune.service.store import streams
from paretune.service.store.accounts import add_user
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.store.tables import Issue, Run, Sweep
from tests.postgres import free_port, needs_postgres, postgres
from tests.service.serving import KEY, client

pytestmark = [pytest.mark.slow, needs_postgres]
AGENTS, RUNS = map(int, os.environ.get("SERVICE_KILL_SIZE", "4x4").split("x"))
ROWS, RESTARTS, PATIENCE = 5, 3, 3600 if AGENTS * RUNS > 16 else 240
# the service as it is, but for how soon it calls a silent run crashed: five minutes are long for a test
SERVER = """
from datetime import timedelta
from paretune.service.http import service; from paretune.service.store import runs
runs.SILENCE, service.CRASHES = timedelta(seconds=40), 5.0
from paretune.service.__main__ import main
main()
"""
AGENT = f"""
import sys, time, uuid, wandb
who = uuid.uuid4().hex
def train():
    with wandb.init() as run:
        for step in range({ROWS}):
            run.log({{"loss": (run.config["x"] - 0.3) ** 2 + 1 / (step + 1), "who": who}})
            time.sleep(0.5)
wandb.agent(sys.argv[1], function=train, entity="someone", project="killed")
"""


class Process:
    """A process that can be killed, with the client's own process below it or without."""

    def __init__(self, folder: Path, name: str, program: str, *arguments: str, **environment: str) -> None:
        self.log = (folder / f"{name}.log").open("ab")
        own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        self.running = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=Path(__file__).parents[2] if name == "server" else folder,
            env={**own, **environment},
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def kill(self, *, whole: bool = True) -> None:
        pid = self.running.pid
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if whole else []
            os.killpg(pid, signal.SIGKILL)
            for child in below:  # wandb-core is in a session of its own
                os.kill(int(child), signal.SIGKILL)
        self.running.wait()
        self.log.close()

    @property
    def lives(self) -> bool:
        return self.running.poll() is None


class Site:
    """The server, and how far the sweep is."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url, self.port = folder, url, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.database = Database(url)
        self.database.keep_contents_in(Files(folder / "data" / "files"))  # where the server keeps long histories
        add_user(self.database, "someone", key=KEY)
        self.start()

    def start(self) -> None:
        places = ["--port", str(self.port), "--data", str(self.folder / "data"), "--database", self.url]
        self.server = Process(self.folder, "server", SERVER, *places)

    def restart(self) -> None:
        self.server.kill()
        self.start()

    def agent(self, number: int, sweep: str) -> Process:
        home = self.folder / f"agent{number}"
        home.mkdir()
        quiet = {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_X_DISABLE_STATS": "true", "WANDB_ERROR_REPORTING": "false"}
        patient = {"WANDB_AGENT_DISABLE_FLAPPING": "true", "WANDB_AGENT_MAX_INITIAL_FAILURES": "1000"}
        where = {"WANDB_BASE_URL": self.address, "WANDB_API_KEY": KEY, "HOME": str(home), "WANDB_DIR": str(home)}
        return Process(self.folder, f"agent{number}", AGENT, sweep, **quiet, **patient, **where)

    def ended(self) -> tuple[str, int]:
        """Return the sweep's state, and how many runs have ended."""
        with self.database.session() as session:
            over = sa.select(sa.func.count(Run.id)).where(Run.state.in_(("finished", "crashed", "failed")))
            return session.scalar(sa.select(Sweep.state)) or "", session.scalar(over) or 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with postgres(tmp_path) as url:
        site = Site(tmp_path, url)
        yield site
        site.server.kill()
        site.database.close()


def test_nothing_is_lost_and_nothing_issued_twice_however_often_servers_and_agents_are_killed(site: Site, tmp_path: Path) -> None:
    cap, chance, begin = AGENTS * RUNS, random.Random(7), time.monotonic()
    definition = {
        "method": "random",
        "metric": {"name": "loss", "goal": "minimize"},
        "run_cap": cap,
        "parameters": {"x": {"min": 0.0, "max": 1.0}},
    }
    program = f'import json, wandb; print(json.dumps(wandb.sweep({json.dumps(definition)}, project="killed")))'
    sweep = client(site.address, tmp_path / "creator", program)
    agents = [site.agent(number, sweep) for number in range(AGENTS)]
    started = AGENTS
    restarts = [round(cap * (place + 1) / (RESTARTS + 1)) for place in range(RESTARTS)]
    kills = sorted(chance.randint(1, max(cap - AGENTS, 1)) for _ in range(AGENTS))
    try:
        while (found := site.ended())[0] != "FINISHED":
            assert time.monotonic() - begin < PATIENCE, f"{found} after {PATIENCE} s"
            if restarts and found[1] >= restarts[0]:
                restarts.pop(0)
                site.restart()
            if kills and found[1] >= kills[0]:
                kills.pop(0)
                chance.choice(agents).kill(whole=chance.random() < 0.7)
            for place, agent in enumerate(agents):
                if not agent.lives and site.ended()[0] != "FINISHED":
                    agents[place] = site.agent(started, sweep)
                    started += 1
            time.sleep(0.5)
    finally:
        for agent in agents:
            agent.kill()
    assert not restarts
    with site.database.session() as session:
        issues = session.scalars(sa.select(Issue)).all()
        runs = {run.name: run for run in session.scalars(sa.select(Run))}
        rows = {name: list(streams.rows_of(session, run)) for name, run in runs.items()}
    states = Counter(run.state for run in runs.values())
    seconds = time.monotonic() - begin
    print(
        f"{cap} runs by {started} agents in {seconds:.0f} s: {dict(states)}; {sum(one.times > 1 for one in issues)} handed out anew"
    )
    assert len({one.run_name for one in issues}) == len({one.trial for one in issues}) == len({one.values for one in issues}) == cap
    assert set(runs) <= {one.run_name for one in issues}
    assert states["finished"] >= cap - 2 * AGENTS, "but for those that were killed"
    for name, run in runs.items():
        if run.state == "finished":
            assert [row["_step"] for row in rows[name]] == list(range(ROWS)), name
            assert len({row["who"] for row in rows[name]}) == 1, f"{name} was run by two agents"
