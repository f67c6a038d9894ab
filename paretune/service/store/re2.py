"""Regular expressions in filters: RE2's, which none can make slow, in place of Python's."""

from __future__ import annotations

import json
from typing import Any

from paretune.core.errors import UsageError

MOST_CHARACTERS = 1000


def found_by(expression: str, text: str | None) -> bool | None:
    """Whether a regular expression finds something in a text: SQLite's REGEXP, in a time that grows with the text's length only."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return None if text is None else bool(pc.match_substring_regex(pa.scalar(text), expression).as_py())


def expression_of(value: Any) -> str:
    """Return the regular expression that $regex names; it is one of RE2's, which none can make slow.

    Raises:
        UsageError: if it is none.
    """
    try:
        if isinstance(value, str) and len(value) <= MOST_CHARACTERS:
            found_by(value, "")
            return value
    except ValueError:
        pass
    shown = json.dumps(value)[:80]
    raise UsageError(
        f"$regex must be a regular expression of at most {MOST_CHARACTERS:,} characters, "
        f"without references to groups and looks ahead or behind. Got {shown}."
    )
