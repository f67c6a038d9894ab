"""Filters and orderings of versions and collections: every field in both cases, kinds told apart, times in any zone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.service.artifacts.artifact_filters import COLLECTIONS, VERSIONS
from paretune.service.store.artifact_tables import Artifact, ArtifactCollection
from tests.postgres import needs_postgres, postgres
from tests.service.logging_artifacts import Logged
from tests.service.serving import Asked

QUERY = """query Q($filters: JSONString, $order: String) { project(entityName: "someone", name: "tried") {
  artifactCollection(name: "things") { artifacts(filters: $filters, order: $order) { edges { version } } } } }"""
COLLECTED = """query Q($filters: JSONString, $order: String) { project(entityName: "someone", name: "tried") {
  artifactCollections(filters: $filters, order: $order) { edges { node { name } } } } }"""
BEGIN = datetime(2026, 1, 1, 12)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Three versions of `things`, of which every field grows but the tags, and a collection `z`."""
    folder = tmp_path_factory.mktemp("service")
    with contextlib.ExitStack() as stack:
        asked = Asked(folder, None if request.param == "sqlite" else stack.enter_context(postgres(folder)))
        for number in range(3):
            contents = {str(place): b"x" * (number + 1) for place in range(number + 1)}
            tags = [{"tagName": name} for name in ("a", "b")[:number]]
            Logged(asked, contents, tags=tags, description=f"the {number}", historyStep=number).done()
        Logged(asked, {"a": b"1"}, artifactCollectionName="z").done()
        with asked.database.session(writing=True) as session:
            for row in (*session.scalars(sa.select(Artifact)), *session.scalars(sa.select(ArtifactCollection))):
                row.created_at = row.updated_at = BEGIN + timedelta(hours=row.id)
                if isinstance(row, Artifact):
                    row.digest = f"{row.id:032}"
        yield asked
        asked.searches.close()
        asked.database.close()


def versions(asked: Asked, filters: dict[str, Any] | None = None, order: str | None = "version") -> list[str]:
    found = asked.ask(QUERY, filters=json.dumps(filters or {}), order=order)["project"]["artifactCollection"]["artifacts"]
    return [edge["version"] for edge in found["edges"]]


@pytest.mark.parametrize("field", sorted(VERSIONS))
def test_versions_are_ordered_by_every_field(asked: Asked, field: str) -> None:
    in_order = ["v0", "v1", "v2"]
    assert versions(asked, order=field) == versions(asked, order=f"+{field}")
    if field not in ("tags", "tag", "state"):
        assert (versions(asked, order=field), versions(asked, order=f"-{field}")) == (in_order, in_order[::-1])


@pytest.mark.parametrize("field", sorted(COLLECTIONS))
def test_collections_are_ordered_by_every_field(asked: Asked, field: str) -> None:
    for sign, names in (("", ["things", "z"]), ("-", ["z", "things"])):
        found = asked.ask(COLLECTED, order=sign + field)["project"]["artifactCollections"]["edges"]
        assert [edge["node"]["name"] for edge in found] == names


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"version": 1}, ["v1"]),
        ({"version_index": {"$in": [0, 2.0]}}, ["v0", "v2"]),
        ({"versionIndex": "1"}, []),
        ({"version": True}, []),
        ({"size": {"$gt": "0"}}, []),
        ({"description": {"$ne": "the 1"}}, ["v0", "v2"]),
        ({"description": 1}, []),
        ({"description": {"$exists": False}}, []),
        ({"tags": "a"}, ["v1", "v2"]),
        ({"tags": {"$all": ["a", "b"]}}, ["v2"]),
        ({"tags": {"$size": 1}}, ["v1"]),
        ({"tags": {"$nin": ["b"]}}, ["v0", "v1"]),
        ({"tags": {"$exists": False}}, ["v0"]),
        ({"version": {"$not": {"$gte": 1}}}, ["v0"]),
        ({"created_at": {"$lte": "2026-01-01T15:00:00+02:00"}}, ["v0"]),
        ({"createdAt": {"$gt": "2026-01-01T09:00:00-04:00"}}, ["v1", "v2"]),
        ({"createdAt": {"$in": ["2026-01-01T14:00:00Z", "2026-01-01T16:00:00+01:00"]}}, ["v1", "v2"]),
    ],
)
def test_versions_are_found_by_values_of_their_kind(asked: Asked, filters: dict[str, Any], found: list[str]) -> None:
    assert versions(asked, filters) == found


def test_an_unknown_storage_region_is_named(asked: Asked) -> None:
    made = Logged(asked, {"a": b"new"})
    made.upload()
    for region, refused in (("coreweave-us", True), ("default", False)):
        entries = {"version": 1, "storagePolicyConfig": {"storageRegion": region}, "contents": {}}
        assert made.list_files(content=json.dumps(entries).encode()).status_code == 200
        answer = made.commit()
        assert ("errors" in answer) == refused
        assert not refused or "this server has no storage region 'coreweave-us'" in answer["errors"][0]["message"]
