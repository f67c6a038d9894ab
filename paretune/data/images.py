"""Labelled images: arrays while a data set is read, tensors once it is split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from paretune.core.shared_arrays import kept

if TYPE_CHECKING:
    import numpy as np
    import torch


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
