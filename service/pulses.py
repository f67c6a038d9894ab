"""When agents were last heard, in memory: who has work going only says that it lives, and many such words are one writing."""

from __future__ import annotations

import threading
from datetime import datetime

import sqlalchemy as sa

from service.database import Agent, Database, Sweep, now


class Pulses:
    """What this process has heard of agents since it last wrote it down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: dict[int, tuple[int, datetime]] = {}

    def note(self, agent: int, sweep: int) -> None:
        """Note that an agent of a sweep was heard now."""
        with self._lock:
            self._heard[agent] = (sweep, now())

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
