"""`early_terminate`: a run is asked to stop by what it and the others have logged, of which each line is read once."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.runs.wandb_files import numbers
from paretune.service.store import runs, streams
from paretune.service.store.database import Database, Issue, Run, Sweep

if TYPE_CHECKING:
    from paretune.search.spec.hyperband import History
    from paretune.service.sweeps.searches import Searches


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
        logged = numbers(json.loads(line))
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


def observe(database: Database, searches: Searches, run: Run) -> bool:
    """Ask a run to stop where its sweep's `early_terminate` says so; return whether it shall.

    It is called outside of every transaction, after what the run has logged was kept.
    """
    from paretune.service.sweeps.searches import definition_of

    with database.session() as session:
        query = sa.select(Sweep).where(Sweep.project_id == run.project_id, Sweep.name == run.sweep_name)
        sweep = session.scalar(query)
    rule = None if sweep is None or sweep.engine else definition_of(sweep).early_terminate
    if sweep is None or rule is None:
        return False
    watch = searches.watch(sweep)
    with watch.lock, database.session() as session:
        (own,) = watch.read(session, [run])
        if not any(bracket <= len(own) for bracket in rule.brackets) or issue_of(session, sweep, run) is None:
            return False
        handed_out = sa.select(Issue.run_name).where(Issue.sweep_id == sweep.id)  # the other runs are members of a trial
        others = sa.select(Run).where(
            Run.project_id == run.project_id, Run.name.in_(handed_out), Run.id != run.id, Run.state != "failed"
        )
        histories = [own, *watch.read(session, session.scalars(others))]
        stops = rule.should_stop(own, histories, list(definition_of(sweep).goals.values()))
    if not stops:
        return False
    with database.session(writing=True) as session:
        issue, kept = issue_of(session, sweep, run), session.get(Run, run.id)
        if issue is None or kept is None:
            return False
        issue.pruned = True
        runs.ask_to_stop(kept)
        return kept.stop_asked


def issue_of(session: Session, sweep: Sweep, run: Run) -> Issue | None:
    """Return the configuration that a run of a sweep was handed, while it is neither asked to stop nor told of."""
    return session.scalar(
        sa.select(Issue).where(
            Issue.sweep_id == sweep.id, Issue.run_name == run.name, Issue.told.is_(False), Issue.pruned.is_(False)
        )
    )


def history_of(session: Session, run: Run, goals: Collection[str]) -> History:
    """Return the objectives of a run, read anew."""
    return Seen(goals).read(session, run)
