"""Draw a digit in the browser and see at every stroke what each saved model makes of it.

usage: python -m demo [MODELS …] [--port 8080] [--drawings drawings]

MODELS are folders of saved models, or folders that hold such (default: models). Where none of them reads 28x28 digits, the
simple CNN is trained on MNIST for one epoch first. The page is served to this machine alone, until Ctrl-C; --host 0.0.0.0
opens it to the network, for phones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demo.sockets import HOST, PORTS, is_loopback, open_socket
from trainers.command_line import ROOT, SentenceParser, exit_with_sentence
from trainers.errors import UsageError

if TYPE_CHECKING:
    import socket

    from demo.models import Models


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m demo", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("models", nargs="*", metavar="MODELS", help="folders of saved models, or folders of such (default: models)")
    parser.add_argument("--drawings", default=str(ROOT / "drawings"), help="folder that drawings are saved in (default: drawings)")
    parser.add_argument(
        "--host", default=HOST, help="address to listen on; 0.0.0.0 opens the page to the network (default: this machine)"
    )
    parser.add_argument("--port", type=int, help=f"port of the page (default: {PORTS[0]}, or the next one that is free)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        paths = [Path(path) for path in options.models] or [ROOT / "models"]
        missing = [path for path in paths if options.models and not path.exists()]
        if missing:
            raise UsageError(f"{missing[0]} must be a saved model or a folder of them; there is no such folder.")
        listening = open_socket(options.host, options.port)
        serve(models_of(paths, device=options.device), Path(options.drawings), listening)
    return 0


def models_of(paths: Sequence[Path], *, device: str) -> Models:
    """Return the models of some paths, with a first one trained where none reads 28x28 digits.

    Raises:
        UsageError: if the first model cannot be trained, and nothing else reads drawings.
    """
    from demo.first_model import train_first_model
    from demo.models import Models

    models = Models(paths, device=device)
    models.refresh()
    for shown in models.shown:
        print(f"{shown.name}: {shown.kind or 'model'}{f', not shown drawings: {shown.problem}' if shown.problem else ''}")
    if not any(shown.shape[1:] == (28, 28) for shown in models.readers):
        print("no model reads 28x28 digits yet: the simple CNN learns them from MNIST for one epoch first", flush=True)
        folders = [path for path in paths if not (path / "config.json").exists()]
        try:
            train_first_model(folders[0] if folders else ROOT / "models", device=device)
        except UsageError as error:
            if not models.readers:
                raise
            print(f"note: {error}", file=sys.stderr)
        models.refresh()
    return models


def serve(models: Models, drawings: Path, listening: socket.socket) -> None:
    """Serve the page until Ctrl-C."""
    import uvicorn

    from demo.drawings import Drawings
    from demo.pages import application

    listening.listen()  # before the address is told: who comes early waits instead of being refused
    host, port = listening.getsockname()[:2]
    shown = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}/"
    print(f"the painter is at {shown} until Ctrl-C; drawings are saved in {drawings}", flush=True)
    if not is_loopback(host):
        print("note: everyone in this network can open the page and save drawings.", file=sys.stderr, flush=True)
    config = uvicorn.Config(application(models, Drawings(drawings)), log_level="warning", lifespan="off")
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
