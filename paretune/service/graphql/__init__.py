"""The functions that answer the fields of schema/*.graphql, by what they answer for."""

import functools

from paretune.service.graphql import accounts, artifact_collections, artifacts, files, projects, runs, shared, sweeps, views
from paretune.service.graphql.execution import Schema


@functools.cache
def schema() -> Schema:
    """Return the schema with everything bound; made once a process, as it takes a tenth of a second and keeps nothing."""
    parts = (accounts, projects, runs, files, sweeps, views, artifacts, artifact_collections)
    return Schema(shared.JSON_STRING, *(kind for part in parts for kind in part.BOUND))
