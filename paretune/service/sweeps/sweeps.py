"""Sweeps: created, changed, paused, resumed, stopped and cancelled; runs enqueued by a client's own scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.search.spec.sweep import Sweep as Definition
from paretune.service.store import runs
from paretune.service.store.accounts import Account
from paretune.service.store.safe_json import read
from paretune.service.store.tables import Issue, Project, Run, Sweep, as_json, names_of, now
from paretune.service.sweeps.definitions import definition_of, fit_definition, read_definition
from paretune.service.sweeps.searches import OVER

HARMLESS = ("name", "description", "run_cap", "project", "entity")  # parts of a definition that runs do not depend on
STATES = ("PENDING", "RUNNING", "PAUSED", "FINISHED", "CANCELED")


def upsert(session: Session, account: Account, values: Mapping[str, Any]) -> tuple[Sweep, list[str]]:
    """Create a sweep, or change the one of `id` as far as that does no harm; return it and what is to be said of its definition.

    Raises:
        UsageError: if its definition has faults, or cannot change any more, or the state is none.
        RefusedError: if the account may not write there.
    """
    notes: list[str] = []
    if values.get("id"):
        sweep = sweep_by_id(session, account, values["id"])
        session.refresh(sweep, with_for_update=True)  # no configuration is handed out meanwhile
        notes = _changed(session, sweep, values)
    else:
        sweep, notes = _created(session, account, values)
    if values.get("state"):
        set_state(session, sweep, str(values["state"]).upper())
    if values.get("displayName"):
        sweep.display_name = values["displayName"]
    sweep.updated_at = now()
    return sweep, notes


def _created(session: Session, account: Account, values: Mapping[str, Any]) -> tuple[Sweep, list[str]]:
    project = runs.project_of(session, account, values.get("projectName"), values.get("entityName"), create=True)
    assert project is not None
    runs.check_writable(account, project)
    text = fit_definition(str(values.get("config") or ""))
    sweep = Sweep(project=project, name=runs.new_name(), user_id=account.id, definition=text)
    notes = _define(sweep, read_definition(sweep.definition, sweep.name))
    sweep.display_name = values.get("displayName") or definition_of(sweep).name
    sweep.description, sweep.prior_filters = values.get("description"), values.get("priorRunsFilters")
    if sweep.prior_filters:
        runs.count_runs(session, project, sweep.prior_filters)  # which refuses a filter that is none
    session.add(sweep)
    session.flush()
    return sweep, notes


def _changed(session: Session, sweep: Sweep, values: Mapping[str, Any]) -> list[str]:
    """Change a sweep as far as that does no harm, and return what is to be said of its definition.

    Before its first run it may become another one; later its name, description and `run_cap` change alone.

    Raises:
        UsageError: if anything else changes.
    """
    filters = values.get("priorRunsFilters")
    if filters and filters != sweep.prior_filters:
        if _has_begun(session, sweep):
            raise UsageError(
                f"sweep {sweep.name} has runs: the runs that it learns from do not change any more; create another sweep."
            )
        runs.count_runs(session, sweep.project, filters)
        sweep.prior_filters = filters
    if values.get("description") is not None:
        sweep.description = values["description"]
    if not values.get("config"):
        return []
    text = fit_definition(str(values["config"]))
    old, new = definition_of(sweep), read_definition(text, sweep.name)
    parts = [part for part in {**old.definition, **new.definition} if old.definition.get(part) != new.definition.get(part)]
    harmful = [part for part in parts if part not in HARMLESS]
    if harmful and _has_begun(session, sweep):
        raise UsageError(
            f"sweep {sweep.name} has runs, and its {' and '.join(harmful)} cannot change any more, only its name, description and "
            "run_cap: create another sweep."
        )
    if new.name != old.name:
        sweep.display_name = new.name
    if parts:
        sweep.definition = text
    return _define(sweep, new)


def _has_begun(session: Session, sweep: Sweep) -> bool:
    """Whether a configuration of a sweep was handed out or enqueued, or a run says that it belongs to it."""
    own = sa.select(Run.id).where(Run.project_id == sweep.project_id, Run.sweep_name == sweep.name).limit(1)
    return session.scalar(sa.select(Issue.id).where(Issue.sweep_id == sweep.id).limit(1)) is not None or (
        session.scalar(own) is not None
    )


def _define(sweep: Sweep, definition: Definition) -> list[str]:
    """Let a sweep be what its definition says, and return what is to be said of it."""
    sweep.method, sweep.program = definition.method, definition.program
    sweep.engine = None if definition.scheduler is None else definition.scheduler.engine
    # what is said of the search on one's own machine is not said here, where the client takes every note for a fault
    notes = [note for note in definition.notes if "offline" not in note]
    if sweep.engine == "wandb" and sweep.method == "custom":
        notes.append("engine wandb searches by method bayes, random or grid: write one of them in place of custom.")
    return notes


def set_state(session: Session, sweep: Sweep, state: str) -> None:
    """Pause, resume, stop (FINISHED: running runs go on to their end) or cancel a sweep; one that is over can go on, as at W&B.

    Raises:
        UsageError: if there is no such state, or the sweep is over and shall not go on.
    """
    if state not in STATES:
        raise UsageError(f"a sweep's state must be one of {', '.join(STATES)}. Got {state!r}.")
    if sweep.state in OVER and state not in (sweep.state, "RUNNING"):
        raise UsageError(f"sweep {sweep.name} is {sweep.state.lower()} already: it can only be resumed.")
    sweep.state = state
    if state not in OVER:
        return
    live = sa.select(Run).where(Run.project_id == sweep.project_id, Run.sweep_name == sweep.name, Run.state.in_(runs.LIVE))
    for run in session.scalars(live):
        if state == "CANCELED" or run.state == "pending":
            runs.ask_to_stop(run)
    session.execute(
        sa.update(Run).where(Run.project_id == sweep.project_id, Run.name == scheduler_run(sweep)).values(state="finished")
    )


def enqueue(session: Session, account: Account, identifier: str, config: str, display_name: str | None) -> Run:
    """Let a configuration wait for an agent of a sweep, as a run that is pending.

    Args:
        config: JSON of values, each plain or as {"value": …}.

    Raises:
        UsageError: if there is no such sweep, it is over, or the configuration is none.
        RefusedError: if the account may only look at it.
    """
    sweep = sweep_by_id(session, account, identifier)
    if sweep.state in OVER:
        raise UsageError(f"sweep {sweep.name} is {sweep.state.lower()}, and takes no more runs.")
    try:
        given = read(config)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise UsageError(f"config must be a JSON object of parameters. Got {config[:80]!r}.")
    values = {name: value["value"] if isinstance(value, dict) and "value" in value else value for name, value in given.items()}
    run, _ = runs.upsert(
        session,
        account,
        {
            "name": runs.new_name(),
            "modelName": sweep.project.name,
            "entityName": sweep.project.entity.name,
            "displayName": display_name,
            "config": as_json({name: {"value": value} for name, value in values.items()}),
            "sweep": sweep.name,
            "state": "pending",
        },
    )
    session.add(Issue(sweep_id=sweep.id, run_name=run.name, trial=None, times=0, values=as_json(values)))
    return run


def scheduler_run(sweep: Sweep) -> str:
    """Return the id of the run into which a client's own scheduler of this sweep logs."""
    return f"{sweep.name}-scheduler"


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
