"""Texts that an older version stored and no database should hold (NUL, half surrogate pairs) harm nothing after the upgrade."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from paretune.service.store import compaction, migrations, streams
from paretune.service.store.database import Database
from paretune.service.store.tables import Chunk, Run, Sweep, View
from tests.postgres import needs_postgres, postgres
from tests.service.browsing import Shown
from tests.service.serving import KEY, authorization
from tests.service.sweeps.test_sweeps import agent, beat, created

BAD = ["\0", "\ud800", "a\0b\udc00"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.slow, needs_postgres])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'service.db'}"
        return
    with postgres(tmp_path) as url:
        yield url


def spoil(database: Database) -> None:
    """Write into the rows what an older version wrote as it came."""
    config = json.dumps({f"k{bad}": {"value": {bad: [bad]}} for bad in BAD})
    summary = json.dumps({"loss": 1.0, "m\0": 1, "m\ufffd": 2, **{bad: bad for bad in BAD}})
    keys = json.dumps({f"loss{bad}": {"kinds": {"number": 3}, "last": 1.0} for bad in BAD})
    lines = [json.dumps({"_step": step, "loss": step, f"loss{BAD[step]}": 1.0, "text": BAD[step]}) for step in range(3)]
    raw = "a\0b" if database.is_sqlite else "ab"
    values = {"config": config, "summary": summary, "tags": json.dumps(BAD), "history_keys": keys}
    with database.engine.begin() as connection:  # past the types that make texts fit
        for table, changed in {
            Run: {**values, "display_name": raw, "notes": raw, "group_name": raw},
            Sweep: {"definition": 'method: random\nparameters: {x: {values: ["\\0", "\\ud800", b]}}', "display_name": raw},
            View: {"spec": json.dumps({"section": {"panelBankConfig": {"sections": []}, "runSets": [], "name": BAD[1]}})},
        }.items():
            columns = ", ".join(f'"{name}" = :{name}' for name in changed)
            connection.execute(sa.text(f"UPDATE {table.__tablename__} SET {columns}"), changed)
        history = sa.update(Chunk).where(Chunk.stream == "history")
        connection.execute(history.values(content=zlib.compress("\n".join(lines).encode())))
        insert = "INSERT INTO run_value (run_id, place, key, number, text) VALUES (1, 's', :key, :number, :text)"
        rows = [{"key": "m\ufffd", "number": 2, "text": None}, {"key": "t", "number": None, "text": raw}]
        rows += [{"key": "m\0", "number": 1, "text": None}] if database.is_sqlite else []
        connection.execute(sa.text(insert), rows)
        for undone in (
            "DROP TABLE run_element",
            "ALTER TABLE run_value DROP COLUMN kind",
            "ALTER TABLE run_value DROP COLUMN size",
        ):
            connection.execute(sa.text(undone))
        (step,) = (migrations.FOLDER / "versions").glob("*_texts_that_every_database_holds.py")
        before = f"{int(step.name[:4]) - 1:04}"
        connection.execute(sa.text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = :before"), {"before": before})


def test_pages_listings_and_summaries_work_and_the_sweep_goes_on(url: str, tmp_path: Path) -> None:
    first = Shown(tmp_path / "service", url)
    first.run("r1")
    history = [json.dumps({"_step": step, "loss": step}) for step in range(3)]
    assert first.stream("r1", files={"wandb-history.jsonl": {"offset": 0, "content": history}}).status_code == 200
    _, sweep = created(first, parameters={"x": {"values": ["a", "b"]}})
    query = "mutation V($i: UpsertViewInput!) { upsertView(input: $i) { view { id } } }"
    view = {"entityName": "someone", "projectName": "tried", "type": "project-view", "name": "nw-one-v", "spec": "{}"}
    first.ask(query, i=view)
    spoil(first.database)
    first.searches.close()
    asked = first
    asked.database.close()
    asked.database = Database(url)  # as the next version opens it
    asked.client = TestClient(asked.application(tmp_path / "service"), headers=authorization(), raise_server_exceptions=False)
    asked.browser = asked.another(KEY)
    fields = "name displayName config summaryMetrics tags historyKeys history(samples: 9) historyTail "
    fields += 'sampledHistory(specs: ["{\\"keys\\": [\\"loss\\"]}"])'
    listed = f'{{ project(name: "tried") {{ runs {{ edges {{ node {{ {fields} }} }} }} sweeps {{ edges {{ node {{ config }} }} }} '
    answer: Any = asked.ask(listed + "allViews { edges { node { spec } } } } }")
    json.dumps(answer, ensure_ascii=False).encode()
    node = answer["project"]["runs"]["edges"][0]["node"]
    for text in (
        node["config"],
        node["summaryMetrics"],
        *node["history"],
        answer["project"]["sweeps"]["edges"][0]["node"]["config"],
    ):
        assert not [bad for bad in ("\\u0000", "\\ud800", "\\udc00", "\\0") if bad in text], text
    pages = ["", "/runs", "/runs.csv", "/sweeps", f"/sweeps/{sweep}", f"/sweeps/{sweep}/data.json", "/views", "/runs/r1"]
    for page in [*pages, "/runs/r1/history.json", "/runs?sort=summary.loss", "/runs?group=tag"]:
        assert asked.browser.get(f"/someone/tried{page}", follow_redirects=True).status_code == 200, page
    for value in (1, 2):
        summary = json.dumps({"m\0": value, "m\ufffd": value, "sound": value, "t": "x"})
        assert asked.stream("r1", files={"wandb-summary.json": {"offset": 0, "content": [summary]}}).status_code == 200
    more = json.dumps({"_step": 3, "loss": 3, "loss\0": 1.0})
    files = {"wandb-history.jsonl": {"offset": 3, "content": [more]}}
    assert asked.stream("r1", files=files, complete=True).status_code == 200
    assert compaction.compact_due(asked.database, asked.files) == 4
    with asked.database.session() as session:
        run = session.scalars(sa.select(Run).where(Run.name == "r1")).one()
        assert [row["loss"] for row in streams.rows_of(session, run)] == [0, 1, 2, 3]
        assert json.loads(run.summary)["sound"] == 2
    assert beat(asked, agent(asked, sweep))[0]["type"] == "run"
    asked.searches.close()
    asked.database.close()
