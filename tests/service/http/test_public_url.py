"""A server behind a proxy: what it hands out leads through the proxy, on another host, by https, and below a path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from paretune.service.__main__ import main
from paretune.service.http.app import application
from paretune.service.web.login import Logins
from paretune.service.web.pages import application as web_pages
from tests.service.serving import KEY, Asked, authorization

BASE = "https://here.example/tracking/wandb"
FILES = (
    'mutation { createRunFiles(input: {entityName: "someone", projectName: "tried", runName: "r1", files: ["a"]})'
    " { files { uploadUrl } } }"
)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def behind(asked: Asked, *, taken_off: bool, host: str = "127.0.0.1:8080") -> TestClient:
    """Return a client whose requests come as a proxy hands them on, with the path of the base URL or without it."""
    logins = Logins(asked.database, asked.files)
    pages = web_pages(asked.database, asked.files, asked.searches, logins=logins, own_names=True, own_host="here.example")
    app = application(asked.database, asked.files, asked.searches, pages, base_url=BASE)
    client = TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False, follow_redirects=False)
    client.prefix = "" if taken_off else "/tracking/wandb"  # type: ignore[attr-defined]
    return client


@pytest.mark.parametrize("taken_off", [True, False])
def test_everything_leads_below_the_base_url(asked: Asked, taken_off: bool) -> None:
    asked.run("r1")
    client = behind(asked, taken_off=taken_off)
    prefix = client.prefix  # type: ignore[attr-defined]
    answer = client.post(f"{prefix}/graphql", json={"query": FILES}, headers=authorization()).json()
    url = answer["data"]["createRunFiles"]["files"][0]["uploadUrl"]
    assert url.startswith(f"{BASE}/uploads/")
    assert client.put(prefix + url.removeprefix(BASE), content=b"1").status_code == 200
    first = client.get(f"{prefix}/")
    assert first.headers["location"] == "/tracking/wandb/login?next=/tracking/wandb/"
    form = client.get(f"{prefix}/login", params={"next": "/tracking/wandb/someone/tried"})
    assert form.status_code == 200
    sent = {"origin": "https://here.example", "sec-fetch-site": "same-origin"}
    done = client.post(f"{prefix}/login", data={"key": KEY, "next": "/tracking/wandb/someone/tried"}, headers=sent)
    assert (done.status_code, done.headers["location"]) == (303, "/tracking/wandb/someone/tried")
    cookie = done.headers["set-cookie"]
    assert "; Path=/tracking/wandb/" in cookie
    assert "; Secure" in cookie
    page = client.get(f"{prefix}/someone/tried", headers={"cookie": cookie.partition(";")[0]}).text
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', form.text + page)
    assert len(links) > 10
    assert all(link.startswith("/tracking/wandb/") for link in links), links
    assert client.get(f"{prefix}/static/pages.css").status_code == 200


def test_a_login_leads_to_no_page_of_another_program_on_the_same_host(asked: Asked) -> None:
    client = behind(asked, taken_off=True)
    done = client.post("/login", data={"key": KEY, "next": "/other"}, headers={"origin": "https://here.example"})
    assert done.headers["location"] == "/tracking/wandb/"


def test_forms_of_other_sites_and_other_names_of_this_machine_are_refused(asked: Asked) -> None:
    client = behind(asked, taken_off=True)
    assert client.post("/login", data={"key": KEY}, headers={"origin": "https://evil.example"}).status_code == 403
    assert behind(asked, taken_off=True, host="here.example").get("/login").status_code == 200
    assert behind(asked, taken_off=True, host="evil.example").get("/login").status_code == 421


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--base-url", "here.example"], "must be http:// or https://, a host, and perhaps a path"),
        (["--base-url", "https://here.example/a?b"], "must be http:// or https://, a host, and perhaps a path"),
        (["--trusted-proxies", "proxy"], "must be addresses or networks"),
        (["--trusted-proxies", "10.0.0.1,*"], "must be addresses or networks"),
    ],
)
def test_flags_that_are_wrong_are_told(flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
