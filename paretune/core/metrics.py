"""Accuracy, precision, recall and F1 from one confusion matrix; equal to scikit-learn's with zero_division=0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def confusion_matrix(true: torch.Tensor, predicted: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Count (n_classes, n_classes) on the tensors' device: rows are true classes, columns predicted ones."""
    return count_values(true * n_classes + predicted, n_classes**2).view(n_classes, n_classes)


def count_values(values: torch.Tensor, size: int) -> torch.Tensor:
    """Count how often each of 0 to size - 1 occurs in whole numbers (any shape): (size,).

    As torch.bincount, for which the host of a CUDA device waits, as the largest value says how long its result is.
    """
    flat = values.flatten()
    return flat.new_zeros(size).index_add_(0, flat, flat.new_ones(1).expand(len(flat)))


def class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return `precision`, `recall`, `f1` and `support`, each (n_classes,).

    A class that is never predicted has precision 0, one that never occurs recall 0.
    """
    hits = np.diag(confusion).astype(np.float64)
    predicted, support = confusion.sum(axis=0), confusion.sum(axis=1)

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)

    return {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, support),
        "f1": ratio(2 * hits, predicted + support),
        "support": support,
    }


def scores(confusion: np.ndarray, average: str = "macro", positive: int | None = None) -> dict[str, float]:
    """Return `accuracy`, `precision`, `recall` and `f1`.

    Args:
        confusion: counts (n_classes, n_classes), rows are true classes.
        average: `macro` (mean over the classes that occur or are predicted), `weighted` (by support) or `binary`.
        positive: index of the class that counts where `average` is `binary`.
    """
    by_class = class_scores(confusion)
    support = by_class.pop("support")
    total = max(int(confusion.sum()), 1)
    result = {"accuracy": float(np.trace(confusion) / total)}
    if average == "binary":
        result.update({name: float(values[positive]) for name, values in by_class.items()})
    elif average == "weighted":
        result.update({name: float(values @ support / total) for name, values in by_class.items()})
    else:
        present = (support + confusion.sum(axis=0)) > 0
        result.update({name: float(values[present].mean()) if present.any() else 0.0 for name, values in by_class.items()})
    return result


def named(values: dict[str, float], part: str) -> dict[str, float]:
    """Give scores their logged names: `train_f1` on the training part; `test_accuracy` but plain `f1` on the other."""
    if part == "train":
        return {f"train_{name}": value for name, value in values.items()}
    return {name if name in {"precision", "recall", "f1"} else f"test_{name}": value for name, value in values.items()}
