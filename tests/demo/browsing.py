"""The painter in a real Chromium: a server of its own, a browser, and a hand that draws on the page."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from demo.drawings import Drawings
from demo.models import Models
from demo.pages import application
from tests.demo.strokes import Drawing
from tests.listening import listening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@contextlib.contextmanager
def served(models: Models, drawings: Path) -> Iterator[str]:
    """Serve a painter on a free port of this machine, and give its address."""
    models.refresh()
    with listening(application(models, Drawings(drawings)), lifespan="off") as address:
        yield f"{address}/"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start this machine's Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def draw(page: Page, drawing: Drawing) -> None:
    """Draw with the mouse, and wait for the answers to each stroke."""
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    for stroke in drawing.strokes:
        before = page.evaluate("Number(document.body.dataset.read ?? 0)")
        places = [(box["x"] + x * box["width"] / 100, box["y"] + y * box["height"] / 100) for x, y, _ in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()
        page.wait_for_function("before => Number(document.body.dataset.read ?? 0) > before", arg=before)


def said(page: Page) -> dict[str, str]:
    """Return what each model's card says."""
    cards = page.locator(".card").all()
    return {str(card.get_attribute("data-model")): str(card.locator(".label").text_content()) for card in cards}
