"""Decompresses gzip request bodies, up to a size limit."""

from __future__ import annotations

import zlib

from starlette.exceptions import HTTPException

GZIP = 16 + zlib.MAX_WBITS


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """Return a body as it was before its client compressed it.

    Raises:
        HTTPException: 400 if it is no gzip, 413 if it has more than `most` bytes, 415 if its encoding is another.
    """
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise HTTPException(415, f"a request may be compressed by gzip. Got {encoding[:40]!r}.")
    unpacker = zlib.decompressobj(GZIP)
    try:
        content = unpacker.decompress(body, most + 1)
    except zlib.error:
        raise HTTPException(400, "a request that says that it is gzip must be.") from None
    if len(content) > most:
        raise HTTPException(413, f"a request may have at most {most:,} bytes, unpacked.")
    if not unpacker.eof or unpacker.unused_data:
        raise HTTPException(400, "a request that says that it is gzip must be one whole stream.")
    return content
