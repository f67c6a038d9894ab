"""What no database holds (NUL, half of a surrogate pair) harms neither the request it is in nor the answers of others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml

from paretune.service.store import streams
from paretune.service.store.safe_json import fit
from paretune.service.store.tables import Run
from tests.postgres import needs_postgres, postgres
from tests.service.serving import Asked

BAD = ["\0", "\ud800", "\udc00x\ud800", "a\0b\ud83d"]
LISTED = 'query { project(name: "tried", entityName: "someone") { runs { edges { node { name config summaryMetrics tags } } } } }'


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.slow, needs_postgres])])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Asked]:
    if request.param == "sqlite":
        asked = Asked(tmp_path / "service")
        yield asked
        asked.searches.close()
        asked.database.close()
        return
    with postgres(tmp_path) as url:
        asked = Asked(tmp_path / "service", url)
        yield asked
        asked.searches.close()
        asked.database.close()


def test_runs_with_unfit_texts_are_stored_listed_and_shown(asked: Asked) -> None:
    for bad in BAD:
        name = f"r{BAD.index(bad)}"
        config = json.dumps({f"k{bad}": {"value": {bad: [bad]}}, f"k{bad}2": {"value": bad}})
        asked.run(name, config=config, tags=[bad, "b"], displayName=bad, notes=bad, groupName=bad, jobType=bad)
        for value in (1, 2, 3):
            summary = json.dumps({f"m{bad}": value, "m\ufffd": value, bad: bad, "sound": value})
            row = json.dumps({"_step": value, f"m{bad}": value, "sound": value})
            line = json.dumps({"ts": "2026-01-01T00:00:00Z", "content": f"line {bad}"})
            files = {
                "wandb-summary.json": {"offset": 0, "content": [summary]},
                "wandb-history.jsonl": {"offset": value - 1, "content": [row]},
                "output.log": {"offset": value - 1, "content": [line]},
            }
            assert asked.stream(name, files=files).status_code == 200
    listed = [edge["node"] for edge in asked.ask(LISTED)["project"]["runs"]["edges"]]
    json.dumps(listed, ensure_ascii=False).encode()
    assert [json.loads(node["summaryMetrics"])["sound"] for node in listed] == [3] * len(BAD)
    with asked.database.session() as session:
        for run in session.scalars(sa.select(Run)).all():
            assert run.history_lines == run.log_lines == 3
            assert [found["sound"] for found in streams.rows_of(session, run)] == [1, 2, 3]


def test_a_sweep_with_unfit_texts_is_stored_and_shown(asked: Asked) -> None:
    query = "mutation M($input: UpsertSweepInput!) { upsertSweep(input: $input) { sweep { name config displayName } } }"
    for bad in BAD:
        definition = json.dumps({"method": "random", "name": bad, "program": "t.py", "parameters": {"x": {"values": [bad, "b"]}}})
        values = {"config": definition, "projectName": "tried", "entityName": "someone"}
        sweep = asked.ask(query, input=values)["upsertSweep"]["sweep"]
        json.dumps(sweep, ensure_ascii=False).encode()
        assert set(yaml.safe_load(sweep["config"])["parameters"]["x"]["values"]) == {fit(bad), "b"}
        assert asked.client.get(f"/someone/tried/sweeps/{sweep['name']}", follow_redirects=True).status_code == 200


def test_an_unfit_part_of_a_request_does_not_take_the_others_along(asked: Asked) -> None:
    asked.run()
    sound = {"offset": 0, "content": [json.dumps({"_step": 0, "loss": 1.0})]}
    unfit = [{"offset": 0, "content": ["no JSON"]}, {"offset": -1, "content": ["{}"]}, {"offset": 0, "content": "text"}]
    for number, part in enumerate(unfit):
        files = {"wandb-events.jsonl": part, "wandb-history.jsonl": {**sound, "offset": number}}
        assert asked.stream("r1", files=files).status_code == 200
    with asked.database.session() as session:
        run = session.scalars(sa.select(Run)).one()
        assert (run.history_lines, run.event_lines) == (3, 0)
    assert asked.stream("r1", files={"wandb-events.jsonl": unfit[0]}).status_code == 400


def test_an_unfit_line_does_not_take_the_others_along(asked: Asked) -> None:
    asked.run()
    lines = [json.dumps({"_step": 0, "loss": 1.0}), "[]", "no JSON", json.dumps({"_step": 3, "loss": 2.0})]
    for client in (None, "a"):
        assert asked.stream("r1", client=client, files={"wandb-history.jsonl": {"offset": 0, "content": lines}}).status_code == 200
    with asked.database.session() as session:
        run = session.scalars(sa.select(Run)).one()
        assert [row.get("loss") for row in streams.rows_of(session, run)] == [1.0, None, None, 2.0] * 2


def test_an_unfit_exit_code_loses_no_line(asked: Asked) -> None:
    asked.run()
    files = {"wandb-history.jsonl": {"offset": 0, "content": [json.dumps({"loss": 1.0})]}}
    assert asked.stream("r1", files=files, complete=True, exitcode=2**40).status_code == 200
    with asked.database.session() as session:
        run = session.scalars(sa.select(Run)).one()
        assert (run.history_lines, run.state) == (1, "failed")


@pytest.mark.parametrize(
    "definition",
    [
        'x: &a [*a]\nname: "\\0"',
        'x: 2026-13-45\nname: "\\0"',
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 13)}]\n" for i in range(1, 12)) + 'name: "\\0"',
    ],
)
def test_a_definition_that_cannot_be_read_is_refused_at_once(asked: Asked, definition: str) -> None:
    query = "mutation M($input: UpsertSweepInput!) { upsertSweep(input: $input) { sweep { name } } }"
    answer = asked.told(query, input={"config": definition, "projectName": "tried", "entityName": "someone"})
    assert "the server failed" not in answer["errors"][0]["message"]


def test_a_run_ends_although_a_part_of_its_last_request_is_unfit(asked: Asked) -> None:
    asked.run()
    files = {
        "wandb-summary.json": {"offset": 0, "content": ["no JSON"]},
        "wandb-history.jsonl": {"offset": 0, "content": [json.dumps({"loss": 1.0})]},
    }
    assert asked.stream("r1", files=files, complete=True, exitcode=0).status_code == 200
    with asked.database.session() as session:
        assert session.scalars(sa.select(Run)).one().state == "finished"


@pytest.mark.parametrize("field", ["history(minStep: $value)", "history(maxStep: $value)", "sampledHistory(specs: [$value])"])
@pytest.mark.parametrize("value", [1.5, True, 10**30, "one", {}, "1e309", '{"keys": ["\\ud800", "loss"]}', "[" * 10**5])
def test_values_of_other_kinds_and_texts_within_texts_are_answered_or_refused(asked: Asked, field: str, value: object) -> None:
    asked.run()
    asked.stream("r1", files={"wandb-history.jsonl": {"offset": 0, "content": ['{"_step": 0, "loss": 1}']}})
    kind = "JSONString!" if "specs" in field else "Int64"
    query = f'query Q($value: {kind}) {{ project(name: "tried") {{ run(name: "r1") {{ {field} }} }} }}'
    assert "the server failed" not in json.dumps(asked.told(query, value=value), ensure_ascii=False).encode().decode()
