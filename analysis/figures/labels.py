"""Names and sentences as labels of figures: broken into lines that fit, at slashes and underscores too, and without mathtext."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from paretune.core.short_names import cut

POINTS = 72  # per inch
MOST_LINES = 3


def fitted(text: str, inches: float, size: float = 9, most_lines: int = MOST_LINES) -> str:
    """Return a text in at most so many lines, none of which is wider than `inches` in a font of `size` points.

    Lines break between words, and in a word that fills more than one line behind a sign. What does not fit loses its middle.
    """
    room = inches * POINTS / size
    lines = list(_lines(text, room))
    most = len(text)
    while len(lines) > most_lines and most > 1:
        most -= max(1, most // 20)
        lines = list(_lines(cut(text, most), room))
    return "\n".join(lines).replace("$", r"\$")


def _lines(text: str, room: float) -> Iterator[str]:
    line = ""
    for word in re.findall(r"\S+\s*", text) or [text]:
        parts = [word] if _width(word.rstrip()) <= room else _parts(word, room)
        for part in parts:
            if line and _width(f"{line}{part}".rstrip()) > room:
                yield line.rstrip()
                line = ""
            line += part
    yield line.rstrip()


def _parts(word: str, room: float) -> list[str]:
    """Return the pieces of a word that may stand on lines of their own: they end with a sign, or fill a line."""
    found = []
    for piece in re.findall(r"[^/_.,:\-]*[/_.,:\-]*\s*", word):
        part = ""
        for letter in piece:
            if part and _width(part + letter) > room:
                found.append(part)
                part = ""
            part += letter
        found += [part] if part else []
    return found


def _width(text: str) -> float:
    """Return how wide a text is in the default font, in units of its size."""
    return sum(map(_advance, text))


@functools.cache
def _advance(letter: str) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    return float(TextToPath().get_text_width_height_descent(letter, FontProperties(size=100), ismath=False)[0]) / 100
