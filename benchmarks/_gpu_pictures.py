"""The pictures of `make gpu`: MNIST where its files are under DATA_ROOT, else generated ones of the same sizes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from paretune.data.dataset import Data, data_root
from paretune.data.images import Samples

if TYPE_CHECKING:
    from paretune.data.images import Images

N_TRAIN, N_TEST, SIDE, N_CLASSES = 60_000, 10_000, 28, 10
SEED = 20_261_130
STYLES = 12  # ways to write a class
LARGEST_MOVE = 3  # pixels
MIXED = 0.45  # largest share of another picture in one
NOISE = 20.0  # standard deviation, of 255
AT_ONCE = 10_000


def has_mnist() -> bool:
    """Whether the four files of MNIST are there; nothing is downloaded."""
    folder = data_root() / "MNIST" / "raw"
    files = [folder / f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return all(file.exists() or file.with_name(f"{file.name}.gz").exists() for file in files)


def pictures(n_train: int = N_TRAIN, n_test: int = N_TEST, *, evaluated: bool = False) -> Data:
    """Return the first images of each part.

    Args:
        evaluated: whether the test images are scored after every epoch.
    """
    import torch

    train, test = _parts()
    samples = [
        Samples(torch.from_numpy(x[:n].astype(np.float32)).div_(255), torch.from_numpy(y[:n].astype(np.int64)))
        for (x, y), n in ((train, n_train), (test, n_test))
    ]
    names = [str(label) for label in range(N_CLASSES)]
    return Data(
        "mnist" if has_mnist() else "generated", names, samples[0], None, samples[1], "test", samples[1] if evaluated else None
    )


@functools.cache
def _parts() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return images (n_samples, 1, 28, 28) of bytes and labels of both parts."""
    if has_mnist():
        from paretune.data.readers import read_images

        images: Images = read_images("mnist", data_root())
        assert images.test_x is not None
        assert images.test_y is not None
        return (images.x, images.y), (images.test_x, images.test_y)
    x, y = generated(N_TRAIN + N_TEST)
    return (x[:N_TRAIN], y[:N_TRAIN]), (x[N_TRAIN:], y[N_TRAIN:])


def generated(n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures of ten classes, in a few styles each, moved by some pixels, each mixed with another one, under noise.

    Returns:
        images (n_samples, 1, 28, 28) of bytes and their classes (n_samples,).
    """
    random = np.random.default_rng(SEED)
    moved = _moved(_prototypes(random))  # (classes, styles, moves, 784)
    flat = moved.reshape(-1, SIDE * SIDE)
    chosen, others = random.integers(0, len(flat), (2, n_samples))
    shares = random.uniform(0, MIXED, (n_samples, 1)).astype(np.float32)
    x = np.empty((n_samples, SIDE * SIDE), dtype=np.uint8)
    for start in range(0, n_samples, AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        part = (1 - shares[rows]) * flat[chosen[rows]] + shares[rows] * flat[others[rows]]
        part += NOISE * random.standard_normal(part.shape, dtype=np.float32)
        x[rows] = part.clip(0, 255)
    return x.reshape(n_samples, 1, SIDE, SIDE), chosen // (len(flat) // N_CLASSES)


def _prototypes(random: np.random.Generator) -> np.ndarray:
    """Return smooth pictures (classes, styles, 28, 28), 0 to 255, dark at the border as digits are."""
    coarse = random.standard_normal((N_CLASSES, 1, 7, 7)) + 0.7 * random.standard_normal((N_CLASSES, STYLES, 7, 7))
    places = np.linspace(0, 6, SIDE)
    low = np.minimum(places.astype(int), 5)
    share = places - low
    weights = np.zeros((SIDE, 7))
    weights[np.arange(SIDE), low], weights[np.arange(SIDE), low + 1] = 1 - share, share
    smooth = weights @ coarse @ weights.T
    window = np.sin(np.linspace(0, np.pi, SIDE))
    drawn: np.ndarray = 255 * (smooth > 0.3) * np.minimum(1, 2 * np.outer(window, window))
    return drawn.astype(np.float32)


def _moved(prototypes: np.ndarray) -> np.ndarray:
    """Return every prototype moved by up to LARGEST_MOVE pixels: (classes, styles, moves, 784)."""
    steps = range(-LARGEST_MOVE, LARGEST_MOVE + 1)
    copies = [np.roll(prototypes, (down, right), axis=(2, 3)) for down in steps for right in steps]
    return np.stack(copies, axis=2).reshape(*prototypes.shape[:2], len(copies), SIDE * SIDE)
