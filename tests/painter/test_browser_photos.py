"""The painter in a real Chromium: photos that are dropped, pasted or opened are read as drawings by every model."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from paretune.painter.models import Models
from paretune.trainers.predict import predictions
from tests.painter.browsing import CHROMIUM, draw, opened, said, save_models, served
from tests.painter.photos import photo_of
from tests.painter.strokes import Drawing, drawings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

DROP = """([content, name]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  const target = document.getElementById("canvas");
  target.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
PASTE = """([content, name]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of 8x8 digits, which need no download."""
    folder = tmp_path_factory.mktemp("models")
    save_models(folder)
    return folder


@pytest.fixture
def page(browser: Browser, folder: Path, tmp_path: Path) -> Iterator[Page]:
    with served(Models([folder], device="cpu"), tmp_path / "drawings") as address:
        yield from opened(browser, address)


def jpeg_of(drawing: Drawing) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo_of(drawing, seed=drawing.digit)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def give(page: Page, how: str, content: bytes, name: str = "photo.jpg") -> None:
    """Drop, paste or open a file, without waiting for an answer."""
    if how == "open":
        page.locator("#file").set_input_files({"name": name, "mimeType": "image/jpeg", "buffer": content})
    else:
        page.evaluate(DROP if how == "drop" else PASTE, [base64.b64encode(content).decode(), name])


def give_and_wait(page: Page, how: str, content: bytes) -> dict[str, str]:
    before = page.evaluate("Number(document.body.dataset.read ?? 0)")
    give(page, how, content)
    page.wait_for_function("before => Number(document.body.dataset.read ?? 0) > before", arg=before)
    return said(page)


@pytest.mark.parametrize("how", ["drop", "paste", "open"])
def test_a_photo_is_read_by_every_model_as_predict_reads_it(page: Page, folder: Path, tmp_path: Path, how: str) -> None:
    for drawing in drawings()[:4]:
        content = jpeg_of(drawing)
        (tmp_path / "photo.jpg").write_bytes(content)
        rows = predictions([str(folder / "first"), str(folder / "second")], tmp_path / "photo.jpg", device="cpu")
        assert give_and_wait(page, how, content) == {Path(row["model"]).name: row["label"] for row in rows}
        assert "dark ink on light paper" in str(page.locator("#saved").text_content())
        assert page.locator("#hint").is_hidden()


def test_strokes_are_drawn_over_a_photo_and_undone_before_it(page: Page) -> None:
    alone = give_and_wait(page, "drop", jpeg_of(drawings()[1]))
    form = page.locator("#form").get_attribute("src")
    draw(page, Drawing(0, 0, [[(20, 80, 0), (80, 80, 50)]]))
    assert page.locator("#form").get_attribute("src") != form
    before = page.evaluate("Number(document.body.dataset.read)")
    page.keyboard.press("z")
    page.wait_for_function("before => Number(document.body.dataset.read) > before", arg=before)
    assert (said(page), page.locator("#form").get_attribute("src")) == (alone, form)
    page.keyboard.press("z")
    assert set(said(page).values()) == {"–"}
    assert page.locator("#undo").is_disabled()


def test_a_photo_is_saved_as_a_drawing_without_strokes(page: Page, tmp_path: Path) -> None:
    give_and_wait(page, "paste", jpeg_of(drawings()[2]))
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.wait_for_selector("#saved:has-text('Saved as a 2.')")
    (record,) = (tmp_path / "drawings" / "strokes").glob("*.json")
    assert json.loads(record.read_text(encoding="utf-8"))["strokes"] == []
    assert page.evaluate("photo") is None


def test_a_file_that_is_no_picture_gets_a_sentence_and_the_drawing_stays(page: Page) -> None:
    draw(page, drawings()[3])
    before = said(page)
    give(page, "drop", b"no picture", "notes.txt")
    page.wait_for_selector("#problem:has-text('the picture is not a readable picture (it is in no format that Pillow reads)')")
    assert said(page) == before
    assert page.evaluate("strokes.length") == len(drawings()[3].strokes)
