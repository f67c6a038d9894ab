"""The functions that answer the fields of schema/*.graphql, by what they answer for."""

from service.answers import accounts, files, projects, runs, sweeps
from service.execution import Schema


def schema() -> Schema:
    """Return the schema with everything bound."""
    parts = (accounts, projects, runs, files, sweeps)
    return Schema(*(kind for part in parts for kind in part.BOUND))
