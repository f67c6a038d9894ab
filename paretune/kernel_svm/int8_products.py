"""Inner products of 8-bit pictures in whole numbers: as exact as can be, and on processors that multiply bytes much faster.

A pixel is k / 255 with k from 0 to 255, as `paretune.data.dataset` reads pictures. Bytes hold c = k - 128, so that
`x · y = (c · d + 128 (Σc + Σd) + 128² n) / 255²` for n pixels, of which all but the division is exact in 32 bits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LARGEST = 255  # of a pixel's values
MIDDLE = 128
MOST_FEATURES = (2**31 - 1) // LARGEST**2  # whose sum of products 32 bits hold
ROWS = 256  # whose products are in work at a time: they stay in the cache, and fewer are slower (measured)
AT_ONCE = ("avx512_vnni", "avx_vnni", "amx_int8")  # what of a processor sums products of bytes at once


@dataclass(frozen=True)
class Pixels:
    """Pictures as bytes.

    Args:
        bytes_: c (n_samples, n_features), int8.
        sums: 128 Σc (n_samples,), int32.
    """

    bytes_: torch.Tensor
    sums: torch.Tensor

    def __len__(self) -> int:
        return len(self.bytes_)

    def __getitem__(self, some: slice | torch.Tensor) -> Pixels:
        return Pixels(self.bytes_[some], self.sums[some])

    def split(self, n: int) -> Iterator[Pixels]:
        """Yield parts of n pictures."""
        return (self[start : start + n] for start in range(0, len(self), n))

    def times(self, other: Pixels) -> torch.Tensor:
        """Return the inner products with other pictures (n_samples, n_others), float32; exact but for rounding to it."""
        import torch

        products = torch._int_mm(self.bytes_, other.bytes_.T)
        products.add_(self.sums[:, None]).add_(other.sums + MIDDLE**2 * self.bytes_.shape[1])
        return products * (1 / LARGEST**2)

    @functools.cached_property
    def squared_norms(self) -> torch.Tensor:
        """The squared norms of the pictures (n_samples,), float64."""
        import torch

        return torch.cat([((part.bytes_.double() + MIDDLE) / LARGEST).square_().sum(dim=1) for part in self.split(ROWS)])

    def variance(self) -> float:
        """Return the variance of all pixels."""
        mean = (float(self.sums.double().sum()) / MIDDLE / self.bytes_.numel() + MIDDLE) / LARGEST
        return float(self.squared_norms.sum()) / self.bytes_.numel() - mean**2


def pixels_of(x: torch.Tensor) -> Pixels | None:
    """Return pictures (n_samples, ...) as bytes; None if they are no 8-bit pixels, or this machine is not made for bytes."""
    import torch

    n_features = x[0].numel()
    if x.device.type != "cpu" or n_features > MOST_FEATURES or not multiplies_bytes():
        return None
    bytes_ = torch.empty(len(x), n_features, dtype=torch.int8)
    for place, values in zip(bytes_.split(ROWS), x.flatten(1).split(ROWS), strict=True):
        whole = (values * LARGEST).round_().clamp_(0, LARGEST)
        if not torch.equal(whole / LARGEST, values):
            return None
        place.copy_(whole - MIDDLE)
    return Pixels(bytes_, MIDDLE * bytes_.sum(dim=1, dtype=torch.int32))


@functools.cache
def multiplies_bytes() -> bool:
    """Whether torch multiplies bytes fast here, and right.

    Without these instructions, or where ONEDNN_MAX_CPU_ISA forbids them, oneDNN cuts sums of two products at 16 bits.
    """
    import torch

    capable = torch.cpu.get_capabilities()
    if not torch.backends.mkldnn.is_available() or not any(capable.get(name) for name in AT_ONCE):
        return False
    extremes = torch.tensor([-128, 127], dtype=torch.int8).repeat(ROWS // 2)
    rows = extremes[:, None].repeat(1, ROWS)  # (ROWS, ROWS): each row one value
    wanted = ROWS * extremes.int()[:, None] * extremes.int()
    return hasattr(torch, "_int_mm") and torch.equal(torch._int_mm(rows, rows.T), wanted)
