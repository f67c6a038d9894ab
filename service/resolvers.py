"""The functions that answer the fields of schema.graphql."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from ariadne import MutationType, ObjectType, QueryType
from sqlalchemy.orm import Session

from service import runs, streams, sweeps
from service.accounts import Account
from service.database import Agent, Entity, Issue, Project, Run, RunFile, Sweep, User, global_id, names_of, now
from service.execution import Schema
from service.files import Files
from trainers.errors import UsageError

FEATURES = ("CLIENT_IDS", "LARGE_FILENAMES", "STRUCTURED_CONSOLE_LOGS", "MARK_RUN_FILES_UPLOADED", "TOTAL_COUNT_IN_FILE_CONNECTION")
PAGE, MOST_IN_PAGE = 50, 1000
MOST_ROWS = 10_000  # of a history in one answer
STATES = {"pending": ("running", "failed", "crashed", "preempted"), "failed": ("pending", "running")}  # a client may set

query, mutation = QueryType(), MutationType()
project_type, run_type, file_type = ObjectType("Project"), ObjectType("Run"), ObjectType("File")
sweep_type, agent_type = ObjectType("Sweep"), ObjectType("Agent")


@dataclass(frozen=True)
class Context:
    """What answers one request: its transaction, who asks, where the contents of files are, and the studies of sweeps."""

    session: Session
    account: Account
    files: Files
    searches: sweeps.Searches
    base: str  # this server's address as the client sees it: addresses of files must be whole


def schema() -> Schema:
    """Return the schema with everything bound."""
    return Schema(query, mutation, project_type, run_type, file_type, sweep_type, agent_type)


def context_of(info: Any) -> Context:
    """Return the context of a request."""
    return info.context


# -- accounts


def user_values(user: User, entities: Sequence[str] = ()) -> dict[str, Any]:
    """Return a user as clients read it."""
    teams = [{"node": {"id": global_id("Entity", name), "name": name, "isTeam": True, "readOnlyAdmin": False}} for name in entities]
    return {
        "id": global_id("User", user.name),
        "name": user.name,
        "username": user.name,
        "email": user.email,
        "admin": user.role == "admin",
        "flags": "{}",
        "entity": user.entity.name,
        "apiKeys": {"edges": []},
        "teams": {"edges": teams},
    }


@query.field("viewer")
def viewer(_: Any, info: Any) -> dict[str, Any]:
    context = context_of(info)
    user = context.session.get_one(User, context.account.id)
    return user_values(user, context.account.entities)


@query.field("users")
def users(_: Any, info: Any, query: str | None = None) -> dict[str, Any]:
    wanted = (User.name == query) | (User.email == query)
    found = context_of(info).session.scalars(sa.select(User).where(wanted)) if query else ()
    return {"edges": [{"node": user_values(user)} for user in found]}


@query.field("serverInfo")
def server_info(*_: Any) -> dict[str, Any]:
    features = [{"name": name, "isEnabled": True} for name in FEATURES]
    return {"features": features, "cliVersionInfo": {"max_cli_version": None, "min_cli_version": "0.0.0"}}


@query.field("entity")
def entity(_: Any, info: Any, name: str | None = None) -> dict[str, Any] | None:
    context = context_of(info)
    wanted = name or context.account.entity
    found = context.session.scalar(sa.select(Entity).where(Entity.name == wanted))
    return entity_values(found) if found is not None and context.account.may_read(wanted) else None


def entity_values(entity: Entity) -> dict[str, Any]:
    """Return an entity as clients read it."""
    kind = "team" if entity.is_team else "user"
    values = {"id": global_id("Entity", entity.name), "name": entity.name, "isTeam": entity.is_team, "entityType": kind}
    return {**values, "available": True, "readOnly": False, "readOnlyAdmin": False}


# -- projects


@query.field("project")
@query.field("model")
def project(_: Any, info: Any, name: str | None = None, entityName: str | None = None) -> Project | None:
    context = context_of(info)
    return runs.project_of(context.session, context.account, name, entityName)


@query.field("models")
def projects(
    _: Any,
    info: Any,
    entityName: str | None = None,
    after: str | None = None,
    first: int = PAGE,
) -> dict[str, Any]:
    context = context_of(info)
    wanted = entityName or context.account.entity
    if not context.account.may_read(wanted):
        return connection([], 0, 0)
    matching = sa.select(Project).join(Entity).where(Entity.name == wanted)
    skip, first = page_of(after, first)
    found = context.session.scalars(matching.order_by(Project.id.desc()).offset(skip).limit(first)).all()
    total = context.session.scalar(sa.select(sa.func.count()).select_from(matching.subquery())) or 0
    return connection(found, skip, total)


@mutation.field("upsertModel")
def upsert_model(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    known = runs.project_of(context.session, context.account, input.get("name"), input.get("entityName"))
    found = known or runs.project_of(context.session, context.account, input.get("name"), input.get("entityName"), create=True)
    assert found is not None
    runs.check_writable(context.account, found)
    if input.get("description") is not None:
        found.description = input["description"]
    return {"project": found, "model": found, "inserted": known is None}


def project_field(name: str) -> Callable[[Any], Any]:
    """Bind a function of (project, context) to a field."""

    def bind(function: Callable[[Project, Context], Any]) -> Any:
        project_type.set_field(name, lambda project, info: function(project, context_of(info)))
        return function

    return bind


project_field("id")(lambda project, _: project.global_id)
project_field("internalId")(lambda project, _: project.id)
project_field("entityName")(lambda project, _: project.entity.name)
project_field("entity")(lambda project, _: entity_values(project.entity))
project_field("access")(lambda *_: "PRIVATE")
project_field("views")(lambda *_: "{}")
project_field("createdAt")(lambda project, _: as_time(project.created_at))
project_field("isBenchmark")(lambda *_: False)
project_field("readOnly")(lambda project, context: not context.account.may_write(project.entity.name))
project_field("user")(lambda project, _: None if project.user is None else user_values(project.user))


@project_type.field("run")
@project_type.field("bucket")
def run(project: Project, info: Any, name: str, missingOk: bool = True) -> Run | None:
    found = runs.run_of(context_of(info).session, project, name)
    if found is None and not missingOk:
        raise UsageError(f"there is no run {name!r} in {project.entity.name}/{project.name}.")
    return found


@project_type.field("runCount")
def run_count(project: Project, info: Any, filters: str | None = None) -> int:
    return runs.count_runs(context_of(info).session, project, filters)


@project_type.field("runs")
def project_runs(
    project: Project,
    info: Any,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> dict[str, Any]:
    session = context_of(info).session
    skip, first = page_of(after, first)
    found = runs.found_runs(session, project, filters=filters, order=order, first=first + 1, skip=skip)
    return connection(found[:first], skip, skip + len(found))


# -- runs


def run_field(name: str) -> Callable[[Any], Any]:
    """Bind a function of (run, context) to a field."""

    def bind(function: Callable[[Run, Context], Any]) -> Any:
        run_type.set_field(name, lambda run, info: function(run, context_of(info)))
        return function

    return bind


run_field("id")(lambda run, _: run.global_id)
run_field("projectId")(lambda run, _: run.project_id)
run_field("displayName")(lambda run, _: run.display_name)
run_field("stopped")(lambda run, _: run.stop_asked)
run_field("summaryMetrics")(lambda run, _: run.summary)
run_field("systemMetrics")(lambda run, _: run.system)
run_field("tags")(lambda run, _: json.loads(run.tags))
run_field("group")(lambda run, _: run.group_name)
run_field("jobType")(lambda run, _: run.job_type)
run_field("sweepName")(lambda run, _: run.sweep_name)
run_field("readOnly")(lambda run, context: not context.account.may_write(run.project.entity.name))
run_field("createdAt")(lambda run, _: as_time(run.created_at))
run_field("heartbeatAt")(lambda run, _: as_time(run.heartbeat_at))
run_field("user")(lambda run, _: None if run.user is None else user_values(run.user))
run_field("historyLineCount")(lambda run, _: run.history_lines)
run_field("eventsLineCount")(lambda run, _: run.event_lines)
run_field("logLineCount")(lambda run, _: run.log_lines)
run_field("historyTail")(lambda run, context: json.dumps(streams.tail(context.session, run, streams.HISTORY)))
run_field("eventsTail")(lambda run, context: json.dumps(streams.tail(context.session, run, streams.EVENTS)))
run_field("historyKeys")(lambda run, _: streams.history_keys(run))
run_field("fileCount")(
    lambda run, context: context.session.scalar(sa.select(sa.func.count(RunFile.id)).where(RunFile.run_id == run.id))
)


@run_type.field("wandbConfig")
def wandb_config(run: Run, info: Any, keys: Sequence[str] | None = None) -> str:
    kept = json.loads(run.config).get("_wandb", {})
    kept = kept.get("value", kept) if isinstance(kept, dict) else {}
    return json.dumps({key: value for key, value in kept.items() if keys is None or key in keys})


@run_type.field("history")
def history(
    run: Run,
    info: Any,
    samples: int | None = None,
    minStep: int | None = None,
    maxStep: int | None = None,
) -> list[str]:
    session = context_of(info).session
    rows = list(streams.rows_of(session, run, first_step=none_or_int(minStep), stop_step=none_or_int(maxStep)))
    count = min(samples or MOST_ROWS, MOST_ROWS)
    paged = minStep is not None or maxStep is not None  # a page holds every row of its steps, a sample is spread over all
    return [json.dumps(row) for row in (rows[:count] if paged else streams.sampled(rows, count))]


@run_type.field("events")
def events(run: Run, info: Any, samples: int | None = None) -> list[str]:
    rows = list(streams.rows_of(context_of(info).session, run, streams.EVENTS))
    return [json.dumps(row) for row in streams.sampled(rows, min(samples or MOST_ROWS, MOST_ROWS))]


@run_type.field("sampledHistory")
def sampled_history(run: Run, info: Any, specs: Sequence[str]) -> list[list[dict[str, Any]]]:
    rows = list(streams.rows_of(context_of(info).session, run))
    return [_by_spec(rows, spec) for spec in specs]


def _by_spec(rows: Sequence[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    try:
        spec = json.loads(text)
        keys = [str(key) for key in spec.get("keys") or []]
        lowest, highest = float(spec.get("minStep", -math.inf)), float(spec.get("maxStep", math.inf))
        count = int(spec.get("samples") or 500)
    except (ValueError, TypeError, AttributeError):
        raise UsageError(f"a spec must be JSON with keys and samples. Got {text[:80]!r}.") from None
    chosen = []
    for row in rows:
        if lowest <= row.get("_step", 0) <= highest:
            values = {key: streams.value_at(row, key) for key in keys}
            if None not in values.values():
                chosen.append(values)
    return strict(streams.sampled(chosen, min(count, MOST_ROWS)))


@run_type.field("parquetHistory")
def parquet_history(run: Run, info: Any, liveKeys: Sequence[str] | None = None) -> dict[str, Any]:
    first = next(streams.rows_of(context_of(info).session, run), None)
    live = [] if first is None else [{key: streams.value_at(first, key) for key in liveKeys or ["_step"]}]
    return {"parquetUrls": [], "liveData": strict(live)}


@run_type.field("logLines")
def log_lines(
    run: Run,
    info: Any,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    useImprovedPagination: bool = False,
) -> dict[str, Any]:
    session = context_of(info).session
    if last is not None:
        start, count = max(run.log_lines - last, 0), min(last, MOST_ROWS)
    else:
        start, count = page_of(after, first)
    found = streams.lines_of(session, run, streams.LOG, start=start, stop=start + count)
    nodes = [log_line(number, line) for number, line in found]
    edges = [{"node": node, "cursor": str(node["number"] + 1)} for node in nodes]
    page = {"endCursor": str(start + count), "hasNextPage": start + count < run.log_lines}
    return {"edges": edges, "pageInfo": page}


def log_line(number: int, line: str) -> dict[str, Any]:
    """Return a console line as clients read it; it came as JSON {ts, content, level, label}, or as text."""
    try:
        values = json.loads(line)
    except ValueError:
        values = None
    if not isinstance(values, dict) or "content" not in values:
        values = {"content": line}
    named = {"timestamp": values.get("ts"), "level": values.get("level"), "label": values.get("label")}
    return {"number": number, "line": str(values["content"]), **named}


@mutation.field("upsertBucket")
def upsert_bucket(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    run, inserted = runs.upsert(context.session, context.account, input)
    return {"bucket": run, "inserted": inserted}


@mutation.field("updateRunState")
def update_run_state(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    run = runs.run_by_id(context.session, context.account, input["id"])
    wanted = input["state"]
    if wanted not in STATES:
        raise UsageError(f"a run's state can be set to {' or '.join(STATES)}. Got {wanted!r}.")
    if run.state not in STATES[wanted]:
        raise UsageError(f"a run that is {run.state} cannot become {wanted}; one that is {', '.join(STATES[wanted])} can.")
    run.state = wanted
    return {"success": True}


@mutation.field("stopRun")
def stop_run(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    run = runs.run_by_id(context.session, context.account, input["id"])
    runs.ask_to_stop(run)
    return {"success": run.stop_asked and run.state in runs.LIVE}


@mutation.field("deleteRun")
def delete_run(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    runs.delete(context.session, runs.run_by_id(context.session, context.account, input["id"]))
    return {}


@mutation.field("rewindRun")
def rewind_run(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    run = writable_run(info, input.get("entityName"), input.get("projectName"), input["runName"])
    if input["metricName"] != "_step":
        raise UsageError(f"a run is rewound to a _step. Got {input['metricName']}.")
    streams.rewind(context_of(info).session, run, int(input["metricValue"]))
    run.state, run.stop_asked, run.exit_code = "running", False, None
    return {"rewoundRun": run}


# -- sweeps


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


class GoneError(UsageError):
    """What was asked for is not there any more: the answer is a 404, at which an agent leaves."""


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


def sweep_field(name: str) -> Callable[[Any], Any]:
    """Bind a function of (sweep, context) to a field."""

    def bind(function: Callable[[Sweep, Context], Any]) -> Any:
        sweep_type.set_field(name, lambda sweep, info: function(sweep, context_of(info)))
        return function

    return bind


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


run_field("shouldStop")(lambda run, _: run.stop_asked)
run_field("exitcode")(lambda run, _: run.exit_code)
run_field("failed")(lambda run, _: run.state == "failed")
run_field("running")(lambda run, _: run.state == "running")


# -- files


@mutation.field("createRunFiles")
def create_run_files(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    run = writable_run(info, input["entityName"], input["projectName"], input["runName"])
    files = [
        {"name": name, "uploadUrl": f"{context.base}/uploads/{context.files.signed('upload', run=run.id, name=checked_name(name))}"}
        for name in input["files"]
    ]
    return {"runID": run.global_id, "uploadHeaders": [], "files": files}


@mutation.field("markRunFilesUploaded")
def mark_run_files_uploaded(*_: Any, **__: Any) -> dict[str, Any]:
    return {"success": True}  # each was noted as it arrived


@mutation.field("deleteFiles")
def delete_files(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    for identifier in input["files"]:
        names = names_of(identifier, "File") or [""]
        found = context.session.get(RunFile, int(names[0])) if names[0].isdigit() else None
        run = None if found is None else context.session.get_one(Run, found.run_id)
        if run is None or not context.account.may_read(run.project.entity.name):
            raise UsageError(f"there is no file {identifier!r}.")
        runs.check_writable(context.account, run.project)
        context.session.delete(found)
    return {"success": True}


@run_type.field("files")
def run_files(
    run: Run,
    info: Any,
    names: Sequence[str | None] | None = None,
    after: str | None = None,
    first: int | None = None,
    pattern: str | None = None,
    upload: bool = False,
) -> dict[str, Any]:
    session = context_of(info).session
    matching = sa.select(RunFile).where(RunFile.run_id == run.id)
    if names:
        matching = matching.where(RunFile.name.in_([name for name in names if name]))
    if pattern:
        matching = matching.where(RunFile.name.like(pattern))
    skip, first = page_of(after, first)
    found = session.scalars(matching.order_by(RunFile.name).offset(skip).limit(first + 1)).all()
    return connection(found[:first], skip, skip + len(found))


file_type.set_field("id", lambda file, _: global_id("File", str(file.id)))
file_type.set_field("sizeBytes", lambda file, _: file.size)
file_type.set_field("updatedAt", lambda file, _: as_time(file.updated_at))
file_type.set_field("directUrl", lambda file, info: download_address(file, info))


@file_type.field("url")
def file_url(file: RunFile, info: Any, upload: bool = False) -> str:
    return download_address(file, info)


@file_type.field("mimetype")
def mimetype(file: RunFile, _: Any) -> str:
    import mimetypes

    return mimetypes.guess_type(file.name)[0] or "application/octet-stream"


def download_address(file: RunFile, info: Any) -> str:
    """Return an address by which a file can be fetched for a while without a key."""
    context = context_of(info)
    name = quote(file.name.rpartition("/")[2])
    return f"{context.base}/downloads/{context.files.signed('download', file=file.id)}/{name}"


# -- shared


def writable_run(info: Any, entity: str | None, project: str | None, name: str) -> Run:
    """Return a run that the account may change.

    Raises:
        UsageError: if there is none, or it may not.
    """
    context = context_of(info)
    found = runs.project_of(context.session, context.account, project, entity)
    run = None if found is None else runs.run_of(context.session, found, name)
    if found is None or run is None:
        raise UsageError(f"there is no run {entity}/{project}/{name}.")
    runs.check_writable(context.account, found)
    return run


def checked_name(name: str) -> str:
    """Return a file's name, which is a path below its run.

    Raises:
        UsageError: if it leads elsewhere.
    """
    parts = name.split("/")
    if not name or len(name) > 1024 or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise UsageError(f"a file's name must be a path below its run. Got {name[:80]!r}.")
    return name


def page_of(after: str | None, first: int | None) -> tuple[int, int]:
    """Return how many to skip and how many to give, of a cursor and a size.

    Raises:
        UsageError: if the cursor is none of this server's.
    """
    if after and not (after.isdigit() and len(after) < 12):
        raise UsageError(f"after must be a cursor of this server. Got {after[:40]!r}.")
    return int(after or 0), max(0, min(PAGE if first is None else first, MOST_IN_PAGE))


def connection(nodes: Sequence[Any], skip: int, total: int) -> dict[str, Any]:
    """Return a page of nodes that begins after `skip` of `total`."""
    edges = [{"node": node, "cursor": str(skip + place)} for place, node in enumerate(nodes, start=1)]
    end = skip + len(nodes)
    return {"edges": edges, "pageInfo": {"endCursor": str(end), "hasNextPage": end < total}}


def strict(value: Any) -> Any:
    """Return values as strict JSON can say them: NaN and the infinities as texts, as W&B does."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(one) for key, one in value.items()}
    return [strict(one) for one in value] if isinstance(value, list) else value


def as_time(moment: datetime) -> str:
    """Return a time of the database as clients read it."""
    return moment.isoformat(timespec="seconds") + "Z"


def none_or_int(value: Any) -> int | None:
    """Return an Int64, which may come as a text."""
    return None if value is None else int(value)
