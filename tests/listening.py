"""An application that really listens, on a free port of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Thread
from typing import Any

from paretune.painter.sockets import open_socket


@contextlib.contextmanager
def listening(app: Any, **settings: Any) -> Iterator[str]:
    """Serve an application in a thread, and give its address without a slash at the end."""
    import uvicorn

    opened = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, **settings))
    thread = Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
