"""What the studies of a folder found, as pages: one each, one report of them all (HTML and PDF), one table in Markdown.

Everything is made from the results that each study leaves as NAME.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.analysis.document.document import Document, Heading, Paragraph, Picture, Table, write_html, write_pdf
from paretune.core.errors import UsageError
from studies.base import STUDIES, Study

if TYPE_CHECKING:
    from paretune.analysis.document.document import Block

TABLE = ("what", "document", "here")
KEYS = {"name", "title", "quick", "reduction", "lines", "notes", "layers", "figures"}  # of Study.to_dict


def write(study: Study) -> tuple[Path, Path]:
    """Write a study's results and its page; return the page's path and that of the results."""
    results, found = study.to / f"{study.name}.json", study.to_dict()
    partial = results.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    partial.replace(results)
    document = Document(title_of(found), reduced(found))
    document.add(*blocks_of(found, study.to))
    return write_html(document, study.to / f"{study.name}.html"), results


def write_report(folder: Path) -> tuple[Path, Path]:
    """Write the report of every study in a folder, each on a page of its own; return the paths of HTML and PDF.

    Raises:
        UsageError: if there are no results in it.
    """
    found = read_results(folder)
    document = Document("Studies", "Systems of the source documents, reproduced", chapters=True)
    document.add(Table(("study", *TABLE, "reached"), table_rows(found), "The documents' figures beside those measured here.", 5))
    for results in found:
        document.add(Heading(title_of(results)))
        if results["quick"]:
            document.add(Paragraph(reduced(results)))
        document.add(*blocks_of(results, folder))
    return write_html(document, folder / "report.html"), write_pdf(document, folder / "report.pdf")


def results_table(folder: Path) -> str:
    """Return the results of a folder as a table in Markdown, in the order of STUDIES.

    Raises:
        UsageError: if there are none.
    """
    rows = [["study", *TABLE, "reached"], ["---"] * 5, *table_rows(read_results(folder))]
    return "\n".join("|".join(["", *(f" {cell} " if cell != "---" else cell for cell in row), ""]) for row in rows)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return what the studies of a folder left, in the order of STUDIES.

    Raises:
        UsageError: if there is nothing, or a file is not of this version.
    """
    files = [folder / f"{name}.json" for name in STUDIES if (folder / f"{name}.json").is_file()]
    if not files:
        raise UsageError(f"{folder} holds no results of a study: run python -m studies NAME --to {folder} first.")
    found = []
    for file in files:
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
            whole = set(results) == KEYS and bool(table_rows([results])) | bool(blocks_of(results, folder))
            whole = whole and all((folder / figure["file"]).is_file() for figure in results["figures"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise UsageError(f"{file} is not what this version's studies leave: run python -m studies {file.stem} --to {folder}.")
        found.append(results)
    return found


def table_rows(found: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Return study, what, document, here, reached; the study's name stands in its first line alone."""
    rows = []
    for results in found:
        name = f"{results['name'].upper()}{' (reduced)' if results['quick'] else ''}"
        for line in results["lines"]:
            reached = {True: "yes", False: "NO", None: ""}[line["reached"]]
            rows.append([name, line["what"], line["document"], line["ours"], reached])
            name = ""
    return rows


def title_of(results: Mapping[str, Any]) -> str:
    """Return `F3. Dropout, 60 epochs`."""
    return f"{results['name'].upper()}. {results['title']}"


def reduced(results: Mapping[str, Any]) -> str:
    """Return the sentence that says what a reduced form changed; empty for a full one."""
    return f"Reduced form: {results['reduction']}." if results["quick"] else ""


def blocks_of(results: Mapping[str, Any], folder: Path) -> list[Block]:
    """Return a study's table, layers, notes and figures."""
    blocks: list[Block] = []
    if results["lines"]:
        rows = [[line["what"], line["document"], line["ours"]] for line in results["lines"]]
        blocks.append(Table(TABLE, rows, "The document's figures beside those measured here.", text_columns=3))
    if results["layers"]:
        head, *rows = results["layers"]
        blocks.append(Table(head, rows, "Layers, the shapes of their outputs, and their learnt numbers.", text_columns=2))
    blocks += [Paragraph(note) for note in results["notes"]]
    return blocks + [Picture(folder / figure["file"], figure["caption"], width=figure["width"]) for figure in results["figures"]]
