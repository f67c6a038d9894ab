"""One-against-one machines fitted by RAPIDS cuML, where it is installed and the batched solver does not suit.

Source: cuML's documentation of `cuml.svm.SVC`; each pair of classes is fitted alone, as only two-class machines tell their
coefficients.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from paretune.kernel_svm.kernels import Kernel

FROM = 20_000  # training images from which cuML is asked; chosen by the work, not measured on a GPU


def suits(n_train: int, device: torch.device) -> bool:
    """Return whether a fit is large, on a GPU, and cuML is installed."""
    return device.type == "cuda" and n_train >= FROM and importlib.util.find_spec("cuml") is not None


def solve_pairs(
    x: np.ndarray, ends: np.ndarray, pairs: Sequence[tuple[int, int]], kernel: Kernel, penalties: Sequence[float], tolerance: float
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Fit every pair of classes.

    Args:
        x: images sorted by class (n_samples, n_features).
        ends: where each class begins, and the end (n_classes + 1,).
        penalties: the most that an alpha of each class may be (n_classes,).

    Returns:
        per pair the places of the support vectors, their coefficients in the decision for the first class, and the intercept.
    """
    svc = importlib.import_module("cuml.svm").SVC
    x = np.ascontiguousarray(x, dtype=np.float32)
    found = []
    for i, j in pairs:
        rows = np.concatenate([np.arange(ends[i], ends[i + 1]), np.arange(ends[j], ends[j + 1])])
        second = rows >= ends[j]
        machine = svc(
            C=1.0,
            class_weight={0: penalties[i], 1: penalties[j]},
            kernel=kernel.name,
            gamma=kernel.gamma,
            degree=kernel.degree,
            coef0=kernel.coef0,
            tol=tolerance,
        ).fit(x[rows], second.astype(np.int32))
        support = _array(machine.support_).astype(np.int64).ravel()
        coefficients = _array(machine.dual_coef_).astype(np.float64).ravel()
        # alphas are positive: the sign of a coefficient is that of its class, whichever of the two the library counts as positive
        sign = 1.0 if float(np.sum(coefficients[~second[support]])) > 0 else -1.0
        order = np.argsort(support)
        found.append((rows[support[order]], sign * coefficients[order], sign * float(_array(machine.intercept_).ravel()[0])))
    return found


def _array(values: Any) -> np.ndarray:
    """Return numbers that may lie on the GPU."""
    return np.asarray(values.get() if hasattr(values, "get") else values)
