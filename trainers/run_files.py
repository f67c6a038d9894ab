"""Read W&B's offline run files (`run-*.wandb`), also one that is still written or was cut off.

Layout (LevelDB's log format, checked against wandb 0.31): 7 bytes `:W&B`, magic 0xBEE1, version 0; then blocks of 32 KiB
that hold pieces of crc32 (4 bytes), length (2), type (1: whole, 2: first, 3: middle, 4: last) and data. The crc covers
type and data. Each record is a protobuf message of `wandb.proto`.

Nearly all records are rows of plain numbers, and summaries of the same. Those are taken apart by one regular expression
and their values decoded together, nearly four times as fast as message by message (benchmarks/history.py); a record that
the expression does not cover to its last byte goes through protobuf.
"""

from __future__ import annotations

import functools
import json
import math
import re
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

BLOCK = 32 * 1024
FILE_HEADER = struct.Struct("<4sHB")
PIECE_HEADER = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
INTERNAL = {"_wandb", "_step", "_timestamp", "_runtime"}
# An item of a row or summary: its length, the parts of its key, and its value as JSON, each below 128 bytes. JSON holds no
# control character, so that a value ends where one follows: the next item's tag, or the end.
PLAIN_ITEM = re.compile(rb"(?s)\n.((?:[\n\x12].[^\x82\n\x12]*)+)\x82\x01.([^\x00-\x1f]*)")
PLAIN_ITEM_BYTES = 5  # beside key and value
KEY_PART = re.compile(rb"(?s)[\n\x12](.)([^\n\x12]*)")
STEP = re.compile(rb"(?s)\x12.(\x08[\x80-\xff]*[\x00-\x7f])?")  # what stands behind the items of a row
# The field that a record is, with its length, behind the record's number: 2 history, 3 summary; 4 output, 7 stats,
# 11 telemetry, 12 metric, 13 output_raw. Any other goes through protobuf.
FIELD = re.compile(rb"(?s)(?:\x08[\x80-\xff]*[\x00-\x7f])?([\x12\x1a\x22\x3a\x5a\x62\x6a])([\x80-\xff]*[\x00-\x7f])")
HISTORY, SUMMARY = b"\x12", b"\x1a"
PRUNED = b"pruned"  # the key by which `ended` knows a run that was stopped early


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
    tags: list[str] = field(default_factory=list)
    summaries: list[bytes] = field(default_factory=list, repr=False)  # as they came, the later over the earlier

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """The last value of each key; decoded when it is asked for, as there is one as long as a row for every row."""
        from wandb.proto import wandb_internal_pb2

        together = b"".join(self.summaries)
        items = PLAIN_ITEM.findall(together)
        found: dict[str, Any] = {}
        latest: dict[bytes, bytes] = {}
        for key, value in reversed(items):
            latest.setdefault(key, value)
        if _covered(items) == len(together) and all(map(_is_key, latest)):
            _fill([found], [list(reversed(latest))], list(reversed(latest.values())))
            return found
        for raw in self.summaries:
            record: Any = wandb_internal_pb2.SummaryRecord.FromString(raw)  # type: ignore[attr-defined]
            _update(found, record.update)
            for item in record.remove:
                found.pop(item.key, None)
        return found


class _Reading:
    """One run file while it is read: plain rows and summaries wait, and are decoded together."""

    def __init__(self) -> None:
        self.run: RunFile | None = None
        self._keys: list[list[bytes]] = []  # of each plain row
        self._values: list[bytes] = []  # of all plain rows, one after another
        self._rows: list[dict[str, Any]] = []
        self._summaries: list[bytes] = []
        self._known: set[bytes] = set()  # keys as they stand in the file, seen to be right

    def take_plain(self, raw: bytes) -> bool:
        """Take a record that is a summary or a row of plain items; False where it is anything else."""
        found = FIELD.match(raw)
        if found is None:
            return False
        tag, length = found.group(1, 2)
        begin = found.end()
        end = begin + _varint(length)
        if tag == SUMMARY:
            self._summaries.append(raw[begin:end])
        if tag != HISTORY:
            return True
        items = PLAIN_ITEM.findall(raw, begin, end)
        covered = begin + _covered(items)
        if covered != end and not STEP.fullmatch(raw, covered, end):
            return False
        keys = [key for key, _ in items]
        if not self._known.issuperset(keys):
            if not all(map(_is_key, keys)):
                return False
            self._known.update(keys)
        if self.run is not None:
            self._keys.append(keys)
            self._values += [value for _, value in items]
            self._rows.append({})
            self.run.rows.append(self._rows[-1])
        return True

    def take(self, record: Any) -> None:
        """Take a parsed record."""
        kind = record.WhichOneof("record_type")
        if kind == "run":
            sent = record.run
            self.run = self.run or RunFile(sent.run_id)
            self.run.name, self.run.group, self.run.sweep = sent.display_name, sent.run_group, sent.sweep_id
            self.run.created, self.run.tags = sent.start_time.ToMicroseconds() / 1e6, list(sent.tags)
            _update(self.run.config, sent.config.update)
        elif self.run is None:
            return
        elif kind == "config":
            _update(self.run.config, record.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            self.run.rows.append(row)
        elif kind == "summary":
            self._summaries.append(record.summary.SerializeToString())
        elif kind == "exit":
            self.run.state = "finished" if record.exit.exit_code == 0 else "failed"

    def whole(self) -> RunFile | None:
        """Decode what waits, and return the run."""
        if self.run is None:
            return None
        _fill(self._rows, self._keys, self._values)
        self.run.summaries = self._summaries
        if any(PRUNED in raw for raw in self._summaries):
            self.run.state = ended(self.run.state, self.run.summary)
        return self.run


def read_run(path: Path) -> RunFile | None:
    """Read one run file; None where not even the run's own record is in it yet."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    reading = _Reading()
    for raw in read_records(path):
        if reading.take_plain(raw):
            continue
        record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        try:
            record.ParseFromString(raw)
        except DecodeError:
            break
        reading.take(record)
    return reading.whole()


def ended(state: str, summary: Mapping[str, Any]) -> str:
    """Return how a run ended, of W&B's state: a pruned run has finished there, and its summary says at which epoch."""
    return "pruned" if state == "finished" and "pruned" in summary else state


def numbers(row: Mapping[str, Any], without: Collection[str] = INTERNAL) -> dict[str, float]:
    """Return what a logged row or a summary holds in numbers: nested ones by names with points, as W&B shows them.

    W&B writes NaN and infinity as texts at times. Tables, images, texts, truth values and W&B's own keys are no metrics.
    """
    found: dict[str, float] = {}
    for name, value in row.items():
        if name in without:
            continue
        if type(value) is float or type(value) is int:
            found[name] = _float(value)
        elif isinstance(value, Mapping):
            if "_type" not in value:
                found.update({f"{name}.{inner}": number for inner, number in numbers(value, without).items()})
        elif isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
            found[name] = float(value.replace("Infinity", "inf"))
    return found


def _float(value: float) -> float:
    """Return a number as a float; a whole number that is too large for one is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _covered(items: Sequence[tuple[bytes, bytes]]) -> int:
    return sum(map(len, chain.from_iterable(items))) + PLAIN_ITEM_BYTES * len(items)


def _fill(rows: Sequence[dict[str, Any]], keys: Sequence[Sequence[bytes]], values: Sequence[bytes]) -> None:
    """Put items into the rows that they belong to: per row its keys as they stand in the file, and all values in order."""
    paths = {key: _path(key) for key in set(chain.from_iterable(keys))}
    nested = {key for key, path in paths.items() if len(path) > 1 or path == ("_wandb",)}
    names = {key: path[0] for key, path in paths.items()}
    decoded = json.loads(b"[" + b",".join(values) + b"]")
    place = 0
    for row, own in zip(rows, keys, strict=True):
        part = decoded[place : place + len(own)]
        place += len(own)
        if nested.isdisjoint(own):
            row.update(zip(map(names.__getitem__, own), part, strict=True))
        else:
            for key, value in zip(own, part, strict=True):
                _put(row, paths[key], value)


def _is_key(key: bytes) -> bool:
    """Whether each part of a key is as long as the byte before it says: a part's text may hold a tag's byte."""
    return all(length[0] == len(part) for length, part in KEY_PART.findall(key))


def _path(key: bytes) -> tuple[str, ...]:
    return tuple(part.decode() for _, part in KEY_PART.findall(key))


def _varint(raw: bytes) -> int:
    value = 0
    for place, byte in enumerate(raw):
        value |= (byte & 0x7F) << 7 * place
    return value


def _update(target: dict[str, Any], items: Iterable[Any]) -> None:
    for item in items:
        _put(target, list(item.nested_key) or [item.key], json.loads(item.value_json))


def _put(target: dict[str, Any], path: Sequence[str], value: Any) -> None:
    if path[0] == "_wandb":
        return
    for key in path[:-1]:
        if not isinstance(target.get(key), dict):
            target[key] = {}
        target = target[key]
    target[path[-1]] = value


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
