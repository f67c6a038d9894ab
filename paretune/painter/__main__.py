"""Draw a digit in the browser and see at every stroke what each saved model makes of it.

usage: python -m paretune.painter [MODELS …] [--port 8080] [--drawings drawings]

MODELS are folders of saved models, or folders that hold such (default: models). Where none of them reads 28x28 digits, the
simple CNN is trained on MNIST for one epoch first. The page is served to this machine alone, until Ctrl-C; --host 0.0.0.0
opens it to the network, for phones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.painter.sockets import HOST, PORTS, is_loopback, network_address, open_socket, page_address

if TYPE_CHECKING:
    import socket

    from paretune.painter.drawings import Drawings
    from paretune.painter.models import Models


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.painter", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
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
        from paretune.core.devices import pick_device
        from paretune.painter.drawings import Drawings

        drawings = Drawings(Path(options.drawings))
        drawings.check()
        pick_device(options.device)
        listening = open_socket(options.host, options.port)
        serve(models_of(paths, device=options.device), drawings, listening)
    return 0


def models_of(paths: Sequence[Path], *, device: str) -> Models:
    """Return the models of some paths, with a first one trained where none reads 28x28 digits.

    Raises:
        UsageError: if the first model cannot be trained, and nothing else reads drawings.
    """
    from paretune.painter.first_model import train_first_model
    from paretune.painter.models import Models

    models = Models(paths, device=device)
    models.refresh()
    for shown in models.shown:
        print(f"{shown.name}: {shown.kind or 'model'}{f', not shown drawings: {shown.problem}' if shown.problem else ''}")
    folders = [path for path in paths if not (path / "config.json").exists()]  # that a model can be added to
    enough = any(shown.shape[1:] == (28, 28) for shown in models.readers) or (models.readers and not folders)
    if not enough:
        print("no model reads 28x28 digits yet: the simple CNN learns them from MNIST for one epoch first", flush=True)
        folder = folders[0] if folders else ROOT / "models"
        try:
            print(f"saved as {train_first_model(folder, device=device)}")
        except UsageError as error:
            if not models.readers:
                raise
            print(f"note: {error}", file=sys.stderr)
        if folder not in models.paths:
            models.paths.append(folder)
        models.refresh()
    return models


def serve(models: Models, drawings: Drawings, listening: socket.socket) -> None:
    """Serve the page until Ctrl-C."""
    import uvicorn

    from paretune.painter.pages import application

    host, port = listening.getsockname()[:2]
    print(f"the painter is at {page_address(listening)} until Ctrl-C; drawings are saved in {drawings.folder}", flush=True)
    if not is_loopback(host):
        reachable = network_address() if host == "0.0.0.0" else None
        where = f", at http://{reachable}:{port}/" if reachable else ""
        print(f"note: everyone in this network can open the page{where}, and save drawings.", file=sys.stderr, flush=True)
    config = uvicorn.Config(application(models, drawings), log_level="warning", lifespan="off")
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
