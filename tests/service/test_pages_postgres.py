"""The pages on PostgreSQL: what they ask of the database is understood there, too."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.postgres import needs_postgres, postgres
from tests.service.browsing import Shown, sent
from tests.service.test_pages import filled
from tests.service.test_pages_sweep import data, swept
from tests.service.viewing import panel, run_set, saved, workspace

pytestmark = [pytest.mark.slow, needs_postgres]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("service")
    with postgres(folder) as url:
        shown = Shown(folder, url)
        yield shown
        shown.searches.close()
        shown.database.close()


def test_every_page_is_answered(shown: Shown) -> None:
    filled(shown, 4)
    sweep, (first, _) = swept(shown, [(0.5, 3.0), (0.9, 2.0)], parameters={"x": {"min": 0.0, "max": 1.0}})
    here = "/someone/tried"
    assert ">tried</a>" in shown.page("/")
    assert ">tried</a>" in shown.page("/someone")
    for query in ("", "?group=tag", "?group=config.kind", "?sort=-summary.f1", "?sort=config.kind", "?sort=runtime"):
        shown.page(here + query)
    for text, names in (("config.lr > 0.1 and even", ["r2"]), ("R3", ["r3"]), ("config.kind = b", ["r1", "r3"]), ("id ~ (", [])):
        page = shown.browser.get(here, params={"filter": text, "sort": "created"}).text
        assert re.findall(r'name="run" value="(\w+)"', page) == names, text
    for path in (
        "/runs/r1",
        "/runs/r1/history.json",
        "/runs/r1/console.json",
        "/sweeps",
        f"/sweeps/{sweep}",
        "/compare?runs=r1,r2",
    ):
        shown.page(here + path)
    assert shown.page(f"{here}/runs.csv").count("\n") == 7
    assert sent(shown.browser, f"{here}/sweeps/{sweep}/chosen", run=first).status_code == 303
    filters = {"filterFormat": "filterV2", "filters": [{"key": {"section": "config", "name": "kind"}, "op": "=", "value": "b"}]}
    panels = [panel("Scatter Plot", xAxis="config:lr.value", yAxis="summary:f1")]
    saved(shown, workspace(panels, run_set(filters)))
    saved(shown, workspace(panels, run_set(filters)))
    assert re.findall(r'<a href="/someone/tried/runs/(r\d)">', shown.page(f"{here}?nw=one")) == ["r3", "r1"]
    assert sent(shown.browser, f"{here}/views", view="nw-one-v").status_code == 303
    assert "No saved view yet" in shown.page(f"{here}/views")
    found = data(shown, sweep)
    assert (found["chosen"], len(found["rows"]), len(found["analysis"]["front"])) == (first, 2, 1)
