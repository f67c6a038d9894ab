"""One-against-one machines fitted on products of images (`paretune.kernel_svm.gram`): libsvm on each pair of classes, on all cores.

A pair's problem is a small kernel matrix, mapped from two diagonal blocks and the one between them. libsvm solves each pair
alone anyway, so alphas, support vectors and intercepts are those of scikit-learn's `SVC` on the whole matrix.
Source: libsvm (Chang and Lin 2011), sections 4 and 7.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from paretune.core.step import n_threads
from paretune.kernel_svm.libsvm import CACHE_MEGABYTES, threads

if TYPE_CHECKING:
    import torch

    from paretune.kernel_svm.gram import Chosen, Gram
    from paretune.kernel_svm.kernels import Kernel

CHUNK = 2**15  # kernel values that are mapped at a time: they stay in the core's cache
BLOCK_BYTES = 2**20  # of kernel values with support vectors at a time: they stay there, too


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

    with _side_by_side(len(pairs)) as pool:
        diagonals = list(pool.map(lambda i: _diagonal(gram, kernel, i), range(n_classes)))
        found = list(pool.map(fit, pairs))
    return laid_out(gram.ends, pairs, found)


def _diagonal(gram: Gram, kernel: Kernel, i: int) -> np.ndarray:
    """Return the kernel values of one class's images with each other, in the precision of the products."""
    size = int(gram.ends[i + 1] - gram.ends[i])
    values = np.empty((size, size), dtype=gram.precision)
    _fill(values, gram, kernel, (i, i))
    if kernel.name == "rbf":
        np.fill_diagonal(values, 1.0)
    return values


def _pair_kernel(
    gram: Gram, kernel: Kernel, pair: tuple[int, int], diagonals: Sequence[np.ndarray], buffer: np.ndarray
) -> np.ndarray:
    """Return the kernel values of the images of two classes (n, n), float64, written into `buffer`."""
    n_first, n_second = (int(gram.ends[end + 1] - gram.ends[end]) for end in pair)
    size = n_first + n_second
    values = buffer[: size * size].reshape(size, size)
    values[:n_first, :n_first], values[n_first:, n_first:] = (diagonals[end] for end in pair)
    _fill(values[:n_first, n_first:], gram, kernel, pair)
    values[n_first:, :n_first] = values[:n_first, n_first:].T
    return values


def kernel_matrix(gram: Gram, kernel: Kernel, rows: np.ndarray) -> np.ndarray:
    """Return the kernel values of some training images with each other (n_rows, n_rows), float64.

    Args:
        rows: their places among the images as they were given.
    """
    import torch

    values = gram.matrix(rows).astype(np.float64)
    norms = np.empty(len(gram.order))
    norms[gram.order] = gram.norms
    _mapped(torch.from_numpy(values), kernel, norms[rows], norms[rows])
    if kernel.name == "rbf":
        np.fill_diagonal(values, 1.0)
    return values


def _fill(values: np.ndarray, gram: Gram, kernel: Kernel, pair: tuple[int, int]) -> None:
    """Write the kernel values of the images of two classes into `values` (n_first, n_second), on the calling thread alone."""
    import torch

    into, products = torch.from_numpy(values), gram.between(*pair)
    row_norms, column_norms = (gram.norms[gram.ends[end] : gram.ends[end + 1]] for end in pair)
    for some in _parts(len(values), max(gram.least_rows, CHUNK // max(values.shape[1], 1))):
        into[some].copy_(_mapped(products(some), kernel, row_norms[some], column_norms))


def _mapped(products: torch.Tensor, kernel: Kernel, row_norms: np.ndarray, column_norms: np.ndarray) -> torch.Tensor:
    """Turn products into kernel values in place, in their own precision."""
    import torch

    return kernel.map_(products, *(torch.from_numpy(norms).to(products.dtype) for norms in (row_norms, column_norms)))


def _parts(n_rows: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n_rows, size))


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
    votes = _votes_of(gram, solution)

    def decide(i: int) -> np.ndarray:
        own = slice(gram.ends[i], gram.ends[i + 1])
        decisions = np.tile(solution.offset, (own.stop - own.start, 1))
        for j, vote in enumerate(votes):
            products = gram.with_support(i, j, vote.places)
            decisions[:, vote.columns] += _sums(gram, kernel, vote, products, gram.norms[own])
        return decisions

    result = np.empty((len(gram.order), len(solution.offset)))
    with _side_by_side(len(gram.classes)) as pool:
        for i, decisions in enumerate(pool.map(decide, range(len(gram.classes)))):
            result[gram.order[gram.ends[i] : gram.ends[i + 1]]] = decisions
    return result


def evaluated_decisions(gram: Gram, kernel: Kernel, solution: Solution) -> np.ndarray:
    """Return the decisions (n_evaluated, n_pairs) of the evaluated images."""
    votes = _votes_of(gram, solution)

    def sums(vote: _Votes) -> np.ndarray:
        return _sums(gram, kernel, vote, gram.evaluated_with(vote.places), gram.evaluated_norms)

    decisions = np.tile(solution.offset, (len(gram.evaluated_norms), 1))
    with _side_by_side(len(votes)) as pool:
        for vote, some in zip(votes, pool.map(sums, votes), strict=True):
            decisions[:, vote.columns] += some
    return decisions


@dataclass(frozen=True)
class _Votes:
    """The support vectors of one class, and the pairs of it, in which alone they have a say.

    Args:
        places: among the sorted training images (n_support,).
        columns: the pairs (n_classes - 1,).
        weights: in the decisions of these pairs (n_support, n_classes - 1).
    """

    places: np.ndarray
    columns: np.ndarray
    weights: np.ndarray


def _votes_of(gram: Gram, solution: Solution) -> list[_Votes]:
    bounds, pairs = np.searchsorted(solution.support, gram.ends), np.array(pairs_of(len(gram.classes)))
    votes = []
    for i in range(len(gram.classes)):
        own, columns = slice(bounds[i], bounds[i + 1]), np.flatnonzero((pairs == i).any(axis=1))
        votes.append(_Votes(solution.support[own], columns, solution.coefficients[own][:, columns]))
    return votes


def _sums(gram: Gram, kernel: Kernel, vote: _Votes, products: Chosen, norms: np.ndarray) -> np.ndarray:
    """Return what support vectors of a class add to decisions (n_deciding, n_classes - 1), in float64.

    Args:
        products: of the deciding images with these support vectors.
        norms: of the deciding images (n_deciding,).
    """
    import torch

    support_norms, weights = gram.norms[vote.places], torch.from_numpy(vote.weights)
    rows, columns = (support_norms, norms) if products.by_support else (norms, support_norms)
    shape = (weights.shape[1], len(norms)) if products.by_support else (len(norms), weights.shape[1])
    sums = torch.zeros(shape, dtype=torch.float64)
    for some in _parts(len(rows), max(gram.least_rows, BLOCK_BYTES // (8 * max(len(columns), 1)))):
        values = _mapped(products.part(some), kernel, rows[some], columns).double()
        if products.by_support:
            sums.addmm_(weights[some].T, values)
        else:
            torch.mm(values, weights, out=sums[some])
    return (sums.T if products.by_support else sums).numpy()


@contextlib.contextmanager
def _side_by_side(n_tasks: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool that does tasks on all cores, each on one thread; what waits is dropped at an error."""
    import torch

    count = min(threads(), n_tasks)
    with n_threads(1), ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
