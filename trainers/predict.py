"""Predict pictures with saved models: a CSV of labels and probabilities.

usage: python -m trainers.predict MODEL [MODEL …] IMAGE|FOLDER [--output FILE] [--invert] [--as-is]

Models of `mnist` and `digits` read photos of digits as the painter does: dark ink is found, the digit cropped and centred.
Images of the set itself are left as they are. --as-is switches this off.
"""

from __future__ import annotations

import contextlib
import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.data.digit_pictures import read_digit_picture, set_of
from paretune.data.picture_folders import pictures_below
from paretune.data.pictures import read_pictures
from paretune.models.programs import load_programs
from paretune.models.saved_models import describe, load_classifier

if TYPE_CHECKING:
    import numpy as np

BATCH = 2048


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m trainers.predict", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folder of a saved model")
    parser.add_argument("images", metavar="IMAGE|FOLDER", help="one picture, or a folder of them (sub-folders too)")
    parser.add_argument("--output", help="CSV file to write (default: standard output)")
    parser.add_argument("--invert", action="store_true", help="swap dark and light: for dark ink on light paper")
    parser.add_argument("--as-is", action="store_true", help="models of mnist and digits: neither find dark ink nor crop the digit")
    parser.add_program()
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        load_programs(options.program)
        rows = predictions(options.models, Path(options.images), invert=options.invert, as_is=options.as_is, device=options.device)
        first = next(rows)
        with _output(options.output) as file:
            writer = csv.DictWriter(file, fieldnames=list(first), extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerow(first)
            writer.writerows(rows)
        if options.output:
            print(f"wrote {options.output}")
    return 0


def _output(path: str | None) -> Any:
    if path is None:
        return contextlib.nullcontext(sys.stdout)
    try:
        return open(path, "w", newline="", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): choose another file with --output.") from None


def predictions(
    models: Sequence[str], images: Path, *, invert: bool = False, as_is: bool = False, device: str = "auto"
) -> Iterator[dict[str, Any]]:
    """Yield one row per model and picture: model, image, label, probability, and p(CLASS) for every class.

    The probability columns are empty for a model without probabilities.

    A picture of a folder that cannot be read is named on stderr and passed over. What was done to pictures of digits is
    said there as well.

    Raises:
        UsageError: if there is no picture or none can be read, or a model cannot be read.
    """
    files = _files_of(images)
    classifiers = {model: load_classifier(model, device=device) for model in models}
    names = list(dict.fromkeys(name for classifier in classifiers.values() for name in classifier.class_names))
    empty: dict[str, Any] = {f"p({name})": "" for name in names}
    reported: set[Path] = set()
    for model, classifier in classifiers.items():
        reader = Reader(classifier.input_shape, None if as_is else set_of(describe(model)), invert)
        for start in range(0, len(files), BATCH):
            batch, x = reader.read(files[start : start + BATCH])
            if len(files) > 1:
                for file in [file for file in reader.passed_over if file not in reported]:
                    print(f"passed over: {reader.passed_over[file]}", file=sys.stderr)
                    reported.add(file)
            if not batch:
                continue
            labels, probabilities = classifier.predict_with_proba(x)
            for i, file in enumerate(batch):
                row = {"model": model, "image": str(file), "label": classifier.class_names[labels[i]], "probability": ""}
                row.update(empty)
                if probabilities is not None:
                    row["probability"] = f"{probabilities[i, labels[i]]:.6f}"
                    row.update({f"p({name})": f"{p:.6f}" for name, p in zip(classifier.class_names, probabilities[i], strict=True)})
                yield row
        if len(reader.passed_over) == len(files):
            first = reader.passed_over[files[0]]
            raise UsageError(first if len(files) == 1 else f"none of the {len(files)} pictures below {images} can be read: {first}")
        if reader.done:
            print(f"{model}: {reader.summary()}", file=sys.stderr)


def _files_of(images: Path) -> list[Path]:
    if images.is_file():
        return [images]
    if not images.is_dir():
        raise UsageError(f"{images} must be a picture or a folder of pictures; there is no such file.")
    files = pictures_below(images)
    if not files:
        raise UsageError(f"{images} holds no picture: give a picture, or a folder of pictures.")
    return files


class Reader:
    """Reads pictures as one model wants them.

    Args:
        shape: channels, height and width of the model's images.
        set_name: `mnist` or `digits` to bring pictures to the form of that set's images; None resizes them.
        invert: take them for dark on light.
    """

    def __init__(self, shape: tuple[int, int, int], set_name: str | None, invert: bool) -> None:
        self.shape, self.set_name, self.invert = shape, set_name, invert
        self.passed_over: dict[Path, str] = {}
        self.done: Counter[str] = Counter()

    def read(self, files: Sequence[Path]) -> tuple[list[Path], np.ndarray]:
        """Return the files that can be read, and their images (n_images, channels, height, width) float32 in [0, 1]."""
        import numpy as np

        read, images = [], [np.zeros((0, *self.shape), dtype=np.float32)]
        for file in files:
            try:
                images.append(self._image(file))
                read.append(file)
            except UsageError as error:
                self.passed_over[file] = str(error)
        return read, np.concatenate(images)

    def _image(self, file: Path) -> np.ndarray:
        channels, height, width = self.shape
        if self.set_name is None:
            x = read_pictures([file], (width, height), channels).astype("float32") / 255
            return 1 - x if self.invert else x
        picture = read_digit_picture(file, self.set_name, dark_on_light=True if self.invert else None)
        self.done[picture.done] += 1
        return picture.x

    def summary(self) -> str:
        """Return what was done to the pictures."""
        counts = "; ".join(f"{count:,} {done}" for done, count in self.done.most_common())
        return f"pictures in the form of {self.set_name}: {counts} (--as-is switches this off)."


if __name__ == "__main__":
    sys.exit(main())
