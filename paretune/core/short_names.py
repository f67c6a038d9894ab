"""Shortens names so that those that differ stay different."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os.path import commonprefix

ELLIPSIS = "…"


def shortened(names: Sequence[str], most: int) -> list[str]:
    """Return each name in at most so many characters, in their order; different names are different afterwards.

    A name that is too long loses its end. Where others begin alike, it keeps its beginning and what follows the common part; else
    its end; and where not even that tells them apart, a number stands at its end.
    """
    of_name: dict[str, str] = {name: name for name in names if len(name) <= most}
    long = [name for name in dict.fromkeys(names) if len(name) > most]
    for cut in (_end_cut, _common_part_cut, _middle_cut):
        tried = {name: cut(name, long, most) for name in long}
        taken = [*of_name.values(), *tried.values()]
        of_name |= {name: short for name, short in tried.items() if taken.count(short) == 1}
        long = [name for name in long if name not in of_name]
    for name in long:
        of_name[name] = _numbered(name, most, set(of_name.values()))
    return [of_name[name] for name in names]


def cut(name: str, most: int) -> str:
    """Return a single name in at most so many characters: beginning and end, as others that it is seen beside may begin alike."""
    return name if len(name) <= most else _middle_cut(name, (), most)


def _end_cut(name: str, _others: Iterable[str], most: int) -> str:
    return name[: most - 1] + ELLIPSIS


def _common_part_cut(name: str, others: Iterable[str], most: int) -> str:
    """Keep the first characters, and as many as fit from where the name leaves those that begin as it does."""
    head = name[: max(1, (most - 2) // 3)]
    rivals = [other for other in others if other.startswith(name[: most - 1])]
    begin = max(len(head), len(commonprefix([name, *rivals])) - 1)  # noqa: RUF071  with one character that they share
    rest = name[begin:]
    room = most - len(head) - 1
    return f"{head}{ELLIPSIS}{rest}" if len(rest) <= room else f"{head}{ELLIPSIS}{rest[: room - 1]}{ELLIPSIS}"


def _middle_cut(name: str, _others: Iterable[str], most: int) -> str:
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}{ELLIPSIS}{name[len(name) - tail :]}"


def _numbered(name: str, most: int, taken: set[str]) -> str:
    number = 1
    while True:
        end = f"{ELLIPSIS}{number}"
        short = name[: max(most - len(end), 0)] + end
        if short not in taken:
            return short
        number += 1
