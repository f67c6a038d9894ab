"""Data in memory: the train, hold-out and locked test parts of a set, as tensors; batches are index slices.

Reads the sets under DATA_ROOT (default `data/`) through `paretune.data.readers`. The locked test part is the official one,
or, where a set has none, a stratified 20 % fixed by a constant that no flag or seed changes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.core.progress import print_once
from paretune.data.images import Samples
from paretune.data.options import LOCKED_SPLIT, DataOptions
from paretune.data.readers import read_images
from paretune.data.splits import WholeSet, chosen_classes, equal_images_note, split_images

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Data:
    """The parts of one set in memory.

    `evaluated` is the part that is scored after every epoch: the hold-out, the locked part for `curves_on_test`, or
    None where everything is trained on and the locked part is scored once, at the end. `kept` is what trainers compute of
    these data once for all trials of this process, `cache` the folder for what other processes will want as well.
    """

    name: str
    class_names: list[str]
    train: Samples
    holdout: Samples | None
    test: Samples
    evaluation_split: str
    evaluated: Samples | None
    average: str = "macro"
    positive: int | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    cache: Path | None = None
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.x.shape[1:]
        return channels, height, width

    @property
    def sizes(self) -> dict[str, int]:
        """How many images each part has."""
        parts = {"train": self.train, "holdout": self.holdout, "test": self.test}
        return {name: len(samples) for name, samples in parts.items() if samples is not None}

    def to(self, device: torch.device) -> Data:
        """Return the same data with every part on `device`."""

        def move(samples: Samples | None) -> Samples | None:
            return None if samples is None else samples.to(device)

        moved: dict[str, Any] = {part: move(getattr(self, part)) for part in ("train", "holdout", "test")}
        return replace(self, **moved, evaluated=None if self.evaluated is None else move(self.evaluated))


def data_root() -> Path:
    """Return the folder that holds the data sets: DATA_ROOT, or `data/` beside the project's README."""
    return Path(os.environ.get("DATA_ROOT") or ROOT / "data")


def load_data(options: DataOptions, *, locked_split: int = LOCKED_SPLIT) -> Data:
    """Read a set and split it into train, hold-out and locked test.

    `locked_split` is for benchmarks that repeat the whole path over several locked parts; no command line sets it.

    Raises:
        UsageError: if the set is unknown, absent, or too small to split.
    """
    images = read_images(options.data, data_root(), image_size=options.image_size)
    whole = WholeSet.of(images)
    note = equal_images_note(whole, images, options.data)
    if note is not None:
        print_once(note)
    raw = split_images(whole, images.class_names, options, locked_split)
    parts = {name: _samples(*part, images.maximum) for name, part in raw.items()}
    holdout, test = parts.get("holdout"), parts["test"]
    class_names = [images.class_names[label] for label in chosen_classes(images.class_names, options.classes, options.data)]
    return Data(
        name=options.data,
        class_names=class_names,
        train=parts["train"],
        holdout=holdout,
        test=test,
        evaluation_split=options.evaluation_split,
        evaluated=test if options.curves_on_test else holdout,
        average=options.average,
        positive=positive_index(options, class_names),
        fingerprints={name: fingerprint(*raw[name]) for name in ("test", "train", "holdout") if name in raw},
    )


def positive_index(options: DataOptions, class_names: Sequence[str]) -> int | None:
    """Return the index of the positive class, None where every class counts."""
    if options.positive_class is None:
        return None
    if options.positive_class not in class_names:
        raise UsageError(f"positive_class must be one of the classes {', '.join(class_names)}. Got {options.positive_class!r}.")
    return list(class_names).index(options.positive_class)


def fingerprint(x: np.ndarray, y: np.ndarray) -> str:
    """Return 16 hexadecimal digits that change when an image, a label or their order changes."""
    import numpy as np

    digest = hashlib.sha256(repr((x.shape, str(x.dtype))).encode())
    digest.update(np.ascontiguousarray(x).tobytes())
    digest.update(np.asarray(y, dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]


def _samples(x: np.ndarray, y: np.ndarray, maximum: int) -> Samples:
    import numpy as np
    import torch

    return Samples(torch.from_numpy(x.astype(np.float32)).div_(maximum), torch.from_numpy(y.astype(np.int64)))
