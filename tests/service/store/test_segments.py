"""Histories in Parquet: exactly the rows that were streamed, whatever they hold, and however the server ended meanwhile."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from paretune.core.errors import UsageError
from paretune.service.store import columns, compaction, segments, streams
from paretune.service.store.database import Database
from paretune.service.store.tables import Chunk, Run, Segment
from tests.postgres import binaries, postgres
from tests.service.serving import Asked

RUN = 'query($run: String!) { project(name: "tried", entityName: "someone") { run(name: $run) { %s } } }'


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def exact(rows: Any) -> list[str]:
    """Return rows as texts, in which 1, 1.0 and true differ and NaN is NaN."""
    return [json.dumps(row, sort_keys=True) for row in rows]


def rows(count: int, first: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [{"_step": step, "loss": 1 / (step + 1), **more} for step in range(first, first + count)]


def stream(asked: Asked, logged: list[dict[str, Any]], first: int = 0, run: str = "r1", **body: Any) -> None:
    lines = [json.dumps(row) for row in logged]
    answer = asked.stream(run, files={"wandb-history.jsonl": {"offset": first, "content": lines}}, **body)
    assert answer.status_code == 200, answer.text


def compact(asked: Asked) -> int:
    return compaction.compact_due(asked.database, asked.files)


def kept(asked: Asked, run: str = "r1", **which: Any) -> list[dict[str, Any]]:
    with asked.database.session() as session:
        found = session.scalars(sa.select(Run).where(Run.name == run)).one()
        return list(streams.rows_of(session, found, **which))


def stored(asked: Asked) -> tuple[int, int]:
    """Return how many lines of histories lie in chunks, and how many in segments."""
    with asked.database.session() as session:
        chunks = session.scalar(sa.select(sa.func.coalesce(sa.func.sum(Chunk.count), 0)).where(Chunk.stream == "history"))
        return int(chunks or 0), int(session.scalar(sa.select(sa.func.coalesce(sa.func.sum(Segment.count), 0))) or 0)


def of_run(asked: Asked, fields: str, run: str = "r1") -> Any:
    return asked.ask(RUN % fields, run=run)["project"]["run"]


# -- rows as columns

SIMPLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=4),
)
VALUES = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2))
KINDS = [st.integers(-(2**70), 2**70), st.integers(-5, 5) | st.floats(), st.floats(), st.booleans(), st.text(max_size=3), VALUES]


@st.composite
def logged_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = st.sampled_from(["a", "a.b", "a.b.c", "x/y", "_step", "line", "ü"]) | st.text(
        st.characters(exclude_categories=()), max_size=3
    )
    kinds = draw(st.dictionaries(names, st.sampled_from(KINDS), max_size=5))
    row = st.fixed_dictionaries({}, optional=kinds)
    full = st.fixed_dictionaries(kinds)
    return draw(st.lists(draw(st.sampled_from([row, full])), min_size=1, max_size=8))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([{}, {"": 1}])
@example([{}, {}])
@example([{"a": None}, {}])
@example([{"a": 2**53 + 1}, {"a": 0.5}])
@example([{"a": 1}, {"a": True}, {"a": -0.0}])
@given(logged_rows())
def test_any_rows_come_back_as_they_were(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row) for row in logged]
    path = tmp_path / "history.parquet"
    path.write_bytes(columns.write(columns.table_of(lines)))
    assert exact(columns.rows_of(columns.read(path))) == exact(logged)
    part = columns.read(path, start=1, stop=3)
    assert exact(columns.rows_of(part, range(1, 1 + part.num_rows))) == exact(logged[1:3])
    assert exact(columns.rows_of(columns.read(path).take([0, len(lines) - 1]), [0, len(lines) - 1])) == exact(
        [logged[0], logged[-1]]
    )


def test_columns_are_typed_where_their_values_are_of_a_kind() -> None:
    logged = [
        {"_step": 0, "i": 1, "f": 1, "b": True, "s": "t", "m": 1, "n": None, "l": [1], "big": 2**64},
        {"_step": 1, "i": 2, "f": 0.5, "b": False, "s": "", "m": "1", "n": 1, "l": [], "big": 1},
    ]
    table = columns.table_of([json.dumps(row) for row in logged])
    kinds = {field.name: (str(field.type), b"paretune.form" in (field.metadata or {})) for field in table.schema}
    typed = {"_step": "int64", "i": "int64", "f": "double", "b": "bool", "s": "string"}
    assert kinds == {name: (kind, False) for name, kind in typed.items()} | dict.fromkeys(("m", "n", "l", "big"), ("string", True))


@pytest.mark.parametrize("group", [1, 3, 100])
def test_only_the_groups_that_hold_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    monkeypatch.setattr(columns, "GROUP", group)
    logged = [{"_step": 2 * step, "x": step if step % 3 else step / 4, **({"y": "t"} if step % 2 else {})} for step in range(10)]
    path = tmp_path / "history.parquet"
    path.write_bytes(columns.write(columns.table_of([json.dumps(row) for row in logged])))
    for start in range(11):
        for stop in (None, *range(start, 12)):
            part = columns.read(path, start=start, stop=stop)
            assert exact(columns.rows_of(part, range(start, start + part.num_rows))) == exact(logged[start:stop])
    assert columns.places_between(path, 3, 9) == range(2, 5)
    assert columns.places_between(path, 4, 4) == columns.places_between(path, 19, 99) == range(0)


def test_only_wanted_columns_are_read(tmp_path: Path) -> None:
    logged = [{"_step": 0, "a": 1, "a.b": 2, "c": {"d": 3}, "e": 4}]
    path = tmp_path / "history.parquet"
    path.write_bytes(columns.write(columns.table_of([json.dumps(row) for row in logged])))
    assert columns.rows_of(columns.read(path, ["a"])) == [{"a": 1}]
    assert columns.rows_of(columns.read(path, ["c.d", "_step"])) == [{"_step": 0, "c": {"d": 3}}]
    assert columns.rows_of(columns.read(path, ["none"])) == [{}]


@pytest.mark.parametrize(
    ("logged", "is_plain"),
    [
        (rows(3), True),
        (rows(1, text="t", flag=True), True),
        ([{"_step": 0, "x": 1}, {"_step": 1, "x": 0.5}], True),
        ([{"_step": 0, "x": float("nan")}], True),
        (rows(3, nested={"a": 1}), False),
        (rows(3, none=None), False),
        ([{"_step": 0, "x": 1}, {"_step": 1}], False),
        ([{"_step": 1, "x": 1}, {"_step": 1, "x": 2}], False),
        ([{"x": 1}], False),
    ],
)
def test_a_file_is_plain_where_the_client_reads_from_it_what_was_logged(logged: list[dict[str, Any]], is_plain: bool) -> None:
    assert columns.is_plain(columns.table_of([json.dumps(row) for row in logged])) is is_plain


def test_rows_of_very_many_keys_stay_lines() -> None:
    logged = [{"_step": number, f"key{number}": number} for number in range(columns.MOST_COLUMNS + 1)]
    table = columns.table_of([json.dumps(row) for row in logged])
    assert table.num_columns == 1
    assert exact(columns.rows_of(table)) == exact(logged)


# -- compaction


def test_a_run_that_has_ended_is_compacted_and_reads_the_same(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MOST_LINES", 7)
    asked.run()
    logged = [*rows(10), *rows(10, 10, nested={"a": [1, None]}, odd=float("inf")), {"_step": 25, "loss": None}]
    stream(asked, logged[:12])
    stream(asked, logged[12:], first=12, complete=True, exitcode=0)
    asks = [
        "history(samples: 5)",
        "history(minStep: 3, maxStep: 15, samples: 100)",
        "history(samples: 1)",
        "history(samples: 21)",
        'sampledHistory(specs: ["{\\"keys\\": [\\"_step\\", \\"loss\\"], \\"minStep\\": 4, \\"maxStep\\": 11}"])',
        'sampledHistory(specs: ["{\\"keys\\": [\\"nested.a\\"]}", "{\\"keys\\": [\\"loss\\"], \\"samples\\": 4}"])',
        "historyTail historyLineCount historyKeys",
        'parquetHistory(liveKeys: ["_step"]) { liveData parquetUrls }',
    ]
    before = [of_run(asked, fields) for fields in asks]
    assert compact(asked) == 21
    assert stored(asked) == (0, 21)
    after = [of_run(asked, fields) for fields in asks]
    for one, other in zip(before, after, strict=True):
        assert read_texts(one) == read_texts(other)
    assert exact(kept(asked)) == exact(logged)
    assert compact(asked) == 0


def read_texts(value: Any) -> Any:
    """Return an answer with its JSON lines read, in which keys have no order."""
    if isinstance(value, dict):
        return {key: read_texts(one) for key, one in value.items()}
    if isinstance(value, list):
        return [read_texts(one) for one in value]
    if isinstance(value, str) and value[:1] in "{[" and value:
        return repr(read_texts(json.loads(value)))
    return value


def chunks(asked: Asked) -> int:
    with asked.database.session() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Chunk)) or 0


def test_rows_with_very_long_keys_are_compacted_and_read_the_same(asked: Asked) -> None:
    asked.run()
    logged = [{"_step": step, "k" * 2_000_000 + str(step): step} for step in range(3)]
    stream(asked, logged, complete=True)
    assert compact(asked) == 3
    assert exact(kept(asked)) == exact(logged)


@pytest.mark.parametrize("damage", ["unreadable", "other rows", "fewer rows"])
def test_lines_stay_where_their_parquet_file_does_not_say_the_same(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    asked.run()
    stream(asked, rows(5), complete=True)
    before = chunks(asked)
    write = columns.write
    if damage == "unreadable":
        monkeypatch.setattr(columns, "write", lambda table: write(table)[:-7])
    elif damage == "other rows":
        monkeypatch.setattr(columns, "write", lambda table: write(columns.table_of([json.dumps(row) for row in rows(5, first=1)])))
    else:
        monkeypatch.setattr(columns, "write", lambda table: write(table.slice(0, 4)))
    failed: set[int] = set()
    assert compaction.compact_due(asked.database, asked.files, failed=failed) == 0
    assert (chunks(asked), len(failed)) == (before, 1)
    assert exact(kept(asked)) == exact(rows(5))


def test_a_damaged_chunk_does_not_keep_other_runs_from_being_compacted(asked: Asked) -> None:
    for name in ("r1", "r2"):
        asked.run(name)
        stream(asked, rows(5), run=name, complete=True)
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Chunk).where(Chunk.run_id == 1).values(content=b"damaged"))
    assert compact(asked) == 5
    assert exact(kept(asked, "r2")) == exact(rows(5))


def test_a_live_run_is_compacted_once_it_has_many_rows(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "LIVE_LINES", 20)
    asked.run()
    stream(asked, rows(20))
    assert compact(asked) == 0
    stream(asked, rows(5, 20), first=20)
    assert compact(asked) == 25
    stream(asked, rows(5, 25), first=25)
    assert compact(asked) == 0
    assert stored(asked) == (5, 25)
    assert exact(kept(asked)) == exact(rows(30))
    urls = of_run(asked, 'parquetHistory(liveKeys: ["_step"]) { parquetUrls liveData }')["parquetHistory"]
    assert urls == {"parquetUrls": [], "liveData": [{"_step": 0}]}, "the client would read rows twice"


def test_lines_that_come_again_after_compaction_change_nothing(asked: Asked) -> None:
    asked.run()
    stream(asked, rows(10), complete=True)
    compact(asked)
    stream(asked, rows(10, other=1))
    stream(asked, [*rows(5, 5, other=1), *rows(3, 10)], first=5)
    assert exact(kept(asked)) == exact(rows(13))
    assert of_run(asked, "historyLineCount historyTail")["historyLineCount"] == 13
    compact(asked)
    assert stored(asked) == (0, 13)
    assert exact(kept(asked)) == exact(rows(13))


def test_a_missing_line_is_waited_for(asked: Asked) -> None:
    asked.run()
    stream(asked, rows(3))
    stream(asked, rows(3, 5), first=5, complete=True)
    assert compact(asked) == 3
    assert compact(asked) == 0
    assert exact(kept(asked)) == exact([*rows(3), *rows(3, 5)])
    stream(asked, rows(2, 3), first=3)
    asked.stream("r1", complete=True)
    assert compact(asked) == 5
    assert exact(kept(asked)) == exact(rows(8))


def test_lines_written_again_before_compaction_are_the_later_ones(asked: Asked) -> None:
    asked.run()
    stream(asked, rows(10))
    stream(asked, rows(10, 6, again=True), first=6)
    expected = [*rows(6), *rows(10, 6, again=True)]
    assert exact(kept(asked, first_step=4, stop_step=9)) == exact(expected[4:9])
    stream(asked, rows(2, 100), first=7)
    expected[7:9] = rows(2, 100)
    assert kept(asked, first_step=7, stop_step=9) == [], "what was there before is not read though the later lines are elsewhere"
    asked.stream("r1", complete=True)
    compact(asked)
    assert exact(kept(asked)) == exact(expected)


def test_a_page_reads_only_what_can_hold_it(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MOST_LINES", 10)
    asked.run()
    stream(asked, rows(50), complete=True)
    compact(asked)
    stream(asked, rows(10, 50), first=50)
    stream(asked, rows(10, 60), first=60)
    opened: list[str] = []
    read, decompress = segments.read, streams.zlib.decompress
    monkeypatch.setattr(segments, "read", lambda *a: opened.append("segment") or read(*a))  # type: ignore[func-returns-value]
    monkeypatch.setattr(streams.zlib, "decompress", lambda *a: opened.append("chunk") or decompress(*a))  # type: ignore[func-returns-value]
    for first, stop, parts in [(15, 18, ["segment"]), (28, 31, ["segment"] * 2), (52, 55, ["chunk"]), (70, 80, [])]:
        opened.clear()
        found = of_run(asked, f"history(minStep: {first}, maxStep: {stop}, samples: 100)")["history"]
        assert [json.loads(row)["_step"] for row in found] == [step for step in range(first, stop) if step < 70]
        assert opened == parts


def test_steps_that_are_no_whole_numbers_are_found_where_they_lie(asked: Asked) -> None:
    asked.run()
    logged = [{"_step": step} for step in (0, 0.5, 1.5, 2, -0.5, 2.0**62)]
    stream(asked, logged, complete=True)
    for _ in range(2):
        assert exact(kept(asked, first_step=1, stop_step=3)) == exact(logged[2:4])
        assert exact(kept(asked, first_step=-(10**30), stop_step=1)) == exact([*logged[:2], logged[4]])
        assert exact(kept(asked, first_step=3, stop_step=10**30)) == exact(logged[5:])
        assert kept(asked, first_step=10**30) == kept(asked, stop_step=-(10**30)) == []
        compact(asked)
    assert of_run(asked, "parquetHistory { parquetUrls }")["parquetHistory"]["parquetUrls"] == []


# -- what changes a run that is compacted


def test_a_rewound_run_keeps_the_segments_before_and_publishes_none_any_more(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MOST_LINES", 10)
    asked.run()
    stream(asked, rows(35), complete=True)
    compact(asked)
    assert len(of_run(asked, "parquetHistory { parquetUrls }")["parquetHistory"]["parquetUrls"]) == 4
    query = (
        'mutation { rewindRun(input: {entityName: "someone", projectName: "tried", runName: "r1", metricName: "_step", '
        "metricValue: 14}) { rewoundRun { historyLineCount historyKeys } } }"
    )
    found = asked.ask(query)["rewindRun"]["rewoundRun"]
    assert found["historyLineCount"] == 15
    assert (found["historyKeys"]["lastStep"], found["historyKeys"]["keys"]["loss"]["typeCounts"][0]["count"]) == (14, 15)
    assert stored(asked) == (5, 10)
    others = [{"_step": step, "loss": -0.5} for step in range(15, 20)]
    stream(asked, others, first=15, complete=True)
    compact(asked)
    assert exact(kept(asked)) == exact([*rows(15), *others])
    assert of_run(asked, "parquetHistory { parquetUrls }")["parquetHistory"]["parquetUrls"] == []


def test_a_run_of_the_name_of_a_deleted_one_publishes_no_files(asked: Asked) -> None:
    for count in (3, 5):
        identifier = asked.run()
        stream(asked, rows(count), complete=True)
        compact(asked)
        assert len(kept(asked)) == count
        published = of_run(asked, "parquetHistory { parquetUrls }")["parquetHistory"]["parquetUrls"]
        assert len(published) == (1 if count == 3 else 0), "clients keep the file of the first by the name"
        asked.ask("mutation M($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", id=identifier)
        assert stored(asked) == (0, 0)


def test_a_published_file_is_given_whole_and_in_parts_to_whom_has_its_address(asked: Asked) -> None:
    asked.run()
    stream(asked, rows(30), complete=True)
    compact(asked)
    (url,) = of_run(asked, "parquetHistory { parquetUrls }")["parquetHistory"]["parquetUrls"]
    bare = {"authorization": ""}
    whole = asked.client.get(url, headers=bare).content
    assert whole[:4] == whole[-4:] == b"PAR1"
    part = asked.client.get(url, headers={**bare, "range": "bytes=4-11"})
    assert (part.status_code, part.content) == (206, whole[4:12])
    head = asked.client.head(url, headers=bare)
    assert (head.status_code, int(head.headers["content-length"]), head.headers["accept-ranges"]) == (200, len(whole), "bytes")
    forged = url.replace("/contents/", "/contents/x")
    assert asked.client.get(forged, headers=bare).status_code == 403
    assert asked.client.get(url.replace("/contents/", "/downloads/"), headers=bare).status_code == 403


def test_a_history_whose_file_is_lost_is_named_and_does_not_stop_others(asked: Asked) -> None:
    asked.run()
    stream(asked, rows(3), complete=True)
    compact(asked)
    with asked.database.session() as session:
        asked.files.path(session.scalars(sa.select(Segment.digest)).one()).unlink()
    answer = asked.told(RUN % "name history(samples: 3)", run="r1")
    assert "a part of this history is missing on the server: python -m paretune.service doctor" in answer["errors"][0]["message"]
    asked.run("r2")
    stream(asked, rows(3), run="r2")
    assert len(kept(asked, "r2")) == 3


# -- at the same time, and cut short


@pytest.mark.parametrize("change", ["more", "again", "other", "rewind", "delete", "compact"])
def test_what_happens_while_a_file_is_written_is_not_lost(asked: Asked, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    identifier = asked.run()
    stream(asked, rows(10), complete=True)
    write, calls = columns.write, []

    def meanwhile(table: Any) -> bytes:
        calls.append(change)
        if len(calls) > 1:
            return write(table)
        if change == "more":
            stream(asked, rows(5, 10), first=10)
        elif change == "again":
            stream(asked, rows(6, 7, again=True), first=7)
        elif change == "other":
            with asked.database.session(writing=True) as session:
                streams.rewind(session, session.scalars(sa.select(Run)).one(), -1)
            stream(asked, rows(10, other=1))
        elif change == "rewind":
            with asked.database.session(writing=True) as session:
                streams.rewind(session, session.scalars(sa.select(Run)).one(), 4)
        elif change == "delete":
            asked.ask("mutation M($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", id=identifier)
        else:
            assert compact(asked) == 10
        return write(table)

    monkeypatch.setattr(columns, "write", meanwhile)
    compact(asked)
    if change == "delete":
        assert stored(asked) == (0, 0)
        return
    expected = {"more": rows(15), "again": [*rows(7), *rows(6, 7, again=True)], "rewind": rows(5), "other": rows(10, other=1)}.get(
        change, rows(10)
    )
    assert exact(kept(asked)) == exact(expected)
    asked.stream("r1", complete=True)
    compact(asked)
    assert exact(kept(asked)) == exact(expected)
    assert stored(asked) == (0, len(expected))


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before the file", "within the file", "after the file", "before the commit", "after the commit"])
def test_killed_at_any_point_each_row_is_there_once(asked: Asked, tmp_path: Path, point: str) -> None:
    asked.run()
    stream(asked, rows(10))
    stream(asked, rows(10, 10), first=10, complete=True)
    program = """
        import os, signal, sys
        from pathlib import Path
        import sqlalchemy as sa
        from paretune.service.store import compaction, files
        from paretune.service.store.database import Database
        folder, point = Path(sys.argv[1]), sys.argv[2]
        database, kept = Database(f"sqlite:///{folder / 'service.db'}"), files.Files(folder / "files")
        database.keep_contents_in(kept)
        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        keep = kept.keep
        if point == "before the file":
            kept.keep = die
        elif point == "within the file":
            files.os.replace = die
        elif point == "after the file":
            kept.keep = lambda content: (keep(content), die())
        elif point == "before the commit":
            sa.event.listen(database.engine, "commit", die)
        compaction.compact_due(database, kept)
        die()
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path), point], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert stored(asked) == ((0, 20) if point == "after the commit" else (20, 0))
    assert exact(kept(asked)) == exact(rows(20))
    compact(asked)
    assert stored(asked) == (0, 20)
    assert exact(kept(asked)) == exact(rows(20))


def test_a_reader_between_chunks_and_segments_reads_each_row_once(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.run()
    stream(asked, rows(10), complete=True)
    of = segments.of_run

    def meanwhile(session: Any, run: Run) -> Any:
        monkeypatch.setattr(segments, "of_run", of)
        compact(asked)
        with asked.database.session() as fresh:  # as PostgreSQL shows what was committed since
            return of(fresh, run)

    monkeypatch.setattr(segments, "of_run", meanwhile)
    assert exact(kept(asked)) == exact(rows(10))
    assert stored(asked) == (0, 10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SQLite", "PostgreSQL"])
def test_readers_see_each_row_once_while_runs_are_written_and_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(compaction, "LIVE_LINES", 30)
    monkeypatch.setattr(compaction, "MOST_LINES", 40)
    if kind == "PostgreSQL" and binaries() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres(tmp_path) if kind == "PostgreSQL" else contextlib.nullcontext() as url:
        asked = Asked(tmp_path, url)
        names = [f"r{number}" for number in range(3)]
        for name in names:
            asked.run(name)
        over = threading.Event()
        everything = [json.dumps(row, sort_keys=True) for row in rows(600)]

        def write(name: str) -> None:
            for first in range(0, 600, 20):
                stream(asked, rows(30, max(first - 10, 0)), first=max(first - 10, 0), run=name)  # some come twice
            asked.stream(name, complete=True)

        def read(name: str) -> int:
            count = 0
            while not over.is_set():
                found = exact(kept(asked, name))
                assert found == everything[: len(found)], "no row is missing, or there twice"
                assert len(found) >= count, "rows do not vanish"
                count = len(found)
            return count

        def make() -> None:
            while not over.is_set():
                compact(asked)

        with ThreadPoolExecutor(8) as pool:
            readers, makers = [pool.submit(read, name) for name in names], [pool.submit(make) for _ in range(2)]
            for done in [pool.submit(write, name) for name in names]:
                done.result()
            over.set()
            for done in [*readers, *makers]:
                done.result()
        compact(asked)
        assert stored(asked) == (0, 1800)
        for name in names:
            assert exact(kept(asked, name)) == exact(rows(600))
        asked.searches.close()
        asked.database.close()


def test_the_server_compacts_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from paretune.service.http import service

    monkeypatch.setattr(service, "CRASHES", 0.05)
    asked = Asked(tmp_path)
    with asked.client:
        asked.run()
        stream(asked, rows(10), complete=True)
        for _ in range(200):
            if stored(asked) == (0, 10):
                break
            time.sleep(0.05)
    assert stored(asked) == (0, 10)


def test_segments_of_a_run_go_with_it_in_every_way(asked: Asked) -> None:
    asked.run()
    stream(asked, rows(3), complete=True)
    compact(asked)
    with asked.database.session(writing=True) as session:
        session.delete(session.scalars(sa.select(Run)).one())
    assert stored(asked) == (0, 0)


def test_a_content_that_is_no_parquet_is_said_so(asked: Asked) -> None:
    asked.files.keep(b"nothing of the kind")
    with pytest.raises(UsageError, match="a part of this history is missing"):
        segments.read(asked.files, asked.files.keep(b"nothing of the kind"))


def test_a_database_knows_where_its_contents_lie(asked: Asked, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path / 'service.db'}")
    other.keep_contents_in(asked.files)
    with other.session() as session:
        assert session.info["files"] is asked.files
    other.close()
