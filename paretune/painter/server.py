"""Serves the painter with the models and drawings that the flags name, until Ctrl-C."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from paretune.core.devices import pick_device
from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.painter.drawings import Drawings
from paretune.painter.first_model import train_first_model
from paretune.painter.models import Models
from paretune.painter.pages import application
from paretune.painter.sockets import is_loopback, network_address, open_socket, page_address


def start(paths: Sequence[Path], folder: Path, *, device: str, host: str, port: int | None) -> None:
    """Serve the models of some paths and a folder of drawings until Ctrl-C.

    Raises:
        UsageError: if one of these cannot be had: drawings, device, port, models.
    """
    drawings = Drawings(folder)
    drawings.check()
    pick_device(device)
    listening = open_socket(host, port)
    serve(models_of(paths, device=device), drawings, listening)


def models_of(paths: Sequence[Path], *, device: str) -> Models:
    """Return the models of some paths, with a first one trained where none reads 28x28 digits.

    Raises:
        UsageError: if the first model cannot be trained, and nothing else reads drawings.
    """
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
