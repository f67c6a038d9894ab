"""One part of `make gpu` while it runs in its process: the device, its clock, the time left, the rows that are measured."""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

CPU = torch.device("cpu")


@dataclass
class Session:
    """The process of one part.

    Args:
        rows: the file of JSON lines that the command reads; a later line of a row adds to the earlier ones.
        end: until when measurements may begin, by time.monotonic.
        quick: whether everything is shortened.
    """

    rows: Path
    end: float
    quick: bool
    device: torch.device

    def write(self, row: str, **values: Any) -> None:
        """Add to a row what was measured: what is written stays, whatever happens next."""
        if self.device.type == "cuda":
            values["peak_gpu_mib"] = round(torch.cuda.max_memory_allocated(self.device) / 2**20)
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite({"row": row, **values})) + "\n")

    def left(self) -> float:
        """Return the seconds in which measurements may still be made."""
        return self.end - time.monotonic()

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def wait(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        """Return how long work takes, the device's included."""
        self.wait()
        begin = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - begin

    def forget(self) -> None:
        """Give the device's memory back, and count its peak anew."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


def finite(value: Any) -> Any:
    """Return numbers as JSON has them: what is none of them, of a network that diverged, as a text."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def equal_share(found: Any, wanted: Any) -> float:
    """Return the share of labels that are equal."""
    return float((found == wanted).mean())
