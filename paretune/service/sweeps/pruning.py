"""`early_terminate`: a run is asked to stop by what it and the others have logged."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.service.store import runs
from paretune.service.store.database import Database
from paretune.service.store.tables import Issue, Run, Sweep
from paretune.service.sweeps.definitions import definition_of
from paretune.service.sweeps.searches import Searches


def observe(database: Database, searches: Searches, run: Run) -> bool:
    """Ask a run to stop where its sweep's `early_terminate` says so; return whether it shall.

    It is called outside of every transaction, after what the run has logged was kept.
    """
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
