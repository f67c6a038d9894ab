"""Limits for fitting many libsvm problems: cache size and number of threads."""

from __future__ import annotations

CACHE_MEGABYTES = 200  # of libsvm's rows, a problem


def threads() -> int:
    """Return how many problems are solved at once: as many as torch has threads."""
    import torch

    return torch.get_num_threads()
