"""Read W&B's offline run files (`run-*.wandb`), also one that is still written, was cut off or is damaged.

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
import shlex
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretune.core.provenance import written_by_us
from paretune.runs import sweep_outcome
from paretune.runs.sweep_outcome import SweepOutcome, outcome_of

BLOCK = 32 * 1024
FILE_HEADER = struct.Struct("<4sHB")
PIECE_HEADER = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
HEADER_END = re.compile(rb"(?=[\x00-\x7f][\x01-\x04])")  # of a piece: the upper half of a length below BLOCK, and a kind
KINDS = {kind: zlib.crc32(bytes([kind])) for kind in (WHOLE, FIRST, MIDDLE, LAST)}  # what the crc of a piece begins with
INTERNAL = {"_wandb", "_step", "_timestamp", "_runtime"}
# An item of a row: its length, a key of one part, the length of its value, and the value as JSON. JSON holds no control
# character, so that a value ends where one follows: the next item's tag, or the end. A key has less than 128 bytes.
LENGTH = rb"[\x80-\xff]*[\x00-\x7f]"
PLAIN_ITEMS = re.compile(rb"(?:\n" + LENGTH + rb"\x12.[^\x82\n\x12]*\x82\x01" + LENGTH + rb"[^\x00-\x1f]*)*+", re.DOTALL)
BETWEEN = re.compile(rb"\n" + LENGTH + rb"\x12.|\x82\x01" + LENGTH, re.DOTALL)  # what stands before each key and value
STEP = re.compile(rb"(?s)\x12.(\x08[\x80-\xff]*[\x00-\x7f])?")  # what stands behind the items of a row
# Tags of what a record is, behind its number; any other goes through protobuf
NUMBER, HISTORY, SUMMARY = b"\x08", 0x12, 0x1A
PASSED_OVER = {SUMMARY, 0x22, 0x3A, 0x5A, 0x62, 0x6A}  # kept for later; output, stats, telemetry, metric, output_raw
PRUNED = b"pruned"  # the key by which `ended` knows a run that was stopped early
OUTCOME = sweep_outcome.KEY.encode()
DAMAGED = "damaged"


@dataclass
class RunFile:
    """What one run file holds; `rows` are the logged rows as they were logged, with W&B's own keys (`_step` …)."""

    run_id: str
    name: str = ""
    group: str = ""
    sweep: str = ""
    project: str = ""
    entity: str = ""
    state: str = "running"  # or finished, failed, pruned, interrupted, damaged
    exit_code: int | None = None  # None of a run without an end
    created: float = math.nan  # seconds since 1970
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)  # of program, args, commit, python and wandb, what is known
    file: str = ""
    damaged: tuple[str, ...] = ()  # its files in which records are broken
    summaries: list[bytes] = field(default_factory=list, repr=False)  # as they came, the later over the earlier

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """The last value of each key; decoded when it is asked for, as there is one as long as a row for every row."""
        return self._decoded(self.summaries)

    @functools.cached_property
    def outcome(self) -> SweepOutcome:
        """What its sweep says of the run; only the summaries that name it are decoded."""
        return outcome_of(self._decoded([raw for raw in self.summaries if OUTCOME in raw]))

    def judge(self) -> None:
        """Let the state be what the run's sweep says; the whole summary is decoded only where it may hold an older `pruned`."""
        if any(PRUNED in raw for raw in self.summaries):
            self.state = ended(self.state, self.config, self.summary)
        else:
            self.state = self.outcome.state_of(self.state)

    @staticmethod
    def _decoded(summaries: Iterable[bytes]) -> dict[str, Any]:
        from wandb.proto import wandb_internal_pb2

        latest: dict[tuple[str, ...], str] = {}
        for raw in summaries:
            sent: Any = wandb_internal_pb2.Record.FromString(raw).summary  # type: ignore[attr-defined]
            for item in sent.update:
                key = tuple(item.nested_key) or (item.key,)
                latest.pop(key, None)  # so that it stands behind what it replaces
                latest[key] = item.value_json
            for item in sent.remove:
                latest = {key: value for key, value in latest.items() if key[0] != item.key}
        found: dict[str, Any] = {}
        for key, value in latest.items():
            _put(found, key, json.loads(value))
        return found


class _Reading:
    """One run file while it is read: plain rows and summaries wait, and are decoded together."""

    def __init__(self) -> None:
        self.run: RunFile | None = None
        self.named = False  # whether the run's own record was seen
        self._rows: list[dict[str, Any]] = []  # the plain ones, their keys, and all their values one after another
        self._keys: list[list[bytes]] = []
        self._values: list[bytes] = []
        self._names: dict[bytes, str] = {}  # of keys that were seen to be right

    def take_plain(self, raw: bytes) -> bool:
        """Take a record that is a summary or a row of plain items; False where it is anything else."""
        place = _place_of_tag(raw)
        tag = raw[place] if place < len(raw) else 0
        if tag == SUMMARY and self.run is not None:
            self.run.summaries.append(raw)
        if tag != HISTORY:
            return tag in PASSED_OVER
        begin, size = _length(raw, place + 1)
        end = begin + size
        plain = PLAIN_ITEMS.match(raw, begin, end)
        if plain is None or (plain.end() != end and not STEP.fullmatch(raw, plain.end(), end)):
            return False
        parts = BETWEEN.split(plain.group())
        keys, values = parts[1::2], parts[2::2]
        if not self._names.keys() >= set(keys):
            if not all(len(key) < 0x80 and b"\x12%c%b\x82\x01" % (len(key), key) in raw for key in keys):
                return False
            self._names.update({key: key.decode() for key in keys})
        if self.run is not None:
            self._keys.append(keys)
            self._values += values
            self._rows.append({})
            self.run.rows.append(self._rows[-1])
        return True

    def take(self, record: Any) -> None:
        """Take a parsed record."""
        kind = record.WhichOneof("record_type")
        if kind == "run":
            sent = record.run
            self.run = self.run or RunFile(sent.run_id)
            self.run.run_id, self.named = sent.run_id, True
            self.run.name, self.run.group, self.run.sweep = sent.display_name, sent.run_group, sent.sweep_id
            self.run.project, self.run.entity = sent.project, sent.entity
            self.run.created = sent.start_time.ToMicroseconds() / 1e6 if sent.HasField("start_time") else math.nan
            self.run.tags = list(sent.tags)
            self._know(python=sent.telemetry.python_version, wandb=sent.telemetry.cli_version, commit=sent.git.commit)
            _update(self.run.config, sent.config.update)
        elif self.run is None:
            return
        elif kind == "config":
            _update(self.run.config, record.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            self.run.rows.append(row)
        elif kind == "environment":
            sent = record.environment
            python = sent.python.removeprefix("CPython ")
            if sent.HasField("started_at"):  # the moment that the client also tells a server
                self.run.created = sent.started_at.ToMicroseconds() / 1e6
            self._know(program=sent.program, args=shlex.join(sent.args), commit=sent.git.commit, python=python)
        elif kind == "summary":
            self.run.summaries.append(record.SerializeToString())
        elif kind == "exit":
            self.run.exit_code = record.exit.exit_code
            self.run.state = "failed" if self.run.exit_code else "finished"

    def _know(self, **values: str) -> None:
        if self.run is not None:
            self.run.environment |= {name: value for name, value in values.items() if value}

    def whole(self) -> RunFile | None:
        """Decode what waits, and return the run."""
        values = iter(json.loads(b"[" + b",".join(self._values) + b"]"))
        for row, keys in zip(self._rows, self._keys, strict=True):
            row.update(zip(map(self._names.__getitem__, keys), values, strict=False))
            row.pop("_wandb", None)
        if self.run is not None:
            self.run.judge()
        return self.run if self.named or (self.run is not None and self.run.rows) else None


def read_run(path: Path) -> RunFile | None:
    """Read one run file; None where not even the run's own record is in it yet.

    Of a damaged file every record counts that is whole, also behind the damage. Where the run's own record is lost, its id is
    that of the file's name.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    reading, damaged = _Reading(), False
    for raw in _scanned(path.read_bytes()):
        if raw is not None:
            if reading.take_plain(raw):
                continue
            record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            try:
                record.ParseFromString(raw)
                reading.take(record)
                continue
            except DecodeError:
                pass
        damaged = True
        reading.run = reading.run or RunFile(path.stem.removeprefix("run-"))
    run = reading.whole()
    if run is not None:
        run.file = str(path)
        if damaged:
            run.state, run.damaged = DAMAGED, (str(path),)
    return run


def ended(state: str, config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return a run's state as its sweep sees it: `pruned` where the sweep stopped it early, `failed` where it gives no value.

    W&B may call such a run finished or killed. Runs of our trainers from before the sweep's outcome hold the epoch under `pruned`.
    Another program's own `pruned` does not count.
    """
    ours = state == "finished" and "pruned" in summary and written_by_us(config)
    return "pruned" if ours else outcome_of(summary).state_of(state)


def numbers(row: Mapping[str, Any], without: Collection[str] = INTERNAL) -> dict[str, float]:
    """Return what a logged row or a summary holds in numbers: nested ones by names with points, as W&B shows them.

    W&B writes NaN and infinity as texts at times. Tables, images, texts, truth values and W&B's own keys are no metrics.
    """
    found: dict[str, float] = {}
    for name, value in row.items():
        if name in without:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = _float(value)
        elif isinstance(value, Mapping):
            if "_type" not in value:
                found.update({f"{name}.{inner}": number for inner, number in numbers(value, without).items()})
        elif isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
            found[name] = float(value.replace("Infinity", "inf"))
    return found


def no_numbers(row: Mapping[str, Any], without: Collection[str] = INTERNAL) -> list[str]:
    """Return what a logged row or a summary holds in texts, truth values and lists, by names as those of `numbers`."""
    found: list[str] = []
    for name, value in row.items():
        if name in without:
            continue
        if isinstance(value, Mapping):
            found += [f"{name}.{inner}" for inner in no_numbers(value, without)] if "_type" not in value else []
        elif isinstance(value, str | bool | list) and value not in ("NaN", "Infinity", "-Infinity"):
            found.append(name)
    return found


def _float(value: float) -> float:
    """Return a number as a float; a whole number that is too large for one is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _place_of_tag(raw: bytes) -> int:
    """Return where the tag stands that says what a record is: behind its number, where it has one."""
    place = 0
    if raw[:1] == NUMBER:
        place = 2
        while place < len(raw) and raw[place - 1] >= 0x80:
            place += 1
    return place


def is_logged(raw: bytes) -> bool:
    """Whether a record holds a row or a summary, of which a run file has most."""
    place = _place_of_tag(raw)
    return raw[place : place + 1] in (bytes([HISTORY]), bytes([SUMMARY]))


def _length(raw: bytes, place: int) -> tuple[int, int]:
    """Return where a field begins whose length stands at `place`, and that length."""
    size = shift = 0
    while True:
        byte = raw[place]
        size |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return place, size


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
    """Yield every whole record; nothing for a file that is no run file."""
    return (record for record in _scanned(path.read_bytes()) if record is not None)


def _scanned(raw: bytes) -> Iterator[bytes | None]:
    """Yield every whole record, and None where something between them is damaged.

    A file that is still written, or whose writer died, is cut: it ends within a record, or in zeros. Everything else that is no
    record is damage, behind which the next piece of a right checksum begins.
    """
    if len(raw) < FILE_HEADER.size or FILE_HEADER.unpack_from(raw) != (b":W&B", 0xBEE1, 0):
        return
    position, size = FILE_HEADER.size, len(raw)
    parts: bytes | None = None  # of a record of several pieces
    while True:
        left = BLOCK - position % BLOCK
        if left < PIECE_HEADER.size:
            position += left  # the rest of a block that no header fits into is padding
            left = BLOCK
        start = position + PIECE_HEADER.size
        checksum, length, kind = PIECE_HEADER.unpack_from(raw, position) if start <= size else (0, 0, 0)
        data = raw[start : start + length]
        if kind not in KINDS or start + length > size or zlib.crc32(data, KINDS[kind]) != checksum:
            following = _next_piece(raw, position + 1)
            if following is None:
                cut = start > size or (kind in KINDS and size < start + length <= position + left) or not any(raw[position:])
                yield from () if cut else (None,)
                return
            yield None
            position, parts = following, None
            continue
        position = start + length
        if kind == WHOLE and parts is None:
            yield data
            continue
        if (kind in (WHOLE, FIRST)) != (parts is None):
            yield None
            parts = None
        if kind == WHOLE:
            yield data
        elif kind == FIRST:
            parts = data
        elif parts is not None:
            parts += data
            if kind == LAST:
                yield parts
                parts = None


def _next_piece(raw: bytes, start: int) -> int | None:
    """Return where the first piece of a right checksum begins at or behind `start`; None where there is none."""
    before = PIECE_HEADER.size - 2
    for found in HEADER_END.finditer(raw, start + before):
        position = found.start() - before
        checksum, length, kind = PIECE_HEADER.unpack_from(raw, position)
        end = position + PIECE_HEADER.size + length
        if end <= len(raw) and zlib.crc32(raw[position + PIECE_HEADER.size : end], KINDS[kind]) == checksum:
            return position
    return None
