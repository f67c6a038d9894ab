"""W&B's filters and orderings of artifacts and their collections as conditions of SQL, over a few columns by name."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from paretune.core.errors import UsageError, did_you_mean
from paretune.service.store.artifact_tables import Artifact, ArtifactCollection
from paretune.service.store.filter_targets import Field, Tags, Target
from paretune.service.store.filters import condition_by, in_both_cases

Columns = Mapping[str, sa.orm.InstrumentedAttribute[Any]]
VERSIONS: Columns = in_both_cases(
    {
        "state": Artifact.state,
        "version": Artifact.version,
        "version_index": Artifact.version,
        "digest": Artifact.digest,
        "commit_hash": Artifact.digest,
        "description": Artifact.description,
        "size": Artifact.size,
        "file_count": Artifact.file_count,
        "history_step": Artifact.history_step,
        "created_at": Artifact.created_at,
        "updated_at": Artifact.updated_at,
        "tags": Artifact.tags,
        "tag": Artifact.tags,
    }
)
COLLECTIONS: Columns = in_both_cases(
    {
        "name": ArtifactCollection.name,
        "type": ArtifactCollection.type,
        "description": ArtifactCollection.description,
        "created_at": ArtifactCollection.created_at,
        "updated_at": ArtifactCollection.updated_at,
        "tags": ArtifactCollection.tags,
        "tag": ArtifactCollection.tags,
    }
)


def condition_of(filters: str | None, columns: Columns) -> sa.ColumnElement[bool]:
    """Return the condition that a filter states.

    Raises:
        UsageError: if it is no filter, or has an operator or a path that is not known.
    """
    return condition_by(filters, functools.partial(_target, columns=columns))


def order_of(order: str | None, columns: Columns, identifier: sa.orm.InstrumentedAttribute[int]) -> list[sa.ColumnElement[Any]]:
    """Return what to order by, of `+name` or `-createdAt`; the newest come first where nothing is asked for.

    Raises:
        UsageError: if the path is not known.
    """
    if not order:
        return [identifier.desc()]
    column = _column(order.lstrip("+-"), columns)
    return [column.is_(None), *([column.desc(), identifier.desc()] if order.startswith("-") else [column.asc(), identifier.asc()])]


def _target(path: str, columns: Columns) -> Target:
    column = _column(path, columns)
    return Tags(column) if path in ("tags", "tag") else Field(column, path)


def _column(path: str, columns: Columns) -> sa.orm.InstrumentedAttribute[Any]:
    if path not in columns:
        near = did_you_mean(path, list(columns)) or f"; there are {', '.join(columns)}."
        raise UsageError(f"there is no field {path!r}{near}")
    return columns[path]
