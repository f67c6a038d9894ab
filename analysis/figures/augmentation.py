"""Figure of training images and their augmented copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.figures.labels import fitted
from paretune.analysis.figures.runs import empty_figure, styled
from paretune.core.step import seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paretune.data.dataset import Data

N_IMAGES, N_COPIES = 6, 4


@styled
def augmentation_figure(data: Data, settings: Mapping[str, Any], *, seed: int = 0) -> Figure:
    """Draw training images in a row, of different classes as far as there are, and changed copies of each below it.

    Args:
        settings: translate, scale, rotate, flip and crop, as `paretune.data.augmentation.augment` takes them.
    """
    import torch

    from paretune.data.augmentation import augment

    chosen = examples(data.train.y.numpy(force=True), N_IMAGES, seed)
    images = data.train.x[torch.from_numpy(chosen)]
    rows = [images]
    for copy in range(N_COPIES):
        with seeded(images.device, seed, copy):
            rows.append(augment(images, **settings))
    figure = empty_figure(0.72 * N_IMAGES + 0.6, 0.72 * len(rows) + 0.3)
    for place, (line, row) in enumerate(zip(figure.subplots(len(rows), len(images), squeeze=False), rows, strict=True)):
        for axes, image in zip(line, row.clamp(0, 1).movedim(1, -1).numpy(force=True), strict=True):
            axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(place == 0)
        line[0].set_ylabel(_("original") if place == 0 else _("copy {number}").format(number=place), fontsize=8)
    for axes, label in zip(figure.axes, data.train.y[torch.from_numpy(chosen)], strict=False):
        axes.set_title(fitted(data.class_names[int(label)], 0.68, 8), fontsize=8)
    return figure


def examples(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return indices of `count` images, one of each class in turn, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(labels))
    turns = np.zeros(len(labels), dtype=np.int64)  # how many of its class stand before an image
    for label in np.unique(labels):
        own = np.flatnonzero(labels[order] == label)
        turns[own] = np.arange(len(own))
    return order[np.lexsort((labels[order], turns))][:count]
