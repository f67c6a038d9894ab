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
        self._reached = time.monotonic()
        return len(heard)

    @property
    def is_away(self) -> bool:
        """Whether the database has not been reached for so long that agents may have gone unheard."""
        return self._reached is not None and time.monotonic() - self._reached > UNREACHED

    def renew(self, session: Session, sweep: Sweep | None = None) -> None:
        """Give runs that were handed out and have not begun their time anew, where nobody could be heard for a while.

        Args:
            sweep: whose runs; the session may have locked its row. None: of all sweeps, whose rows it must not have locked.
        """
        if self.is_away:
            self.begun = now()
            renew(session, sweep)

    def _write(self, session: Session, heard: Mapping[int, tuple[int, datetime, Sequence[str]]]) -> None:
        """Lock sweeps, then agents, then issues, each in order: whoever else locks some does so, and no two wait for each other."""
        sweeps: dict[int, datetime] = {}
        for sweep, moment, _ in heard.values():
            sweeps[sweep] = max(moment, sweeps.get(sweep, moment))
        tables: tuple[tuple[type[Agent | Sweep], dict[int, datetime]], ...] = (
            (Sweep, sweeps),
            (Agent, {agent: moment for agent, (_, moment, _) in heard.items()}),
        )
        for table, moments in tables:
            _update(
                session,
                sa.update(table).where(table.id == sa.bindparam("row")).values(heartbeat_at=sa.bindparam("moment")),
                [{"row": row, "moment": moment} for row, moment in sorted(moments.items())],
            )
        self.renew(session)
        running = [{"of": agent, "run": name, "moment": moment} for agent, (_, moment, going) in heard.items() for name in going]
        own = (Issue.agent_id == sa.bindparam("of"), Issue.run_name == sa.bindparam("run"), Issue.told.is_(False))
        _update(
            session,
            sa.update(Issue).where(*own).values(issued_at=sa.bindparam("moment")),
            sorted(running, key=lambda row: (row["run"], row["of"])),
        )


def _update(session: Session, statement: sa.Update, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        session.connection().execute(statement, rows)


def renew(session: Session, sweep: Sweep | None = None) -> None:
    """Give runs that were handed out and have not begun their time anew, those of one sweep or of all."""
    waiting = sa.select(Issue.id).where(Issue.told.is_(False)).order_by(Issue.id).with_for_update()
    if sweep is not None:
        waiting = waiting.where(Issue.sweep_id == sweep.id)
    session.execute(
        sa.update(Issue).where(Issue.id.in_(waiting)).values(issued_at=now()).execution_options(synchronize_session=False)
    )
