"""Answers about sweeps and their agents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from ariadne import MutationType, ObjectType

from service import runs, sweeps
from service.answers.shared import Context, GoneError, as_time, binder, connection, context_of, page_of
from service.database import Agent, Issue, Project, Run, Sweep, global_id, names_of, now
from trainers.errors import UsageError

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
    return {"agent": sweeps.add_agent(context.session, sweep, input["host"])}


@mutation.field("agentHeartbeat")
def agent_heartbeat(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    names = names_of(input["id"], "Agent") or [""]
    agent = context.session.get(Agent, int(names[0])) if names[0].isdigit() else None
    if agent is None or not context.account.may_read(agent.sweep.project.entity.name):
        raise GoneError(f"there is no agent {input['id']!r}: its sweep may have been deleted.")
    runs.check_writable(context.account, agent.sweep.project)
    try:
        alive = json.loads(input.get("runState") or "{}")
    except ValueError:
        alive = None
    if not isinstance(alive, dict):
        raise UsageError("runState must be a JSON object of run ids.")
    commands = sweeps.heartbeat(context.session, context.searches, agent, alive)
    return {"agent": agent, "commands": json.dumps(commands)}


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
    matching = sa.select(Sweep).where(Sweep.project_id == project.id).order_by(Sweep.id.desc())
    found = session.scalars(matching.offset(skip).limit(first + 1)).all()
    return connection(found[:first], skip, skip + len(found))


def runs_of_sweep(sweep: Sweep) -> Any:
    """Return the query of a sweep's runs."""
    return sa.select(Run).where(Run.project_id == sweep.project_id, Run.sweep_name == sweep.name).order_by(Run.id)


sweep_field("id")(lambda sweep, _: sweep.global_id)
sweep_field("displayName")(lambda sweep, _: sweep.display_name)
sweep_field("config")(lambda sweep, _: sweep.definition)
sweep_field("createdAt")(lambda sweep, _: as_time(sweep.created_at))
sweep_field("updatedAt")(lambda sweep, _: as_time(sweep.updated_at))
sweep_field("heartbeatAt")(lambda sweep, _: None if sweep.heartbeat_at is None else as_time(sweep.heartbeat_at))
sweep_field("runCount")(
    lambda sweep, context: context.session.scalar(sa.select(sa.func.count()).select_from(runs_of_sweep(sweep).subquery()))
)
sweep_field("runCountExpected")(lambda sweep, context: expected_runs(sweep, context))
sweep_field("bestLoss")(lambda sweep, context: best_loss(sweep, context))
sweep_field("runs")(lambda sweep, context: connection(context.session.scalars(runs_of_sweep(sweep)).all(), 0, 0))


def expected_runs(sweep: Sweep, context: Context) -> int | None:
    """Return how many runs a sweep will have; None of one without an end."""
    plan = context.searches.of(sweep).plan
    return None if plan.trials >= sweeps.ENDLESS else plan.trials


def best_loss(sweep: Sweep, context: Context) -> float | None:
    """Return the best value of a sweep's metric so far."""
    search = context.searches.of(sweep)
    if len(search.definition.objectives) != 1:
        return None
    known = [trial.value for trial in search.study.get_trials(deepcopy=False) if trial.value is not None]
    better = max if search.definition.goal == "maximize" else min
    return float(better(known)) if known else None


@sweep_type.field("agents")
def sweep_agents(sweep: Sweep, info: Any) -> dict[str, Any]:
    found = context_of(info).session.scalars(sa.select(Agent).where(Agent.sweep_id == sweep.id).order_by(Agent.id)).all()
    return connection(found, 0, len(found))


@sweep_type.field("agent")
def sweep_agent(sweep: Sweep, info: Any, agentName: str) -> Agent | None:
    names = names_of(agentName, "Agent") or [agentName]
    found = context_of(info).session.get(Agent, int(names[0])) if names[0].isdigit() else None
    return found if found is not None and found.sweep_id == sweep.id else None


agent_type.set_field("id", lambda agent, _: global_id("Agent", str(agent.id)))
agent_type.set_field("name", lambda agent, _: str(agent.id))
agent_type.set_field("createdAt", lambda agent, _: as_time(agent.created_at))
agent_type.set_field("heartbeatAt", lambda agent, _: as_time(agent.heartbeat_at))
agent_type.set_field("state", lambda agent, _: "RUNNING" if now() - agent.heartbeat_at < sweeps.SILENCE else "STOPPED")


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
    matching = sa.select(Run).where(Run.project_id == agent.sweep.project_id, Run.name.in_(names)).order_by(Run.id)
    found = session.scalars(matching.offset(skip).limit(first + 1)).all()
    return connection(found[:first], skip, skip + len(found))
