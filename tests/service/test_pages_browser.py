"""The pages in a real Chromium: drawn as runs go on, steered by mouse and keyboard, at both widths, light and dark."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from paretune.service.store.tables import Run
from tests.listening import listening
from tests.painter.browsing import CHROMIUM, chromium
from tests.service import viewing
from tests.service.browsing import Shown
from tests.service.serving import KEY
from tests.service.sweeps.test_sweeps import agent, beat, created
from tests.service.test_pages import upload
from tests.service.test_pages_sweep import METRICS, ended

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
EVIL = "<img src=x onerror=alert(1)>"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
# the contrast of a text with what is behind it, as WCAG 2 defines it
CONTRAST = """() => {
  const parts = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parts(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("main *, header *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest("svg, .room, :disabled, td.most, .matrix") || !element.checkVisibility()) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) poor.push(`${element.tagName} ${element.textContent.trim().slice(0, 30)} ${contrast.toFixed(2)}`);
  }
  return poor;
}"""

UNNAMED = """() => [...document.querySelectorAll("input, select, textarea, button, a")]
  .filter((e) => e.type !== "hidden" && e.checkVisibility() && !(e.textContent.trim() || e.ariaLabel || e.labels?.length))
  .map((e) => e.outerHTML)"""


class Served:
    """A service that really listens, with a sweep that goes on, and what was put into it."""

    def __init__(self, folder: Path) -> None:
        self.shown = Shown(folder)
        chance = random.Random(4)
        _, self.sweep = created(self.shown, metric=None, metrics=METRICS, method="random", run_cap=20, name=f"sweep {EVIL}")
        self.agent = agent(self.shown, self.sweep)
        self.runs = []
        for _ in range(14):
            precision = chance.uniform(0.6, 0.9)
            seconds = 10 * precision**3 + chance.uniform(0, 3)
            rows = [
                {"precision": precision * share, "train/loss": 1 - share, "test/loss": 1.1 - share, "seconds": seconds}
                for share in (0.5, 1.0)
            ]
            self.runs.append(ended(self.shown, self.agent, self.sweep, rows))
        (command,) = beat(self.shown, self.agent)
        self.live = str(command["run_id"])
        self.shown.run(self.live, sweep=self.sweep, config=json.dumps(command["args"]))
        self.log(0, 3)
        self.evil()

    def log(self, first: int, count: int) -> None:
        """Let the run that lives log rows and print lines."""
        rows = [
            json.dumps({"_step": step, "train/loss": 1 / (step + 1), "test/loss": 2 / (step + 1)})
            for step in range(first, first + count)
        ]
        lines = [json.dumps({"content": f"\x1b[31mline {step}\x1b[0m {EVIL}"}) for step in range(first, first + count)]
        files = {"wandb-history.jsonl": {"offset": first, "content": rows}, "output.log": {"offset": first, "content": lines}}
        files["wandb-summary.json"] = {"offset": 0, "content": [json.dumps({"steps": first + count})]}
        assert self.shown.stream(self.live, files=files).status_code == 200

    def evil(self) -> None:
        """Add a run all of whose texts would run if they were read as HTML."""
        values = {"displayName": EVIL, "notes": EVIL, "tags": [EVIL], "groupName": EVIL, "jobType": EVIL, "sweep": self.sweep}
        self.shown.run("r1", config=json.dumps({EVIL: {"value": EVIL}, "x": {"value": EVIL}}), **values)
        row = {"_step": 0, EVIL: 1.0, "precision": 0.1, "seconds": 99.0, "_runtime": 1.0, "train/" + EVIL: 3}
        files = {"wandb-history.jsonl": {"offset": 0, "content": [json.dumps(row)]}, "output.log": {"offset": 0, "content": [EVIL]}}
        files["wandb-summary.json"] = {"offset": 0, "content": [json.dumps({**row, "text": EVIL})]}
        table = {"columns": [EVIL, "b"], "data": [[EVIL, {"_type": "image-file", "path": EVIL}]]}
        upload(self.shown, f"media/table/{EVIL}_0_abc.table.json", json.dumps(table).encode())
        matrix = {"columns": ["Actual", "Predicted", "nPredictions"], "data": [[EVIL, EVIL, 1]]}
        upload(self.shown, "media/table/conf_table_0_abc.table.json", json.dumps(matrix).encode())
        upload(self.shown, f"{EVIL}.html", EVIL.encode())
        self.shown.stream("r1", files=files, complete=True, exitcode=0)
        self.views()

    def views(self) -> None:
        """Save a view all of whose texts would run if they were read as HTML."""
        panels = [
            viewing.panel("Run History Line Plot", metrics=["train/loss", "test/loss", EVIL], chartTitle=EVIL),
            viewing.panel("Scatter Plot", xAxis=f"config:{EVIL}.value", yAxis="summary:precision"),
            viewing.panel("Bar Chart", metrics=["seconds", "precision"]),
            viewing.panel(
                "Parallel Coordinates Plot", columns=[{"accessor": f"config:{EVIL}.value"}, {"accessor": "summary:seconds"}]
            ),
            viewing.panel(EVIL),
        ]
        viewing.saved(self.shown, viewing.workspace(panels), displayName=EVIL, description=EVIL)

    def tags(self, run: str) -> list[str]:
        with self.shown.database.session() as session:
            return json.loads(session.scalars(sa.select(Run.tags).where(Run.name == run)).one())  # type: ignore[no-any-return]

    def pages(self) -> dict[str, str]:
        here = "/someone/tried"
        return {
            "projects": "/",
            "runs": here,
            "groups": f"{here}?group=config.kind&column=summary.precision",
            "fault": f"{here}?filter=loss>3",
            "sweeps": f"{here}/sweeps",
            "sweep": f"{here}/sweeps/{self.sweep}",
            "one metric": f"{here}/sweeps/{self.sweep}?metric=precision",
            "live run": f"{here}/runs/{self.live}",
            "evil run": f"{here}/runs/r1",
            "comparison": f"{here}/compare?runs={','.join(self.runs[:3])},r1",
            "views": f"{here}/views",
            "view": f"{here}?nw=one",
            "absent": f"{here}/runs/absent",
        }


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def address(served: Served) -> Iterator[str]:
    with listening(served.shown.client.app) as address:
        yield address


Opens = Callable[..., "Page"]


@pytest.fixture
def opens(browser: Browser, address: str) -> Iterator[Opens]:
    """Opens pages in a window that has logged in; whatever they complain of, or ask of others, fails the test."""
    contexts, faults, asked = [], [], []

    def opened(path: str, size: str = "desktop", **settings: Any) -> Page:
        width, height = SIZES[size]
        touch = {"has_touch": True, "is_mobile": True} if size == "phone" else {}
        context = browser.new_context(viewport={"width": width, "height": height}, **touch, **settings)
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{address}/login?next={path}")
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: (faults.append("it ran"), dialog.accept()) if dialog.message == "1" else dialog.accept())
        page.get_by_label("Your API key").fill(KEY)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        return page

    yield opened
    for context in contexts:
        context.close()
    expected = ("status of 404", "status of 401")  # the browser's own lines for what the page tells of
    assert [fault for fault in faults if not any(line in fault for line in expected)] == []
    assert all(url.startswith((address, "data:", "blob:")) for url in asked), "nothing is asked of anyone else"


def polled(page: Page, times: int = 1) -> None:
    """Wait until the page has asked again."""
    before = page.evaluate("Number(document.body.dataset.polled ?? 0)")
    page.wait_for_function("n => Number(document.body.dataset.polled ?? 0) >= n", arg=before + times)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_is_readable_and_runs_nothing_that_was_stored(
    opens: Opens, served: Served, address: str, size: str, theme: str
) -> None:
    page = opens("/", size, color_scheme=theme)
    for name, path in served.pages().items():
        response = page.goto(address + path)
        assert response is not None
        assert len(response.body()) < 200_000
        if name in ("sweep", "one metric", "live run", "evil run", "comparison"):
            page.wait_for_function("() => Number(document.body.dataset.polled ?? 0) >= 1")
        for summary in page.locator("main summary").all():
            summary.click()
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than the window"
        assert page.evaluate(CONTRAST) == [], name
        assert page.evaluate(UNNAMED) == [], name
        assert page.locator("h1").count() == 1


def test_a_run_is_drawn_as_it_goes_on(opens: Opens, served: Served) -> None:
    page = opens(f"/someone/tried/runs/{served.live}")
    first = page.locator(".plot[data-title=loss] .room")
    page.wait_for_function("() => document.querySelector('.plot[data-title=loss] .room')?.data?.length === 2")
    assert page.evaluate("document.querySelector('.plot[data-title=loss] .room').data[0].name") == "test/loss"
    before = first.evaluate("room => room.data[0].x.length")
    served.log(before, 4)
    page.wait_for_function("n => document.querySelector('.plot[data-title=loss] .room').data[0].x.length === n", arg=before + 4)
    page.wait_for_function("n => document.getElementById('summary').textContent.includes(`steps${n}`)", arg=before + 4)
    page.wait_for_function("n => document.getElementById('console').textContent.includes(`line ${n}`)", arg=before + 3)
    text = str(page.locator("#console").text_content())
    assert f"line 0 {EVIL}" in text
    assert "\x1b" not in text


def test_a_saved_view_is_drawn(opens: Opens, served: Served) -> None:
    page = opens("/someone/tried?nw=one")
    page.wait_for_function("() => document.querySelectorAll('.plot .main-svg').length >= 3")
    page.wait_for_function("() => document.querySelector('.plot .room').data?.length > 4")
    traces = page.evaluate(
        "[...document.querySelectorAll('.plot .room')].map((room) => room.data.map(({ type, x }) => [type, x.length]))"
    )
    lines, scatter, bars = traces
    assert {kind for kind, _ in lines} == {"scatter"}
    assert (len(scatter), len(bars)) == (1, 2)
    assert page.locator(".parallel path").count() >= 1
    page.locator("#theme").click()
    page.wait_for_function("() => document.querySelectorAll('.plot .main-svg').length >= 3")
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url(lambda url: url.endswith("/views"))
    assert "No saved view yet" in str(page.locator("main").text_content())
    served.views()


def test_curves_are_smoothed_set_apart_and_put_on_other_axes(opens: Opens, served: Served) -> None:
    page = opens(f"/someone/tried/runs/{served.live}")
    page.wait_for_selector(".plot[data-title=loss] .main-svg")
    loss = "document.querySelector('.plot[data-title=loss] .room')"
    page.get_by_label("log y").check()
    assert page.evaluate(f"{loss}.layout.yaxis.type") == "log"
    page.get_by_label("smoothing").focus()
    page.keyboard.press("End")
    assert page.evaluate(f"{loss}.data.length") == 4, "the curves as they are stay behind the smoothed ones"
    page.get_by_label("train and test in one plot").uncheck()
    page.wait_for_selector(".plot[data-title='train/loss'] .main-svg")
    assert page.locator(".plot[data-title=loss]").count() == 0


def test_a_click_on_the_front_chooses_and_a_second_takes_it_back(opens: Opens, served: Served) -> None:
    page = opens(f"/someone/tried/sweeps/{served.sweep}")
    page.wait_for_selector("#front .main-svg")
    click = """run => { const room = document.querySelector('#front .room');
      const trace = room.data.find((one) => one.customdata.includes(run));
      room.emit('plotly_click', { points: [{ customdata: run }] }); return trace.name; }"""
    run = page.evaluate("document.querySelector('#front .room').data.find((one) => one.name === 'front').customdata[0]")
    assert page.evaluate(click, run) == "front"
    page.wait_for_function("() => document.getElementById('said').textContent.includes('is marked as chosen')")
    assert served.tags(run) == ["chosen"]
    assert page.evaluate("document.querySelector('#front .room').data.at(-1).name") == "chosen"
    page.evaluate(click, run)
    page.wait_for_function("() => document.getElementById('said').textContent.includes('is not marked any more')")
    assert served.tags(run) == []


def test_a_real_click_hits_a_point_of_the_front(opens: Opens, served: Served) -> None:
    page = opens(f"/someone/tried/sweeps/{served.sweep}")
    page.wait_for_selector("#front .main-svg")
    place = page.evaluate(
        """() => {
          const room = document.querySelector("#front .room");
          room.scrollIntoView();
          const { x, y, customdata } = room.data.find((one) => one.name === "front");
          const { xaxis, yaxis } = room._fullLayout;
          const box = room.getBoundingClientRect();
          const last = x.length - 1;
          return [box.left + xaxis._offset + xaxis.d2p(x[last]), box.top + yaxis._offset + yaxis.d2p(y[last]), customdata[last]];
        }"""
    )
    page.mouse.move(place[0], place[1])
    page.wait_for_selector("#front .hovertext")
    assert "precision: 0." in str(page.locator("#front .hovertext").text_content())
    page.mouse.click(place[0], place[1])
    page.wait_for_function("() => document.getElementById('said').textContent.includes('is marked as chosen')")
    assert served.tags(place[2]) == ["chosen"]
    page.mouse.click(place[0], place[1])
    page.wait_for_function("() => document.getElementById('said').textContent.includes('is not marked any more')")


def test_a_value_between_two_gaps_is_a_point(opens: Opens, served: Served) -> None:
    """A line alone would not show it."""
    rows = [
        json.dumps({"_step": step, "gappy": value}) for step, value in enumerate([1.0, float("nan"), 2.0, float("nan"), 3.0, 4.0])
    ]
    served.shown.run("gaps")
    files = {"wandb-history.jsonl": {"offset": 0, "content": rows}}
    assert served.shown.stream("gaps", files=files, complete=True, exitcode=0).status_code == 200
    page = opens("/someone/tried/runs/gaps")
    plot = ".plot[data-title=gappy]"
    page.wait_for_function(f"() => document.querySelector('{plot} .room')?.data?.length")
    trace = page.evaluate(f"document.querySelector('{plot} .room').data[0]")
    assert (trace["mode"], trace["marker"]["size"]) == ("lines+markers", [7, 0, 7, 0, 0, 0])
    points = page.locator(f"{plot} .points path")
    assert points.evaluate_all("all => all.filter((one) => one.getBBox().width > 3).length") == 2


def test_a_run_is_chosen_by_the_keyboard(opens: Opens, served: Served) -> None:
    page = opens(f"/someone/tried/sweeps/{served.sweep}")
    button = page.locator("#best-runs button").first
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#best-runs button[aria-pressed=true]")
    assert page.locator("#chosen a").count() == 1
    page.locator("#best-runs button[aria-pressed=true]").press("Enter")
    page.wait_for_selector("#best-runs button[aria-pressed=true]", state="detached")


def test_what_has_not_changed_is_not_drawn_again(opens: Opens, served: Served) -> None:
    page = opens(f"/someone/tried/sweeps/{served.sweep}")
    page.wait_for_selector("#course .main-svg")
    page.wait_for_function(
        "() => document.getElementById('importance-said').textContent.length > 40"
    )  # it comes later than the rest
    page.evaluate(
        """() => {
          const { react } = Plotly;
          window.drawn = 0;
          Plotly.react = (...all) => (window.drawn++, react(...all));
        }"""
    )
    polled(page, 2)
    assert page.evaluate("window.drawn") == 0
    page.locator("#theme").click()
    assert page.evaluate("window.drawn") >= 4, "the other theme has other colours"


def test_a_sweep_is_paused_and_resumed(opens: Opens, served: Served) -> None:
    page = opens(f"/someone/tried/sweeps/{served.sweep}")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_selector("#state .paused")
    assert beat(served.shown, agent(served.shown, served.sweep)) == []
    page.get_by_role("button", name="Resume").click()
    page.wait_for_selector("#state .running")
    assert page.get_by_role("button", name="Resume").is_hidden()


def test_runs_are_filtered_and_compared_by_the_keyboard(opens: Opens, served: Served) -> None:
    page = opens("/someone/tried")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.get_by_label("Filter").fill("summary.precision > 0.7 and state = finished")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs?filter=*")
    boxes = page.locator("input[name=run]")
    assert 0 < boxes.count() < 14
    boxes.nth(0).press("Space")
    boxes.nth(1).press("Space")
    page.get_by_role("button", name="Compare ticked").press("Enter")
    page.wait_for_url("**/compare?runs=*")
    page.wait_for_function("() => document.querySelector('.plot[data-title=loss] .room')?.data?.length === 4")
    assert page.locator("#legend a").count() == 2


def test_light_and_dark_are_switched_and_remembered(opens: Opens) -> None:
    page = opens("/", color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.locator("#theme").click()
    after = page.evaluate(ground)
    assert before != after
    page.reload()
    assert page.evaluate(ground) == after


def test_who_is_logged_out_meanwhile_is_told(opens: Opens, served: Served) -> None:
    page = opens(f"/someone/tried/runs/{served.live}")
    polled(page)
    page.context.clear_cookies()
    page.get_by_role("link", name="log in again").click()
    page.get_by_label("Your API key").fill(KEY)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{served.live}")


def test_nothing_is_deleted_before_it_is_asked(opens: Opens, served: Served) -> None:
    page = opens(f"/someone/tried/runs/{served.runs[0]}")
    page.evaluate("window.confirm = (question) => { window.asked = question; return false; }")
    page.get_by_role("button", name="Delete").click()
    assert "cannot be undone" in page.evaluate("window.asked")
    assert served.tags(served.runs[0]) == []
