"""Drawings that people gave, as a labelled set: saved, counted, merged and packed.

usage: python -m paretune.painter.drawings merge FROM [FROM …] --to DIR      (FROM: a folder of drawings, or a zip of one)
       python -m paretune.painter.drawings pack DIR [--to FILE.zip]

A folder holds `28x28/LABEL/ID.png`, the drawings in MNIST's form, which `--data folder:DIR/28x28 --image_size 28` trains on;
`full/LABEL/ID.png`, as they were drawn; and `strokes/ID.json`: label, strokes, time and the painter's number. ID is that of
the 28x28 pixels, so the same drawing is there once, whoever sends it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import os
import random
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError, first_line
from paretune.data.digit_form import mnist_form

LABELS = [str(digit) for digit in range(10)]
UNKNOWN = "unknown"  # when a drawing was made
LARGEST = 2048  # pixels of a drawing's side
MOST_POINTS = 20_000
MOST_BYTES = 4_000_000  # of a drawing's file
Found = tuple[str, bytes, Mapping[str, Any]]  # label, PNG and record of a drawing


class DuplicateError(UsageError):
    """The same drawing is there already, under `label`."""

    def __init__(self, label: str) -> None:
        super().__init__(f"this very drawing is there already, as a {label}: draw another one.")
        self.label = label


@dataclass(frozen=True)
class Merged:
    """How many drawings were added, how many were there already, and the files that are no drawings, with the reason."""

    added: int
    known: int
    refused: list[str]


class Drawings:
    """A folder of drawings; it need not exist before the first one is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def add(self, label: str, picture: bytes, *, strokes: Any = (), painter: int = 0, time: str | None = None) -> str:
        """Save a drawing and return its ID.

        Args:
            label: the digit that was meant.
            picture: a PNG, light ink on dark.
            strokes: for each stroke its points (x, y, ms): pixels of the picture, milliseconds since the first touch.
            painter: the number that a browser drew for itself; it says which drawings are of one hand, not whose.
            time: ISO 8601 or `unknown`; None is now.

        Raises:
            DuplicateError: if the same drawing is there, under any label.
            UsageError: if the label is no digit, the picture is blank or unreadable, the strokes are none, or the folder cannot
                be written.
        """
        if label not in LABELS:
            raise UsageError(f"a drawing's label must be a digit from 0 to 9. Got {label!r}.")
        if not isinstance(painter, int) or isinstance(painter, bool) or not 0 <= painter < 10**9:
            raise UsageError(f"the painter's number must be a whole number from 0 to 999999999. Got {painter!r}.")
        points = checked_strokes(strokes)
        ink = read_drawing(picture)
        form = to_bytes(mnist_form(ink))
        name = hashlib.sha256(form.tobytes()).hexdigest()[:16]
        moment = checked_time(time)
        record = {"label": label, "painter": painter, "time": moment, "size": [ink.shape[1], ink.shape[0]], "strokes": points}
        with self._lock:
            known = self.label_of(name)
            if known is not None:
                raise DuplicateError(known)
            try:
                self._write(f"full/{label}/{name}.png", as_png(to_bytes(ink)))
                self._write(f"strokes/{name}.json", json.dumps(record).encode())
                self._write(f"28x28/{label}/{name}.png", as_png(form))  # the last: a drawing counts once this is there
            except OSError as error:
                raise UsageError(f"{self.folder} cannot be written ({error.strerror}): choose another folder.") from None
        return name

    def check(self) -> None:
        """Refuse a folder that drawings cannot be saved in.

        Raises:
            UsageError: if it is a file, or cannot be written.
        """
        nearest = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise UsageError(f"{self.folder} must be a folder that drawings can be saved in: choose another one.")

    def label_of(self, name: str) -> str | None:
        """Return the label of a drawing by its ID, None where there is none."""
        return next((label for label in LABELS if (self.folder / "28x28" / label / f"{name}.png").exists()), None)

    def counts(self) -> dict[str, int]:
        """Return how many drawings there are of each digit."""
        return {label: sum(1 for _ in (self.folder / "28x28" / label).glob("*.png")) for label in LABELS}

    def wanted(self, chance: random.Random | None = None) -> str:
        """Return a digit of those drawn least often, at random."""
        counts = self.counts()
        fewest = min(counts.values())
        return (chance or random.SystemRandom()).choice([label for label, count in counts.items() if count == fewest])

    def files(self) -> list[str]:
        """Return the names of all files of whole drawings, relative to the folder."""
        found = []
        for picture in sorted((self.folder / "28x28").glob("[0-9]/*.png")):
            others = (f"full/{picture.parent.name}/{picture.name}", f"strokes/{picture.stem}.json")
            found += [f"28x28/{picture.parent.name}/{picture.name}", *(name for name in others if (self.folder / name).exists())]
        return found

    def packed(self) -> bytes:
        """Return all drawings as one zip.

        Raises:
            UsageError: if there are none.
        """
        files = self.files()
        if not files:
            raise UsageError(f"{self.folder} holds no drawing yet: draw some on the page and save them.")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in files:
                archive.write(self.folder / name, f"drawings/{name}")
        return buffer.getvalue()

    def merge(self, source: Path) -> Merged:
        """Add the drawings of another folder, or of a zip; each is checked as if it were drawn here.

        Raises:
            UsageError: if the source holds none.
        """
        added = known = 0
        refused: list[str] = []
        for name, read in _drawings_in(source):
            try:
                label, picture, record = read()
                details = {"time": UNKNOWN, **{key: record[key] for key in ("strokes", "painter", "time") if key in record}}
                self.add(label, picture, **details)
                added += 1
            except DuplicateError as error:
                known += 1
                if error.label != label:
                    refused.append(f"{name}: it is there already as a {error.label}, not as a {label}")
                    known -= 1
            except UsageError as error:
                refused.append(f"{name}: {error}")
        if not (added or known or refused):
            raise UsageError(f"{source} holds no drawings: give a folder with full/LABEL/*.png, or the zip of one.")
        return Merged(added, known, refused)

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)


def read_drawing(picture: bytes) -> np.ndarray:
    """Return the ink (height, width) of a PNG, from 0 to 1, light on dark.

    Raises:
        UsageError: if it is no PNG, or larger than LARGEST.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(picture), formats=["PNG"]) as image:
            if max(image.size) > LARGEST:
                raise UsageError(f"a drawing may have at most {LARGEST} pixels a side. Got {image.size[0]}x{image.size[1]}.")
            return np.asarray(image.convert("RGB").convert("L"), dtype=np.float32) / 255
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError("the drawing must be a PNG; what came cannot be read as one.") from None


def to_bytes(ink: np.ndarray) -> np.ndarray:
    """Return ink from 0 to 1 as uint8."""
    return np.round(255 * ink).astype(np.uint8)


def as_png(pixels: np.ndarray) -> bytes:
    """Return grey pixels (height, width), uint8, as a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def checked_strokes(strokes: Any) -> list[list[list[float]]]:
    """Return strokes as lists of [x, y, ms].

    Raises:
        UsageError: if they are anything else, or too many.
    """
    sentence = "strokes must be lists of points [x, y, milliseconds]."
    if not isinstance(strokes, list | tuple) or not all(isinstance(stroke, list | tuple) and stroke for stroke in strokes):
        raise UsageError(sentence)
    count = sum(map(len, strokes))
    if count > MOST_POINTS:
        raise UsageError(f"a drawing may have at most {MOST_POINTS:,} points. Got {count:,}.")
    for point in (point for stroke in strokes for point in stroke):
        whole = isinstance(point, list | tuple) and len(point) == 3
        if not whole or not all(type(value) in (int, float) and math.isfinite(value) for value in point):
            raise UsageError(sentence)
    return [[[round(float(value), 2) for value in point] for point in stroke] for stroke in strokes]


def checked_time(time: Any) -> str:
    """Return a time as ISO 8601; None is now, and `unknown` stays so.

    Raises:
        UsageError: if it is no time.
    """
    if time is None:
        return datetime.now(UTC).isoformat(timespec="seconds")
    if time == UNKNOWN:
        return UNKNOWN
    try:
        return datetime.fromisoformat(time).isoformat(timespec="seconds")
    except (TypeError, ValueError):
        raise UsageError(f"time must be as in 2026-11-21T15:04:05+00:00. Got {time!r}.") from None


def _drawings_in(source: Path) -> Iterator[tuple[str, Callable[[], Found]]]:
    """Yield the name of each drawing of a folder or zip, and what reads it; one is in memory at a time."""
    if source.is_dir():
        sizes = {path.relative_to(source).as_posix(): path.stat().st_size for path in sorted(source.rglob("*")) if path.is_file()}
        yield from _drawings_of(sizes, lambda name: (source / name).read_bytes())
        return
    try:
        archive = zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile):
        raise UsageError(f"{source} must be a folder of drawings, or a zip of one.") from None
    with archive:
        yield from _drawings_of({entry.filename: entry.file_size for entry in archive.infolist()}, archive.read)


def _drawings_of(sizes: Mapping[str, int], read: Callable[[str], bytes]) -> Iterator[tuple[str, Callable[[], Found]]]:
    for name in sorted(sizes):
        path = PurePosixPath(name)
        if path.suffix.lower() == ".png" and len(path.parts) >= 3 and path.parts[-3] == "full" and "__MACOSX" not in path.parts:
            yield name, functools.partial(_drawing, path, sizes, read)


def _drawing(path: PurePosixPath, sizes: Mapping[str, int], read: Callable[[str], bytes]) -> Found:
    """Read one drawing: its label, PNG and record.

    Raises:
        UsageError: if it is too large, or cannot be read.
    """
    beside = str(path.parents[2] / "strokes" / f"{path.stem}.json")
    if max(sizes[str(path)], sizes.get(beside, 0)) > MOST_BYTES:
        raise UsageError(f"a drawing may have at most {MOST_BYTES:,} bytes.")
    try:
        picture = read(str(path))
        record = json.loads(read(beside)) if beside in sizes else {}
    except (OSError, ValueError, RecursionError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"it cannot be read ({first_line(error)}).") from None
    return path.parts[-2], picture, record if isinstance(record, dict) else {}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.painter.drawings", description=__doc__.splitlines()[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="merge|pack")
    merge = commands.add_parser("merge", help="add the drawings of other folders or zips", allow_abbrev=False)
    merge.add_argument("sources", nargs="+", metavar="FROM", help="folder of drawings, or a zip of one")
    merge.add_argument("--to", default="drawings", metavar="DIR", help="folder that they are added to (default: %(default)s)")
    pack = commands.add_parser("pack", help="write all drawings as one zip", allow_abbrev=False)
    pack.add_argument("folder", metavar="DIR", help="folder of drawings")
    pack.add_argument("--to", metavar="FILE.zip", help="file to write (default: DIR.zip)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        if options.command == "pack":
            folder = Path(options.folder).absolute()
            file = Path(options.to) if options.to else folder.with_name(f"{folder.name}.zip")
            content = Drawings(folder).packed()
            try:
                file.write_bytes(content)
            except OSError as error:
                raise UsageError(f"{file} cannot be written ({error.strerror}): choose another file with --to.") from None
            print(f"wrote {file}")
            return 0
        if not options.to:
            raise UsageError("--to must name the folder that the drawings are added to.")
        drawings = Drawings(Path(options.to))
        drawings.check()
        missing = [source for source in options.sources if not Path(source).exists()]
        if missing:
            raise UsageError(f"{missing[0]} must be a folder of drawings, or a zip of one; there is no such file.")
        for source in options.sources:
            merged = drawings.merge(Path(source))
            for sentence in merged.refused:
                print(f"passed over: {sentence}", file=sys.stderr)
            print(f"{source}: {merged.added} added, {merged.known} known already, {len(merged.refused)} passed over")
        counts = ", ".join(f"{label}: {count}" for label, count in drawings.counts().items())
        print(f"{options.to} now holds {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
