"""Nasty values in every argument of every operation, and every part of every route: no failure, and no effect on other projects.

The operations are those of the schema, the routes those of the application and its pages: a new one is covered by itself. The
environment's SERVICE_FUZZ_ROUNDS repeats it with other values (1 by default; 10 take ten minutes), and looks at the other project
after each operation instead of after each dozen.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import graphql
import pytest

from paretune.service import graphql as answers
from paretune.service.http.app import application
from paretune.service.store.accounts import add_user
from paretune.service.store.tables import global_id
from paretune.service.sweeps.searches import Searches
from paretune.service.web import pages as web
from tests.postgres import needs_postgres, postgres
from tests.service.browsing import Shown
from tests.service.logging_artifacts import Logged
from tests.service.serving import KEY, authorization
from tests.service.test_fuzz import FAILED, routes
from tests.service.viewing import report, saved, workspace

pytestmark = pytest.mark.slow
ROUNDS = int(os.environ.get("SERVICE_FUZZ_ROUNDS", "1"))
OTHER = "other-" + "o" * 40
DEEP = 100_000
LONG = 10 * 2**20 if ROUNDS > 1 else 2**20
TEXTS = [
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\udc00x\ud800",
    "../../../../etc/passwd",
    "%2e%2e%2f%00",
    "x" * 129,
    "-1",
    "9" * 400,
    "1e309",
    str(2**63),
    str(-(2**63) - 1),
    "NaN",
    "[" * DEEP,
    "{}",
    "[]",
    "null",
    '{"$or": [{"a\\u0000": {"$in": ["\\ud800", 1e309, NaN, 9223372036854775808]}}]}',
    '{"config.\\u0000.value": {"$gt": 1e309}, "summary_metrics.\\ud800": null, "name": {"$regex": "("}}',
    '{"\\u0000": {"value": "\\u0000"}, "\\ud800": {"value": 1e309}, "n": {"value": -9223372036854775809}, "": [[[]]]}',
    '{"_step": 1e309, "keys": ["\\u0000", "\\ud800"], "samples": -1, "minStep": 9223372036854775808}',
    "+summary_metrics.\0",
    "-config.\ud800.value",
    "method: random\nparameters: {x: {values: [.nan, .inf, 1e309, 9223372036854775808, '\\0']}}",
    'method: grid\nmetric: {name: "\\0", goal: minimize}\nparameters: {"\\ud800": {values: ["\\0"]}}',
    "a: &a [*a]",
    global_id("Run", "\0", "tried", "someone"),
    global_id("Run", "../..", "apart", "other"),
    *(global_id(kind, str(number)) for kind in ("Agent", "Artifact", "View", "File") for number in (-1, 2**63, 10**30)),
    "VmlldzrDKA==",  # base64 of no UTF-8
]
LITERALS = ["1e309", "-1e309", "NaN", "9223372036854775808", "-9223372036854775809", "-1", "0", "2147483648", "1.5", "true", "null"]
LITERALS += ["9" * 400, "[]", "{}", "[" * 500 + "]" * 500, '{"a":' * 500 + "1" + "}" * 500, '["\\u0000", null, 1e309]']
VALUES = [*map(json.dumps, TEXTS), *LITERALS]  # as JSON
ID_KINDS = {"agentHeartbeat": "agent", "artifact": "artifact", "artifactCollection": "sequence", "deleteFiles": "file"}
ID_KINDS |= {"deleteView": "view", "upsertView": "view", "view": "view", "enqueueSweepRun": "sweep", "upsertSweep": "sweep"}
SCHEMA = answers.schema().schema
ROOTS = [root for root in (SCHEMA.query_type, SCHEMA.mutation_type) if root is not None]


class Site(Shown):
    """A service with one project that nasty values are sent to, and another that must not change."""

    def __init__(self, folder: Path, url: str | None) -> None:
        super().__init__(folder, url)
        add_user(self.database, "other", key=OTHER)
        self.chance = random.Random(21)
        self.made = itertools.count()
        self.filled("other", "apart", OTHER)
        self.reader = self.another(OTHER)
        self.before = self.apart()
        self.asked = 0
        self.names: dict[str, str] | None = None

    def application(self, folder: Path) -> Any:
        self.searches = Searches(self.storage)
        self.pages = web.application(self.database, self.files, self.searches)
        return application(self.database, self.files, self.searches, self.pages, rate=0)

    def filled(self, entity: str, project: str, key: str) -> dict[str, str]:
        """Fill a project with one of each thing, and return the names and identifiers of them."""
        number = next(self.made)
        run, place = f"r{number}", {"entityName": entity, "projectName": project}
        query = "mutation M($i: UpsertBucketInput!) { upsertBucket(input: $i) { bucket { id } } }"
        values = {"name": run, "modelName": project, "entityName": entity, "config": '{"x": {"value": 1}}', "tags": ["t"]}
        names = {"run": run, "run id": self.ask(query, key=key, i=values)["upsertBucket"]["bucket"]["id"]}
        rows = [json.dumps({"_step": step, "loss": 1 / (step + 1)}) for step in range(5)]
        files = {
            "wandb-history.jsonl": {"offset": 0, "content": rows},
            "wandb-events.jsonl": {"offset": 0, "content": ['{"system.cpu": 1}']},
            "wandb-summary.json": {"offset": 0, "content": ['{"loss": 0.2}']},
            "output.log": {"offset": 0, "content": ["a line"]},
        }
        assert self.stream(run, key=key, project=project, entity=entity, files=files).status_code == 200
        query = "mutation F($i: CreateRunFilesInput!) { createRunFiles(input: $i) { files { uploadUrl } } }"
        address = self.ask(query, key=key, i={**place, "runName": run, "files": ["media/a.txt"]})["createRunFiles"]["files"][0]
        assert self.client.put(address["uploadUrl"], content=b"hello").status_code == 200
        definition = {"method": "random", "metric": {"name": "loss"}, "parameters": {"x": {"min": 0.0, "max": 1.0}}}
        query = "mutation S($i: UpsertSweepInput!) { upsertSweep(input: $i) { sweep { id name } } }"
        sweep = self.ask(query, key=key, i={**place, "config": json.dumps(definition)})["upsertSweep"]["sweep"]
        query = "mutation A($i: CreateAgentInput!) { createAgent(input: $i) { agent { id } } }"
        agent = self.ask(query, key=key, i={**place, "host": "h", "sweep": sweep["name"]})["createAgent"]["agent"]["id"]
        logged = Logged(self, {"a.txt": b"hello"}, key, **place, artifactCollectionName=f"things{number}", aliases=[]).done()
        query = "query A($i: ID!) { artifact(id: $i) { artifactSequence { id } files { edges { node { id } } } } }"
        artifact = self.ask(query, key=key, i=logged.id)["artifact"]
        view = saved(self, workspace([]), key=key, **place, name=f"nw-{number}-v")["id"]
        saved(self, report(), key=key, **place, name=f"report{number}", type="runs")
        names |= {"sweep": sweep["name"], "sweep id": sweep["id"], "agent id": agent, "artifact id": logged.id, "view id": view}
        names |= {"sequence id": artifact["artifactSequence"]["id"], "collection": f"things{number}"}
        query = "query F($r: String!, $p: String, $e: String) { project(name: $p, entityName: $e) { run(name: $r) { files { edges "
        found = self.ask(query + "{ node { id } } } } } }", key=key, r=run, p=project, e=entity)
        return {**names, "file id": found["project"]["run"]["files"]["edges"][0]["node"]["id"]}

    def target(self, *, whole: bool = False) -> dict[str, str]:
        """Return names of the things that nasty values are sent to; `whole` where what was sent may have deleted them."""
        if whole or self.names is None or ROUNDS > 1:
            self.names = self.filled("someone", "tried", KEY)
        return self.names

    def apart(self) -> list[Any]:
        """Return what the other user sees of the other project."""
        chosen = "id name runs { edges { node { id name state config summaryMetrics tags history(samples: 9) historyKeys "
        chosen += "logLines(first: 9) { edges { node { line } } } files { edges { node { name md5 } } } } } } "
        chosen += "sweeps { edges { node { name config state } } } allViews { edges { node { name spec } } } "
        chosen += 'artifactType(name: "dataset") { artifactCollections { edges { node { name } } } }'
        seen: list[Any] = [self.ask(f'{{ project(name: "apart", entityName: "other") {{ {chosen} }} }}', key=OTHER)]
        for page in ("", "/runs", "/runs.csv", "/sweeps", "/views", "/runs/r0", "/runs/r0/history.json", "/runs/r0/console.json"):
            response = self.reader.get(f"/other/apart{page}")
            assert response.status_code == 200, (page, response.text)
            seen.append(response.text if page.endswith(("csv", "json")) else page)
        return seen

    def check(self) -> None:
        """See that the other project is as it was, and the pages of the one that was harmed are there, now and then."""
        self.asked += 1
        if ROUNDS == 1 and self.asked % 12:
            return
        assert self.apart() == self.before
        for page in ("", "/runs", "/runs.csv", "/sweeps", "/views"):
            response = self.browser.get(f"/someone/tried{page}", follow_redirects=True)
            assert response.status_code == 200, (page, response.text)


@pytest.fixture(scope="module", params=["SQLite", pytest.param("PostgreSQL", marks=needs_postgres)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nasty")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(postgres(folder)) if request.param == "PostgreSQL" else None
        site = Site(folder, url)
        yield site
        site.asked = -1
        site.check()
        site.searches.close()
        site.database.close()


@dataclass
class Operation:
    """A field with arguments, and how it is asked for: `around` is what stands before it."""

    owner: str
    name: str
    field: graphql.GraphQLField
    around: tuple[str, ...] = ()
    words: dict[str, Any] = field(default_factory=dict)

    def document(self) -> str:
        """Return a document that asks for the field, its arguments as variables."""
        declared = ", ".join(f"${name}: {argument.type}" for name, argument in self.field.args.items())
        given = ", ".join(f"{name}: ${name}" for name in self.field.args)
        kind = "mutation" if SCHEMA.mutation_type is not None and self.owner == SCHEMA.mutation_type.name else "query"
        asked = f"{self.name}({given}) {selection(self.field.type)}"
        for step in reversed(self.around):
            asked = f"{step} {{ {asked} }}"
        return f"{kind} N({declared}) {{ {asked} }}"


def selection(kind: Any, depth: int = 2) -> str:
    """Return the fields to ask for of a type; empty for a scalar."""
    named = graphql.get_named_type(kind)
    if graphql.is_union_type(named) or graphql.is_interface_type(named):
        return "{ __typename }"
    if not graphql.is_object_type(named):
        return ""
    chosen = ["__typename"]
    for name, inner in named.fields.items():
        required = any(graphql.is_required_argument(argument) for argument in inner.args.values())
        of = graphql.get_named_type(inner.type)
        if not required and (graphql.is_leaf_type(of) or depth > 0):
            chosen.append(f"{name} {selection(of, depth - 1)}")
    return "{ " + " ".join(chosen) + " }"


def operations() -> Iterator[Operation]:
    """Yield every field of the schema that has arguments and can be reached."""
    for root in ROOTS:
        for name, inner in root.fields.items():
            if inner.args:
                yield Operation(root.name, name, inner)
    assert SCHEMA.query_type is not None
    waiting: list[tuple[Any, tuple[str, ...]]] = [(SCHEMA.query_type, ())]
    seen = {SCHEMA.query_type.name}
    for kind, around in waiting:
        for name, inner in kind.fields.items():
            of = graphql.get_named_type(inner.type)
            if kind is not SCHEMA.query_type and inner.args:
                yield Operation(kind.name, name, inner, around)
            if graphql.is_object_type(of) and of.name not in seen:
                seen.add(of.name)
                given = ", ".join(f"{key}: @{key}@" for key, value in inner.args.items() if graphql.is_required_argument(value))
                given += ', name: "tried", entityName: "someone"' if name == "project" and not around else ""
                given = given.removeprefix(", ")
                waiting.append((of, (*around, f"{name}({given})" if given else name)))


OPERATIONS = list(operations())


def sound(kind: Any, name: str, operation: str, names: dict[str, str]) -> Any:
    """Return a value that is good for an argument; None for one that need not be given and is of no use here."""
    if graphql.is_non_null_type(kind):
        return sound(kind.of_type, name, operation, names) or "x"
    known = {"entityName": "someone", "projectName": "tried", "modelName": "tried", "runName": names["run"]}
    known |= {"sweep": names["sweep"], "sweepName": names["sweep"], "artifactID": names["artifact id"], "host": "h"}
    known |= {"artifactSequenceID": names["sequence id"], "artifactCollectionName": names["collection"]}
    known |= {"agentName": names["agent id"], "aliasName": "latest", "id": names[f"{ID_KINDS.get(operation, 'run')} id"]}
    if operation in ("run", "bucket", "upsertBucket"):
        known["name"] = names["run"]
    elif operation in ("project", "model", "upsertModel"):
        known["name"] = "tried"
    elif operation in ("artifactType", "artifactCollection"):
        known["name"] = "dataset" if operation == "artifactType" else names["collection"]
    elif operation in ("artifact", "artifactCollectionMembership"):
        known["name"] = f"{names['collection']}:v0"
    if graphql.is_list_type(kind):
        inner = names["file id"] if operation == "deleteFiles" else sound(kind.of_type, name, operation, names)
        return ["media/a.txt" if name == "files" and operation != "deleteFiles" else inner]
    if graphql.is_input_object_type(kind):
        values = {key: sound(inner.type, key, operation, names) for key, inner in kind.fields.items()}
        return {key: value for key, value in values.items() if value is not None}
    if name in known:
        return known[name]
    if graphql.is_enum_type(kind):
        return next(iter(kind.values))
    return {"Int": 1, "Int64": 1, "Float": 1.0, "Boolean": True, "JSONString": "{}", "Duration": 1}.get(kind.name)


def leaves(kind: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of every value in an argument, lists and objects as wholes with them."""
    yield path
    kind = graphql.get_nullable_type(kind)
    if graphql.is_list_type(kind):
        yield from leaves(kind.of_type, (*path, 0))
    elif graphql.is_input_object_type(kind):
        for name, inner in kind.fields.items():
            yield from leaves(inner.type, (*path, name))


def placed(values: Any, path: tuple[Any, ...], value: Any) -> None:
    """Put a value at a path, and what must be around it."""
    for at, following in itertools.pairwise(path):
        if isinstance(values, list):
            values = values[at]
        else:
            if not isinstance(values.get(at), dict | list):
                values[at] = [None] if following == 0 else {}
            values = values[at]
        if isinstance(values, list) and not isinstance(values[0], dict | list):
            values[0] = {}
    values[path[-1]] = value


def body_of(document: str, variables: dict[str, Any], marked: dict[str, str]) -> bytes:
    """Return a request as JSON in which marks are replaced by values that no program would write."""
    text = json.dumps({"query": document, "variables": variables, "operationName": ""})
    for mark, value in marked.items():
        text = text.replace(f'"{mark}"', value)
    return text.encode()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.owner}.{operation.name}")
def test_no_value_of_an_operation_makes_it_fail_or_reaches_other_projects(site: Site, operation: Operation) -> None:
    paths = [path for name, argument in operation.field.args.items() for path in leaves(argument.type, (name,))]
    for _ in range(ROUNDS):
        names = site.target(whole=operation.owner == "Mutation")
        document = operation.document()
        for key, argument in SOUND_AROUND.items():
            document = document.replace(f"@{key}@", json.dumps(names.get(argument, argument)))
        cases = [[path] for path in paths]
        cases += [site.chance.sample(paths, min(len(paths), 3)) for _ in range(2)]
        for chosen in cases:
            given = {name: sound(argument.type, name, operation.name, names) for name, argument in operation.field.args.items()}
            marked = {f"@{number}@": site.chance.choice(VALUES) for number in range(len(chosen))}
            for mark, path in zip(marked, sorted(chosen, key=len, reverse=True), strict=True):
                with contextlib.suppress(TypeError, KeyError, IndexError, AttributeError):  # one is within another
                    placed(given, path, mark)
            content = body_of(document, given, marked)
            response = site.client.post("/graphql", content=content)
            assert response.status_code in (200, 400, 404, 413), (content[:3000], response.text)
            assert FAILED not in response.text, content[:3000]
            json.dumps(response.json(), ensure_ascii=False).encode()
    site.check()


SOUND_AROUND = {"name": "run", "sweepName": "sweep", "agentName": "agent id", "aliasName": "latest", "id": "artifact id"}
SOURCES = [*Path(web.__file__).parent.glob("*.py"), *Path(web.__file__).parents[1].glob("http/*.py")]
WORDS = sorted({word for path in SOURCES for word in re.findall(r'(?:get|sent|sent_all)\("(\w+)"', path.read_text("utf-8"))})


def test_no_part_of_a_request_makes_a_route_fail_or_reaches_other_projects(site: Site) -> None:
    assert WORDS, "the names of parameters were found"
    for path, methods in [*routes(site.client.app.routes), *routes(site.pages.routes)] * ROUNDS:  # type: ignore[attr-defined]
        names = {**site.target(whole="POST" in methods), "entity": "someone", "project": "tried", "name": "media/a.txt"}
        parts = re.findall(r"{(\w+)(?::\w+)?}", path)
        for nasty in [None, *(part for part in parts for _ in range(min(ROUNDS, 4)))]:
            text = site.chance.choice(TEXTS)
            address = path
            for part in parts:
                value = quoted(text if part == nasty else names.get(part, "x"))
                address = re.sub(rf"{{{part}(:\w+)?}}", value.replace("\\", ""), address)
            for method in methods:
                site.client.cookies.clear()
                site.client.cookies.update(site.browser.cookies)
                query = {word: site.chance.choice(TEXTS)[:2000] for word in site.chance.sample(WORDS, 3)}
                form = urlencode({word: site.chance.choice(TEXTS)[:9999] for word in WORDS}, errors="surrogatepass").encode()
                fields = {word: f"@{number}@" for number, word in enumerate([*WORDS, "files", "entity", "filters", "keys"])}
                marked = {mark: site.chance.choice(VALUES) for mark in fields.values()}
                body = form if site.chance.random() < 0.5 else body_of("", fields, marked).partition(b'"variables": ')[2][:-22]
                content = None if method in ("GET", "HEAD", "OPTIONS") else site.chance.choice([body, site.chance.randbytes(99)])
                url = f"{address}?{urlencode(query, errors='surrogatepass')}"
                response = site.client.request(
                    method, url[:60_000], headers=authorization(), content=content, follow_redirects=False
                )
                assert response.status_code < 500, (method, url[:500], content, response.text[:2000])
                assert response.status_code != 422, (method, url[:500], content, response.text[:2000])
                assert "root:x:0" not in response.text
    site.check()


def quoted(text: str) -> str:
    """Return a text as a part of an address that is not too long for one."""
    return quote(text[:2000], safe="", errors="surrogatepass")


@pytest.mark.parametrize(
    "value", ['"' + "x" * LONG + '"', json.dumps("[" * LONG), json.dumps(json.dumps({"x" * LONG: "y" * LONG}))]
)
def test_texts_of_megabytes_are_stored_or_refused(site: Site, value: str) -> None:
    for operation in OPERATIONS[:: 1 if ROUNDS > 1 else 19]:
        names = site.target()
        paths = [path for name, argument in operation.field.args.items() for path in leaves(argument.type, (name,))]
        if operation.around:
            continue
        given = {name: sound(argument.type, name, operation.name, names) for name, argument in operation.field.args.items()}
        placed(given, site.chance.choice([path for path in paths if len(path) > 1] or paths), "@0@")
        response = site.client.post("/graphql", content=body_of(operation.document(), given, {"@0@": value}))
        assert response.status_code in (200, 400, 404, 413), (operation.name, response.text[:2000])
        assert FAILED not in response.text, operation.name
    site.check()
