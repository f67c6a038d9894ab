"""A page request by a logged-in user, and the response to it."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.resources
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from paretune.painter.bodies import body_of
from paretune.service.http.turns import take_body_turn, take_turn
from paretune.service.store import runs
from paretune.service.store.accounts import Account
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.store.tables import Project, Run, Sweep
from paretune.service.sweeps import sweeps
from paretune.service.sweeps.searches import Searches
from paretune.service.web import words
from paretune.service.web.curves import KeptCurves
from paretune.service.web.login import COOKIE, LASTS, MOST_FAILURES, Logins, local_path
from paretune.service.web.sweep_data import SweepData

HERE = Path(__file__).parent
MOST_FORM = 100_000  # bytes of a form
MOST_LOGIN = 4_000  # of the form of the login, which anybody may send


@dataclass
class Visit:
    """One request of somebody who is logged in."""

    web: Web
    request: Request
    session: Session
    account: Account
    form: Mapping[str, list[str]] = field(default_factory=dict)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page made from a template."""
        return self.web.page(template, status=status, account=self.account, **values)

    def sent(self, name: str) -> str:
        """Return a field of the form; empty where it was not sent."""
        return (self.form.get(name) or [""])[-1]

    def entity(self) -> str:
        """Return the entity that the address names.

        Raises:
            HTTPException: 404 if the account may not see it.
        """
        name: str = self.request.path_params["entity"]
        if not self.account.may_read(name):
            raise HTTPException(404, f"there is no user or team {name} here that you may see.")
        return name

    def project(self) -> Project:
        """Return the project that the address names.

        Raises:
            HTTPException: 404 if there is none that the account may see.
        """
        entity, name = self.request.path_params["entity"], self.request.path_params["project"]
        found = runs.project_of(self.session, self.account, name, entity)
        if found is None:
            raise HTTPException(404, f"there is no project {entity}/{name} here that you may see.")
        return found

    def run(self) -> Run:
        """Return the run that the address names.

        Raises:
            HTTPException: 404 if there is none.
        """
        project, name = self.project(), self.request.path_params["run"]
        found = runs.run_of(self.session, project, name)
        if found is None:
            raise HTTPException(404, f"there is no run {name} in {project.entity.name}/{project.name}.")
        return found

    def sweep(self) -> Sweep:
        """Return the sweep that the address names.

        Raises:
            HTTPException: 404 if there is none.
        """
        project, name = self.project(), self.request.path_params["sweep"]
        found = sweeps.sweep_of(self.session, project, name)
        if found is None:
            raise HTTPException(404, f"there is no sweep {name} in {project.entity.name}/{project.name}.")
        return found

    def may_write(self, project: Project) -> bool:
        """Whether the account may change what is in a project."""
        return self.account.may_write(project.entity.name)


Handler = Callable[[Visit], Response]


class Web:
    """The pages of one service."""

    def __init__(self, database: Database, files: Files, searches: Searches, logins: Logins, *, has_painter: bool = False) -> None:
        self.database, self.files, self.searches, self.logins = database, files, searches, logins
        self.has_painter = has_painter
        self.sweep_data, self.curves = SweepData(searches), KeptCurves()

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page made from a template."""
        html = templates().get_template(template).render(has_painter=self.has_painter, **values)
        return HTMLResponse(html, status_code=status, headers={"cache-control": "no-store"})

    def shown(self, handler: Handler) -> Callable[[Request], Any]:
        """Return what answers a GET by a handler."""

        async def answer(request: Request) -> Response:
            if (key := self._key(request)) is not None:
                await take_turn(request, ("pages", key))
                if await request.is_disconnected():
                    raise ClientDisconnect
            return await run_in_threadpool(self._answered, handler, request, {}, False)

        return answer

    def changed(self, handler: Handler) -> Callable[[Request], Any]:
        """Return what answers the POST of one of these pages by a handler that may change what is kept."""

        async def answer(request: Request) -> Response:
            if (key := self._key(request)) is None:
                return to_login(request)
            await take_body_turn(request, ("pages", key))
            form = await form_sent_here(request)
            await take_turn(request, ("pages", key))
            if await request.is_disconnected():
                raise ClientDisconnect
            return await run_in_threadpool(self._answered, handler, request, form, True)

        return answer

    def _key(self, request: Request) -> int | None:
        """Return the number of the key of who is logged in, whose requests take turns; None for nobody."""
        key = self.logins.key_of(request.cookies.get(COOKIE))
        if key is not None:
            request.state.is_known = True
        return key

    def _answered(self, handler: Handler, request: Request, form: Mapping[str, list[str]], writing: bool) -> Response:
        said = [request.url.path, *request.query_params.values(), *(value for values in form.values() for value in values)]
        if any("\0" in text for text in said) or "%00" in request.url.path:
            raise HTTPException(400, "an address or a form may hold no NUL character.")  # PostgreSQL has no place for one
        with self.database.session(writing=writing) as session:
            account = self.logins.account(session, request.cookies.get(COOKIE))
            if account is None:
                return to_login(request)
            count(request, account)
            return handler(Visit(self, request, session, account, form))

    def account_of(self, request: Request) -> Account | None:
        """Return who asks; None where the cookie lets nobody in."""
        with self.database.session() as session:
            account = self.logins.account(session, request.cookies.get(COOKIE))
        if account is not None:
            count(request, account)
        return account

    # -- login

    async def login_form(self, request: Request) -> Response:
        """The page on which a key is typed."""
        return self.page("login.html", next=local_path(request.query_params.get("next")))

    async def log_in(self, request: Request) -> Response:
        """Take a key, and remember it in a cookie."""
        form = {name: values[-1] for name, values in (await form_sent_here(request, MOST_LOGIN)).items()}
        key = form.get("key", "").strip()
        address = request.client.host if request.client else ""
        goal = local_path(form.get("next"))
        wait = self.logins.wait(address, key)
        if wait > 0:
            sentence = f"after {MOST_FAILURES} failed attempts with such a key, wait {wait:.0f} s before the next one."
            return self.page("login.html", status=429, next=goal, problem=sentence)
        look_up = request.scope.get("look_up")  # where the service bounds them
        cookie = await (run_in_threadpool(self.logins.open, key) if look_up is None else look_up(request, key, self.logins.open))
        if cookie is None:
            self.logins.failed(address, key)
            sentence = "this key is not known here: ask whoever runs this server for one (python -m paretune.service user add)."
            return self.page("login.html", status=403, next=goal, problem=sentence)
        return remembered(request, goal, cookie)

    async def follow_link(self, request: Request) -> Response:
        """Log in by the link that the server printed."""
        cookie = await run_in_threadpool(self.logins.follow, request.path_params["token"])
        if cookie is None:
            sentence = "this link was followed before, or is older than an hour: log in with your API key."
            return self.page("login.html", status=403, next=local_path(None), problem=sentence)
        return remembered(request, local_path(None), cookie)

    async def about_keys(self, _: Request) -> Response:
        """The page that `wandb login` names, which at W&B shows the key."""
        sentence = (
            "a key is shown once, when it is made: whoever runs this server makes one by python -m paretune.service user key NAME."
        )
        return self.page("fault.html", title="API keys", sentence=sentence)

    async def log_out(self, request: Request) -> Response:
        """Forget who is logged in."""
        await form_sent_here(request)
        await run_in_threadpool(self.logins.close, request.cookies.get(COOKIE))
        response = RedirectResponse(words.path("login"), status_code=303)
        response.delete_cookie(COOKIE, path=local_path(None))
        return response


async def form_sent_here(request: Request, most: int = MOST_FORM) -> dict[str, list[str]]:
    """Return the fields of a form of these pages.

    Raises:
        HTTPException: 403 if another site's page sent it, 413 if it is too large.
    """
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, f"these pages take forms of their own only. Got one from {origin}.")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "these pages take forms of their own only. Got one from another site.")
    body = await body_of(request, most, "a form")
    form: dict[str, list[str]] = {}
    for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True):
        form.setdefault(name, []).append(value)
    return form


def count(request: Request, account: Account) -> None:
    """Count a request of a user together with those of its client, where the service does.

    Raises:
        HTTPException: 429 where it was one too many.
    """
    counted = request.scope.get("count")
    if counted is not None:
        counted(account)


def to_login(request: Request) -> Response:
    """Return the way to the login, and from there back here."""
    if request.method != "GET" or request.url.path.endswith(".json"):
        raise HTTPException(401, "you are not logged in any more: open the page anew.")
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{words.path('login')}?next={quote(request.url.path + query)}", status_code=303)


def remembered(request: Request, goal: str, cookie: str) -> Response:
    """Return the way to a page, with the cookie that says who is logged in."""
    response = RedirectResponse(goal, status_code=303)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, max_age=LASTS, path=local_path(None), httponly=True, samesite="lax", secure=secure)
    return response


def back(visit: Visit, path: str) -> Response:
    """Return to a page after a change."""
    return RedirectResponse(local_path(visit.sent("next") or path), status_code=303)


@functools.cache
def templates() -> Any:
    """Return the templates, in which every text is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": words.number,
        "value": words.value,
        "values": words.values,
        "ago": words.ago,
        "size": words.size,
    }
    environment.filters |= {"duration": words.duration, "iso": words.iso}
    environment.globals |= {"path": words.path, "plotly_version": importlib.metadata.version("plotly")}
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}
    return environment
