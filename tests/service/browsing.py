"""Whoever looks at the pages of a service in this process: a browser's requests, without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.testclient import TestClient

from paretune.service.http.app import application
from paretune.service.sweeps.searches import Searches
from paretune.service.web import pages as web
from tests.service.serving import KEY, Asked

HERE = "http://testserver"


class Shown(Asked):
    """A service in this process, and a browser that has logged in as `someone`."""

    def __init__(self, folder: Path, url: str | None = None, **settings: Any) -> None:
        self.settings = settings
        super().__init__(folder, url)
        self.browser = self.another(KEY)

    def application(self, folder: Path, **options: Any) -> Starlette:
        self.searches = Searches(self.storage)
        pages = web.application(self.database, self.files, self.searches, **self.settings)
        return application(self.database, self.files, self.searches, pages, **options)

    def another(self, key: str | None = None) -> TestClient:
        """Return another browser, logged in by a key if there is one."""
        browser = TestClient(self.client.app, raise_server_exceptions=False, follow_redirects=False)
        if key is not None:
            assert sent(browser, "/login", key=key).status_code == 303
        return browser

    def page(self, path: str) -> str:
        """Return a page that must be there."""
        response = self.browser.get(path)
        assert response.status_code == 200, response.text
        return response.text


def sent(browser: TestClient, path: str, origin: str = HERE, **values: Any) -> Any:
    """Send a form as the page of the service does."""
    headers = {"origin": origin, "content-type": "application/x-www-form-urlencoded"}
    return browser.post(path, content=urlencode(values, doseq=True), headers=headers)
