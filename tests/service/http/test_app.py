"""What the service is asked outside a client's plan: keys, others' runs, forged addresses, lines sent twice, unknown fields."""

from __future__ import annotations

import errno
import gzip
import json
import math
import socket
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from paretune.core.errors import UsageError
from paretune.service.http import auth, service
from paretune.service.store import runs, streams
from paretune.service.store.accounts import account_of, add_key, add_user, revoke_keys
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.store.tables import Chunk, Run, RunFile, now
from tests.listening import listening
from tests.service.serving import KEY, Asked, authorization, forged
from tests.waiting import wait_until

OTHER, VIEWER, MATE = ("local-" + letter * 40 for letter in "ovm")
RUN = 'query($run: String!) { project(name: "tried", entityName: "someone") { run(name: $run) { %s } } }'

CREATE = (
    "mutation M($files: [String!]!) "
    '{ createRunFiles(input: {entityName: "someone", projectName: "tried", runName: "r1", files: $files})'
)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    asked = Asked(tmp_path)
    add_user(asked.database, "other", key=OTHER)
    add_user(asked.database, "onlooker", key=VIEWER, role="viewer")
    return asked


def of_run(asked: Asked, fields: str, run: str = "r1") -> Any:
    return asked.ask(RUN % fields, run=run)["project"]["run"]


def history(first: int, steps: range, **values: Any) -> dict[str, Any]:
    lines = [json.dumps({"_step": step, "value": step, **values}) for step in steps]
    return {"files": {"wandb-history.jsonl": {"offset": first, "content": lines}}}


# -- keys


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !!", "Bearer " + KEY, "Basic YXBpOg==", authorization("local-" + "z" * 40)["authorization"]]
)
def test_without_a_known_key_nothing_is_answered(asked: Asked, header: str) -> None:
    for address in ("/graphql", "/files/someone/tried/r1/file_stream"):
        response = asked.client.post(address, content="{}", headers={"authorization": header})
        assert response.status_code == 401
        assert "this key is not known here" in response.json()["error"]


def test_a_key_that_is_revoked_is_not_known_any_more(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED", 0.0)
    second = add_key(asked.database, "other")
    assert asked.ask("{ viewer { username } }", key=second)["viewer"]["username"] == "other"
    assert revoke_keys(asked.database, "other") == 2
    for key in (OTHER, second):
        assert asked.client.post("/graphql", content="{}", headers=authorization(key)).status_code == 401
    assert asked.ask("{ viewer { username } }")["viewer"]["username"] == "someone"


def test_a_right_key_is_answered_whatever_wrong_ones_came_from_its_address(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.ask("{ viewer { id } }")  # so that the service is made
    looked_up = []
    monkeypatch.setattr(auth, "account_of", lambda database, key: looked_up.append(key) or account_of(database, key))
    wrong = [f"local-{number:040}" for number in range(auth.REFUSALS.amount + 2)]
    statuses = [asked.client.post("/graphql", headers=authorization(key)).status_code for key in [*wrong, wrong[0]]]
    assert statuses == [401] * auth.REFUSALS.amount + [429] * 3
    assert looked_up == wrong
    asked.ask("{ viewer { id } }", key=OTHER)


def test_keys_are_not_kept_as_they_are(asked: Asked, tmp_path: Path) -> None:
    asked.database.close()
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "a b"}, "a user's name must be"),
        ({"name": "someone"}, "there is a user or team 'someone' already"),
        ({"name": "new", "role": "king"}, "role must be one of admin, member, viewer. Got 'king'"),
        ({"name": "new", "key": "short"}, "a key must have at least 40"),
        ({"name": "new", "key": KEY}, "this key is in use already"),
        ({"name": "new", "team": "other"}, "'other' is a user, not a team"),
    ],
)
def test_users_that_cannot_be_are_refused(asked: Asked, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        add_user(asked.database, values.pop("name"), **values)


# -- who may do what


def test_one_more_key_is_nobodys_yet(asked: Asked) -> None:
    add_user(asked.database, "more", key=OTHER + "more")
    with pytest.raises(UsageError, match="this key is in use already"):
        add_key(asked.database, "more", key=KEY)


def test_others_neither_see_nor_change_a_run(asked: Asked) -> None:
    identifier = asked.run()
    assert asked.ask(RUN % "name", key=OTHER, run="r1")["project"] is None
    change = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
    attempts = [
        (change, {"input": {"id": identifier, "notes": "mine"}}, "there is no run"),
        (change, {"input": {"name": "r1", "modelName": "tried", "entityName": "someone"}}, "other may not write to someone"),
        ("mutation M($id: ID!) { stopRun(input: {id: $id}) { success } }", {"id": identifier}, "there is no run"),
        ("mutation M($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", {"id": identifier}, "there is no run"),
    ]
    for query, variables, sentence in attempts:
        answer = asked.told(query, key=OTHER, **variables)
        assert sentence in answer["errors"][0]["message"]
    assert asked.stream("r1", key=OTHER, **history(0, range(3))).status_code == 404
    assert of_run(asked, "notes state historyLineCount") == {"notes": None, "state": "running", "historyLineCount": 0}
    assert asked.ask('{ models(entityName: "someone") { edges { node { name } } } }', key=OTHER)["models"]["edges"] == []


def test_a_team_shares_its_runs_and_a_viewer_only_looks(asked: Asked) -> None:
    add_user(asked.database, "mate", key=MATE, team="lab")
    add_user(asked.database, "guest", key="local-" + "g" * 40, role="viewer", team="lab")
    change = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { name } } }"
    values = {"input": {"name": "shared", "modelName": "common", "entityName": "lab"}}
    assert asked.ask(change, key=MATE, **values)["upsertBucket"]["bucket"]["name"] == "shared"
    look = '{ project(name: "common", entityName: "lab") { readOnly run(name: "shared") { name readOnly } } }'
    assert asked.ask(look, key="local-" + "g" * 40)["project"] == {"readOnly": True, "run": {"name": "shared", "readOnly": True}}
    refused = asked.told(change, key="local-" + "g" * 40, **values)
    assert "guest may not write to lab" in refused["errors"][0]["message"]
    assert asked.stream("shared", key="local-" + "g" * 40, project="common", entity="lab").status_code == 403
    assert asked.ask(look, key=OTHER)["project"] is None


# -- streams


def test_lines_that_are_sent_twice_or_overlap_are_there_once(asked: Asked) -> None:
    asked.run()
    for body in (history(0, range(5)), history(0, range(5)), history(3, range(3, 9)), history(0, range(2))):
        assert asked.stream("r1", **body).status_code == 200
    rows = [json.loads(line) for line in of_run(asked, "history")["history"]]
    assert [row["_step"] for row in rows] == list(range(9))
    asked.stream("r1", **history(4, range(4, 6), value="later"))
    rows = [json.loads(line) for line in of_run(asked, "history")["history"]]
    assert [row["value"] for row in rows] == [0, 1, 2, 3, "later", "later", 6, 7, 8]
    assert of_run(asked, "historyLineCount historyKeys")["historyLineCount"] == 9


def test_a_page_of_history_and_a_sample_of_it(asked: Asked) -> None:
    asked.run()
    asked.stream("r1", **history(0, range(1000), odd=float("nan")))
    page = of_run(asked, "history(minStep: 100, maxStep: 110, samples: 4)")["history"]
    assert [json.loads(line)["_step"] for line in page] == [100, 101, 102, 103]
    assert all(math.isnan(json.loads(line)["odd"]) for line in page)
    sample = [json.loads(line)["_step"] for line in of_run(asked, "history(samples: 11)")["history"]]
    assert (len(sample), sample[0], sample[-1]) == (11, 0, 999)
    spec = json.dumps({"keys": ["_step", "odd"], "minStep": 5, "maxStep": 7, "samples": 9})
    query = RUN.replace("$run: String!", "$run: String!, $spec: JSONString!") % "sampledHistory(specs: [$spec])"
    (found,) = asked.ask(query, run="r1", spec=spec)["project"]["run"]["sampledHistory"]
    assert found == [{"_step": step, "odd": "NaN"} for step in (5, 6, 7)]
    auth = of_run(asked, "historyKeys")["historyKeys"]
    assert (auth["lastStep"], auth["keys"]["value"]["typeCounts"]) == (999, [{"type": "number", "count": 1000}])


def test_a_run_is_rewound_and_goes_on(asked: Asked) -> None:
    asked.run()
    asked.stream("r1", **history(0, range(10)), complete=True, exitcode=0)
    rewind = (
        'mutation M($v: Float!) { rewindRun(input: {runName: "r1", projectName: "tried", metricName: "_step", metricValue: $v})'
    )
    answer = asked.ask(rewind + " { rewoundRun { historyLineCount } } }", v=3)
    assert answer["rewindRun"]["rewoundRun"]["historyLineCount"] == 4
    asked.stream("r1", **history(4, range(4, 6), value="anew"))
    rows = [json.loads(line) for line in of_run(asked, "history")["history"]]
    assert [row["value"] for row in rows] == [0, 1, 2, 3, "anew", "anew"]
    assert of_run(asked, "state historyKeys")["historyKeys"]["lastStep"] == 5


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ({"complete": True, "exitcode": 0}, "finished"),
        ({"complete": True, "exitcode": 1}, "failed"),
        ({"complete": True}, "finished"),
        ({"preempting": True}, "preempting"),
        ({}, "running"),
    ],
)
def test_how_a_run_ended_is_its_state(asked: Asked, body: dict[str, Any], state: str) -> None:
    asked.run()
    assert asked.stream("r1", **body).json() == {}
    assert of_run(asked, "state")["state"] == state


def test_a_stop_is_told_until_the_run_ends(asked: Asked) -> None:
    identifier = asked.run()
    stop = "mutation M($id: ID!) { stopRun(input: {id: $id}) { success } }"
    assert asked.ask(stop, id=identifier)["stopRun"]["success"]
    assert [asked.stream("r1").json() for _ in range(2)] == [{"stopped": True}] * 2
    assert asked.stream("r1", complete=True, exitcode=255).json() == {}
    assert of_run(asked, "state stopped") == {"state": "killed", "stopped": True}
    assert not asked.ask(stop, id=identifier)["stopRun"]["success"], "it has ended"


def test_a_silent_run_has_crashed_and_comes_back_when_it_speaks(asked: Asked) -> None:
    for name in ("r1", "r2", "r3"):
        asked.run(name)
    asked.stream("r3", complete=True)
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).where(Run.name != "r2").values(heartbeat_at=now() - runs.SILENCE - timedelta(seconds=1)))
        assert runs.mark_crashed(session) == 1
    assert [of_run(asked, "state", name)["state"] for name in ("r1", "r2", "r3")] == ["crashed", "running", "finished"]
    asked.stream("r1")
    assert of_run(asked, "state")["state"] == "running"


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"[]", 400, "a request must be a JSON object"),
        (b"{", 400, "a request must be a JSON object"),
        (b"\xff", 400, "a request must be a JSON object"),
        (gzip.compress(b"{}", mtime=0), 400, "a request must be a JSON object"),
        (b'{"files": {"wandb-history.jsonl": {"offset": 0}}}', 400, "must have content, a list of lines"),
        (b'{"files": {"wandb-history.jsonl": {"offset": 0, "content": [1]}}}', 400, "must have content, a list of lines"),
        (b'{"files": {"wandb-history.jsonl": {"offset": "x", "content": ["{}"]}}}', 400, "must have offset"),
        (b'{"files": {"wandb-history.jsonl": {"offset": -1, "content": ["{}"]}}}', 400, "offset must be at least 0"),
        (b'{"files": {"wandb-history.jsonl": {"offset": 0, "content": ["no json"]}}}', 400, "must be a JSON object"),
        (b'{"files": {"wandb-summary.json": {"offset": 0, "content": ["[1]"]}}}', 400, "summaryMetrics must be a JSON object"),
        (b"x" * 100, 400, "a request must be a JSON object"),
    ],
)
def test_what_is_no_stream_gets_a_sentence_and_changes_nothing(asked: Asked, content: bytes, status: int, sentence: str) -> None:
    asked.run()
    response = asked.client.post("/files/someone/tried/r1/file_stream", content=content)
    assert response.status_code == status
    assert sentence in response.json()["error"]
    with asked.database.session() as session:
        assert session.scalar(sa.select(sa.func.count(Chunk.id))) == 0


def test_a_request_of_millions_of_lists_is_not_even_read(asked: Asked) -> None:
    body = '{"query": "{ viewer { id } }", "variables": {"a": [' + "[]," * 2_000_000 + "[]]}}"
    for address in ("/graphql", "/files/someone/tried/r1/file_stream", "/bulk/histories"):
        response = asked.client.post(address, content=body)
        assert response.status_code == 413
        assert "at most 2,000,000 lists" in response.json()["error"]


def test_lists_in_rows_make_no_request_too_large_and_a_row_that_is_loses_itself_alone(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MOST_COMMAS", "MOST_BRACKETS"):
        monkeypatch.setattr(service, name, 1000)
        monkeypatch.setattr(streams, name, 1000, raising=False)
    asked.run()
    assert asked.stream("r1", **history(0, range(6), mask=[1] * 400, points=[[0]] * 400, texts=['"', "\\"])).status_code == 200
    assert asked.stream("r1", **history(6, range(6, 8), mask=[1] * 1100)).status_code == 400
    large = [json.dumps({"_step": 7, key: value}) for key, value in (("mask", [1] * 1100), ("points", [[]] * 1100))]
    body = {"wandb-history.jsonl": {"offset": 6, "content": ['{"_step": 6}', *large, '{"_step": 9, "points": [[1, 2]]}']}}
    assert asked.stream("r1", files=body).status_code == 200
    found = of_run(asked, "historyLineCount history(minStep: 0, maxStep: 10) historyKeys")
    assert found["historyLineCount"] == 10
    rows = [json.loads(row) for row in found["history"]]
    assert [len(row.get("mask", ())) for row in rows] == [400] * 6 + [0] * (len(rows) - 6)
    assert [row["_step"] for row in rows if "_step" in row] == [*range(7), 9]
    assert found["historyKeys"]["keys"]["points"]["typeCounts"] == [{"type": "list", "count": 7}]


@pytest.mark.parametrize("before", [b'"\\\\", ', b'"\\"", ', b'"a\\u0022,[b", ', b'"\\n", '])
def test_values_outside_of_texts_are_counted_whatever_stands_before(before: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_COMMAS", 10)
    text = b'"' + b"," * 20 + b'"'
    assert service.json_of(b'{"a": [' + before + text + b"]}", in_texts=False)
    for body in (b'{"a": [' + before + text + b", 1" * 20 + b"]}", b"," * 11 + b'"unended'):
        with pytest.raises(HTTPException) as refused:
            service.json_of(body, in_texts=False)
        assert refused.value.status_code == 413


@pytest.mark.parametrize("files", [[1], "x", 7])
def test_files_of_a_stream_that_are_no_mapping_are_named(asked: Asked, files: Any) -> None:
    asked.run()
    response = asked.client.post("/files/someone/tried/r1/file_stream", json={"files": files})
    assert response.status_code == 400
    assert "files must be a mapping" in response.json()["error"]


def test_a_state_that_no_run_has_is_refused(asked: Asked) -> None:
    asked.run()
    upsert = 'mutation { upsertBucket(input: {modelName: "tried", name: "r1", state: "%s"}) { bucket { state } } }'
    assert "a run's state is one of" in asked.told(upsert % "RUNNING!!")["errors"][0]["message"]
    assert asked.ask(upsert % "failed")["upsertBucket"]["bucket"]["state"] == "failed"


def test_a_console_line_of_brackets_is_a_line(asked: Asked) -> None:
    asked.run()
    asked.stream("r1", files={"output.log": {"offset": 0, "content": ["[" * 100_000]}})
    assert len(of_run(asked, "logLines { edges { node { line } } }")["logLines"]["edges"][0]["node"]["line"]) == 100_000


def test_users_are_told_to_those_who_share_a_team_and_to_admins(asked: Asked) -> None:
    lab, far = "local-" + "b" * 40, "local-" + "f" * 40
    add_user(asked.database, "chief", key=MATE, role="admin")
    add_user(asked.database, "lab1", key=lab, team="lab")
    add_user(asked.database, "lab2", team="lab")
    add_user(asked.database, "far", key=far, team="away")
    users = "query($name: String!) { users(query: $name) { edges { node { name } } } }"

    def found(key: str) -> list[str]:
        names = ["someone", "lab1", "lab2", "far"]
        return [name for name in names if asked.ask(users, key=key, name=name)["users"]["edges"]]

    assert found(KEY) == ["someone"]
    assert found(lab) == ["lab1", "lab2"]
    assert found(far) == ["far"]
    assert found(MATE) == ["someone", "lab1", "lab2", "far"]


def test_the_files_of_a_page_of_runs_are_counted_at_once(asked: Asked) -> None:
    statements: list[str] = []
    for number in range(12):
        asked.run(f"r{number}")
    with asked.database.session(writing=True) as session:
        run = session.scalars(sa.select(Run).where(Run.name == "r7")).one()
        session.add_all([RunFile(run_id=run.id, name=name, size=1, md5="", digest="d") for name in "ab"])
    sa.event.listen(asked.database.engine, "before_cursor_execute", lambda *values: statements.append(values[2]))
    found = asked.ask('{ project(name: "tried") { runs { edges { node { name fileCount } } } } }')["project"]["runs"]["edges"]
    assert [(edge["node"]["name"], edge["node"]["fileCount"]) for edge in found if edge["node"]["fileCount"]] == [("r7", 2)]
    assert len([one for one in statements if "run_file" in one]) == 1


def test_a_cursor_is_of_plain_digits(asked: Asked) -> None:
    asked.run()
    query = 'query($after: String) { project(name: "tried") { runs(after: $after) { edges { node { name } } } } }'
    for after in ("\u00b2", "-1", "\u0661"):
        assert "after must be a cursor" in asked.told(query, after=after)["errors"][0]["message"]


def test_numbers_beyond_floats_count_as_infinite(asked: Asked) -> None:
    asked.run()
    huge = "1" + "0" * 400
    lines = [f'{{"_step": 0, "loss": {huge}, "in": {{"deep": [-{huge}]}}}}', '{"_step": 1, "loss": 2}']
    parts = {"wandb-history.jsonl": {"offset": 0, "content": lines}, "wandb-events.jsonl": {"offset": 0, "content": lines}}
    asked.stream("r1", files={**parts, "wandb-summary.json": {"offset": 0, "content": [f'{{"loss": {huge}}}']}})
    config = f'{{"big": {{"value": [{huge}]}}}}'
    upsert = 'mutation($c: JSONString) { upsertBucket(input: {modelName: "tried", name: "r1", config: $c}) { bucket { id } } }'
    asked.ask(upsert, c=config)
    run = of_run(asked, 'summaryMetrics config history sampledHistory(specs: ["{\\"keys\\": [\\"loss\\"]}"])')
    assert json.loads(run["summaryMetrics"]) == {"loss": math.inf}
    assert json.loads(run["config"])["big"]["value"] == [math.inf]
    assert json.loads(run["history"][0]) == {"_step": 0, "loss": math.inf, "in": {"deep": [-math.inf]}}
    assert run["sampledHistory"] == [[{"loss": "Infinity"}, {"loss": 2}]]


def test_a_run_that_is_not_there_is_a_404(asked: Asked) -> None:
    assert asked.stream("absent").status_code == 404
    asked.run()
    assert asked.stream("absent").status_code == 404


def test_what_is_too_large_is_refused(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_BODY", 1000)
    asked.run()
    assert asked.client.post("/files/someone/tried/r1/file_stream", content=b"x" * 1001).status_code == 413
    monkeypatch.setattr("paretune.service.store.files.MOST_BYTES", 10)
    assert asked.client.put(upload_address(asked, "large.bin"), content=b"x" * 11).status_code == 413
    assert list((asked.files.folder / "incoming").iterdir()) == []


def test_console_lines_are_paged_from_either_end(asked: Asked) -> None:
    asked.run()
    lines = [json.dumps({"ts": "2026-01-01T00:00:00Z", "content": f"line {number}"}) for number in range(10)]
    asked.stream("r1", files={"output.log": {"offset": 0, "content": [*lines, "plain text"]}})
    page = of_run(
        asked, 'logLineCount logLines(first: 4, after: "2") { edges { node { number line timestamp } } pageInfo { hasNextPage } }'
    )
    assert [edge["node"]["line"] for edge in page["logLines"]["edges"]] == [f"line {number}" for number in range(2, 6)]
    assert page["logLines"]["edges"][0]["node"]["timestamp"] == "2026-01-01T00:00:00Z"
    assert (page["logLineCount"], page["logLines"]["pageInfo"]["hasNextPage"]) == (11, True)
    tail = of_run(asked, "logLines(last: 2) { edges { node { number line } } }")["logLines"]["edges"]
    assert [edge["node"] for edge in tail] == [{"number": 9, "line": "line 9"}, {"number": 10, "line": "plain text"}]


# -- files


def upload_address(asked: Asked, name: str) -> str:
    answer = asked.ask(CREATE + " { runID uploadHeaders files { name uploadUrl } } }", files=[name])
    (file,) = answer["createRunFiles"]["files"]
    assert file["name"] == name
    return str(file["uploadUrl"])


def test_a_file_comes_back_as_it_was_sent(asked: Asked) -> None:
    asked.run()
    content = bytes(range(256)) * 1000
    address = upload_address(asked, "media/images/ü 1.png")
    assert asked.client.put(address, content=content, headers={"authorization": ""}).status_code == 200
    fields = 'fileCount files(pattern: "media/%%") { edges { node { name url directUrl sizeBytes mimetype md5 } } }'
    found = of_run(asked, fields)
    (file,) = (edge["node"] for edge in found["files"]["edges"])
    assert (found["fileCount"], file["name"], file["sizeBytes"], file["mimetype"]) == (
        1,
        "media/images/ü 1.png",
        256_000,
        "image/png",
    )
    response = asked.client.get(file["directUrl"], headers={"authorization": ""})
    assert response.content == content
    assert response.headers["content-disposition"] == "attachment"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert asked.client.get(file["url"], headers={"range": "bytes=10-19"}).content == content[10:20]
    asked.client.put(upload_address(asked, "media/images/ü 1.png"), content=b"new")
    assert of_run(asked, fields)["fileCount"] == 1
    with asked.database.session() as session:
        (file_id,) = session.scalars(sa.select(RunFile.id))
    from paretune.service.store.tables import global_id

    delete = "mutation M($files: [ID!]!) { deleteFiles(input: {files: $files}) { success } }"
    assert "there is no file" in asked.told(delete, key=OTHER, files=[global_id("File", str(file_id))])["errors"][0]["message"]
    asked.ask(delete, files=[global_id("File", str(file_id))])
    assert of_run(asked, "fileCount")["fileCount"] == 0


@pytest.mark.parametrize("name", ["../up", "a/../../b", "/etc/passwd", "", "a\\..\\b", "x" * 1025])
def test_a_name_that_leads_elsewhere_is_refused(asked: Asked, name: str) -> None:
    asked.run()
    answer = asked.told(CREATE + " { files { name } } }", files=[name])
    assert "a file's name must be a path below its run" in answer["errors"][0]["message"]


def test_forged_and_expired_addresses_are_refused(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.run()
    upload = upload_address(asked, "a.txt")
    asked.client.put(upload, content=b"kept")
    token = upload.rpartition("/")[2]
    download = str(of_run(asked, "files { edges { node { url } } }")["files"]["edges"][0]["node"]["url"])
    for address in (forged(upload), f"/uploads/{asked.files.signed('download', run=1, name='a.txt')}", "/uploads/x"):
        assert asked.client.put(address, content=b"forged").status_code == 403
    for address in (f"/downloads/{token}/a.txt", "/downloads/x/a.txt", download.replace("/downloads/", "/downloads/A")):
        assert asked.client.get(address).status_code == 403
    other = Files(asked.files.folder.parent / "another")
    assert asked.client.put(f"/uploads/{other.signed('upload', run=1, name='a.txt')}", content=b"forged").status_code == 403
    monkeypatch.setattr("paretune.service.store.files.EXPIRES", -1)
    assert asked.client.put(upload, content=b"late").status_code == 403
    assert asked.client.get(download).status_code == 403
    monkeypatch.undo()
    assert asked.client.get(download).content == b"kept"
    assert (asked.files.folder / "secret").stat().st_mode & 0o077 == 0


def test_an_address_of_a_deleted_run_reaches_no_other(asked: Asked) -> None:
    deleted = asked.run()
    upload = upload_address(asked, "a.txt")
    asked.client.put(upload, content=b"kept")
    download = str(of_run(asked, "files { edges { node { url } } }")["files"]["edges"][0]["node"]["url"])
    with asked.database.session() as session:
        number = session.scalars(sa.select(Run.id)).one()
    asked.ask("mutation M($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", id=deleted)
    asked.run("r1")
    with asked.database.session(writing=True) as session:
        assert session.scalars(sa.select(Run.id)).one() > number
        session.execute(sa.update(Run).values(id=number))  # as SQLite numbered it once
    asked.client.put(upload_address(asked, "a.txt"), content=b"another's")
    assert asked.client.put(upload, content=b"evil").status_code == 404
    assert asked.client.get(download).status_code == 404
    again = str(of_run(asked, "files { edges { node { url } } }")["files"]["edges"][0]["node"]["url"])
    assert asked.client.get(again).content == b"another's"


# -- the language


def test_fields_that_only_newer_clients_know_are_dropped(asked: Asked) -> None:
    change = "mutation M($input: UpsertBucketInput!, $new: String) { upsertBucket(input: $input) { bucket { name } } }"
    values = {"name": "r1", "modelName": "tried", "cloudRegionID": None, "inNextYear": {"deep": [1]}}
    assert asked.ask(change, input=values, new="x", undeclared=3)["upsertBucket"]["bucket"]["name"] == "r1"
    literal = 'mutation M($a: String) { upsertBucket(input: {name: "r2", modelName: "tried", inNextYear: $a}) { bucket { name } } }'
    assert asked.ask(literal, a="x")["upsertBucket"]["bucket"]["name"] == "r2"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("{", "Syntax Error"),
        ("{ colour }", "Cannot query field 'colour'"),
        ("query A { viewer { id } } query B { viewer { id } }", "a document must hold one operation. Got 2"),
        ("fragment F on Run { id }", ""),
        ("{" + " viewer { id }" * 3000 + "}", "more than 5000 tokens"),
        ("#" + "x" * 200_000, "at most 100,000 characters"),
        ('{ project(name: "tried") { runs(filters: "{") { edges { cursor } } } }', "filters must be JSON"),
        ('{ project(name: "tried") { runs(after: "x") { edges { cursor } } } }', "after must be a cursor"),
    ],
)
def test_what_cannot_be_answered_is_said_and_not_a_500(asked: Asked, query: str, sentence: str) -> None:
    asked.run()
    answer = asked.told(query)
    assert sentence in answer["errors"][0]["message"]


def test_a_failure_of_ours_is_logged_and_not_tried_for_ever(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    asked.run()
    monkeypatch.setattr(runs, "count_runs", fail)
    answer = asked.told('{ project(name: "tried") { runCount } }')
    assert answer["errors"][0]["message"] == "the server failed at this; its log says why."
    assert "secret detail" in caplog.text
    monkeypatch.setattr(streams, "append", fail)
    assert asked.stream("r1", **history(0, range(2))).status_code == 422


def test_a_failure_is_answered_and_not_raised_again(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    asked.run()
    monkeypatch.setattr(streams, "append", fail)
    monkeypatch.setattr("paretune.service.web.login.Logins.account", fail)
    asked.client = TestClient(asked.client.app, headers=authorization())  # which raises what the server would log once more
    assert asked.stream("r1", **history(0, range(2))).status_code == 422
    assert asked.client.get("/someone").status_code == 500


@pytest.mark.parametrize(
    ("code", "status"),
    [(sqlite3.SQLITE_FULL, 507), (sqlite3.SQLITE_READONLY, 507), (sqlite3.SQLITE_BUSY, 503), (sqlite3.SQLITE_ERROR, 422)],
)
def test_a_full_disk_is_told_as_such(asked: Asked, monkeypatch: pytest.MonkeyPatch, code: int, status: int) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        error = sqlite3.OperationalError("it cannot be written")
        error.sqlite_errorcode = code
        raise sa.exc.OperationalError("INSERT", {}, error)

    asked.run()
    monkeypatch.setattr(streams, "append", fail)
    answer = asked.stream("r1", **history(0, range(2)))
    assert (answer.status_code, "make room" in answer.text) == (status, status == 507)
    monkeypatch.setattr(runs, "run_of", fail)
    query = '{ project(name: "tried") { run(name: "r1") { name } } }'
    answer = asked.client.post("/graphql", json={"query": query}, headers=authorization())
    assert (answer.status_code, "make room" in answer.text) == (status, status == 507), "nothing that the client takes for good"


def behind(cause: Exception) -> Exception:
    """Return an error of Optuna's as its storage raises it."""
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "cause",
    [
        sa.exc.OperationalError("SELECT", {}, Exception("server closed the connection unexpectedly")),
        sa.exc.PendingRollbackError("Can't reconnect until invalid transaction is rolled back."),
        sa.exc.TimeoutError("QueuePool limit of size 16 overflow 10 reached"),
    ],
)
def test_a_database_that_is_away_is_told_as_such_wherever_that_is_noticed(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    """A client takes any other answer for the last word, and an agent ends of it."""
    asked.run()
    for error in (cause, behind(cause)):
        monkeypatch.setattr(streams, "append", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
        assert asked.stream("r1", **history(0, range(2))).status_code == 503
        monkeypatch.setattr(runs, "count_runs", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
        answer = asked.client.post("/graphql", json={"query": '{ project(name: "tried") { runCount } }'})
        assert answer.status_code == 503, answer.text
        monkeypatch.setattr("paretune.service.web.login.Logins.account", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert asked.client.get("/someone").status_code == 503


def test_a_client_that_hangs_up_in_an_upload_leaves_nothing_behind(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    asked.run()
    path = urlsplit(upload_address(asked, "a.txt")).path
    incoming = asked.files.folder / "incoming"
    with caplog.at_level("INFO", logger="service"), listening(asked.client.app) as address:
        line = socket.create_connection((urlsplit(address).hostname, urlsplit(address).port))
        line.sendall(f"PUT {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 5000)
        wait_until(lambda: any(path.stat().st_size == 5000 for path in incoming.iterdir()))
        line.close()
        wait_until(lambda: "a client hung up" in caplog.text)
    assert list(incoming.iterdir()) == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    with asked.database.session() as session:
        assert session.scalars(sa.select(RunFile.name)).all() == []


def test_an_upload_that_finds_no_room_is_told_so(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    asked.run()
    monkeypatch.setattr(asked.files, "receive", full)
    answer = asked.client.put(upload_address(asked, "a.txt"), content=b"x")
    assert (answer.status_code, "make room" in answer.text) == (507, True)


def test_a_mutation_that_fails_changes_nothing(asked: Asked) -> None:
    change = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { name } } }"
    answer = asked.told(change, input={"name": "r9", "modelName": "new", "config": "no json"})
    assert "config must be a JSON object" in answer["errors"][0]["message"]
    assert asked.ask('{ project(name: "new") { name } }')["project"] is None


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the database sqlite:///.* cannot be opened"):
        Database(f"sqlite:///{tmp_path}/no/such/folder/service.db")


def test_what_the_client_tells_its_maker_of_its_own_use_is_taken_and_dropped(asked: Asked) -> None:
    for kind in ("metrics", "logs"):
        response = asked.client.post(f"/sdk/otel/v1/{kind}", content=b"protobuf", headers={"authorization": ""})
        assert (response.status_code, response.content) == (200, b"")
