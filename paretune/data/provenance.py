"""The provenance of a run: commit, versions, device, data fingerprints and split sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paretune.core.provenance import SCHEMA, Source, git_commit, versions
from paretune.data.dataset import Data


def provenance(data: Data, device: str, source: Source | None = None, inactive: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what a run's config carries under `provenance`.

    Args:
        source: of a model that does not come with the package.
        inactive: the run's inactive parameters, so that whoever reads the run knows them without the model's code.
    """
    sizes = {"n_train": len(data.train), "n_test": len(data.test)}
    if data.holdout is not None:
        sizes["n_holdout"] = len(data.holdout)
    return {
        "schema": SCHEMA,
        "commit": git_commit(),
        "versions": versions(),
        "device": device,
        "fingerprints": dict(data.fingerprints),
        "class_names": list(data.class_names),
        **sizes,
        **({} if source is None else {"program": source.to_dict()}),
        **({} if inactive is None else {"inactive": list(inactive)}),
    }
