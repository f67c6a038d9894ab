"""Read image sets as arrays: scikit-learn's digits, torchvision's idx files and CIFAR-10, and folders of pictures.

Source of the idx layout: http://yann.lecun.com/exdb/mnist (magic number, one big-endian size per axis, then bytes).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np

from trainers.data import Images
from trainers.errors import UsageError, did_you_mean

DIGITS = [str(digit) for digit in range(10)]
GARMENTS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SETS = {"digits": None, "mnist": ("MNIST", DIGITS), "fashion_mnist": ("FashionMNIST", GARMENTS), "cifar10": None}
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
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
        folder = Path(name.removeprefix("folder:")).expanduser()
        class_names, x, y = read_folder(folder, image_size or FOLDER_IMAGE_SIZE, cache=root / ".cache")
        return Images(class_names, x, y)
    known = SETS.get(name)
    if known is None:
        near = did_you_mean(name, SETS) or f"; there are {', '.join(SETS)} and folder:PATH."
        raise UsageError(f"data {name!r} is not a set{near}")
    folder, class_names = root / known[0] / "raw", known[1]
    if not _idx(folder / "t10k-labels-idx1-ubyte").exists():
        _download(known[0], root, f"{folder}/train-images-idx3-ubyte and its three companions")
    return Images(class_names, *_read_part(folder, "train"), *_read_part(folder, "t10k"))


def read_folder(folder: Path, size: int | None, *, cache: Path | None = None) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read a folder that holds one sub-folder of pictures per class.

    Grey where every picture is grey, else colour; each is resized to `size` by `size` pixels. The decoded arrays are
    kept under `cache`, keyed by every file's path, size and time, so that a second start reads one file.

    Returns:
        class names, images (n_samples, channels, size, size) uint8, labels (n_samples,).
    """
    if not folder.is_dir():
        raise UsageError(f"folder:{folder} must be a folder with one sub-folder per class; there is no such folder.")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [(path, label) for label, name in enumerate(classes) for path in pictures_below(folder / name)]
    empty = [name for label, name in enumerate(classes) if all(label != of for _, of in files)]
    if len(classes) < 2:
        raise UsageError(f"folder:{folder} must hold at least two sub-folders, one per class. Got {len(classes)}.")
    if empty:
        raise UsageError(f"folder:{folder}/{empty[0]} holds no picture ({', '.join(sorted(PICTURES))}): add some or remove it.")
    y = np.array([label for _, label in files], dtype=np.int64)
    key = hashlib.sha256(repr((str(folder.resolve()), size)).encode())
    for path, _ in files:
        status = path.stat()
        key.update(repr((str(path), status.st_size, status.st_mtime_ns)).encode())
    kept = cache / f"{key.hexdigest()[:24]}.npy" if cache is not None else None
    if kept is not None and kept.exists():
        return classes, np.load(kept, allow_pickle=False), y
    x = read_pictures([path for path, _ in files], size)
    if kept is not None:
        _keep(kept, x)
    return classes, x, y


def pictures_below(folder: Path) -> list[Path]:
    """Return every picture file below a folder, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())


def read_pictures(files: list[Path], size: int | tuple[int, int] | None, channels: int | None = None) -> np.ndarray:
    """Decode pictures into (n_samples, channels, height, width) uint8.

    `size` is a side or (width, height) to resize to; None leaves them, and they must be equal. `channels` is 1 or 3;
    None is 1 where every picture is grey.
    """
    from PIL import Image, UnidentifiedImageError

    decoded: list[Image.Image] = []
    for path in files:
        try:
            with Image.open(path) as opened:
                grey = opened.mode in {"1", "L", "LA", "I", "F"} or opened.mode.startswith("I;16")
                deep = opened.mode.startswith("I;16")  # converted, it would be cut at 255
                eight = Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8)) if deep else opened
                picture = eight.convert("L" if grey else "RGB")
                shape = picture.size if size is None else (size, size) if isinstance(size, int) else size
                decoded.append(picture if picture.size == shape else picture.resize(shape, Image.Resampling.BILINEAR))
        except (UnidentifiedImageError, OSError) as error:
            raise UsageError(f"{path} is not a readable picture ({error}); remove it or save it anew.") from None
    if channels is None:
        channels = 1 if all(picture.mode == "L" for picture in decoded) else 3
    mode = "L" if channels == 1 else "RGB"
    arrays = [np.asarray(picture if picture.mode == mode else picture.convert(mode), dtype=np.uint8) for picture in decoded]
    if len({array.shape for array in arrays}) > 1:
        raise UsageError("pictures of different sizes need one size: give image_size.")
    stacked = np.stack(arrays)
    return stacked[:, None] if channels == 1 else np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def _keep(path: Path, array: np.ndarray) -> None:
    """Write a cache file whole or not at all; a folder that cannot be written costs only the next start's time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        with open(partial, "wb") as file:
            np.save(file, array, allow_pickle=False)
        partial.replace(path)
    except OSError:
        return


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
        reason = str(error).splitlines()[0].rstrip(".: ") if str(error) else type(error).__name__
        for folder in (root / name / "raw", root / name):  # torchvision makes them first
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing is in it
        raise UsageError(
            f"{name} is not under {root} and could not be downloaded ({reason}); put {wanted} in place, "
            "or set DATA_ROOT to the folder that holds the set."
        ) from None
    finally:
        socket.setdefaulttimeout(before)
