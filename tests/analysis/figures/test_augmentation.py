"""The figure of training images and their augmented copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paretune.analysis.figures.augmentation import augmentation_figure, examples
from paretune.analysis.figures.runs import save_figure
from tests.analysis.reading import is_a_drawing
from tests.samples import small_data

SETTINGS = {"translate": 0.1, "scale": 0.1, "rotate": 15.0, "flip": True, "crop": 1}


def test_the_examples_are_of_each_class_in_turn() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 100)
    assert labels[examples(labels, 6, seed=1)].tolist() == [0, 1, 2, 3, 0, 1]
    assert len(set(examples(labels, 6, seed=1).tolist())) == 6
    assert examples(labels, 6, seed=1).tolist() != examples(labels, 6, seed=2).tolist()
    assert labels[examples(np.zeros(2, dtype=int), 6, seed=0)].shape == (2,)


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 8, 8)])
def test_the_figure_shows_training_images_above_their_changed_copies(shape: tuple[int, int, int], tmp_path: Path) -> None:
    data = small_data(shape=shape)
    figure = augmentation_figure(data, SETTINGS, seed=4)
    pictures = [np.asarray(axes.images[0].get_array()).reshape(shape[1], shape[2], -1) for axes in figure.axes]
    training = np.moveaxis(data.train.x.numpy(), 1, -1)
    assert len(pictures) == 30
    assert all((np.abs(training - picture).max(axis=(1, 2, 3)) < 1e-6).any() for picture in pictures[:6])
    assert len({picture.tobytes() for picture in pictures}) == 30
    again = augmentation_figure(data, SETTINGS, seed=4)
    for before, after in zip(figure.axes, again.axes, strict=True):
        np.testing.assert_array_equal(before.images[0].get_array(), after.images[0].get_array())
    assert [axes.get_title() for axes in figure.axes[:6]] == ["c0", "c1", "c2"] * 2
    assert is_a_drawing(save_figure(figure, tmp_path / "augmented.png"))


def test_without_any_change_the_copies_are_the_images() -> None:
    data = small_data()
    figure = augmentation_figure(data, {"translate": 0.0, "scale": 0.0, "rotate": 0.0, "flip": False, "crop": 0})
    pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    for place, picture in enumerate(pictures):
        np.testing.assert_allclose(picture, pictures[place % 6], atol=1e-5)
