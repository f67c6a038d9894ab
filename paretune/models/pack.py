"""Pack the saved models for others to fetch: one zip per model and a SHA256SUMS file.

usage: python -m paretune.models.pack [MODELS] [--to FOLDER]
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.models.pack", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("models", nargs="?", default="models", help="folder of saved models (default: models)")
    parser.add_argument("--to", default="dist", help="folder for the packed models (default: dist)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        try:
            packed = pack(Path(options.models), Path(options.to))
        except OSError as error:
            raise UsageError(f"{options.to} cannot be written ({error.strerror}): choose another folder with --to.") from None
        for path, digest in packed.items():
            print(f"{digest}  {path.name}  {path.stat().st_size / 2**20:.1f} MiB")
        print(f"{len(packed)} models packed in {options.to}; check them there with: sha256sum -c SHA256SUMS")
    return 0


def pack(models: Path, destination: Path) -> dict[Path, str]:
    """Write NAME.zip for every saved model below `models`, and SHA256SUMS; return the SHA-256 of each zip.

    The zips are the same bytes for the same model. Raises UsageError where there is no model.
    """
    folders = sorted(path.parent for path in models.glob("*/config.json") if not path.parent.name.startswith("."))
    if not folders:
        raise UsageError(f"{models} holds no saved model; train one first: make sweep.")
    destination.mkdir(parents=True, exist_ok=True)
    _check_only_packed(destination, [folder.name for folder in folders])
    digests = {}
    for folder in folders:
        path = destination / f"{folder.name}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(file for file in folder.rglob("*") if file.is_file()):
                entry = zipfile.ZipInfo(str(Path(folder.name) / file.relative_to(folder)), date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
        digests[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [f"{digest}  {path.name}\n" for path, digest in digests.items()]
    (destination / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    return digests


def _check_only_packed(destination: Path, names: Sequence[str]) -> None:
    """Refuse to write over a file that is no packed model, or over the checksums of other files."""
    sums = destination / "SHA256SUMS"
    listed = (
        [line.partition("  ")[2] for line in sums.read_text(encoding="utf-8", errors="replace").splitlines()]
        if sums.exists()
        else []
    )
    for name in dict.fromkeys([*(f"{name}.zip" for name in names), *listed]):
        path = destination / name
        if (path.exists() and not _is_packed(path)) or (name in listed and not name.endswith(".zip")):
            raise UsageError(
                f"{destination} must hold packed models alone. Got {name!r}, which is none: choose another folder with --to."
            )


def _is_packed(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{path.stem}/weights.safetensors" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


if __name__ == "__main__":
    sys.exit(main())
