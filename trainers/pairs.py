"""One-against-one machines fitted on products of images (`trainers.gram`): libsvm on each pair of classes, on all cores.

A pair's problem is a small kernel matrix, mapped from two diagonal blocks and the one between them. libsvm solves each pair
alone anyway, so alphas, support vectors and intercepts are those of scikit-learn's `SVC` on the whole matrix.
Source: libsvm (Chang and Lin 2011), sections 4 and 7.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trainers.gram import Gram
    from trainers.kernels import Kernel

CACHE_MEGABYTES = 200  # of libsvm's rows, a problem
CHUNK = 2**15  # kernel values that are mapped at a time: they stay in the core's cache, and torch parts them over no threads
BLOCK_BYTES = 4 * 2**20  # of kernel values with support vectors that are in memory at once


@dataclass(frozen=True)
class Solution:
    """What libsvm found, laid out as scikit-learn does.

    Args:
        support: places of the support vectors among the sorted training images (n_support,).
        n_support: how many each class has (n_present,).
        dual_coef: (n_present - 1, n_support).
        intercept: (n_pairs,).
        coefficients: of the support vectors in each pair's decision (n_support, n_pairs); above 0 votes for the first.
        offset: (n_pairs,).
    """

    support: np.ndarray
    n_support: np.ndarray
    dual_coef: np.ndarray
    intercept: np.ndarray
    coefficients: np.ndarray
    offset: np.ndarray


def pairs_of(n_classes: int) -> list[tuple[int, int]]:
    """Return the pairs of classes in libsvm's order."""
    return [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]


def solve(gram: Gram, kernel: Kernel, *, penalty: float, tolerance: float, weights: Sequence[float] | None) -> Solution:
    """Fit every pair of classes.

    Args:
        penalty: C.
        tolerance: of libsvm's optimality conditions.
        weights: of each class of the data, by which C is multiplied.
    """
    n_classes = len(gram.classes)
    pairs = pairs_of(n_classes)
    buffers = threading.local()
    counts = np.diff(gram.ends)
    largest = int(np.sort(counts)[-2:].sum())

    def fit(pair: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, float]:
        from sklearn import config_context
        from sklearn.svm import SVC

        if not hasattr(buffers, "values"):
            buffers.values = np.empty(largest**2)
        values = _pair_kernel(gram, kernel, pair, diagonals, buffers.values)
        first = int(counts[pair[0]])
        weight = None if weights is None else {end: weights[gram.classes[pair[end]]] for end in (0, 1)}
        machine = SVC(C=penalty, kernel="precomputed", tol=tolerance, class_weight=weight, cache_size=CACHE_MEGABYTES)
        with config_context(assume_finite=True):  # a map of finite products that the kernel `suits`
            machine.fit(values, (np.arange(len(values)) >= first).astype(np.int64))
        inside = machine.support_
        places = np.where(inside < first, gram.ends[pair[0]] + inside, gram.ends[pair[1]] + inside - first)
        return places, -machine.dual_coef_[0], -float(machine.intercept_[0])  # scikit-learn flips the signs of two classes

    with ThreadPoolExecutor(min(threads(), len(pairs))) as pool:
        try:
            diagonals = list(pool.map(lambda i: _diagonal(gram, kernel, i), range(n_classes)))
            found = list(pool.map(fit, pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return laid_out(gram.ends, pairs, found)


def _diagonal(gram: Gram, kernel: Kernel, i: int) -> np.ndarray:
    """Return the kernel values of one class's images with each other, in the precision of the products."""
    own = slice(gram.ends[i], gram.ends[i + 1])
    values = np.empty_like(gram.block(i, i))
    _fill(values, gram.block(i, i), kernel, gram.norms[own], gram.norms[own])
    if kernel.name == "rbf":
        np.fill_diagonal(values, 1.0)
    return values


def _pair_kernel(
    gram: Gram, kernel: Kernel, pair: tuple[int, int], diagonals: Sequence[np.ndarray], buffer: np.ndarray
) -> np.ndarray:
    """Return the kernel values of the images of two classes (n, n), float64, written into `buffer`."""
    first, second = (slice(gram.ends[end], gram.ends[end + 1]) for end in pair)
    n_first = int(first.stop - first.start)
    size = n_first + int(second.stop - second.start)
    values = buffer[: size * size].reshape(size, size)
    values[:n_first, :n_first], values[n_first:, n_first:] = (diagonals[end] for end in pair)
    _fill(values[:n_first, n_first:], gram.block(*pair), kernel, gram.norms[first], gram.norms[second])
    values[n_first:, :n_first] = values[:n_first, n_first:].T
    return values


def kernel_matrix(gram: Gram, kernel: Kernel, rows: np.ndarray) -> np.ndarray:
    """Return the kernel values of some training images with each other (n_rows, n_rows), float64.

    Args:
        rows: their places among the images as they were given.
    """
    values = gram.matrix(rows).astype(np.float64)
    norms = np.empty(len(gram.order))
    norms[gram.order] = gram.norms
    _fill(values, values, kernel, norms[rows], norms[rows])
    if kernel.name == "rbf":
        np.fill_diagonal(values, 1.0)
    return values


def _fill(values: np.ndarray, products: np.ndarray, kernel: Kernel, row_norms: np.ndarray, column_norms: np.ndarray) -> None:
    """Write the kernel values of products (n_rows, n_columns) into `values`, on the calling thread alone."""
    import torch

    into, columns = torch.from_numpy(values), torch.from_numpy(column_norms)
    rows = max(1, CHUNK // max(products.shape[1], 1))
    for start in range(0, len(products), rows):
        part = slice(start, start + rows)
        kernel.map_(into[part].copy_(torch.from_numpy(products[part])), torch.from_numpy(row_norms[part]), columns)


def laid_out(ends: np.ndarray, pairs: Sequence[tuple[int, int]], found: Sequence[tuple[np.ndarray, np.ndarray, float]]) -> Solution:
    """Put the machines of all pairs together.

    Args:
        found: per pair the places of its support vectors, their coefficients, and the intercept; above 0 means the first class.
    """
    alphas = np.zeros((int(ends[-1]), len(pairs)))
    for column, (places, coefficients, _) in enumerate(found):
        alphas[places, column] = coefficients
    offset = np.array([intercept for _, _, intercept in found])
    support = np.flatnonzero(alphas.any(axis=1))
    bounds = np.searchsorted(support, ends)
    alphas = alphas[support]
    dual_coef = np.zeros((len(ends) - 2, len(support)))
    for column, (i, j) in enumerate(pairs):
        first, second = slice(bounds[i], bounds[i + 1]), slice(bounds[j], bounds[j + 1])
        dual_coef[j - 1, first] = alphas[first, column]
        dual_coef[i, second] = alphas[second, column]
    sign = -1.0 if len(pairs) == 1 else 1.0
    return Solution(support, np.diff(bounds), sign * dual_coef, sign * offset, alphas, offset)


def training_decisions(gram: Gram, kernel: Kernel, solution: Solution) -> np.ndarray:
    """Return the decisions (n_train, n_pairs) of the training images, in the order in which they were given."""
    result = np.empty((len(gram.order), len(solution.offset)))
    bounds = np.searchsorted(solution.support, gram.ends)
    for i in range(len(gram.classes)):
        own = slice(gram.ends[i], gram.ends[i + 1])
        decisions = np.tile(solution.offset, (own.stop - own.start, 1))
        for j in range(len(gram.classes)):
            part = slice(bounds[j], bounds[j + 1])
            inside, chosen = (
                solution.support[part] - gram.ends[j],
                (gram.norms[solution.support[part]], solution.coefficients[part]),
            )
            add = _add_by_columns if i < j else _add_by_rows  # as the block lies in memory
            add(decisions, gram.block(min(i, j), max(i, j)), inside, gram.norms[own], *chosen, kernel)
        result[gram.order[own]] = decisions
    return result


def evaluated_decisions(gram: Gram, kernel: Kernel, solution: Solution) -> np.ndarray:
    """Return the decisions (n_evaluated, n_pairs) of the evaluated images."""
    decisions = np.tile(solution.offset, (len(gram.evaluated_norms), 1))
    norms = gram.norms[solution.support]
    _add_by_rows(decisions, gram.evaluated(), solution.support, gram.evaluated_norms, norms, solution.coefficients, kernel)
    return decisions


def _add_by_rows(
    decisions: np.ndarray,
    products: np.ndarray,
    support: np.ndarray,
    norms: np.ndarray,
    support_norms: np.ndarray,
    coefficients: np.ndarray,
    kernel: Kernel,
) -> None:
    """Add to decisions (n_deciding, n_pairs) what support vectors say, in float64.

    Args:
        products: of training images with the deciding ones (n_some, n_deciding); `support` are the rows of the support vectors.
        norms: of the deciding images (n_deciding,).
        coefficients: of the support vectors (n_support, n_pairs).
    """
    import torch

    sums, columns = torch.from_numpy(decisions), torch.from_numpy(norms)
    size = max(1, BLOCK_BYTES // (8 * max(products.shape[1], 1)))
    for start in range(0, len(support), size):
        some = slice(start, start + size)
        values = torch.from_numpy(products[support[some]]).double()
        kernel.map_(values, torch.from_numpy(support_norms[some]), columns)
        sums.addmm_(values.T, torch.from_numpy(coefficients[some]))


def _add_by_columns(
    decisions: np.ndarray,
    products: np.ndarray,
    support: np.ndarray,
    norms: np.ndarray,
    support_norms: np.ndarray,
    coefficients: np.ndarray,
    kernel: Kernel,
) -> None:
    """Do what `_add_by_rows` does with products of the deciding images with training images (n_deciding, n_some)."""
    import torch

    sums, rows = torch.from_numpy(decisions), torch.from_numpy(norms)
    columns, weights = torch.from_numpy(support_norms), torch.from_numpy(coefficients)
    size = max(1, BLOCK_BYTES // (8 * max(len(support), 1)))
    for start in range(0, len(products), size):
        some = slice(start, start + size)
        values = torch.from_numpy(np.take(products[some], support, axis=1)).double()
        sums[some].addmm_(kernel.map_(values, rows[some], columns), weights)


def threads() -> int:
    """Return how many problems are solved at once: as many as torch has threads."""
    import torch

    return torch.get_num_threads()
