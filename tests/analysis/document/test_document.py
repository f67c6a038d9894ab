"""A document as a page and as a paper: nothing that is written in it is read as markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from paretune.analysis.document.document import Document, Heading, Paragraph, Picture, Table, write_html, write_pdf
from paretune.analysis.figures.runs import new_figure, save_figure
from tests.analysis.reading import Page, characters_of, pages_of, pictures_of

SPECIAL = "#$*<&@\"'>_`\\[]{}~^%|="
SENTENCE = f"#let x = *bold* _it_ <b>b</b> &amp; &lt; $x^2$ @cite \"quoted\" 'so' `raw` \\ [a] {{{{ b }}}} // {SPECIAL} -- ..."
LETTERS = set(SENTENCE) - {" "}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    figure, (axes,) = new_figure(2, 2)
    axes.plot([0, 1])
    return save_figure(figure, tmp_path / "pictures" / "line.png")


def document_of(*blocks: Heading | Paragraph | Table | Picture, title: str = "t", subtitle: str = "s") -> Document:
    document = Document(title, subtitle)
    document.add(*blocks)
    return document


PLACES = {
    "title": document_of(title=SENTENCE),
    "subtitle": document_of(subtitle=SENTENCE),
    "heading": document_of(Heading(SENTENCE)),
    "paragraph": document_of(Paragraph(SENTENCE)),
    "column": document_of(Table([SENTENCE], [["1"]], "c")),
    "cell": document_of(Table(["a", "b"], [["1", SENTENCE]], "c")),
    "caption": document_of(Table(["a"], [["1"]], SENTENCE)),
}


@pytest.mark.parametrize("place", list(PLACES))
def test_special_characters_survive_in_a_page(place: str, tmp_path: Path) -> None:
    page = Page(write_html(PLACES[place], tmp_path / "page.html"))
    assert SENTENCE in page.text
    assert "b" not in {tag for tag, _ in page.tags}


@pytest.mark.parametrize("place", list(PLACES))
def test_special_characters_survive_in_a_paper(place: str, tmp_path: Path) -> None:
    paper = write_pdf(PLACES[place], tmp_path / "paper.pdf")
    plain = write_pdf(document_of(Table(["a"], [["1"]], "c")), tmp_path / "plain.pdf")
    assert not LETTERS & set("#$*<&@") & characters_of(plain)
    missing = LETTERS - characters_of(paper)
    assert not missing


def test_the_caption_of_a_picture_is_text_in_both(picture: Path, tmp_path: Path) -> None:
    document = document_of(Picture(picture, SENTENCE, width="50%"))
    page = Page(write_html(document, tmp_path / "page.html"))
    assert SENTENCE in page.text
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"] == [SENTENCE]
    assert characters_of(write_pdf(document, tmp_path / "paper.pdf")) >= LETTERS


def test_a_page_holds_its_pictures(picture: Path, tmp_path: Path) -> None:
    page = Page(write_html(document_of(Picture(picture, "c")), tmp_path / "page.html"))
    (source,) = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert source.startswith("data:image/png;base64,iVBOR")
    assert page.loaded() == []


def test_an_interactive_picture_takes_the_place_of_the_file_on_a_page_and_not_in_a_paper(picture: Path, tmp_path: Path) -> None:
    document = document_of(Picture(picture, "c", interactive='<div id="plot"></div>'))
    page = Page(write_html(document, tmp_path / "page.html"))
    assert "img" not in {tag for tag, _ in page.tags}
    assert ("div", {"id": "plot"}) in page.tags
    assert pictures_of(write_pdf(document, tmp_path / "paper.pdf")) >= 1


def test_a_paper_breaks_into_pages(tmp_path: Path) -> None:
    short = write_pdf(document_of(Paragraph("one line")), tmp_path / "short.pdf")
    long = write_pdf(document_of(*[Paragraph("word " * 200)] * 30), tmp_path / "long.pdf")
    assert short.read_bytes().startswith(b"%PDF")
    assert pages_of(short) == 1
    assert pages_of(long) > 3


def test_the_text_columns_of_a_table_are_set_left(tmp_path: Path) -> None:
    document = document_of(Table(["name", "why", "value"], [["a", "b", "1"]], "c", text_columns=2))
    page = Page(write_html(document, tmp_path / "page.html"))
    cells = [attributes.get("class") for tag, attributes in page.tags if tag in {"th", "td"}]
    assert cells == ["text", "text", None] * 2


def test_a_table_without_rows_is_a_table(tmp_path: Path) -> None:
    document = document_of(Table(["a", "b"], [], "nothing"))
    assert "nothing" in Page(write_html(document, tmp_path / "page.html")).text
    assert pages_of(write_pdf(document, tmp_path / "paper.pdf")) == 1
