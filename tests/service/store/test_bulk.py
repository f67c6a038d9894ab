"""Many histories in one request: the same rows as one by one, for whom may see them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from paretune.service.store import bulk, compaction
from paretune.service.store.accounts import add_user
from paretune.service.store.tables import Segment
from tests.samples import ROOT
from tests.service.serving import Asked, authorization, client, listening
from tests.service.store.histories import exact, rows, stored, stream

OTHER = "local-" + "o" * 40


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def posted(asked: Asked, key: str | None = None, **body: Any) -> Any:
    headers = authorization(key) if key else {}
    return asked.client.post("/bulk/histories", json={"project": "tried", **body}, headers=headers)


def table(asked: Asked, **body: Any) -> pa.Table:
    answer = posted(asked, **body)
    assert answer.status_code == 200, answer.text
    return pq.ParquetFile(io.BytesIO(answer.content)).read()


def read(found: pa.Table) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows with their runs."""
    forms = [(field.metadata or {}).get(b"paretune.form") for field in found.schema]
    columns = [column.to_pylist() for column in found.columns]
    result = []
    for values in zip(*columns, strict=True):
        row = {
            field.name: json.loads(value) if form else value
            for field, form, value in list(zip(found.schema, forms, values, strict=True))[1:]
            if value is not None
        }
        result.append((values[0], row))
    return result


def logged(asked: Asked) -> dict[str, list[dict[str, Any]]]:
    """Stream runs of several kinds, some ended, some not, and return their rows."""
    known = {
        "whole": [{"_step": step, "loss": step, "flag": True} for step in range(4)],
        "floats": [{"_step": step, "loss": step + 0.5, "text": "t"} for step in range(4)],
        "odd": [{"_step": 0, "loss": float("inf"), "run": "x", "deep": {"a": [1, None]}}, {"_step": 1, "none": None, "flag": 1}],
        "live": [{"_step": step, "loss": 1 / (step + 1), "a.b": step} for step in range(5)],
        "wide": [{"_step": 0, "": 1}],
        "empty": [],
    }
    for name, found in known.items():
        asked.run(name)
        stream(asked, found, run=name, **({} if name == "live" else {"complete": True}))
    return known


def test_all_rows_of_all_runs_come_in_order(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MOST_LINES", 3)
    monkeypatch.setattr(bulk, "GROUP_ROWS", 5)
    known = logged(asked)
    found = table(asked)
    assert found.schema.names[0] == "run"
    assert str(found.schema.field(0).type).startswith("dictionary")
    assert json.loads(found.schema.metadata[b"paretune.left_out"]) == ["wide"], "an empty key names no column"
    whole = [{**row, "loss": float(row["loss"])} for row in known["whole"]]  # numbers among floats are floats
    expected = [(name, row) for name in ("whole", "floats", "odd", "live") for row in {**known, "whole": whole}[name]]
    assert [name for name, _ in read(found)] == [name for name, _ in expected]
    assert exact(row for _, row in read(found)) == exact(row for _, row in expected)
    kinds = {field.name: str(field.type) for field in list(found.schema)[1:]}
    assert (kinds["loss"], kinds["_step"], kinds["a.b"], kinds["deep"], kinds["flag"]) == (
        "double",
        "int64",
        "int64",
        "string",
        "string",
    )
    assert stored(asked) == (5, 11), "what has ended is compacted first, what goes on is not"


def test_runs_and_keys_are_chosen(asked: Asked) -> None:
    logged(asked)
    for name in ("one", "two"):
        asked.run(name, sweep="s1", tags=[name])
        stream(asked, rows(3, extra=1), run=name, complete=True)

    def runs(**body: Any) -> list[str]:
        return sorted(set(table(asked, **body).column(0).to_pylist()))

    assert runs(sweep="s1") == ["one", "two"]
    assert runs(sweep="s1", filters={"tags": "two"}) == ["two"]
    assert runs(filters={"state": "running"}) == ["live"]
    assert runs(runs=["floats", "one", "absent"]) == ["floats", "one"]
    assert table(asked, sweep="s1", keys=["extra", "absent"]).column_names == ["run", "extra"]
    assert table(asked, runs=["odd"], keys=["deep.a"]).column_names == ["run", "deep"]
    assert table(asked, filters={"state": "failed"}).num_rows == 0
    assert table(asked, sweep="s1", entity="someone").num_rows == 6


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"project": None}, "project must be a name"),
        ({"sweep": 3}, "entity and sweep names or absent"),
        ({"project": "absent"}, "there is no project someone/absent"),
        ({"filters": "{}"}, "filters must be an object"),
        ({"filters": {"$odd": 1}}, "odd"),
        ({"runs": "r1"}, "runs must be a list of names"),
        ({"keys": [1]}, "keys must be a list of names"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(asked: Asked, body: dict[str, Any], sentence: str) -> None:
    asked.run()
    answer = posted(asked, **body)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]


def test_others_see_nothing(asked: Asked) -> None:
    logged(asked)
    add_user(asked.database, "other", key=OTHER)
    for body in ({"entity": "someone"}, {"entity": "nobody"}, {}):
        answer = posted(asked, OTHER, **body)
        assert (answer.status_code, "there is no project" in answer.text) == (400, True)
    assert asked.client.post("/bulk/histories", json={}, headers={"authorization": ""}).status_code == 401
    assert asked.client.post("/bulk/histories", content="[]").status_code == 400


def test_a_lost_content_is_said_before_the_first_piece(asked: Asked) -> None:
    logged(asked)
    table(asked)
    with asked.database.session() as session:
        asked.files.path(session.scalars(sa.select(Segment.digest)).all()[1]).unlink()
    answer = posted(asked)
    assert (answer.status_code, "a part of this history is missing" in answer.text) == (400, True)


LOG = """
    import json, wandb
    for number in range(6):
        run = wandb.init(project="pulled", id=f"r{number}", config={"lr": number, "hidden": [1, 2]})
        for step in range(12):
            row = {"epoch": step, "test_loss": 1.0 if step == 3 else number / (step + 1), "f1": step}
            if number == 1:
                row["extra"] = step
            if number == 2 and step % 3 == 0:
                row |= {"rare": 0.5, "deep": {"x": step}}
            if number == 3:
                row = {"test_loss": float("nan") if step == 2 else float("inf"), "word": "NaN", "flag": True, "none": None}
            if number == 4:
                row["extra"] = "text"
            run.log(row)
        if number == 5:
            run.log({"epoch": 12, "test_loss": 2**60 + 1, "f1": 1})
        run.finish()
    wandb.init(project="pulled", id="without").finish()
    print(json.dumps(None))
    """
COMPARE = """
    import json, os
    from unittest import mock
    import pandas as pd
    from paretune.analysis.sources import bulk, server
    from paretune.analysis.sources.run_record import tidy
    os.environ["WANDB_CACHE_DIR"] = "one"
    calls, pulled = [], bulk.pulled
    with mock.patch.object(bulk, "pulled", lambda *a: {}):
        single = server.server_runs("someone/pulled")
    os.environ["WANDB_CACHE_DIR"] = "many"
    with mock.patch.object(bulk, "pulled", lambda *a: calls.append(sorted(pulled(*a))) or pulled(*a)):
        many = server.server_runs("someone/pulled")
    for one, other in zip(single, many, strict=True):
        assert one.columns.keys() == other.columns.keys(), (one.run, one.columns.keys(), other.columns.keys())
    pd.testing.assert_frame_equal(tidy(single), tidy(many), check_like=True, check_exact=True)
    print(json.dumps([calls, tidy(many).shape]))
    """


@pytest.mark.slow
@pytest.mark.parametrize("compacted", [False, True])
def test_the_analysis_pulls_the_same_in_one_request_as_one_by_one(tmp_path: Path, compacted: bool) -> None:
    root = str(ROOT)
    with listening(tmp_path) as address:
        client(address, tmp_path / "c", LOG)
        if compacted:
            client(address, tmp_path / "first", COMPARE, PYTHONPATH=root)
        calls, shape = client(address, tmp_path / "c", COMPARE, PYTHONPATH=root)
    assert calls == [["r0", "r1", "r2", "r3", "r4", "r5", "without"]]
    assert shape[0] == 6 * 12 + 1 + 1


@pytest.mark.slow
def test_a_server_that_is_not_ours_is_asked_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paretune.service.graphql import accounts

    monkeypatch.setattr(accounts, "FEATURES", accounts.FEATURES[:-1])
    program = """
        import json
        import wandb
        from paretune.analysis.sources import bulk
        print(json.dumps(bulk.pulled(wandb.Api(), ADDRESS, "someone", "pulled", ["a", "b"])))
        """
    with listening(tmp_path) as address:
        root = str(ROOT)
        assert client(address, tmp_path / "c", program.replace("ADDRESS", repr(address)), PYTHONPATH=root) == {}
