"""What the server tells of itself, and how often it may be asked."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from paretune.service.http import auth
from paretune.service.http.metrics import JsonLines, Observer, Sparing
from tests.service.serving import KEY, Asked, authorization

WRONG = "local-" + "w" * 40


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


@pytest.fixture
def limiters_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Stop the limiter's clock; the list's first value is the time."""
    clock = [1_700_000_000.0]
    monkeypatch.setattr("limits.storage.memory.time.time", lambda: clock[0])
    return clock


def numbers(asked: Asked) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return what /metrics says: a number by its name and its labels' values."""
    text = asked.client.get("/metrics", headers=authorization()).text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {(sample.name, tuple(sample.labels.values())): sample.value for sample in samples}


def test_prometheus_reads_requests_lines_runs_and_needs_a_key(asked: Asked) -> None:
    assert asked.client.get("/metrics", headers=authorization(WRONG)).status_code == 401
    for name in ("r1", "r2", "r3"):
        asked.run(name)
    asked.stream("r1", files={"wandb-history.jsonl": {"offset": 0, "content": ['{"_step": 0}', '{"_step": 1}']}}, complete=True)
    asked.stream("r2", files={"output.log": {"offset": 0, "content": ["a line"]}})
    found = numbers(asked)
    assert found["paretune_requests_total", ("graphql", "M", "200")] == 3
    assert found["paretune_requests_total", ("file_stream", "", "200")] == 2
    assert found["paretune_requests_total", ("metrics", "", "401")] == 1
    assert found["paretune_request_seconds_count", ("file_stream",)] == 2
    assert found["paretune_lines_total", ()] == 3
    assert (found["paretune_runs", ("running",)], found["paretune_runs", ("finished",)]) == (2, 1)
    assert found["paretune_agents", ()] == 0


def test_operations_of_endless_names_are_counted_as_one(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.service.http.metrics.MOST_OPERATIONS", 5)
    for number in range(20):
        asked.ask(f"query Q{number} {{ viewer {{ id }} }}")
    found = [key for key in numbers(asked) if key[0] == "paretune_requests_total" and key[1][0] == "graphql"]
    assert len(found) == 6
    assert ("paretune_requests_total", ("graphql", "other", "200")) in found


def test_a_request_is_a_line_of_json_without_its_address(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="service.requests")
    asked.ask("query Q { viewer { id } }")
    asked.client.put("/uploads/a-forged-permission", content=b"x")
    first, second = (json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "service.requests")
    expected = {"level": "debug", "handler": "graphql", "operation": "Q", "status": 200, "user": "someone", "method": "POST"}
    assert expected.items() <= first.items()
    assert first["seconds"] >= 0
    assert (second["level"], second["handler"], second["status"]) == ("warning", "upload", 403)
    assert "a-forged-permission" not in json.dumps(second)


def test_an_error_is_one_line_with_its_traceback() -> None:
    try:
        raise ValueError("oh")
    except ValueError:
        import sys

        record = logging.LogRecord("service", logging.ERROR, "f", 1, "it %s", ("failed",), sys.exc_info())
    line = JsonLines().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert (found["message"], found["level"]) == ("it failed", "error")
    assert "ValueError: oh" in found["exception"]


def test_who_asks_too_often_is_told_to_wait(tmp_path: Path, limiters_clock: list[float]) -> None:
    asked = Asked(tmp_path)
    client = TestClient(asked.application(tmp_path, rate=3), headers=authorization())
    answers = [client.post("/graphql", json={"query": "{ viewer { id } }"}) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].headers["retry-after"] == "1"
    assert "more than 3 requests a second" in answers[-1].json()["error"]
    limiters_clock[0] += 1.5
    assert client.post("/graphql", json={"query": "{ viewer { id } }"}).status_code == 200


def test_wrong_keys_are_not_looked_up_for_ever(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    real = auth.account_of
    monkeypatch.setattr(auth, "account_of", lambda database, key: (looked_up.append(key), real(database, key))[1])
    answers = [asked.client.post("/graphql", headers=authorization(WRONG), json={"query": "{ viewer { id } }"}) for _ in range(65)]
    assert [answer.status_code for answer in answers] == [401] * 60 + [429] * 5
    assert len(looked_up) == 1


def test_a_key_in_use_is_not_refused_for_the_wrong_ones_of_its_neighbours(asked: Asked) -> None:
    asked.ask("{ viewer { id } }", key=KEY)
    for _ in range(65):
        asked.client.post("/graphql", headers=authorization(WRONG), json={"query": "{ viewer { id } }"})
    asked.ask("{ viewer { id } }", key=KEY)


def test_the_observer_of_one_server_counts_nothing_of_another(tmp_path: Path) -> None:
    one, other = Asked(tmp_path / "one"), Asked(tmp_path / "other")
    one.run("r1")
    assert ("paretune_requests_total", ("graphql", "M", "200")) not in numbers(other)
    assert isinstance(Observer(one.database).exposed(), bytes)


def test_a_logger_that_writes_very_many_warnings_is_cut_short() -> None:
    sparing, written = Sparing(), []
    for number in range(1000):
        record = logging.makeLogRecord({"name": "service", "levelno": logging.WARNING, "msg": "refused %d", "args": (number,)})
        record.created = 1000.0 + number / 1000
        written += [record.getMessage()] if sparing.filter(record) else []
    assert written == [f"refused {number}" for number in range(100)]
    other = logging.makeLogRecord({"name": "uvicorn.error", "levelno": logging.ERROR, "msg": "another", "created": 1000.5})
    info = logging.makeLogRecord({"name": "service", "levelno": logging.INFO, "msg": "nothing", "created": 1000.5})
    assert sparing.filter(other)
    assert sparing.filter(info)
    later = logging.makeLogRecord({"name": "service", "levelno": logging.WARNING, "msg": "refused again", "created": 1061.0})
    assert sparing.filter(later)
    assert later.getMessage() == "refused again (900 lines of service were left out before this one)"
