"""Inner products of the training images with each other and with the evaluated images, which every trial needs.

All kernels are maps of them (kernels.py). They are laid out by class, one block per pair of classes, as one-against-one
problems read them, so that half of the symmetric matrix is all that is kept: about n² / 2 numbers of n training images, and n
per evaluated image. They are computed once, in float64 for up to 20,000 training images, which gives the very machine that libsvm
finds, and in float32 for more. Where other processes will want the same, one of them writes the file and all map it into memory.

The products of more than 20,000 images of 8-bit pixels, which nothing has scaled or projected, are not kept on processors that
multiply bytes (`paretune.kernel_svm.int8_products`): there computing them again takes less time than laying out the memory.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from paretune.core.memory import available_memory
from paretune.core.shared_arrays import from_file
from paretune.kernel_svm.int8_products import ROWS, Pixels, pixels_of
from paretune.kernel_svm.libsvm import CACHE_MEGABYTES, threads

if TYPE_CHECKING:
    import torch

    from paretune.data.dataset import Data

    Some = Callable[[slice], torch.Tensor]  # rows of products (n_some, n_columns), in new memory

FROM = 4e8  # n_train² * n_features from which a fit on products is the faster one: 715 images of 784 pixels (measured)
DOUBLE_TO = 20_000  # training images whose products are float64
FILE_FROM = 64 * 2**20  # bytes; fewer are computed sooner than another process's are waited for
OTHER_FILES = 2  # of other preparations or images, each as large
SHARE = 0.75  # of the memory available, at most
KEPT = 2  # preparations whose products a process keeps where memory allows: sweeps search `scaling`, of two values
CALIBRATION_MEGABYTES = 1000  # of libsvm's rows, where probabilities are calibrated
STORED_ROWS = 4_096  # training images whose products with the evaluated ones are computed at a time


@dataclass(frozen=True)
class Prepared:
    """Images as the kernel sees them.

    Args:
        train: rows of the training images (n_train, n_features), float64; as float32 where nothing is prepared.
        evaluated: rows of the images that are scored besides, or None.
        learnt: what the preparation has learnt from the training images.
    """

    train: np.ndarray
    evaluated: np.ndarray | None
    learnt: Mapping[str, np.ndarray]


class Chosen(NamedTuple):
    """Products of images with chosen training images.

    Args:
        part: gives some rows of them (n_some, n_chosen).
        by_support: `part` gives the products of some of the chosen (n_some, n_images) instead.
    """

    part: Some
    by_support: bool = False


@dataclass
class Gram(ABC):
    """The products of one set of images, with the training images sorted by class.

    Args:
        order: the place of each sorted training image among the given ones (n_train,).
        classes: the classes that are there (n_present,).
        ends: where each class begins among the sorted images, and the end (n_present + 1,).
    """

    least_rows: ClassVar[int]  # whose products are worth asking for

    images: Prepared
    order: np.ndarray
    classes: np.ndarray
    ends: np.ndarray
    source: tuple[torch.Tensor | None, ...]  # whose products these are: training images, their classes, evaluated images
    norms: np.ndarray = field(init=False)  # squared, float64 (n_train,), sorted
    evaluated_norms: np.ndarray = field(init=False)
    variance: float = field(init=False)  # of all numbers of the training images

    def __post_init__(self) -> None:
        train = self.images.train
        self.norms, self.variance = _squared_norms(train)[self.order], float(train.var())
        self.evaluated_norms = np.zeros(0) if self.images.evaluated is None else _squared_norms(self.images.evaluated)

    @property
    def largest_norm(self) -> float:
        """The largest squared norm of an image."""
        return float(max(self.norms.max(), self.evaluated_norms.max(initial=0.0)))

    @property
    @abstractmethod
    def precision(self) -> np.dtype[Any]:
        """The type of the products."""

    @abstractmethod
    def between(self, i: int, j: int) -> Some:
        """Return what gives the products of some training images of the i-th class that is there with all of the j-th."""

    @abstractmethod
    def with_support(self, i: int, j: int, places: np.ndarray) -> Chosen:
        """Return the products of the i-th class's images with chosen ones, at `places` of all sorted images, of the j-th."""

    @abstractmethod
    def evaluated_with(self, places: np.ndarray) -> Chosen:
        """Return the products of the evaluated images with the sorted training images at `places`."""

    @abstractmethod
    def matrix(self, rows: np.ndarray) -> np.ndarray:
        """Return the products of some training images with each other (n_rows, n_rows); `rows` are places among the given ones."""

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """Return where training images, named by their places among the given ones, are among the sorted ones."""
        places = np.empty(len(self.order), dtype=np.int64)
        places[self.order] = np.arange(len(self.order))
        return places[rows]


@dataclass
class StoredGram(Gram):
    """Products in memory, or in a file that all processes map into theirs.

    Args:
        flat: the blocks one after the other, then the training with the evaluated images.
    """

    least_rows: ClassVar[int] = 1

    flat: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        self._starts = block_starts(self.ends)

    @property
    def precision(self) -> np.dtype[Any]:
        return self.flat.dtype

    def block(self, i: int, j: int) -> np.ndarray:
        """Return the products of the training images of the i-th class that is there with those of the j-th."""
        if i > j:
            return self.block(j, i).T
        rows, columns = self.ends[i + 1] - self.ends[i], self.ends[j + 1] - self.ends[j]
        start = self._starts[i, j]
        return self.flat[start : start + rows * columns].reshape(rows, columns)

    def evaluated(self) -> np.ndarray:
        """Return the products of the sorted training with the evaluated images (n_train, n_evaluated)."""
        return self.flat[self._starts[-1, -1] :].reshape(len(self.order), -1)

    def between(self, i: int, j: int) -> Some:
        import torch

        block = torch.from_numpy(self.block(i, j))
        return lambda some: block[some].clone()

    def with_support(self, i: int, j: int, places: np.ndarray) -> Chosen:
        return _chosen(self.block(i, j), places - self.ends[j])

    def evaluated_with(self, places: np.ndarray) -> Chosen:
        return _chosen(self.evaluated().T, places)

    def matrix(self, rows: np.ndarray) -> np.ndarray:
        places = self._places(rows)
        kinds = np.searchsorted(self.ends, places, side="right") - 1
        result = np.empty((len(rows), len(rows)), dtype=self.flat.dtype)
        for i in np.unique(kinds):
            for j in np.unique(kinds):
                of_i, of_j = np.flatnonzero(kinds == i), np.flatnonzero(kinds == j)
                block = self.block(i, j)[np.ix_(places[of_i] - self.ends[i], places[of_j] - self.ends[j])]
                result[np.ix_(of_i, of_j)] = block
        return result


@dataclass
class PixelGram(Gram):
    """Products of 8-bit pictures, computed whenever they are asked for: for many images that is sooner than memory is laid out.

    Args:
        train: the sorted training images.
        others: the evaluated images.
    """

    least_rows: ClassVar[int] = ROWS

    train: Pixels
    others: Pixels | None

    def __post_init__(self) -> None:
        self.norms, self.variance = self.train.squared_norms.numpy(), self.train.variance()
        self.evaluated_norms = np.zeros(0) if self.others is None else self.others.squared_norms.numpy()

    @property
    def precision(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def between(self, i: int, j: int) -> Some:
        own, other = (self.train[self.ends[end] : self.ends[end + 1]] for end in (i, j))
        return lambda some: own[some].times(other)

    def with_support(self, i: int, j: int, places: np.ndarray) -> Chosen:
        import torch

        own, support = self.train[self.ends[i] : self.ends[i + 1]], self.train[torch.from_numpy(places)]
        return Chosen(lambda some: own[some].times(support))

    def evaluated_with(self, places: np.ndarray) -> Chosen:
        import torch

        others, support = self.others, self.train[torch.from_numpy(places)]
        assert others is not None
        return Chosen(lambda some: others[some].times(support))

    def matrix(self, rows: np.ndarray) -> np.ndarray:
        import torch

        chosen = self.train[torch.from_numpy(self._places(rows))]
        return np.concatenate([some.times(chosen).numpy() for some in chosen.split(ROWS)])


def _chosen(products: np.ndarray, places: np.ndarray) -> Chosen:
    """Return the columns at `places` of products (n_rows, n_columns), which lie in memory by rows or by columns."""
    import torch

    if products.flags.c_contiguous:  # of take's modes "clip" alone needs no second copy
        return Chosen(lambda some: torch.from_numpy(products[some].take(places, axis=1, mode="clip")))
    by_column, chosen = torch.from_numpy(products.T), torch.from_numpy(places)
    return Chosen(lambda some: by_column.index_select(0, chosen[some]), by_support=True)


def gram_of(
    data: Data,
    name: str,
    prepare: Callable[[], Prepared],
    device: torch.device,
    *,
    as_they_are: bool = False,
    n_calibrated: int = 0,
) -> Gram | None:
    """Return the products of `data` as one preparation makes them: those of an earlier trial, of another process, or new ones.

    None where the ordinary way is the better one: few images, one class alone, or products that would take more than three
    quarters of the memory available.

    Args:
        name: what the preparation is, for the same data.
        device: computes them; they are kept in main memory.
        as_they_are: whether the preparation leaves the pixels as they are.
        n_calibrated: training images whose kernel values probabilities are calibrated on.
    """
    import torch

    y = data.train.y.numpy(force=True)
    n_evaluated = 0 if data.evaluated is None else len(data.evaluated)
    classes, counts = np.unique(y, return_counts=True)
    if len(y) ** 2 * data.train.x[0].numel() < FROM or len(classes) < 2:
        return None
    source = (data.train.x, data.train.y, None if data.evaluated is None else data.evaluated.x)
    kept, n_bytes = data.kept.get(name), products_bytes(counts, n_evaluated)
    working = memory_needed(counts, n_evaluated, n_calibrated) - n_bytes
    if isinstance(kept, Gram) and all(own is other for own, other in zip(kept.source, source, strict=True)):
        data.kept[name] = data.kept.pop(name)  # the latest
        return kept if _has_room(data, working, least=1) else None
    data.kept.pop(name, None)
    while len(data.kept) >= KEPT:
        del data.kept[next(iter(data.kept))]
    del kept
    order, ends = np.argsort(y, kind="stable"), np.concatenate([[0], np.cumsum(counts)])
    pixels = _pixels(data, order) if as_they_are and len(y) > DOUBLE_TO and device.type == "cpu" else None
    if not _has_room(data, working if pixels is not None else working + n_bytes, least=0):
        return None
    if pixels is not None:
        evaluated = None if data.evaluated is None else data.evaluated.x.flatten(1).numpy()
        images = Prepared(data.train.x.flatten(1).numpy(), evaluated, {})
        data.kept[name] = PixelGram(images, order, classes, ends, source, *pixels)
        return data.kept[name]
    images = prepare()

    def compute() -> np.ndarray:
        where = device if device.type == "cuda" else torch.device("cpu")  # mps has no float64
        return products(images.train[order], images.evaluated, ends, where)

    dtype = np.dtype(np.float64 if len(y) <= DOUBLE_TO else np.float32)
    form = ((n_bytes // dtype.itemsize,), dtype)
    shared = data.cache is not None and n_bytes >= FILE_FROM and bool(data.fingerprints)
    flat = from_file(_file(data, name), compute, n_bytes, form, others=OTHER_FILES) if shared else compute()
    data.kept[name] = StoredGram(images, order, classes, ends, source, flat)
    return data.kept[name]


def _pixels(data: Data, order: np.ndarray) -> tuple[Pixels, Pixels | None] | None:
    """Return the sorted training images and the evaluated ones as bytes, None where they cannot be that."""
    import torch

    train, others = pixels_of(data.train.x), None if data.evaluated is None else pixels_of(data.evaluated.x)
    if train is None or (data.evaluated is not None and others is None):
        return None
    return train[torch.from_numpy(order)], others


def _has_room(data: Data, needed: int, *, least: int) -> bool:
    """Return whether so many bytes are there, after removing products of other preparations, the oldest first, until they are."""
    while needed > SHARE * available_memory():
        if len(data.kept) <= least:
            return False
        del data.kept[next(iter(data.kept))]
    return True


def products(train: np.ndarray, evaluated: np.ndarray | None, ends: np.ndarray, device: torch.device) -> np.ndarray:
    """Return what a Gram keeps of sorted training images (n_train, n_features) and evaluated ones (n_evaluated, n_features)."""
    import torch

    precision = torch.float64 if len(train) <= DOUBLE_TO else torch.float32
    x = torch.as_tensor(train, dtype=precision, device=device)
    n_evaluated = 0 if evaluated is None else len(evaluated)
    starts = block_starts(ends)
    flat = torch.empty(int(starts[-1, -1]) + n_evaluated * len(x), dtype=precision)
    parts = [x[ends[i] : ends[i + 1]] for i in range(len(ends) - 1)]
    for i, first in enumerate(parts):
        for j, second in enumerate(parts[i:], start=i):
            _multiply(first, second, flat[starts[i, j] :])
    if evaluated is not None:
        second = torch.as_tensor(evaluated, dtype=precision, device=device)
        for start in range(0, len(x), STORED_ROWS):
            _multiply(x[start : start + STORED_ROWS], second, flat[starts[-1, -1] + start * n_evaluated :])
    return flat.numpy()


def _multiply(first: torch.Tensor, second: torch.Tensor, place: torch.Tensor) -> None:
    import torch

    result = place[: len(first) * len(second)].view(len(first), len(second))
    if first.device == result.device:
        torch.mm(first, second.T, out=result)
    else:
        result.copy_(first @ second.T)


def block_starts(ends: np.ndarray) -> np.ndarray:
    """Return where each block of classes i <= j begins (n_present + 1, n_present + 1); the last entry is the end of them all."""
    counts = np.diff(ends)
    starts, at = np.zeros((len(ends), len(ends)), dtype=np.int64), 0
    for i in range(len(counts)):
        for j in range(i, len(counts)):
            starts[i, j] = at
            at += int(counts[i]) * int(counts[j])
    starts[-1, -1] = at
    return starts


def products_bytes(counts: np.ndarray, n_evaluated: int) -> int:
    """Return how many bytes the products of classes of these sizes take."""
    n_train, squares = int(counts.sum()), int(np.square(counts.astype(np.int64)).sum())
    return (8 if n_train <= DOUBLE_TO else 4) * ((n_train**2 + squares) // 2 + n_evaluated * n_train)


def memory_needed(counts: np.ndarray, n_evaluated: int, n_calibrated: int = 0) -> int:
    """Return the bytes of the products and of what is in work at once.

    That is first the float64 problems with the solver's caches, then, for probabilities, the float64 kernel values of the images to
    calibrate on, a copy of them or of the part that a fold trains on, and one more cache.
    """
    largest = int(np.sort(counts)[-2:].sum())
    n_pairs = len(counts) * (len(counts) - 1) // 2
    cache = min(CACHE_MEGABYTES * 2**20, 4 * largest**2)
    mapped = (8 if counts.sum() <= DOUBLE_TO else 4) * int(np.square(counts.astype(np.int64)).sum())
    solving = mapped + min(threads(), n_pairs) * (8 * largest**2 + cache)
    calibrating = 2 * 8 * n_calibrated**2 + min(CALIBRATION_MEGABYTES * 2**20, 4 * n_calibrated**2)
    return products_bytes(counts, n_evaluated) + max(solving, calibrating)


def _file(data: Data, name: str) -> Path:
    """Return the file of these products: another one for other images, labels, order or preparation."""
    assert data.cache is not None
    evaluated = data.fingerprints.get("holdout" if data.evaluated is data.holdout else "test") if data.evaluated else None
    key = repr((data.fingerprints["train"], evaluated, data.input_shape, name))
    return data.cache / f"products-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"


def _squared_norms(x: np.ndarray) -> np.ndarray:
    """Return the squared norms of rows (n_rows,), summed in float64."""
    return np.einsum("ij,ij->i", x, x, dtype=np.float64)
