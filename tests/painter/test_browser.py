"""The painter in a real Chromium: strokes drawn with the mouse, answers read off the page, drawings collected and downloaded."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from paretune.data.digit_form import mnist_form
from paretune.painter.models import Models
from tests.painter.browsing import CHROMIUM, draw, opened, said, save_models, served
from tests.painter.strokes import Drawing, drawings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of 8x8 digits, which need no download, and a broken one."""
    folder = tmp_path_factory.mktemp("models")
    save_models(folder)
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def address(folder: Path, tmp_path: Path) -> Iterator[str]:
    """A painter that really listens, collecting below tmp_path / drawings."""
    with served(Models([folder], device="cpu"), tmp_path / "drawings") as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    yield from opened(browser, address)


def test_every_digit_is_drawn_and_read(page: Page) -> None:
    right = 0
    for drawing in drawings()[:10]:
        draw(page, drawing)
        found = said(page)
        assert set(found) == {"first", "second"}
        most = max(set(found.values()), key=list(found.values()).count)
        count = list(found.values()).count(most)
        assert re.fullmatch(rf"Read as \d by {count} of 2 models\.", str(page.locator("#said").text_content()))
        right += str(drawing.digit) in found.values()
        for card in page.locator(".card").all():
            bars = card.locator(".bar").evaluate_all("bars => bars.map((bar) => new DOMMatrix(getComputedStyle(bar).transform).d)")
            assert sum(bars) == pytest.approx(1, abs=1e-3)
            assert card.locator("li.top").text_content().strip() == card.locator(".label").text_content()  # type: ignore[union-attr]
            assert np.argmax(bars) == int(str(card.locator(".label").text_content()))
            assert re.fullmatch(r"\d+\.\d ms", str(card.locator(".time").text_content()))
        page.keyboard.press("c")
    assert right >= 7, "synthetic drawings, models of 8x8 scans"


def test_undo_and_clear_take_back_strokes_and_answers(page: Page) -> None:
    seven = drawings()[17]
    assert len(seven.strokes) == 2
    draw(page, Drawing(7, 0, seven.strokes[:1]))
    after_one, form = said(page), page.locator("#form").get_attribute("src")
    draw(page, Drawing(7, 0, seven.strokes[1:]))
    assert page.locator("#form").get_attribute("src") != form
    before = page.evaluate("Number(document.body.dataset.read)")
    page.keyboard.press("Control+z")
    page.wait_for_function("before => Number(document.body.dataset.read) > before", arg=before)
    assert (said(page), page.locator("#form").get_attribute("src")) == (after_one, form)
    page.keyboard.press("z")
    assert set(said(page).values()) == {"–"}
    assert page.locator("#seen").is_hidden()
    assert page.locator("#undo").is_disabled()
    draw(page, seven)
    page.locator("#clear").click()
    assert set(said(page).values()) == {"–"}
    assert page.locator("#hint").is_visible()


def test_drawings_are_collected_counted_and_downloaded(page: Page, tmp_path: Path) -> None:
    page.keyboard.press("Enter")
    assert page.locator("#saved").text_content() == "Draw a digit first."
    draw(page, drawings()[6])
    page.keyboard.press("Enter")
    assert page.locator("#saved").text_content() == "Choose the digit that you meant first."
    page.keyboard.press("6")
    page.keyboard.press("Enter")
    page.wait_for_selector("#saved:has-text('Saved as a 6. There are 1 of it now.')")
    assert page.locator("#undo").is_disabled(), "the field is clear for the next one"
    (file,) = (tmp_path / "drawings" / "28x28" / "6").glob("*.png")
    record = json.loads((tmp_path / "drawings" / "strokes" / f"{file.stem}.json").read_text(encoding="utf-8"))
    wanted = [(x * 2.8, y * 2.8) for stroke in drawings()[6].strokes for x, y, _ in stroke]
    found = [(x, y) for stroke in record["strokes"] for x, y, _ in stroke]
    assert np.abs(np.array(found) - np.array(wanted)).max() < 2
    assert record["painter"] > 0
    with Image.open(tmp_path / "drawings" / "full" / "6" / file.name) as full, Image.open(file) as formed:
        ink = np.asarray(full, dtype=np.float32) / 255
        np.testing.assert_array_equal(np.asarray(formed), np.round(255 * mnist_form(ink)))
    draw(page, drawings()[6])
    page.locator(".labels label").nth(6).click()
    page.locator("#save").click()
    page.wait_for_selector("#problem:has-text('This very drawing is there already, as a 6')")
    page.locator("#clear").click()
    page.locator("#ask").click()
    page.wait_for_selector("#asked:has-text('Draw a')")
    digit = str(page.locator("#asked").text_content()).removeprefix("Draw a ").removesuffix(".")
    assert digit in set("012345789"), "a digit that is drawn least"
    assert page.locator("#hint").text_content() == f"Draw a {digit}."
    assert page.locator("input[name=label]:checked").get_attribute("value") == digit
    draw(page, next(drawing for drawing in drawings() if str(drawing.digit) == digit))
    page.locator("#save").click()
    page.wait_for_selector(f"#saved:has-text('Saved as a {digit}.')")
    page.wait_for_function("old => document.getElementById('asked').textContent !== old", arg=f"Draw a {digit}.")
    assert [page.locator("#counts .count").nth(label).text_content() for label in (6, int(digit))] == ["1", "1"]
    with page.expect_download() as download:
        page.locator("#download").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == 6


def test_a_reload_shows_what_was_saved_meanwhile(page: Page, folder: Path) -> None:
    shutil.copytree(folder / "first", folder / "third")
    try:
        page.reload()
        page.wait_for_selector(".card[data-model=third]")
        page.locator("#others summary").click()
        assert "broken" in str(page.locator("#others li").text_content())
    finally:
        shutil.rmtree(folder / "third")


def test_a_finger_draws_on_a_phone_in_spanish_and_in_the_dark(browser: Browser, address: str) -> None:
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    for page in opened(browser, address, **phone, locale="es-CR", color_scheme="dark"):
        assert "Dibuje un dígito" in str(page.locator("header p").text_content())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing to scroll sideways"
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", background))) < 60
        box = page.locator("#canvas").bounding_box()
        assert box is not None
        client = page.context.new_cdp_session(page)
        points = [(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * y) for y in (0.2, 0.4, 0.6, 0.8)]
        for kind, where in zip(("touchStart", "touchMove", "touchMove", "touchMove"), points, strict=True):
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": where[0], "y": where[1]}]})
        client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_function("() => Number(document.body.dataset.read ?? 0) > 0")
        assert "de 2 modelos" in str(page.locator("#said").text_content())
        assert page.evaluate("window.scrollY") == 0, "drawing does not scroll the page"
        small = page.locator("button:visible, .labels span").evaluate_all(
            "all => all.map((one) => one.getBoundingClientRect()).filter((box) => box.height < 44 || box.width < 44).length"
        )
        assert small == 0, "large enough for a finger"


def test_a_painter_that_is_gone_is_said(browser: Browser, address: str, folder: Path) -> None:
    for page in opened(browser, address):
        page.route("**/api/**", lambda route: route.abort())
        box = page.locator("#canvas").bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 100, box["y"] + 100)
        page.wait_for_selector("#problem:has-text('The painter does not answer')")
        page.unroute("**/api/**")


def test_enter_saves_whatever_was_clicked_before(page: Page, tmp_path: Path) -> None:
    page.locator("#ask").click()
    page.wait_for_selector("#asked:has-text('Draw a')")
    digit = str(page.locator("#asked").text_content()).removeprefix("Draw a ").removesuffix(".")
    draw(page, drawings()[17])
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#saved:has-text('Saved as a {digit}.')")
    assert len(list((tmp_path / "drawings" / "28x28" / digit).iterdir())) == 1
    draw(page, drawings()[13])
    draw(page, drawings()[16])
    page.locator("#undo").click()
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    page.wait_for_selector("#saved:has-text('Saved as a 3.')")
    assert page.evaluate("strokes.length") == 0


def test_asking_begins_a_drawing_anew(page: Page) -> None:
    draw(page, drawings()[2])
    page.locator("#ask").click()
    page.wait_for_selector("#asked:has-text('Draw a')")
    assert page.evaluate("strokes.length") == 0, "what was there was drawn for another digit"


def test_what_is_drawn_while_a_drawing_is_saved_stays_and_it_is_saved_once(page: Page, tmp_path: Path) -> None:
    held: list[Any] = []
    page.route("**/api/drawings", lambda route: held.append(route))
    draw(page, drawings()[5])
    page.keyboard.press("5")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_function("() => saving")
    draw(page, Drawing(1, 0, [[(70.0, 20.0, 0.0), (72.0, 80.0, 50.0)]]))
    assert len(held) == 1
    held[0].continue_()
    page.wait_for_selector("#saved:has-text('Saved as a 5.')")
    assert page.evaluate("strokes.length") == 1
    assert sum(1 for _ in (tmp_path / "drawings" / "28x28").glob("*/*.png")) == 1
    page.unroute("**/api/drawings")


def test_a_failure_to_save_is_said_and_can_be_tried_again(page: Page) -> None:
    page.route("**/api/drawings", lambda route: route.fulfill(status=200, body="no json"))
    draw(page, drawings()[5])
    page.keyboard.press("5")
    page.locator("#save").click()
    page.wait_for_selector("#problem:has-text('The painter does not answer')")
    assert page.locator("#save").is_enabled()
    page.unroute("**/api/drawings")
    page.locator("#save").click()
    page.wait_for_selector("#saved:has-text('Saved as a 5.')")


def test_clear_and_undo_drop_the_stroke_under_the_pen(page: Page) -> None:
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    for key in ("c", "z"):
        page.mouse.move(box["x"] + 50, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + 150, box["y"] + 150)
        page.keyboard.press(key)
        page.mouse.up()
        assert page.evaluate("[strokes.length, drawing]") == [0, None]


def test_models_that_come_and_go_change_the_cards_of_an_open_page(page: Page, folder: Path, address: str) -> None:
    shutil.copytree(folder / "first", folder / "newer")
    try:
        page.request.get(f"{address}api/models")  # as another window does when it is opened
        draw(page, drawings()[3])
        assert set(said(page)) == {"first", "newer", "second"}
        assert "–" not in said(page).values()
    finally:
        shutil.rmtree(folder / "newer")
    page.request.get(f"{address}api/models")
    draw(page, drawings()[3])
    assert set(said(page)) == {"first", "second"}


def test_old_answers_do_not_stand_beside_a_new_drawing(page: Page) -> None:
    draw(page, drawings()[3])
    page.route("**/api/read", lambda route: route.abort())
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 30, box["y"] + 30)
    page.wait_for_selector("#problem:has-text('The painter does not answer')")
    assert set(said(page).values()) == {"–"}
    assert page.locator("#said").text_content() == ""
    page.unroute("**/api/read")
