"""What the answers have in common: the context of a request, pages of nodes, values as clients read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from ariadne import ObjectType, ScalarType
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.graphql.query_limits import MOST_IN_PAGE, PAGE, AnswerSize
from paretune.service.store import runs
from paretune.service.store.accounts import Account
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.store.safe_json import is_whole
from paretune.service.store.tables import Run
from paretune.service.sweeps.heartbeats import Pulses
from paretune.service.sweeps.searches import Searches

ACCESS = "PRIVATE"  # of every project: who shares no team with its owner does not see it
MOST_ROWS = 10_000  # of a history in one answer
JSON_STRING = ScalarType("JSONString")


class GoneError(UsageError):
    """What was asked for is not there any more: the answer is a 404, at which an agent leaves."""


@dataclass(frozen=True)
class Context:
    """What answers one request: its transaction, who asks, where the contents of files are, and the studies of sweeps."""

    session: Session
    account: Account
    files: Files
    searches: Searches
    database: Database  # for what takes several transactions
    pulses: Pulses
    base: str  # this server's address as the client sees it: addresses of files must be whole
    answer: AnswerSize
    shared_client: str | None = None  # the process of a shared run that asks
    file_counts: dict[int, int] = field(default_factory=dict)  # of runs, by their row


def context_of(info: Any) -> Context:
    """Return the context of a request."""
    return info.context


def binder(kind: ObjectType) -> Callable[[str], Callable[[Any], Any]]:
    """Return what binds a function of (object, context) to a field of a type: `binder(run_type)("id")(function)`."""

    def named(name: str) -> Callable[[Any], Any]:
        def bind(function: Callable[[Any, Context], Any]) -> Any:
            kind.set_field(name, lambda parent, info: function(parent, context_of(info)))
            return function

        return bind

    return named


def content_address(context: Context, digest: str, name: str) -> str:
    """Return an address by which a content can be fetched for a while without a key, also in parts."""
    return f"{context.base}/contents/{context.files.signed('content', digest=digest)}/{name}"


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


def page_of(after: str | None, first: int | None) -> tuple[int, int]:
    """Return how many to skip and how many to give, of a cursor and a size.

    Raises:
        UsageError: if the cursor is none of this server's.
    """
    if after and not is_whole(after, 11):
        raise UsageError(f"after must be a cursor of this server. Got {after[:40]!r}.")
    return int(after or 0), max(0, min(PAGE if first is None else first, MOST_IN_PAGE))


def connection(nodes: Sequence[Any], skip: int, total: int) -> dict[str, Any]:
    """Return a page of nodes that begins after `skip` of `total`."""
    edges = [{"node": node, "cursor": str(skip + place)} for place, node in enumerate(nodes, start=1)]
    end = skip + len(nodes)
    return {"edges": edges, "pageInfo": {"endCursor": str(end), "hasNextPage": end < total}}


def counted(context: Context, query: sa.Select[Any], after: str | None, first: int | None) -> dict[str, Any]:
    """Return a page of what a query selects, with the count of all that it selects."""
    skip, first = page_of(after, first)
    found = context.session.scalars(query.offset(skip).limit(first)).all()
    total = context.session.scalar(sa.select(sa.func.count()).select_from(query.order_by(None).subquery())) or 0
    return {**connection(found, skip, total), "totalCount": total}


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


def none_or_int(value: Any, name: str) -> int | None:
    """Return an Int64, which may come as a text.

    Raises:
        UsageError: if it is no whole number.
    """
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} must be a whole number. Got {str(value)[:40]!r}.") from None


@JSON_STRING.value_parser
def text_of(value: Any) -> str:
    """Return a JSONString.

    Raises:
        ValueError: if it is no text; graphql says which value it was.
    """
    if not isinstance(value, str):
        raise ValueError("It must be a text.")
    return value
