"""Saved views for tests: specs as W&B's package writes them, and how they come to a service."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from tests.service.serving import KEY, Asked

with warnings.catch_warnings():  # the package is written in pydantic's old style
    warnings.simplefilter("ignore", DeprecationWarning)
    from wandb_workspaces import expr  # noqa: F401
    from wandb_workspaces.reports.v2 import gql


def run_set(filters: Any = None, order: str = "summary:f1", *, ascending: bool = False, **more: Any) -> dict[str, Any]:
    """Return a run set of a spec."""
    section, _, name = order.partition(":")
    sort = {"keys": [{"key": {"section": section, "name": name}, "ascending": ascending}]}
    return {"filters": filters or {"filterFormat": "filterV2", "filters": []}, "sort": sort, **more}


def panel(kind: str, **config: Any) -> dict[str, Any]:
    """Return a panel of a spec."""
    return {"viewType": kind, "config": config}


def workspace(panels: Sequence[Mapping[str, Any]], runs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the spec of a workspace with one section."""
    bank = {"sections": [{"name": "Section", "panels": list(panels)}]}
    return {"section": {"panelBankConfig": bank, "runSets": [runs or run_set()]}}


def report(*blocks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of a report."""
    return {"version": 5, "blocks": list(blocks)}


def heading(text: str) -> dict[str, Any]:
    """Return a heading of a report."""
    return {"type": "heading", "level": 1, "children": [{"text": text}]}


def grid(panels: Sequence[Mapping[str, Any]], runs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return panels of a report."""
    inner = {"runSets": [runs or run_set()], "openRunSet": 0, "panelBankSectionConfig": {"panels": list(panels)}}
    return {"type": "panel-grid", "children": [{"text": ""}], "metadata": inner}


def saved(asked: Asked, spec: Any, *, key: str = KEY, **values: Any) -> dict[str, Any]:
    """Save a view as the package does, a workspace unless it is said; return what it is told of it."""
    return told(asked, spec, key=key, **values)["data"]["upsertView"]["view"]  # type: ignore[no-any-return]


def told(asked: Asked, spec: Any, *, key: str = KEY, **values: Any) -> dict[str, Any]:
    """Save a view, and return the whole answer."""
    named = {"entityName": "someone", "projectName": "tried", "type": "project-view", "name": "nw-one-v", "displayName": "One"}
    text = spec if isinstance(spec, str) else json.dumps(spec)
    return asked.told(gql.upsert_view, key=key, **{**named, **values, "spec": text})
