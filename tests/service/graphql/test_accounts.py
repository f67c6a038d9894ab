"""People, teams and the organisation as clients read them: each sees its own keys and teams, an administrator everybody's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.service.store.accounts import add_key, add_user
from tests.service.logging_artifacts import Logged
from tests.service.serving import Asked

MATE, ADMIN = "local-" + "m" * 40, "local-" + "a" * 40
USERS = """query Q($q: String) { users(query: $q) { edges { node {
  id username apiKeys { edges { node { id name } } } teams { edges { node { name isTeam } } } } } } }"""


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    asked = Asked(tmp_path)
    add_user(asked.database, "mate", key=MATE, team="crew", email="first.last@example.org")
    add_user(asked.database, "mateo", team="others")
    add_user(asked.database, "boss", key=ADMIN, role="admin")
    add_key(asked.database, "mate")
    return asked


def found(asked: Asked, text: str | None, key: str = ADMIN) -> dict[str, Any]:
    nodes = [edge["node"] for edge in asked.ask(USERS, key=key, q=text)["users"]["edges"]]
    return {
        node["username"]: (
            [edge["node"]["name"] for edge in node["apiKeys"]["edges"]],
            [edge["node"]["name"] for edge in node["teams"]["edges"]],
        )
        for node in nodes
    }


def test_users_are_found_by_a_beginning_or_an_end(asked: Asked) -> None:
    for text, names in (
        ("mate", ["mate", "mateo"]),
        ("MATEO", ["mateo"]),
        ("eo", ["mateo"]),
        ("first.", ["mate"]),
        ("@example.org", ["mate"]),
        ("irst", []),
        ("%", []),
        ("", ["boss", "mate", "mateo", "someone"]),
        (None, ["boss", "mate", "mateo", "someone"]),
    ):
        assert list(found(asked, text)) == names, text
    assert list(found(asked, "mate", MATE)) == ["mate"], "others are seen by those who share a team"


def test_keys_and_teams_are_seen_by_their_owner_and_administrators(asked: Asked) -> None:
    keys, teams = found(asked, "mate")["mate"]
    assert (len(set(keys)), teams) == (2, ["crew"])
    assert found(asked, "mate", MATE)["mate"] == (keys, ["crew"])
    asked.run("r1")
    owner = '{ project(entityName: "someone", name: "tried") { user { username apiKeys { edges { node { name } } } } } }'
    assert asked.ask(owner, key=ADMIN)["project"]["user"]["apiKeys"]["edges"] != []
    add_user(asked.database, "third", key="local-" + "t" * 40, team="crew")
    assert found(asked, "mate", "local-" + "t" * 40)["mate"] == ([], ["crew"])
    viewer = asked.ask("{ viewer { username entity teams { edges { node { name } } } } }", key=MATE)["viewer"]
    assert viewer == {"username": "mate", "entity": "mate", "teams": {"edges": [{"node": {"name": "crew"}}]}}


def test_a_server_is_one_organisation(asked: Asked) -> None:
    query = "query Q($o: String) { organization(name: $o) { id name orgEntity { name entityType } featureFlags { rampKey } } }"
    organization = asked.ask(query, o="paretune")["organization"]
    assert (organization["name"], organization["orgEntity"]["entityType"]) == ("paretune", "organization")
    assert asked.ask(query, o="another")["organization"] is None
    query = "query Q($e: String) { entity(name: $e) { organization { name } user { username organizations { name } } } }"
    assert asked.ask(query, e="someone")["entity"] == {
        "organization": {"name": "paretune"},
        "user": {"username": "someone", "organizations": [{"name": "paretune"}]},
    }
    assert asked.ask(query, key=MATE, e="crew")["entity"]["user"] is None
    assert asked.ask(query, e="crew")["entity"] is None


def test_an_entity_says_how_large_its_files_are(asked: Asked) -> None:
    query = '{ entity(name: "someone") { storageBytes members { username } } }'
    assert asked.ask(query)["entity"] == {"storageBytes": 0, "members": [{"username": "someone"}]}
    Logged(asked, {"a": b"alpha", "b": b"beta"}).done()
    assert asked.ask(query)["entity"]["storageBytes"] == 9


def test_a_run_that_is_deleted_is_deleted_again(asked: Asked) -> None:
    identifier = asked.run("r1")
    query = "mutation M($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"
    for _ in range(2):
        assert "errors" not in asked.told(query, id=identifier)
    assert "there is no run" in asked.told(query, key=MATE, id=identifier)["errors"][0]["message"]
    assert "there is no run" in asked.told(query, id="none")["errors"][0]["message"]
