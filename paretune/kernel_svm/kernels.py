"""The SVM's four kernels, each an element-wise map of inner products. Source: libsvm (Chang and Lin 2011), section 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

ROUNDING = 1e-4  # at most, of an rbf value
SHARE = 1e-5  # of a poly kernel's own argument that rounding may be, beside a large constant term
ARGUMENT = 1e-6  # at most, of a sigmoid's argument: its problems have several optima, and rounding picks among them (measured)
LARGEST = 1e30  # magnitude of a poly value that float32 still holds with room for sums


@dataclass(frozen=True)
class Kernel:
    """`rbf`, `linear`, `poly` or `sigmoid` with its parameters."""

    name: str
    gamma: float
    degree: int
    coef0: float

    def map_(self, products: torch.Tensor, row_norms: torch.Tensor, column_norms: torch.Tensor) -> torch.Tensor:
        """Turn inner products (n_rows, n_columns) into kernel values in place; the norms are squared, (n_rows,), (n_columns,)."""
        if self.name == "rbf":
            import torch

            of_columns, of_rows = column_norms * -self.gamma, row_norms * self.gamma
            torch.add(of_columns, products, alpha=2 * self.gamma, out=products)
            products.sub_(of_rows[:, None])  # now -gamma times the distance squared
            return products.clamp_max_(0).exp_()
        if self.name == "poly":
            return products.mul_(self.gamma).add_(self.coef0).pow_(self.degree)
        return products.mul_(self.gamma).add_(self.coef0).tanh_() if self.name == "sigmoid" else products

    def suits(self, largest_norm: float, precision: np.dtype[Any]) -> bool:
        """Return whether products of this precision are exact enough for images of at most this squared norm."""
        eps, scaled = float(np.finfo(precision).eps), self.gamma * largest_norm
        if self.name == "rbf":  # |x|² + |y|² - 2xy loses the digits that the norms have before those of the distance
            return 4 * scaled * eps <= ROUNDING
        argument = scaled + abs(self.coef0)
        if self.name == "poly":
            with np.errstate(over="ignore"):
                return bool(np.float64(argument) ** self.degree <= LARGEST) and argument * eps <= SHARE * scaled
        return self.name == "linear" or argument * eps <= ARGUMENT
