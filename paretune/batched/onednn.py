"""Matrix products by oneDNN where torch takes them from a library that is slow there: MKL, on AMD's processors with AVX-512.

MKL leaves half of their vector units idle: 100 instead of 230 GFLOP/s a core (measured).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

LEAST = 1_500_000  # multiply-adds of a network's product from which oneDNN's longer way to it is the shorter one (measured)

Products = tuple[Callable[..., Any], Callable[..., Any]]  # bias + a b, and a b, each into `out`


def products_of(weight: torch.Tensor, n: int, *, flat: bool) -> Products:
    """Return what multiplies weights of several networks (K, out, in) with n samples of each.

    One network's product decides, so that it learns the same numbers alone and beside others.

    Args:
        flat: the weights are multiplied as one matrix (K * out, in).
    """
    multiply_adds = weight[0].numel() * n
    if multiply_adds >= LEAST and weight.dtype == torch.float32 and _faster_by_onednn(weight.device.type):
        return (_addmm, _mm) if flat else (_baddbmm, _bmm)
    return (torch.addmm, torch.mm) if flat else (torch.baddbmm, torch.bmm)


@functools.cache
def _faster_by_onednn(device: str) -> bool:
    capable, backends = torch.cpu.get_capabilities(), torch.backends
    amd = str(capable.get("cpu_name")).startswith("AMD") and bool(capable.get("avx512_f"))
    return device == "cpu" and amd and backends.mkl.is_available() and backends.mkldnn.is_available()


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(a, b.t(), None, "none", [], "")


def _mm(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> None:
    out.copy_(_product(a, b))


def _addmm(bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> None:
    torch.add(bias, _product(a, b), out=out)


def _bmm(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> None:
    for left, right, place in zip(a, b, out, strict=True):
        _mm(left, right, out=place)


def _baddbmm(bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> None:
    for added, left, right, place in zip(bias, a, b, out, strict=True):
        _addmm(added, left, right, out=place)
