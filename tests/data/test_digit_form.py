"""A drawing's size, place and grey levels as in the sets whose models read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paretune.core.errors import UsageError
from paretune.data.dataset import data_root
from paretune.data.digit_form import digits_form, mnist_form


def blot(height: int, width: int, top: int, left: int, *, field: tuple[int, int] = (200, 300)) -> np.ndarray:
    """A field with a block of ink that is heavier at its left end."""
    drawing = np.zeros(field)
    drawing[top : top + height, left : left + width] = 1
    drawing[top : top + height // 2, left + width // 2 : left + width] = 0
    return drawing


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 120), st.integers(6, 120), st.integers(0, 80), st.integers(0, 180))
def test_size_and_place_of_the_drawing_do_not_matter(height: int, width: int, top: int, left: int) -> None:
    here, there = blot(height, width, top, left), blot(height, width, 5, 9, field=(140, 150))
    np.testing.assert_array_equal(mnist_form(here), mnist_form(there))
    np.testing.assert_array_equal(digits_form(here), digits_form(there))


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 120), st.integers(6, 120))
def test_the_longer_side_has_twenty_pixels_and_the_weight_is_in_the_middle(height: int, width: int) -> None:
    image = mnist_form(blot(height, width, 20, 30))
    assert image.shape == (28, 28)
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    sides = [rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1]
    assert max(sides) == 20
    assert abs(min(sides) - 20 * min(height, width) / max(height, width)) <= 1
    for axis, start, side in ((1, rows[0], sides[0]), (0, columns[0], sides[1])):
        centre = image.sum(axis=axis) @ np.arange(28) / image.sum()
        assert abs(centre - 14) <= 0.5 or start in (0, 28 - side)


def test_edges_are_soft_and_ink_is_kept() -> None:
    y, x = np.mgrid[:280, :280]
    disc = (np.hypot(y - 140, x - 120) < 90).astype(float)
    image = mnist_form(disc)
    grey = image[(image > 0.05) & (image < 0.95)]
    assert len(grey) > 20
    assert image.sum() == pytest.approx(disc.sum() * (20 / 179) ** 2, rel=0.01)


def test_tiny_drawings_are_enlarged() -> None:
    drawing = np.zeros((50, 50))
    drawing[20:25, 20:23] = 1
    rows = np.flatnonzero(mnist_form(drawing).any(axis=1))
    assert rows[-1] - rows[0] + 1 == 20


@pytest.mark.parametrize("form", [mnist_form, digits_form])
def test_a_blank_is_refused(form: object) -> None:
    for blank in (np.zeros((28, 28)), np.full((28, 28), 0.05)):
        with pytest.raises(UsageError, match="the drawing is blank: draw a digit first"):
            form(blank)  # type: ignore[operator]


@pytest.mark.needs_data
def test_mnists_own_images_are_left_as_they_are() -> None:
    from paretune.data.readers import read_images

    if not (data_root() / "MNIST" / "raw").exists():
        pytest.skip("MNIST is not below DATA_ROOT")
    images = read_images("mnist", Path(data_root())).x[:300, 0] / np.float32(255)
    differences = []
    for image in images:
        large = np.asarray(Image.fromarray(image).resize((280, 280), Image.Resampling.NEAREST))
        differences.append(np.abs(mnist_form(large) - image))
    assert np.mean(differences) < 0.001
    same = [difference.max() < 0.01 for difference in differences]
    assert np.mean(same) > 0.8, "the others have a fainter edge, which is taken for paper"


def test_digits_are_as_tall_wide_and_dark_as_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    from tests.painter.strokes import drawings
    from tests.painter.writing import ink_of

    theirs = load_digits().images / 16
    ours = np.stack([digits_form(ink_of(drawing)) for drawing in drawings()])
    assert ours.any(axis=2).all(), "as tall as the image"
    assert not ours[:, :, 0].any()
    assert abs(ours.mean() - theirs.mean()) < 0.06
