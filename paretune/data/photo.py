"""Finds the ink of a digit in a picture of any kind: a photo of paper, a scan, a screenshot or a drawing.

The result is a drawing as the painter's canvas gives it, so that predict and the painter read a photo alike. Shadows are
removed by the morphological closing of the paper (bottom-hat, Serra 1982), the ink's level is Otsu's threshold (1979).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.core.errors import UsageError
from paretune.data.digit_form import INK

SIDE = 280  # pixels of a drawing's side, as of the painter's canvas
WORKING_SIDE = 400  # pixels of a photo's longer side while its ink is looked for
POLARITY_SIDE = 64  # while it is found out whether the ink is dark
STROKE = 0.1  # width of a stroke, as a share of the digit's longer side, as of the painter's pen: a thin pen is widened to it
MARGIN = 0.15  # of the digit's longer side, left around it
PAPER_WINDOW = 0.35  # of the photo's shorter side: wider than any stroke, narrower than a shadow
MIN_CONTRAST = 0.08  # between ink and paper: less is the noise of blank paper
BLANK = "the picture is blank: give one that shows a digit."
SMALLEST_PART = 0.05  # of the largest connected part of the ink: smaller ones are specks


@dataclass(frozen=True)
class Ink:
    """A digit's ink (SIDE, SIDE) float32 from 0 (paper) to 1, and whether it was dark on light paper."""

    ink: np.ndarray
    dark_on_light: bool


def is_dark_on_light(grey: np.ndarray) -> bool:
    """Tell whether paper is lighter than ink.

    Of a small picture, or one on even paper, paper is what most of the border shows. Of a photo, where shadows and the
    table may fill the border, ink is what differs most from its surroundings.

    Args:
        grey: (height, width) from 0 (black) to 1.
    """
    if np.ptp(grey) < MIN_CONTRAST:
        return bool(grey.mean() > 0.5)
    threshold = otsu_threshold(grey)
    even = np.quantile(grey[grey <= threshold], 0.95) <= INK / 2 or np.quantile(grey[grey >= threshold], 0.05) >= 1 - INK / 2
    if even or min(grey.shape) < POLARITY_SIDE:
        width = max(1, round(min(grey.shape) / 16))
        border = np.concatenate([grey[:width].ravel(), grey[-width:].ravel(), grey[:, :width].ravel(), grey[:, -width:].ravel()])
        return bool(np.median(border) > threshold)
    from scipy import ndimage

    small = _reduced(grey, POLARITY_SIDE)
    difference = small - ndimage.median_filter(small, size=round(PAPER_WINDOW * POLARITY_SIDE))
    return float((difference**3).sum()) < 0


def read_ink(grey: np.ndarray, *, dark_on_light: bool | None = None) -> Ink:
    """Find the ink of a picture (height, width) from 0 (black) to 1.

    Even paper, black or white, is taken as it is; that of a photo loses its shadows, its noise and its specks. The digit
    is then cropped and placed in the middle, unless the picture has the size of the painter's canvas already.

    Args:
        dark_on_light: None finds it out.

    Raises:
        UsageError: if the picture is blank.
    """
    if dark_on_light is None:
        dark_on_light = is_dark_on_light(grey)
    light_ink = (1 - grey if dark_on_light else grey).astype(np.float32)
    if np.ptp(light_ink) < MIN_CONTRAST:
        raise UsageError(BLANK)
    threshold = otsu_threshold(light_ink)
    if np.quantile(light_ink[light_ink <= threshold], 0.95) <= INK / 2:
        if not (light_ink > INK).any():
            raise UsageError(BLANK)
        return Ink(light_ink if light_ink.shape == (SIDE, SIDE) else _on_square(light_ink), dark_on_light)
    digit = _without_specks(_on_even_paper(_reduced(light_ink, WORKING_SIDE), dark_on_light))
    return Ink(_on_square(_widened(digit)), dark_on_light)


def otsu_threshold(grey: np.ndarray) -> float:
    """Return the level that parts a picture's pixels, from 0 to 1, in two groups of least variance."""
    counts, edges = np.histogram(grey, bins=256, range=(0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    between = np.nan_to_num(between)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))  # of an empty range between the groups, its middle
    return float(edges[1:][best].mean())


def _reduced(light_ink: np.ndarray, side: int) -> np.ndarray:
    """Return a large photo with `side` pixels on its longer side, which averages the sensor's noise out."""
    from PIL import Image

    height, width = light_ink.shape
    scale = side / max(height, width)
    if scale >= 1:
        return light_ink
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(light_ink).resize(size, Image.Resampling.BOX), dtype=np.float32)


def _on_even_paper(light_ink: np.ndarray, dark_on_light: bool) -> np.ndarray:
    """Return ink from 0 to 1 with the paper's light and noise taken away."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(light_ink, max(light_ink.shape) / WORKING_SIDE)
    window = max(3, round(PAPER_WINDOW * min(smooth.shape)))
    paper = ndimage.gaussian_filter(ndimage.grey_opening(smooth, size=(window, window), mode="nearest"), window / 40)
    ink = np.clip(smooth - paper, 0, 1)
    if dark_on_light:  # ink absorbs a share of the light that falls on it, less in a shadow
        ink /= np.maximum(1 - paper, MIN_CONTRAST)
        ink = np.clip(ink, 0, 1)
    threshold = otsu_threshold(ink)
    drawn = ink > threshold
    if not drawn.any() or ink[drawn].mean() - ink[~drawn].mean() < MIN_CONTRAST:
        raise UsageError(BLANK)
    low = (ink[~drawn].mean() + threshold) / 2
    return np.asarray(np.clip((ink - low) / (np.quantile(ink[drawn], 0.7) - low), 0, 1), dtype=np.float32)


def _without_specks(ink: np.ndarray) -> np.ndarray:
    """Return the ink without small parts, and without what comes in from the border where a digit lies within."""
    from scipy import ndimage

    parts, n_parts = ndimage.label(ink > INK, structure=np.ones((3, 3)))
    masses = np.asarray(ndimage.sum_labels(ink, parts, np.arange(1, n_parts + 1)))
    border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    inner = np.ones(n_parts, dtype=bool)
    inner[border[border > 0] - 1] = False
    largest = masses[inner].max(initial=0)
    if largest >= SMALLEST_PART * masses.max():
        masses = np.where(inner, masses, 0)
    chosen = np.flatnonzero(masses >= SMALLEST_PART * masses.max()) + 1
    return np.where(np.isin(parts, chosen), ink, 0).astype(np.float32)


def _widened(ink: np.ndarray) -> np.ndarray:
    """Return ink whose strokes are at least as wide as those of the painter's pen."""
    from scipy import ndimage

    rows, columns = (np.flatnonzero((ink > INK).any(axis=other)) for other in (1, 0))
    longer = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    depth = ndimage.distance_transform_edt(ink > 0.5)
    inside = depth[depth > 0]
    width = 4 * float(inside.mean()) - 1 if len(inside) else 1.0  # depth rises from the edge to half of the width
    missing = round((STROKE * longer - width) / 2)
    if missing < 1:
        return ink
    y, x = np.mgrid[-missing : missing + 1, -missing : missing + 1]
    padded = np.pad(ink, missing)
    return np.asarray(ndimage.grey_dilation(padded, footprint=np.hypot(y, x) <= missing + 0.5), dtype=np.float32)


def _on_square(ink: np.ndarray) -> np.ndarray:
    """Return ink cropped to its digit, in the middle of SIDE by SIDE pixels."""
    from PIL import Image

    rows, columns = (np.flatnonzero((ink > INK).any(axis=other)) for other in (1, 0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = SIDE * (1 - 2 * MARGIN) / max(digit.shape)
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    resized = Image.fromarray(digit).resize((width, height), Image.Resampling.BOX)  # a small image's pixels stay squares
    square = np.zeros((SIDE, SIDE), dtype=np.float32)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[top : top + height, left : left + width] = np.asarray(resized).clip(0, 1)
    return np.round(255 * square) / np.float32(255)  # as a PNG keeps it
