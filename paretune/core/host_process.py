"""Process-wide settings, made by commands only: importing or using the library changes none."""

from __future__ import annotations

import os

_ours = False


def own_process() -> None:
    """Say that this process is a command's, before torch is imported; a command says so itself."""
    global _ours
    _ours = True
    # waiting OpenMP threads that spin slow small nets tenfold as soon as another process wants a core
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def is_ours() -> bool:
    """Whether this process is a command's, so that its settings may be changed for the sake of speed."""
    return _ours
