"""Folders of pictures as labelled sets: one sub-folder per class, or train, val and test (torchvision's ImageFolder) of such.

Hidden files and folders, and those that operating systems add, are never read. `paretune.data.pictures` reads the pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paretune.core.errors import UsageError
from paretune.data.pictures import SUFFIXES, read_pictures

READER = 2  # counted up when a picture's pixels change, so that arrays cached by an older version are not used
FOREIGN = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}  # systems put them beside pictures
PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
Part = tuple[np.ndarray, np.ndarray]  # images (n_samples, channels, height, width) uint8, labels (n_samples,) int64


@dataclass(frozen=True)
class LabelledPictures:
    """The class names of a folder, its parts (`train`, and where there are such `val` and `test`), and their files in order."""

    class_names: list[str]
    parts: dict[str, Part]
    files: list[str]


def read_folder(folder: Path, size: int | None, *, cache: Path | None = None) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read a folder that holds one sub-folder of pictures per class.

    Grey where every picture is grey, else colour; each is resized to `size` by `size` pixels. The decoded arrays are
    kept under `cache`, keyed by every file's path, size and time, so that a second start reads one file.

    Returns:
        class names, images (n_samples, channels, size, size) uint8, labels (n_samples,).
    """
    pictures = _read_parts({"train": folder}, size, cache)
    return pictures.class_names, *pictures.parts["train"]


def read_parts(folder: Path, size: int | None, *, cache: Path | None = None) -> LabelledPictures:
    """Read a folder of either layout: CLASS/*, or train/CLASS/*, val/CLASS/* and test/CLASS/*.

    Raises:
        UsageError: if it is of neither, the classes differ between the parts, or a picture cannot be read.
    """
    return _read_parts(part_folders(folder) or {"train": folder}, size, cache)


def part_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of train, val and test; empty where the sub-folders of `folder` are classes.

    `train` is a part, and no class of that name, where it holds folders and no pictures, and so do the folders beside it
    that are named like a part.

    Raises:
        UsageError: if train is missing, a part is there twice, or another folder of pictures lies beside the parts.
    """
    if not folder.is_dir():
        return {}
    named: dict[str, Path] = {}
    entries = sub_folders(folder)
    for entry in entries:
        part = PART_NAMES.get(entry.name.lower())
        if part is None or not sub_folders(entry) or _pictures_in(entry):
            continue
        if part in named:
            raise UsageError(f"folder:{folder} must hold one {part} part. Got {named[part].name} and {entry.name}: remove one.")
        named[part] = entry
    others = [entry for entry in entries if entry not in named.values()]
    loose = [entry for entry in others if entry.name.lower() in PART_NAMES]
    classes = [entry for entry in others if entry not in loose and pictures_below(entry)]
    if not named or (len(named) == 1 and classes and not loose):
        return {}  # a class named train beside other classes
    held = " and ".join(entry.name for entry in named.values())
    if loose:
        raise UsageError(f"{loose[0]} must hold one sub-folder of pictures per class, as {held}: sort its pictures, or remove it.")
    if classes:
        raise UsageError(f"folder:{folder} must hold parts or classes. Got {held}, and {classes[0].name} beside: move it away.")
    if "train" not in named:
        raise UsageError(f"folder:{folder} holds {held}, but no train: add {folder}/train.")
    return {part: named[part] for part in ("train", "val", "test") if part in named}


def pictures_below(folder: Path) -> list[Path]:
    """Return every picture file below a folder, in a fixed order.

    Raises:
        UsageError: if a folder cannot be listed.
    """
    pictures: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not _is_foreign(name)]
        pictures += [Path(parent, name) for name in files if _is_picture(Path(parent, name))]
    return sorted(pictures)


def sub_folders(folder: Path) -> list[Path]:
    """Return the folders directly in a folder, but for hidden and foreign ones, in order."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _is_foreign(entry.name))
    except OSError as error:
        _refuse(error)
        raise


def _pictures_in(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if _is_picture(entry)]


def _is_foreign(name: str) -> bool:
    return name.startswith(".") or name.lower() in FOREIGN


def _is_picture(path: Path) -> bool:
    """Tell whether a file is to be read: also a link to nothing, which is then reported as unreadable."""
    if path.suffix.lower() not in SUFFIXES or _is_foreign(path.name):
        return False
    return path.is_file() or (path.is_symlink() and not path.exists())


def _refuse(error: OSError) -> None:
    raise UsageError(f"{error.filename} cannot be listed ({error.strerror}): grant the right to read it, or remove it.") from None


def _read_parts(folders: Mapping[str, Path], size: int | None, cache: Path | None) -> LabelledPictures:
    files: dict[str, list[Path]] = {}
    labels: dict[str, list[int]] = {}
    class_names: list[str] = []
    for part, folder in folders.items():
        names, files[part], labels[part] = _listed(folder)
        class_names = class_names or names
        differing = sorted(set(names) ^ set(class_names))
        if differing:
            raise UsageError(
                f"{folders['train']} and {folder} must hold the same classes. Got {', '.join(differing)} in one of them alone: add "
                "or remove sub-folders."
            )
    every = [path for part in folders for path in files[part]]
    x = _read_cached(folders, every, size, cache)
    ends = np.cumsum([len(files[part]) for part in folders])[:-1]
    images = dict(zip(folders, np.split(x, ends), strict=True))
    parts = {part: (images[part], np.array(labels[part], dtype=np.int64)) for part in folders}
    return LabelledPictures(class_names, parts, [str(path) for path in every])


def _listed(folder: Path) -> tuple[list[str], list[Path], list[int]]:
    """Return the classes of a folder, its pictures, and the class index of each."""
    if not folder.is_dir():
        raise UsageError(f"folder:{folder} must be a folder with one sub-folder per class; there is no such folder.")
    classes = [entry.name for entry in sub_folders(folder)]
    files = [(path, label) for label, name in enumerate(classes) for path in pictures_below(folder / name)]
    empty = [name for label, name in enumerate(classes) if all(label != of for _, of in files)]
    if len(classes) < 2:
        raise UsageError(f"folder:{folder} must hold at least two sub-folders, one per class. Got {len(classes)}.")
    if empty:
        raise UsageError(f"folder:{folder}/{empty[0]} holds no picture ({', '.join(sorted(SUFFIXES))}): add some or remove it.")
    return classes, [path for path, _ in files], [label for _, label in files]


def _read_cached(folders: Mapping[str, Path], files: list[Path], size: int | None, cache: Path | None) -> np.ndarray:
    if cache is None:
        return read_pictures(files, size)
    key = hashlib.sha256(repr((READER, [str(folder.resolve()) for folder in folders.values()], size)).encode())
    for path in files:
        status = path.stat() if path.exists() else path.lstat()
        key.update(repr((str(path), status.st_size, status.st_mtime_ns)).encode())
    cached = cache / f"{key.hexdigest()[:24]}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # none yet, or damaged: the pictures are read
        return np.asarray(np.load(cached, allow_pickle=False))
    x = read_pictures(files, size)
    _write_cache(cached, x)
    return x


def _write_cache(path: Path, array: np.ndarray) -> None:
    """Write a cache file whole or not at all; a folder that cannot be written costs only the next start's time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        with open(partial, "wb") as file:
            np.save(file, array, allow_pickle=False)
        partial.replace(path)
    except OSError:
        return
