"""The page of a sweep: where it stands, its front, what its parameters do, its agents; pause, resume, stop, cancel and choose."""

from __future__ import annotations

import json

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import Response

from paretune.core.errors import UsageError
from paretune.service.store import runs
from paretune.service.store.filter_targets import holds
from paretune.service.store.tables import Run, as_json
from paretune.service.sweeps import sweeps
from paretune.service.sweeps.searches import OVER
from paretune.service.web import words
from paretune.service.web.run_page import as_json as answered
from paretune.service.web.runs_page import set_tags
from paretune.service.web.sweep_data import CHOSEN, MOST_METRICS, goals_of, objectives_of, run_cap
from paretune.service.web.visits import Visit, back

ACTIONS = {"pause": "PAUSED", "resume": "RUNNING", "stop": "FINISHED", "cancel": "CANCELED"}


def show(visit: Visit) -> Response:
    """The page."""
    sweep, query = visit.sweep(), visit.request.query_params
    project = sweep.project
    objectives = objectives_of(sweep, query.getlist("metric"), query.getlist("goal"))
    here = words.path(project.entity.name, project.name, "sweeps", sweep.name)
    may_write = visit.may_write(project)
    return visit.page(
        "sweep.html",
        project=project,
        sweep=sweep,
        here=here,
        objectives=list(objectives.items()),
        own=list(goals_of(sweep).items()),
        most=MOST_METRICS,
        over=sweep.state in OVER,
        may_write=may_write,
        page={
            "here": here,
            "runs": words.path(project.entity.name, project.name, "runs"),
            "query": visit.request.url.query,
            "cap": run_cap(sweep),
            "mayWrite": may_write,
        },
    )


def data(visit: Visit) -> Response:
    """Where the sweep stands, for the script of its page."""
    sweep, query = visit.sweep(), visit.request.query_params
    objectives = objectives_of(sweep, query.getlist("metric"), query.getlist("goal"))
    return answered(visit.web.sweep_data.of(visit.session, sweep, objectives, query.get("seen", "")))


def change(visit: Visit) -> Response:
    """Pause, resume, stop or cancel.

    Raises:
        UsageError: if the change is none of these, or the sweep is over.
        RefusedError: if the account may only look.
    """
    sweep = visit.sweep()
    runs.check_writable(visit.account, sweep.project)
    action = visit.sent("action")
    if action not in ACTIONS:
        raise UsageError(f"a sweep can be paused, resumed, stopped and cancelled. Got {action!r}.")
    sweeps.set_state(visit.session, sweep, ACTIONS[action])
    return back(visit, words.path(sweep.project.entity.name, sweep.project.name, "sweeps", sweep.name))


def choose(visit: Visit) -> Response:
    """Mark a run of the sweep as chosen, in place of the one that was; without a run, none is.

    Raises:
        HTTPException: 404 if the sweep has no such run.
        RefusedError: if the account may only look.
    """
    sweep, wanted = visit.sweep(), visit.sent("run")
    runs.check_writable(visit.account, sweep.project)
    own = (Run.project_id == sweep.project_id, Run.sweep_name == sweep.name)
    for run in visit.session.scalars(sa.select(Run).where(*own, holds(Run.tags, as_json(CHOSEN)))):
        set_tags(run, [tag for tag in json.loads(run.tags) if tag != CHOSEN])
    if wanted:
        chosen = visit.session.scalar(sa.select(Run).where(*own, Run.name == wanted))
        if chosen is None:
            raise HTTPException(404, f"sweep {sweep.name} has no run {wanted}.")
        set_tags(chosen, [*json.loads(chosen.tags), CHOSEN])
    if visit.request.headers.get("accept") == "application/json":
        return answered({"chosen": wanted or None})
    return back(visit, words.path(sweep.project.entity.name, sweep.project.name, "sweeps", sweep.name))
