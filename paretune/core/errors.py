"""What a person can mend: one error type that command lines turn into one sentence and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A mistake in what a person wrote or pointed at.

    The message is one sentence: where, what must hold, what came, what to do.
    """


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``"; did you mean 'learning_rate'?"`` or, where nothing is near, an empty text."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
