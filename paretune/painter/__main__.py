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

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.painter.sockets import HOST, PORTS


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.painter", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("models", nargs="*", metavar="MODELS", help="folders of saved models, or folders of such (default: models)")
    parser.add_argument("--drawings", default=str(ROOT / "drawings"), help="folder that drawings are saved in (default: drawings)")
    parser.add_argument(
        "--host", default=HOST, help="address to listen on; 0.0.0.0 opens the page to the network (default: this machine)"
    )
    parser.add_argument("--port", type=int, help=f"port of the page (default: {PORTS[0]}, or the next one that is free)")
    parser.add_program()
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        paths = [Path(path) for path in options.models] or [ROOT / "models"]
        missing = [path for path in paths if options.models and not path.exists()]
        if missing:
            raise UsageError(f"{missing[0]} must be a saved model or a folder of them; there is no such folder.")
        from paretune.models.programs import load_programs
        from paretune.painter.server import start  # numpy, Pillow and the server: only once the flags are read

        load_programs(options.program)
        start(paths, Path(options.drawings), device=options.device, host=options.host, port=options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
