"""Export saved models to ONNX: model.onnx beside the weights, checked against the model on its own training images.

usage: python -m paretune.models.export MODEL [MODEL …]

Input `images` (n, channels, height, width), float32 in [0, 1]: the normalisation is inside. Output `probabilities`
(n, n_classes), float32, in the order of the metadata's class_names. n is free.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.data.dataset import load_data
from paretune.models.programs import load_programs
from paretune.models.saved_models import data_options_of, describe, load_classifier

if TYPE_CHECKING:
    from paretune.models.contract import Classifier

TOLERANCE = 1e-4  # largest difference of a probability that is rounding
N_CHECKED = 256  # training images


@dataclass(frozen=True)
class Exported:
    """What was written, and the largest difference of its probabilities from the model's."""

    path: Path
    input_shape: tuple[int, int, int]
    n_classes: int
    difference: float
    n_checked: int
    checked_on: str = "training images"

    @property
    def sentence(self) -> str:
        """One line for a person."""
        shape = ", ".join(str(size) for size in self.input_shape)
        return (
            f"{self.path}: images (n, {shape}) in [0, 1] to probabilities (n, {self.n_classes}); onnxruntime differs from the "
            f"model by at most {self.difference:.1e} on {self.n_checked} {self.checked_on}"
        )


def export_saved(directory: Path | str) -> Exported:
    """Write model.onnx into the folder of a saved model.

    Raises:
        UsageError: if the folder is no saved model, its classifier cannot be exported, its data are not there to check it
            with, or the two differ by more than rounding; no file is left then.
    """
    directory = Path(directory)
    classifier = load_classifier(directory, device="cpu")
    if "data_options" not in describe(directory):
        noise = np.random.default_rng(0).random((N_CHECKED, *classifier.input_shape), dtype=np.float32)
        exported = export_onnx(classifier, directory / "model.onnx", noise)
        return replace(exported, checked_on="random images, as the data that it was trained on are unknown")
    images = load_data(data_options_of(directory)).train.x.numpy(force=True)
    chosen = np.unique(np.linspace(0, len(images) - 1, N_CHECKED).astype(int))
    return export_onnx(classifier, directory / "model.onnx", images[chosen])


def export_onnx(classifier: Classifier, path: Path, images: np.ndarray) -> Exported:
    """Write a fitted classifier as ONNX and check it on images (n, channels, height, width).

    Raises:
        UsageError: if it cannot be exported, or differs from the classifier by more than TOLERANCE.
    """
    import onnx
    import torch

    module = classifier.inference_module().eval()
    example = torch.rand(2, *classifier.input_shape)
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    raw = model.SerializeToString()
    difference = max(
        float(np.abs(run_onnx(raw, part) - classifier.predict_proba(part)).max()) for part in (images, images[:1], images[:3])
    )
    if not difference <= TOLERANCE:
        raise UsageError(
            f"{path}: the exported model differs from the saved one by {difference:.1e} in a probability, more than "
            f"{TOLERANCE:.0e} allows: it was not written; please report this."
        )
    notes = {"classifier": classifier.name, "class_names": json.dumps(classifier.class_names), "difference": f"{difference:.3e}"}
    onnx.helper.set_model_props(model, notes)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(model.SerializeToString())
        os.replace(partial, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): free some space or choose another folder.") from None
    finally:
        partial.unlink(missing_ok=True)
    return Exported(path, classifier.input_shape, len(classifier.class_names), difference, len(images))


def run_onnx(model: bytes | Path, images: np.ndarray) -> np.ndarray:
    """Return the probabilities (n, n_classes) that onnxruntime computes for images (n, channels, height, width)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"images": np.ascontiguousarray(images, dtype=np.float32)})
    return np.asarray(probabilities)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter, which reports every step, off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.models.export", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folder of a saved model")
    parser.add_program()
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        load_programs(options.program)
        for model in options.models:
            print(export_saved(model).sentence)
    return 0


if __name__ == "__main__":
    sys.exit(main())
