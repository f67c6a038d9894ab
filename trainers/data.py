"""Data in memory: the train, hold-out and locked test parts of a set, as tensors; batches are index slices.

Reads the sets under DATA_ROOT (default `data/`) through `trainers.datasets`. The locked test part is the official one,
or, where a set has none, a stratified 20 % fixed by a constant that no flag or seed changes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from trainers.config import Config
from trainers.errors import UsageError, did_you_mean
from trainers.shared import kept

if TYPE_CHECKING:
    import numpy as np
    import torch

LOCKED_SPLIT = 20_240_501  # never changes: it decides which images of `digits` and `folder:` stay unseen
LOCKED_SHARE = 0.2


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

    def to(self, device: torch.device) -> Data:
        """Return the same data with every part on `device`."""

        def move(samples: Samples | None) -> Samples | None:
            return None if samples is None else samples.to(device)

        moved: dict[str, Any] = {part: move(getattr(self, part)) for part in ("train", "holdout", "test")}
        return replace(self, **moved, evaluated=None if self.evaluated is None else move(self.evaluated))


@dataclass(frozen=True)
class Images:
    """Raw images of one set: `x` (n_samples, channels, height, width) with values 0 to `maximum`, `y` (n_samples,)."""

    class_names: list[str]
    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray | None = None
    test_y: np.ndarray | None = None
    maximum: int = 255


def data_root() -> Path:
    """Return the folder that holds the data sets: DATA_ROOT, or `data/` beside the project's README."""
    return Path(os.environ.get("DATA_ROOT") or Path(__file__).resolve().parents[1] / "data")


def load_data(options: DataOptions, *, locked_split: int = LOCKED_SPLIT) -> Data:
    """Read a set and split it into train, hold-out and locked test.

    `locked_split` is for benchmarks that repeat the whole path over several locked parts; no command line sets it.

    Raises:
        UsageError: if the set is unknown, absent, or too small to split.
    """
    import numpy as np

    from trainers.datasets import read_images

    images = read_images(options.data, data_root(), image_size=options.image_size)
    if options.classes is not None:
        images = of_classes(images, options.classes, options.data)
    n_classes = len(images.class_names)
    if images.test_x is None or images.test_y is None:
        rest, locked = _stratified(np.arange(len(images.y)), images.y, LOCKED_SHARE, locked_split, options.data)
        x, y, test_x, test_y = images.x[rest], images.y[rest], images.x[locked], images.y[locked]
    else:
        x, y, test_x, test_y = images.x, images.y, images.test_x, images.test_y
    chosen, held = np.arange(len(y)), None
    if options.n_folds is not None:
        chosen, held = _fold(y, options.n_folds, options.fold, options.split_seed, options.data)
    elif options.holdout > 0:
        chosen, held = _stratified(chosen, y, options.holdout, options.split_seed, options.data)
    if options.train_size is not None and options.train_size < len(chosen):
        if options.train_size < n_classes:
            raise UsageError(f"train_size must be at least the number of classes, {n_classes}. Got {options.train_size}.")
        spare = len(chosen) - options.train_size
        if spare < n_classes:  # too few to leave out one of each class
            chosen = np.random.default_rng(options.split_seed).permutation(chosen)[spare:]
        else:
            chosen, _ = _stratified(chosen, y[chosen], spare, options.split_seed, options.data)

    train = _samples(x[chosen], y[chosen], images.maximum)
    holdout = None if held is None else _samples(x[held], y[held], images.maximum)
    test = _samples(test_x, test_y, images.maximum)
    evaluated = test if options.curves_on_test else holdout
    fingerprints = {"test": fingerprint(test_x, test_y), "train": fingerprint(x[chosen], y[chosen])}
    if held is not None:
        fingerprints["holdout"] = fingerprint(x[held], y[held])
    return Data(
        name=options.data,
        class_names=images.class_names,
        train=train,
        holdout=holdout,
        test=test,
        evaluation_split=options.evaluation_split,
        evaluated=evaluated,
        average=options.average,
        positive=positive_index(options, images.class_names),
        fingerprints=fingerprints,
    )


def of_classes(images: Images, classes: Sequence[str], name: str) -> Images:
    """Return the images of some classes alone, in the set's own order of classes.

    Raises:
        UsageError: if the set has no such class, or one is named twice.
    """
    import numpy as np

    for wanted in classes:
        if wanted not in images.class_names:
            near = did_you_mean(wanted, images.class_names) or f"; there are {', '.join(images.class_names)}."
            raise UsageError(f"classes names {wanted!r}, which is not a class of {name}{near}")
    if len(set(classes)) < len(classes):
        raise UsageError(f"classes must name each class once. Got {list(classes)!r}.")
    kept = [label for label, wanted in enumerate(images.class_names) if wanted in classes]

    def part(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = np.isin(y, kept)
        return x[own], np.searchsorted(kept, y[own])

    x, y = part(images.x, images.y)
    names = [images.class_names[label] for label in kept]
    if images.test_x is None or images.test_y is None:
        return replace(images, class_names=names, x=x, y=y)
    test_x, test_y = part(images.test_x, images.test_y)
    return replace(images, class_names=names, x=x, y=y, test_x=test_x, test_y=test_y)


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


def _stratified(indices: np.ndarray, labels: np.ndarray, share: float | int, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Split `indices` in two with the classes in proportion; the second holds `share` (a fraction or a count) of them."""
    from sklearn.model_selection import train_test_split

    try:
        first, second = train_test_split(indices, test_size=share, stratify=labels, random_state=seed)
    except ValueError as error:
        raise UsageError(
            f"{name} cannot be split with every class on both sides ({str(error).rstrip('.')}): give each class more images."
        ) from None
    return first, second


def _fold(labels: np.ndarray, n_folds: int, fold: int, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of all folds but one, and of that one; each fold holds the classes in proportion."""
    import numpy as np
    from sklearn.model_selection import StratifiedKFold

    smallest = int(np.unique(labels, return_counts=True)[1].min())
    if smallest < n_folds:
        raise UsageError(
            f"{name} cannot be split into {n_folds} folds with every class in each (the smallest class has {smallest} images "
            "to train on): give each class more images or lower n_folds."
        )
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(labels, labels)
    rest, held = list(folds)[fold]
    return rest, held
