"""Nothing that is sent makes the server fail: whatever the route, the query or the body, the answer is a refusal or an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import from_schema, nodes
from starlette.routing import BaseRoute, Mount, Route

from paretune.service.graphql.execution import SCHEMA
from paretune.service.store.accounts import account_of
from paretune.service.sweeps import sweeps
from tests.postgres import binaries, postgres
from tests.service.serving import KEY, Asked, authorization

pytestmark = pytest.mark.slow
SDL = "\n".join(path.read_text(encoding="utf-8") for path in sorted(SCHEMA.glob("*.graphql")))
SWEEP = "fuzzed01"
TEXT = r'"(?:[^"\\]|\\.)*"'
FAILED = "the server failed at this"
OFTEN = settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["someone", "tried", "r1", "..", "../../etc/passwd", "%2e%2e", "\0", "{}", "[]", "-1", "null", "NaN", "9" * 400]
    ),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
SCALARS = {
    "JSONString": TEXTS.map(nodes.String) | VALUES.map(lambda value: nodes.String(json.dumps(value))),
    "JSON": TEXTS.map(nodes.String),
    "Int64": st.integers(-(2**63), 2**63 - 1).map(nodes.Int),
    "Duration": st.integers(0, 10**9).map(nodes.Int),
    "DateTime": st.sampled_from(["2026-01-01T00:00:00Z", "yesterday", ""]).map(nodes.String),
}


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("fuzzed")
    if request.param == "SQLite":
        yield from prepared(Asked(folder), folder)
        return
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres(folder) as url:
        yield from prepared(Asked(folder, url), folder)


def prepared(asked: Asked, folder: Path) -> Iterator[Asked]:
    """Give a service that holds a run and a sweep."""
    asked.client = asked.unlimited(folder)
    asked.run()
    asked.stream("r1", files={"wandb-history.jsonl": {"offset": 0, "content": ['{"_step": 0, "loss": 1}']}})
    definition = {"method": "random", "metric": {"name": "loss"}, "parameters": {"x": {"min": 0.0, "max": 1.0}}}
    with asked.database.session(writing=True) as session:
        account = account_of(asked.database, KEY)
        assert account is not None
        values = {"projectName": "tried", "config": json.dumps(definition)}
        sweep, _ = sweeps.upsert(session, account, values)
        sweep.name = SWEEP
    yield asked
    asked.searches.close()
    asked.database.close()


def routes(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the path and the methods of every route."""
    for route in routes:
        if isinstance(route, Mount):
            yield from routes_below(route, prefix)
        elif isinstance(route, Route):
            yield prefix + route.path, sorted(route.methods or {"GET"})


def routes_below(mount: Mount, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """Yield those of a mount; static files count as one route."""
    if mount.routes:
        yield from routes(list(mount.routes), prefix + mount.path)
    else:
        yield f"{prefix}{mount.path}/{{path:path}}", ["GET"]


def aimed(query: str) -> str:
    """Return a query with names that exist, so that it comes further than the first of them."""
    query = re.sub(rf"\b(name|runName): {TEXT}(?=[^{{}}]*\{{?)", r'\1: "r1"', query)
    query = re.sub(rf'\b(project|model)\((?:[^()"]|{TEXT})*\)', r'\1(name: "tried")', query)
    query = re.sub(rf"\b(projectName|modelName): {TEXT}", r'\1: "tried"', query)
    query = re.sub(rf"\b(entityName): {TEXT}", r'\1: "someone"', query)
    return re.sub(rf"\b(sweepName|sweep): {TEXT}", rf'\1: "{SWEEP}"', query)


@OFTEN
@given(query=from_schema(SDL, custom_scalars=SCALARS), aim=st.booleans())
def test_every_query_of_the_schema_is_answered_or_refused(asked: Asked, query: str, aim: bool) -> None:
    query = aimed(query) if aim else query
    response = asked.client.post("/graphql", json={"query": query, "variables": {}, "operationName": ""})
    assert response.status_code in (200, 400, 404), response.text
    assert FAILED not in response.text, query


@OFTEN
@given(body=st.one_of(VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=200)))
def test_no_body_makes_graphql_or_a_stream_fail(asked: Asked, body: bytes) -> None:
    for path in ("/graphql", "/files/someone/tried/r1/file_stream"):
        response = asked.client.post(path, content=body)
        assert response.status_code in (200, 400, 404), response.text
        assert FAILED not in response.text


@OFTEN
@given(
    name=st.sampled_from(["wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json", "output.log", "other"]),
    part=st.one_of(
        VALUES,
        st.fixed_dictionaries(
            {"offset": st.integers(-2, 5) | VALUES, "content": VALUES | st.lists(VALUES.map(json.dumps) | TEXTS, max_size=3)}
        ),
    ),
    more=st.dictionaries(st.sampled_from(["complete", "exitcode", "preempting", "uploaded", "dropped"]), VALUES, max_size=3),
)
def test_no_stream_makes_a_run_unreadable(asked: Asked, name: str, part: Any, more: dict[str, Any]) -> None:
    body = json.dumps({"files": {name: part}, **more})
    response = asked.client.post("/files/someone/tried/r1/file_stream", content=body)
    assert response.status_code in (200, 400), response.text
    assert FAILED not in response.text, body
    fields = (
        "state summaryMetrics historyKeys history(samples: 10) events(samples: 10) logLines(first: 10) { edges { node { line } } }"
    )
    answer = asked.told(f'{{ project(name: "tried") {{ run(name: "r1") {{ {fields} }} }} }}')
    assert "errors" not in answer, (body, answer)


@OFTEN
@given(data=st.data())
def test_no_address_makes_a_route_fail(asked: Asked, data: st.DataObject) -> None:
    path, methods = data.draw(st.sampled_from(list(routes(asked.client.app.routes))))  # type: ignore[attr-defined]
    while "{" in path:
        before, _, rest = path.partition("{")
        path = before + quote(data.draw(TEXTS), safe="") + rest.partition("}")[2]
    method = data.draw(st.sampled_from([*methods, "GET", "POST", "DELETE"]))
    query = data.draw(
        st.dictionaries(st.sampled_from(["runs", "filter", "sort", "page", "next", "after", "keys"]), TEXTS, max_size=3)
    )
    headers = data.draw(
        st.sampled_from([authorization(), {}, {"authorization": "Basic x"}, {"range": "bytes=5-1", **authorization()}])
    )
    asked.client.cookies.clear()
    body = data.draw(st.binary(max_size=50)) if method != "GET" else None
    response = asked.client.request(method, path, params=query, headers=headers, content=body, follow_redirects=False)
    assert response.status_code < 500, (method, path, response.text)
    assert response.status_code != 422, (method, path, response.text)
    assert "root:" not in response.text
