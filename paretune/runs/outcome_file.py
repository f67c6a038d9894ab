"""Writes a sweep's outcome into the W&B run of another program, as a second run file of the same id without rows.

The program's own file stays as it is. The new one repeats what the run says of itself (name, config, defined metrics, summary,
exit), so that `wandb sync`, which uploads the files of one run in the order of their begin, leaves the run whole.
"""

from __future__ import annotations

import json
import math
import sys
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from paretune.core.errors import UsageError, first_line
from paretune.runs.sweep_outcome import SweepOutcome
from paretune.runs.wandb_files import (
    BLOCK,
    FILE_HEADER,
    FIRST,
    KINDS,
    LAST,
    MIDDLE,
    PIECE_HEADER,
    WHOLE,
    RunFile,
    is_logged,
    read_records,
)

REPEATED = {"header", "run", "config", "metric", "telemetry", "exit", "footer"}  # kinds of records
LATER = 1_000_000  # nanoseconds by which the new file's run begins later


def write_outcome(run: RunFile, outcome: SweepOutcome, folder: Path) -> Path:
    """Write the file of an outcome into a new folder of W&B's form below `folder`, and return its path.

    Args:
        run: as read from all of its files; its newest one is repeated. Of a run whose file holds no record, as the client was
            killed before it wrote one, what the study knows.
    """
    from wandb.proto import wandb_internal_pb2

    records = _repeated(run)
    ending: list[Any] = [record for record in records if record.WhichOneof("record_type") in ("exit", "footer")]
    if not any(record.HasField("exit") for record in ending):  # the program was ended, by its sweep or otherwise
        exit_code = 1 if outcome.cause else 0
        ending.insert(0, wandb_internal_pb2.Record(exit={"exit_code": exit_code}))  # type: ignore[attr-defined]
    summary: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
    for name, value in {**run.summary, **outcome.to_summary()}.items():
        summary.summary.update.add(key=name, value_json=json.dumps(value))
    records = [*(record for record in records if record not in ending), summary, *ending]
    for number, record in enumerate(records):
        record.num = number
    path = _new_folder(run, folder) / f"run-{run.run_id}.wandb"
    partial = path.with_suffix(".partial")  # whoever is killed as it writes leaves no run file without its end
    partial.write_bytes(packed(record.SerializeToString() for record in records))
    return partial.replace(path)


def _repeated(run: RunFile) -> list[Any]:
    """Return the records by which a run's file says what it is, the run's own among them."""
    from wandb.proto import wandb_internal_pb2

    records: list[Any] = []
    for raw in read_records(Path(run.file)):
        if is_logged(raw):
            continue
        record: Any = wandb_internal_pb2.Record.FromString(raw)  # type: ignore[attr-defined]
        if record.WhichOneof("record_type") in REPEATED:
            records.append(record)
    if not any(record.HasField("run") for record in records):
        records.append(_run_record(run))
    for record in records:
        if record.HasField("run"):
            record.run.start_time.FromNanoseconds(record.run.start_time.ToNanoseconds() + LATER)
    return records


def _run_record(run: RunFile) -> Any:
    """Return the record that W&B's client begins a run with."""
    from wandb.proto import wandb_internal_pb2

    record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
    told = record.run
    told.run_id, told.display_name, told.run_group, told.job_type = run.run_id, run.name, run.group, "sweep"
    told.project, told.entity = run.project, run.entity
    told.tags.extend(run.tags)
    for name, value in run.config.items():
        told.config.update.add(key=name, value_json=json.dumps(value, default=str))
    told.start_time.FromNanoseconds(0 if math.isnan(run.created) else int(run.created * 1e9))
    return record


def add_outcome(run: RunFile, outcome: SweepOutcome, folder: Path, *, online: bool) -> None:
    """Write an outcome into a run that does not hold it yet, and send it to W&B; where that fails, say so on stderr."""
    try:
        if run.outcome != outcome:
            write_outcome(run, outcome, folder)
        if online:
            send_outcome(run, outcome)
    except (OSError, UsageError) as error:
        print(f"note: what the sweep says of {run.run_id} stands in the study alone, not in its run ({error})", file=sys.stderr)


def send_outcome(run: RunFile, outcome: SweepOutcome) -> None:
    """Add an outcome to the summary of a run at W&B's server that its program has uploaded itself.

    Raises:
        UsageError: where the server does not take it.
    """
    import wandb

    path = "/".join(part for part in (run.entity, run.project, run.run_id) if part)
    try:
        wandb.Api(timeout=60).run(path).summary.update(outcome.to_summary())
    except Exception as error:  # its client's errors have no class in common, and the training has ended well
        raise UsageError(f"W&B did not take it: {first_line(error)}") from None


def _new_folder(run: RunFile, folder: Path) -> Path:
    """Create a W&B run folder: `offline-run-…`, or `run-…` for a run that its program has uploaded."""
    prefix = "offline-run" if Path(run.file).parent.name.startswith("offline-") else "run"
    moment = time.time()
    while True:
        path = folder / "wandb" / f"{prefix}-{time.strftime('%Y%m%d_%H%M%S', time.localtime(moment))}-{run.run_id}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            moment += 1.0


def packed(records: Iterable[bytes]) -> bytes:
    """Return the content of a run file: records as LevelDB's log format lays them down."""
    raw = bytearray(FILE_HEADER.pack(b":W&B", 0xBEE1, 0))
    for record in records:
        rest, first = record, True
        while rest or first:
            space = BLOCK - len(raw) % BLOCK
            if space < PIECE_HEADER.size:
                raw += bytes(space)
                space = BLOCK
            piece, rest = rest[: space - PIECE_HEADER.size], rest[space - PIECE_HEADER.size :]
            kind = (FIRST if rest else WHOLE) if first else (MIDDLE if rest else LAST)
            raw += PIECE_HEADER.pack(zlib.crc32(piece, KINDS[kind]), len(piece), kind) + piece
            first = False
    return bytes(raw)
