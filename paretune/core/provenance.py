"""Where a run came from: git commit, package versions, device, fingerprints of the data parts."""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from paretune.core.folders import ROOT

SCHEMA = 1  # of what a run of ours says of itself; under "provenance" in its config
PACKAGES = ("torch", "scikit-learn", "numpy", "optuna", "wandb", "pandas")


@dataclass(frozen=True)
class Source:
    """The program that a model's class is from."""

    file: str
    sha256: str

    def to_dict(self) -> dict[str, str]:
        """Return what a run's config and a saved model keep of it."""
        return {"file": self.file, "sha256": self.sha256}


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
    """Whether a trainer of ours wrote a run, by the run's config: other programs may well have a `classifier`, too.

    Runs from before there was a schema are known by the fingerprints of their data.
    """
    origin = config.get("provenance")
    return "classifier" in config and isinstance(origin, Mapping) and ("schema" in origin or "fingerprints" in origin)
