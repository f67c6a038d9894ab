"""How libsvm is run on many problems: its cache, and how many are solved at once."""

from __future__ import annotations

CACHE_MEGABYTES = 200  # of libsvm's rows, a problem


def threads() -> int:
    """Return how many problems are solved at once: as many as torch has threads."""
    import torch

    return torch.get_num_threads()
