"""What the study of a sweep learns: how its runs ended, and of runs that were there before it. The caller has its turn."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import optuna
import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy.orm import Session

from paretune.core.errors import how_it_ended
from paretune.core.provenance import written_by_us
from paretune.runs import study_schema
from paretune.runs.sweep_outcome import SweepOutcome
from paretune.runs.wandb_files import numbers
from paretune.runs.whole_runs import summary_numbers
from paretune.search.engine.stopping_rules import Outlook
from paretune.search.engine.study import counted_row, enqueue_retry, with_latest, with_summary, without_retry
from paretune.search.sampling.warm_start import Known, add, identities
from paretune.search.spec.hyperband import History
from paretune.search.spec.sweep import Sweep as Definition
from paretune.service.store import runs, streams
from paretune.service.store.database import Database
from paretune.service.store.tables import Issue, Project, Run, Sweep, as_json, now
from paretune.service.sweeps.definitions import definition_of
from paretune.service.sweeps.histories import history_of
from paretune.service.sweeps.searches import OVER, Search

UNSTARTED = timedelta(seconds=90)  # after which a run that was handed out and never began is handed out again
MOST_TIMES = 2  # that a configuration is handed out
MOST_PRIORS = 10_000  # runs that a sweep learns from at its beginning
ENDED = ("finished", "failed", "crashed", "killed")


@dataclass(frozen=True)
class Outcome:
    """How the run of an issue ended: with its rows, where it has a result; with its history, where it was pruned; else why not."""

    issue: int
    trial: int | None  # None of a run that a person or a client's scheduler enqueued
    name: str
    config: Mapping[str, object]
    rows: Sequence[Mapping[str, float]] = ()
    pruned: History | None = None
    cause: str = ""


def learn(database: Database, search: Search, sweep: Sweep) -> Outlook:
    """Tell the study of all that has ended since, let what was lost be tried again, and end the sweep where it is done.

    The study is told outside of every transaction; what a crash leaves unsaid is said again.
    """
    if not search.knows_priors:
        tell_priors(database, search, sweep)
        search.knows_priors = True
    with database.session() as session:
        # a server that was killed may still be handing out a trial: its last statement is carried out after its death
        session.execute(sa.select(Sweep.id).where(Sweep.id == sweep.id).with_for_update())
        outcomes = outcomes_of(session, sweep)
        known = set(session.scalars(sa.select(Issue.trial).where(Issue.sweep_id == sweep.id)))
    said = {outcome.issue: tell(search, outcome.trial, outcome) for outcome in outcomes if outcome.trial is not None}
    _forget_lost(search, known)
    outlook = search.plan.outlook(search.study.get_trials(deepcopy=False))
    done = outlook.name == "DONE"
    if outcomes or done:
        with database.session(writing=True) as session:
            found = session.get_one(Sweep, sweep.id, with_for_update=True)  # first, as whoever locks its issues does
            session.execute(sa.update(Issue).where(Issue.id.in_([one.issue for one in outcomes])).values(told=True))
            for outcome in outcomes:
                if outcome.issue in said:
                    _write(session, sweep, outcome.name, said[outcome.issue])
            if done:
                found.state = found.state if found.state in OVER else "FINISHED"
    return outlook


def _write(session: Session, sweep: Sweep, name: str, said: SweepOutcome) -> None:
    """Write into a run's own summary and tags what its sweep says of it."""
    run = session.scalar(sa.select(Run).where(Run.project_id == sweep.project_id, Run.name == name).with_for_update())
    if run is None:
        return
    runs.keep_summary(session, run, json.dumps({**json.loads(run.summary), **said.to_summary()}))
    if said.baseline:
        run.tags = as_json(list(dict.fromkeys([*json.loads(run.tags), study_schema.BASELINE])))


def outcomes_of(session: Session, sweep: Sweep) -> list[Outcome]:
    """Return how runs ended of which the study knows nothing yet, and which never began, however often they were handed out."""
    own = (Run.project_id == sweep.project_id) & (Run.name == Issue.run_name)
    untold = sa.select(Issue, Run).outerjoin(Run, own).where(Issue.sweep_id == sweep.id, Issue.told.is_(False))
    return [found for issue, run in session.execute(untold) if (found := _outcome(session, sweep, issue, run)) is not None]


def _outcome(session: Session, sweep: Sweep, issue: Issue, run: Run | None) -> Outcome | None:
    if run is None or run.state == "pending":
        if issue.times < MOST_TIMES or (now() - issue.issued_at < UNSTARTED and issue.times < runs.DELETED):
            return None
        deleted = issue.times == runs.DELETED
        cause = "its run was deleted" if deleted else f"it was handed out {issue.times} times and never began"
        return Outcome(issue.id, issue.trial, issue.run_name, {}, cause=cause)
    if run.state not in ENDED:
        return None
    outcome = Outcome(issue.id, issue.trial, run.name, runs.plain_config(run))
    if issue.trial is None:
        return outcome
    if issue.pruned:
        return Outcome(**{**vars(outcome), "pruned": history_of(session, run, definition_of(sweep).goals)})
    if run.state != "finished":
        return Outcome(**{**vars(outcome), "cause": f"its run {run.state}{_how(run)}"})
    return Outcome(**{**vars(outcome), "rows": rows_of(session, run, definition_of(sweep))})


def _how(run: Run) -> str:
    """Return how a program ended of which no result is left, as far as its run says."""
    if run.state == "failed" and run.exit_code:
        return f" (its program {how_it_ended(run.exit_code)})"
    return " (its program was killed or ended by os._exit, or its machine is lost)" if run.state == "crashed" else ""


def rows_of(session: Session, run: Run, definition: Definition) -> list[dict[str, float]]:
    """Return the numbers of a run's rows that hold an objective, the last one with what the program decided in its summary."""
    rows = with_latest(map(numbers, streams.rows_of(session, run)), definition.goals)
    return with_summary(rows, summary_numbers(json.loads(run.summary)), definition.goals)


def tell(search: Search, number: int, outcome: Outcome) -> SweepOutcome:
    """Tell the study how a run ended, by the row that counts and the constraints as they hold there; return what is said of it."""
    definition, known = search.definition, search.study.get_trials(deepcopy=False)[number]
    said = SweepOutcome(definition.goals, baseline=bool(known.user_attrs.get(study_schema.BASELINE)))
    if outcome.pruned is not None:
        _prune(search, number, outcome.pruned)
        return replace(said, pruned=outcome.pruned[-1][0] if outcome.pruned else 0)
    row = counted_row(outcome.rows, definition.goals, ours=written_by_us(outcome.config))
    if row is None:
        cause = outcome.cause or f"it logged no finite {' and '.join(definition.goals)}"
        fail(search, number, cause)
        return replace(said, cause=cause)
    try:
        trial = optuna.Trial(search.study, known._trial_id)
        trial.set_user_attr(study_schema.RUN, {"id": outcome.name, "config": dict(outcome.config)})
        for text, violation in definition.violations(outcome.config, row).items():
            trial.set_constraint(text, violation)
        search.study.tell(number, [row[name] for name in definition.goals])
    except (ValueError, RuntimeError):
        pass  # it was told before a restart
    return definition.judged(said, outcome.config, row)


def _prune(search: Search, number: int, history: History) -> None:
    try:
        trial = optuna.Trial(search.study, search.study.get_trials(deepcopy=False)[number]._trial_id)
        for step, values in history[-1:] if len(search.study.directions) == 1 else ():
            if math.isfinite(values[0]):
                trial.report(values[0], step)  # what the sampler learns of it
        search.study.tell(number, state=TrialState.PRUNED)
    except (ValueError, RuntimeError):
        return  # it was told before a restart


def fail(search: Search, number: int, cause: str) -> None:
    """Tell the study that a trial has no result, and why."""
    trial = search.study.get_trials(deepcopy=False)[number]
    try:
        search.study._storage.set_trial_user_attr(trial._trial_id, study_schema.CAUSE, cause)
        search.study.tell(number, state=TrialState.FAIL)
    except (ValueError, RuntimeError):
        return  # it was told before a restart


def _forget_lost(search: Search, known: set[int | None]) -> None:
    """Let trials be tried again that were asked for just before the server died, and so never handed out."""
    for trial in search.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number not in known:
            fail(search, trial.number, study_schema.INTERRUPTED)
    for trial in without_retry(search.study.get_trials(deepcopy=False)):
        enqueue_retry(search.study, trial, died=False)


def prior_runs(session: Session, sweep: Sweep) -> Sequence[Run]:
    """Return the runs that the sweep's author named to be learnt from, the oldest first."""
    if not sweep.prior_filters:
        return []
    project = session.get_one(Project, sweep.project_id)
    found = runs.found_runs(session, project, filters=sweep.prior_filters, order="+created_at", first=MOST_PRIORS)
    return [run for run in found if run.sweep_name != sweep.name]


def tell_priors(database: Database, search: Search, sweep: Sweep) -> str:
    """Add the runs that were there before to the study, each once, as runs it has learnt from; return in words what came of it."""
    if search.definition.method == "grid" or not search.definition.space.parameters:
        return ""  # which learns from nothing
    with database.session() as session:
        found = [
            Known(run.name, runs.plain_config(run), rows_of(session, run, search.definition) or [{}])
            for run in prior_runs(session, sweep)
            if run.state in ENDED
        ]
    return add(search.study, search.definition, found, identities(search.study))


def waiting_to_be_told(session: Session) -> list[Sweep]:
    """Return the sweeps with runs that ended, or never began, of which nobody was told yet."""
    ended = sa.select(Issue.sweep_id).join(Sweep, Sweep.id == Issue.sweep_id)
    ended = ended.outerjoin(Run, (Run.project_id == Sweep.project_id) & (Run.name == Issue.run_name))
    lost = (Issue.times >= MOST_TIMES) & (Issue.issued_at < now() - UNSTARTED) & (Run.id.is_(None) | (Run.state == "pending"))
    ended = ended.where(Issue.told.is_(False), Run.state.in_(ENDED) | lost)
    return list(session.scalars(sa.select(Sweep).where(Sweep.id.in_(ended))))
