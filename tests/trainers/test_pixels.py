"""Products of 8-bit pictures as bytes are the exact ones, and anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainers.pixels import AT_ONCE, MOST_FEATURES, Pixels, pixels_of


@pytest.fixture(autouse=True)
def _made_for_bytes() -> None:
    if not any(torch.cpu.get_capabilities().get(name) for name in AT_ONCE):
        pytest.skip("this processor has no instruction for products of bytes")


def levels(n_samples: int, shape: tuple[int, ...], *, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n_samples, *shape)))


def pixels(whole: torch.Tensor) -> Pixels:
    found = pixels_of(whole.float().div_(255))
    assert found is not None
    return found


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 1, 1)])
def test_products_are_those_of_whole_numbers(shape: tuple[int, ...]) -> None:
    first, second = levels(300, shape), levels(70, shape, seed=1)
    wanted = (first.flatten(1) @ second.flatten(1).T).double() / 255**2
    found = pixels(first).times(pixels(second))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1.3e-7)


@pytest.mark.parametrize(("one", "other"), [(255, 255), (0, 255), (0, 0), (255, 1), (127, 128)])
def test_no_sum_is_cut_where_all_pixels_are_extreme(one: int, other: int) -> None:
    first, second = torch.full((40, MOST_FEATURES), one), torch.full((33, MOST_FEATURES), other)
    np.testing.assert_allclose(pixels(first).times(pixels(second)).numpy(), one * other * MOST_FEATURES / 255**2, rtol=1.3e-7)


def test_some_of_the_pictures_are_chosen_by_a_slice_or_by_their_places() -> None:
    whole = levels(50, (1, 6, 6))
    all_, places = pixels(whole), torch.tensor([40, 3, 3, 0])
    for some in (slice(7, 20), places):
        assert torch.equal(all_[some].times(all_), pixels(whole[some]).times(all_))
    assert [len(part) for part in all_.split(20)] == [20, 20, 10]


@pytest.mark.parametrize("value", [0.5, -1 / 255, 256 / 255, float("nan"), float("inf")])
def test_one_number_that_is_no_pixel_is_enough_to_refuse_all(value: float) -> None:
    x = levels(300, (1, 6, 6)).float().div_(255)
    assert pixels_of(x) is not None
    x[299, 0, 5, 5] = value
    assert pixels_of(x) is None


def test_processors_that_cut_sums_of_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": True})
    assert pixels_of(levels(3, (1, 6, 6)).float().div_(255)) is None


def test_more_pixels_than_32_bits_can_sum_are_refused() -> None:
    assert pixels_of(torch.zeros(2, MOST_FEATURES + 1)) is None
