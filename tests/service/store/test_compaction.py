"""Chunks become segments: exactly the rows that were streamed, whoever else writes, and however the server ended meanwhile."""

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

from paretune.service.store import columns, compaction, streams
from paretune.service.store.tables import Chunk, Run
from tests.postgres import binaries, postgres
from tests.service.serving import Asked
from tests.service.store.histories import compact, exact, kept, of_run, rows, stored, stream


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


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
