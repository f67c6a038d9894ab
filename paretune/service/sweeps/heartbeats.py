"""Who of the agents was heard, in memory: one that has work going only says that it lives, and many such words are one writing."""

from __future__ import annotations

import threading
import time
from datetime import datetime

import sqlalchemy as sa

from paretune.service.store.database import Database
from paretune.service.store.tables import Agent, Sweep, now

REMEMBERED = 30.0  # seconds for which an agent is not looked up again; one that was deleted meanwhile goes on as long
MOST_REMEMBERED = 10_000


class Pulses:
    """What this process has heard of agents since it last wrote it down, and which agents it knows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: dict[int, tuple[int, datetime]] = {}
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

    def note(self, agent: Agent) -> None:
        """Note that an agent was heard now."""
        with self._lock:
            self._heard[agent.id] = (agent.sweep_id, now())

    def write(self, database: Database) -> int:
        """Write down what was heard, and return of how many agents."""
        with self._lock:
            heard, self._heard = self._heard, {}
        if not heard:
            return 0
        sweeps: dict[int, datetime] = {}
        for sweep, moment in heard.values():
            sweeps[sweep] = max(moment, sweeps.get(sweep, moment))
        with database.session(writing=True) as session:
            tables: tuple[tuple[type[Agent | Sweep], dict[int, datetime]], ...] = (
                (Agent, {agent: moment for agent, (_, moment) in heard.items()}),
                (Sweep, sweeps),
            )
            for table, moments in tables:
                session.connection().execute(
                    sa.update(table).where(table.id == sa.bindparam("row")).values(heartbeat_at=sa.bindparam("moment")),
                    [{"row": row, "moment": moment} for row, moment in sorted(moments.items())],
                )
        return len(heard)
