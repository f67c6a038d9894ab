"""What makes convolutional nets fast on the CPU: kept memory, dropout from random bits, one thread for small steps."""

from __future__ import annotations

import ctypes
import functools

import numpy as np
import torch
from torch import nn

EVALUATED = 256  # images at once outside training: the feature maps of more do not stay in the cache
SMALL_STEP = 100_000_000  # multiply-adds forward in one batch, below which one core is the fastest (docs/decisions.md)
DROPPED_FROM = 16_384  # numbers of a layer from which torch's own dropout is the slower one
LEVELS = 2**16  # steps of a rate of dropout
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # glibc's names for them in malloc.h
MAPPED_FROM = 128 * 2**20  # bytes; such pieces of memory are given back when freed, as always
OLD_MAPPED_FROM = 32 * 2**20  # the most that glibc before 2.35 takes
KEPT = 2**30  # bytes of freed memory that a process keeps at most


def convolves(net: nn.Module) -> bool:
    """Whether a network has two-dimensional convolutions."""
    return any(isinstance(layer, nn.Conv2d) for layer in net.modules())


def multiply_adds(net: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the multiply-adds of an image's way through a network's convolutions and dense layers; it is left in evaluation."""
    total = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(layer.weight, torch.Tensor)
        total += output.numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(count) for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        net.eval()(torch.zeros(1, *input_shape, device=next(net.parameters()).device))
    for hook in hooks:
        hook.remove()
    return total


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep the memory of feature maps from step to step, where its C library is glibc.

    Otherwise glibc gives large pieces back to the system as soon as they are freed, and the system clears each page anew for the
    next step: a quarter of the time of the simple CNN in fp32 (measured). What is larger than MAPPED_FROM is given back as before.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return
    if not mallopt(MMAP_THRESHOLD, MAPPED_FROM):
        mallopt(MMAP_THRESHOLD, OLD_MAPPED_FROM)  # else the next call would leave it at 128 KB
    mallopt(TRIM_THRESHOLD, KEPT)


class Dropout(nn.Dropout):
    """torch's dropout; on the CPU its masks are made of 16 random bits a number, ten times as fast as torch draws them.

    The rate is rounded to a multiple of 1/65536. torch's random state says the mask, as it does in torch's own.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` (any shape) with numbers set to 0 at the rate `p`, the others times 1 / (1 - p); in evaluation `x` itself."""
        if not self.training or not 0 < self.p < 1 or x.device.type != "cpu" or x.numel() < DROPPED_FROM:
            return super().forward(x)
        seed = int(torch.randint(2**63 - 1, ()))
        bits = np.random.SFC64(seed).random_raw(-(-x.numel() // 4)).view(np.uint16)[: x.numel()]
        mask = torch.empty_like(x, requires_grad=False)
        if not mask.is_contiguous() and not mask.is_contiguous(memory_format=torch.channels_last):
            mask = torch.empty(x.shape, dtype=x.dtype)
        kept = torch.from_numpy(bits >= round(self.p * LEVELS))
        mask.as_strided(kept.shape, (1,)).copy_(kept).mul_(1 / (1 - self.p))
        return x * mask
