"""Where the data of a run came from, beside commit, versions and device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paretune.core.provenance import git_commit, versions
from paretune.data.dataset import Data


def provenance(data: Data, device: str, program: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what a run's config carries under `provenance`.

    Args:
        program: file and SHA-256 of a program that does not come with the package.
    """
    sizes = {"n_train": len(data.train), "n_test": len(data.test)}
    if data.holdout is not None:
        sizes["n_holdout"] = len(data.holdout)
    return {
        "commit": git_commit(),
        "versions": versions(),
        "device": device,
        "fingerprints": dict(data.fingerprints),
        "class_names": list(data.class_names),
        **sizes,
        **({} if program is None else {"program": dict(program)}),
    }
