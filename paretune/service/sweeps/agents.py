"""What agents are told at each heartbeat: to start a run, to stop one, to leave.

The configurations come from the same engine as offline, or were enqueued by a client's own scheduler. Each is handed
out once; one whose run never began is handed out a second time, not a third. No transaction is open while the study is asked.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.search.engine.stopping_rules import Outlook
from paretune.search.sampling.slot_sampler import draw
from paretune.service.store import runs
from paretune.service.store.database import Database
from paretune.service.store.tables import Agent, Issue, Run, Sweep, now
from paretune.service.sweeps import heartbeats, sweeps
from paretune.service.sweeps.definitions import definition_of
from paretune.service.sweeps.heartbeats import Pulses
from paretune.service.sweeps.searches import ENDLESS, OVER, Search, Searches
from paretune.service.sweeps.study_feedback import ENDED, MOST_TIMES, UNSTARTED, learn, waiting_to_be_told

SILENCE = timedelta(seconds=60)  # of an agent, after which it counts as gone
GRACE = timedelta(seconds=40)  # from the flag that ends a run cleanly to the signal that ends it at all
EXIT = {"type": "exit"}
Commands = list[dict[str, Any]]
log = logging.getLogger("paretune.service.sweeps.sweeps")


def add_agent(session: Session, sweep: Sweep, host: str) -> Agent:
    """Register an agent."""
    agent = Agent(sweep_id=sweep.id, host=host[:256])
    session.add(agent)
    session.flush()
    return agent


def renew(database: Database) -> None:
    """Give the runs that were handed out and have not begun their time anew: none could be reported while no server ran."""
    with database.session(writing=True) as session:
        heartbeats.renew(session)


def heartbeat(database: Database, searches: Searches, agent: int, pulses: Pulses) -> Commands:
    """Return what an agent shall do that has nothing going: start a run, leave, or nothing yet.

    It is called outside of every transaction.

    Args:
        agent: its number.
        pulses: know whether agents could be heard.
    """
    with database.session(writing=True) as session:
        found = session.get_one(Agent, agent)
        sweep = found.sweep
        found.heartbeat_at = sweep.heartbeat_at = now()
        commands = _at_once(session, sweep, found, pulses)
    if commands is not None:
        return commands
    with searches.turn(database, sweep) as search:
        return [] if search is None else _suggested(database, search, agent, pulses)


def _at_once(session: Session, sweep: Sweep, agent: Agent, pulses: Pulses) -> Commands | None:
    """Return what needs no study; None where a new configuration is wanted of it."""
    session.refresh(sweep, with_for_update=True)  # another process of this server waits, too
    pulses.renew(session, sweep)  # this request may have waited for the database, and so may those that say what is running
    if sweep.state in OVER:
        return [EXIT]
    if sweep.state == "PAUSED":
        return []
    n_begun, cap = 0, ENDLESS
    if sweep.engine is not None:
        settle_enqueued(session, sweep)
        if sweep.state in OVER:
            return [EXIT]
        n_begun, cap = _count(session, sweep, Issue.times > 0), definition_of(sweep).run_cap or ENDLESS
    issue = _given_back(session, sweep, agent, anew=n_begun < cap)
    if issue is not None:
        return _handed(sweep, issue)
    return None if sweep.engine is None else []


def _suggested(database: Database, search: Search, agent: int, pulses: Pulses) -> Commands:
    """Ask the study for a configuration; the sweep ends where there will be none."""
    sweep = search.sweep
    outlook = learn(database, search, sweep)
    with database.session(writing=True) as session:  # much may have come to pass while others had their turn
        found = session.get_one(Sweep, sweep.id)
        commands = _at_once(session, found, session.get_one(Agent, agent), pulses)
    if commands is not None:
        return commands
    if outlook is not Outlook.WORK:
        return []
    trial = search.study.ask()
    values = draw(trial, search.definition)
    issue = Issue(sweep_id=sweep.id, run_name=runs.new_name(), trial=trial.number, times=0, values=json.dumps(values, default=str))
    with database.session(writing=True) as session:
        found = session.get_one(Sweep, sweep.id, with_for_update=True)
        if found.definition != sweep.definition:
            return []  # it was changed meanwhile; the agent asks again
        session.add(issue)
        if found.state not in ("PENDING", "RUNNING"):
            return []  # it waits for the sweep to go on
        issue.agent_id, issue.times = agent, 1
        return _handed(found, issue)


def _handed(sweep: Sweep, issue: Issue) -> Commands:
    if sweep.state == "PENDING":
        sweep.state = "RUNNING"
    args = {name: {"value": value} for name, value in json.loads(issue.values).items()}
    return [{"type": "run", "run_id": issue.run_name, "program": sweep.program, "args": args}]


def _given_back(session: Session, sweep: Sweep, agent: Agent, *, anew: bool) -> Issue | None:
    """Return a configuration whose run never began: this agent's own, a silent one's or, where `anew`, one not handed out yet.

    One that its agent reports as running stays with it, as that renews `issued_at`: a program may need minutes before it calls
    `wandb.init`. So does a start of this server (`renew`).
    """
    own = (Run.project_id == sweep.project_id) & (Run.name == Issue.run_name)
    waiting = sa.select(Issue).outerjoin(Run, own).where(sa.or_(Run.id.is_(None), Run.state == "pending"))
    waiting = waiting.where(Issue.sweep_id == sweep.id, Issue.told.is_(False), Issue.times < MOST_TIMES)
    if not anew:
        waiting = waiting.where(Issue.times > 0)
    for issue in session.scalars(waiting.order_by(Issue.id)):
        if issue.agent_id in (None, agent.id) or now() - issue.issued_at > UNSTARTED:
            issue.agent_id, issue.times, issue.issued_at = agent.id, issue.times + 1, now()
            return issue
    return None


def overdue(session: Session, sweep: Sweep, going: Sequence[str]) -> Commands:
    """Return a signal for a run that was asked to stop and has not, in its own good time."""
    asked = sa.select(Run.name, Run.stop_asked_at).where(Run.project_id == sweep.project_id, Run.name.in_(going), Run.stop_asked)
    for name, moment in session.execute(asked):
        if moment is not None and now() - moment > GRACE:
            return [{"type": "stop", "run_id": name}]
    return []


def settle_enqueued(session: Session, sweep: Sweep) -> None:
    """Note which runs of a client's scheduler have ended; give up on those that were handed out and never began.

    At its `run_cap` the sweep ends, and with it what still waits.
    """
    own = (Run.project_id == sweep.project_id) & (Run.name == Issue.run_name)
    untold = sa.select(Issue, Run).outerjoin(Run, own).where(Issue.sweep_id == sweep.id, Issue.told.is_(False))
    for issue, run in session.execute(untold):
        lost = issue.times >= MOST_TIMES and now() - issue.issued_at > UNSTARTED
        if lost and run is not None and run.state == "pending":
            run.state = "failed"
        issue.told = run is None or run.state in ENDED
    session.flush()
    cap = definition_of(sweep).run_cap
    if cap is not None and sweep.state not in OVER and _count(session, sweep, Issue.told.is_(True), Issue.times > 0) >= cap:
        sweeps.set_state(session, sweep, "FINISHED")


def _count(session: Session, sweep: Sweep, *conditions: sa.ColumnElement[bool]) -> int:
    return session.scalar(sa.select(sa.func.count(Issue.id)).where(Issue.sweep_id == sweep.id, *conditions)) or 0


def look_after(database: Database, searches: Searches, pulses: Pulses) -> None:
    """Tell the studies of what ended after its agent's last heartbeat, so that sweeps end by themselves; close the idle ones."""
    with database.session(writing=True) as session:
        pulses.renew(session)
        untold = waiting_to_be_told(session)
    for sweep in untold:
        try:
            _look_after(database, searches, sweep)
        except Exception:  # one sweep's study must not keep the others waiting
            log.exception("sweep %s could not be looked after", sweep.name)
    searches.tidy(database)


def _look_after(database: Database, searches: Searches, sweep: Sweep) -> None:
    if sweep.engine is not None:
        with database.session(writing=True) as session:
            settle_enqueued(session, session.get_one(Sweep, sweep.id))
        return
    with searches.turn(database, sweep) as search:
        if search is not None:
            learn(database, search, search.sweep)
