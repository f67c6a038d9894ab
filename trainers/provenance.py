"""Where a run came from: git commit, package versions, device, fingerprints of the data parts."""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers import MODELS

if TYPE_CHECKING:
    from trainers.data import Data

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "scikit-learn", "numpy", "optuna", "wandb", "pandas")


@functools.cache
def git_commit() -> str | None:
    """Return the project's commit, with `+changes` where the tree differs from it; None outside a git checkout."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def written_by_us(config: Mapping[str, Any]) -> bool:
    """Whether a trainer of ours wrote a run, by the run's config: other programs may well have a `classifier`, too."""
    origin = config.get("provenance")
    return config.get("classifier") in MODELS and isinstance(origin, Mapping) and "fingerprints" in origin


def provenance(data: Data, device: str) -> dict[str, Any]:
    """Return what a run's config carries under `provenance`."""
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
    }
