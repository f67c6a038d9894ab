"""Several processes write to one run, each numbering its lines from 0: no line and no value is lost."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from paretune.service.store import compaction, streams
from paretune.service.store.shared_runs import client_of
from paretune.service.store.tables import Run
from tests.service.serving import Asked

HISTORY, EVENTS, LOG = "wandb-history.jsonl", "wandb-events.jsonl", "output.log"


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    asked = Asked(tmp_path)
    yield asked
    asked.searches.close()
    asked.database.close()


def row(client: str, number: int) -> str:
    return json.dumps({"_step": number, "of": client, "number": number})


def send(asked: Asked, client: str, first: int, count: int, file: str = HISTORY, **body: Any) -> None:
    lines = [row(client, number) if file != LOG else f"{client} {number}" for number in range(first, first + count)]
    answer = asked.stream("r1", client=client, files={file: {"offset": first, "content": lines}}, **body)
    assert answer.status_code == 200, answer.text


def lines_of(asked: Asked, stream: str = streams.HISTORY) -> list[str]:
    with asked.database.session() as session:
        run = session.query(Run).one()
        return [line for _, line in streams.lines_of(session, run, stream)]


def rows(asked: Asked) -> list[tuple[str, int]]:
    return [(found["of"], found["number"]) for found in map(json.loads, lines_of(asked))]


def in_order(found: Sequence[tuple[str, int]], client: str) -> list[int]:
    return [number for name, number in found if name == client]


def test_each_process_keeps_all_of_its_lines_in_order(asked: Asked) -> None:
    asked.run()
    chance = random.Random(3)
    sent = {"a": 0, "b": 0, "c": 0}
    for _ in range(60):
        client = chance.choice(list(sent))
        back, count = chance.choice([0, 0, 1, 3]), chance.randint(1, 4)  # lines before are sent again, as after a lost answer
        first = max(sent[client] - back, 0)
        send(asked, client, first, count)
        sent[client] = max(sent[client], first + count)
    found = rows(asked)
    assert len(found) == sum(sent.values())
    assert {client: in_order(found, client) for client in sent} == {client: list(range(count)) for client, count in sent.items()}


@pytest.mark.parametrize(("file", "stream"), [(EVENTS, streams.EVENTS), (LOG, streams.LOG)])
def test_events_and_console_lines_are_kept_for_each_process(asked: Asked, file: str, stream: str) -> None:
    asked.run()
    for first in (0, 2):
        for client in ("a", "b"):
            send(asked, client, first, 2, file)
    assert len(lines_of(asked, stream)) == 8


def test_a_console_line_is_rewritten_by_the_process_that_wrote_it(asked: Asked) -> None:
    asked.run()
    for client in ("a", "b"):
        send(asked, client, 0, 2, LOG)
    asked.stream("r1", client="a", files={LOG: {"offset": 1, "content": ["a, written again", "a 2"]}})
    assert lines_of(asked, streams.LOG) == ["a 0", "a, written again", "b 0", "b 1", "a 2"]


def test_lines_that_became_parquet_are_not_stored_twice(asked: Asked) -> None:
    asked.run()
    send(asked, "a", 0, 3)
    send(asked, "b", 0, 3)
    with asked.database.session() as session:
        number = session.query(Run).one().id
    assert compaction.compact(asked.database, asked.files, number) == 6
    send(asked, "a", 1, 4)
    assert rows(asked) == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2), ("a", 3), ("a", 4)]


def test_processes_that_start_after_an_ordinary_one_follow_its_lines(asked: Asked) -> None:
    asked.run()
    asked.stream("r1", files={HISTORY: {"offset": 0, "content": [row("alone", 0), row("alone", 1)]}})
    send(asked, "a", 0, 2)
    assert rows(asked) == [("alone", 0), ("alone", 1), ("a", 0), ("a", 1)]


def test_a_summary_has_what_each_process_changed_last(asked: Asked) -> None:
    asked.run()

    def summarise(client: str, **summary: Any) -> None:
        content = [json.dumps(summary)]
        assert asked.stream("r1", client=client, files={"wandb-summary.json": {"offset": 0, "content": content}}).status_code == 200

    summarise("a", loss=2.0, rank0=1)
    summarise("b", loss=1.0, rank1=1)
    summarise("a", loss=2.0, rank0=2)  # its loss is an old one
    with asked.database.session() as session:
        assert json.loads(session.query(Run).one().summary) == {"loss": 1.0, "rank0": 2, "rank1": 1}


def test_the_config_of_a_shared_run_has_the_keys_of_all_processes(asked: Asked) -> None:
    asked.run(config=json.dumps({"lr": {"value": 0.1}}))
    query = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted } }"
    values = {"name": "r1", "modelName": "tried", "config": json.dumps({"rank": {"value": 1}})}
    headers = {"X-WANDB-USE-ASYNC-FILESTREAM": "true", "X-WANDB-CLIENT-ID": "b"}
    body = {"query": query, "variables": {"input": values}, "operationName": ""}
    answer = asked.client.post("/graphql", json=body, headers=headers).json()
    assert answer["data"]["upsertBucket"]["inserted"] is False
    with asked.database.session() as session:
        assert json.loads(session.query(Run).one().config) == {"lr": {"value": 0.1}, "rank": {"value": 1}}


def test_only_marked_requests_are_of_a_shared_run() -> None:
    assert client_of({"x-wandb-async-client-id": "a"}) is None
    assert client_of({"x-wandb-use-async-filestream": "true", "x-wandb-async-client-id": "a"}) == "a"
    assert client_of({"x-wandb-use-async-filestream": "true", "x-wandb-client-id": "g"}) == "g"


def test_steps_are_the_numbers_of_the_runs_lines(asked: Asked) -> None:
    asked.run()
    for client in ("a", "b"):
        send(asked, client, 0, 2)
    send(asked, "a", 0, 3)  # sent again
    assert [json.loads(line)["_step"] for line in lines_of(asked)] == [0, 1, 2, 3, 4]


def test_a_negative_offset_is_refused(asked: Asked) -> None:
    asked.run()
    answer = asked.stream("r1", client="a", files={HISTORY: {"offset": -1, "content": ["{}"]}})
    assert answer.status_code == 400
    assert "offset must be at least 0" in answer.text
