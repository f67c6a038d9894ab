"""Products by oneDNN are torch's own, into whatever memory they are wanted; they are taken where they are the faster ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from paretune.batched import onednn
from paretune.batched.onednn import LEAST, products_of
from tests.batched.test_training import SHAPES, assert_alike, assert_same_weights, built, by_autograd, together
from tests.samples import small_data

ENOUGH = torch.empty(1, 60, LEAST // 60)  # of one network, with one sample


@pytest.fixture
def _by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(onednn, "LEAST", 0)
    monkeypatch.setattr(onednn, "_faster_by_onednn", lambda device: True)


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Return what makes this machine one with another processor."""
    for library in (torch.backends.mkl, torch.backends.mkldnn):
        monkeypatch.setattr(library, "is_available", lambda: True)
    onednn._faster_by_onednn.cache_clear()
    yield lambda capable: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capable)
    onednn._faster_by_onednn.cache_clear()


@pytest.mark.usefixtures("_by_onednn")
@pytest.mark.parametrize("shape", [(), (3,)], ids=["one", "several"])
@pytest.mark.parametrize("turned", [False, True])
def test_products_are_those_of_torch(shape: tuple[int, ...], turned: bool) -> None:
    torch.manual_seed(0)
    weight, samples, bias = torch.randn(*shape, 5, 7), torch.randn(*shape, 9, 7), torch.randn(*shape, 5, 1)
    if turned:  # as gradients take them
        weight, samples = weight.mT.contiguous().mT, samples.mT.contiguous().mT
    add_product, product = products_of(weight.view(-1, 5, 7) if shape else weight[None], 9, flat=not shape)
    assert product not in (torch.mm, torch.bmm)
    room = torch.full((*shape, 12, 9), 7.0)
    into = room[..., 2:7, :]
    product(weight, samples.mT, out=into)
    torch.testing.assert_close(into, weight @ samples.mT)
    add_product(bias, weight, samples.mT, out=into)
    torch.testing.assert_close(into, bias + weight @ samples.mT)
    assert (room[..., :2, :] == 7).all()
    assert (room[..., 7:, :] == 7).all()


@pytest.mark.usefixtures("_by_onednn")
@pytest.mark.parametrize("shape", SHAPES)
def test_models_learn_by_these_products_what_autograd_teaches_them(shape: str) -> None:
    data, more = small_data(), {"dropout": 0.4} if SHAPES[shape]["classifier"] == "ann" else {}
    ours, theirs = ([built(shape, learning_rate=rate, **more) for rate in (0.1, 0.02)] for _ in range(2))
    for found, one, other in zip(together(ours, data), ours, theirs, strict=True):
        assert_alike(found, by_autograd(other, data))
        assert_same_weights(one, other)


@pytest.mark.parametrize(
    ("capable", "wanted"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_f": True}, True),
        ({"cpu_name": "AMD Ryzen 7 5800X", "avx512_f": False}, False),
        ({"cpu_name": "Intel(R) Xeon(R) Platinum 8488C", "avx512_f": True}, False),
        ({}, False),
    ],
    ids=str,
)
def test_the_processor_says_which_products_are_taken(
    capable: dict[str, Any], wanted: bool, processor: Callable[[dict[str, Any]], None]
) -> None:
    processor(capable)
    for weight in (ENOUGH, ENOUGH.expand(2, -1, -1)):
        assert (products_of(weight, 1, flat=True) != (torch.addmm, torch.mm)) is wanted
        assert (products_of(weight, 1, flat=False) != (torch.baddbmm, torch.bmm)) is wanted


def test_small_products_and_other_precisions_are_torch_s_own(processor: Callable[[dict[str, Any]], None]) -> None:
    processor({"cpu_name": "AMD EPYC", "avx512_f": True})
    for weight in (ENOUGH[:, 1:], ENOUGH[:, 1:].expand(32, -1, -1), ENOUGH.double(), ENOUGH.to("meta")):
        assert products_of(weight, 1, flat=True) == (torch.addmm, torch.mm)
        assert products_of(weight, 1, flat=False) == (torch.baddbmm, torch.bmm)
