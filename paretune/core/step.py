"""What surrounds the steps of an epoch: its random numbers, its threads, its progress, the optimizer's step without wrappers."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def watched(steps: Iterable[Any], total: int, watch: Callable[[int, int], None]) -> Iterator[Any]:
    """Yield the steps of an epoch, and tell `watch` how many of how many are done, a hundred times at most."""
    every = max(1, total // 100)
    for done, step in enumerate(steps, start=1):
        yield step
        if done % every == 0 or done == total:
            watch(done, total)


def clipped(step: Callable[[], Any], optimizer: torch.optim.Optimizer, norm: float | None) -> Callable[[], Any]:
    """Return a step of an optimizer before which the gradient is cut to a norm; None does not cut it."""
    if norm is None:
        return step
    from torch.nn.utils import clip_grad_norm_

    def clip_and_step() -> None:
        clip_grad_norm_(optimizer.param_groups[0]["params"], norm)
        step()

    return clip_and_step


def bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    """Return the optimizer's step without torch's wrappers for its profiler and step hooks; call it under no_grad.

    The wrappers take longer than the arithmetic of a small net's step, and the first call of one imports torch's compiler.
    """
    return functools.partial(inspect.unwrap(type(optimizer).step), optimizer)


def step_of(optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    """Return the optimizer's bare step, or its whole one where a schedule watches it; call it under no_grad."""
    return optimizer.step if "step" in vars(optimizer) else bare_step(optimizer)


def seed_of(seed: int, epoch: int) -> int:
    """Return the seed of torch's random numbers in an epoch (0: before the first) of a run of this seed."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


@contextlib.contextmanager
def seeded(device: torch.device, seed: int, epoch: int) -> Iterator[None]:
    """Run a block with torch's random state drawn from (seed, epoch), and put the caller's state back after.

    Seeding each epoch apart makes a run independent of what is trained between its epochs.
    """
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(seed, epoch))
        yield


@contextlib.contextmanager
def n_threads(count: int | None) -> Iterator[None]:
    """Run a block with torch on `count` threads; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    if count is None or count >= before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
