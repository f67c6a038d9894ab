"""The server's public URL behind a proxy: another host, https, or below a path."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from paretune.painter.sockets import is_own_name


class PublicUrl:
    """Has every request look as if it had been sent to the base URL.

    The path of the base URL may still stand before the path of a request, or be taken off by the proxy; then
    no entity may have the name of its first part, whose pages would be taken for whole paths.
    """

    def __init__(self, app: ASGIApp, *, url: str) -> None:
        self.app, parts = app, urlsplit(url)
        self.scheme, self.host, self.root = parts.scheme, parts.netloc, parts.path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            is_whole = path == self.root or path.startswith(f"{self.root}/")
            scope.update(scheme=self.scheme, root_path=self.root, path=path if is_whole else self.root + path)
            host = Headers(scope=scope).get("host", "")
            if is_own_name(host):  # as nginx sends it by itself; what others say is left to be refused
                MutableHeaders(scope=scope)["host"] = self.host
        await self.app(scope, receive, send)
