"""Checkpoints: where a training stands after an epoch, as one file from which another process goes on.

A file is the CRC-32 of what follows (4 bytes), then what torch.save wrote: torch itself notices a cut-off file, but not a
changed byte. Loading one never runs code from it.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKPOINT_SECONDS = 30.0  # between two checkpoints of a training; what ends sooner is trained anew rather than written
CHECKSUM_BYTES = 4


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state (numbers, texts, lists, mappings, tensors), whole or not at all; makes the folder.

    Raises:
        OSError: if it cannot be written; an earlier checkpoint at `path` is then still there.
    """
    import torch

    buffer = io.BytesIO()  # in memory first: torch's own writer reports a full disk as a RuntimeError
    torch.save(dict(state), buffer)
    raw = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(zlib.crc32(raw).to_bytes(CHECKSUM_BYTES, "big") + raw)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return what `save_checkpoint` wrote, on the CPU; None where no file is, or it is cut off, broken or something else."""
    import torch

    try:
        written = path.read_bytes()
        checksum, raw = written[:CHECKSUM_BYTES], written[CHECKSUM_BYTES:]
        if zlib.crc32(raw).to_bytes(CHECKSUM_BYTES, "big") != checksum:
            return None
        state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception:  # whatever stands in the file, and torch raises many kinds: the training starts anew
        return None
    return state if isinstance(state, dict) else None
