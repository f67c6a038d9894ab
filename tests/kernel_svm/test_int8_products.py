"""Products of 8-bit pictures as bytes are the exact ones, and anything else is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from paretune.kernel_svm.int8_products import MOST_FEATURES, Pixels, multiplies_bytes, pixels_of
from tests.samples import ROOT, needs_bytes

pytestmark = needs_bytes


@pytest.fixture(autouse=True)
def _tried_anew() -> Iterator[None]:
    yield
    multiplies_bytes.cache_clear()


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
    multiplies_bytes.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": True})
    assert pixels_of(levels(3, (1, 6, 6)).float().div_(255)) is None


@pytest.mark.parametrize(("allowed", "wanted"), [("DEFAULT", "True"), ("AVX2", "False"), ("AVX512_CORE", "False")])
def test_products_that_onednn_may_not_compute_right_are_refused(allowed: str, wanted: str) -> None:
    code = "from paretune.kernel_svm.int8_products import multiplies_bytes; print(multiplies_bytes())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "ONEDNN_MAX_CPU_ISA": allowed}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == wanted, done.stderr


def test_a_torch_without_the_product_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    multiplies_bytes.cache_clear()
    monkeypatch.delattr(torch, "_int_mm")
    assert not multiplies_bytes()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 7)])
def test_norms_and_variance_are_those_of_the_pixels(shape: tuple[int, ...]) -> None:
    whole = levels(300, shape)
    x = whole.flatten(1).double() / 255
    np.testing.assert_allclose(pixels(whole).squared_norms.numpy(), x.square().sum(dim=1).numpy(), rtol=1e-12)
    assert pixels(whole).variance() == pytest.approx(float(x.var(correction=0)), rel=1e-10)


def test_more_pixels_than_32_bits_can_sum_are_refused() -> None:
    assert pixels_of(torch.zeros(2, MOST_FEATURES + 1)) is None
