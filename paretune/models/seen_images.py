"""Which images a saved model has been trained on, so that none of them is taken for one that it never saw.

The model's own data are read again and compared with what its config.json recorded of them; where that is not possible, what it
has seen is unknown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.core.errors import UsageError
from paretune.core.progress import print_once
from paretune.core.shared_arrays import kept
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.models.saved_models import describe

if TYPE_CHECKING:
    import torch

    from paretune.data.dataset import Data


def check_unseen(model: str, data: Data, *, parts: Iterable[str] = ("test", "holdout"), what: str = "start_from") -> None:
    """Refuse data whose locked images a saved model was trained on; say so of held-out ones, and where it is unknown.

    Args:
        what: what reads the model, at the start of the sentence.

    Raises:
        UsageError: that says how many of the locked images it was.
    """
    seen = _seen_images(str(Path(model).resolve()), _written(model), data.input_shape)
    if seen is None:
        print_once(f"{what}: which images {model} was trained on is unknown: it may have seen those that {data.name} sets apart")
        return
    for part in parts:
        samples = getattr(data, part)
        count = 0 if samples is None else kept(f"seen {part}", seen, samples.x, functools.partial(_count, samples.x, seen))
        if count and part == "test":
            raise UsageError(
                f"{what}: {model} must not have seen the locked test images. It was trained on {count} of the {len(samples)} of "
                f"{data.name}: take a model that was trained on the same split, or train it anew."
            )
        if count:
            print_once(
                f"{what}: {model} was trained on {count} of the {len(samples)} held-out images of {data.name}: "
                "scores on the hold-out are too good to choose by"
            )


def check_same_part(model: str, data: Data, part: str) -> None:
    """Refuse a part of a saved model's own data that is not the one that was set apart when it was trained.

    Raises:
        UsageError: that names the part.
    """
    known = describe(model).get("provenance", {}).get("fingerprints", {}).get(part)
    if known is not None and known != data.fingerprints.get(part):
        raise UsageError(
            f"{model}: the {part} part of {data.name} must be the one that was set apart when the model was trained. Files have "
            "changed since, and it may have been trained on images of today's: restore the files, or train the model anew."
        )


def _written(model: str) -> int:
    """Return when a model was written, by which a newer one in its folder is another."""
    try:
        return (Path(model) / "config.json").stat().st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=8)  # the trials of a sweep start from one model
def _seen_images(model: str, written: int, shape: tuple[int, int, int]) -> frozenset[int] | None:
    """Return the hashes of the images, in the form of `shape`, that a model or one that it started from was trained on."""
    description = describe(model)
    options, start = description.get("data_options"), description.get("config", {}).get("start_from")
    recorded = description.get("provenance", {}).get("fingerprints", {}).get("train")
    if options is None or recorded is None:
        return None
    try:
        options = DataOptions.from_dict(options)
        data = load_data(options)
        if data.fingerprints["train"] != recorded:
            return None
        if options.data.startswith("folder:") and data.input_shape[1:] != shape[1:]:  # the same pictures in another size
            data = load_data(options.replace(image_size=shape[1]))
    except (UsageError, OSError):
        return None
    seen = frozenset(_hashes(data.train.x))
    if start in (None, "imagenet"):
        return seen
    try:
        earlier = _seen_images(str(Path(start).resolve()), _written(start), shape)
    except UsageError:  # it is there no more
        return None
    return None if earlier is None else seen | earlier


def _count(x: torch.Tensor, seen: frozenset[int]) -> int:
    return sum(key in seen for key in _hashes(x))


def _hashes(x: Any) -> list[int]:
    return [hash(row.tobytes()) for row in x.numpy(force=True)]
