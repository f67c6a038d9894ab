"""What the page of a sweep shows: its runs with their objectives, the front and its hypervolume, importance, agents.

Runs that have ended are read once and kept; of a sweep of ten thousand, a poll reads the few that live.
"""

from __future__ import annotations

import json
import math
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session, load_only

from paretune.core.best_epoch import goal_of
from paretune.core.errors import UsageError
from paretune.core.pareto_front import hypervolumes, non_dominated, reference_point
from paretune.core.run_order import order_key
from paretune.models.effective_configuration import inactive_names, text_of
from paretune.runs.sweep_outcome import KEY, is_outcome, outcome_of
from paretune.service.graphql.shared import strict
from paretune.service.store import runs, streams
from paretune.service.store.filter_targets import holds
from paretune.service.store.tables import Agent, Issue, Run, Sweep, now
from paretune.service.sweeps.agents import SILENCE
from paretune.service.sweeps.searches import Searches
from paretune.service.web import curves
from paretune.service.web.importance import computed_beside

EDITS = 15.0  # seconds after which an edit of a run that has ended is seen
INFEASIBLE = "breaks a constraint"  # the state of a finished run that its sweep may not choose
CHOSEN = "chosen"  # the tag of the run that a person has chosen
MOST_WEIGHED = 500  # runs, for the importance
MOST_METRICS = 3
MOST_KNOWN = 3  # choices of metrics of a sweep that are kept
MOST_IMPORTANCES = 20  # choices of metric and goal of a sweep whose importance is kept
MOST_KEPT = 20  # sweeps whose ended runs are kept in memory


@dataclass(frozen=True)
class Shown:
    """A run as the page of its sweep shows it."""

    run: str
    name: str
    state: str
    ended: datetime
    seconds: float
    config: Mapping[str, Any]  # the searched parameters, by dotted path; None where one is inactive
    summary: Mapping[str, float]
    created: float  # seconds since 1970


class Mark(NamedTuple):
    """What tells whether a run that has ended is as it was: it may be edited."""

    ended: datetime
    checksum: int


@dataclass
class Kept:
    """What is kept of a sweep between two polls."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    rows: dict[int, tuple[Mark, Shown]] = field(default_factory=dict)
    marks: dict[int, Mark] = field(default_factory=dict)  # of the runs that have ended, as they were when last looked at
    marked: tuple[float, str] = (-math.inf, "")  # when that was, and how many there were
    known: dict[str, dict[str, Any]] = field(default_factory=dict)  # what follows from the ended runs, by their signature
    importance: dict[str, dict[str, Any]] = field(default_factory=dict)  # by metric:goal


class SweepData:
    """The data of the pages of all sweeps."""

    def __init__(self, searches: Searches) -> None:
        self.searches = searches
        self._lock = threading.Lock()
        self._kept: dict[int, Kept] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="importance")

    def of(self, session: Session, sweep: Sweep, objectives: Mapping[str, str], seen: str = "") -> dict[str, Any]:
        """Return where a sweep stands; its ended runs and what follows from them only if they are not those of `seen`.

        Args:
            objectives: metric -> goal; by which runs are weighed.
        """
        kept = self._kept_of(sweep)
        scales = searched(sweep)
        parameters = list(scales)
        own, ended = _of(sweep), Run.state.not_in(runs.LIVE)
        count, last, latest = session.execute(
            sa.select(sa.func.count(Run.id), sa.func.max(Run.id), sa.func.max(Run.heartbeat_at)).where(*own, ended)
        ).one()
        told = session.scalar(sa.select(sa.func.count(Issue.id)).where(Issue.sweep_id == sweep.id, Issue.told.is_(True)))
        with kept.lock:
            marks = _marks(session, sweep, kept, f"{count}.{last}.{latest}.{told}")
            edited = zlib.crc32(json.dumps([(number, mark.checksum) for number, mark in sorted(marks.items())]).encode())
        signature = f"{count}.{last}.{latest}.{edited}.{told}.{json.dumps(dict(objectives))}"
        pruned = set(session.scalars(sa.select(Issue.run_name).where(Issue.sweep_id == sweep.id, Issue.pruned.is_(True))))
        live = session.scalars(sa.select(Run).where(*own, Run.state.in_(runs.LIVE)).options(_COLUMNS).order_by(Run.id)).all()
        living = [shown(run, parameters, pruned) for run in live]
        chosen = session.scalar(sa.select(Run.name).where(*own, holds(Run.tags, json.dumps(CHOSEN))).limit(1))
        answer: dict[str, Any] = {
            "state": sweep.state.lower(),
            "ended": count,
            "signature": signature,
            "chosen": chosen,
            "objectives": [{"name": name, "goal": goal} for name, goal in objectives.items()],
            "parameters": parameters,
            "logarithmic": [name for name, logarithmic in scales.items() if logarithmic],
            "live": [self._row(row, objectives, {}) for row in living],
            "agents": agents(session, sweep),
        }
        with kept.lock:
            if signature != seen:
                answer |= kept.known.get(signature) or self._weighed(
                    session, sweep, kept, signature, parameters, pruned, objectives
                )
            answer["importance"] = kept.importance.get(":".join(next(iter(objectives.items()), ("", ""))))
        return answer

    def _weighed(
        self,
        session: Session,
        sweep: Sweep,
        kept: Kept,
        signature: str,
        parameters: Sequence[str],
        pruned: set[str],
        objectives: Mapping[str, str],
    ) -> dict[str, Any]:
        """Return the ended runs and what follows from them, and keep it for the next who asks."""
        shown_rows = self._ended(session, sweep, kept, parameters, pruned)
        values = self._told(session, sweep) if list(objectives) == list(goals_of(sweep)) else {}
        rows = [self._row(row, objectives, values) for row in shown_rows]
        ranks = _ranks(rows, shown_rows, objectives)
        rows = [{**row, "rank": ranks.get(row["run"])} for row in rows]
        recent = [row.seconds for row in shown_rows[-20:]]
        found = {
            "rows": rows,
            "metrics": sorted({key for row in shown_rows[-20:] for key in row.summary}),
            "analysis": _analysis(rows, objectives),
            "seconds": sum(recent) / len(recent) if recent else None,
        }
        kept.known[signature] = found
        while len(kept.known) > MOST_KNOWN:
            kept.known.pop(next(iter(kept.known)))
        if objectives:
            self._ask_importance(kept, rows, parameters, *next(iter(objectives.items())))
        return found

    def _kept_of(self, sweep: Sweep) -> Kept:
        with self._lock:
            kept = self._kept.pop(sweep.id, None) or Kept()
            self._kept[sweep.id] = kept  # the latest stands last
            while len(self._kept) > MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            return kept

    def _ended(self, session: Session, sweep: Sweep, kept: Kept, parameters: Sequence[str], pruned: set[str]) -> list[Shown]:
        """Return the runs that have ended, in the order in which they did; only those not known yet are read whole."""
        fresh = {identifier for identifier, mark in kept.marks.items() if kept.rows.get(identifier, (None,))[0] != mark}
        if fresh:
            query = sa.select(Run).where(*_of(sweep), Run.state.not_in(runs.LIVE)).options(_COLUMNS)
            if len(fresh) < 500:
                query = query.where(Run.id.in_(fresh))
            for run in session.scalars(query).yield_per(500):
                kept.rows[run.id] = (kept.marks.get(run.id, Mark(run.heartbeat_at, 0)), shown(run, parameters, pruned))
        kept.rows = {identifier: row for identifier, row in kept.rows.items() if identifier in kept.marks}
        return [row for _, row in sorted(kept.rows.values(), key=lambda pair: (pair[0].ended, pair[1].run))]

    def _told(self, session: Session, sweep: Sweep) -> dict[str, list[float]]:
        """Return the objectives that the search was told, by run: those of a run's best epoch, where its summary has the last."""
        if sweep.engine is not None:
            return {}
        trials = self.searches.trials(sweep)
        issued = session.execute(sa.select(Issue.run_name, Issue.trial).where(Issue.sweep_id == sweep.id, Issue.told.is_(True)))
        known = {trial.number: trial.values for trial in trials if trial.values}
        return {run: known[number] for run, number in issued if number in known}

    def _row(self, row: Shown, objectives: Mapping[str, str], told: Mapping[str, list[float]]) -> dict[str, Any]:
        known = told.get(row.run)
        values: list[float | None] = [row.summary.get(name) for name in objectives] if known is None else list(known)
        return {
            "run": row.run,
            "name": row.name,
            "state": row.state,
            "values": values,
            "config": row.config,
            "seconds": row.seconds,
        }

    def _ask_importance(
        self, kept: Kept, rows: Sequence[Mapping[str, Any]], parameters: Sequence[str], metric: str, goal: str
    ) -> None:
        """Have the importance computed beside, where runs have finished since the last time."""
        done = [row for row in rows if row["state"] == "finished" and row["values"][0] is not None]
        if not done:
            return
        key = f"{metric}:{goal}"
        known = kept.importance.get(key)
        if known is not None and (known.get("busy") or len(done) < known["count"] * 1.05 or len(done) == known["count"]):
            return
        if known is None and len(kept.importance) >= MOST_IMPORTANCES:
            settled = [other for other, found in kept.importance.items() if not found.get("busy")]
            if not settled:
                return  # asked again with the next run that ends
            kept.importance.pop(settled[0])
        kept.importance[key] = {**(known or {"count": 0}), "busy": True}
        stride = -(-len(done) // MOST_WEIGHED) or 1

        def work() -> None:
            found = computed_beside(done[::stride], parameters, metric, goal)
            kept.importance[key] = {**found, "count": len(done), "weighed": len(done[::stride]), "busy": False}

        self._pool.submit(work)


_COLUMNS = load_only(
    Run.name, Run.display_name, Run.state, Run.config, Run.summary, Run.created_at, Run.heartbeat_at, Run.stop_asked
)


def _of(sweep: Sweep) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return Run.project_id == sweep.project_id, Run.sweep_name == sweep.name


def _marks(session: Session, sweep: Sweep, kept: Kept, count: str) -> dict[int, Mark]:
    """Return the marks of the runs that have ended; as they are all read for it, not at each poll, unless `count` has changed."""
    looked, before = kept.marked
    if before == count and time.monotonic() < looked + EDITS:
        return kept.marks
    columns = (Run.id, Run.heartbeat_at, Run.state, Run.display_name, Run.config, Run.summary)
    found = session.execute(sa.select(*columns).where(*_of(sweep), Run.state.not_in(runs.LIVE)))
    kept.marks = {number: Mark(heard, zlib.crc32("\0".join(texts).encode())) for number, heard, *texts in found}
    kept.marked = (time.monotonic(), count)
    return kept.marks


def shown(run: Run, parameters: Sequence[str], pruned: set[str]) -> Shown:
    """Return a run as the page shows it."""
    config = runs.plain_config(run)
    inactive = inactive_names(config)
    found = {name: None if name in inactive else strict(streams.value_at(config, name)) for name in parameters}
    kept = json.loads(run.summary)
    said = outcome_of(kept)
    state = "stopped early" if run.name in pruned and run.state == "killed" else run.state
    if state == "finished" and said.cause:
        state = "failed"
    elif state == "finished" and said.feasible is False:
        state = INFEASIBLE
    numbers = curves.flat_numbers({key: value for key, value in kept.items() if not (key == KEY and is_outcome(value))})
    summary = {key: value for key, value in numbers.items() if value is not None and not key.startswith("_")}
    seconds = numbers.get("_runtime") or (run.heartbeat_at - run.created_at).total_seconds()
    begun = run.created_at.timestamp()
    return Shown(run.name, run.display_name or run.name, state, run.heartbeat_at, seconds, found, summary, begun)


def searched(sweep: Sweep) -> dict[str, bool]:
    """Return the parameters that a sweep searches, by dotted path, and whether on a logarithmic scale; constants are none."""

    def names(parameters: Any, prefix: str = "") -> dict[str, bool]:
        found: dict[str, bool] = {}
        for name, entry in parameters.items() if isinstance(parameters, dict) else ():
            if not isinstance(entry, dict):
                continue
            if isinstance(entry.get("parameters"), dict):
                found |= names(entry["parameters"], f"{prefix}{name}.")
            elif "value" not in entry and entry.get("distribution") != "constant":
                found[f"{prefix}{name}"] = "log" in str(entry.get("distribution", ""))
        return found

    return names(_definition(sweep).get("parameters"))


def goals_of(sweep: Sweep) -> dict[str, str]:
    """Return the objectives of a sweep: metric -> goal."""
    definition = _definition(sweep)
    listed = definition.get("metrics") or [definition.get("metric")]
    found = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return {str(entry["name"]): str(entry.get("goal", "minimize")) for entry in found if "name" in entry}


def objectives_of(sweep: Sweep, metrics: Sequence[str], goals: Sequence[str]) -> dict[str, str]:
    """Return the metrics that were asked for with their goals; those of the sweep where none were.

    Raises:
        UsageError: if they are more than a page can show.
    """
    own = goals_of(sweep)
    wanted = [(metric, goal) for metric, goal in zip(metrics, [*goals, *[""] * len(metrics)], strict=False) if metric]
    if not wanted:
        return dict(list(own.items())[:MOST_METRICS])
    if len(wanted) > MOST_METRICS:
        raise UsageError(f"at most {MOST_METRICS} metrics are weighed at once. Got {len(wanted)}.")
    stated = ("minimize", "maximize")
    return {metric: goal if goal in stated else own.get(metric) or goal_of(metric) for metric, goal in wanted}


def run_cap(sweep: Sweep) -> int | None:
    """Return how many runs a sweep may have; None where it does not say."""
    cap = _definition(sweep).get("run_cap")
    return cap if isinstance(cap, int) else None


def agents(session: Session, sweep: Sweep) -> list[dict[str, Any]]:
    """Return the agents of a sweep, the last heard of first."""
    query = (
        sa.select(Agent.id, Agent.host, Agent.heartbeat_at, sa.func.count(Issue.id))
        .outerjoin(Issue, Issue.agent_id == Agent.id)
        .where(Agent.sweep_id == sweep.id)
        .group_by(Agent.id, Agent.host, Agent.heartbeat_at)
        .order_by(Agent.heartbeat_at.desc())
        .limit(200)
    )
    return [
        {"id": number, "host": host, "runs": count, "alive": now() - heard < SILENCE, "heard": heard.isoformat() + "Z"}
        for number, host, heard, count in session.execute(query)
    ]


def _definition(sweep: Sweep) -> dict[str, Any]:
    import yaml

    try:
        read = yaml.safe_load(sweep.definition)
    except yaml.YAMLError:
        read = None
    return read if isinstance(read, dict) else {}


def _analysis(rows: Sequence[Mapping[str, Any]], objectives: Mapping[str, str]) -> dict[str, Any]:
    """Return the front of the finished runs, and the hypervolume after each of them, as shares of the last.

    Of runs of one effective configuration with the same values the best by rank stands for all; `alike` counts them.
    """
    done = [row for row in rows if row["state"] == "finished" and _finite(row["values"])]
    if not done or not objectives:
        return {"front": [], "alike": {}, "volumes": []}
    goals = list(objectives.values())
    values = np.array([row["values"] for row in done], dtype=np.float64)
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for row, on_front in zip(done, non_dominated(values, goals), strict=True):
        if on_front:
            alike.setdefault(text_of([row["config"], row["values"]]), []).append(row)
    groups = [sorted(group, key=lambda row: row["rank"]) for group in alike.values()]
    front = [group[0]["run"] for group in groups]
    counts = {group[0]["run"]: len(group) for group in groups if len(group) > 1}
    volumes = hypervolumes(values, goals, reference_point(values, goals)) if len(goals) > 1 else np.zeros(0)
    return {"front": front, "alike": counts, "volumes": [float(volume) for volume in volumes]}


def _ranks(rows: Sequence[Mapping[str, Any]], runs_shown: Sequence[Shown], objectives: Mapping[str, str]) -> dict[str, int]:
    """Return the places of the finished runs by the first objective, from 0; equals in the order of the analysis."""
    if not objectives:
        return {}
    done = [(row, run) for row, run in zip(rows, runs_shown, strict=True) if row["state"] == "finished" and _finite(row["values"])]
    sign = 1.0 if next(iter(objectives.values())) == "minimize" else -1.0

    def key(pair: tuple[Mapping[str, Any], Shown]) -> tuple[float, ...]:
        row, run = pair
        told = dict(zip(objectives, row["values"], strict=True))
        return order_key(sign * row["values"][0], {**run.summary, **told, "created": run.created}, objectives)

    return {run.run: place for place, (_, run) in enumerate(sorted(done, key=key))}


def _finite(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)
