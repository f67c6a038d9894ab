"""Artifacts of the service, asked in this process: what is kept, refused, hidden and cleared away."""

from __future__ import annotations

import json
import os
import time
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.service.operations.garbage_collection import Cleaning, clean, delete_expired
from paretune.service.store.accounts import add_user
from paretune.service.store.artifact_tables import Artifact, ArtifactMember
from paretune.service.store.tables import global_id, now
from tests.postgres import needs_postgres, postgres
from tests.service.logging_artifacts import COMMIT, CREATE, FILES, MANIFEST, Logged, digest_of, md5, path_of
from tests.service.serving import KEY, Asked, authorization, forged

OTHER, GUEST = "local-" + "o" * 40, "local-" + "g" * 40
A, B = b"alpha" * 100, b"beta" * 100
BY_NAME = """query Q($name: String!) { project(entityName: "someone", name: "tried") {
  artifactCollectionMembership(name: $name) { id versionIndex aliases { alias } artifact { id versionIndex } } } }"""


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    asked = Asked(tmp_path)
    add_user(asked.database, "other", key=OTHER)
    yield asked
    asked.searches.close()
    asked.database.close()


def named(asked: Asked, name: str, key: str = KEY) -> Any:
    """Return the member of a collection of the project `tried` by its name."""
    project = asked.ask(BY_NAME, key=key, name=name)["project"]
    return None if project is None else project["artifactCollectionMembership"]


def contents(asked: Asked) -> set[Path]:
    """Return the contents that lie in the folder."""
    return {path for path in (asked.files.folder / "contents").rglob("*") if path.is_file()}


def sentence(answer: dict[str, Any]) -> str:
    """Return the first error of an answer."""
    return str(answer["errors"][0]["message"])


def input_of(query: str) -> str:
    """Return a mutation of one input that answers whether it succeeded."""
    return f"mutation M($input: {query[0].upper()}{query[1:]}Input!) {{ {query}(input: $input) {{ success }} }}"


# -- logged


def test_a_version_has_no_number_before_it_is_committed_and_latest_is_the_last(asked: Asked) -> None:
    first = Logged(asked, {"a": A}, aliases=[{"alias": "best", "artifactCollectionName": "things"}])
    assert (first.state, first.look()["versionIndex"], named(asked, "things:latest")) == ("PENDING", None, None)
    first.done()
    second = Logged(asked, {"a": B}).done()
    found = [named(asked, f"things:{name}")["artifact"]["id"] for name in ("v0", "best", "v1", "latest")]
    assert found == [first.id, first.id, second.id, second.id]
    assert named(asked, "things")["versionIndex"] == 1
    assert named(asked, "things:v2") is None


def test_the_same_contents_are_the_same_version_and_take_its_aliases_along(asked: Asked) -> None:
    first = Logged(asked, {"a": A}).done()
    Logged(asked, {"a": B}).done()
    again = Logged(asked, {"a": A}, aliases=[{"alias": "back", "artifactCollectionName": "things"}], clientID="made-up")
    assert (again.id, again.state) == (first.id, "COMMITTED")
    assert named(asked, "things:latest")["artifact"]["id"] == named(asked, "things:back")["artifact"]["id"] == first.id
    known = asked.ask('{ clientIDMapping(clientID: "made-up") { serverID } }')["clientIDMapping"]
    assert known == {"serverID": first.id}


def test_what_is_here_is_not_uploaded_again_and_lies_once(asked: Asked) -> None:
    Logged(asked, {"a": A, "twice/a": A}).done()
    lying = contents(asked)
    second = Logged(asked, {"other/name": A, "b": B})
    addresses = second.upload()
    assert addresses["other/name"] is None
    assert addresses["b"] is not None
    second.list_files()
    second.commit()
    assert len(contents(asked)) == len(lying) + 2, "B and the second manifest"
    asked.run()
    create = """mutation { createRunFiles(input: {entityName: "someone", projectName: "tried", runName: "r1", files: ["a"]})
      { files { uploadUrl } } }"""
    address = asked.ask(create)["createRunFiles"]["files"][0]["uploadUrl"]
    assert asked.client.put(path_of(address), content=A).status_code == 200
    assert len(contents(asked)) == len(lying) + 2


def test_files_are_given_whole_or_in_parts_and_never_as_a_page(asked: Asked) -> None:
    made = Logged(asked, {"page.html": b"<script>alert(1)</script>"}).done()
    (edge,) = made.look()["files"]["edges"]
    address = path_of(edge["node"]["directUrl"])
    answer = asked.client.get(address, headers={"authorization": ""})
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert (answer.headers["content-disposition"], answer.headers["x-content-type-options"]) == ("attachment", "nosniff")
    part = asked.client.get(address, headers={"range": "bytes=1-6"})
    assert (part.status_code, part.content) == (206, b"script")


def test_references_are_kept_as_they_are_said(asked: Asked) -> None:
    made = Logged(asked, {"a": A})
    made.upload()
    entries = {
        "a": {"digest": md5(A), "size": len(A)},
        "there": {"digest": "an etag", "ref": "s3://bucket/key", "size": 7},
        "web": {"digest": "https://x.invalid/y", "ref": "https://x.invalid/y"},
    }
    assert made.list_files(entries).status_code == 200
    made.commit()
    seen = made.look()
    assert (seen["size"], seen["fileCount"]) == (len(A) + 7, 3)
    nodes = {edge["node"]["name"]: edge["node"]["directUrl"] for edge in seen["files"]["edges"]}
    assert (nodes["there"], nodes["web"]) == ("s3://bucket/key", "https://x.invalid/y")


def test_an_incremental_version_adds_to_the_latest(asked: Asked) -> None:
    Logged(asked, {"a": A, "b": B}).done()
    second = Logged(asked, {"b": A, "c": B})
    second.upload()
    second.list_files(type="INCREMENTAL")
    assert "errors" not in second.commit()
    seen = second.look()
    assert [edge["node"]["name"] for edge in seen["files"]["edges"]] == ["a", "b", "c"]
    assert seen["digest"] == digest_of({"a": A, "b": A, "c": B})
    listed = asked.client.get(path_of(seen["currentManifest"]["file"]["directUrl"])).json()["contents"]
    assert {name: entry["digest"] for name, entry in listed.items()} == {"a": md5(A), "b": md5(A), "c": md5(B)}


# -- refused


def test_an_upload_that_is_not_what_was_announced_is_refused(asked: Asked) -> None:
    made = Logged(asked, {"a": A})
    address = made.announce()["a"]
    assert address is not None
    answer = asked.client.put(path_of(address), content=A[:-1])
    assert answer.status_code == 400
    assert "was announced: upload the file as it was logged" in answer.json()["error"]
    made.list_files()
    assert "1 of the 1 files of things have not arrived (the first is 'a')" in sentence(made.commit())
    assert made.look()["state"] == "PENDING"


def test_a_commit_without_files_or_manifest_is_refused(asked: Asked) -> None:
    made = Logged(asked, {"a": A})
    assert "the manifest of things has not arrived" in sentence(made.commit())
    assert made.list_files(content=b"[]").status_code == 200
    assert "a manifest must be JSON with contents" in sentence(made.commit())
    made.list_files({"a": {"digest": md5(A)}, "b": {"digest": md5(B)}})
    assert "2 of the 2 files" in sentence(made.commit())
    made.upload()
    assert "1 of the 2 files of things have not arrived (the first is 'b')" in sentence(made.commit())


@pytest.mark.parametrize("name", ["../up", "a/../../b", "/etc/passwd", "", "a\\..\\b", "x" * 1025])
def test_a_name_that_leads_elsewhere_is_refused(asked: Asked, name: str) -> None:
    made = Logged(asked, {"a": A})
    spec = {"artifactID": made.id, "name": name, "md5": md5(A)}
    expected = "a file's name must be a path below its artifact"
    assert expected in sentence(asked.told(FILES, input={"artifactFiles": [spec]}))
    made.upload()
    made.list_files({"a": {"digest": md5(A)}, name: {"digest": md5(A)}})
    assert expected in sentence(made.commit())
    made.list_files({"a": {"digest": md5(A)}, name: {"digest": "x", "ref": "s3://b/k"}})
    assert expected in sentence(made.commit())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"artifactTypeName": "model"}, "things has versions of type 'dataset': they cannot be of type 'model' too"),
        ({"artifactCollectionName": "a/b"}, "an artifact's name must be 1 to 128 characters without / and :"),
        ({"artifactCollectionName": ""}, "an artifact's name must be"),
        ({"artifactTypeName": "x" * 129}, "an artifact's type must be"),
        ({"runName": "absent"}, "there is no run someone/tried/absent"),
        ({"metadata": "[1]"}, "metadata must be a JSON object"),
        ({"historyStep": "one"}, "historyStep must be a whole number. Got 'one'"),
        ({"ttlDurationSeconds": 1e30}, "ttlDurationSeconds must be a whole number"),
        ({"tags": [{"tagName": "a,b"}]}, "a tag must be letters"),
        ({"aliases": [{"alias": "v3", "artifactCollectionName": "things"}]}, "an alias cannot look like the number of a version"),
        ({"aliases": [{"alias": "a:b", "artifactCollectionName": "things"}]}, "an alias must be"),
    ],
)
def test_a_version_that_cannot_be_is_refused(asked: Asked, values: dict[str, Any], expected: str) -> None:
    Logged(asked, {"a": A}).done()
    given = {"entityName": "someone", "projectName": "tried", "artifactTypeName": "dataset", "artifactCollectionName": "things"}
    assert expected in sentence(asked.told(CREATE, input={**given, "digest": "d", **values}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b'{"contents": {"a": 3}}',
        b'{"contents": {"a": {"digest": 3}}}',
        b'{"contents": {"a": {"digest": "d", "size": -1, "ref": "s3://b/k"}}}',
        b'{"contents": {"a": {"digest": "d", "size": 1e99, "ref": "s3://b/k"}}}',
        b'{"contents": {"a": {"digest": "d", "ref": ["s3://b/k"]}}}',
        b"[" * 100_000,
    ],
)
def test_a_manifest_that_is_none_is_refused(asked: Asked, content: bytes) -> None:
    made = Logged(asked, {"a": A})
    assert made.list_files(content=content).status_code == 200
    assert "a manifest must be JSON with contents" in sentence(made.commit())


@pytest.mark.parametrize("identifier", ["", "nonsense", *(global_id("Artifact", number) for number in ("x", "²", "9" * 30, "-1"))])
def test_an_identifier_of_nothing_finds_nothing(asked: Asked, identifier: str) -> None:
    assert asked.ask("query Q($id: ID!) { artifact(id: $id) { id } artifactCollection(id: $id) { id } }", id=identifier) == {
        "artifact": None,
        "artifactCollection": None,
    }


@pytest.mark.parametrize("digest", ["", "abc", "not base64!", md5(A) + "AAAA"])
def test_a_digest_that_is_none_is_refused(asked: Asked, digest: str) -> None:
    made = Logged(asked, {"a": A})
    spec = {"artifactID": made.id, "name": "a", "md5": digest}
    assert "must be an MD5 in base64" in sentence(asked.told(FILES, input={"artifactFiles": [spec]}))


def test_a_committed_version_does_not_change(asked: Asked) -> None:
    made = Logged(asked, {"a": A})
    address = made.upload()["a"]
    made.done()
    assert "things:v0 is committed" in sentence(
        asked.told(FILES, input={"artifactFiles": [{"artifactID": made.id, "name": "a", "md5": md5(B)}]})
    )
    given = {"artifactID": made.id, "name": "m", "digest": "", "entityName": "", "projectName": "", "runName": ""}
    assert "is committed" in sentence(asked.told(MANIFEST, input=given))
    assert address is not None
    assert asked.client.put(path_of(address), content=B).status_code == 400
    assert asked.ask(COMMIT, id=made.id)["commitArtifact"]["artifact"]["versionIndex"] == 0, "a second commit is the first"


def test_forged_and_expired_addresses_are_refused(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Logged(asked, {"a": A})
    address = path_of(made.announce()["a"] or "")
    token = address.rpartition("/")[2]
    for other in (forged(address), "/artifact-uploads/x", f"/uploads/{token}", address.replace("uploads/", "uploads/A")):
        assert asked.client.put(other, content=A).status_code == 403
    made.done()
    given = path_of(made.look()["files"]["edges"][0]["node"]["directUrl"])
    assert asked.client.get(f"/contents/{token}/a").status_code == 403
    monkeypatch.setattr("paretune.service.store.files.EXPIRES", -1)
    assert asked.client.put(address, content=A).status_code == 403
    assert asked.client.get(given).status_code == 403


# -- who may do what


def test_others_see_nothing_of_an_artifact(asked: Asked) -> None:
    made = Logged(asked, {"a": A}, clientID="made-up").done()
    collection = asked.ask(BY_COLLECTION)["project"]["artifactCollection"]["id"]
    assert made.look(OTHER) is None
    assert named(asked, "things:v0", OTHER) is None
    assert asked.ask('{ clientIDMapping(clientID: "made-up") { serverID } }', key=OTHER)["clientIDMapping"] is None
    assert asked.ask("query Q($id: ID!) { artifactCollection(id: $id) { name } }", key=OTHER, id=collection) == {
        "artifactCollection": None
    }
    asked.ask('mutation { upsertBucket(input: {name: "r", modelName: "own", entityName: "other"}) { bucket { id } } }', key=OTHER)
    own = {"entityName": "other", "projectName": "own"}
    attempts = [
        (COMMIT, {"id": made.id}),
        ("mutation M($id: ID!) { deleteArtifact(input: {artifactID: $id}) { artifact { id } } }", {"id": made.id}),
        ("mutation M($id: ID!) { updateArtifact(input: {artifactID: $id}) { artifact { id } } }", {"id": made.id}),
        (USE, {"input": {"artifactID": made.id, "runName": "r", **own}}),
        (LINK, {"input": {"artifactID": made.id, "artifactPortfolioName": "mine", **own}}),
        (LINK, {"input": {"clientID": "made-up", "artifactPortfolioName": "mine", **own}}),
        (
            "mutation M($id: ID!) { deleteArtifactSequence(input: {artifactSequenceID: $id}) { clientMutationId } }",
            {"id": collection},
        ),
        (input_of("addAliases"), {"input": {"artifactID": made.id, "aliases": []}}),
    ]
    for query, variables in attempts:
        assert "there is no" in sentence(asked.told(query, key=OTHER, **variables))
    assert made.look()["aliases"] == [{"alias": "latest"}]
    create = {"artifactTypeName": "dataset", "artifactCollectionName": "x", "digest": "d"}
    answer = asked.told(CREATE, key=OTHER, input={**create, "entityName": "someone", "projectName": "tried"})
    assert "other may not write to someone" in sentence(answer)


def test_who_knows_the_digest_of_anothers_file_does_not_get_it(asked: Asked) -> None:
    Logged(asked, {"secret": A}).done()
    stolen = Logged(asked, {"secret": A}, OTHER, entityName="other", projectName="own")
    assert stolen.state == "PENDING"
    stolen.list_files()
    assert "have not arrived" in sentence(stolen.commit())
    assert stolen.announce()["secret"] is not None
    hexadecimal = b64decode(md5(A)).hex()
    for path in (f"someone/tried/things/x/{hexadecimal}/secret", f"someone/tried/things/x/y/{hexadecimal}/secret"):
        assert asked.client.get(f"/artifactsV2/default/{path}").content == A
        assert asked.client.get(f"/artifactsV2/default/{path}", headers=authorization(OTHER)).status_code == 404
        assert asked.client.get(f"/artifactsV2/default/{path}", headers={"authorization": ""}).status_code == 401
    assert asked.client.get(f"/artifacts/someone/{hexadecimal}").content == A
    assert asked.client.get(f"/artifacts/other/{hexadecimal}", headers=authorization(OTHER)).status_code == 404
    assert asked.client.get(f"/artifacts/someone/{hexadecimal}", headers=authorization(OTHER)).status_code == 404
    assert asked.client.get(f"/artifactsV2/default/someone/tried/absent/x/{hexadecimal}/secret").status_code == 404


def test_a_viewer_looks_and_changes_nothing(asked: Asked) -> None:
    mate = "local-" + "m" * 40
    add_user(asked.database, "mate", key=mate, team="lab")
    add_user(asked.database, "guest", key=GUEST, role="viewer", team="lab")
    made = Logged(asked, {"a": A}, mate, entityName="lab", projectName="common").done()
    assert made.look(GUEST)["versionIndex"] == 0
    for query in (COMMIT, "mutation M($id: ID!) { deleteArtifact(input: {artifactID: $id}) { artifact { id } } }"):
        assert "guest may not write to lab" in sentence(asked.told(query, key=GUEST, id=made.id))


# -- found


BY_COLLECTION = '{ project(entityName: "someone", name: "tried") { artifactCollection(name: "things") { id } } }'
USE = "mutation M($input: UseArtifactInput!) { useArtifact(input: $input) { artifact { id } } }"
LINK = """mutation M($input: LinkArtifactInput!) { linkArtifact(input: $input) {
  versionIndex artifactMembership { aliases { alias } artifactCollection { __typename name } } } }"""
VERSIONS = """query Q($filters: JSONString, $order: String, $after: String, $first: Int) {
  project(entityName: "someone", name: "tried") { artifactCollection(name: "things") {
    artifacts(filters: $filters, order: $order, after: $after, first: $first) {
      totalCount pageInfo { endCursor hasNextPage } edges { version } } } } }"""
COLLECTIONS = """query Q($filters: JSONString, $order: String) { project(entityName: "someone", name: "tried") {
  artifactCollections(filters: $filters, order: $order) { totalCount edges { node { name } } } } }"""


def versions(asked: Asked, **variables: Any) -> list[str]:
    """Return the versions of `things`."""
    found = asked.ask(VERSIONS, **variables)["project"]["artifactCollection"]["artifacts"]
    return [edge["version"] for edge in found["edges"]]


def test_versions_are_filtered_ordered_and_paged(asked: Asked) -> None:
    for number in range(5):
        Logged(asked, {"a": A * (number + 1)}, tags=[{"tagName": "odd"}] if number % 2 else []).done()
    Logged(asked, {"a": b"never committed"})
    assert versions(asked) == ["v4", "v3", "v2", "v1", "v0"]
    assert versions(asked, filters=json.dumps({"state": "COMMITTED", "tags": "odd"})) == ["v3", "v1"]
    assert versions(asked, filters=json.dumps({"$or": [{"version": {"$lt": 1}}, {"size": {"$gte": 2500}}]})) == ["v4", "v0"]
    assert versions(asked, filters=json.dumps({"$not": {"tags": {"$in": ["odd"]}}}), order="+version") == ["v0", "v2", "v4"]
    assert versions(asked, order="-size") == ["v4", "v3", "v2", "v1", "v0"]
    page = asked.ask(VERSIONS, first=2, after="2")["project"]["artifactCollection"]["artifacts"]
    assert [edge["version"] for edge in page["edges"]] == ["v2", "v1"]
    assert (page["totalCount"], page["pageInfo"]) == (5, {"endCursor": "4", "hasNextPage": True})


def test_collections_are_filtered_and_ordered(asked: Asked) -> None:
    for name, kind in (("beta", "model"), ("alpha", "dataset"), ("gamma", "model")):
        Logged(asked, {"a": name.encode()}, artifactCollectionName=name, artifactTypeName=kind).done()

    def found(**variables: Any) -> list[str]:
        answer = asked.ask(COLLECTIONS, **variables)["project"]["artifactCollections"]
        assert answer["totalCount"] == len(answer["edges"])
        return [edge["node"]["name"] for edge in answer["edges"]]

    assert found() == ["gamma", "alpha", "beta"]
    assert found(order="+name") == ["alpha", "beta", "gamma"]
    assert found(filters=json.dumps({"type": "model"}), order="-name") == ["gamma", "beta"]
    assert found(filters=json.dumps({"name": {"$regex": "^[ab]"}}), order="name") == ["alpha", "beta"]
    assert found(filters=json.dumps({"name": {"$contains": "amm"}})) == ["gamma"]
    assert found(filters=json.dumps({"name": {"$nin": ["beta", "alpha"]}})) == ["gamma"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"filters": "{"}, "filters must be JSON"),
        ({"filters": "[]"}, "a filter must be a mapping"),
        ({"filters": '{"nam": 1}'}, "there is no field 'nam'"),
        ({"filters": '{"size": {"$almost": 1}}'}, "$almost is not an operator"),
        ({"filters": '{"createdAt": {"$gt": "soon"}}'}, "createdAt must be a time"),
        ({"filters": '{"$or": 3}'}, "$or must have a list"),
        ({"filters": '{"size": {"$in": 3}}'}, "$in must have a list"),
        ({"order": "+beauty"}, "there is no field 'beauty'"),
    ],
)
def test_a_filter_that_is_none_is_refused(asked: Asked, variables: dict[str, Any], expected: str) -> None:
    Logged(asked, {"a": A}).done()
    assert expected in sentence(asked.told(VERSIONS, **variables))


# -- linked, deleted, cleared away


def test_a_link_has_a_number_of_its_own_and_goes_with_its_version(asked: Asked) -> None:
    first, second = Logged(asked, {"a": A}).done(), Logged(asked, {"a": B}).done()
    place = {"entityName": "someone", "projectName": "models", "artifactPortfolioName": "best"}

    def link(made: Logged, *aliases: str, **values: str) -> Any:
        named = [{"alias": alias, "artifactCollectionName": "best"} for alias in aliases]
        return asked.told(LINK, input={"artifactID": made.id, "aliases": named, **place, **values})

    assert link(second, "live")["data"]["linkArtifact"]["versionIndex"] == 0
    linked = link(first, "live")["data"]["linkArtifact"]
    assert (linked["versionIndex"], linked["artifactMembership"]["artifactCollection"]["__typename"]) == (1, "ArtifactPortfolio")
    assert {alias["alias"] for alias in linked["artifactMembership"]["aliases"]} == {"live", "latest"}
    assert link(first)["data"]["linkArtifact"]["versionIndex"] == 1, "it is linked once"
    assert "this server has no registries" in sentence(link(first, projectName="wandb-registry-model"))
    assert "holds versions that were logged to it" in sentence(link(first, projectName="tried", artifactPortfolioName="things"))
    own = {"entityName": "someone", "projectName": "models", "artifactCollectionName": "best", "artifactTypeName": "dataset"}
    assert "holds links to versions of other collections" in sentence(asked.told(CREATE, input={**own, "digest": "d"}))
    assert "not committed yet" in sentence(link(Logged(asked, {"a": b"new"})))
    delete = "mutation M($id: ID!) { deleteArtifact(input: {artifactID: $id, deleteAliases: true}) { artifact { id } } }"
    asked.ask(delete, id=first.id)
    look = BY_NAME.replace("tried", "models")
    found = asked.ask(look, name="best:latest")["project"]["artifactCollectionMembership"]
    assert (found["versionIndex"], found["artifact"]["id"]) == (0, second.id), "latest is what is left"
    assert asked.ask(look, name="best:v1")["project"]["artifactCollectionMembership"] is None


def test_a_link_shows_the_version_and_not_the_project_behind_it(asked: Asked) -> None:
    tim, vic = "local-" + "t" * 40, "local-" + "v" * 40
    add_user(asked.database, "tim", key=tim, team="lab")
    add_user(asked.database, "vic", key=vic, role="viewer", team="lab")
    bucket = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
    asked.ask(bucket, key=tim, input={"name": "hidden-run", "modelName": "priv", "entityName": "tim"})
    own = {"entityName": "tim", "projectName": "priv", "runName": "hidden-run"}
    made = Logged(asked, {"a": A}, tim, **own).done()
    use = "mutation M($input: UseArtifactInput!) { useArtifact(input: $input) { artifact { id } } }"
    asked.ask(use, key=tim, input={"artifactID": made.id, **own})
    place = {"entityName": "lab", "projectName": "shared", "artifactPortfolioName": "col"}
    asked.ask(LINK, key=tim, input={"artifactID": made.id, "aliases": [], **place})
    look = """{ project(name: "shared", entityName: "lab") { artifact(name: "col:latest") { id digest
      artifactSequence { name description project { name } tags { edges { node { name } } } aliases { edges { node { alias } } }
        artifacts { totalCount } artifactMembership(aliasName: "v0") { id } latestArtifact { id } }
      artifactType { name artifactCollections { totalCount } artifactCollection(name: "things") { id } }
      aliases { alias } artifactMemberships { edges { node { artifactCollection { name project { name } } } } }
      createdBy { ... on Run { name config } ... on User { username } }
      usedBy { edges { node { name } } } files { edges { node { name directUrl } } } } } }"""
    whole = asked.ask(look, key=tim)["project"]["artifact"]
    assert whole["artifactSequence"]["project"] == {"name": "priv"}
    assert (whole["createdBy"]["name"], len(whole["usedBy"]["edges"])) == ("hidden-run", 1)
    assert len(whole["artifactMemberships"]["edges"]) == len(whole["aliases"]) == 2
    seen = asked.ask(look, key=vic)["project"]["artifact"]
    nothing: dict[str, list[Any]] = {"edges": []}
    hidden = {"artifacts": None, "artifactMembership": None, "latestArtifact": None, "tags": nothing, "aliases": nothing}
    assert seen["artifactSequence"] == {"name": "things", "description": None, "project": None, **hidden}
    assert seen["artifactType"] == {"name": "dataset", "artifactCollections": None, "artifactCollection": None}
    assert [edge["node"]["artifactCollection"] for edge in seen["artifactMemberships"]["edges"]] == [
        {"name": "col", "project": {"name": "shared"}}
    ]
    assert (seen["aliases"], seen["createdBy"], seen["usedBy"]) == ([{"alias": "latest"}], None, nothing)
    (file,) = seen["files"]["edges"]
    assert asked.client.get(path_of(file["node"]["directUrl"]), headers={"authorization": ""}).content == A


def test_a_deleted_number_is_not_given_again(asked: Asked) -> None:
    delete = (
        "mutation M($id: ID!, $all: Boolean) { deleteArtifact(input: {artifactID: $id, deleteAliases: $all}) { artifact { id } } }"
    )
    Logged(asked, {"a": A}).done()
    second = Logged(asked, {"a": B}).done()
    assert "things:v1 has the aliases latest: pass delete_aliases=True" in sentence(asked.told(delete, id=second.id))
    asked.ask(delete, id=second.id, all=True)
    assert second.look() is None
    assert named(asked, "things:latest")["versionIndex"] == 0
    third = Logged(asked, {"a": B}).done()
    assert (third.look()["versionIndex"], third.look()["files"]["totalCount"]) == (2, 1)
    assert third.id != second.id, "what refers to the deleted version does not find another"


def test_a_run_that_is_deleted_leaves_its_artifacts_unless_they_are_to_go(asked: Asked) -> None:
    delete = "mutation M($id: ID!, $all: Boolean) { deleteRun(input: {id: $id, deleteArtifacts: $all}) { clientMutationId } }"
    identifiers = [asked.run(name) for name in ("r1", "r2")]
    kept, gone = (Logged(asked, {"a": text}, runName=name).done() for text, name in ((A, "r1"), (B, "r2")))
    asked.ask(delete, id=identifiers[0], all=False)
    asked.ask(delete, id=identifiers[1], all=True)
    assert kept.look()["versionIndex"] == 0
    assert gone.look() is None


def test_contents_that_nothing_names_go_after_an_hour(asked: Asked) -> None:
    first, second = Logged(asked, {"a": A, "shared": B}).done(), Logged(asked, {"shared": B}).done()
    delete = "mutation M($id: ID!) { deleteArtifact(input: {artifactID: $id, deleteAliases: true}) { artifact { id } } }"
    asked.ask(delete, id=first.id)
    assert clean(asked.database, asked.files) == 0, "nothing is old enough"
    kept = {asked.files.path(digest) for digest in digests(asked)}
    left = asked.files.folder / "incoming" / "broken-off"
    left.write_bytes(b"half")
    hour_ago = time.time() - 3700
    for path in (*contents(asked), left):
        os.utime(path, (hour_ago, hour_ago))
    fresh = asked.files.path(asked.files.keep(b"just arrived, not named yet"))
    assert clean(asked.database, asked.files) == 3, "A, the first manifest, and what broke off"
    assert contents(asked) == {*kept, fresh}
    assert asked.client.get(path_of(second.look()["files"]["edges"][0]["node"]["directUrl"])).content == B


def digests(asked: Asked) -> list[str]:
    """Return what rows name."""
    from paretune.service.store.artifact_tables import ArtifactFile, ArtifactManifest

    with asked.database.session() as session:
        return [digest for table in (ArtifactFile, ArtifactManifest) for digest in session.scalars(sa.select(table.digest))]


def test_an_old_content_that_arrives_again_stays(asked: Asked) -> None:
    path = asked.files.path(asked.files.keep(A))
    os.utime(path, (0, 0))

    def named(_: Any) -> set[str]:
        asked.files.keep(A)  # it arrives while its names are looked for
        return set()

    asked.files.sweep(named)
    assert path.exists()


def test_lifetimes_end_and_what_was_never_committed_is_forgotten(asked: Asked) -> None:
    mortal = Logged(asked, {"a": A}, ttlDurationSeconds=100).done()
    lasting = Logged(asked, {"a": B}, ttlDurationSeconds=-2).done()
    waiting, abandoned = Logged(asked, {"a": b"1"}), Logged(asked, {"a": b"2"})
    with asked.database.session(writing=True) as session:
        numbers = {
            made: session.scalars(sa.select(Artifact).order_by(Artifact.id)).all()[n] for n, made in enumerate(("m", "l", "w", "a"))
        }
        assert delete_expired(session) == 0
        numbers["m"].created_at = now() - timedelta(seconds=101)
        numbers["a"].updated_at = now() - timedelta(days=8)
        assert delete_expired(session) == 2
    assert [made.look() is None for made in (mortal, lasting, waiting, abandoned)] == [True, False, False, True]


def test_cleaning_comes_once_in_an_hour(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr("paretune.service.operations.garbage_collection.clean", lambda *_: calls.append(1) or 1)
    moment = [0.0]
    monkeypatch.setattr("paretune.service.operations.garbage_collection.time.monotonic", lambda: moment[0])
    cleaning = Cleaning(asked.database, asked.files)
    done = []
    for moment[0] in (10.0, 301.0, 3700.0, 3902.0):
        done.append(cleaning.due())
    assert done == [0, 1, 0, 1]


# -- at once


def log_at_once(asked: Asked, runs: int, each: int) -> None:
    """Let several runs log versions to one new collection at once; check that the numbers are those of one sequence."""

    def log(run: int) -> None:
        for number in range(each):
            Logged(asked, {"a": f"{run} {number}".encode()}, artifactCollectionName="crowded").done()

    with asked.client, ThreadPoolExecutor(runs) as pool:  # all threads ask one event loop, in which they take turns
        list(pool.map(log, range(runs)))
    with asked.database.session() as session:
        members = session.scalars(sa.select(ArtifactMember).order_by(ArtifactMember.version)).all()
        assert [member.version for member in members] == list(range(runs * each))
        last = members[-1].artifact.global_id
    assert named(asked, "crowded:latest")["artifact"]["id"] == last


def test_runs_that_log_at_once_get_numbers_of_their_own(asked: Asked) -> None:
    log_at_once(asked, runs=4, each=4)


@pytest.mark.slow
@needs_postgres
def test_on_postgresql_too(tmp_path: Path) -> None:
    with postgres(tmp_path) as url:
        asked = Asked(tmp_path, url)
        log_at_once(asked, runs=6, each=4)
        made = Logged(asked, {"a": A}).done()
        assert versions(
            asked, filters=json.dumps({"digest": {"$regex": "^[0-9a-f]{32}$"}, "createdAt": {"$gt": "2020-01-01"}})
        ) == ["v0"]
        delete = "mutation M($id: ID!) { deleteArtifact(input: {artifactID: $id, deleteAliases: true}) { artifact { id } } }"
        asked.ask(delete, id=made.id)
        assert made.look() is None
        assert clean(asked.database, asked.files) == 0
        asked.searches.close()
        asked.database.close()
