"""Read the records of a W&B offline run file (`run-*.wandb`), also one that is still written or was cut off.

Layout (LevelDB's log format, checked against wandb 0.31): 7 bytes `:W&B`, magic 0xBEE1, version 0; then blocks of 32 KiB
that hold pieces of crc32 (4 bytes), length (2), type (1: whole, 2: first, 3: middle, 4: last) and data. The crc covers
type and data.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

BLOCK = 32 * 1024
FILE_HEADER = struct.Struct("<4sHB")
PIECE_HEADER = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


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
