"""The functions that answer the fields of schema/*.graphql, by what they answer for."""

from service.answers import accounts, artifact_collections, artifacts, files, projects, runs, sweeps
from service.execution import Schema


def schema() -> Schema:
    """Return the schema with everything bound."""
    parts = (accounts, projects, runs, files, sweeps, artifacts, artifact_collections)
    return Schema(*(kind for part in parts for kind in part.BOUND))
