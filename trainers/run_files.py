"""Read W&B's offline run files (`run-*.wandb`), also one that is still written or was cut off.

Layout (LevelDB's log format, checked against wandb 0.31): 7 bytes `:W&B`, magic 0xBEE1, version 0; then blocks of 32 KiB
that hold pieces of crc32 (4 bytes), length (2), type (1: whole, 2: first, 3: middle, 4: last) and data. The crc covers
type and data. Each record is a protobuf message of `wandb.proto`.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 32 * 1024
FILE_HEADER = struct.Struct("<4sHB")
PIECE_HEADER = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class RunFile:
    """What one run file holds; `rows` are the logged rows as they were logged, with W&B's own keys (`_step` …)."""

    run_id: str
    name: str = ""
    group: str = ""
    sweep: str = ""
    state: str = "running"  # or finished, failed, pruned
    created: float = math.nan  # seconds since 1970
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)


def read_run(path: Path) -> RunFile | None:
    """Read one run file; None where not even the run's own record is in it yet."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    found: RunFile | None = None
    for raw in read_records(path):
        record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        try:
            record.ParseFromString(raw)
        except DecodeError:
            break
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found = found or RunFile(run.run_id)
            found.name, found.group, found.sweep = run.display_name, run.run_group, run.sweep_id
            found.created, found.tags = run.start_time.ToMicroseconds() / 1e6, list(run.tags)
            _update(found.config, run.config.update)
        elif found is None:
            continue
        elif kind == "config":
            _update(found.config, record.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            found.rows.append(row)
        elif kind == "summary":
            _update(found.summary, record.summary.update)
        elif kind == "exit":
            found.state = "finished" if record.exit.exit_code == 0 else "failed"
    if found is not None:
        found.state = ended(found.state, found.summary)
    return found


def ended(state: str, summary: Mapping[str, Any]) -> str:
    """Return how a run ended, of W&B's state: a pruned run has finished there, and its summary says at which epoch."""
    return "pruned" if state == "finished" and "pruned" in summary else state


def _update(target: dict[str, Any], items: Iterable[Any]) -> None:
    for item in items:
        keys = list(item.nested_key) or [item.key]
        place = target
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        if keys[-1] != "_wandb":
            place[keys[-1]] = json.loads(item.value_json)


def read_records(path: Path) -> Iterator[bytes]:
    """Yield every whole record before the first cut or broken one; nothing for a file that is no run file."""
    raw = path.read_bytes()
    if len(raw) < FILE_HEADER.size or FILE_HEADER.unpack_from(raw) != (b":W&B", 0xBEE1, 0):
        return
    position, parts = FILE_HEADER.size, b""
    while True:
        left = BLOCK - position % BLOCK
        if left < PIECE_HEADER.size:
            position += left  # the rest of a block that no header fits into is padding
        if position + PIECE_HEADER.size > len(raw):
            return
        checksum, length, kind = PIECE_HEADER.unpack_from(raw, position)
        start = position + PIECE_HEADER.size
        data = raw[start : start + length]
        if len(data) < length or not WHOLE <= kind <= LAST or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            return
        position = start + length
        if kind in (WHOLE, FIRST):
            parts = b""
        parts += data
        if kind in (WHOLE, LAST):
            yield parts
