"""Runs that are kept come back as they were; what is broken or of another version is none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paretune.analysis.sources import parquet_cache
from paretune.analysis.sources.run_record import RunRecord


def record(name: str, columns: dict[str, list[float]], **others: Any) -> RunRecord:
    return RunRecord(name, columns={key: np.array(values) for key, values in columns.items()}, **others)


def test_runs_come_back_with_their_marks_columns_and_summaries(tmp_path: Path) -> None:
    place = tmp_path / "new" / "runs.parquet"
    first = record(
        "a",
        {"epoch": [1.0, 2.0], "f1": [0.5, math.nan]},
        state="pruned",
        created=3.5,
        config={"x": [1, None], "y": None},
        tags=["t"],
        goals={"f1": "maximize"},
        read_summary=lambda: {"best": {"max": 1}},
    )
    second, third = record("b", {}), record("c", {"epoch": [9.0], "other": [-math.inf]}, group="g", sweep="s")
    parquet_cache.write(place, [("m1", first), ("m2", second), ("", third)])
    assert [path.name for path in place.parent.iterdir()] == ["runs.parquet"]
    found = parquet_cache.read(place)
    assert [mark for mark, _ in found] == ["m1", "m2", ""]
    for (_, run), kept in zip(found, (first, second, third), strict=True):
        assert [getattr(run, key) for key in parquet_cache.IDENTITY if key != "created"] == [
            getattr(kept, key) for key in parquet_cache.IDENTITY if key != "created"
        ]
        assert run.summary == kept.summary
        assert list(run.columns) == list(kept.columns)
        for name, column in kept.columns.items():
            np.testing.assert_array_equal(run.columns[name], column)
    assert found[0][1].created == 3.5


def test_no_runs_are_kept_as_none(tmp_path: Path) -> None:
    parquet_cache.write(tmp_path / "a.parquet", [])
    assert parquet_cache.read(tmp_path / "a.parquet") == []


@pytest.mark.parametrize("change", ["missing", "broken", "no description", "another version", "a folder"])
def test_what_is_no_file_of_ours_holds_no_runs(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a.parquet"
    if change == "broken":
        place.write_bytes(b"PAR1 nothing")
    elif change == "no description":
        pq.write_table(pa.table({"epoch": [1.0]}), place)
    elif change == "another version":
        parquet_cache.write(place, [("m", record("a", {"epoch": [1.0]}))])
        assert len(parquet_cache.read(place)) == 1
        monkeypatch.setattr(parquet_cache, "VERSION", "another")
    elif change == "a folder":
        place.mkdir()
    assert parquet_cache.read(place) == []


def test_where_nothing_can_be_written_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").mkdir()
    parquet_cache.write(tmp_path / "a.parquet", [("m", record("a", {"epoch": [1.0]}))])
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_each_source_has_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_cache, "ROOT", tmp_path)
    monkeypatch.delenv("WANDB_CACHE_DIR", raising=False)
    place = parquet_cache.place_of("online", "a/b")
    assert (place.parent, place.suffix) == (tmp_path / "runs" / ".pulled" / "online", ".parquet")
    assert parquet_cache.place_of("online", "a/b") == place
    assert len({place, parquet_cache.place_of("online", "a/c"), parquet_cache.place_of("offline", "a/b")}) == 3
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    assert parquet_cache.place_of("online", "a/b").parent == tmp_path / "cache" / ".pulled" / "online"
