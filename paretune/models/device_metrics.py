"""Metrics of an epoch while they are on the device, the one transfer by which the host reads them, and the device's clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.core.metrics import named, scores

if TYPE_CHECKING:
    import torch

    from paretune.data.dataset import Data


@dataclass(frozen=True)
class DeviceMetrics:
    """Losses and counts of K models on one part of the data.

    Args:
        part: `train` or `test`, as `paretune.core.metrics.named` takes it.
        losses: mean losses of batches (K, n_batches).
        sizes: images of each batch (n_batches,), by which their losses are averaged.
        confusion: counts (K, n_classes, n_classes), rows are true classes; None of models that do not classify.
    """

    part: str
    losses: torch.Tensor
    sizes: Sequence[int]
    confusion: torch.Tensor | None = None


def read_metrics(parts: Sequence[DeviceMetrics], data: Data) -> list[dict[str, float]]:
    """Return each model's metrics by their logged names; the host waits for the device once."""
    wanted = [tensor for part in parts for tensor in (part.losses, part.confusion) if tensor is not None]
    arrays = iter(to_host(wanted))
    rows: list[dict[str, float]] = [{} for _ in range(len(parts[0].losses))]
    for part in parts:
        means = np.average(next(arrays), axis=1, weights=part.sizes)
        confusions = [None] * len(rows) if part.confusion is None else next(arrays)
        for row, loss, confusion in zip(rows, means, confusions, strict=True):
            found = {} if confusion is None else scores(confusion, data.average, data.positive)
            row.update(named({"loss": float(loss), **found}, part.part))
    return rows


def to_host(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """Return tensors of one device as arrays: they are joined as bytes, so that the host waits for one copy."""
    if tensors[0].device.type == "cpu":
        return [tensor.numpy(force=True) for tensor in tensors]
    import torch

    raw = torch.cat([tensor.detach().contiguous().flatten().view(torch.uint8) for tensor in tensors]).cpu()
    parts = raw.split([tensor.numel() * tensor.element_size() for tensor in tensors])
    return [part.clone().view(tensor.dtype).view(tensor.shape).numpy() for part, tensor in zip(parts, tensors, strict=True)]


class Stopwatch:
    """Measures seconds of work on a device, from its making to `stop`.

    On CUDA the times are recorded by the device, which works after the host: `seconds` may be read once the host has waited for
    something that came after `stop`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._start: Any = self._now()
        self._stop: Any = None

    def _now(self) -> Any:
        import torch

        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            return event
        if self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    def stop(self) -> None:
        """Take the time at which the work given to the device so far is done."""
        self._stop = self._now()

    @property
    def seconds(self) -> float:
        """Seconds between the start and `stop`."""
        if self.device.type == "cuda":
            return float(self._start.elapsed_time(self._stop)) / 1000
        return float(self._stop - self._start)
