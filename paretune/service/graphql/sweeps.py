"""Answers about sweeps and their agents."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from ariadne import MutationType, ObjectType
from sqlalchemy.orm import joinedload

from paretune.core.errors import UsageError
from paretune.search.engine.stopping_rules import Plan
from paretune.service.graphql.query_limits import MOST_IN_PAGE
from paretune.service.graphql.shared import Context, GoneError, as_time, binder, connection, context_of, page_of
from paretune.service.store import runs
from paretune.service.store.filters import SWEEP_FIELDS, condition_of, order_of
from paretune.service.store.safe_json import is_whole, read
from paretune.service.store.tables import Agent, Issue, Project, Run, Sweep, Value, global_id, names_of, now, number_of
from paretune.service.sweeps import agents, searches, study_feedback, sweeps
from paretune.service.sweeps.definitions import definition_of

mutation = MutationType()
project_type = ObjectType("Project")
sweep_type = ObjectType("Sweep")
agent_type = ObjectType("Agent")
BOUND = (mutation, project_type, sweep_type, agent_type)
sweep_field = binder(sweep_type)


@mutation.field("upsertSweep")
def upsert_sweep(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    sweep, notes = sweeps.upsert(context.session, context.account, input)
    return {"sweep": sweep, "configValidationWarnings": notes}


@mutation.field("createAgent")
def create_agent(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    project = runs.project_of(context.session, context.account, input.get("projectName"), input.get("entityName"))
    sweep = None if project is None else sweeps.sweep_of(context.session, project, input["sweep"])
    if project is None or sweep is None:
        raise UsageError(f"there is no sweep {input['sweep']!r} in {input.get('entityName')}/{input.get('projectName')}.")
    runs.check_writable(context.account, project)
    return {"agent": agents.add_agent(context.session, sweep, input["host"])}


@mutation.field("agentHeartbeat")
def agent_heartbeat(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    try:
        alive = read(input.get("runState") or "{}")
    except (ValueError, RecursionError):
        alive = None
    if not isinstance(alive, dict):
        raise UsageError("runState must be a JSON object of run ids.")
    going = [name for name, is_alive in alive.items() if is_alive]
    agent = _agent_of(context, input["id"], known=bool(going))
    if agent is None or not context.account.may_read(agent.sweep.project.entity.name):
        raise GoneError(f"there is no agent {input['id']!r}: its sweep may have been deleted.")
    runs.check_writable(context.account, agent.sweep.project)
    if going:
        context.pulses.note(agent, going)
        commands = agents.overdue(context.session, agent.sweep, going)
    else:
        context.session.commit()  # which only read; the study is asked outside of every transaction
        commands = agents.heartbeat(context.database, context.searches, agent.id, context.pulses)
    return {"agent": agent, "commands": json.dumps(commands)}


def _agent_of(context: Context, identifier: str, *, known: bool) -> Agent | None:
    """Return an agent with its sweep, project and owner; one that was heard a moment ago where that does (`known`)."""
    number = number_of(identifier, "Agent")
    if number is None:
        return None
    found = context.pulses.known(number) if known else None
    if found is None:
        owned = joinedload(Agent.sweep).joinedload(Sweep.project).joinedload(Project.entity)
        found = context.session.get(Agent, number, options=[owned])
        if found is not None:
            context.pulses.keep(found)
    return found


@mutation.field("enqueueSweepRun")
def enqueue_sweep_run(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    run = sweeps.enqueue(context.session, context.account, input["id"], input["config"], input.get("displayName"))
    return {"id": run.name, "runQueueItemId": None}


@project_type.field("sweep")
def project_sweep(project: Project, info: Any, sweepName: str) -> Sweep | None:
    return sweeps.sweep_of(context_of(info).session, project, sweepName)


@project_type.field("totalSweeps")
def total_sweeps(project: Project, info: Any) -> int:
    counted = sa.select(sa.func.count(Sweep.id)).where(Sweep.project_id == project.id)
    return context_of(info).session.scalar(counted) or 0


@project_type.field("sweeps")
def project_sweeps(
    project: Project, info: Any, after: str | None = None, first: int | None = None, filters: str | None = None
) -> dict[str, Any]:
    session = context_of(info).session
    skip, first = page_of(after, first)
    matching = sa.select(Sweep).where(Sweep.project_id == project.id, condition_of(filters, SWEEP_FIELDS)).order_by(Sweep.id.desc())
    found = session.scalars(matching.offset(skip).limit(first + 1)).all()
    return connection(found[:first], skip, skip + len(found))


def runs_of_sweep(sweep: Sweep) -> Any:
    """Return the query of a sweep's runs."""
    return sa.select(Run).where(Run.project_id == sweep.project_id, Run.sweep_name == sweep.name).order_by(Run.id)


@sweep_type.field("runs")
def sweep_runs(sweep: Sweep, info: Any, first: int | None = None, after: str | None = None) -> dict[str, Any]:
    """Of a client's own scheduler, the runs that are to be learnt from come first: it learns of them here alone."""
    session = context_of(info).session
    skip, first = page_of(after, MOST_IN_PAGE if first is None else first)
    prior = list(study_feedback.prior_runs(session, sweep)) if sweep.engine else []
    own = session.scalars(runs_of_sweep(sweep).offset(max(skip - len(prior), 0)).limit(first + 1)).all()
    found = [*prior[skip : skip + first], *own]
    return connection(found[:first], skip, skip + len(found))


@sweep_type.field("priorRuns")
def sweep_prior_runs(sweep: Sweep, info: Any, first: int | None = None, after: str | None = None) -> dict[str, Any]:
    found = study_feedback.prior_runs(context_of(info).session, sweep)
    skip, first = page_of(after, MOST_IN_PAGE if first is None else first)
    return connection(found[skip : skip + first], skip, len(found))


sweep_field("id")(lambda sweep, _: sweep.global_id)
sweep_field("displayName")(lambda sweep, _: sweep.display_name)
sweep_field("config")(lambda sweep, _: sweep.definition)
sweep_field("createdAt")(lambda sweep, _: as_time(sweep.created_at))
sweep_field("updatedAt")(lambda sweep, _: as_time(sweep.updated_at))
sweep_field("heartbeatAt")(lambda sweep, _: None if sweep.heartbeat_at is None else as_time(sweep.heartbeat_at))
sweep_field("runCount")(
    lambda sweep, context: context.session.scalar(sa.select(sa.func.count()).select_from(runs_of_sweep(sweep).subquery()))
)
sweep_field("runCountExpected")(lambda sweep, _: expected_runs(sweep))
sweep_field("bestLoss")(lambda sweep, context: best_loss(sweep, context))
sweep_field("controllerRunName")(lambda sweep, _: sweeps.scheduler_run(sweep) if sweep.engine else None)


def expected_runs(sweep: Sweep) -> int | None:
    """Return how many runs a sweep will have; None of one without an end."""
    plan = Plan(definition_of(sweep), definition_of(sweep).run_cap or searches.ENDLESS)
    return None if plan.trials >= searches.ENDLESS else plan.trials


def best_loss(sweep: Sweep, context: Context) -> float | None:
    """Return the best value of a sweep's metric so far."""
    definition = definition_of(sweep)
    if len(definition.objectives) != 1:
        return None
    better = max if definition.goal == "maximize" else min
    if sweep.engine is not None:
        values = sa.select(Value.number).join(Run, Run.id == Value.run_id).where(Value.place == "s", Value.key == definition.metric)
        values = values.where(Run.project_id == sweep.project_id, Run.sweep_name == sweep.name, Run.state == "finished")
        found = [value for value in context.session.scalars(values) if value is not None and math.isfinite(value)]
        return better(found, default=None)
    known = [trial.value for trial in context.searches.trials(sweep) if trial.value is not None]
    return float(better(known)) if known else None


@sweep_type.field("agents")
def sweep_agents(sweep: Sweep, info: Any) -> dict[str, Any]:
    found = context_of(info).session.scalars(sa.select(Agent).where(Agent.sweep_id == sweep.id).order_by(Agent.id)).all()
    return connection(found, 0, len(found))


@sweep_type.field("agent")
def sweep_agent(sweep: Sweep, info: Any, agentName: str) -> Agent | None:
    names = names_of(agentName, "Agent") or [agentName]
    found = context_of(info).session.get(Agent, int(names[0])) if is_whole(names[0]) else None
    return found if found is not None and found.sweep_id == sweep.id else None


agent_type.set_field("id", lambda agent, _: global_id("Agent", str(agent.id)))
agent_type.set_field("name", lambda agent, _: str(agent.id))
agent_type.set_field("createdAt", lambda agent, _: as_time(agent.created_at))
agent_type.set_field("heartbeatAt", lambda agent, _: as_time(agent.heartbeat_at))
agent_type.set_field("state", lambda agent, _: "RUNNING" if now() - agent.heartbeat_at < agents.SILENCE else "STOPPED")


@agent_type.field("totalRuns")
def total_runs(agent: Agent, info: Any) -> int:
    counted = sa.select(sa.func.count(Issue.id)).where(Issue.agent_id == agent.id)
    return context_of(info).session.scalar(counted) or 0


@agent_type.field("runs")
def agent_runs(
    agent: Agent,
    info: Any,
    after: str | None = None,
    before: str | None = None,
    first: int | None = None,
    last: int | None = None,
    order: str | None = None,
) -> dict[str, Any]:
    session = context_of(info).session
    skip, first = page_of(after, first)
    names = sa.select(Issue.run_name).where(Issue.agent_id == agent.id)
    matching = runs.matching(sa.select(Run), agent.sweep.project, None).where(Run.name.in_(names)).order_by(*order_of(order))
    found = session.scalars(matching.offset(skip).limit(first + 1)).all()
    return connection(found[:first], skip, skip + len(found))
