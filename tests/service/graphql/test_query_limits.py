"""Limits of GraphQL: documents are refused before they are validated, lists before a transaction, answers while they are made."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from graphql import GraphQLError, parse

from paretune.service.graphql import execution, query_limits
from paretune.service.graphql.query_limits import AnswerSize, check_form, check_items
from paretune.service.store.database import Database
from paretune.service.sweeps import definitions
from tests.service.client_operations import operations
from tests.service.serving import Asked
from tests.waiting import wait_until

UPSERT_SWEEP = "mutation M($input: UpsertSweepInput!) { upsertSweep(input: $input) { sweep { id } } }"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    asked = Asked(tmp_path_factory.mktemp("limits"))
    asked.run()
    return asked


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("{" + "viewer { teams { edges { node { id } } } }" * 300 + "}", "'viewer' at most 10 times"),
        ("{ viewer {" + "... on User { id }" * 11 + "} }", "'id' at most 10 times"),
        ("{ viewer { id ...A } }" + "fragment A on User { ...B ...B } fragment B on User {" + "id " * 5 + "}", "'id' at most 10"),
        (
            "{ viewer {"
            + "".join(f"...F{n} " for n in range(51))
            + "} }"
            + "".join(f"fragment F{n} on User {{ id }}" for n in range(51)),
            "at most 50 fragments",
        ),
        ("{ viewer { ...A } } fragment A on User { ...B } fragment B on User { ...A }", "at most 500 fields"),
        ("{ viewer {" + "".join(f"a{n}: id " for n in range(501)) + "} }", "at most 500 fields"),
        ("{ viewer { id } } query Other { viewer { id } }", "must hold one operation"),
        ("fragment A on User {" + "".join(f"a{n}: id " for n in range(501)) + "} { viewer { id } }", "at most 500 fields"),
        ("{ viewer " * 2500, "Syntax Error"),
    ],
)
def test_documents_that_take_long_to_validate_are_refused_before(
    asked: Asked, query: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "validate", lambda *_: pytest.fail("was validated"))
    assert sentence in asked.told(query)["errors"][0]["message"]


def test_the_client_may_send_ten_thousand_files_at_once() -> None:
    check_items({"input": {"artifactFiles": [{"name": str(number), "md5": ""} for number in range(10_000)]}})


def test_every_document_of_the_client_has_a_small_form() -> None:
    for texts in operations().values():
        for text in filter(None, texts):
            try:
                document = parse(text)
            except GraphQLError:  # put together as the client runs
                continue
            check_form(document)


@pytest.mark.parametrize("field", ["history(samples: 1)", "events", 'sampledHistory(specs: ["{}"])'])
def test_each_reading_of_a_history_counts_as_many_values(asked: Asked, field: str) -> None:
    fields = " ".join(f"a{number}: {field}" for number in range(51))
    query = f'{{ project(name: "tried", entityName: "someone") {{ runs(first: 100) {{ edges {{ node {{ {fields} }} }} }} }} }}'
    assert "500,000 are the most" in asked.told(query)["errors"][0]["message"]


def test_a_large_answer_is_refused_while_it_is_made(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.run("r1", config=json.dumps({"text": {"value": "x" * 4000}}))
    config = "".join(f"a{number}: config " for number in range(100))
    query = f'{{ project(name: "tried", entityName: "someone") {{ run(name: "r1") {{ {config} }} }} }}'
    assert len(asked.ask(query)["project"]["run"]) == 100
    monkeypatch.setattr(query_limits, "MOST_ANSWER", 40_000)
    size: list[int] = []
    monkeypatch.setattr(AnswerSize, "__exit__", lambda self, *_: size.append(self.size))
    (error,) = asked.told(query)["errors"]
    assert error["message"].startswith("the answer would have more than 40,000 characters: ask for smaller pages")
    assert size[0] < 50_000  # it stopped there
    monkeypatch.setattr(query_limits, "MOST_ANSWER", 10**6)
    monkeypatch.setattr(query_limits, "MOST_SECONDS", -1.0)
    assert "took more than -1 s" in asked.told(query)["errors"][0]["message"]


def test_large_answers_are_made_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_limits, "LARGE_ANSWER", 10)
    waiting = threading.Semaphore(1)
    monkeypatch.setattr(AnswerSize, "_waiting", waiting)
    made = []

    def another() -> None:
        with AnswerSize(waits=True) as answer:
            answer.add("x" * 20)
            made.append(True)

    with AnswerSize(waits=True) as answer:
        answer.add("x" * 20)
        thread = threading.Thread(target=another)
        thread.start()
        wait_until(lambda: made or waiting._value == 0)  # type: ignore[attr-defined]
        assert not made
        with AnswerSize(waits=False) as writing:  # which others wait for
            writing.add("x" * 20)
    thread.join(timeout=10)
    assert made


@pytest.mark.parametrize(("seconds", "number"), [(0.0, 1), (60.0, 0)])
def test_a_large_answer_whose_turn_does_not_come_is_asked_for_again(
    asked: Asked, seconds: float, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_limits, "LARGE_ANSWER", 10)
    monkeypatch.setattr(query_limits, "LARGE_SECONDS", seconds)
    monkeypatch.setattr(AnswerSize, "_waiting", threading.Semaphore(number))
    body = {"query": "{ viewer { id username name } }"}
    with AnswerSize._large:
        response = asked.client.post("/graphql", json=body)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    monkeypatch.setattr(AnswerSize, "_waiting", threading.Semaphore(1))
    assert asked.client.post("/graphql", json=body).status_code == 200
    assert not AnswerSize._large.locked()


def test_a_long_document_is_parsed_once_a_request(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    monkeypatch.setattr(execution, "parse", lambda *arguments, **more: parsed.append(1) or parse(*arguments, **more))
    asked.ask("{ viewer { id } }" + " " * execution.SHORT)
    assert len(parsed) == 1


def test_a_mutation_hides_nothing_in_a_fragment(asked: Asked) -> None:
    query = (
        'mutation { agentHeartbeat(input: {id: "1"}) { commands } ...F } '
        'fragment F on Mutation { upsertBucket(input: {name: "hidden", modelName: "tried"}) { inserted } }'
    )
    assert "not in a fragment" in asked.told(query)["errors"][0]["message"]


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        (
            "mutation M($f: [String!]!) { createRunFiles(input: "
            '{entityName: "someone", projectName: "tried", runName: "r1", files: $f}) { runID } }',
            {"f": ["x"] * 20_001},
        ),
        ("mutation M($f: [ID!]!) { deleteFiles(input: {files: $f}) { success } }", {"f": ["x"] * 20_001}),
        (
            "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }",
            {"input": {"name": "r1", "modelName": "tried", "tags": ["x"] * 20_001}},
        ),
        (
            UPSERT_SWEEP,
            {
                "input": {
                    "entityName": "someone",
                    "projectName": "tried",
                    "config": "parameters: {x: {values: [" + "1," * 20_000 + "]}}",
                }
            },
        ),
        (UPSERT_SWEEP, {"input": {"entityName": "someone", "projectName": "tried", "config": "- " * 20_001}}),
        (UPSERT_SWEEP, {"input": {"entityName": "someone", "projectName": "tried", "config": "x" * 1_000_001}}),
    ],
)
def test_what_is_too_much_is_refused_before_the_transaction(
    asked: Asked, query: str, variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.ask("{ viewer { id } }")  # the key is known
    monkeypatch.setattr(Database, "session", lambda *_, **__: pytest.fail("a transaction began"))
    assert "may have at most" in asked.told(query, **variables)["errors"][0]["message"]


def test_a_sweep_is_read_before_the_transaction_and_once(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    values = ", ".join(map(str, range(1000)))
    text = f"method: grid\nprogram: a.py\nmetric: {{name: loss, goal: minimize}}\nparameters: {{x: {{values: [{values}]}}}}\n"
    read, within = [], []
    original, session = definitions.read_sweep, Database.session

    def reading(*arguments: Any, **more: Any) -> Any:
        read.append(bool(within))
        return original(*arguments, **more)

    def transaction(self: Database, *, writing: bool = False) -> Any:
        if writing:
            within.append(True)
        return session(self, writing=writing)

    monkeypatch.setattr(definitions, "read_sweep", reading)
    monkeypatch.setattr(Database, "session", transaction)
    for _ in range(2):
        asked.ask(UPSERT_SWEEP, input={"entityName": "someone", "projectName": "tried", "config": text})
    assert read == [False]


def test_a_config_that_takes_long_to_read_is_refused(asked: Asked) -> None:
    query = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
    config = json.dumps({"k": {"value": [1] * 1_500_002}}, separators=(",", ":"))
    answer = asked.told(query, input={"name": "r2", "modelName": "tried", "config": config})
    assert "keep large values in a file or an artifact" in answer["errors"][0]["message"]


def test_files_are_deleted_together(asked: Asked) -> None:
    signed = asked.ask(
        'mutation { createRunFiles(input: {entityName: "someone", projectName: "tried", runName: "r1", files: ["a", "b", "c"]})'
        " { files { uploadUrl } } }"
    )
    for file in signed["createRunFiles"]["files"]:
        assert asked.client.put(file["uploadUrl"], content=b"1").status_code == 200
    listing = '{ project(name: "tried", entityName: "someone") { run(name: "r1") { files { edges { node { id name } } } } } }'
    found = {edge["node"]["name"]: edge["node"]["id"] for edge in asked.ask(listing)["project"]["run"]["files"]["edges"]}
    delete = "mutation M($files: [ID!]!) { deleteFiles(input: {files: $files}) { success } }"
    assert "there is no file" in asked.told(delete, files=[found["a"], "unknown"])["errors"][0]["message"]
    asked.ask(delete, files=[found["a"], found["b"], found["a"]])
    assert [edge["node"]["name"] for edge in asked.ask(listing)["project"]["run"]["files"]["edges"]] == ["c"]
