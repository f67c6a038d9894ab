"""Runs: created, changed, found, stopped, resumed, rewound and deleted; and what a client streams into them."""

from __future__ import annotations

import json
import logging
import re
import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from paretune.core.errors import UsageError, first_line
from paretune.runs.sweep_outcome import KEY, is_outcome
from paretune.service.store import run_values, safe_json, shared_runs, streams
from paretune.service.store.accounts import Account
from paretune.service.store.database import made_once
from paretune.service.store.filters import condition_of, order_of
from paretune.service.store.tables import (
    Chunk,
    Element,
    Entity,
    FormerRun,
    Issue,
    Project,
    Run,
    RunFile,
    Segment,
    SharedLines,
    SharedSummary,
    Sweep,
    User,
    Value,
    as_json,
    names_of,
    now,
)

log = logging.getLogger("service")
UNCATEGORIZED = "uncategorized"  # the project of a run that names none, as at W&B
SILENCE = timedelta(minutes=5)  # after which a running run has crashed
LIVE = ("running", "pending", "preempting")
STATES = (*LIVE, "preempted", "finished", "failed", "crashed", "killed")
NAME_FORM = re.compile(r"(?!\.{1,2}$)[^/\\#?%:\x00-\x1f]{1,128}")
DELETED = 1000  # times that the configuration of a deleted run counts as handed out
MOST_CHARACTERS, MOST_KEYS, MOST_ITEMS = 16 * 2**20, 500_000, 1_500_000  # of a config or summary: a second of reading and writing
TEXTS = {  # UpsertBucketInput's field -> the run's
    "displayName": "display_name",
    "description": "description",
    "notes": "notes",
    "groupName": "group_name",
    "jobType": "job_type",
    "host": "host",
    "jobProgram": "program",
    "jobRepo": "repo",
    "commit": "commit",
    "sweep": "sweep_name",
}


class RefusedError(UsageError):
    """The account may not do this; or may not know whether there is such a thing."""


def project_of(session: Session, account: Account, name: str | None, entity: str | None, *, create: bool = False) -> Project | None:
    """Return a project by name; None where there is none that the account may see.

    Raises:
        RefusedError: if it would have to be created, and the account may not.
        UsageError: if it would have to be created, and the name is unfit.
    """
    entity, name = entity or account.entity, name or UNCATEGORIZED
    if not account.may_read(entity):
        if create:
            raise RefusedError(f"{account.name} may not write to {entity}: use the key of a member of it.")
        return None
    query = sa.select(Project).join(Entity).where(Entity.name == entity, Project.name == name)
    query = query.options(joinedload(Project.entity))
    found = session.scalar(query)
    if found is not None or not create:
        return found
    if not account.may_write(entity):
        raise RefusedError(f"{account.name} may not write to {entity}: use the key of a member of it.")
    if not NAME_FORM.fullmatch(name):
        raise UsageError(f"a project's name must be 1 to 128 characters without / \\ # ? % :. Got {name!r}.")
    owner = session.scalar(sa.select(Entity).where(Entity.name == entity))
    if owner is None:
        raise UsageError(f"there is no user or team {entity!r} on this server.")
    return made_once(session, lambda: session.scalar(query), lambda: Project(entity=owner, name=name, user_id=account.id))


def run_of(session: Session, project: Project, name: str, *, locked: bool = False) -> Run | None:
    """Return a run of a project by W&B's run id.

    Args:
        locked: no other transaction changes it until this one ends; what is read, changed and written back is then not lost.
    """
    query = sa.select(Run).where(Run.project_id == project.id, Run.name == name)
    if locked:
        query = query.with_for_update(of=Run).execution_options(populate_existing=True)
    return session.scalar(query)


def run_by_id(session: Session, account: Account, identifier: str, *, locked: bool = False) -> Run:
    """Return a run that the account may change, by the identifier that clients got; `locked` as in `run_of`.

    Raises:
        UsageError: if there is none.
        RefusedError: if the account may only look at it.
    """
    names = names_of(identifier, "Run")
    project = project_of(session, account, names[1], names[2]) if names is not None and len(names) == 3 else None
    run = run_of(session, project, names[0], locked=locked) if project is not None and names is not None else None
    if run is None:
        raise UsageError(f"there is no run {identifier!r}.")
    check_writable(account, run.project)
    return run


def is_gone(session: Session, account: Account, identifier: str) -> bool:
    """Whether an identifier names a run that is not there, in a project that the account may change.

    Raises:
        RefusedError: if the account may only look at the project.
    """
    names = names_of(identifier, "Run")
    project = project_of(session, account, names[1], names[2]) if names is not None and len(names) == 3 else None
    if project is None or names is None or run_of(session, project, names[0]) is not None:
        return False
    check_writable(account, project)
    return True


def check_writable(account: Account, project: Project) -> None:
    """Refuse an account that may only look at a project.

    Raises:
        RefusedError: that says who may not what.
    """
    if not account.may_write(project.entity.name):
        raise RefusedError(f"{account.name} may not write to {project.entity.name}: use the key of a member of it.")


def upsert(session: Session, account: Account, values: Mapping[str, Any], client: str | None = None) -> tuple[Run, bool]:
    """Create a run, or change one: by `id` (an edit) or by name (a client that runs it); return it, and whether it is new.

    Args:
        client: the process of a shared run that sends the values; its config and summary are merged with those of the others.

    Raises:
        UsageError: if there is no run of this `id`, or a value is unfit.
        RefusedError: if the account may not write there.
    """
    identifier = values.get("id")
    if identifier:
        run, inserted = run_by_id(session, account, identifier, locked=True), False
    else:
        project = project_of(session, account, values.get("modelName"), values.get("entityName"), create=True)
        assert project is not None
        check_writable(account, project)
        name = values.get("name") or new_name()
        if not NAME_FORM.fullmatch(name):
            raise UsageError(f"a run's id must be 1 to 128 characters without / \\ # ? % :. Got {name!r}.")
        new = Run(project_id=project.id, name=name, user_id=account.id, display_name=name)
        new.stale_copies = session.get(FormerRun, (project.id, name)) is not None
        run = made_once(session, lambda: run_of(session, project, name, locked=True), lambda: new)
        inserted = run is new
        if not inserted and run.state not in LIVE and not values.get("state"):
            run.state, run.stop_asked, run.exit_code = "running", False, None  # it is resumed
        if run.state == "pending" and not values.get("state"):
            run.state = "running"
        run.heartbeat_at = now()
    if values.get("state"):
        if values["state"] not in STATES:
            raise UsageError(f"a run's state is one of {', '.join(STATES)}. Got {values['state'][:80]!r}.")
        run.state = values["state"]
    for field, attribute in TEXTS.items():
        if values.get(field) is not None:
            setattr(run, attribute, values[field])
    if values.get("tags") is not None:
        run.tags = as_json(list(dict.fromkeys(values["tags"])))
    if values.get("config") is not None:
        config = mapping_of(values["config"], "config")
        run.config = as_json(config if client is None else shared_runs.merged_config(run, config))
        _index(session, run, "c", plain_config(run))
    if values.get("summaryMetrics") is not None:
        keep_summary(session, run, values["summaryMetrics"], client)
    return run, inserted


def keep_summary(session: Session, run: Run, text: str, client: str | None = None) -> None:
    """Replace a run's summary, but for what its sweep says of it; of a shared run, what its process `client` has changed.

    Raises:
        UsageError: if it is no JSON object.
    """
    summary = mapping_of(text, "summaryMetrics")
    if client is not None:
        summary = shared_runs.merged_summary(session, run, client, summary)
    known = json.loads(run.summary).get(KEY) if f'"{KEY}"' in run.summary else None
    if is_outcome(known):  # of a run that was silent, or is resumed, and whose client knows nothing of it
        summary = {KEY: known, **summary}
    kept = as_json(summary)
    if kept != run.summary:
        run.summary = kept
        _index(session, run, "s", summary)


def plain_config(run: Run) -> dict[str, Any]:
    """Return a run's config without W&B's wrapping of each value and without what W&B keeps for itself."""
    return {
        key: entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        for key, entry in json.loads(run.config).items()
        if key != "_wandb"
    }


def found_runs(
    session: Session,
    project: Project,
    *,
    filters: str | None = None,
    order: str | None = None,
    first: int = 50,
    skip: int = 0,
) -> Sequence[Run]:
    """Return a page of a project's runs.

    Raises:
        UsageError: if the filter or the order is unfit.
    """
    query = matching(sa.select(Run), project, filters).options(joinedload(Run.project).joinedload(Project.entity))
    return session.scalars(query.order_by(*order_of(order)).offset(skip).limit(first)).all()


def count_runs(session: Session, project: Project, filters: str | None = None) -> int:
    """Return how many runs of a project match a filter."""
    return session.scalar(matching(sa.select(sa.func.count(Run.id)), project, filters)) or 0


def delete(session: Session, run: Run) -> None:
    """Forget a run and all that it logged; the contents of its files are swept later. No agent is handed it again."""
    of_it = sa.select(Sweep.id).where(Sweep.project_id == run.project_id, Sweep.name == run.sweep_name)
    session.execute(sa.update(Issue).where(Issue.sweep_id.in_(of_it), Issue.run_name == run.name).values(times=DELETED))
    if session.scalar(sa.select(Segment.number).where(Segment.run_id == run.id).limit(1)) is not None or run.stale_copies:
        session.merge(FormerRun(project_id=run.project_id, name=run.name))
    for table in (Value, Element, Chunk, Segment, RunFile, SharedLines, SharedSummary):
        session.execute(sa.delete(table).where(table.run_id == run.id))
    session.delete(run)


def receive(session: Session, run: Run, body: Mapping[str, Any], client: str | None = None) -> int:
    """Take what a client streams into a run that is `locked`, and return how many lines it was.

    An empty body says that the run lives. With `complete` the run has ended, with the exit code it says. A part that is unfit
    is logged and left out, and does not keep the others from being stored.

    Args:
        client: the process of a shared run that sends it.

    Raises:
        UsageError: if all parts are unfit: something in each is no line, or no number.
    """
    run.heartbeat_at = now()
    count = 0
    faults: list[str] = []
    if run.state in ("crashed", "pending"):
        run.state = "running"
    files = body.get("files") or {}
    if not isinstance(files, Mapping):
        raise UsageError(f"files must be a mapping of names to lines. Got {str(files)[:80]}.")
    for file, part in files.items():
        try:
            with session.begin_nested():
                count += _receive_part(session, run, file, part, client)
        except (UsageError, sa.exc.DataError, OverflowError) as error:
            faults.append(f"{first_line(error)}.")
    if body.get("preempting"):
        run.state = "preempting"
    if body.get("complete"):
        code = body.get("exitcode") or 0
        if not isinstance(code, int) or not -(2**31) <= code < 2**31:
            log.warning("run %s ended with an exit code that is no whole number of 32 bits, taken for 1: %.80s", run.name, code)
            code = 1
        run.exit_code = code
        run.state = "killed" if run.stop_asked else "failed" if run.exit_code else "finished"
    if faults and len(faults) == len(files):
        raise UsageError(faults[0])
    for fault in faults:
        log.warning("left out of what run %s streams: %s", run.name, fault)
    return count


def _receive_part(session: Session, run: Run, file: str, part: Any, client: str | None) -> int:
    """Store what a request holds of one file, and return how many lines it was.

    Raises:
        UsageError: if it has no lines, or no number of the first one.
    """
    content = part.get("content") if isinstance(part, Mapping) else None
    if not isinstance(content, list) or not all(isinstance(line, str) for line in content):
        raise UsageError(f"files.{file} must have content, a list of lines.")
    if file == "wandb-summary.json":
        if content:
            keep_summary(session, run, content[-1], client)
        return 0
    if file not in streams.FILES:
        return 0
    offset = part.get("offset", 0)
    if type(offset) is not int:  # a boolean is none
        raise UsageError(f"files.{file} must have offset, a whole number. Got {offset!r}.")
    if client is None:
        streams.append(session, run, streams.FILES[file], offset, content)
    else:
        shared_runs.append(session, run, client, streams.FILES[file], offset, content)
    return len(content)


def mark_crashed(session: Session) -> int:
    """Mark running runs that have been silent for SILENCE, and return how many."""
    silent = sa.update(Run).where(Run.state.in_(("running", "preempting")), Run.heartbeat_at < now() - SILENCE)
    return int(session.execute(silent.values(state="crashed")).rowcount)  # type: ignore[attr-defined]


def ask_to_stop(run: Run) -> None:
    """Flag a run that is to end; its client is told at its next request, and ends it with all its rows."""
    if run.state == "pending":
        run.state = "killed"  # it waits for an agent, and none shall have it
    elif run.state in LIVE and not run.stop_asked:
        run.stop_asked, run.stop_asked_at = True, now()


def new_name() -> str:
    """Return a run id as W&B's: eight letters and digits."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def matching(query: Any, project: Project, filters: str | Mapping[str, Any] | None) -> Any:
    """Return a SELECT of runs with the conditions of a project and a filter.

    Raises:
        UsageError: if the filter is unfit.
    """
    return query.outerjoin(User, User.id == Run.user_id).where(Run.project_id == project.id, condition_of(filters))


def mapping_of(text: str, name: str) -> dict[str, Any]:
    """Return the JSON object of a text.

    Raises:
        UsageError: if it is none, or takes too long to read while others wait for the database.
    """
    if isinstance(text, str) and (len(text) > MOST_CHARACTERS or text.count(":") > MOST_KEYS or text.count(",") > MOST_ITEMS):
        raise UsageError(
            f"{name} may have at most {MOST_CHARACTERS:,} characters, {MOST_KEYS:,} keys and {MOST_ITEMS:,} values. "
            f"Got {len(text):,} characters: keep large values in a file or an artifact."
        )
    try:
        values = safe_json.read(text)
    except (TypeError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UsageError(f"{name} must be a JSON object. Got {str(text)[:80]!r}.")
    return values


def _index(session: Session, run: Run, place: str, values: Mapping[str, Any]) -> None:
    """Keep the values by which runs are filtered and ordered; only what has changed is written."""
    wanted, in_lists = run_values.rows_of(values)
    known = {row.key: row for row in session.scalars(sa.select(Value).where(Value.run_id == run.id, Value.place == place))}
    had_lists = any(row.kind == run_values.LIST for row in known.values())
    _keep(session, known, wanted, lambda key: Value(run_id=run.id, place=place, key=key))
    if in_lists or had_lists:
        found = session.scalars(sa.select(Element).where(Element.run_id == run.id, Element.place == place))
        elements = {run_values.Place(row.key, row.position, row.is_element): row for row in found}
        _keep(session, elements, in_lists, lambda key: Element(run_id=run.id, place=place, **key._asdict()))


def _keep(session: Session, known: Mapping[Any, Any], wanted: Mapping[Any, run_values.Kept], new: Callable[[Any], Any]) -> None:
    """Make the rows that are there those that are wanted."""
    for key, row in known.items():
        if key not in wanted:
            session.delete(row)
        elif (row.kind, row.number, row.text, row.size) != wanted[key]:
            row.kind, row.number, row.text, row.size = wanted[key]
    for key in wanted.keys() - known.keys():
        row = new(key)
        row.kind, row.number, row.text, row.size = wanted[key]
        session.add(row)
