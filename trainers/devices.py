"""Pick the device that trains and predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.errors import UsageError

if TYPE_CHECKING:
    import torch


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
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or mps and on this machine. Got {name!r} ({reason}).") from None
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
