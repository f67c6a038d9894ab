"""Read image sets as arrays: scikit-learn's digits, torchvision's idx files and CIFAR-10, and folders of pictures.

Source of the idx layout: http://yann.lecun.com/exdb/mnist (magic number, one big-endian size per axis, then bytes).
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np

from paretune.core.errors import UsageError, did_you_mean, first_line
from paretune.core.progress import print_once
from paretune.data.images import Images
from paretune.data.picture_folders import LabelledPictures, read_folder, read_parts

DIGITS = [str(digit) for digit in range(10)]
GARMENTS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SETS = {"digits": None, "mnist": ("MNIST", DIGITS), "fashion_mnist": ("FashionMNIST", GARMENTS), "cifar10": None}
FOLDER_IMAGE_SIZE = 32


def read_images(name: str, root: Path, *, image_size: int | None = None) -> Images:
    """Read the set `name` from below `root`, downloading it through torchvision where it is missing.

    Raises:
        UsageError: if the set is unknown, or absent and not to be had.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return Images(DIGITS, digits.images[:, None].astype(np.uint8), digits.target, maximum=16)
    if name == "cifar10":
        return _cifar10(root)
    if name.startswith("folder:"):
        if not name.removeprefix("folder:"):
            raise UsageError("data folder: must name a folder, as in folder:PATH, with one sub-folder of pictures per class.")
        return _folder_set(Path(os.path.expanduser(name.removeprefix("folder:"))), image_size or FOLDER_IMAGE_SIZE, root / ".cache")
    known = SETS.get(name)
    if known is None:
        near = did_you_mean(name, SETS) or f"; there are {', '.join(SETS)} and folder:PATH."
        raise UsageError(f"data {name!r} is not a set{near}")
    folder, class_names = root / known[0] / "raw", known[1]
    if not _idx(folder / "t10k-labels-idx1-ubyte").exists():
        _download(known[0], root, f"{folder}/train-images-idx3-ubyte and its three companions")
    return Images(class_names, *_read_part(folder, "train"), *_read_part(folder, "t10k"))


def _folder_set(folder: Path, size: int, cache: Path) -> Images:
    pictures = read_parts(folder, size, cache=cache)
    _print_classes(f"folder:{folder}", pictures)
    x, y = pictures.parts["train"]
    test_x, test_y = pictures.parts.get("test", (None, None))
    holdout_x, holdout_y = pictures.parts.get("val", (None, None))
    return Images(pictures.class_names, x, y, test_x, test_y, holdout_x=holdout_x, holdout_y=holdout_y, files=pictures.files)


def _print_classes(name: str, pictures: LabelledPictures) -> None:
    """Say which folders were taken for classes, and how many pictures each part has; standard output is for results."""
    counts = ", ".join(f"{len(y):,} in {part}" for part, (_, y) in pictures.parts.items())
    n_classes, names = len(pictures.class_names), ", ".join(pictures.class_names)
    print_once(f"{name}: {n_classes} classes ({names}); pictures: {counts if len(pictures.parts) > 1 else len(pictures.files)}")


def _idx(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if packed.exists() and not path.exists() else path


def _read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n_samples, 1, height, width) and labels (n_samples,) of the `train` or `t10k` part."""
    x, y = _read_idx(folder / f"{part}-images-idx3-ubyte"), _read_idx(folder / f"{part}-labels-idx1-ubyte")
    if len(x) != len(y):
        raise UsageError(f"{folder}: {part} has {len(x):,} images and {len(y):,} labels; remove the folder to fetch it anew.")
    return x[:, None], y


def _read_idx(path: Path) -> np.ndarray:
    found = _idx(path)
    try:
        raw = gzip.decompress(found.read_bytes()) if found.suffix == ".gz" else found.read_bytes()
    except (OSError, EOFError, zlib.error) as error:  # the last two: a packed file that was cut
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise UsageError(f"{path} cannot be read ({reason}); remove its folder and start again to fetch it anew.") from None
    n_axes = raw[3] if len(raw) > 4 else 0
    shape: np.ndarray | list[int] = np.frombuffer(raw, dtype=">i4", count=n_axes, offset=4) if len(raw) >= 4 + 4 * n_axes else []
    if raw[:3] != b"\x00\x00\x08" or len(raw) != 4 + 4 * n_axes + int(np.prod(shape)):
        raise UsageError(f"{found} is not a whole idx file of bytes; remove it and start again to fetch it anew.")
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def _cifar10(root: Path) -> Images:
    """Read `cifar10/{train,test}/CLASS/*.png` where it is there, else torchvision's own files."""
    folder = root / "cifar10"
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        class_names, x, y = read_folder(folder / "train", None, cache=root / ".cache")
        test_names, test_x, test_y = read_folder(folder / "test", None, cache=root / ".cache")
        if test_names != class_names:
            raise UsageError(f"{folder}/train and {folder}/test must hold the same classes.")
        return Images(class_names, x, y, test_x, test_y)
    if not (root / "cifar-10-batches-py").is_dir():
        _download("CIFAR10", root, f"{folder}/train/CLASS/*.png and {folder}/test/CLASS/*.png")
    from torchvision import datasets

    parts = [datasets.CIFAR10(root, train=train) for train in (True, False)]
    arrays = [(part.data.transpose(0, 3, 1, 2).copy(), np.array(part.targets, dtype=np.int64)) for part in parts]
    return Images(CIFAR10, *arrays[0], *arrays[1])


def _download(name: str, root: Path, wanted: str) -> None:
    """Fetch a set through torchvision, or say in one sentence what to do without a network."""
    import contextlib
    import io
    import socket

    from torchvision import datasets

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            getattr(datasets, name)(root, download=True)
    except (OSError, RuntimeError) as error:
        reason = first_line(error)
        for folder in (root / name / "raw", root / name):  # torchvision makes them first
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing is in it
        raise UsageError(
            f"{name} is not under {root} and could not be downloaded ({reason}); put {wanted} in place, "
            "or set DATA_ROOT to the folder that holds the set."
        ) from None
    finally:
        socket.setdefaulttimeout(before)
