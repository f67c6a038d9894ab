"""W&B's offline run files: what wandb itself wrote, and the same cut off or broken."""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wandb.proto import wandb_internal_pb2

from paretune.core.epoch import Epoch
from paretune.runs.tracking import track
from paretune.runs.wandb_files import BLOCK, read_records, read_run
from tests.analysis.truth import written_out

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)


def written(folder: Path, n_epochs: int) -> Path:
    """Let wandb write a run of `n_epochs` rows; return its file."""
    names = {"run_id": f"run{n_epochs}", "name": "some rows", "group": "tests", "tags": ["first"]}
    with track(mode="offline", quiet=True, directory=folder, **names) as tracker:
        tracker.describe({"hidden": [8, 4], "evaluation_split": "holdout", "best_metric": "f1"}, {"commit": None})
        for number in range(1, n_epochs + 1):
            tracker.log(Epoch(number, {"test_loss": 1.0 / number, "f1": number / (n_epochs + 1)}))
    (found,) = written_out(folder)
    return found


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("short"), 5)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("long"), 600)


def records_of(raw: bytes, place: Path) -> list[bytes]:
    place.write_bytes(raw)
    return list(read_records(place))


def packed(records: list[bytes]) -> bytes:
    """Write records as LevelDB's log format lays them down."""
    raw = bytearray(HEADER)
    for record in records:
        left, first = record, True
        while True:
            room = BLOCK - len(raw) % BLOCK
            if room < 7:
                raw += bytes(room)
                room = BLOCK
            piece, left = left[: room - 7], left[room - 7 :]
            kind = (1 if not left else 2) if first else (4 if not left else 3)
            raw += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
            first = False
            if not left:
                break
    return bytes(raw)


def test_the_rows_that_wandb_wrote_are_read_back(short: Path) -> None:
    run = read_run(short)
    assert run is not None
    assert (run.run_id, run.name, run.group, run.sweep, run.tags) == ("run5", "some rows", "tests", "", ["first"])
    assert run.config == {
        "hidden": [8, 4],
        "evaluation_split": "holdout",
        "best_metric": "f1",
        "provenance": {"commit": None},
    }
    assert run.state == "finished"
    assert 0 <= time.time() - run.created < 3600
    wanted = [{"epoch": n, "test_loss": 1.0 / n, "f1": n / 6} for n in range(1, 6)]
    assert [{key: row[key] for key in ("epoch", "test_loss", "f1")} for row in run.rows] == wanted
    assert [row["_step"] for row in run.rows] == [1, 2, 3, 4, 5]
    assert run.summary["best_epoch"] == 5


def test_a_run_that_was_stopped_early_is_pruned(tmp_path: Path) -> None:
    with track(mode="offline", quiet=True, directory=tmp_path) as tracker:
        tracker.log(Epoch(1, {"f1": 0.5}))
        tracker.pruned = 1
    (file,) = written_out(tmp_path)
    run = read_run(file)
    assert run is not None
    assert (run.state, run.summary["pruned"]) == ("pruned", 1)


def test_a_file_of_many_blocks_loses_no_row(long: Path) -> None:
    assert long.stat().st_size > 3 * BLOCK
    run = read_run(long)
    assert run is not None
    assert [row["epoch"] for row in run.rows] == list(range(1, 601))
    assert run.rows[-1]["f1"] == 600 / 601


def test_every_record_of_a_whole_file_is_a_message_of_wandb(long: Path) -> None:
    kinds = []
    for raw in read_records(long):
        record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        record.ParseFromString(raw)
        kinds.append(record.WhichOneof("record_type"))
    assert kinds.count("history") == 600
    assert "exit" in kinds


KEYS = st.one_of(
    st.sampled_from(["f1", "a" * 10, "b" * 18, "c" * 126, "d" * 127, "e" * 128, "f" * 200, "é", "\x12", "a\nb", "", "_wandb"]),
    st.text(max_size=12),
)
VALUES = st.one_of(
    st.floats(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.text(max_size=40),
    st.sampled_from(["x" * 125, "x" * 126, "x" * 300, '\n\x12"\x82']),
    st.lists(st.integers(), max_size=60),
    st.dictionaries(st.text(max_size=3), st.floats(), max_size=3),
)
PATHS = st.lists(KEYS, min_size=1, max_size=3, unique=True)
ITEMS = st.lists(st.tuples(PATHS, VALUES, st.booleans()), max_size=20, unique_by=lambda item: item[0][0])


@given(st.lists(st.tuples(ITEMS, st.sampled_from(["history", "summary"]), st.integers(-1, 300)), max_size=8))
def test_the_quick_reading_gives_what_protobuf_gives(tmp_path_factory: pytest.TempPathFactory, sent: Any) -> None:
    records: list[Any] = []
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for number, (items, kind, step) in enumerate([([], "run", 0), *sent]):
        record: Any = wandb_internal_pb2.Record(num=number)  # type: ignore[attr-defined]
        if kind == "run":
            record.run.run_id = "x"
        row: dict[str, Any] = {}
        for path, value, as_key in items:
            item = record.history.item.add() if kind == "history" else record.summary.update.add()
            if as_key and len(path) == 1:
                item.key = path[0]
            else:
                item.nested_key.extend(path)
            item.value_json = json.dumps(value, ensure_ascii=as_key)
            if path[0] != "_wandb":
                place = row if kind == "history" else summary
                for part in path[:-1]:
                    inner = place.get(part)
                    inner = inner if isinstance(inner, dict) else {}
                    place[part] = inner
                    place = inner
                place[path[-1]] = value
        if kind == "history":
            record.history.SetInParent()
            if step >= 0:
                record.history.step.num = step
            rows.append(row)
        records.append(record.SerializeToString())
    file = tmp_path_factory.mktemp("sent") / "run-x.wandb"
    file.write_bytes(packed(records))
    run = read_run(file)
    assert run is not None
    assert json.dumps(run.rows, sort_keys=True) == json.dumps(rows, sort_keys=True)  # NaN is not equal to itself
    assert json.dumps(run.summary, sort_keys=True) == json.dumps(summary, sort_keys=True)


def test_a_short_file_cut_off_anywhere_gives_a_prefix_of_its_records(short: Path, tmp_path: Path) -> None:
    whole = list(read_records(short))
    before, cut = len(whole), tmp_path / "cut"
    cut.write_bytes(short.read_bytes())
    for size in range(cut.stat().st_size - 1, -1, -1):
        os.truncate(cut, size)
        found = list(read_records(cut))
        assert found == whole[: len(found)]
        assert before - 1 <= len(found) <= before  # a byte less never gives a record more, and loses one at most
        before = len(found)
    assert before == 0


def test_a_long_file_cut_off_anywhere_gives_a_prefix_of_its_records(long: Path, tmp_path: Path) -> None:
    raw = long.read_bytes()
    whole = list(read_records(long))
    edges = [edge + step for edge in range(BLOCK, len(raw), BLOCK) for step in range(-9, 10)]
    for size in [*range(0, len(raw), 2999), *edges, *range(len(raw) - 4096, len(raw), 37)]:
        found = records_of(raw[:size], tmp_path / "cut")
        assert found == whole[: len(found)]
        assert len(found) < len(whole)


def test_a_run_file_cut_off_anywhere_gives_a_prefix_of_its_rows(short: Path, tmp_path: Path) -> None:
    raw, whole = short.read_bytes(), read_run(short)
    assert whole is not None
    seen = set()
    for size in range(0, len(raw), 23):
        (tmp_path / "cut").write_bytes(raw[:size])
        run = read_run(tmp_path / "cut")
        rows = [] if run is None else run.rows
        assert rows == whole.rows[: len(rows)]
        assert run is None or run.state == "running"
        seen.add(len(rows))
    assert seen == {0, 1, 2, 3, 4, 5}


def test_a_flipped_byte_costs_one_record_at_most_and_is_damage(short: Path, tmp_path: Path) -> None:
    raw, rows = short.read_bytes(), read_run(short).rows  # type: ignore[union-attr]
    whole = list(read_records(short))
    last = raw.rindex(whole[-1]) - len(HEADER)  # in its header a flipped byte may look like a cut
    for place in range(len(HEADER), last, 11):
        broken = raw[:place] + bytes([raw[place] ^ 0x40]) + raw[place + 1 :]
        found = records_of(broken, tmp_path / "run-run5.wandb")
        assert len(found) == len(whole) - 1
        assert [record for record in whole if record in found] == found
        run = read_run(tmp_path / "run-run5.wandb")
        assert run is not None
        assert (run.run_id, run.state, run.damaged) == ("run5", "damaged", (str(tmp_path / "run-run5.wandb"),))
        assert len(run.rows) >= len(rows) - 1
        assert all(row in rows for row in run.rows)


DAMAGES = {
    "a byte is flipped": lambda raw, place: raw[:place] + bytes([raw[place] ^ 0x40]) + raw[place + 1 :],
    "bytes are missing": lambda raw, place: raw[:place] + raw[place + 50 :],
    "bytes were put in": lambda raw, place: raw[:place] + b"something else" + raw[place:],
    "zeros": lambda raw, place: raw[:place] + bytes(200) + raw[place + 200 :],
    "a block of garbage": lambda raw, place: raw[:place] + bytes(range(256)) * 128 + raw[place + BLOCK :],
    "text behind a cut": lambda raw, place: raw[:place] + b"text" * BLOCK,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_long_file_damaged_in_the_middle_keeps_the_rows_around_it(long: Path, tmp_path: Path, damage: str) -> None:
    raw, whole = long.read_bytes(), read_run(long)
    assert whole is not None
    file = tmp_path / "run-run600.wandb"
    for place in range(BLOCK // 2, len(raw) - 2 * BLOCK, 7001):  # the last row stays behind the longest damage
        file.write_bytes(DAMAGES[damage](raw, place))
        run = read_run(file)
        assert run is not None
        assert run.state == "damaged"
        assert all(row in whole.rows for row in run.rows)
        assert run.rows[0] == whole.rows[0]
        if damage != "text behind a cut":
            assert run.rows[-1] == whole.rows[-1]
            assert len(run.rows) > len(whole.rows) * 0.5
            assert run.summary["best_epoch"] == 600


def test_a_length_that_leads_beyond_the_end_is_damage_where_records_follow(tmp_path: Path) -> None:
    raw = packed([b"first", b"second", b"third"])
    at = raw.index(b"first") - 3
    file = tmp_path / "run-x.wandb"
    assert records_of(raw[:at] + struct.pack("<H", 9000) + raw[at + 2 :], file) == [b"second", b"third"]


def test_a_run_whose_own_record_is_lost_has_the_id_of_its_file(short: Path, tmp_path: Path) -> None:
    raw, whole = short.read_bytes(), read_run(short)
    assert whole is not None
    first = raw.index(b"some rows")
    file = tmp_path / "run-run5.wandb"
    file.write_bytes(raw[:first] + b"x" + raw[first + 1 :])
    run = read_run(file)
    assert run is not None
    assert (run.run_id, run.state, run.name, run.rows) == ("run5", "damaged", "", whole.rows)


@pytest.mark.parametrize(
    "raw",
    [b"", b":W&B", HEADER, HEADER + bytes(100), b":W&B\xe1\xbe\x01" + bytes(50), b"not a run file at all" * 10, b"\x00" * 40_000],
    ids=["empty", "4 bytes", "7 bytes", "zeros after the header", "another version", "text", "zeros"],
)
def test_a_file_without_records_gives_nothing(raw: bytes, tmp_path: Path) -> None:
    assert records_of(raw, tmp_path / "run-x.wandb") == []
    assert read_run(tmp_path / "run-x.wandb") is None


@given(sizes=st.lists(st.one_of(st.integers(0, 60), st.integers(BLOCK - 40, BLOCK + 20), st.integers(0, 3 * BLOCK)), max_size=6))
def test_records_of_any_size_come_back_whole(sizes: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    records = [bytes([65 + place % 26]) * size for place, size in enumerate(sizes)]
    assert records_of(packed(records), tmp_path_factory.getbasetemp() / "packed") == records


def test_a_record_whose_last_piece_is_missing_is_not_read(tmp_path: Path) -> None:
    raw = packed([b"first", b"x" * (BLOCK + 100)])
    assert records_of(raw[:BLOCK], tmp_path / "cut") == [b"first"]


def test_a_long_file_cut_off_near_its_end_gives_a_prefix_of_its_rows(long: Path, tmp_path: Path) -> None:
    whole = read_run(long)
    assert whole is not None
    cut = tmp_path / "run-cut.wandb"
    cut.write_bytes(long.read_bytes())
    size, before = cut.stat().st_size, len(whole.rows)
    # every byte of the last rows, then one of six: each record's seven bytes of a header are cut at one at least
    for place in (*range(size - 1, size - 513, -1), *range(size - 513, size - 4097, -6)):
        os.truncate(cut, place)
        run = read_run(cut)
        assert run is not None
        assert len(run.rows) <= before
        assert run.rows == whole.rows[: len(run.rows)]
        before = len(run.rows)
    assert before < len(whole.rows)
