"""The painter's page and the requests that it makes, as a Starlette application that any other can mount.

Every address in the page is relative, so it works below any path. `api/read` answers in lines of JSON, one a model, each
sent as it is ready.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import yaml
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from paretune.core.errors import UsageError
from paretune.data.photo import read_ink
from paretune.data.pictures import read_grey
from paretune.painter.bodies import body_of
from paretune.painter.drawings import LABELS, Drawings, DuplicateError, as_png, read_drawing, to_bytes
from paretune.painter.models import Models, forms_of
from paretune.painter.own_names import OwnNames

HERE = Path(__file__).parent
LANGUAGES = ("en", "es")
MOST_BYTES = 4_000_000  # of what a browser sends at once
MOST_PHOTO_BYTES = 32_000_000
POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"


def application(models: Models, drawings: Drawings, *, own_names: bool = True) -> Starlette:
    """Return the painter for some models, collecting into a folder of drawings.

    Args:
        own_names: answer only who asks for this machine by an address or its own name; whoever mounts the pages elsewhere
            may see to that itself.
    """
    page = Page(models, drawings)
    routes = [
        Route("/", page.index),
        Route("/api/models", page.list_models),
        Route("/api/read", page.read, methods=["POST"]),
        Route("/api/photo", page.photo, methods=["POST"]),
        Route("/api/wanted", page.wanted),
        Route("/api/drawings", page.collect, methods=["GET", "POST"]),
        Route("/api/empty", page.empty, methods=["POST"]),
        Route("/drawings.zip", page.download),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    handlers = {HTTPException: _sentence, UsageError: _sentence, Exception: _failed}
    middleware = [Middleware(OwnNames, what="this painter")] if own_names else []
    return Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)


class Page:
    """The handlers of one painter."""

    def __init__(self, models: Models, drawings: Drawings) -> None:
        self.models, self.drawings = models, drawings

    async def index(self, request: Request) -> Response:
        """The page, in the language of `?lang=` or of the browser."""
        if not request.url.path.endswith("/"):
            query = f"?{request.url.query}" if request.url.query else ""
            return Response(status_code=307, headers={"location": f"{request.url.path}/{query}"})  # relative addresses need it
        language = language_of(request)
        html = page_template().render(
            language=language, others=[other for other in LANGUAGES if other != language], texts=texts(language), labels=LABELS
        )
        return HTMLResponse(html, headers={"content-security-policy": POLICY, "cache-control": "no-store"})

    async def list_models(self, _: Request) -> Response:
        """Every model, with the reason of those that do not read drawings."""
        return JSONResponse([shown.to_dict() for shown in await run_in_threadpool(self.models.refresh)])

    async def read(self, request: Request) -> Response:
        """What each model makes of a PNG: first the forms, then an answer a line."""
        picture = await sent_here(request)
        forms = await run_in_threadpool(lambda: forms_of(read_drawing(picture)))
        pictures = {name: _address(as_png(to_bytes(form))) for name, form in forms.items()}

        def lines() -> Iterator[str]:
            yield json.dumps({"forms": pictures}) + "\n"
            for answer in self.models.answers(forms):
                yield json.dumps(answer, allow_nan=False) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"cache-control": "no-store"})

    async def photo(self, request: Request) -> Response:
        """The ink of a photo, or of any other picture, as a drawing of the canvas' size: light on dark, cropped."""
        content = await sent_here(request, MOST_PHOTO_BYTES, "a photo")
        found = await run_in_threadpool(lambda: read_ink(read_grey(content).astype(np.float32) / 255))
        return JSONResponse({"image": _address(as_png(to_bytes(found.ink))), "dark_on_light": found.dark_on_light})

    async def wanted(self, _: Request) -> Response:
        """A digit that is drawn least often so far."""
        return JSONResponse({"label": await run_in_threadpool(self.drawings.wanted)})

    async def collect(self, request: Request) -> Response:
        """How many drawings there are; or one more, sent as JSON: label, image (a PNG in base64), strokes, painter."""
        if request.method == "POST":
            values = json_of(await sent_here(request))
            picture, label = _picture(values.get("image")), values.get("label")
            details = {key: values[key] for key in ("strokes", "painter") if key in values}
            name = await run_in_threadpool(lambda: self.drawings.add(label, picture, **details))  # type: ignore[arg-type]
            return JSONResponse({"id": name, "counts": await run_in_threadpool(self.drawings.counts)}, status_code=201)
        return JSONResponse({"counts": await run_in_threadpool(self.drawings.counts)})

    async def download(self, _: Request) -> Response:
        """All drawings as one zip."""
        content = await run_in_threadpool(self.drawings.packed)
        return Response(
            content, media_type="application/zip", headers={"content-disposition": 'attachment; filename="drawings.zip"'}
        )

    async def empty(self, request: Request) -> Response:
        """Nothing: what a request costs by itself, for the benchmark."""
        await sent_here(request)
        return Response(status_code=204)


async def sent_here(request: Request, most: int = MOST_BYTES, what: str = "a drawing") -> bytes:
    """Return what a request of this page carries, of at most `most` bytes.

    Raises:
        HTTPException: 403 if another site's page sent it, 413 if it is too large.
    """
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, f"this painter takes drawings from its own page only. Got one from {origin}.")
    return await body_of(request, most, what)


def json_of(body: bytes) -> Mapping[str, Any]:
    """Return a JSON object.

    Raises:
        UsageError: if it is anything else.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UsageError("what was sent must be a JSON object with label, image, strokes and painter.")
    return values


def _picture(image: Any) -> bytes:
    try:
        if not isinstance(image, str):
            raise ValueError
        return base64.b64decode(image.removeprefix("data:image/png;base64,"), validate=True)
    except ValueError:
        raise UsageError("image must be a PNG in base64.") from None


def _address(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def language_of(request: Request) -> str:
    """Return the language that the address names, else the browser's first that we have, else English."""
    wanted = request.query_params.get("lang", "")
    if wanted in LANGUAGES:
        return wanted
    accepted = [part.strip()[:2].lower() for part in request.headers.get("accept-language", "").split(",")]
    return next((language for language in accepted if language in LANGUAGES), LANGUAGES[0])


@functools.cache
def texts(language: str) -> dict[str, str]:
    """Return the page's texts by name."""
    return yaml.safe_load((HERE / "locale" / f"{language}.yaml").read_text(encoding="utf-8"))


@functools.cache
def page_template() -> Any:
    """Return the page as a template."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "ensure_ascii": False}
    return environment.get_template("painter.html")


async def _sentence(_: Request, error: Exception) -> Response:
    """Answer a fault with its sentence; `kind` lets the page say it in its own language."""
    if isinstance(error, HTTPException):
        return JSONResponse({"problem": error.detail}, status_code=error.status_code)
    if isinstance(error, DuplicateError):
        return JSONResponse({"problem": str(error), "kind": "duplicate", "label": error.label}, status_code=409)
    return JSONResponse({"problem": str(error)}, status_code=422)


async def _failed(*_: Any) -> Response:
    """Answer a fault of ours; the server prints it."""
    return JSONResponse({"problem": "the painter failed at this; its terminal says why."}, status_code=500)
