"""Arrays that the processes of one machine share: one of them writes a file, all map it into memory.

The pages of a mapped file are in memory once, whoever reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.core.locks import locked

if TYPE_CHECKING:
    import torch


UNUSED_SECONDS = 24 * 3600.0  # after which a file goes
OURS = re.compile(r"(images|products)-[0-9a-f-]{16,}\.(npy|lock|[0-9a-f-]+\.partial)")  # the names of all that is written here
Form = tuple[tuple[int, ...], np.dtype[Any]]
IMAGES_FROM = 16 * 2**20  # bytes of images that are worth a file


def from_file(
    path: Path, compute: Callable[[], np.ndarray], n_bytes: int, form: Form | None = None, *, others: int | None = None
) -> np.ndarray:
    """Return the numbers of a file, mapped into memory; the first process to come writes it while the others wait.

    Where it cannot be written, or would leave the disk less free than it takes, each process has its own in memory. A file that is
    damaged, or holds other numbers than are wanted, is written anew. Files like it that nobody has used for a day are removed.

    Args:
        n_bytes: what the numbers take.
        form: their shape and type.
        others: how many files like it may stay besides, the newest; None for all. Who maps one that is removed keeps it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            _remove_partial(path)
            _remove_unused(path, others)
            found = _read(path, n_bytes, form)
            if found is not None:
                with contextlib.suppress(PermissionError):  # another person's
                    os.utime(path)
                return found
            if shutil.disk_usage(path.parent).free > 2 * n_bytes:
                numbers = compute()
                found = _read(path, n_bytes, form) if _write(path, numbers) else None
                return numbers if found is None else found
    except OSError:
        pass
    return compute()


def _read(path: Path, n_bytes: int, form: Form | None) -> np.ndarray | None:
    """Return the numbers of a file, None where there is none; one that does not hold what is wanted is removed."""
    if not path.exists():
        return None
    with contextlib.suppress(Exception):  # a damaged head raises errors of many kinds
        # private: the pages are shared until somebody writes, which nobody does
        found = np.lib.format.open_memmap(path, mode="c")
        whole = found.nbytes == n_bytes and path.stat().st_size == found.offset + n_bytes
        if whole and (form is None or (found.shape, found.dtype) == form):
            return found
    path.unlink()
    return None


def _write(path: Path, numbers: np.ndarray) -> bool:
    """Write a file whole or not at all; return whether it is there."""
    partial = path.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}.partial")  # the lock may go with the folder, and come anew
    try:
        with partial.open("wb") as file:
            np.save(file, numbers)
            file.flush()
            os.fsync(file.fileno())  # else the name may outlive a power cut and the numbers not
        partial.replace(path)
    except OSError:
        return False
    else:
        return True
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def cache_folder() -> Path | None:
    """Return the person's own folder for what processes of one sweep share that know no other folder, as under an agent.

    None for a person without a home. What is in it that nobody has used for a day is removed.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paretune"
    except RuntimeError:  # as in a container under a user of a number alone
        return None
    for kind in ("products", "images"):
        _remove_unused(folder / f"{kind}-.npy", None)
    return folder


def derived(x: torch.Tensor, key: Any, make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return what `make` makes of images, of the same shape and type: where they are mapped from a file, from one beside it."""
    path = _paths().get(x)
    return make() if path is None else mapped(path.with_name(f"{path.stem}-{digest(repr(key))}.npy"), x, make)


def kept(what: str, key: Any, x: torch.Tensor, make: Callable[[], Any]) -> Any:
    """Return what `make` makes of images `x`; the latest one of a kind is kept as long as the images are in memory.

    The models of a sweep share their data, and normalising 60,000 images, or copying them to a GPU, takes as long as an epoch of a
    small network.
    """
    from torch.utils.weak import WeakTensorKeyDictionary

    global _KEPT
    if _KEPT is None:
        _KEPT = WeakTensorKeyDictionary()
    values = _KEPT.setdefault(x, {})
    if what not in values or values[what][0] != key:
        values[what] = (key, make())
    return values[what][1]


_KEPT: Any = None  # a dictionary with weak keys, made once torch is there


def mapped(path: Path, like: torch.Tensor, make: Callable[[], torch.Tensor]) -> torch.Tensor:
    import torch

    form = (tuple(like.shape), like.numpy().dtype)
    found = torch.from_numpy(from_file(path, lambda: make().numpy(), like.nbytes, form))
    _paths()[found] = path
    return found


def _paths() -> Any:
    """Return which tensors are mapped from which files; a tensor that is gone is in it no more."""
    from torch.utils.weak import WeakTensorKeyDictionary

    global _PATHS
    if _PATHS is None:
        _PATHS = WeakTensorKeyDictionary()
    return _PATHS


_PATHS: Any = None  # a dictionary with weak keys, made once torch is there


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _remove_partial(path: Path) -> None:
    """Remove what writers that have died left of a file whose lock is held, and of files like it whose lock nobody holds."""
    kind, _, _ = path.name.partition("-")
    for partial in _ours(path.parent, f"{kind}-*.partial"):
        stem, _, _ = partial.name.partition(".")
        with contextlib.suppress(OSError):
            if stem == path.stem:
                partial.unlink()
            else:
                with locked(path.with_name(f"{stem}.lock"), wait=False):
                    partial.unlink()


def remove_shared(folder: Path) -> None:
    """Remove the files that processes share in a folder, and the folder itself where nothing else is in it."""
    for path in _ours(folder, "*"):
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):  # it is not there, or somebody keeps other files in it
        folder.rmdir()


def _ours(folder: Path, pattern: str) -> list[Path]:
    return [path for path in folder.glob(pattern) if OURS.fullmatch(path.name)]


def _remove_unused(path: Path, others: int | None) -> None:
    """Remove the files like this one that nobody has used for a day, and all but the newest `others`."""
    kind, _, _ = path.name.partition("-")
    used: dict[Path, float] = {}
    for other in _ours(path.parent, f"{kind}-*"):
        with contextlib.suppress(OSError):
            used[other] = other.stat().st_mtime
    unused = {other for other, when in used.items() if time.time() - when > UNUSED_SECONDS}
    if others is not None:
        numbers = [other for other in used if other.suffix == path.suffix and other != path]
        unused |= set(sorted(numbers, key=used.__getitem__, reverse=True)[others:])
    for other in unused - {path}:
        with contextlib.suppress(OSError):
            other.unlink()
