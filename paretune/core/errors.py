"""What a person can mend: one error type that command lines turn into one sentence and exit code 2; words for its messages."""

from __future__ import annotations

import difflib
import re
import signal
from collections.abc import Iterable, Sequence

MOST_QUOTED = 500  # letters of a program's output in a message
MOST_NAMED = 20  # names in a message


class UsageError(ValueError):
    """A mistake in what a person wrote or pointed at.

    The message is one sentence: where, what must hold, what came, what to do.
    """


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``"; did you mean 'learning_rate'?"`` or, where nothing is near, an empty text."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def names_there(name: str, names: Iterable[str], most: int = MOST_NAMED) -> str:
    """Return what stands behind an unknown name: which was meant, and which there are.

    As in ``"; did you mean 'val/acc'? There are val/acc, val/loss and 3 more."``. The nearest come first, then the others in
    their order; without any name it is ``"; there is none."``.
    """
    known = list(dict.fromkeys(names))
    if not known:
        return "; there is none."
    near = did_you_mean(name, known)
    listed = listed_names(nearest_first(name, known), most)
    return f"{near} There are {listed}." if near else f"; there are {listed}."


def nearest_first(name: str, names: Iterable[str]) -> list[str]:
    """Return names, those first that are most like `name`, and of equals in their order."""
    return sorted(names, key=lambda other: -_likeness(name, other))


def listed_names(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Return names one behind the other, and where there are more than `most`, how many others there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _likeness(name: str, other: str) -> float:
    """Return how alike two names are, from 0 to 1: by their letters, or by how many words of the one the other holds."""
    mine, theirs = name.lower(), other.lower()
    words = [word for word in re.split(r"[^a-z0-9]+", mine) if len(word) > 1]
    held = sum(word in theirs for word in words) / len(words) if words else 0.0
    ratio = difflib.SequenceMatcher(None, mine, theirs).ratio()
    return max(held, ratio if ratio > 0.5 else 0.0)


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, without a stop at its end; its type's name where it says nothing."""
    lines = (line.strip().rstrip(".: ") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def excerpt(text: str, most: int = MOST_QUOTED) -> str:
    """Return what a program printed or an exception says for a message: at most so many letters, of its beginning and its end."""
    begin = most * 2 // 3
    return text if len(text) <= most else f"{text[:begin]} … {text[begin + 3 - most :]}"


def how_it_ended(code: int) -> str:
    """Return in words how a process ended, from its exit code as Python gives it: negative for a signal."""
    named = {number.value: number.name for number in signal.Signals}  # most of the real-time signals have no name
    if code < 0:
        return f"was killed by {named.get(-code, f'signal {-code}')}"
    shell = f" (a shell's way to say {named[code - 128]})" if code - 128 in named else ""
    return f"exited with code {code}{shell}"
