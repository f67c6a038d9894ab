"""The pages of saved views: found at the URLs that W&B's client prints, shown to whom, deleted by whom."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from paretune.service.store.accounts import add_user
from paretune.service.web.saved_views import LINES, PARALLEL, SCATTER
from tests.service.browsing import Shown, sent
from tests.service.viewing import grid, heading, panel, report, run_set, saved, workspace

OTHER, VIEWER = ("local-" + letter * 40 for letter in "ov")
PANELS = [
    panel(LINES, metrics=["f1"], chartTitle="Course"),
    panel(SCATTER, xAxis="config:lr.value", yAxis="summary:f1", chartTitle="Cloud"),
    panel(PARALLEL, columns=[{"accessor": "config:lr.value"}, {"accessor": "summary:f1"}], chartTitle="Lines"),
    panel("Parameter Importance", targetKey="f1"),
]


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    shown = Shown(tmp_path)
    for place in range(3):
        config = json.dumps({"lr": {"value": place / 10}})
        shown.run(f"r{place}", config=config, summaryMetrics=json.dumps({"f1": place / 4}), state="finished")
    return shown


def held(page: str) -> Any:
    """Return what a page holds for its script."""
    (text,) = re.findall(r'<script type="application/json" id="page">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_a_workspace_is_at_the_url_that_the_client_prints(shown: Shown) -> None:
    feed = {"columnOrder": ["summary:f1"], "columnPinned": {"summary:f1": True}}
    saved(shown, workspace(PANELS, run_set(runFeed=feed)))
    page = shown.page("/someone/tried?nw=one")
    for text in ("<h1>One</h1>", "workspace by someone", "Course", "Cloud", "Lines", "Not drawn here: Parameter Importance."):
        assert text in page
    names = re.findall(r'<a href="/someone/tried/runs/(r\d)">', page)
    assert names == ["r2", "r1", "r0"], "in the order of the view"
    (section,) = held(page)["sections"]
    assert (section["runs"], section["rows"]) == ("/someone/tried/runs", [["r2", "r2"], ["r1", "r1"], ["r0", "r0"]])
    assert [one["kind"] for one in section["panels"]] == [LINES, SCATTER, PARALLEL]
    assert "One" not in shown.page("/someone/tried"), "without nw, the address is that of the runs"


def test_a_report_is_at_the_url_that_the_client_prints_whatever_its_title(shown: Shown) -> None:
    for title in ("A report", "50 % of a/b?", "--", ""):
        view = saved(shown, report(heading("Top"), grid(PANELS)), type="runs", name="r", displayName=title)
        for identifier in (view["id"], view["id"].rstrip("=")):
            page = shown.page(f"/someone/tried/reports/{quote(title, safe='/')}--{identifier}")
            assert "Top" in page
            assert "report by someone" in page
        listed = re.findall(r'<a href="([^"]*/reports/[^"]*)"', shown.page("/someone/tried/views"))
        assert len(listed) == 1
        assert "Top" in shown.page(html.unescape(listed[0]))


def test_the_project_links_to_its_views_and_their_list_to_each(shown: Shown) -> None:
    assert 'href="/someone/tried/views"' in shown.page("/someone/tried")
    assert "make dashboard SOURCE=someone/tried" in shown.page("/someone/tried/views")
    saved(shown, workspace(PANELS))
    saved(shown, report(), type="runs", name="two", displayName="Two")
    page = shown.page("/someone/tried/views")
    assert page.index("Two") < page.index("One"), "what changed last stands first"
    for url in re.findall(r'<td><a href="([^"]+)"', page):
        assert "Delete" in shown.page(html.unescape(url))


@pytest.mark.parametrize("path", ["?nw=absent", "/reports/x--Vmlldzp2MTo5OTk=", "/reports/x--no", "/reports/x", "/reports/x--%00"])
def test_a_view_that_is_not_there_is_said_to_be_missing(shown: Shown, path: str) -> None:
    saved(shown, workspace(PANELS))
    response = shown.browser.get(f"/someone/tried{path}")
    assert response.status_code in ((400,) if "%00" in path else (404,))
    assert "Traceback" not in response.text


def test_a_workspace_is_no_report_and_a_view_is_only_in_its_project(shown: Shown) -> None:
    shown.run("r9", modelName="other")
    view = saved(shown, workspace(PANELS))
    text = saved(shown, report(), type="runs", name="two")
    assert shown.browser.get(f"/someone/tried/reports/x--{view['id']}").status_code == 404
    assert shown.browser.get(f"/someone/other/reports/x--{text['id']}").status_code == 404
    assert shown.browser.get("/someone/other?nw=one").status_code == 404


def test_deleting_a_view_leaves_its_runs(shown: Shown) -> None:
    saved(shown, workspace(PANELS))
    assert 'name="view" value="nw-one-v"' in shown.page("/someone/tried?nw=one")
    answer = sent(shown.browser, "/someone/tried/views", view="nw-one-v")
    assert (answer.status_code, answer.headers["location"]) == (303, "/someone/tried/views")
    assert shown.browser.get("/someone/tried?nw=one").status_code == 404
    assert sent(shown.browser, "/someone/tried/views", view="nw-one-v").status_code == 404
    assert "r2" in shown.page("/someone/tried")


def test_a_viewer_of_a_team_looks_and_cannot_delete_and_a_stranger_finds_nothing(shown: Shown) -> None:
    add_user(shown.database, "watcher", key=VIEWER, team="crew", role="viewer")
    add_user(shown.database, "stranger", key=OTHER)
    add_user(shown.database, "member", key="local-" + "m" * 40, team="crew")
    query = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
    shown.ask(query, key="local-" + "m" * 40, input={"name": "r1", "modelName": "tried", "entityName": "crew"})
    saved(shown, workspace(PANELS), key="local-" + "m" * 40, entityName="crew")
    watcher, stranger = shown.another(VIEWER), shown.another(OTHER)
    page = watcher.get("/crew/tried?nw=one").text
    assert "Course" in page
    assert "Delete" not in page + watcher.get("/crew/tried/views").text
    assert sent(watcher, "/crew/tried/views", view="nw-one-v").status_code == 403
    for response in (stranger.get("/crew/tried?nw=one"), stranger.get("/crew/tried/views")):
        assert response.status_code == 404
    assert sent(stranger, "/crew/tried/views", view="nw-one-v").status_code == 404
    assert watcher.get("/crew/tried?nw=one").status_code == 200


def test_a_report_shows_the_runs_of_another_project_only_to_who_may_see_them(shown: Shown) -> None:
    add_user(shown.database, "stranger", key=OTHER)
    query = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
    shown.ask(query, key=OTHER, input={"name": "theirs", "modelName": "secret"})
    runs = run_set(project={"entityName": "stranger", "name": "secret"})
    view = saved(shown, report(grid(PANELS, runs)), type="runs", name="two")
    page = shown.page(f"/someone/tried/reports/x--{view['id']}")
    assert "there is no project stranger/secret here that you may see." in page
    assert "theirs" not in page
