"""A drawing brought to the form that a set of digits has: size, place and grey levels as its authors made them.

MNIST (https://yann.lecun.org/exdb/mnist): the digit is scaled to fit 20x20 pixels with its aspect kept, which makes grey
levels at its edges, and moved by whole pixels so that its centre of mass is the middle of 28x28. In the set's own files that
is index 14 of the axes, to within half a pixel, and the longer side has exactly 20 pixels.

Digits of scikit-learn (Alpaydin and Kaynak 1998): bitmaps of 32x32, of which each 4x4 block is counted. In the set the digits
are as tall as the bitmap, about 20 pixels wide and of thick strokes.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from paretune.core.errors import UsageError

SIDE, BOX = 28, 20
INK = 0.1  # of full ink: what is fainter is paper
BLOCKS, BITMAP, WIDTH = 8, 32, 20
COVER = 0.29  # share of the bitmap that is ink, on average over scikit-learn's digits


def mnist_form(drawing: np.ndarray) -> np.ndarray:
    """Bring a drawing to MNIST's form.

    Args:
        drawing: ink (height, width) from 0 (paper) to 1, light on dark, of any size.

    Returns:
        (28, 28) float32 in [0, 1].

    Raises:
        UsageError: if there is no ink, or too little to be seen.
    """
    ink = _cropped(drawing)
    height, width = ink.shape
    scale = BOX / max(height, width)
    digit = _resized(ink, max(1, round(height * scale)), max(1, round(width * scale)))
    if digit.max() < INK:
        raise UsageError("the drawing is too thin to be seen at 28x28 pixels: draw with a thicker pen.")
    image = np.zeros((SIDE, SIDE), dtype=np.float32)
    top, left = (_start(digit.sum(axis=other)) for other in (1, 0))
    image[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return image


def digits_form(drawing: np.ndarray) -> np.ndarray:
    """Bring a drawing (height, width), as for `mnist_form`, to the form of scikit-learn's digits: (8, 8) float32 in [0, 1].

    Raises:
        UsageError: if there is no ink.
    """
    ink = _cropped(drawing)
    height, width = ink.shape
    narrow = min(WIDTH, max(1, round(1.5 * width * BITMAP / height)))  # a digit is widened, but a 1 stays slim
    scaled = _resized(ink, BITMAP, narrow)
    digit = scaled > 0.5 * scaled.max()  # a pen thinner than a pixel of the bitmap covers less than half of it
    bitmap = np.zeros((BITMAP, BITMAP), dtype=bool)
    left = (BITMAP - narrow) // 2
    bitmap[:, left : left + narrow] = digit
    while 0 < bitmap.mean() < COVER - 0.05:
        thicker = np.asarray(Image.fromarray(bitmap.astype(np.uint8)).filter(ImageFilter.MaxFilter(3)), dtype=bool)
        if thicker.mean() > COVER + 0.05:
            break
        bitmap = thicker
    share = BITMAP // BLOCKS
    return bitmap.reshape(BLOCKS, share, BLOCKS, share).mean(axis=(1, 3)).astype(np.float32)


def _cropped(drawing: np.ndarray) -> np.ndarray:
    """Return the part of a drawing that holds its ink."""
    drawn = drawing > INK
    if not drawn.any():
        raise UsageError("the drawing is blank: draw a digit first.")
    rows, columns = (np.flatnonzero(drawn.any(axis=other)) for other in (1, 0))
    return drawing[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _resized(ink: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return ink scaled to (height, width), each pixel the mean of the area it covers."""
    smaller = height <= ink.shape[0] and width <= ink.shape[1]
    how = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    scaled = Image.fromarray(ink.astype(np.float32)).resize((width, height), how)
    return np.asarray(scaled, dtype=np.float32).clip(0, 1)


def _start(mass: np.ndarray) -> int:
    """Return where a digit of `mass` (n,) along an axis begins, so that its centre of mass is the middle of the image."""
    centre = float(mass @ np.arange(len(mass)) / mass.sum())
    return int(np.clip(round(SIDE / 2 - centre), 0, SIDE - len(mass)))
