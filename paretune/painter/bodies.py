"""What a request carries, as far as it may be large."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request


async def body_of(request: Request, most: int, what: str) -> bytes:
    """Return a request's body of at most `most` bytes.

    Args:
        what: how the sentence names it: a drawing, a request.

    Raises:
        HTTPException: 413 if it is larger.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"{what} may have at most {most:,} bytes.")
        parts.append(part)
    return b"".join(parts)
