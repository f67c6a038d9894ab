"""Histories of many runs from one Parquet file: the same columns as run by run; none from a server that is not ours."""

from __future__ import annotations

import io
import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from paretune.analysis.sources import bulk
from paretune.analysis.sources.run_record import columns_of

ADDRESS = "http://ours.example"


def file_of(columns: dict[str, Any], left_out: list[str] = [], json_columns: tuple[str, ...] = ()) -> bytes:  # noqa: B006
    """Return what the server answers: the rows of all runs, the first column their ids."""
    table = pa.table({**columns, "run": pa.array(columns["run"]).dictionary_encode()})
    fields = [field.with_metadata({bulk.FORM: b"json"}) if field.name in json_columns else field for field in table.schema]
    table = table.cast(pa.schema(fields, {bulk.LEFT_OUT: json.dumps(left_out).encode()}))
    written = io.BytesIO()
    pq.write_table(table, written)
    return written.getvalue()


class Server:
    """Stands in for the server behind `requests.Session`."""

    def __init__(self, content: bytes = b"", *, status: int = 200, features: Any = (bulk.FEATURE,)) -> None:
        self.content, self.status, self.features = content, status, features
        self.posted: list[str] = []

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def post(self, url: str, **_: Any) -> Any:
        self.posted.append(url.removeprefix(ADDRESS))
        if url.endswith("/graphql"):
            if self.features is None:
                raise requests.ConnectionError
            known = [{"name": name, "isEnabled": True} for name in self.features]
            return SimpleNamespace(json=lambda: {"data": {"serverInfo": {"features": [*known, {"name": "X", "isEnabled": False}]}}})
        return SimpleNamespace(status_code=self.status, content=self.content)


def pulled(
    monkeypatch: pytest.MonkeyPatch, server: Server, runs: list[str], *, address: str = ADDRESS, key: str | None = "k"
) -> dict[str, dict[str, np.ndarray]]:
    monkeypatch.setattr(requests, "Session", lambda: server)
    return bulk.pulled(SimpleNamespace(api_key=key), address, "e", "p", runs)


COLUMNS: dict[str, Any] = {
    "run": ["a", "a", "b", "c", "c", "d"],
    "epoch": [1, 2, None, 1, 2, 1],
    "f1": [0.5, 0.6, None, 0.1, None, 0.3],
    "_step": [0, 1, 7, 0, 1, 0],
    "own": [None, None, 3.0, None, None, None],
    "text": [None, None, None, "x", None, None],
    "nested": [None, None, None, None, None, '{"x": 1, "y": "NaN"}'],
}


def test_the_columns_of_each_run_are_those_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(file_of(COLUMNS, json_columns=("nested",)))
    found = pulled(monkeypatch, server, ["a", "b", "c", "d", "without rows"])
    expected = {
        "a": [{"epoch": 1, "f1": 0.5, "_step": 0}, {"epoch": 2, "f1": 0.6, "_step": 1}],
        "b": [{"_step": 7, "own": 3.0}],
        "c": [{"epoch": 1, "f1": 0.1, "_step": 0, "text": "x"}, {"epoch": 2, "_step": 1}],
        "d": [{"epoch": 1, "f1": 0.3, "_step": 0, "nested": {"x": 1, "y": "NaN"}}],
        "without rows": [],
    }
    assert sorted(found) == sorted(expected)
    for run, rows in expected.items():
        one_by_one = columns_of(rows)
        assert list(found[run]) == list(one_by_one), run
        for name, column in one_by_one.items():
            np.testing.assert_array_equal(found[run][name], column)
            assert found[run][name].dtype == np.float64
    assert server.posted == ["/graphql", "/bulk/histories"]
    assert math.isnan(found["d"]["nested.y"][0])


def test_a_run_that_the_server_left_out_is_to_be_asked_for_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pulled(monkeypatch, Server(file_of({"run": ["a"], "epoch": [1], "f1": [0.5]}, left_out=["b"])), ["a", "b", "c"])
    assert sorted(found) == ["a", "c"]


def test_no_rows_at_all_are_no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"run": pa.array([], pa.string()), "epoch": pa.array([], pa.int64())}
    assert pulled(monkeypatch, Server(file_of(columns)), ["a", "b"]) == {"a": {}, "b": {}}


@pytest.mark.parametrize(
    ("server", "posted"),
    [
        (Server(features=["X"]), ["/graphql"]),
        (Server(features=()), ["/graphql"]),
        (Server(features=None), ["/graphql"]),
        (Server(status=404), ["/graphql", "/bulk/histories"]),
        (Server(b"no parquet"), ["/graphql", "/bulk/histories"]),
    ],
    ids=["another server", "no features", "no answer", "refused", "broken"],
)
def test_a_server_that_cannot_say_them_at_once_gives_none(
    monkeypatch: pytest.MonkeyPatch, server: Server, posted: list[str]
) -> None:
    assert pulled(monkeypatch, server, ["a", "b"]) == {}
    assert server.posted == posted


@pytest.mark.parametrize(
    ("runs", "address", "key"), [(["a"], ADDRESS, "k"), (["a", "b"], bulk.CLOUD, "k"), (["a", "b"], ADDRESS, None)]
)
def test_for_one_run_at_wandb_or_without_a_key_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch, runs: list[str], address: str, key: str | None
) -> None:
    server = Server(file_of({"run": ["a"], "epoch": [1], "f1": [0.5]}))
    assert pulled(monkeypatch, server, runs, address=address, key=key) == {}
    assert server.posted == []
