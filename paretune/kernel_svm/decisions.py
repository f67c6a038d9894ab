"""One-against-one decisions and votes of a fitted SVM as matrix products, with scikit-learn's labels.

Source: libsvm (Chang and Lin 2011), section 7 (multi-class by votes); scikit-learn's user guide, "Multi-class
classification" of `svm.SVC`, for the layout of `dual_coef_`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from paretune.kernel_svm.kernels import Kernel

BLOCK_BYTES = 256 * 2**20  # of one block of kernel values


class PairwiseMachine:
    """A fitted machine, laid out once for any number of decisions.

    Args:
        support_vectors: (n_support, n_features), ordered by class.
        dual_coef: (n_classes - 1, n_support), as scikit-learn keeps it.
        n_support: support vectors per class (n_classes,).
    """

    def __init__(
        self,
        support_vectors: np.ndarray,
        dual_coef: np.ndarray,
        intercept: np.ndarray,
        n_support: np.ndarray,
        *,
        kernel: Kernel,
        device: torch.device,
    ) -> None:
        import torch

        self._where = torch.device("cpu" if device.type == "mps" else device)  # no float64 on mps
        coefficients, offset = pair_coefficients(dual_coef, intercept, n_support)
        self._vectors, self._weights, self._offset = (self._tensor(array) for array in (support_vectors, coefficients, offset))
        self._norms = torch.linalg.vecdot(self._vectors, self._vectors)  # (n_support,)
        self._kernel = kernel

    def decisions(self, x: np.ndarray) -> np.ndarray:
        """Return decisions (n_samples, n_pairs) of rows (n_samples, n_features); above 0 votes for the first of a pair.

        The pairs are (0, 1), (0, 2), …, (1, 2), …. Computed in float64, so that a label differs from libsvm's only where a
        decision is within rounding of 0.
        """
        import torch

        rows = max(1, BLOCK_BYTES // (8 * max(len(self._vectors), 1)))
        parts = []
        for start in range(0, len(x), rows):
            block = self._tensor(x[start : start + rows])
            values = self._kernel.map_(block @ self._vectors.T, torch.linalg.vecdot(block, block), self._norms)
            parts.append((values @ self._weights + self._offset).cpu())
        return torch.cat(parts).numpy() if parts else np.zeros((0, len(self._offset)))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        import torch

        return torch.as_tensor(array, dtype=torch.float64, device=self._where)


def pair_coefficients(dual_coef: np.ndarray, intercept: np.ndarray, n_support: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spread the dual coefficients over the pairs: (n_support, n_pairs) and (n_pairs,)."""
    n_classes = len(n_support)
    if n_classes == 2:  # scikit-learn flips the signs of two-class machines, so that above 0 means the second class
        return -dual_coef.T, -intercept
    ends = np.concatenate([[0], np.cumsum(n_support)])
    pairs = [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]
    coefficients = np.zeros((int(ends[-1]), len(pairs)))
    for pair, (i, j) in enumerate(pairs):
        first, second = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        coefficients[first, pair] = dual_coef[j - 1, first]
        coefficients[second, pair] = dual_coef[i, second]
    return coefficients, intercept


def winners(decisions: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the class with most votes (n_samples,); the first class wins ties."""
    return _votes(decisions, n_classes).argmax(axis=1)


def _votes(decisions: np.ndarray, n_classes: int) -> np.ndarray:
    votes = np.zeros((len(decisions), n_classes))
    pairs = [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]
    for pair, (i, j) in enumerate(pairs):
        first = decisions[:, pair] > 0
        votes[:, i] += first
        votes[:, j] += ~first
    return votes


def calibrated_probabilities(decisions: np.ndarray, n_classes: int, sigmoids: np.ndarray) -> np.ndarray:
    """Return probabilities (n_samples, n_classes) from pairwise decisions and a sigmoid (a, b) per class.

    A class's decision is its votes plus a confidence below one half, as scikit-learn's one-versus-rest shape has it;
    the sigmoid is 1 / (1 + exp(a * decision + b)), normalised over the classes. Source: Platt 1999; Zadrozny and
    Elkan 2002.
    """
    from scipy.special import expit

    if n_classes == 2:
        second = expit(-(sigmoids[0, 0] * -decisions[:, 0] + sigmoids[0, 1]))
        return np.stack([1 - second, second], axis=1)
    confidence = np.zeros((len(decisions), n_classes))
    pairs = [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]
    for pair, (i, j) in enumerate(pairs):
        confidence[:, i] += decisions[:, pair]
        confidence[:, j] -= decisions[:, pair]
    by_class = _votes(decisions, n_classes) + confidence / (3 * (np.abs(confidence) + 1))
    raw = expit(-(sigmoids[:, 0] * by_class + sigmoids[:, 1]))
    total = raw.sum(axis=1, keepdims=True)
    return np.divide(raw, total, out=np.full_like(raw, 1 / n_classes), where=total > 0)
