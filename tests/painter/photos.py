"""Rendered photos of the scripted drawings: dark ink on light paper, uneven light, a shadow, noise, blur and a slant."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from tests.painter.strokes import Drawing
from tests.painter.writing import ink_of


def photo_of(drawing: Drawing, *, seed: int, size: tuple[int, int] = (640, 480), shadow: float = 0.25) -> np.ndarray:
    """Return a photo (height, width, 3) uint8 of a drawing on a sheet of paper.

    Args:
        seed: draws place, size, slant, light and noise.
        size: width and height in pixels.
        shadow: share of the light that is missing in one corner.
    """
    chance = np.random.default_rng(seed)
    width, height = size
    side = int(min(size) * chance.uniform(0.4, 0.7))
    digit = Image.fromarray(np.round(255 * ink_of(drawing)).astype(np.uint8)).resize((side, side))
    digit = digit.rotate(chance.uniform(-8, 8), Image.Resampling.BILINEAR)
    sheet = Image.new("L", size, 0)
    sheet.paste(digit, (int(chance.integers(0, width - side)), int(chance.integers(0, height - side))))
    ink = np.asarray(sheet.filter(ImageFilter.GaussianBlur(1.5)), dtype=np.float64)[..., None] / 255
    paper = np.array([226.0, 220.0, 205.0]) + chance.uniform(-15, 15)
    pen = np.array([40.0, 45.0, 75.0]) + chance.uniform(-15, 15)
    y, x = np.mgrid[:height, :width] / max(size)
    light = 1 - shadow * np.clip(x * chance.uniform(0.3, 1) + y * chance.uniform(0.3, 1), 0, 1)[..., None]
    photo = (ink * pen + (1 - ink) * paper) * light + chance.normal(0, 5, (height, width, 1))
    return np.asarray(photo.clip(0, 255).round(), dtype=np.uint8)
