"""What the service answers fits the pydantic models by which each supported client reads it: real answers, and all it may say."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLError

from paretune.service import graphql as answers
from paretune.service.graphql.execution import Schema
from paretune.service.store.accounts import add_user
from tests.service.client_models import Answers, Operation, faults_of, folder_of, operations_of
from tests.service.logging_artifacts import Logged
from tests.service.serving import Asked
from tests.service.sweeps.test_sweeps import agent, beat, created

TEAM_KEY = "local-" + "t" * 40
PLACE = {"entity": "someone", "project": "tried"}
OWNED = {"entityName": "someone", "projectName": "tried"}
ORDERED_LAST = ("Unlink", "Delete")  # operations after which there is less to ask for


@pytest.fixture(scope="module", params=["installed", "older"])
def python(request: pytest.FixtureRequest) -> str:
    """The interpreter of each supported client that is here."""
    found = sys.executable if request.param == "installed" else os.environ.get("OLDER_CLIENT")
    if not found:
        pytest.skip("OLDER_CLIENT names no python with tests/service/older-client.txt")
    return found


@pytest.fixture(scope="module")
def schema() -> Schema:
    return answers.schema()


@pytest.fixture(scope="module")
def operations(python: str, schema: Schema) -> list[Operation]:
    """The generated operations of a client that the service accepts."""
    logging.getLogger("service.graphql").setLevel(logging.ERROR)
    return [operation for operation in operations_of(folder_of(python)) if _accepted(schema, operation)]


def _accepted(schema: Schema, operation: Operation) -> bool:
    try:
        schema.writes(schema.read(operation.text))
    except GraphQLError:
        return False
    return True


def test_the_models_take_every_null_that_the_schema_allows(python: str, schema: Schema, operations: list[Operation]) -> None:
    given = [(operation, label, answer) for operation in operations for label, answer in Answers(schema.schema, operation.text)]
    assert len({operation.name for operation, _, _ in given}) > 45
    assert not faults_of(python, given), "say in the schema that these are never null, and see to it"


def test_a_null_that_the_models_forbid_is_found(python: str, schema: Schema, operations: list[Operation]) -> None:
    (operation,) = [operation for operation in operations if operation.name == "GetSweep"]
    (whole, *_) = Answers(schema.schema, operation.text)
    whole[1]["project"]["sweep"]["name"] = None
    ((name, label, reason),) = faults_of(python, [(operation, *whole)])
    assert (name, label, "name" in reason) == ("GetSweep", "whole, types 0", True)


def test_real_answers_fit_the_models(python: str, operations: list[Operation], tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    given, variables = [], variables_on(asked)
    for operation in sorted(operations, key=lambda operation: operation.name.startswith(ORDERED_LAST)):
        answer = asked.ask(operation.text, **variables[operation.name])
        assert None not in answer.values(), f"{operation.name} found nothing"
        given.append((operation, "", answer))
    assert not faults_of(python, given)
    assert sorted(variables) == sorted(operation.name for operation, _, _ in given), "each is asked, and no other"


def variables_on(asked: Asked) -> dict[str, dict[str, Any]]:
    """Fill a service; return the variables by which each operation finds something there."""
    add_user(asked.database, "member", key=TEAM_KEY, team="crew")
    _, sweep = created(asked)
    worker = agent(asked, sweep)
    (command,) = beat(asked, worker)
    asked.run(command["run_id"], sweep=sweep)
    asked.run("r1", config='{"a": {"value": 1}}', tags=["one"])
    first = Logged(asked, {"a": b"alpha"}, runName="r1", description="said", metadata='{"b": 2}').done()
    second = Logged(asked, {"b": b"beta"}, tags=[{"tagName": "fine"}]).done()  # of no run
    for link in ("best", "gone"):
        text = "mutation M($input: LinkArtifactInput!) { linkArtifact(input: $input) { versionIndex } }"
        asked.ask(text, input={"artifactID": first.id, "artifactPortfolioName": link, **OWNED})
    Logged(asked, {"c": b"gamma"}, artifactCollectionName="other").done()
    text = "mutation M($input: UseArtifactInput!) { useArtifact(input: $input) { artifact { id } } }"
    asked.ask(text, input={"artifactID": first.id, "runName": "r1", **OWNED})
    collection = {name: _collection(asked, name) for name in ("things", "best", "gone", "other")}
    of_sweep = {**PLACE, "sweep": sweep}
    of_type = {**PLACE, "type": "dataset"}
    of_files = {**PLACE, "collection": "things", "alias": "v0"}
    tags = {**OWNED, "artifactCollectionName": "things", "tags": [{"tagName": "sound"}]}
    aliases = [{"alias": "chosen", "artifactCollectionName": "things", **OWNED}]
    return {
        "GetProjects": {"entity": "someone"},
        "GetProject": {"name": "tried", "entity": "someone"},
        "CreateProject": {"input": {"name": "another", "entityName": "someone"}},
        "IsProjectReadOnly": PLACE,
        "GetSweeps": {**PLACE, "filters": "{}"},
        "GetSweep": {**PLACE, "name": sweep},
        "GetSweepLegacy": {**PLACE, "name": sweep},
        "GetSweepAgent": {**of_sweep, "agentID": worker},
        "GetSweepAgents": of_sweep,
        "GetAgentRuns": {**of_sweep, "agentID": worker},
        "GetTeamEntity": {"name": "someone"},
        "SearchUsers": {"query": "some"},
        "GetViewer": {},
        "GetDefaultEntity": {},
        "DeleteArtifactSequence": {"id": collection["other"]},
        "DeleteArtifactPortfolio": {"id": collection["gone"]},
        "UpdateArtifactSequence": {"input": {"artifactSequenceID": collection["things"], "description": "new"}},
        "UpdateArtifactPortfolio": {"input": {"artifactPortfolioID": collection["best"], "description": "new"}},
        "UpdateArtifactSequenceType": {
            "input": {"artifactSequenceID": collection["things"], "destinationArtifactTypeName": "dataset"}
        },
        "AddArtifactCollectionTags": {"input": tags},
        "DeleteArtifactCollectionTags": {"input": tags},
        "ArtifactTypeArtifactCollections": of_type,
        "ProjectArtifactCollections": PLACE,
        "ProjectArtifactCollection": {**of_type, "name": "things"},
        "ArtifactCollectionAliases": {"id": collection["things"]},
        "ArtifactMembershipFiles": of_files,
        "GetArtifactMembershipFileUrls": of_files,
        "ProjectArtifactTypes": PLACE,
        "ProjectArtifactType": of_type,
        "ProjectArtifacts": {**of_type, "collection": "things", "order": "-version_index"},
        "RunOutputArtifacts": {**PLACE, "run": "r1"},
        "RunInputArtifacts": {**PLACE, "run": "r1"},
        "FetchLinkedArtifacts": {"artifactID": first.id},
        "FetchArtifactManifest": {"id": first.id},
        "ArtifactByID": {"id": second.id},
        "ArtifactMembershipByName": {**PLACE, "name": "best:latest"},
        "ArtifactUsedBy": {"id": first.id},
        "ArtifactCreatedBy": {"id": second.id},
        "ArtifactType": {**PLACE, "name": "things:v0"},
        "AddAliases": {"input": {"artifactID": first.id, "aliases": aliases}},
        "DeleteAliases": {"input": {"artifactID": first.id, "aliases": aliases}},
        "UpdateArtifact": {"input": {"artifactID": first.id, "description": "other"}},
        "DeleteArtifact": {"input": {"artifactID": second.id, "deleteAliases": True}},
        "LinkArtifact": {"input": {"artifactID": second.id, "artifactPortfolioName": "best", **OWNED}},
        "UnlinkArtifact": {"input": {"artifactID": first.id, "artifactPortfolioID": collection["best"]}},
        "FetchOrgInfoFromEntity": {"entity": "someone"},
        "FetchOrganization": {"org": "paretune"},
        "ServerFeaturesQuery": {},
    }


def _collection(asked: Asked, name: str) -> str:
    """Return the identifier of a collection."""
    text = (
        "query Q($e: String, $p: String, $n: String!) { project(entityName: $e, name: $p) { artifactCollection(name: $n) { id } } }"
    )
    return str(asked.ask(text, e="someone", p="tried", n=name)["project"]["artifactCollection"]["id"])
