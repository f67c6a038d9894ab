"""Objective values logged by the runs of a sweep, each line read once."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable

from sqlalchemy.orm import Session

from paretune.runs.wandb_files import numbers
from paretune.search.spec.hyperband import History
from paretune.service.store import streams
from paretune.service.store.safe_json import stored
from paretune.service.store.tables import Run


class Seen:
    """The objectives of one run over the rows that log any of them, counted from 1, as W&B counts its brackets."""

    def __init__(self, goals: Collection[str]) -> None:
        self.goals = goals
        self.history: History = []
        self.lines = 0  # of the run's history, read until now
        self._latest: dict[str, float] = {}

    def read(self, session: Session, run: Run) -> History:
        """Read the lines that are new, or all of them where the run was rewound."""
        if run.history_lines < self.lines:
            self.history, self.lines, self._latest = [], 0, {}
        if run.history_lines > self.lines:
            for number, line in streams.lines_of(session, run, streams.HISTORY, start=self.lines):
                if number == self.lines:  # lines that came before one that is still on its way wait for it
                    self._note(line)
                    self.lines += 1
        return self.history

    def _note(self, line: str) -> None:
        logged = numbers(stored(line))
        new = {name: logged[name] for name in self.goals if name in logged}
        if new:
            self._latest |= new
            values = [self._latest.get(name, math.nan) for name in self.goals]
            self.history.append((len(self.history) + 1, values))


class Watch:
    """What was read of the runs of one sweep."""

    def __init__(self, goals: Collection[str]) -> None:
        self.lock = threading.Lock()
        self._goals = goals
        self._seen: dict[int, Seen] = {}

    def read(self, session: Session, all_runs: Iterable[Run]) -> list[History]:
        """Return the histories of runs as they stand."""
        return [self._seen.setdefault(run.id, Seen(self._goals)).read(session, run) for run in all_runs]


def history_of(session: Session, run: Run, goals: Collection[str]) -> History:
    """Return the objectives of a run, read anew."""
    return Seen(goals).read(session, run)
