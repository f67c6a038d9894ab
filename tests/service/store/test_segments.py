"""Histories in Parquet: read by pages, rewound and deleted with their run, and published to clients that may read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.core.errors import UsageError
from paretune.service.store import compaction, segments, streams
from paretune.service.store.tables import Run, Segment
from tests.service.serving import Asked
from tests.service.store.histories import RUN, compact, exact, kept, of_run, rows, stored, stream


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


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
