"""Compressed bodies of requests: taken as they were before, bounded, and refused by a sentence where they are none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from paretune.service.http.compressed import unpacked
from tests.service.serving import Asked, authorization

MOST = 10_000


def test_a_body_is_as_it_was() -> None:
    assert unpacked(gzip.compress(b"{}"), "gzip", MOST) == b"{}"
    assert unpacked(b"{}", "identity", MOST) == b"{}"


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"{}", "gzip", 400),
        (gzip.compress(b"{}", mtime=0)[:-4], "gzip", 400),
        (gzip.compress(b"{}", mtime=0) + b"more", "gzip", 400),
        (gzip.compress(b"0" * (MOST + 1), mtime=0), "gzip", 413),
        (gzip.compress(b"0" * 10**8, mtime=0), "gzip", 413),
        (b"{}", "br", 415),
    ],
)
def test_what_is_unfit_is_refused(body: bytes, encoding: str, status: int) -> None:
    with pytest.raises(HTTPException) as refusal:
        unpacked(body, encoding, MOST)
    assert refusal.value.status_code == status


def test_a_stream_may_be_compressed(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    asked.run("r1")
    lines = {"wandb-history.jsonl": {"offset": 0, "content": ['{"_step": 0, "loss": 0.5}']}}
    body = gzip.compress(json.dumps({"files": lines}).encode())
    headers = {**authorization(), "content-encoding": "gzip"}
    assert asked.client.post("/files/someone/tried/r1/file_stream", content=body, headers=headers).status_code == 200
    found = asked.ask('{ project(name: "tried") { run(name: "r1") { historyLineCount } } serverInfo { features { name } } }')
    assert found["project"]["run"]["historyLineCount"] == 1
    assert {"name": "FILESTREAM_GZIP"} in found["serverInfo"]["features"]
