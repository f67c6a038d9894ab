"""Sweeps: created, paused, resumed, stopped and cancelled; and what their agents are told at each heartbeat.

The configurations come from the same engine as offline (`search/`): the whole grammar, on an Optuna study that is stored, so that
a restart forgets nothing. A configuration is handed out once; one whose run never began is handed out a second time, not a third.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service import runs, streams
from service.accounts import Account
from service.database import Agent, Issue, Project, Run, Sweep, names_of, now
from trainers.errors import UsageError

if TYPE_CHECKING:
    import optuna

    from search.hyperband import History
    from search.plan import Plan
    from search.sweep import Sweep as Definition

STATES = ("PENDING", "RUNNING", "PAUSED", "FINISHED", "CANCELED")
OVER = ("FINISHED", "CANCELED")
UNSTARTED = timedelta(seconds=90)  # after which a run that was handed out and never began is handed out again
SILENCE = timedelta(seconds=60)  # of an agent, after which its unstarted run is another's
GRACE = timedelta(seconds=40)  # from the flag that ends a run cleanly to the signal that ends it at all
ENDED = ("finished", "failed", "crashed", "killed")
ENDLESS = 10**9  # trials of a sweep without run_cap
MOST_TIMES = 2  # that a configuration is handed out


class Search:
    """The study of one sweep in this process, one caller at a time."""

    def __init__(self, definition: Definition, study: optuna.Study, plan: Plan) -> None:
        self.definition, self.study, self.plan = definition, study, plan
        self.lock = threading.Lock()
        self.ended: dict[int, History] = {}  # of runs that have ended, which are read once


class Searches:
    """The studies of all sweeps, opened when they are first asked.

    Args:
        storage: URL of Optuna's storage; not the SQLite file of the service, whose transactions would wait for each other.
    """

    def __init__(self, storage: str) -> None:
        self.storage = storage
        self._lock = threading.Lock()
        self._open: dict[int, Search] = {}

    def of(self, sweep: Sweep) -> Search:
        """Return the study of a sweep."""
        with self._lock:
            if sweep.id not in self._open:
                from search.plan import Plan
                from search.study import open_study

                definition = read_definition(sweep.definition, sweep.name)
                study = open_study(definition, self.storage, f"{sweep.id}-{sweep.name}", seed=sweep.id)
                plan = Plan(definition, definition.run_cap or ENDLESS)
                self._open[sweep.id] = Search(definition, study, plan)
            return self._open[sweep.id]

    def close(self) -> None:
        """Let go of the connections of every study."""
        from trainers.storage import close

        with self._lock:
            for search in self._open.values():
                close(search.study._storage)
            self._open.clear()


def read_definition(text: str, name: str) -> Definition:
    """Read a sweep that a client sent.

    Raises:
        UsageError: a sentence for every fault.
    """
    from search.sweep import read_sweep

    return read_sweep(Path(f"{name}.yaml"), text=text)


def upsert(session: Session, account: Account, values: Mapping[str, Any]) -> tuple[Sweep, list[str]]:
    """Create a sweep, or change the one of `id`; return it and what is to be said of its definition.

    Raises:
        UsageError: if its definition has faults, or the state is none.
        RefusedError: if the account may not write there.
    """
    notes: list[str] = []
    if values.get("id"):
        sweep = sweep_by_id(session, account, values["id"])
        if values.get("config"):
            raise UsageError("a sweep's definition does not change once it has begun: create another sweep.")
    else:
        project = runs.project_of(session, account, values.get("projectName"), values.get("entityName"), create=True)
        assert project is not None
        runs.check_writable(account, project)
        sweep = Sweep(project=project, name=runs.new_name(), user_id=account.id, definition=str(values.get("config") or ""))
        definition = read_definition(sweep.definition, sweep.name)
        if definition.method == "custom":
            raise UsageError("method custom is not served yet: leave scheduler out, and write method: bayes, random or grid.")
        sweep.method, notes = definition.method, definition.notes
        sweep.display_name = values.get("displayName") or definition.name
        sweep.description, sweep.prior_filters = values.get("description"), values.get("priorRunsFilters")
        session.add(sweep)
        session.flush()
    if values.get("state"):
        set_state(session, sweep, str(values["state"]).upper())
    if values.get("displayName"):
        sweep.display_name = values["displayName"]
    sweep.updated_at = now()
    return sweep, notes


def set_state(session: Session, sweep: Sweep, state: str) -> None:
    """Pause, resume, stop (FINISHED: running runs go on to their end) or cancel a sweep.

    Raises:
        UsageError: if there is no such state, or the sweep is over.
    """
    if state not in STATES:
        raise UsageError(f"a sweep's state must be one of {', '.join(STATES)}. Got {state!r}.")
    if sweep.state in OVER and state != sweep.state:
        raise UsageError(f"sweep {sweep.name} is {sweep.state.lower()} already.")
    sweep.state = state
    if state == "CANCELED":
        live = sa.select(Run).where(Run.project_id == sweep.project_id, Run.sweep_name == sweep.name, Run.state.in_(runs.LIVE))
        for run in session.scalars(live):
            runs.ask_to_stop(run)


def sweep_of(session: Session, project: Project, name: str) -> Sweep | None:
    """Return a sweep of a project by W&B's sweep id."""
    return session.scalar(sa.select(Sweep).where(Sweep.project_id == project.id, Sweep.name == name))


def sweep_by_id(session: Session, account: Account, identifier: str) -> Sweep:
    """Return a sweep that the account may change, by the identifier that clients got.

    Raises:
        UsageError: if there is none.
        RefusedError: if the account may only look at it.
    """
    names = names_of(identifier, "Sweep") or []
    project = runs.project_of(session, account, names[1], names[2]) if len(names) == 3 else None
    sweep = None if project is None else sweep_of(session, project, names[0])
    if sweep is None:
        raise UsageError(f"there is no sweep {identifier!r}.")
    runs.check_writable(account, sweep.project)
    return sweep


def add_agent(session: Session, sweep: Sweep, host: str) -> Agent:
    """Register an agent."""
    agent = Agent(sweep_id=sweep.id, host=host[:256])
    session.add(agent)
    session.flush()
    return agent


def heartbeat(session: Session, searches: Searches, agent: Agent, alive: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what an agent shall do: at most one of run, stop and exit.

    Args:
        alive: the runs that it has going, by name.
    """
    sweep = agent.sweep
    agent.heartbeat_at = sweep.heartbeat_at = now()
    going = [name for name, is_alive in alive.items() if is_alive]
    if sweep.state == "CANCELED":
        return _overdue(session, sweep, going) or ([] if going else [{"type": "exit"}])
    search = searches.of(sweep)
    with search.lock:
        session.refresh(sweep, with_for_update=True)  # another process of this server waits, too
        settle(session, sweep, search)
        if going:
            return _overdue(session, sweep, going)
        if sweep.state == "FINISHED":
            return [{"type": "exit"}]
        if sweep.state == "PAUSED":
            return []
        issue = _given_back(session, sweep, agent) or _next(session, sweep, search, agent)
        if sweep.state == "FINISHED":  # it has just come to its end
            return [{"type": "exit"}]
        if issue is None:
            return []
        if sweep.state == "PENDING":
            sweep.state = "RUNNING"
        args = {name: {"value": value} for name, value in json.loads(issue.values).items()}
        return [{"type": "run", "run_id": issue.run_name, "program": search.definition.program, "args": args}]


def observe(session: Session, searches: Searches, run: Run) -> None:
    """Ask a run to stop where its sweep's `early_terminate` says so, by what it has logged until now."""
    issue = session.scalar(sa.select(Issue).where(Issue.run_name == run.name, Issue.told.is_(False)))
    sweep = None if issue is None else session.get(Sweep, issue.sweep_id)
    if issue is None or sweep is None or issue.pruned or sweep.project_id != run.project_id:
        return
    search = searches.of(sweep)
    rule = search.definition.early_terminate
    if rule is None:
        return
    own = history_of(session, search, run)
    if not any(bracket <= len(own) for bracket in rule.brackets):
        return
    with search.lock:
        others = []
        theirs = sa.select(Run).where(Run.project_id == run.project_id, Run.sweep_name == sweep.name, Run.id != run.id)
        for other in session.scalars(theirs.where(Run.state != "failed")):
            history = search.ended.get(other.id) or history_of(session, search, other)
            if other.state in ENDED:
                search.ended[other.id] = history
            others.append(history)
        if rule.should_stop(own, [own, *others], list(search.definition.goals.values())):
            issue.pruned = True
            runs.ask_to_stop(run)


def history_of(session: Session, search: Search, run: Run) -> History:
    """Return the objectives of a run over the rows that log any of them, counted from 1, as W&B counts its brackets."""
    from search.study import with_latest

    goals = search.definition.goals
    rows = [
        {name: _number(value) for name in goals if (value := streams.value_at(row, name)) is not None}
        for row in streams.rows_of(session, run)
    ]
    latest = with_latest(rows, goals)
    return [(number, [row.get(name, math.nan) for name in goals]) for number, row in enumerate(latest, start=1)]


def settle(session: Session, sweep: Sweep, search: Search) -> None:
    """Tell the study of the runs that have ended since; give up on those that never began, however often they were handed out."""
    untold = session.scalars(sa.select(Issue).where(Issue.sweep_id == sweep.id, Issue.told.is_(False))).all()
    for issue in untold:
        run = session.scalar(sa.select(Run).where(Run.project_id == sweep.project_id, Run.name == issue.run_name))
        if run is not None and run.state in ENDED:
            issue.told = True
            tell(session, search, issue, run)
        elif run is None and issue.times >= MOST_TIMES and now() - issue.issued_at > UNSTARTED:
            issue.told = True
            _fail(search, issue.trial, f"it was handed out {issue.times} times and never began")


def tell(session: Session, search: Search, issue: Issue, run: Run) -> None:
    """Tell the study how a run ended: by the best row of its history, else by its summary."""
    from search.study import best_epoch
    from trainers import records

    if issue.pruned:
        _prune(search, issue.trial, history_of(session, search, run))
        return
    if run.state != "finished":
        _fail(search, issue.trial, f"its run {run.state}")
        return
    goals = search.definition.goals
    rows = [{name: _number(streams.value_at(row, name)) for name in goals} for row in streams.rows_of(session, run)]
    summary = json.loads(run.summary)
    best = best_epoch(rows, goals) or best_epoch([{name: _number(streams.value_at(summary, name)) for name in goals}], goals)
    if best is None:
        _fail(search, issue.trial, f"it logged no finite {' and '.join(goals)}")
        return
    trial = search.study.get_trials(deepcopy=False)[issue.trial]
    search.study._storage.set_trial_user_attr(trial._trial_id, records.RUN, {"id": run.name})
    try:
        search.study.tell(issue.trial, [best[name] for name in goals])
    except ValueError:
        return  # it was told before a restart


def _prune(search: Search, number: int, history: History) -> None:
    import optuna

    frozen = search.study.get_trials(deepcopy=False)[number]
    try:
        trial = optuna.Trial(search.study, frozen._trial_id)
        for step, values in history[-1:] if len(search.study.directions) == 1 else ():
            if math.isfinite(values[0]):
                trial.report(values[0], step)  # what the sampler learns of it
        search.study.tell(number, state=optuna.trial.TrialState.PRUNED)
    except (ValueError, RuntimeError):
        return  # it was told before a restart


def _fail(search: Search, number: int, cause: str) -> None:
    from optuna.trial import TrialState

    from trainers import records

    trial = search.study.get_trials(deepcopy=False)[number]
    try:
        search.study._storage.set_trial_user_attr(trial._trial_id, records.CAUSE, cause)
        search.study.tell(number, state=TrialState.FAIL)
    except (ValueError, RuntimeError):
        return  # it was told before a restart


def _given_back(session: Session, sweep: Sweep, agent: Agent) -> Issue | None:
    """Return a configuration whose run never began: this agent's own, or that of one that has fallen silent or let it lie."""
    open_ones = sa.select(Issue).where(Issue.sweep_id == sweep.id, Issue.told.is_(False), Issue.times < MOST_TIMES)
    for issue in session.scalars(open_ones.order_by(Issue.id)):
        began = session.scalar(sa.select(Run.id).where(Run.project_id == sweep.project_id, Run.name == issue.run_name))
        if began is not None:
            continue
        owner = session.get(Agent, issue.agent_id) if issue.agent_id is not None else None
        silent = owner is None or now() - owner.heartbeat_at > SILENCE
        if issue.agent_id == agent.id or silent or now() - issue.issued_at > UNSTARTED:
            issue.agent_id, issue.times, issue.issued_at = agent.id, issue.times + 1, now()
            return issue
    return None


def _next(session: Session, sweep: Sweep, search: Search, agent: Agent) -> Issue | None:
    """Ask the study for a configuration; None where there is none now, and the sweep ends where there will be none."""
    from search.plan import Outlook
    from search.suggest import draw

    _forget_lost(session, sweep, search)
    outlook = search.plan.outlook(search.study.get_trials(deepcopy=False))
    if outlook is Outlook.DONE:
        sweep.state = "FINISHED"
    if outlook is not Outlook.WORK:
        return None
    trial = search.study.ask()
    values = draw(trial, search.definition)
    issue = Issue(
        sweep_id=sweep.id, agent_id=agent.id, run_name=runs.new_name(), trial=trial.number, values=json.dumps(values, default=str)
    )
    session.add(issue)
    session.flush()
    return issue


def _forget_lost(session: Session, sweep: Sweep, search: Search) -> None:
    """Let trials be tried again that were asked for just before the server died, and so never handed out."""
    from optuna.trial import TrialState

    from trainers import records

    known = set(session.scalars(sa.select(Issue.trial).where(Issue.sweep_id == sweep.id)))
    for trial in search.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number not in known:
            _fail(search, trial.number, records.INTERRUPTED)
            kept = {key: value for key, value in trial.user_attrs.items() if key in records.GIVEN}
            search.study.enqueue_trial(
                {**trial.system_attrs.get("fixed_params", {}), **trial.params}, user_attrs={**kept, records.RETRY_OF: trial.number}
            )


def _overdue(session: Session, sweep: Sweep, going: list[str]) -> list[dict[str, Any]]:
    """Return a signal for a run that was asked to stop and has not, in its own good time."""
    query = sa.select(Run).where(Run.project_id == sweep.project_id, Run.name.in_(going), Run.stop_asked.is_(True))
    for run in session.scalars(query):
        if run.stop_asked_at is not None and now() - run.stop_asked_at > GRACE:
            return [{"type": "stop", "run_id": run.name}]
    return []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
