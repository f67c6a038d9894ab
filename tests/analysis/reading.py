"""What a finished page or paper holds: the tags of an HTML file, the characters and pages of a PDF."""

from __future__ import annotations

import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image


class Page(HTMLParser):
    """An HTML file: its tags with their attributes, the text that a person reads, its style sheets."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.styles, self._inside = "", "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.styles += data
        elif self._inside != "script":
            self.text += data

    def loaded(self) -> list[str]:
        """Return every address that a browser would fetch, other than what stands in the file itself."""
        found = []
        for tag, attributes in self.tags:
            names = ["src", "srcset", "data", "poster"] + (["href"] if tag in {"link", "image", "use"} else [])
            found += [str(attributes[name]) for name in names if name in attributes]
        found += re.findall(r"url\(\s*['\"]?([^)'\"]+)|@import\s+(\S+)", self.styles)
        return [address for address in found if not address.startswith("data:")]


def is_a_drawing(picture: Path) -> bool:
    """Whether a picture is a PNG with ink on the paper, in more than a colour or two."""
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(np.int64) @ [1 << 16, 1 << 8, 1]
        ink = float((pixels != 0xFFFFFF).mean())
        return image.format == "PNG" and min(pixels.shape) > 400 and len(np.unique(pixels)) > 20 and 0.005 < ink < 0.9


def pages_of(pdf: Path) -> int:
    """Return the number of pages of a PDF whose objects are not packed."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))


def pictures_of(pdf: Path) -> int:
    """Return the number of bitmaps in a PDF."""
    return len(re.findall(rb"/Subtype\s*/Image\b", pdf.read_bytes()))


def characters_of(pdf: Path) -> set[str]:
    """Return every character that is set in a PDF, by the maps from its glyphs to Unicode."""
    raw, found = pdf.read_bytes(), set()
    for start in re.finditer(rb"stream\r?\n", raw):
        try:
            stream = zlib.decompressobj().decompress(raw[start.end() :])
        except zlib.error:
            continue
        for mapped in re.findall(rb"beginbfchar(.*?)endbfchar", stream, re.DOTALL):
            for text in re.findall(rb"<[0-9A-Fa-f]+>\s*<([0-9A-Fa-f]+)>", mapped):
                found.update(bytes.fromhex(text.decode()).decode("utf-16-be"))
    return found
