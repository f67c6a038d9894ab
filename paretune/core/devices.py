"""Pick the device that trains and predicts, and the numbers that training calculates with."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from paretune.core.errors import UsageError, did_you_mean, first_line

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "tf32", "bf16")


def pick_device(name: str) -> torch.device:
    """Return the device that `name` means; `auto` is CUDA, then MPS, then CPU.

    Raises:
        UsageError: if the device is not on this machine.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or mps and on this machine. Got {name!r} ({reason}).") from None
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that is none, or that the device does not calculate with.

    Raises:
        UsageError: saying which there are.
    """
    if precision not in PRECISIONS:
        near = did_you_mean(precision, PRECISIONS) or "."
        raise UsageError(f"precision must be one of {', '.join(PRECISIONS)}. Got {precision!r}{near}")
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(f"precision tf32 is of CUDA devices alone. Got the device {device}: use fp32 or bf16.")
    if precision == "bf16" and device.type == "mps":
        raise UsageError("precision bf16 is not tested on mps: use fp32, or --device=cpu.")


@contextlib.contextmanager
def numerics(precision: str, device: torch.device) -> Iterator[Callable[[], contextlib.AbstractContextManager[object]]]:
    """Run a block with a precision of matrix products and convolutions; yields what to run each forward pass under.

    fp32 is IEEE single precision; on CUDA torch itself would take tf32 for convolutions. tf32 rounds the factors to 10
    bits of mantissa (CUDA). bf16 is torch.autocast: weights and their updates stay fp32. The forward pass has a context of
    its own, as autocast keeps its copies of the weights until it ends: over a step they would be old.
    """
    import torch

    if precision == "bf16":
        forward: Callable[[], contextlib.AbstractContextManager[object]]
        forward = functools.partial(torch.autocast, device.type, torch.bfloat16)
    else:
        forward = contextlib.nullcontext
    if device.type != "cuda":
        yield forward
        return
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = products.fp32_precision, convolutions.fp32_precision
    wanted = "tf32" if precision == "tf32" else "ieee"
    products.fp32_precision = convolutions.fp32_precision = wanted
    try:
        yield forward
    finally:
        products.fp32_precision, convolutions.fp32_precision = before
