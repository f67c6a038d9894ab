"""Data in memory: the train, hold-out and locked test parts of a set, as tensors; batches are index slices.

Reads the sets under DATA_ROOT (default `data/`) through `paretune.data.readers`. The locked test part is the official one,
or, where a set has none, a stratified 20 % fixed by a constant that no flag or seed changes.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from paretune.core.config import Config
from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.core.shared_arrays import kept

if TYPE_CHECKING:
    import numpy as np
    import torch

LOCKED_SPLIT = 20_240_501  # never changes: it decides which images of `digits` and `folder:` stay unseen


class DataOptions(Config):
    """Which images, split how, and how scores are averaged. These stand beside the Config in each run's config."""

    data: str = Field("digits", description="digits, mnist, fashion_mnist, cifar10 or folder:PATH (one sub-folder per class)")
    classes: list[str] | None = Field(None, min_length=2, description="only these classes of the set: [cat, dog]; None takes all")
    holdout: float = Field(0.15, ge=0, lt=1, description="share of the training images held out to choose by; 0 trains on all")
    n_folds: int | None = Field(None, ge=2, description="hold out one of this many stratified folds instead of a share")
    fold: int = Field(0, ge=0, description="with n_folds: which of the folds is held out, counted from 0")
    split_seed: int = Field(0, ge=0, lt=2**32, description="seed that draws the hold-out or folds, and the train_size subset")
    train_size: int | None = Field(None, gt=0, description="train on at most this many images (stratified); None takes all")
    image_size: int | None = Field(None, gt=0, le=1024, description="side in pixels to which folder: images are resized (32)")
    average: Literal["macro", "weighted", "binary"] = Field(
        "macro", description="how precision, recall and F1 are averaged over the classes"
    )
    positive_class: str | None = Field(None, description="with average=binary: the class whose scores count")
    curves_on_test: bool = Field(
        False, description="log test curves of the locked part each epoch; such runs are refused by pareto and choose"
    )

    @model_validator(mode="after")
    def _check(self) -> DataOptions:
        if (self.average == "binary") != (self.positive_class is not None):
            raise ValueError("average='binary' and positive_class go together: give both or neither")
        if self.image_size is not None and not self.data.startswith("folder:"):
            raise ValueError(f"image_size is for folder: data; {self.data} has a size of its own")
        if self.n_folds is None and self.fold != 0:
            raise ValueError(f"fold is one of n_folds folds: give n_folds as well. Got fold={self.fold}.")
        if self.n_folds is not None and self.fold >= self.n_folds:
            raise ValueError(f"fold must be less than n_folds, {self.n_folds}: folds are counted from 0. Got {self.fold}.")
        if self.n_folds is not None and self.holdout == 0:
            raise ValueError("n_folds holds out a fold and holdout=0 holds out nothing: drop one of the two.")
        return self

    @property
    def evaluation_split(self) -> str:
        """`holdout` or `test`: the part that `test_*`, `precision`, `recall` and `f1` mean."""
        return "test" if self.curves_on_test or self.holdout == 0 else "holdout"

    @property
    def short_name(self) -> str:
        """A name for folders: `mnist`, or the folder's own name."""
        return Path(self.data.removeprefix("folder:")).name or "data"


@dataclass(frozen=True)
class Samples:
    """Images `x` (n_samples, channels, height, width), float32 in [0, 1], and class indices `y` (n_samples,)."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)

    def class_counts(self, n_classes: int) -> list[int]:
        """Return how many samples each class has."""
        return [int(count) for count in self.y.bincount(minlength=n_classes).tolist()]

    def to(self, device: torch.device) -> Samples:
        """Return the same samples on `device`; the copy is kept as long as these are, for the next training."""
        if self.x.device == device:
            return self
        y, moved = kept("samples", device, self.x, lambda: (self.y, Samples(self.x.to(device), self.y.to(device))))
        return moved if y is self.y else Samples(moved.x, self.y.to(device))


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


@dataclass(frozen=True)
class Images:
    """Raw images of one set: `x` (n_samples, channels, height, width) with values 0 to `maximum`, `y` (n_samples,).

    A part of its own is locked (`test`) or held out (`holdout`); where it has none, it is drawn from `x`.
    """

    class_names: list[str]
    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray | None = None
    test_y: np.ndarray | None = None
    maximum: int = 255
    holdout_x: np.ndarray | None = None  # where the set itself says which images are held out
    holdout_y: np.ndarray | None = None
    files: list[str] | None = None  # of the images: train, then holdout, then test


def data_root() -> Path:
    """Return the folder that holds the data sets: DATA_ROOT, or `data/` beside the project's README."""
    return Path(os.environ.get("DATA_ROOT") or ROOT / "data")


def load_data(options: DataOptions, *, locked_split: int = LOCKED_SPLIT) -> Data:
    """Read a set and split it into train, hold-out and locked test.

    `locked_split` is for benchmarks that repeat the whole path over several locked parts; no command line sets it.

    Raises:
        UsageError: if the set is unknown, absent, or too small to split.
    """
    from paretune.data.readers import read_images
    from paretune.data.splits import WholeSet, chosen_classes, equal_images_note, split_images

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


@functools.cache  # a sweep reads its data again and again
def print_once(line: str) -> None:
    """Print a note once per process; standard output is for results."""
    print(line, file=sys.stderr)


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
