"""The drift alarm: every operation of the installed client is served, or is in the table below with a reason."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from graphql import GraphQLError, get_introspection_query, parse

from paretune.service import graphql as answers
from paretune.service.graphql import query_limits
from paretune.service.graphql.execution import Schema, operation_of
from tests.service.client_operations import operations
from tests.service.serving import Asked

REASONS = {
    "launch, whose queues and agents start jobs on other machines; a sweep's agents are served": """
        CreateDefaultResourceConfig CreateRunQueue DeleteFromRunQueue DeleteRunQueue GetDefaultResourceConfig GetRunQueueItem
        GetRunQueueItems GetRunQueueMetadata LaunchAgent ProjectRunQueues UpsertRunQueue ackRunQueueItem createLaunchAgent
        failRunQueueItem fetchRunQueuesFromProject popFromRunQueue pushToRunQueue pushToRunQueueByName updateLaunchAgent
        updateRunQueueItemWarning""",
    "registries, which join several teams of a company": """
        CreateRegistryMembers DeleteRegistry DeleteRegistryMembers FetchAdvancedRegistryFeatures FetchRegistries
        FetchRegistry RegistryCollections RegistryTeamMembers RegistryUserMembers RegistryVersions RenameRegistry
        UpdateTeamRegistryRole UpdateUserRegistryRole
        UpsertRegistry""",
    "automations and integrations, which call other services by network": """
        CreateAutomation CreateGenericWebhookIntegration DeleteAutomation GetAutomationsLegacy GetEntityAutomations
        GetEntityAutomationsLegacy GetOrgAutomations IntegrationsByEntity UpdateAutomation""",
    "users, teams and keys, which whoever runs the server administers by python -m paretune.service user": """
        CreateInvite CreateServiceAccount CreateTeam CreateUserFromAdmin DeleteApiKey DeleteInvite GenerateApiKey""",
    "links that show a report, and runs with it, to whoever has the link": """
        ViewAccessTokens createAccessToken revokeAccessToken updateAccessTokenProjects""",
    "charts that a person designs in Vega for W&B's pages; this server's pages draw their own": "CreateCustomChart",
}
NOT_SERVED = {name: reason for reason, names in REASONS.items() for name in names.split()}


@pytest.fixture(scope="module")
def schema() -> Schema:
    return answers.schema()


def faults_of(schema: Schema) -> dict[str, str]:
    """Return what is wrong with each operation that is not accepted, by its name."""
    logging.getLogger("service.graphql").setLevel(logging.ERROR)
    found = {}
    for name, texts in operations().items():
        for text in texts:
            try:
                schema.writes(schema.read(text))
            except GraphQLError as error:
                found[name] = error.message
    return found


def test_every_operation_of_the_client_is_served_or_has_a_reason_why_not(schema: Schema) -> None:
    faults = faults_of(schema)
    unknown = {name: fault for name, fault in faults.items() if name not in NOT_SERVED}
    assert not unknown, "the client asks what this server does not know: serve it, or say in the table why not"
    served = sorted(set(NOT_SERVED) - set(faults))
    assert not served, "these are served, or the client does not ask them any more: take them out of the table"


def test_the_operations_of_the_client_are_found(schema: Schema) -> None:
    found = operations()
    for name in (
        "UpsertBucket",
        "Runs",
        "HistoryPage",
        "SweepRunsWithHistory",
        "Heartbeat",
        "GetSweeps",
        "RunFiles",
        "Viewer",
        "UpsertView2",
        "View",
    ):
        assert name in found, name
    assert len(found) > 140
    assert any("fragment SweepPollRuns" in text for text in found["SweepWatchedRuns"])


def test_an_operation_that_nobody_knows_is_told_from_those_that_are_served(schema: Schema) -> None:
    with pytest.raises(GraphQLError, match="unheardOf"):
        schema.read("query Drift { unheardOf { id } }")


def nested(times: int, size: int) -> str:
    """Return a query of runs of the project of runs, and so on."""
    inner = "name"
    for _ in range(times):
        inner = f"project {{ runs(first: {size}) {{ edges {{ node {{ {inner} }} }} }} }}"
    return f'query {{ project(name: "tried") {{ runs(first: {size}) {{ edges {{ node {{ {inner} }} }} }} }} }}'


FRAGMENTS = "".join(f" fragment F{n} on Viewer {{ ...F{n + 1} ...F{n + 1} }}" for n in range(40))
FRAGMENTS = "query { viewer { ...F0 } }" + FRAGMENTS.replace("Viewer", "User") + " fragment F40 on User { id }"


@pytest.mark.parametrize(
    ("query", "variables", "sentence"),
    [
        (nested(8, 1), {}, "at most 15 deep"),
        (nested(2, 100), {}, "ask for smaller pages"),
        (
            nested(2, 1).replace("first: 1", "first: $n").replace("query {", "query Q($n: Int) {"),
            {"n": 500},
            "ask for smaller pages",
        ),
        (nested(2, 1).replace("first: 1", "first: $n").replace("query {", "query Q($n: Int = 500) {"), {}, "ask for smaller pages"),
        ("{ __schema { types { " + "fields { type { " * 5 + "name" + " } }" * 5 + " } } }", {}, "introspection depth"),
        (FRAGMENTS, {}, "at most 500 fields"),
    ],
)
def test_what_asks_for_too_much_is_refused(tmp_path: Path, query: str, variables: dict[str, int], sentence: str) -> None:
    asked = Asked(tmp_path)
    asked.run()
    assert sentence in asked.told(query, **variables)["errors"][0]["message"]


def test_the_operations_of_the_client_cost_little_enough(schema: Schema) -> None:
    found = operations()
    for name in found.keys() - NOT_SERVED.keys():
        for text in found[name]:
            document = parse(text)
            variables = operation_of(document).variable_definitions or ()
            query_limits.check(schema.schema, document, {one.variable.name.value: 1000 for one in variables})
    query_limits.check(schema.schema, parse(get_introspection_query()), {})


# -- what is small, and served for the sake of completeness


def test_an_alert_stands_in_the_servers_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked(tmp_path)
    asked.run("r1")
    (text,) = operations()["NotifyScriptableRunAlert"]
    values = {"entityName": "someone", "projectName": "tried", "runName": "r1", "title": "low", "text": "accuracy\nfell"}
    with caplog.at_level(logging.WARNING, "service.alerts"):
        assert asked.ask(text, **values)["notifyScriptableRunAlert"] == {"success": True}
    assert "INFO from someone/tried/r1: 'low', 'accuracy\\nfell'" in caplog.text
    assert "there is no run" in asked.told(text, **{**values, "runName": "r2"})["errors"][0]["message"]


def test_the_members_of_a_team_are_seen_by_its_members_alone(tmp_path: Path) -> None:
    from paretune.service.store.accounts import add_user

    asked = Asked(tmp_path)
    key = add_user(asked.database, "member", team="crew", role="viewer")
    (text,) = operations()["GetTeamEntity"]
    team = asked.ask(text, key=key, name="crew")["entity"]
    assert [(one["username"], one["accountType"], one["apiKey"]) for one in team["members"]] == [("member", "viewer", None)]
    refusal = asked.told(text, name="crew")["errors"][0]["message"]
    assert "there is no team or user 'crew' that someone may see" in refusal


def test_a_project_has_no_reports(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    asked.run("r1")
    (text,) = operations()["ProjectViews"]
    found = asked.ask(text, project="tried", entity="someone", reportLimit=10)["project"]["allViews"]
    assert found == {"edges": [], "pageInfo": {"endCursor": "0", "hasNextPage": False}}


def test_sweeps_are_filtered_by_their_fields(tmp_path: Path) -> None:
    from tests.service.sweeps.test_sweeps import created, set_state

    asked = Asked(tmp_path)
    (one, first), (_, second) = created(asked), created(asked, name="the other")
    set_state(asked, one, "CANCELED")
    (text,) = operations()["GetSweeps"]

    def named(filters: str) -> list[str]:
        found = asked.ask(text, project="tried", entity="someone", filters=filters)["project"]["sweeps"]["edges"]
        return [edge["node"]["name"] for edge in found]

    assert named("{}") == [second, first]
    assert named('{"state": "CANCELED"}') == [first]
    assert named('{"$and": [{"display_name": {"$regex": "other"}}, {"state": {"$ne": "CANCELED"}}]}') == [second]
    answer = asked.told(text, project="tried", entity="someone", filters='{"tags": "a"}')
    assert "sweeps have no field 'tags'" in answer["errors"][0]["message"]
