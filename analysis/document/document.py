"""A document of headings, paragraphs, tables and pictures, written as one HTML file and as PDF from the same blocks.

The HTML holds everything it shows. The PDF is set by Typst (its Python wheel needs nothing else) from
`templates/report.typ`, which reads the blocks as JSON.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str
    level: int = 1


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of texts under column names; the first `text_columns` columns are set left, the others right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    text_columns: int = 1


@dataclass(frozen=True)
class Picture:
    """A figure in a file, as wide as `width` of the page; `interactive` is HTML that takes its place on a page."""

    file: Path
    caption: str
    interactive: str = ""
    width: str = "100%"


Block = Heading | Paragraph | Table | Picture


@dataclass
class Document:
    """A title, a line below it, and blocks."""

    title: str
    subtitle: str
    blocks: list[Block] = field(default_factory=list)
    language: str = "en"  # ISO 639-1: of hyphens, and of the words for figure and table
    chapters: bool = False  # in the PDF each section starts a page, and has no number

    def add(self, *blocks: Block) -> None:
        """Append blocks."""
        self.blocks.extend(blocks)


def write_html(document: Document, path: Path) -> Path:
    """Write the document as one file that needs no other."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    environment.filters["embedded"] = _embedded
    interactive = any(isinstance(block, Picture) and block.interactive for block in document.blocks)
    script = plotly_script() if interactive else ""
    html = environment.get_template("report.html").render(document=document, blocks=_plain(document), script=script)
    path.write_text(html, encoding="utf-8")
    return path


def write_pdf(document: Document, path: Path) -> Path:
    """Write the document as PDF; interactive pictures are replaced by their files."""
    import typst

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        blocks = _plain(document)
        for number, block in enumerate(blocks):
            if block["kind"] == "picture":
                name = f"{number}{Path(block['file']).suffix}"
                (root / name).write_bytes(Path(block["file"]).read_bytes())
                block.update(file=name, interactive="")
        names = ("title", "subtitle", "language", "chapters")
        content = {**{name: getattr(document, name) for name in names}, "blocks": blocks}
        (root / "report.json").write_text(json.dumps(content), encoding="utf-8")
        (root / "report.typ").write_text((TEMPLATES / "report.typ").read_text(encoding="utf-8"), encoding="utf-8")
        typst.compile(str(root / "report.typ"), output=str(path))
    return path


def plotly_script() -> str:
    """Return the script that interactive pictures need, once a page, as HTML."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def _plain(document: Document) -> list[dict[str, Any]]:
    result = []
    for block in document.blocks:
        values = {key: str(value) if isinstance(value, Path) else value for key, value in vars(block).items()}
        result.append({"kind": type(block).__name__.lower(), **values})
    return result


def _embedded(file: str) -> str:
    return "data:image/png;base64," + base64.b64encode(Path(file).read_bytes()).decode()
