"""The painter in a real Chromium: a server of its own, a browser, and a hand that draws on the page."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.models.saved_models import save
from paretune.painter.drawings import Drawings
from paretune.painter.models import Models
from paretune.painter.pages import application
from paretune.trainers.ann import Ann, AnnConfig
from tests.listening import listening
from tests.painter.strokes import Drawing

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


def opened(browser: Browser, address: str, **settings: Any) -> Iterator[Page]:
    """A page in a window of its own; whatever it complains of fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en", **settings})
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector(".card")
    yield page
    context.close()
    expected = ("status of 409", "status of 422", "ERR_FAILED")  # the browser's own lines for what the page tells of
    assert [fault for fault in faults if not any(line in fault for line in expected)] == []
    assert all(url.startswith((address, "data:")) for url in asked), "nothing is asked of anyone else"


def save_models(folder: Path) -> None:
    """Save two models of 8x8 digits, which need no download, as `first` and `second`."""
    data = load_data(DataOptions(data="digits", holdout=0.0))
    for seed, name in enumerate(("first", "second")):
        model = Ann(AnnConfig(hidden=[64], epochs=25, seed=seed), device="cpu").fit(data)
        save(model, folder / name, metrics={}, origin={"data_options": {"data": "digits"}})
