"""Augmentation moves, scales, turns and mirrors whole batches as it says, and nothing where it is told nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from paretune.data import augmentation as module
from paretune.data.augmentation import augment


def batch(n_samples: int = 8, channels: int = 1, height: int = 6, width: int = 6) -> torch.Tensor:
    return torch.rand(n_samples, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def largest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every uniform draw is its upper end."""
    monkeypatch.setattr(module.torch, "rand", lambda *size, **named: torch.ones(*size))


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 8)])
def test_no_strength_is_no_change(shape: tuple[int, int, int]) -> None:
    x = batch(4, *shape)
    assert torch.allclose(augment(x), x, atol=1e-5)


@pytest.mark.parametrize(
    "strengths", [{"translate": 0.2}, {"scale": 0.3}, {"rotate": 30}, {"flip": True}, {"crop": 2}, {"scale": 0.2, "rotate": 9}]
)
def test_shape_and_range_stay_and_images_change(strengths: dict[str, Any]) -> None:
    x = batch(16, 3, 5, 8)
    changed = augment(x, **strengths)
    assert changed.shape == x.shape
    assert changed.dtype == x.dtype
    assert float(changed.min()) >= 0.0
    assert float(changed.max()) <= 1.0 + 1e-6
    assert not torch.allclose(changed, x, atol=1e-3)


def test_the_same_random_state_changes_alike_and_the_next_otherwise() -> None:
    x = batch()
    torch.manual_seed(1)
    first = augment(x, translate=0.1, rotate=10, scale=0.1)
    second = augment(x, translate=0.1, rotate=10, scale=0.1)
    torch.manual_seed(1)
    assert torch.equal(augment(x, translate=0.1, rotate=10, scale=0.1), first)
    assert not torch.equal(second, first)


def test_each_image_changes_on_its_own() -> None:
    x = batch(1).expand(8, 1, 6, 6)
    changed = augment(x, rotate=40)
    assert len({image.numpy().tobytes() for image in changed}) == 8


def shifted(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Move an image (channels, height, width) by whole pixels; zeros move in."""
    height, width = image.shape[1:]
    result = torch.zeros_like(image)
    result[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = image[
        :, max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return result


def test_a_crop_moves_by_whole_pixels_in_every_direction() -> None:
    image = batch(1, 2, 5, 7)[0]
    moves = {(down, right): shifted(image, down, right) for down in range(-1, 2) for right in range(-1, 2)}
    torch.manual_seed(0)
    seen = set()
    for changed in augment(image.expand(200, 2, 5, 7), crop=1):
        matching = [move for move, wanted in moves.items() if torch.allclose(changed, wanted, atol=1e-4)]
        assert len(matching) == 1
        seen.add(matching[0])
    assert seen == set(moves)


def test_a_flip_mirrors_left_to_right_about_half_of_the_images() -> None:
    x = batch(400, 1, 4, 5)
    torch.manual_seed(0)
    changed = augment(x, flip=True)
    mirrored = [torch.allclose(new, old.flip(2), atol=1e-4) for new, old in zip(changed, x, strict=True)]
    kept = [torch.allclose(new, old, atol=1e-4) for new, old in zip(changed, x, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250


@pytest.mark.usefixtures("largest")
def test_a_quarter_turn_turns_pixels_also_in_images_that_are_no_squares() -> None:
    x = torch.zeros(1, 1, 5, 9)
    x[0, 0, 2, 3:8] = torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0])  # a row through the centre (2, 4)
    changed = augment(x, rotate=90)
    column = changed[0, 0, :, 4]
    assert sorted(round(float(value), 2) for value in column) == [0.0, 0.2, 0.4, 0.6, 0.8]  # 1.0 leaves the five rows
    changed[0, 0, :, 4] = 0
    assert float(changed.abs().max()) < 1e-4


@pytest.mark.usefixtures("largest")
def test_half_a_turn_is_both_mirrors() -> None:
    x = batch(2, 1, 4, 7)
    assert torch.allclose(augment(x, rotate=180), x.flip(2).flip(3), atol=1e-4)


@pytest.mark.usefixtures("largest")
def test_translation_is_a_share_of_the_side() -> None:
    image = batch(1, 1, 4, 8)
    assert torch.allclose(augment(image, translate=0.25)[0], shifted(image[0], -1, -2), atol=1e-4)


@pytest.mark.usefixtures("largest")
def test_growth_makes_a_square_larger() -> None:
    x = torch.zeros(1, 1, 12, 12)
    x[:, :, 4:8, 4:8] = 1
    grown = augment(x, scale=0.5)
    assert float(grown.sum()) == pytest.approx(36, rel=0.1)  # 6 x 6 pixels
