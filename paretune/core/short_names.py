"""Shortens names so that those that differ stay different."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from os.path import commonprefix

ELLIPSIS = "…"


def shortened(names: Sequence[str], most: int) -> list[str]:
    """Return each name in at most so many characters, in their order; different names are different afterwards.

    A name that is too long loses its end. Where others begin alike, it keeps its beginning and what follows the common part; else
    its end; and where not even that tells them apart, a number stands at its end.
    """
    of_name: dict[str, str] = {name: name for name in names if len(name) <= most}
    long = [name for name in dict.fromkeys(names) if len(name) > most]
    alike: dict[str, list[str]] = {}
    for name in long:
        alike.setdefault(name[: most - 1], []).append(name)
    shared = {begin: commonprefix(rivals) for begin, rivals in alike.items()}  # noqa: RUF071  by characters
    for cut in (_end_cut, partial(_common_part_cut, shared), _middle_cut):
        tried = {name: cut(name, most) for name in long}
        counts = Counter([*of_name.values(), *tried.values()])
        of_name |= {name: short for name, short in tried.items() if counts[short] == 1}
        long = [name for name in long if name not in of_name]
    taken, numbers = set(of_name.values()), Counter[str]()
    for name in long:
        begin = name[
            : max(most - 2, 0)
        ]  # names that begin so try the same texts: each goes on where the one before has found its own
        while of_name.get(name) is None:
            numbers[begin] += 1
            short = _numbered(name, numbers[begin], most)
            if short not in taken:
                taken.add(short)
                of_name[name] = short
    return [of_name[name] for name in names]


def cut(name: str, most: int) -> str:
    """Return a single name in at most so many characters: beginning and end, as others that it is seen beside may begin alike."""
    return name if len(name) <= most else _middle_cut(name, most)


def _end_cut(name: str, most: int) -> str:
    return name[: most - 1] + ELLIPSIS


def _common_part_cut(shared: Mapping[str, str], name: str, most: int) -> str:
    """Keep the first characters, and as many as fit from where the name leaves those that begin as it does.

    Args:
        shared: the part that all names have in common that begin alike, by their beginning.
    """
    head = name[: max(1, (most - 2) // 3)]
    rest = name[max(len(head), len(shared[name[: most - 1]]) - 1) :]  # with one character that they share
    room = most - len(head) - 1
    return f"{head}{ELLIPSIS}{rest}" if len(rest) <= room else f"{head}{ELLIPSIS}{rest[: room - 1]}{ELLIPSIS}"


def _middle_cut(name: str, most: int) -> str:
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}{ELLIPSIS}{name[len(name) - tail :]}"


def _numbered(name: str, number: int, most: int) -> str:
    end = f"{ELLIPSIS}{number}"
    return name[: max(most - len(end), 0)] + end
