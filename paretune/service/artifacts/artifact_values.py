"""Values of artifacts as clients send them: digests, tags, metadata, lifetimes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from paretune.core.errors import UsageError
from paretune.service.store import runs

REGIONS = (None, "", "default")  # where contents can lie: this server has one place for them
TAG_FORM = re.compile(r"[-\w]+( +[-\w]+)*")


def digest_of(entries: Mapping[str, Any]) -> str:
    """Return the digest of a version's names and digests, as clients compute it to know whether anything is new."""
    lines = "".join(f"{name}:{entries[name]['digest']}\n" for name in sorted(entries))
    return hashlib.md5(f"wandb-artifact-manifest-v1\n{lines}".encode(), usedforsecurity=False).hexdigest()


def md5_of(digest: str) -> str:
    """Return an MD5 in hexadecimal that came in base64.

    Raises:
        UsageError: if it is none.
    """
    try:
        found = base64.b64decode(digest, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != 16:
        raise UsageError(f"a file's digest must be an MD5 in base64. Got {digest[:40]!r}.")
    return found.hex()


def base64_of(md5: str) -> str:
    """Return in base64 an MD5 in hexadecimal."""
    return base64.b64encode(bytes.fromhex(md5)).decode()


def checked_tags(tags: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of TagInputs.

    Raises:
        UsageError: if one is no tag.
    """
    names = list(dict.fromkeys(tag["tagName"] for tag in tags))
    for name in names:
        if len(name) > 128 or not TAG_FORM.fullmatch(name):
            raise UsageError(f"a tag must be letters, digits, dashes, underscores and spaces. Got {name[:80]!r}.")
    return names


def check_region(region: Any) -> None:
    """Refuse a storage region that this server does not have.

    Raises:
        UsageError: that names it.
    """
    if region not in REGIONS:
        raise UsageError(f"this server has no storage region {str(region)[:80]!r}: log the artifact without storage_region.")


def checked_facts(text: str | None) -> str | None:
    """Return metadata, which is a JSON object.

    Raises:
        UsageError: if it is none.
    """
    if text is not None:
        runs.mapping_of(text, "metadata")
    return text


def seconds_of(value: Any) -> int | None:
    """Return the lifetime that a client asks for, in seconds; None where it is to be without end.

    Raises:
        UsageError: if it is no whole number.
    """
    seconds = whole(value, "ttlDurationSeconds")
    return seconds if seconds is not None and seconds > 0 else None


def whole(value: Any, name: str) -> int | None:
    """Return a whole number, which may come as a text; None where nothing came.

    Raises:
        UsageError: if it is none, or has more than 18 digits.
    """
    if value is not None and not re.fullmatch(r"-?[0-9]{1,18}", str(value)):
        raise UsageError(f"{name} must be a whole number. Got {str(value)[:40]!r}.")
    return None if value is None else int(value)
