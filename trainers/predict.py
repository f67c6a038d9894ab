"""Predict pictures with saved models: a CSV of labels and probabilities.

usage: python -m trainers.predict MODEL [MODEL …] IMAGE|FOLDER [--output FILE] [--invert]
"""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

BATCH = 2048


def main(arguments: Sequence[str] | None = None) -> int:
    from trainers.command_line import SentenceParser, exit_with_sentence

    parser = SentenceParser(prog="python -m trainers.predict", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folder of a saved model")
    parser.add_argument("images", metavar="IMAGE|FOLDER", help="one picture, or a folder of them (sub-folders too)")
    parser.add_argument("--output", help="CSV file to write (default: standard output)")
    parser.add_argument("--invert", action="store_true", help="swap dark and light: for dark ink on light paper")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        rows = predictions(options.models, Path(options.images), invert=options.invert, device=options.device)
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


def predictions(models: Sequence[str], images: Path, *, invert: bool = False, device: str = "auto") -> Iterator[dict[str, Any]]:
    """Yield one row per model and picture: model, image, label, probability, and p(CLASS) for every class.

    The probability columns are empty for a model without probabilities.

    A picture of a folder that cannot be read is named on stderr and passed over.

    Raises:
        UsageError: if there is no picture or none can be read, or a model cannot be read.
    """
    import numpy as np

    from trainers.datasets import pictures_below
    from trainers.saved import load_classifier

    if images.is_dir():
        files = pictures_below(images)
        if not files:
            raise UsageError(f"{images} holds no picture: give a picture, or a folder of pictures.")
    elif images.is_file():
        files = [images]
    else:
        raise UsageError(f"{images} must be a picture or a folder of pictures; there is no such file.")
    classifiers = {model: load_classifier(model, device=device) for model in models}
    names = list(dict.fromkeys(name for classifier in classifiers.values() for name in classifier.class_names))
    empty: dict[str, Any] = {f"p({name})": "" for name in names}
    broken: dict[Path, str] = {}
    for model, classifier in classifiers.items():
        channels, height, width = classifier.input_shape
        for start in range(0, len(files), BATCH):
            known = len(broken)
            batch, pictures = _readable(files[start : start + BATCH], (width, height), channels, broken)
            if len(files) > 1:
                for reason in list(broken.values())[known:]:
                    print(f"passed over: {reason}", file=sys.stderr)
            if not batch:
                continue
            x = np.concatenate(pictures).astype("float32") / 255
            x = 1 - x if invert else x
            labels, probabilities = classifier.predict_with_proba(x)
            for i, file in enumerate(batch):
                row = {"model": model, "image": str(file), "label": classifier.class_names[labels[i]], "probability": ""}
                row.update(empty)
                if probabilities is not None:
                    row["probability"] = f"{probabilities[i, labels[i]]:.6f}"
                    row.update({f"p({name})": f"{p:.6f}" for name, p in zip(classifier.class_names, probabilities[i], strict=True)})
                yield row
        if len(broken) == len(files):
            first = broken[files[0]]
            raise UsageError(first if len(files) == 1 else f"none of the {len(files)} pictures below {images} can be read: {first}")


def _readable(
    files: Sequence[Path], size: tuple[int, int], channels: int, broken: dict[Path, str]
) -> tuple[list[Path], list[np.ndarray]]:
    """Return the pictures that can be read, each (1, channels, height, width) uint8; the others go into `broken` with why."""
    from PIL import Image

    from trainers.datasets import read_pictures

    good, pictures = [], []
    for file in files:
        if file in broken:
            continue
        try:
            pictures.append(read_pictures([file], size, channels))
        except UsageError as error:
            broken[file] = str(error)
        except (SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises of some broken files
            broken[file] = f"{file} is not a readable picture ({error}); remove it or save it anew."
        else:
            good.append(file)
    return good, pictures


if __name__ == "__main__":
    sys.exit(main())
