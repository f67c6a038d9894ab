"""Who of the agents was heard, in memory: one that has work going only says that it lives, and many such words are one writing."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.service.store.database import Database
from paretune.service.store.tables import Agent, Issue, Sweep, now

REMEMBERED = 30.0  # seconds for which an agent is not looked up again; one that was deleted meanwhile goes on as long
MOST_REMEMBERED = 10_000
MOST_RUNS = 100  # of an agent that are noted; W&B's has one
UNREACHED = 15.0  # seconds without the database, from which agents may have gone unheard; it is written to every five


class Pulses:
    """What this process has heard of agents since it last wrote it down, and which agents it knows.

    `begun` is the moment since when agents could be heard: this process began, or reached the database again.
    """

    def __init__(self) -> None:
        self.begun = now()
        self._reached: float | None = None  # when the database was last written to; None before it is done regularly
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
        with database.session(writing=True) as session:
            self._write(session, heard)
            self.renew(session)
        self._reached = time.monotonic()
        return len(heard)

    @property
    def is_away(self) -> bool:
        """Whether the database has not been reached for so long that agents may have gone unheard."""
        return self._reached is not None and time.monotonic() - self._reached > UNREACHED

    def renew(self, session: Session) -> None:
        """Give the runs that were handed out and have not begun their time anew, where nobody could be heard for a while."""
        if self.is_away:
            self.begun = now()
            session.execute(sa.update(Issue).where(Issue.told.is_(False)).values(issued_at=now()))

    def _write(self, session: Session, heard: Mapping[int, tuple[int, datetime, Sequence[str]]]) -> None:
        if not heard:
            return
        sweeps: dict[int, datetime] = {}
        for sweep, moment, _ in heard.values():
            sweeps[sweep] = max(moment, sweeps.get(sweep, moment))
        tables: tuple[tuple[type[Agent | Sweep], dict[int, datetime]], ...] = (
            (Agent, {agent: moment for agent, (_, moment, _) in heard.items()}),
            (Sweep, sweeps),
        )
        for table, moments in tables:
            session.connection().execute(
                sa.update(table).where(table.id == sa.bindparam("row")).values(heartbeat_at=sa.bindparam("moment")),
                [{"row": row, "moment": moment} for row, moment in sorted(moments.items())],
            )
        running = [{"of": agent, "run": name, "moment": moment} for agent, (_, moment, going) in heard.items() for name in going]
        own = (Issue.agent_id == sa.bindparam("of"), Issue.run_name == sa.bindparam("run"), Issue.told.is_(False))
        session.connection().execute(sa.update(Issue).where(*own).values(issued_at=sa.bindparam("moment")), running)
