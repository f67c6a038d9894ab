"""Pictures side by side under their titles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.figures.runs import empty_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def pictures_figure(pictures: Mapping[str, np.ndarray], *, columns: int, centred: bool = False) -> Figure:
    """Draw pictures, each (height, width) or (height, width, 3), as a gallery in their order.

    Args:
        pictures: title -> values in [0, 1].
        centred: the values are of any size and sign, as those of a principal component: zero is drawn as middle grey, and
            each picture spans its own range.
    """
    n_rows = math.ceil(len(pictures) / columns)
    height, width = next(iter(pictures.values())).shape[:2]
    side = 2.4 if columns == 1 else min(1.5, 11 / columns)
    figure = empty_figure(side * columns, n_rows * (side * height / width + 0.42))
    panels = figure.subplots(n_rows, columns, squeeze=False).flat
    for axes in panels:
        axes.axis("off")
    for axes, (title, picture) in zip(figure.axes, pictures.items(), strict=False):
        span = float(np.abs(picture).max()) or 1.0
        limits: Any = {"vmin": -span, "vmax": span} if centred else {"vmin": 0.0, "vmax": 1.0}
        axes.imshow(picture, cmap="gray", interpolation="nearest", **limits)
        axes.set_title(title, fontsize=7.5, pad=2)
    return figure
