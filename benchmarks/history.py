"""Reading the histories of 1,000 offline runs of 50 epochs, beside the plain loop over their records, and again from what is kept.

usage: python benchmarks/history.py [--json] [--quick]

W&B's client writes a few runs; the others are the same with ids and values of their own. The plain loop parses every record with
protobuf, decodes every value with `json.loads`, and makes one table of the rows, as most scripts do that read these files.
Each side ends with one table of all rows; the two tables must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd
from wandb.proto import wandb_internal_pb2

from benchmarks._result import Result, medians_in_turn, show, times
from paretune.analysis.history import load_history
from paretune.analysis.sources import parquet_cache
from paretune.core.epoch import METRICS, Epoch
from paretune.runs.tracking import track
from paretune.runs.wandb_files import BLOCK, INTERNAL, read_records, read_run

N_WRITTEN = 4  # by W&B's client itself


def write_runs(folder: Path, n_runs: int, n_epochs: int) -> None:
    """Write runs that log every metric of ours."""
    chance = random.Random(0)
    for number in range(N_WRITTEN):
        with track(mode="offline", quiet=True, directory=folder, run_id=f"run{number:05d}", name=f"run {number}") as tracker:
            config = {"classifier": "ann", "hidden": [64, 32], "learning_rate": chance.random()}
            tracker.describe({**config, "evaluation_split": "holdout", "best_metric": "f1"}, {"commit": "abc"})
            for epoch in range(1, n_epochs + 1):
                tracker.log(Epoch(epoch, {name: chance.random() for name in METRICS}))
    files = sorted(folder.rglob("run-*.wandb"))
    while any(run is None or run.state == "running" for run in map(read_run, files)):
        time.sleep(0.05)
    for number in range(N_WRITTEN, n_runs):
        model = files[number % N_WRITTEN]
        old, new = model.stem.removeprefix("run-"), f"run{number:05d}"
        place = model.parent.parent / f"offline-run-20260101_000000-{new}"
        place.mkdir()
        (place / f"run-{new}.wandb").write_bytes(packed([_other(raw, old, new, chance) for raw in read_records(model)]))


def _other(raw: bytes, old: str, new: str, chance: random.Random) -> bytes:
    record: Any = wandb_internal_pb2.Record.FromString(raw)  # type: ignore[attr-defined]
    if record.WhichOneof("record_type") == "history":
        for item in record.history.item:
            if item.nested_key[0] in METRICS:
                item.value_json = json.dumps(chance.random())
    return bytes(record.SerializeToString()).replace(old.encode(), new.encode())


def packed(records: list[bytes]) -> bytes:
    """Lay records down as LevelDB's log format does."""
    raw = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
    for record in records:
        left, first = record, True
        while left or first:
            room = BLOCK - len(raw) % BLOCK
            if room < 7:
                raw += bytes(room)
                room = BLOCK
            piece, left = left[: room - 7], left[room - 7 :]
            kind = (1 if not left else 2) if first else (4 if not left else 3)
            raw += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
            first = False
    return bytes(raw)


def plain(folder: Path) -> pd.DataFrame:
    """Read every record of every file, and every value of every record."""
    lines = []
    for file in sorted(folder.rglob("run-*.wandb")):
        run, config, summary = "", {}, {}
        rows = []
        for raw in read_records(file):
            record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(raw)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = record.run.run_id
                config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
            elif kind == "config":
                config.update({item.key: json.loads(item.value_json) for item in record.config.update})
            elif kind == "summary":
                summary.update(
                    {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.summary.update}
                )
            elif kind == "history":
                rows.append({".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item})
        lines += [{"run": run, "config.learning_rate": config["learning_rate"], **row} for row in rows]
    return pd.DataFrame(lines)


def same(ours: pd.DataFrame, theirs: pd.DataFrame) -> bool:
    """Whether two tables hold the same metrics of the same runs and epochs."""
    names = ["run", "epoch", *METRICS]
    left, right = (table[names].sort_values(["run", "epoch"]).reset_index(drop=True) for table in (ours, theirs))
    return bool((left == right).all(axis=None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="100 runs")
    options = parser.parse_args()
    n_runs, n_epochs = (100 if options.quick else 1000), 50
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "wandb"
        os.environ["WANDB_CACHE_DIR"] = str(Path(scratch) / "cache")
        write_runs(folder, n_runs, n_epochs)
        place = parquet_cache.place_of("offline", folder.resolve())
        tables: dict[str, pd.DataFrame] = {}

        def timed(name: str, read: Callable[[Path], pd.DataFrame], *, afresh: bool = False) -> float:
            if afresh:
                place.unlink(missing_ok=True)
            begin = time.perf_counter()
            tables[name] = read(folder)
            return time.perf_counter() - begin

        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  the progress bar
        found = medians_in_turn(
            {
                "plain": lambda: timed("plain", plain),
                "ours": lambda: timed("ours", load_history, afresh=True),
                "kept": lambda: timed("kept", load_history),
            },
            3,
        )
        sys.stderr = sys.__stderr__
        if not (same(tables["ours"], tables["plain"]) and same(tables["kept"], tables["plain"])):
            raise SystemExit("the tables differ")
        megabytes = sum(file.stat().st_size for file in folder.rglob("run-*.wandb")) / 1e6
        memory = tables["ours"].memory_usage(deep=True).sum() / 1e6
        kept_megabytes = place.stat().st_size / 1e6
    n_rows = n_runs * n_epochs
    results: list[Result] = [
        times(f"{n_runs:,} runs of {n_epochs} epochs, beside the plain loop", found["ours"], found["plain"], goal=3),
        times("a second time, beside the first", found["kept"], found["ours"], goal=10),
    ]
    speeds = ", ".join(f"{name} {n_rows / seconds:,.0f}" for name, seconds in found.items())
    notes = [
        "",
        f"rows a second: {speeds}",
        f"{megabytes:.0f} MB of run files; the table of {n_rows:,} rows takes {memory:.0f} MB of memory, what is kept "
        f"{kept_megabytes:.1f} MB of disk",
        f"W&B's own columns ({', '.join(sorted(INTERNAL))}) are left out",
    ]
    show(results, as_json=options.json, notes=notes)


if __name__ == "__main__":
    main()
