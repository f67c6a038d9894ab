"""Answers about runs: what they are, what they logged, and changes to them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ariadne import MutationType, ObjectType
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.artifacts import artifacts
from paretune.service.graphql.shared import (
    MOST_ROWS,
    as_time,
    binder,
    content_address,
    context_of,
    none_or_int,
    page_of,
    strict,
    writable_run,
)
from paretune.service.store import runs, safe_json, segments, streams
from paretune.service.store.tables import Run

mutation = MutationType()
run_type = ObjectType("Run")
BOUND = (mutation, run_type)
run_field = binder(run_type)
STEPS = 2.0**63  # beyond all steps
log = logging.getLogger("service.alerts")
STATES = {"pending": ("running", "failed", "crashed", "preempted"), "failed": ("pending", "running")}  # a client may set

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
run_field("historyLineCount")(lambda run, _: run.history_lines)
run_field("eventsLineCount")(lambda run, _: run.event_lines)
run_field("logLineCount")(lambda run, _: run.log_lines)
run_field("historyTail")(lambda run, context: json.dumps(streams.tail(context.session, run, streams.HISTORY)))
run_field("eventsTail")(lambda run, context: json.dumps(streams.tail(context.session, run, streams.EVENTS)))
run_field("historyKeys")(lambda run, _: streams.history_keys(run))
run_field("shouldStop")(lambda run, _: run.stop_asked)
run_field("exitcode")(lambda run, _: run.exit_code)
run_field("failed")(lambda run, _: run.state == "failed")
run_field("running")(lambda run, _: run.state == "running")


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
    session, count = context_of(info).session, min(samples or MOST_ROWS, MOST_ROWS)
    if minStep is None and maxStep is None:
        return [json.dumps(row) for row in streams.sample(session, run, streams.HISTORY, count)]
    # a page holds every row of its steps, a sample is spread over all
    rows = list(
        streams.rows_of(session, run, first_step=none_or_int(minStep, "minStep"), stop_step=none_or_int(maxStep, "maxStep"))
    )
    return [json.dumps(row) for row in rows[:count]]


@run_type.field("events")
def events(run: Run, info: Any, samples: int | None = None) -> list[str]:
    rows = streams.sample(context_of(info).session, run, streams.EVENTS, min(samples or MOST_ROWS, MOST_ROWS))
    return [json.dumps(row) for row in rows]


@run_type.field("sampledHistory")
def sampled_history(run: Run, info: Any, specs: Sequence[str]) -> list[list[dict[str, Any]]]:
    return [_by_spec(context_of(info).session, run, spec) for spec in specs]


def _by_spec(session: Session, run: Run, text: str) -> list[dict[str, Any]]:
    try:
        spec = safe_json.read(text)
        keys = [str(key) for key in spec.get("keys") or []]
        lowest, highest = max(float(spec.get("minStep", -STEPS)), -STEPS), min(float(spec.get("maxStep", STEPS)), STEPS)
        first, stop = math.ceil(lowest), math.floor(highest) + 1
        count = int(spec.get("samples") or 500)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UsageError(f"a spec must be JSON with keys and samples. Got {text[:80]!r}.") from None
    chosen = []
    for row in streams.rows_of(session, run, first_step=first, stop_step=stop, keys=keys):
        values = {key: streams.value_at(row, key) for key in keys}
        if None not in values.values():
            chosen.append(values)
    return strict(streams.sampled(chosen, min(count, MOST_ROWS)))


@run_type.field("parquetHistory")
def parquet_history(run: Run, info: Any, liveKeys: Sequence[str] | None = None) -> dict[str, Any]:
    context = context_of(info)
    found = segments.published(context.session, run)
    first = None if found else streams.first_row(context.session, run)
    live = [] if first is None else [{key: streams.value_at(first, key) for key in liveKeys or ["_step"]}]
    return {"parquetUrls": [content_address(context, one.digest, "history.parquet") for one in found], "liveData": strict(live)}


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
        values = safe_json.read(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or "content" not in values:
        values = {"content": line}
    named = {"timestamp": values.get("ts"), "level": values.get("level"), "label": values.get("label")}
    return {"number": number, "line": str(values["content"]), **named}


@mutation.field("upsertBucket")
def upsert_bucket(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    context = context_of(info)
    run, inserted = runs.upsert(context.session, context.account, input, context.shared_client)
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
    if runs.is_gone(context.session, context.account, input["id"]):
        return {}  # it was deleted before; a client that got no answer asks again
    run = runs.run_by_id(context.session, context.account, input["id"])
    if input.get("deleteArtifacts"):
        artifacts.delete_of(context.session, run)
    runs.delete(context.session, run)
    return {}


@mutation.field("rewindRun")
def rewind_run(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    run = writable_run(info, input.get("entityName"), input.get("projectName"), input["runName"])
    if input["metricName"] != "_step":
        raise UsageError(f"a run is rewound to a _step. Got {input['metricName']}.")
    streams.rewind(context_of(info).session, run, int(input["metricValue"]))
    run.state, run.stop_asked, run.exit_code = "running", False, None
    return {"rewoundRun": run}


@mutation.field("notifyScriptableRunAlert")
def notify_scriptable_run_alert(_: Any, info: Any, input: Mapping[str, Any]) -> dict[str, Any]:
    """Write what `run.alert` says to the server's log, where whoever watches it finds it."""
    run = writable_run(info, input["entityName"], input["projectName"], input["runName"])
    said = (input["severity"], run.project.entity.name, run.project.name, run.name, input["title"][:256], input["text"][:2000])
    log.warning("%s from %s/%s/%s: %r, %r", *said)
    return {"success": True}
