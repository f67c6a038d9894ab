"""Prepares pictures of digits for models of `mnist` and `digits`: finds dark ink, crops, and leaves images of the set alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paretune.core.errors import UsageError
from paretune.data.digit_form import BLOCKS, BOX, SIDE, digits_form, mnist_form
from paretune.data.photo import is_dark_on_light, read_ink
from paretune.data.pictures import read_grey

SHAPES = {"mnist": (1, SIDE, SIDE), "digits": (1, BLOCKS, BLOCKS)}
LEVELS = 16  # of scikit-learn's digits
LEFT, SWAPPED = "left as they are", "dark and light swapped"
CROPPED, SWAPPED_AND_CROPPED = "cropped and centred", "dark and light swapped, cropped and centred"


@dataclass(frozen=True)
class DigitPicture:
    """A prepared picture: `x` (1, 1, height, width) float32 in [0, 1], and what was done to it."""

    x: np.ndarray
    done: str


def set_of(description: dict[str, Any]) -> str | None:
    """Return `mnist` or `digits` where a saved model's config.json says that it was trained on that set, else None."""
    options = description.get("data_options")
    name = options.get("data") if isinstance(options, dict) else None
    return name if name in SHAPES and tuple(description.get("input_shape", ())) == SHAPES[name] else None


def read_digit_picture(path: Path, set_name: str, *, dark_on_light: bool | None = None) -> DigitPicture:
    """Read a picture in the form of a set's images.

    Args:
        set_name: `mnist` or `digits`.
        dark_on_light: None finds it out.

    Raises:
        UsageError: if the picture cannot be read, or shows no digit.
    """
    pixels = read_grey(path)
    grey = pixels.astype(np.float32) / 255
    if dark_on_light is None:
        dark_on_light = is_dark_on_light(grey)
    light_ink = 255 - pixels if dark_on_light else pixels
    if set_name == "mnist" and _is_mnist_image(light_ink):
        return DigitPicture((light_ink.astype(np.float32) / 255)[None, None], SWAPPED if dark_on_light else LEFT)
    if set_name == "digits" and _is_digits_image(light_ink):
        top = LEVELS if light_ink.max() <= LEVELS else 255  # written as counts, or as grey levels of a picture
        counts = np.rint(light_ink.astype(np.float32) * LEVELS / top)
        return DigitPicture((counts / LEVELS)[None, None], SWAPPED if dark_on_light else LEFT)
    try:
        ink = read_ink(grey, dark_on_light=dark_on_light).ink
        form = mnist_form(ink) if set_name == "mnist" else digits_form(ink)
    except UsageError as error:
        raise UsageError(f"{path} shows no digit ({str(error).partition(':')[0]}); remove it, or read it with --as-is.") from None
    return DigitPicture(form[None, None], SWAPPED_AND_CROPPED if dark_on_light else CROPPED)


def _is_mnist_image(light_ink: np.ndarray) -> bool:
    """Tell whether an image has MNIST's size and place, as all its 70,000 images have: to within a faint edge and rounding."""
    if light_ink.shape != (SIDE, SIDE) or not light_ink.any():
        return False
    for axis in (0, 1):
        mass = light_ink.sum(axis=axis, dtype=np.float64)
        drawn = np.flatnonzero(mass)
        if drawn[-1] - drawn[0] + 1 > BOX or abs(mass @ np.arange(SIDE) / mass.sum() - SIDE / 2) > 1:
            return False
    return bool(max(np.ptp(np.flatnonzero(light_ink.any(axis=axis))) + 1 for axis in (0, 1)) >= BOX - 2)


def _is_digits_image(light_ink: np.ndarray) -> bool:
    """Tell whether an image is as tall as it is, with paper at its sides, as all images of scikit-learn's digits are."""
    if light_ink.shape != (BLOCKS, BLOCKS):
        return False
    border = np.concatenate([light_ink[0], light_ink[-1], light_ink[:, 0], light_ink[:, -1]])
    return bool(np.median(border) == 0 and light_ink[0].any() and light_ink[-1].any())
