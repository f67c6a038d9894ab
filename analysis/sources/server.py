"""Runs at W&B: pulled with few requests, several at a time, and kept once they have finished."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paretune.analysis.sources import bulk, parquet_cache
from paretune.analysis.sources.run_record import RunRecord, column_of, columns_of
from paretune.core.errors import UsageError, first_line
from paretune.core.progress import Progress
from paretune.core.provenance import written_by_us
from paretune.models.registry import MODELS, model_class
from paretune.runs.sweep_outcome import outcome_of
from paretune.runs.tracking import api_errors, logged_in
from paretune.runs.wandb_files import ended

if TYPE_CHECKING:
    import numpy as np

AT_WANDB = re.compile(r"[^/\\#?%:]+(/[^/\\#?%:]+){1,2}")  # entity/project[/sweep]; W&B allows these characters, spaces too
AT_A_TIME = 8  # requests; W&B's client waits and asks again by itself where the server says that it is too much (429)
ALIVE = {"running", "pending", "preempting"}
LARGEST_PAGE = 10_000  # rows of a history in one request
CLIENTS = """query Clients($entity: String!, $project: String!, $filters: JSONString, $after: String) {
  project(entityName: $entity, name: $project) {
    runs(filters: $filters, first: 200, after: $after) {
      edges { node { name wandbConfig } } pageInfo { endCursor hasNextPage } } } }"""
CLIENTS_SECONDS = 60.0  # to wait for a page of them


def server_runs(source: str, filters: Mapping[str, Any] | None = None) -> list[RunRecord]:
    """Pull the runs of entity/project[/sweep] from W&B; finished ones are kept, and pulled once.

    One request lists up to 200 runs, with config and summary; one or two more give a run's whole history, or one all histories
    where the server is our own.

    Args:
        filters: what W&B's server shall choose by, in its own syntax (MongoDB's).

    Raises:
        UsageError: without credentials, or if there is no such project or sweep.
    """
    if not logged_in():
        raise UsageError(
            f"{source} is no folder here, and W&B cannot be asked for it: log in with 'wandb login', or give a folder."
        )
    import wandb

    entity, project, *sweep = source.split("/")
    wanted = {**({"sweep": sweep[0]} if sweep else {}), **(filters or {})}
    api = wandb.Api(timeout=60)
    try:
        found = list(api.runs(f"{entity}/{project}", filters=wanted, per_page=200, lazy=False))
        goals = {column_of(name): goal for name, goal in goals_in(api.sweep(source).config).items()} if sweep else {}
    except api_errors(ValueError) as error:
        filtered = ", or cannot filter so" if filters else ""
        raise UsageError(f"{source}: W&B has no such project or sweep{filtered} ({first_line(error)}).") from None
    if not found:
        raise UsageError(f"{source} has no run{' that the filter lets through' if filters else ' yet'}.")
    address = str(wandb.setup().settings.base_url)
    place = parquet_cache.place_of("online", f"{address}/{entity}/{project}")
    known = {run.run: (mark, run) for mark, run in parquet_cache.read(place)}
    fresh = [run for run in found if known.get(run.id, ("",))[0] != _mark(run)]
    if fresh:
        _pull(source, fresh, known, bulk.pulled(api, address, entity, project, [run.id for run in fresh]))
        parquet_cache.write(place, [(mark, run) for mark, run in known.values() if run.state not in ALIVE])
    clients = _clients(api, address, entity, project, wanted)
    # what is not a history may have been edited since
    runs = [_record(run, known[run.id][1].columns, clients.get(run.id, {})) for run in found]
    for run in runs:
        run.goals = goals or run.goals
    return runs


def _pull(
    source: str, fresh: list[Any], known: dict[str, tuple[str, RunRecord]], histories: Mapping[str, dict[str, np.ndarray]]
) -> None:
    """Fetch the histories of runs into `known`, but those that are there; what was fetched stays, whatever happens."""
    from concurrent.futures import ThreadPoolExecutor

    marks = {run.id: _mark(run) for run in fresh}
    with Progress(f"pulling {source}", len(fresh), unit="run", every=2) as progress, ThreadPoolExecutor(AT_A_TIME) as pool:
        try:
            for record in pool.map(lambda run: _pulled(run, histories.get(run.id)), fresh):
                known[record.run] = (marks[record.run], record)
                progress.step(record.name)
        except api_errors() as error:
            pool.shutdown(cancel_futures=True)
            raise UsageError(
                f"{source}: W&B stopped answering ({first_line(error)}); what was pulled is kept: run this again."
            ) from None


def _pulled(run: Any, history: dict[str, np.ndarray] | None) -> RunRecord:
    return _record(run, columns_of(list(run.scan_history(page_size=LARGEST_PAGE))) if history is None else history, {})


def _record(run: Any, columns: dict[str, np.ndarray], client: Mapping[str, Any]) -> RunRecord:
    summary = {key: value for key, value in _plain(run.summary).items() if key != "_wandb"}
    return RunRecord(
        run=run.id,
        name=run.name,
        group=run.group or "",
        sweep=getattr(run, "sweep_name", None) or "",
        state=ended(run.state, run.config, summary),
        created=_begun(run, client),
        file=run.url,
        config=_with_empty_mappings(dict(run.config)),
        columns=columns,
        tags=list(run.tags),
        read_environment=functools.partial(dict, _environment(run, client)),
        read_summary=lambda: summary,
    ).take_outcome(outcome_of(summary))


def _environment(run: Any, client: Mapping[str, Any]) -> dict[str, str]:
    """Return what the list of runs tells of where a run came from."""
    found = {"commit": getattr(run, "commit", None), "python": client.get("python_version"), "wandb": client.get("cli_version")}
    return {name: str(value) for name, value in found.items() if value}


def _clients(api: Any, address: str, entity: str, project: str, filters: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what the client that wrote a run says of itself, by the runs' ids: W&B's API drops it from the runs that it lists.

    Where the server does not answer, nothing is known of the rest.
    """
    import requests

    found: dict[str, Mapping[str, Any]] = {}
    after, more, key = None, True, str(getattr(api, "api_key", None) or "")
    with requests.Session() as session:
        session.auth = ("api", key)
        while key and more:
            asked = {"entity": entity, "project": project, "filters": json.dumps(filters), "after": after}
            try:
                answer = session.post(
                    f"{address}/graphql", json={"query": CLIENTS, "variables": asked}, timeout=CLIENTS_SECONDS
                ).json()
                page = answer["data"]["project"]["runs"]
                found |= {edge["node"]["name"]: json.loads(edge["node"]["wandbConfig"] or "{}") for edge in page["edges"]}
                after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
            except (requests.RequestException, ValueError, KeyError, TypeError):
                break
    return found


def _begun(run: Any, client: Mapping[str, Any]) -> float:
    """Return when a run began, in seconds since 1970: by its client, else when the server learnt of it."""
    import pandas as pd

    processes = client.get("e")  # one for each that wrote the run
    parts = processes.values() if isinstance(processes, Mapping) else ()
    told = [part["startedAt"] for part in parts if isinstance(part, Mapping) and "startedAt" in part]
    moments = [moment for text in told if not pd.isna(moment := pd.to_datetime(text, utc=True, errors="coerce"))]
    return float(min(moments, default=pd.Timestamp(run.created_at)).timestamp())


def _with_empty_mappings(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with the empty mappings that W&B's client leaves out, where they are defaults of a model of ours."""
    if not written_by_us(config) or config["classifier"] not in MODELS:
        return config
    fields = model_class(config["classifier"]).Config.model_fields
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields.items() if name not in config}
    return config | {name: value for name, value in defaults.items() if value == {}}


def _plain(value: Any) -> Any:
    """Return what the client hands out of a summary as plain values: its nested ones are of a class of its own, no mappings."""
    return {key: _plain(value[key]) for key in value.keys()} if hasattr(value, "keys") else value  # noqa: SIM118  so is the outer


def _mark(run: Any) -> str:
    """Return what changes when a run goes on, or ends, or is resumed."""
    return f"{run.state} {getattr(run, 'heartbeat_at', '')}"


def goals_in(definition: Mapping[str, Any]) -> dict[str, str]:
    """Return the objectives of a sweep's definition: metric -> goal."""
    stated = definition.get("metrics") or [definition.get("metric")]
    return {str(one["name"]): str(one.get("goal", "minimize")) for one in stated if isinstance(one, Mapping) and "name" in one}
