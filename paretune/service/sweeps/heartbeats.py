"""Who of the agents was heard, in memory: one that has work going only says that it lives, and many such words are one writing."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from paretune.service.store.database import Database
from paretune.service.store.tables import Agent, Issue, Sweep, now

REMEMBERED = 30.0  # seconds for which an agent is not looked up again; one that was deleted meanwhile goes on as long
MOST_REMEMBERED = 10_000
MOST_RUNS = 100  # of an agent that are noted; W&B's has one


class Pulses:
    """What this process has heard of agents since it last wrote it down, and which agents it knows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: dict[int, tuple[int, datetime, Sequence[str]]] = {}
        self._known: dict[int, tuple[float, Agent]] = {}

    def known(self, number: int) -> Agent | None:
        """Return an agent that was kept within REMEMBERED seconds; its sweep, project and owner do not change."""
        until, agent = self._known.get(number, (0.0, None))
        return agent if until > time.monotonic() else None

    def keep(self, agent: Agent) -> None:
        """Keep an agent whose sweep, project and owner are loaded."""
        with self._lock:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[agent.id] = (time.monotonic() + REMEMBERED, agent)

    def note(self, agent: Agent, going: Sequence[str]) -> None:
        """Note that an agent reports these runs as running now."""
        with self._lock:
            self._heard[agent.id] = (agent.sweep_id, now(), going[:MOST_RUNS])

    def write(self, database: Database) -> int:
        """Write down what was heard, and return of how many agents."""
        with self._lock:
            heard, self._heard = self._heard, {}
        if not heard:
            return 0
        sweeps: dict[int, datetime] = {}
        for sweep, moment, _ in heard.values():
            sweeps[sweep] = max(moment, sweeps.get(sweep, moment))
        with database.session(writing=True) as session:
            tables: tuple[tuple[type[Agent | Sweep], dict[int, datetime]], ...] = (
                (Agent, {agent: moment for agent, (_, moment, _) in heard.items()}),
                (Sweep, sweeps),
            )
            for table, moments in tables:
                session.connection().execute(
                    sa.update(table).where(table.id == sa.bindparam("row")).values(heartbeat_at=sa.bindparam("moment")),
                    [{"row": row, "moment": moment} for row, moment in sorted(moments.items())],
                )
            running = [
                {"of": agent, "run": name, "moment": moment} for agent, (_, moment, going) in heard.items() for name in going
            ]
            own = (Issue.agent_id == sa.bindparam("of"), Issue.run_name == sa.bindparam("run"), Issue.told.is_(False))
            session.connection().execute(sa.update(Issue).where(*own).values(issued_at=sa.bindparam("moment")), running)
        return len(heard)
