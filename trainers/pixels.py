"""Inner products of 8-bit pictures in whole numbers: as exact as can be, and on processors that multiply bytes much faster.

A pixel is k / 255 with k from 0 to 255, as `trainers.data` reads pictures. Bytes hold c = k - 128, so that
`x · y = (c · d + 128 (Σc + Σd) + 128² n) / 255²` for n pixels, of which all but the division is exact in 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LARGEST = 255  # of a pixel's values
MIDDLE = 128
MOST_FEATURES = (2**31 - 1) // LARGEST**2  # whose sum of products 32 bits hold
ROWS = 256  # whose products are in work at a time: they stay in the cache, and fewer are slower (measured)
AT_ONCE = ("avx512_vnni", "avx_vnni", "amx_int8")  # what of a processor sums products of bytes without cutting them at 16 bits


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
        """Return the inner products with other pictures (n_samples, n_others), float32, rounded once or twice."""
        import torch

        products = torch._int_mm(self.bytes_, other.bytes_.T)
        products.add_(self.sums[:, None]).add_(other.sums + MIDDLE**2 * self.bytes_.shape[1])
        return products * (1 / LARGEST**2)


def pixels_of(x: torch.Tensor) -> Pixels | None:
    """Return pictures (n_samples, ...) as bytes; None if they are no 8-bit pixels, or this processor is not made for bytes."""
    import torch

    n_features, capable = x[0].numel(), torch.cpu.get_capabilities()
    if x.device.type != "cpu" or n_features > MOST_FEATURES or not any(capable.get(name) for name in AT_ONCE):
        return None
    bytes_ = torch.empty(len(x), n_features, dtype=torch.int8)
    for place, values in zip(bytes_.split(ROWS), x.flatten(1).split(ROWS), strict=True):
        whole = (values * LARGEST).round_().clamp_(0, LARGEST)
        if not torch.equal(whole / LARGEST, values):
            return None
        place.copy_(whole - MIDDLE)
    return Pixels(bytes_, MIDDLE * bytes_.sum(dim=1, dtype=torch.int32))
