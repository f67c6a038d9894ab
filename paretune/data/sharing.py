"""Shares the images of a data set between processes through memory-mapped files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from paretune.core.shared_arrays import IMAGES_FROM, digest, mapped
from paretune.data.dataset import Data
from paretune.data.images import Samples


def share_images(data: Data, folder: Path) -> Data:
    """Return the same data with its images mapped from files in a folder; few images stay as they are."""

    def shared(part: str) -> Samples | None:
        samples: Samples | None = getattr(data, part)
        if samples is None or samples.x.nbytes < IMAGES_FROM:
            return samples
        key = repr((data.fingerprints[part], tuple(samples.x.shape)))
        return Samples(mapped(folder / f"images-{digest(key)}.npy", samples.x, lambda: samples.x), samples.y)

    parts: dict[str, Any] = {part: shared(part) for part in ("train", "holdout", "test")}
    evaluated = next((parts[part] for part in parts if getattr(data, part) is data.evaluated), None)
    return replace(data, **parts, evaluated=None if data.evaluated is None else evaluated, cache=folder)
