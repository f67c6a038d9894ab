"""Saved views as W&B's package saves, lists, reads and deletes them: who may, and what stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.core.errors import UsageError
from paretune.service.operations import backup
from paretune.service.store.accounts import add_user
from paretune.service.store.database import Database
from paretune.service.store.tables import View
from paretune.service.store.views import read_spec
from tests.service.client_operations import operations
from tests.service.serving import Asked
from tests.service.viewing import gql, saved, told, workspace

OTHER, VIEWER, MEMBER = ("local-" + letter * 40 for letter in "ovm")


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    asked = Asked(tmp_path)
    asked.run()
    return asked


def listed(asked: Asked, **values: Any) -> list[dict[str, Any]]:
    (text,) = operations()["ProjectViews"]
    named = {"project": "tried", "entity": "someone", "reportLimit": 50, "viewType": "project-view"}
    edges = asked.ask(text, **{**named, **values})["project"]["allViews"]["edges"]
    return [edge["node"] for edge in edges]


def test_a_view_is_created_read_listed_changed_and_deleted(asked: Asked) -> None:
    spec = workspace([])
    view = saved(asked, spec, description="What for.")
    read = asked.ask(gql.view_report, reportId=view["id"])["view"]
    assert read | {"createdAt": "", "updatedAt": ""} == {
        **{name: view[name] for name in ("id", "name", "displayName", "description", "project", "spec")},
        "createdAt": "",
        "updatedAt": "",
    }
    assert (read["description"], read_spec(read["spec"])) == ("What for.", spec)
    assert read["project"] | {"id": ""} == {"id": "", "name": "tried", "entityName": "someone"}
    saved(asked, workspace([{"viewType": "Other"}]), id=view["id"], displayName="Two", name="another")
    (only,) = listed(asked)
    assert (only["id"], only["displayName"], only["name"]) == (view["id"], "Two", "nw-one-v")
    assert (only["user"]["username"], "Other" in only["spec"]) == ("someone", True)
    assert asked.ask(gql.delete_view, id=view["id"], deleteDrafts=True)["deleteView"]["success"]
    assert listed(asked) == []
    for answer in (asked.told(gql.view_report, reportId=view["id"]), told(asked, spec, id=view["id"])):
        assert f"there is no saved view {view['id']!r} that you may see." in answer["errors"][0]["message"]
    assert saved(asked, spec)["id"] != view["id"], "a deleted view's identifier is not given again"


def test_a_view_that_is_sent_again_is_the_same_view(asked: Asked) -> None:
    first = told(asked, workspace([]))["data"]["upsertView"]
    again = told(asked, workspace([]))["data"]["upsertView"]
    assert (first["inserted"], again["inserted"]) == (True, False)
    assert first["view"]["id"] == again["view"]["id"]
    assert saved(asked, workspace([]), name=None)["id"] != saved(asked, workspace([]), name=None)["id"]


def test_views_are_listed_by_kind_name_and_user(asked: Asked) -> None:
    add_user(asked.database, "member", key=MEMBER)
    for name, kind in (("nw-a-v", "project-view"), ("nw-b-v", "project-view"), ("c", "runs")):
        saved(asked, workspace([]), name=name, type=kind)
    assert [view["name"] for view in listed(asked)] == ["nw-b-v", "nw-a-v"]
    assert [view["name"] for view in listed(asked, viewType="runs")] == ["c"]
    assert [view["name"] for view in listed(asked, viewName="nw-a-v")] == ["nw-a-v"]
    by_user = 'query V($user: String) { project(name: "tried") { allViews(userName: $user) { edges { node { name } } } } }'
    assert [len(asked.ask(by_user, user=user)["project"]["allViews"]["edges"]) for user in ("someone", "member")] == [3, 0]


@pytest.mark.parametrize("spec", ["", "[1]", "null", "{", "[" * 100_000, '"text"'])
def test_a_spec_must_be_an_object(asked: Asked, spec: str) -> None:
    assert "a view's spec must be a JSON object. Got " in told(asked, spec)["errors"][0]["message"]
    with pytest.raises(UsageError):
        read_spec(spec)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"displayName": "x" * 257}, "a view's displayName may have at most 256 characters."),
        ({"name": "x" * 129}, "a view's name may have at most 128 characters."),
        ({"type": "x" * 33}, "a view's type may have at most 32 characters."),
        ({"projectName": "absent"}, "there is no project someone/absent."),
        ({"entityName": "nobody"}, "there is no project nobody/tried."),
        ({"id": "Vmlldzp2MTo5OTk="}, "there is no saved view"),
        ({"id": "no identifier"}, "there is no saved view"),
    ],
)
def test_what_cannot_be_saved_is_said(asked: Asked, values: dict[str, Any], sentence: str) -> None:
    assert sentence in told(asked, workspace([]), **values)["errors"][0]["message"]
    assert listed(asked) == []


def test_members_write_viewers_read_and_strangers_see_nothing(asked: Asked) -> None:
    add_user(asked.database, "member", key=MEMBER, team="crew")
    add_user(asked.database, "watcher", key=VIEWER, team="crew", role="viewer")
    add_user(asked.database, "stranger", key=OTHER)
    asked.ask(
        "mutation M($input: UpsertModelInput!) { upsertModel(input: $input) { inserted } }",
        key=MEMBER,
        input={"name": "tried", "entityName": "crew"},
    )
    view = saved(asked, workspace([]), key=MEMBER, entityName="crew")
    assert asked.ask(gql.view_report, key=VIEWER, reportId=view["id"])["view"]["displayName"] == "One"
    for values in ({}, {"id": view["id"]}):
        assert (
            "may not write to crew" in told(asked, workspace([]), key=VIEWER, entityName="crew", **values)["errors"][0]["message"]
        )
    assert "may not write to crew" in asked.told(gql.delete_view, key=VIEWER, id=view["id"])["errors"][0]["message"]
    for operation, values in ((gql.view_report, {"reportId": view["id"]}), (gql.delete_view, {"id": view["id"]})):
        assert "that you may see" in asked.told(operation, key=OTHER, **values)["errors"][0]["message"]
    assert "that you may see" in told(asked, workspace([]), key=OTHER, id=view["id"])["errors"][0]["message"]
    assert asked.ask(gql.view_report, key=MEMBER, reportId=view["id"])["view"]["displayName"] == "One"


def test_views_are_in_a_backup_and_in_what_is_restored_of_it(asked: Asked, tmp_path: Path) -> None:
    saved(asked, workspace([]))
    backup.back_up(asked.database, asked.files, tmp_path / "backup.tar")
    backup.restore(tmp_path / "backup.tar", tmp_path / "new", None)
    with Database(f"sqlite:///{tmp_path / 'new' / 'service.db'}").session() as session:
        (view,) = session.scalars(sa.select(View))
        assert (view.display_name, view.project.name) == ("One", "tried")
