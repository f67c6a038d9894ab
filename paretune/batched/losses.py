"""The losses of dense networks written out: their gradients by the outputs, and the metrics of an epoch and of an evaluation.

Everything lies samples last, for K networks at once: outputs (K, width, n). Sums stay on the device; the host reads them once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from paretune.core.metrics import count_values
from paretune.models.device_metrics import DeviceMetrics

if TYPE_CHECKING:
    from paretune.batched.networks import Room

COUNTED_TOGETHER = 50_000_000  # outputs that a GPU scores at once; on the CPU one model's, which stay in its cache


class CrossEntropy:
    """Softmax and cross-entropy, with class weights and label smoothing, as torch.nn.functional.cross_entropy defines them.

    Args:
        weight: of each class (n_classes,), or None.
        smoothing: share of each label that is spread over all classes.
    """

    def __init__(self, n_classes: int, weight: torch.Tensor | None, smoothing: float) -> None:
        self.n_classes, self.weight, self.smoothing = n_classes, weight, smoothing
        self._outputs: dict[tuple[int, int], torch.Tensor] = {}

    def steps(self, room: Room, labels: torch.Tensor) -> list[Any]:
        """Return what each step of equal size needs; `labels` are (n_steps, 1 or K, n) of the epoch's order."""
        count, _, n = labels.shape
        if (count, n) not in self._outputs:
            self._outputs[count, n] = room.ones.new_empty(count, room.k, self.n_classes, n)
        outputs = self._outputs[count, n]
        goals = torch.zeros(*labels.shape[:2], self.n_classes, n, device=labels.device)
        kept = 1 - self.smoothing
        each = None if self.weight is None else self.weight[labels].unsqueeze(2)  # (n_steps, 1 or K, 1, n)
        goals.scatter_(2, labels.unsqueeze(2), kept if each is None else kept * each)
        if self.smoothing:
            share = self.smoothing / self.n_classes
            goals += share if self.weight is None else share * self.weight.view(-1, 1)
        totals: Sequence[Any] = [None] * count
        if self.weight is not None:
            assert each is not None
            goals /= each.sum(dim=3, keepdim=True)
            totals = goals.sum(dim=2, keepdim=True).unbind()
        seen = outputs.flatten(1, 2) if room.layers[-1].flat else outputs
        return list(zip(seen.unbind(), outputs.unbind(), goals.unbind(), totals, strict=True))

    def gradient(self, room: Room, step: Any) -> None:
        """Go forward, keep the outputs, and leave the gradient in the last layer's `d`."""
        seen, outputs, goals, totals = step
        room.forward(seen)
        d = room.layers[-1].d
        torch.softmax(outputs, 1, out=d)
        if totals is None:
            d.sub_(goals).div_(room.n)
        else:
            d.mul_(totals).sub_(goals)

    def trained(self, k: int, labels: Iterable[torch.Tensor]) -> DeviceMetrics:
        """Return the K models' training metrics; `labels` are as `steps` got them, of the full batches and of the last one."""
        parts = list(labels)
        n_samples = sum(part.shape[0] * part.shape[2] for part in parts)
        at_once = 1 if parts[0].device.type == "cpu" else max(COUNTED_TOGETHER // (n_samples * self.n_classes), 1)
        losses, confusions = [], []
        for start in range(0, k, at_once):
            models = slice(start, min(start + at_once, k))
            loss: Any = 0
            confusion: Any = 0
            for part in parts:
                outputs = self._outputs[part.shape[0], part.shape[2]][:, models]  # (n_steps, models, n_classes, n)
                true = part[:, models if part.shape[1] > 1 else slice(None)].expand(-1, outputs.shape[1], -1)
                loss = loss + self._batch_losses(outputs, true).sum(dim=0) * part.shape[2]
                confusion = confusion + self._counted(outputs, true)
            losses.append(loss / n_samples)
            confusions.append(confusion)
        return DeviceMetrics("train", torch.cat(losses)[:, None], [n_samples], torch.cat(confusions))

    def _batch_losses(self, outputs: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of each batch (…); outputs are (…, n_classes, n), classes (…, n)."""
        logs = outputs.log_softmax(dim=-2)
        own = logs.gather(-2, true.unsqueeze(-2)).squeeze(-2)
        if self.weight is None:
            loss = -own.mean(dim=-1) * (1 - self.smoothing)
            return loss - self.smoothing * logs.mean(dim=(-2, -1)) if self.smoothing else loss
        each = self.weight[true]
        loss = -(own * each).sum(dim=-1) * (1 - self.smoothing)
        if self.smoothing:
            loss = loss - self.smoothing / self.n_classes * (logs * self.weight.view(-1, 1)).sum(dim=(-2, -1))
        return loss / each.sum(dim=-1)

    def _counted(self, outputs: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """Count (K, n_classes, n_classes) of what was read as what; outputs are (…, K, n_classes, n), classes of any (…, K, n)."""
        k, n_cells = outputs.shape[-3], self.n_classes**2
        pairs = first_largest(outputs).add_(true * self.n_classes)
        if k > 1:
            pairs.add_(torch.arange(k, device=pairs.device).view(-1, 1) * n_cells)
        return count_values(pairs, k * n_cells).view(k, self.n_classes, self.n_classes)

    def evaluated(self, parts: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> DeviceMetrics:
        """Return the K models' metrics; `parts` are outputs (K, n_classes, n), images and labels (n,).

        Without class weights and smoothing, so that configurations can be compared by it.
        """
        loss: Any = 0
        confusions: Any = 0
        n_samples = 0
        for outputs, _, true in parts:
            picked = outputs.log_softmax(dim=1).gather(1, true.expand(len(outputs), 1, len(true)))
            loss = loss - picked.sum(dim=(1, 2))
            confusions = confusions + self._counted(outputs, true)
            n_samples += len(true)
        return DeviceMetrics("test", (loss / n_samples)[:, None], [n_samples], confusions)


class SquaredError:
    """The mean squared error between the outputs and the images themselves."""

    def __init__(self) -> None:
        self._losses: list[tuple[int, torch.Tensor]] = []  # of an epoch's steps: batch size, sums (K,)

    def steps(self, room: Room, labels: torch.Tensor) -> list[Any]:
        """Return what each step of equal size needs: nothing."""
        return [None] * len(labels)

    def gradient(self, room: Room, step: Any) -> None:
        """Go forward, keep the loss, and leave the gradient in the last layer's `d`."""
        end = room.layers[-1]
        room.forward(None)
        images = room.layers[0].inputs.contiguous()  # (in, n), or (K, in, n): laid out as the outputs are, once for all networks
        torch.sub(end.a, images, out=end.d)
        self._losses.append((room.n, torch.linalg.vector_norm(end.d.flatten(1), dim=1).square_().div_(end.d[0].numel())))
        end.d.mul_(2 / end.d[0].numel())
        if end.backward is not None:
            end.backward(end.d, end.z, end.a)

    def trained(self, k: int, labels: Iterable[torch.Tensor]) -> DeviceMetrics:
        """Return the K models' training metrics."""
        metrics = DeviceMetrics("train", torch.stack([loss for _, loss in self._losses], dim=1), [n for n, _ in self._losses])
        self._losses.clear()
        return metrics

    def evaluated(self, parts: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> DeviceMetrics:
        """Return the K models' metrics; `parts` are outputs (K, n_pixels, n), images (n, n_pixels) and labels."""
        total: Any = 0
        n_numbers = 0
        for outputs, images, _ in parts:
            total = total + (outputs - images.t().contiguous()).square_().sum(dim=(1, 2))
            n_numbers += images.numel()
        return DeviceMetrics("test", (total / n_numbers)[:, None], [1])


def first_largest(outputs: torch.Tensor) -> torch.Tensor:
    """Return argmax over the last axis but one (…, n_classes, n) of few classes, over which argmax itself is slow."""
    parts = outputs.unbind(-2)
    best, place = parts[0].clone(), torch.zeros(parts[0].shape, dtype=torch.int64, device=outputs.device)
    for number, part in enumerate(parts[1:], start=1):
        place.masked_fill_(part > best, number)
        torch.maximum(best, part, out=best)
    return place
