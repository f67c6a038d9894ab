"""The pages without a browser: who is let in, what is shown to whom, what a form may change, and how many questions a page asks."""

from __future__ import annotations

import csv
import errno
import html
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from limits import RateLimitItemPerMinute
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from paretune.core.errors import UsageError
from paretune.service.http import auth
from paretune.service.store.accounts import RESERVED, add_user, revoke_keys
from paretune.service.store.database import Database
from paretune.service.store.filters import condition_of
from paretune.service.store.tables import Project, Run, RunFile
from paretune.service.web import curves, login, tables
from paretune.service.web import pages as web
from paretune.service.web.filter_text import filter_of
from paretune.service.web.login import Logins, local_path
from paretune.service.web.painter import painter_of
from paretune.service.web.runs_page import plain_cell
from paretune.service.web.visits import Web
from paretune.service.web.words import ago, duration, number, size
from tests.samples import ROOT
from tests.service.browsing import Shown, sent
from tests.service.serving import KEY, Asked, authorization

OTHER, VIEWER = ("local-" + letter * 40 for letter in "ov")
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    shown = Shown(tmp_path)
    add_user(shown.database, "other", key=OTHER)
    return shown


def row_of(shown: Shown, name: str = "r1") -> Run:
    with shown.database.session() as session:
        return session.scalars(sa.select(Run).where(Run.name == name)).one()


def filled(shown: Shown, count: int = 3) -> None:
    for place in range(count):
        config = json.dumps({"lr": {"value": place / 10}, "kind": {"value": "ab"[place % 2]}})
        summary = json.dumps({"f1": place / count, "_runtime": 60})
        shown.run(f"r{place}", config=config, summaryMetrics=summary, tags=["even"] if place % 2 == 0 else [], groupName="g")


# -- login


def test_without_a_login_every_page_leads_to_it_and_from_there_back(shown: Shown) -> None:
    shown.run()
    stranger = shown.another()
    for path in ("/", "/someone", "/someone/tried?sort=name", "/someone/tried/runs/r1", "/someone/tried/sweeps"):
        response = stranger.get(path)
        assert response.status_code == 303
        assert response.headers["location"].startswith("/login?next=/")
    assert stranger.get("/someone/tried/runs/r1/history.json").status_code == 401
    response = sent(stranger, "/login", key=KEY, next="/someone/tried")
    assert (response.status_code, response.headers["location"]) == (303, "/someone/tried")
    assert stranger.get("/someone/tried").status_code == 200


def test_the_cookie_is_of_this_site_alone_and_no_script_reads_it(shown: Shown) -> None:
    cookie = sent(shown.another(), "/login", key=KEY).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Max-Age=2592000"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    secure = shown.another()
    secure.base_url = "https://testserver"  # type: ignore[assignment]
    assert "; Secure" in sent(secure, "/login", origin="https://testserver", key=KEY).headers["set-cookie"]


def test_a_revoked_key_a_forged_cookie_and_a_logout_end_the_session(shown: Shown) -> None:
    other = shown.another(OTHER)
    assert other.get("/").status_code == 200
    revoke_keys(shown.database, "other")
    add_user(shown.database, "third", key="local-" + "t" * 40)  # its key may get the number of the revoked one
    assert other.get("/").status_code == 303
    forged = shown.another()
    forged.cookies.set("paretune", shown.files.signed("upload", key=1, mark="x"))
    assert forged.get("/").status_code == 303
    assert sent(shown.browser, "/logout").status_code == 303
    assert shown.browser.get("/").status_code == 303


def test_a_logout_ends_the_session_for_whoever_has_its_cookie_and_no_other(shown: Shown) -> None:
    cookie, second = shown.browser.cookies["paretune"], shown.another(KEY)
    assert sent(shown.browser, "/logout").status_code == 303
    thief = shown.another()
    thief.cookies.set("paretune", cookie)
    assert thief.get("/").status_code == 303
    with shown.database.session() as session:
        assert Logins(shown.database, shown.files).account(session, cookie) is None, "after a restart"
    assert second.get("/").status_code == 200


def test_the_numbers_of_sessions_are_forgotten_when_their_cookies_are_too_old(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = shown.another(KEY)
    sent(shown.browser, "/logout")
    os.utime(next((shown.files.folder / "ended").iterdir()), (0, 0))
    sent(second, "/logout")
    assert len(list((shown.files.folder / "ended").iterdir())) == 1


def test_requests_of_pages_and_of_the_api_are_counted_together(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    app = asked.application(tmp_path, rate=2)
    browser = TestClient(app, raise_server_exceptions=False, follow_redirects=False)
    sent(browser, "/login", key=KEY)
    answers = [browser.get("/") for _ in range(20)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "someone makes more than 2 requests a second" in refused.text
    assert refused.headers["retry-after"] == "1"
    codes = {browser.get("/").status_code for _ in range(10)}
    assert 429 in codes
    asked_too = TestClient(app, headers=authorization(), raise_server_exceptions=False)
    assert 429 in {asked_too.post("/graphql", content="{}").status_code for _ in range(12)}


def test_a_session_ends_after_thirty_days(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "LASTS", -1)
    assert shown.browser.get("/").status_code == 303


def test_a_wrong_key_is_told_and_the_eleventh_in_a_minute_waits(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = shown.another()
    for _ in range(10):
        response = sent(stranger, "/login", key="local-" + "z" * 40)
        assert response.status_code == 403
        assert "this key is not known here" in response.text
    response = sent(stranger, "/login", key="local-" + "z" * 41)
    assert response.status_code == 429
    assert "wait" in response.text
    assert sent(stranger, "/login", key=KEY).status_code == 303  # another account, behind the same address
    monkeypatch.setattr(login, "WINDOW", 0.0)
    assert sent(stranger, "/login", key="local-" + "z" * 40).status_code == 403


def test_wrong_keys_of_an_address_are_bounded_at_the_login_too(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REFUSALS", RateLimitItemPerMinute(3))
    looked_up = []
    opening = Logins.open
    monkeypatch.setattr(Logins, "open", lambda self, key: looked_up.append(key) or opening(self, key))
    stranger, wrong = shown.another(), [f"{number}-{'z' * 40}" for number in range(5)]
    responses = [sent(stranger, "/login", key=key) for key in [*wrong, wrong[0]]]
    assert [response.status_code for response in responses] == [403] * 3 + [429] * 3
    assert "wrong keys came from" in responses[-1].text
    assert looked_up == wrong  # the last was known to be wrong
    assert sent(stranger, "/login", key=KEY).status_code == 303


def test_a_page_that_nobody_waits_for_any_more_is_not_made(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(_: Request) -> bool:
        return True

    monkeypatch.setattr(Request, "is_disconnected", gone)
    monkeypatch.setattr(Web, "_answered", lambda *_: pytest.fail("was made"))
    assert shown.browser.get("/").status_code == 499
    assert sent(shown.browser, "/someone/tried/runs", action="stop").status_code == 499


def test_a_link_logs_in_once(tmp_path: Path) -> None:
    asked = Shown(tmp_path)
    logins = Logins(asked.database, asked.files)
    asked.settings = {"logins": logins}
    asked.client = asked.unlimited(tmp_path)
    token = logins.new_link("someone")
    first, second = asked.another(), asked.another()
    assert first.get(f"/login/{token}").headers["location"] == "/"
    assert first.get("/").status_code == 200
    response = second.get(f"/login/{token}")
    assert response.status_code == 403
    assert "this link was followed before" in response.text
    assert second.get("/").status_code == 303
    assert logins.new_link("nobody") is None


def test_an_old_link_is_good_no_more(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "LINK_LASTS", -1.0)
    logins = Logins(shown.database, shown.files)
    assert logins.follow(str(logins.new_link("someone"))) is None


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_server_prints_a_link_where_only_this_machine_can_follow_it(tmp_path: Path, host: str) -> None:
    database = Database(f"sqlite:///{tmp_path / 'service.db'}")
    add_user(database, "local", key=KEY)
    database.close()
    command = [sys.executable, "-m", "paretune.service", "--host", host, "--port", "0", "--data", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            printed = [[server.stdout.readline() for _ in range(3)][-1]]
            if host == "127.0.0.1":
                printed.append(server.stdout.readline())
                address = printed[1].split()[-1]
                assert re.fullmatch(r"http://127.0.0.1:\d+/login/[\w-]{32}", address)
                with httpx2.Client(follow_redirects=True, timeout=30) as browser:
                    assert "Projects" in browser.get(address).text
                assert httpx2.get(address, timeout=30).status_code == 403
        finally:
            server.send_signal(signal.SIGINT)
        rest = server.stdout.read()
    assert "/login/" not in printed[0] + rest


@pytest.mark.parametrize("path", ["https://elsewhere.org", "//elsewhere.org", "/\\elsewhere.org", "elsewhere", "", "/a\nb"])
def test_a_login_leads_nowhere_else(path: str) -> None:
    assert local_path(path) == "/"


def test_another_sites_form_changes_nothing(shown: Shown) -> None:
    shown.run()
    for path, values in (
        ("/login", {"key": KEY}),
        ("/logout", {}),
        ("/someone/tried/runs/r1", {"action": "delete"}),
        ("/someone/tried/runs", {"action": "delete", "run": "r1"}),
    ):
        assert sent(shown.browser, path, origin="https://elsewhere.org", **values).status_code == 403
    response = shown.browser.post("/someone/tried/runs/r1", content="action=delete", headers={"sec-fetch-site": "cross-site"})
    assert response.status_code == 403
    assert row_of(shown).state == "running"


def test_a_name_that_was_made_to_lead_here_is_not_answered(tmp_path: Path) -> None:
    shown = Shown(tmp_path)
    shown.settings = {"own_names": True}
    shown.client = shown.unlimited(tmp_path)
    browser = shown.another()
    assert browser.get("/login", headers={"host": "elsewhere.org"}).status_code == 421
    assert browser.get("/login", headers={"host": "127.0.0.1:8080"}).status_code == 200


# -- who sees and changes what


def test_others_things_look_as_if_they_were_not_there(shown: Shown) -> None:
    shown.run()
    other = shown.another(OTHER)
    assert "someone" not in other.get("/").text
    for path in ("", "/tried", "/tried/runs/r1", "/tried/runs/r1/history.json", "/tried/runs/r1/files/a", "/tried/compare?runs=r1"):
        response = other.get(f"/someone{path}")
        assert response.status_code == 404, path
    assert other.get("/someone/nothing").text == other.get("/someone/tried").text.replace("tried", "nothing")
    assert sent(other, "/someone/tried/runs/r1", action="delete").status_code == 404
    assert row_of(shown).name == "r1"


def test_a_viewer_looks_and_does_not_change(shown: Shown) -> None:
    add_user(shown.database, "mate", key="local-" + "m" * 40, team="lab")
    add_user(shown.database, "guest", key=VIEWER, role="viewer", team="lab")
    change = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { name } } }"
    shown.ask(change, key="local-" + "m" * 40, input={"name": "r1", "modelName": "common", "entityName": "lab"})
    guest = shown.another(VIEWER)
    page = guest.get("/lab/common/runs/r1").text
    assert "Delete" not in page
    for action in ("stop", "delete", "edit"):
        response = sent(guest, "/lab/common/runs/r1", action=action, notes="mine")
        assert response.status_code == 403
        assert "guest may not write to lab" in response.text
    assert sent(guest, "/lab/common/runs", action="delete", run="r1").status_code == 403
    assert row_of(shown).notes is None


def test_what_is_stored_is_shown_as_text(shown: Shown) -> None:
    config = json.dumps({EVIL: {"value": EVIL}})
    summary = json.dumps({EVIL: EVIL})
    shown.run("r1", displayName=EVIL, notes=EVIL, tags=[EVIL], config=config, summaryMetrics=summary, groupName=EVIL, jobType=EVIL)
    for path in ("/someone/tried", "/someone/tried?group=tag", "/someone/tried/runs/r1", "/someone/tried/compare?runs=r1"):
        page = shown.page(path)
        assert "<img src=x" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_every_answer_forbids_what_is_not_of_these_pages(shown: Shown) -> None:
    for path in ("/", "/login", "/nobody", "/static/pages.css"):
        headers = shown.browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "script" not in policy.replace("default-src", "")
        assert headers["x-content-type-options"] == "nosniff"


def test_no_page_has_a_script_or_a_handler_within(shown: Shown) -> None:
    filled(shown)
    for path in ("/", "/someone/tried", "/someone/tried/runs/r1", "/someone/tried/compare?runs=r0,r1", "/login"):
        page = shown.page(path)
        assert not re.search(r"<script(?![^>]*(src=|type=\"application/json\"))", page)
        assert not re.search(r"<[^>]*\son\w+=", page)
        assert len(page) < 200_000


# -- files


def upload(shown: Shown, name: str, content: bytes) -> None:
    names = 'entityName: "someone", projectName: "tried", runName: "r1", files: $files'
    ask = f"mutation M($files: [String!]!) {{ createRunFiles(input: {{{names}}}) {{ files {{ uploadUrl }} }} }}"
    address = shown.ask(ask, files=[name])["createRunFiles"]["files"][0]["uploadUrl"]
    assert shown.client.put(address, content=content).status_code == 200


def test_a_file_is_a_download_unless_it_is_an_image(shown: Shown) -> None:
    shown.run()
    upload(shown, "page.html", b"<script>alert(1)</script>")
    upload(shown, "drawn.svg", b"<svg onload='alert(1)'/>")
    upload(shown, "media/images/a_1_ff.png", b"\x89PNG")
    for name in ("page.html", "drawn.svg"):
        headers = shown.browser.get(f"/someone/tried/runs/r1/files/{name}").headers
        assert headers["content-type"] == "application/octet-stream"
        assert headers["content-disposition"].startswith("attachment")
        assert "sandbox" in headers["content-security-policy"]
    image = shown.browser.get("/someone/tried/runs/r1/files/media/images/a_1_ff.png")
    assert (image.headers["content-type"], image.headers["x-content-type-options"]) == ("image/png", "nosniff")
    assert "sandbox" in image.headers["content-security-policy"]
    assert shown.browser.get("/someone/tried/runs/r1/files/absent").status_code == 404
    assert shown.browser.get("/someone/tried/runs/r1/files/..%2f..%2fsecret").status_code in (400, 404)


@pytest.mark.parametrize("columns", curves.MATRICES, ids=["W&B's", "our trainers'"])
def test_tables_images_and_the_confusion_matrix_are_shown(shown: Shown, columns: list[str]) -> None:
    shown.run()
    table = {"columns": ["a", "b"], "data": [[1, EVIL], [2.5, None]]}
    matrix = {"columns": columns, "data": [["x", "x", 3], ["x", "y", 1], ["y", "x", 0], ["y", "y", 5]]}
    upload(shown, "media/table/rows_7_abc.table.json", json.dumps(table).encode())
    upload(shown, "media/table/rows_3_abc.table.json", json.dumps({"columns": ["old"], "data": []}).encode())
    upload(shown, "media/table/odd_3_abc.table.json", b'{"columns": 3')
    upload(shown, "media/table/conf_table_7_abc.table.json", json.dumps(matrix).encode())
    upload(shown, "media/images/shown/it_7_abc.png", b"\x89PNG")
    page = shown.page("/someone/tried/runs/r1")
    assert "&lt;img src=x" in page
    assert ">old<" not in page
    assert 'title="x read as y: 1 (25.0 %)"' in page
    assert 'src="/someone/tried/runs/r1/files/media/images/shown/it_7_abc.png"' in page


# -- the table of runs


def test_runs_are_sorted_by_what_a_header_says(shown: Shown) -> None:
    filled(shown, 5)

    def names(sort: str) -> list[str]:
        return re.findall(r'name="run" value="(\w+)"', shown.page(f"/someone/tried?sort={sort}"))

    assert names("summary.f1") == ["r0", "r1", "r2", "r3", "r4"]
    assert names("-config.lr") == ["r4", "r3", "r2", "r1", "r0"]
    assert names("-created") == ["r4", "r3", "r2", "r1", "r0"]
    assert "runs cannot be sorted by &#39;nothing&#39;" in shown.page("/someone/tried?sort=nothing")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("config.lr > 0.1", ["r2", "r3", "r4"]),
        ("config.lr > 0.1 and summary.f1 <= 0.6", ["r2", "r3"]),
        ("config.kind = b", ["r1", "r3"]),
        ("config.kind != b AND tag = even", ["r0", "r2", "r4"]),
        ("state = running and group = 'g'", ["r0", "r1", "r2", "r3", "r4"]),
        ("even", ["r0", "r2", "r4"]),
        ("R3", ["r3"]),
        ("name ~ 4", ["r4"]),
        ("id=r2", ["r2"]),
        ("user = someone and created > 2020-01-01", ["r0", "r1", "r2", "r3", "r4"]),
        ("summary.none = 3", []),
    ],
)
def test_a_typed_filter_finds_what_it_says(shown: Shown, text: str, names: list[str]) -> None:
    filled(shown, 5)
    page = shown.browser.get("/someone/tried", params={"filter": text, "sort": "created"}).text
    assert re.findall(r'name="run" value="(\w+)"', page) == names


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lr > 3", "write config.lr or summary.lr"),
        ("stat = running", "did you mean 'state'?"),
        ("config.lr >", "is not a condition"),
        ("config.lr > x > y", "is not a condition"),
        (" and ".join(["a"] * 21), "at most 20 conditions"),
        ("created > yesterday", "must be a time such as"),
    ],
)
def test_a_filter_that_is_not_understood_says_so_beside_the_box(shown: Shown, text: str, sentence: str) -> None:
    filled(shown)
    with pytest.raises(UsageError, match=re.escape(sentence)):
        condition_of(filter_of(text))
    page = shown.browser.get("/someone/tried", params={"filter": text})
    assert page.status_code == 200
    assert sentence.split("'")[0] in page.text


def tables_of(shown: Shown, group: str) -> list[tables.Group]:
    with shown.database.session() as session:
        project = session.scalars(sa.select(Project)).one()
        return tables.groups_of(session, project, tables.Wanted(group=group), [])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("state = finishd", "runs have no state 'finishd'; did you mean 'finished'?"),
        ("summary.f11 > 0", "no run has a value summary.f11; did you mean 'f1'?"),
        ("config.lr > abc", "config.lr is a number in all runs that have it, and 'abc' is none."),
        ('name = "mine', "is not closed"),
        ("runtime > 100", ""),
        ("config.absent = none", ""),
    ],
)
def test_a_filter_that_can_find_nothing_says_why(shown: Shown, text: str, sentence: str) -> None:
    filled(shown)
    found = re.search(r'<p id="problem"[^>]*>(.*)</p>', shown.browser.get("/someone/tried", params={"filter": text}).text)
    assert sentence in html.unescape(found[1]) if sentence else found is None


def test_a_run_is_found_by_how_long_it_took(shown: Shown) -> None:
    filled(shown)
    shown.run("short", summaryMetrics='{"_runtime": 3}')
    for text, count in (("runtime > 2", 4), ("runtime > 30", 3), ("runtime < 30 and state = running", 1)):
        page = shown.browser.get("/someone/tried", params={"filter": text}).text
        assert len(re.findall(r'name="run"', page)) == count


@pytest.mark.parametrize("name", ['"', "'", "it's \"so\" and not = 'so'", 'a" and b', "''", '"" and ""', "x"])
def test_a_groups_address_finds_its_runs_whatever_its_name(shown: Shown, name: str) -> None:
    shown.run("r1", groupName=name, config=json.dumps({"key": {"value": name}}))
    shown.run("r2", groupName="other", config=json.dumps({"key": {"value": "other"}}))
    for by in ("group", "config.key"):
        (group,) = [group for group in tables_of(shown, by) if group.name == name]
        page = shown.page(f"/someone/tried{group.address}")
        assert re.findall(r'name="run" value="(\w+)"', page) == ["r1"]
    (address,) = re.findall(r'<dt>Group</dt><dd><a href="([^"]+)"', shown.page("/someone/tried/runs/r1"))
    assert re.findall(r'name="run" value="(\w+)"', shown.page(html.unescape(address))) == ["r1"]


def test_an_edit_keeps_tags_that_hold_commas_and_quotes(shown: Shown) -> None:
    tags = ["a, b", 'say "so"', "plain", "it's"]
    shown.run(tags=tags)
    (text,) = re.findall(r'name="tags" value="([^"]*)"', shown.page("/someone/tried/runs/r1"))
    sent(shown.browser, "/someone/tried/runs/r1", action="edit", name="r1", tags=html.unescape(text), notes="new")
    assert json.loads(row_of(shown).tags) == tags
    sent(shown.browser, "/someone/tried/runs/r1", action="edit", name="r1", tags=html.unescape(text) + ", more")
    assert json.loads(row_of(shown).tags) == [*tags, "more"]


def test_the_curves_of_a_long_history_are_read_once(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "LONG", 3)
    shown.run()
    logged(shown, 0, [{"_step": step, "loss": step} for step in range(4)])
    path = "/someone/tried/runs/r1/history.json"
    first = shown.page(path)
    with monkeypatch.context() as patch:
        patch.setattr(curves, "curves", None)
        assert shown.page(path) == first
    logged(shown, 4, [{"_step": 4, "loss": 9.0}])
    assert json.loads(shown.page(path))["series"] == {"loss": [None, [0, 1, 2, 3, 9.0]]}


def test_runs_of_equal_names_are_told_apart_in_a_comparison(shown: Shown) -> None:
    for name, said in (("r1", "same"), ("r2", "same"), ("r3", "other")):
        shown.run(name, displayName=said)
    page = shown.page("/someone/tried/compare?runs=r1,r2,r3")
    assert re.findall(r'runs/r\d">([^<]+)</a>', page)[:3] == ["same (r1)", "same (r2)", "other"]
    assert page.count('"same (r2)"') == 1


def test_long_names_and_values_that_differ_are_told_apart_where_they_are_cut(shown: Shown) -> None:
    alike = "experiment_with_a_very_long_name_that_many_runs_share_"
    path = "/data/users/someone/pictures/" * 20
    for place, name in enumerate(("r1", "r2", "r3")):
        config = json.dumps({"folder": {"value": f"{path}{place}/{path}"}})
        shown.run(name, displayName=f"{alike}{place}", config=config, groupName=f"{path}{place}{path}")
    page = shown.page("/someone/tried/runs?column=config.folder")
    names = re.findall(r'runs/r\d" title="[^"]+">([^<]+)</a>', page)
    values = re.findall(r'<td title="[^"]+">([^<]+)</td>', page)
    assert len(set(names)) == len(set(values)) == 3
    assert max(map(len, names + values)) <= 44
    assert all(f'title="{alike}{place}"' in page for place in range(3))
    compared = shown.page("/someone/tried/compare?runs=r1,r2,r3")
    (folders,) = re.findall(r'<th scope="row">folder</th>(.*?)</tr>', compared)
    assert len(set(re.findall(r"<td>([^<]+)</td>", folders))) == 3
    groups = shown.page("/someone/tried/runs?group=group")
    assert len(set(re.findall(r"<tr><td>(?:<a [^>]+>)?([^<]+)<", groups))) == 3


@pytest.mark.parametrize("name", ["login", "static", "painter", "healthz"])
def test_no_user_or_team_has_the_name_of_an_address(shown: Shown, name: str) -> None:
    with pytest.raises(UsageError, match="is an address of this server"):
        add_user(shown.database, name)
    with pytest.raises(UsageError, match="is an address of this server"):
        add_user(shown.database, "mate", team=name)


def test_every_address_of_the_server_is_reserved(shown: Shown) -> None:
    routes = [route for route in shown.client.app.routes if getattr(route, "path", "")]
    routes += web.application(shown.database, shown.files, shown.searches, painter=Starlette).routes
    heads = {route.path.split("/")[1] for route in routes}
    assert {head for head in heads if head and not head.startswith("{")} <= set(RESERVED)


@pytest.mark.parametrize("name", [".", ".."])
def test_no_project_or_run_has_a_name_that_a_browser_takes_for_a_folder(shown: Shown, name: str) -> None:
    query = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
    for values in ({"name": name, "modelName": "tried"}, {"name": "r1", "modelName": name}):
        assert "must be 1 to 128 characters" in shown.told(query, input=values)["errors"][0]["message"]
    shown.run("...")


def test_a_page_after_the_last_is_the_last(shown: Shown) -> None:
    filled(shown, 60)
    page = shown.page("/someone/tried?page=9&sort=created")
    assert "page 2 of 2" in page
    assert len(re.findall(r'name="run"', page)) == 10
    assert len(re.findall(r'name="run"', shown.page("/someone/tried?size=100"))) == 60


def test_groups_have_counts_means_and_deviations(shown: Shown) -> None:
    filled(shown, 4)
    with shown.database.session() as session:
        project = session.scalars(sa.select(Project)).one()
        wanted = tables.Wanted(group="config.kind")
        a, b = tables.groups_of(session, project, wanted, ["summary.f1", "config.lr", "summary.none"])
        tagged = tables.groups_of(session, project, tables.Wanted(group="tag"), [])
        with pytest.raises(UsageError, match="runs cannot be grouped by 'host'"):
            tables.groups_of(session, project, tables.Wanted(group="host"), [])
    assert (a.name, a.count, b.name, b.count) == ("a", 2, "b", 2)
    assert a.values["summary.f1"] == pytest.approx((0.25, math.sqrt(0.125)))
    assert b.values["config.lr"] == pytest.approx((0.2, math.sqrt(0.02)))
    assert a.values["summary.none"] is None
    assert {(group.name, group.count) for group in tagged} == {("even", 2), ("(none)", 2)}
    for group in tables_of(shown, "config.lr"):
        assert group.address is not None
        assert len(re.findall(r'name="run"', shown.page(f"/someone/tried{group.address}"))) == group.count == 1
    (nothing,) = tables_of(shown, "config.absent")
    assert len(re.findall(r'name="run"', shown.page(f"/someone/tried{nothing.address}"))) == nothing.count == 4
    page = shown.page(f"/someone/tried{b.address}")
    assert re.findall(r'name="run" value="(\w+)"', page) == ["r3", "r1"]


def test_the_address_keeps_what_was_chosen(shown: Shown) -> None:
    filled(shown)
    page = shown.page("/someone/tried?column=summary.f1&column=state&column=no.column&sort=-summary.f1&filter=state+%3D+running")
    header = page[page.index("<thead>") : page.index("</thead>")]
    assert re.findall(r"sort=([^&\"]+)", header) == ["-name", "summary.f1", "-state"]
    assert header.count("filter=state+%3D+running") == 3
    assert "config.lr" not in header


def test_the_csv_has_what_the_table_shows_and_no_formula(shown: Shown) -> None:
    filled(shown)
    shown.run("evil", displayName="=1+1")
    rows = list(csv.reader(io.StringIO(shown.page("/someone/tried/runs.csv?column=summary.f1&column=tags&sort=created"))))
    assert rows[0] == ["id", "name", "summary.f1", "tags"]
    assert rows[1][0] == "r0"
    assert rows[1][2:] == ["0.0", "even"]
    assert rows[4][1] == "'=1+1"
    assert plain_cell(-1.5) == -1.5


def test_ticked_runs_are_tagged_stopped_deleted_and_compared(shown: Shown) -> None:
    filled(shown)
    here = "/someone/tried/runs"
    assert sent(shown.browser, here, action="tag", tag="good", run=["r0", "r1"]).status_code == 303
    assert json.loads(row_of(shown, "r0").tags) == ["even", "good"]
    sent(shown.browser, here, action="untag", tag="good", run=["r0"])
    assert json.loads(row_of(shown, "r0").tags) == ["even"]
    sent(shown.browser, here, action="stop", run=["r1"])
    assert row_of(shown, "r1").stop_asked
    assert sent(shown.browser, here, action="compare", run=["r0", "r1"]).headers["location"] == "/someone/tried/compare?runs=r0,r1"
    sent(shown.browser, here, action="delete", run=["r2"])
    assert shown.browser.get("/someone/tried/runs/r2").status_code == 404
    for values, sentence in (
        ({"action": "tag", "tag": "x"}, "no run is ticked"),
        ({"action": "tag", "run": "r0"}, "a tag must be"),
        ({"action": "x", "run": "r0"}, "can be compared"),
    ):
        response = sent(shown.browser, here, **values)
        assert response.status_code == 400
        assert sentence in response.text


def test_a_page_asks_the_same_few_questions_however_many_runs_there_are(shown: Shown) -> None:
    asked: list[str] = []
    sa.event.listen(shown.database.engine, "before_cursor_execute", lambda *values: asked.append(values[2]))

    def questions(path: str) -> int:
        asked.clear()
        shown.page(path)
        return len([statement for statement in asked if statement.startswith("SELECT")])

    paths = ("/", "/someone", "/someone/tried", "/someone/tried?sort=-summary.f1&filter=config.lr>=0", "/someone/tried?group=tag")
    filled(shown, 2)
    before = [questions(path) for path in paths]
    filled(shown, 120)
    assert [questions(path) for path in paths] == before
    assert max(before) <= 12


# -- a run


def logged(shown: Shown, first: int, rows: list[dict[str, Any]], stream: str = "wandb-history.jsonl") -> None:
    assert shown.stream("r1", files={stream: {"offset": first, "content": [json.dumps(row) for row in rows]}}).status_code == 200


def test_curves_come_as_columns_and_only_what_is_new(shown: Shown) -> None:
    shown.run()
    rows = [{"_step": step, "_runtime": step * 2.0, "loss": 1 / (step + 1), "deep": {"x": step}} for step in range(4)]
    rows[2] |= {"loss": math.nan, "rare": 5, "text": "no number", "image": {"_type": "image-file", "size": 3}}
    logged(shown, 0, rows)
    found = shown.browser.get("/someone/tried/runs/r1/history.json").json()
    assert found["series"] == {"loss": [None, [1.0, 0.5, None, 0.25]], "deep.x": [None, [0, 1, 2, 3]], "rare": [[2], [5]]}
    assert found["axes"] == {"_step": [0, 1, 2, 3], "_runtime": [0.0, 2.0, 4.0, 6.0]}
    assert (found["next"], found["live"], found["from"]) == (4, True, 0)
    logged(shown, 4, [{"_step": 4, "loss": 9.0}])
    found = shown.browser.get("/someone/tried/runs/r1/history.json?after=4").json()
    assert (found["next"], found["series"], found["axes"]) == (5, {"loss": [None, [9.0]]}, {"_step": [4]})
    assert shown.browser.get("/someone/tried/runs/r1/history.json?after=5").json()["series"] == {}
    assert shown.browser.get("/someone/tried/runs/r1/history.json?after=99").json()["from"] == 0, "it was rewound"


def test_a_long_curve_is_thinned_between_its_ends(shown: Shown) -> None:
    shown.run()
    logged(shown, 0, [{"_step": step, "loss": step, **({"rare": step} if step % 500 == 0 else {})} for step in range(5000)])
    found = shown.browser.get("/someone/tried/runs/r1/history.json").json()
    _, values = found["series"]["loss"]
    assert (len(values), values[0], values[-1]) == (curves.MOST_POINTS, 0, 4999)
    places, rare = found["series"]["rare"]
    assert rare == list(range(0, 5000, 500)), "what is logged seldom is all there"
    assert [found["axes"]["_step"][place] for place in places] == rare


def test_system_metrics_are_curves_over_time(shown: Shown) -> None:
    shown.run()
    logged(shown, 0, [{"_runtime": 15.0 * n, "system.cpu": n} for n in range(3)], stream="wandb-events.jsonl")
    found = shown.browser.get("/someone/tried/runs/r1/history.json?stream=events").json()
    assert found["series"] == {"system.cpu": [None, [0, 1, 2]]}
    assert found["axes"]["_runtime"] == [0.0, 15.0, 30.0]


def test_the_console_is_the_last_lines_without_colours(shown: Shown) -> None:
    shown.run()
    lines = [json.dumps({"ts": "", "content": f"line {n}"}) for n in range(1500)]
    lines += ["\x1b[31mred\x1b[0m <b>", json.dumps({"content": "10%\r50%\r100%\r\n"})]
    shown.stream("r1", files={"output.log": {"offset": 0, "content": lines}})
    found = shown.browser.get("/someone/tried/runs/r1/console.json").json()
    assert (len(found["lines"]), found["first"], found["next"]) == (1000, 502, 1502)
    assert found["lines"][-2:] == [[1500, "red <b>"], [1501, "100%"]]
    assert shown.browser.get("/someone/tried/runs/r1/console.json?after=1501").json()["lines"] == [[1501, "100%"]]


def test_a_run_is_edited_stopped_and_deleted(shown: Shown) -> None:
    shown.run(tags=["old"])
    here = "/someone/tried/runs/r1"
    assert (
        sent(shown.browser, here, action="edit", name="better", notes="two\r\nlines", tags="new, , new,chosen").status_code == 303
    )
    run = row_of(shown)
    assert (run.display_name, run.notes, json.loads(run.tags)) == ("better", "two\nlines", ["new", "chosen"])
    assert sent(shown.browser, here, action="edit", tags="x" * 129).status_code == 400
    sent(shown.browser, here, action="stop")
    assert row_of(shown).stop_asked
    assert sent(shown.browser, here, action="delete").headers["location"] == "/someone/tried"
    assert shown.browser.get(here).status_code == 404


def test_a_comparison_shows_first_what_differs(shown: Shown) -> None:
    for name, lr in (("r1", 0.1), ("r2", 0.2)):
        shown.run(name, config=json.dumps({"epochs": {"value": 3}, "lr": {"value": lr}}))
    page = shown.page("/someone/tried/compare?runs=r2,r1,gone")
    assert page.index(">lr<") < page.index(">epochs<")
    assert "Not here any more: gone." in page
    assert page.index(">0.2<") < page.index(">0.1<"), "in the order of the address"
    assert shown.browser.get("/someone/tried/compare?runs=gone").status_code == 404


# -- the rest


def test_the_painter_is_there_for_who_has_logged_in(tmp_path: Path) -> None:
    made: list[str] = []

    def painter() -> Starlette:
        made.append("once")
        return Starlette(
            routes=[
                Route("/", lambda _: PlainTextResponse("paint")),
                Route("/api/read", lambda _: PlainTextResponse("read"), methods=["POST"]),
            ]
        )

    shown = Shown(tmp_path, painter=painter)
    assert shown.another().get("/painter/").headers["location"] == "/login?next=/painter/"
    assert shown.another().post("/painter/api/read").status_code == 401
    assert made == []
    assert [shown.browser.get("/painter/").text, shown.browser.get("/painter/").text] == ["paint", "paint"]
    assert shown.browser.get("/painter").headers["location"] == "/painter/"
    assert made == ["once"]
    assert 'href="/painter/"' in shown.page("/")
    (tmp_path / "without").mkdir()
    assert 'href="/painter/"' not in Shown(tmp_path / "without").page("/")


def test_a_viewer_asks_the_painter_and_adds_no_drawing(tmp_path: Path) -> None:
    def answer(request: Any) -> PlainTextResponse:
        return PlainTextResponse(request.url.path)

    paths = ("/api/read", "/api/drawings", "/api/empty")
    shown = Shown(tmp_path, painter=lambda: Starlette(routes=[Route(path, answer, methods=["GET", "POST"]) for path in paths]))
    add_user(shown.database, "guest", key=VIEWER, role="viewer")
    guest = shown.another(VIEWER)
    assert [guest.post(f"/painter{path}").status_code for path in paths] == [200, 403, 403]
    assert guest.post("/painter/api/drawings").json()["problem"].startswith("guest is a viewer")
    assert guest.get("/painter/api/drawings").status_code == 200
    assert shown.browser.post("/painter/api/drawings").status_code == 200


@pytest.mark.parametrize(("language", "words"), [("en", "belong to this server"), ("es", "son del servidor")])
def test_the_painter_leads_back_and_says_whose_the_drawings_are(tmp_path: Path, language: str, words: str) -> None:
    shown = Shown(tmp_path, painter=lambda: painter_of(tmp_path / "models", tmp_path / "drawings"))
    page = shown.page(f"/painter/?lang={language}")
    assert '<body><p><a href="/">' in page
    assert words in page
    assert page.endswith(("</html>\n", "</html>"))


def test_a_dotted_key_beside_a_nested_one_is_shown_with_it(shown: Shown) -> None:
    values = json.dumps({"a": {"b": 1}, "a.b": "x"})
    shown.run(config=values, summaryMetrics=values)
    assert shown.page("/someone/tried/runs/r1").count('<th scope="row">a.b</th>') == 4
    assert json.loads(shown.page("/someone/tried/runs/r1/history.json"))["summary"] == [["a.b", "1"], ["a.b", "x"]]


def test_a_whole_number_that_no_float_holds_is_shown_as_infinite(shown: Shown) -> None:
    most = json.dumps({"most": 10**400, "least": -(10**400), "_runtime": 10**400})
    shown.run(config=json.dumps({"n": {"value": 10**400}}), summaryMetrics=most)
    for path in ("", "/runs/r1", "/runs/r1/history.json", "/compare?runs=r1", "/runs.csv", "?group=config.n"):
        shown.page(f"/someone/tried{path}")
    assert "−∞" in shown.page("/someone/tried/runs/r1")
    assert curves.flat_numbers({"a": 10**400, "b": 2}) == {"a": None, "b": 2}
    assert curves.confusion([["a", "a", 10**400]]) is None


def test_a_script_is_told_of_a_fault_in_json(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    shown.run()
    locked, full = sa.exc.OperationalError("", {}, Exception("locked")), OSError(errno.ENOSPC, "no space is left")
    for error, status in ((RuntimeError(), 500), (locked, 503), (full, 507)):

        def fail(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(curves, "curves", fail)
        response = shown.browser.get("/someone/tried/runs/r1/history.json")
        assert response.status_code == status
        assert set(response.json()) == {"problem"}


def test_what_is_not_there_is_said_in_a_sentence(shown: Shown) -> None:
    shown.run()
    for path, sentence in (
        ("/someone/absent", "there is no project someone/absent here"),
        ("/someone/tried/runs/absent", "there is no run absent in someone/tried"),
        ("/someone/tried/sweeps/absent", "there is no sweep absent in someone/tried"),
        ("/a/b/c/d/e/f", "there is no page /a/b/c/d/e/f here"),
        ("/static/absent.js", "there is no page"),
    ):
        response = shown.browser.get(path)
        assert response.status_code == 404
        assert sentence in response.text


def test_what_no_database_takes_is_refused_before_it_is_asked(shown: Shown) -> None:
    shown.run()
    for path in ("/someone/%00", "/someone/tried?filter=a%00", "/someone/tried/runs/a%00b", "/someone/tried/runs/r1/files/%00"):
        assert shown.browser.get(path).status_code == 400, path
    assert sent(shown.browser, "/someone/tried/runs/r1", action="edit", name="a\0b").status_code == 400


@pytest.mark.parametrize(
    "name", ["filter", "sort", "column", "group", "page", "size", "runs", "after", "seen", "metric", "goal", "next"]
)
def test_no_value_in_an_address_fails_the_server(shown: Shown, name: str) -> None:
    filled(shown)
    query = 'mutation { upsertSweep(input: {config: %s, projectName: "tried"}) { sweep { name } } }'
    definition = "method: random\nprogram: a.py\nmetric: {name: f1, goal: maximize}\nparameters: {lr: {min: 0.0, max: 1.0}}"
    sweep = shown.ask(query % json.dumps(definition))["upsertSweep"]["sweep"]["name"]
    values = [
        "",
        "-",
        "0",
        "-1",
        "9" * 30,
        "a" * 5000,
        "'",
        '"',
        "%",
        "\\",
        "config.",
        "config.a.b.c",
        "summary._",
        "-name",
        "é€😀",
        "a and ",
        "( [",
    ]
    values += [
        "config.lr > 1e999",
        "created > 9999-99-99",
        "config.lr ~ [",
        "tags > 3",
        "tag = none",
        "state >= 3",
        "* = 3",
        "a='b",
        "\ud800",
        "²",
        "٣",
    ]
    paths = [
        "/login",
        "/",
        "/someone",
        "/someone/tried",
        "/someone/tried/runs.csv",
        "/someone/tried/compare",
        "/someone/tried/sweeps",
    ]
    paths += [f"/someone/tried/runs/r1{end}" for end in ("", "/history.json", "/console.json")]
    paths += [f"/someone/tried/sweeps/{sweep}{end}" for end in ("", "/data.json")]
    for path in paths:
        for value in values:
            response = shown.browser.get(path, params={name: value.encode("utf-8", "surrogatepass")})
            assert response.status_code in (200, 400, 404), (path, value, response.text)


def test_the_clients_own_addresses_are_not_the_pages(shown: Shown) -> None:
    response = shown.client.post("/graphql", content="{}", headers={"authorization": ""})
    assert response.json()["error"].startswith("this key is not known here")
    assert shown.client.get("/healthz").json() == {"status": "ok"}


def test_values_read_well() -> None:
    assert [number(value) for value in (None, 0.1 + 0.2, 3.0, 1e-7, math.nan, -math.inf, 1234567.0)] == [
        "–",
        "0.3",
        "3",
        "1e-07",
        "NaN",
        "−∞",
        "1 234 567",
    ]
    assert [size(count) for count in (0, 999, 1500, 25_000, 3_400_000, 5e9)] == [
        "0 B",
        "999 B",
        "1.5 KB",
        "25 KB",
        "3.4 MB",
        "5.0 GB",
    ]
    assert [duration(seconds) for seconds in (None, 5, 65, 3700, 90_000)] == ["–", "5 s", "1 min 05 s", "1 h 01 min", "1 d 1 h"]
    assert ago(None) == "never"


def test_files_of_deleted_runs_are_not_served(shown: Shown) -> None:
    shown.run()
    upload(shown, "a.txt", b"a")
    sent(shown.browser, "/someone/tried/runs/r1", action="delete")
    with shown.database.session() as session:
        assert session.scalars(sa.select(RunFile)).all() == []
    assert shown.browser.get("/someone/tried/runs/r1/files/a.txt").status_code == 404
