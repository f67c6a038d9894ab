"""The losses of dense networks written out: their gradients by the outputs, and the metrics of an epoch and of an evaluation.

Everything lies samples last, for K networks at once: outputs (K, width, n). Sums stay on the device; the host reads them once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainers.metrics import named, scores

if TYPE_CHECKING:
    from trainers.data import Data
    from trainers.dense import Room


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

    def trained(self, k: int, labels: Iterable[torch.Tensor], data: Data) -> list[dict[str, float]]:
        """Return the K models' training metrics; `labels` are as `steps` got them, of the full batches and of the last one."""
        parts = list(labels)
        n_samples = sum(part.shape[0] * part.shape[2] for part in parts)
        losses, confusions = [], []
        for place in range(k):
            loss: Any = 0
            confusion: Any = 0
            for part in parts:
                true = part[:, place if part.shape[1] > 1 else 0]  # (n_steps, n)
                outputs = self._outputs[part.shape[0], part.shape[2]][:, place]  # (n_steps, n_classes, n)
                loss = loss + self._batch_losses(outputs, true).sum() * part.shape[2]
                confusion = confusion + self._counted(outputs, true)
            losses.append(loss / n_samples)
            confusions.append(confusion)
        return self._metrics(torch.stack(losses), torch.stack(confusions), data, "train")

    def _batch_losses(self, outputs: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of each batch (n_steps,)."""
        logs = outputs.log_softmax(dim=1)
        own = logs.gather(1, true.unsqueeze(1)).squeeze(1)
        if self.weight is None:
            loss = -own.mean(dim=1) * (1 - self.smoothing)
            return loss - self.smoothing * logs.mean(dim=(1, 2)) if self.smoothing else loss
        each = self.weight[true]
        loss = -(own * each).sum(dim=1) * (1 - self.smoothing)
        if self.smoothing:
            loss = loss - self.smoothing / self.n_classes * (logs * self.weight.view(-1, 1)).sum(dim=(1, 2))
        return loss / each.sum(dim=1)

    def _counted(self, outputs: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """Count (n_classes * n_classes,) of what was read as what."""
        pairs = true.mul(self.n_classes).add_(first_largest(outputs))
        return pairs.flatten().bincount(minlength=self.n_classes**2)

    def evaluated(self, parts: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], data: Data) -> list[dict[str, float]]:
        """Return the K models' metrics; `parts` are outputs (K, n_classes, n), images and labels (n,).

        Without class weights and smoothing, so that configurations can be compared by it.
        """
        loss: Any = 0
        confusions: Any = 0
        n_samples = 0
        for outputs, _, true in parts:
            k, n = len(outputs), len(true)
            picked = outputs.log_softmax(dim=1).gather(1, true.expand(k, 1, n))
            loss = loss - picked.sum(dim=(1, 2))
            offsets = torch.arange(k, device=true.device).view(-1, 1) * self.n_classes**2
            pairs = first_largest(outputs).add_(true * self.n_classes).add_(offsets)
            confusions = confusions + pairs.flatten().bincount(minlength=k * self.n_classes**2)
            n_samples += n
        return self._metrics(loss / n_samples, confusions.view(len(loss), -1), data, "test")

    def _metrics(self, losses: torch.Tensor, confusions: torch.Tensor, data: Data, part: str) -> list[dict[str, float]]:
        counts = confusions.cpu().numpy().reshape(-1, self.n_classes, self.n_classes)
        rows = zip(losses.tolist(), counts, strict=True)
        return [named({"loss": loss, **scores(confusion, data.average, data.positive)}, part) for loss, confusion in rows]


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

    def trained(self, k: int, labels: Iterable[torch.Tensor], data: Data) -> list[dict[str, float]]:
        """Return the K models' training metrics."""
        losses = torch.stack([loss for _, loss in self._losses]).cpu().numpy()
        means = np.average(losses, axis=0, weights=[n for n, _ in self._losses])
        self._losses.clear()
        return [{"train_loss": float(mean)} for mean in means]

    def evaluated(self, parts: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], data: Data) -> list[dict[str, float]]:
        """Return the K models' metrics; `parts` are outputs (K, n_pixels, n), images (n, n_pixels) and labels."""
        total: Any = 0
        n_numbers = 0
        for outputs, images, _ in parts:
            total = total + (outputs - images.t().contiguous()).square_().sum(dim=(1, 2))
            n_numbers += images.numel()
        return [{"test_loss": loss} for loss in (total / n_numbers).tolist()]


def first_largest(outputs: torch.Tensor) -> torch.Tensor:
    """Return argmax over the second axis (…, n_classes, n) of few classes, over which argmax itself is slow."""
    parts = outputs.unbind(1)
    best, place = parts[0].clone(), torch.zeros(parts[0].shape, dtype=torch.int64, device=outputs.device)
    for number, part in enumerate(parts[1:], start=1):
        place.masked_fill_(part > best, number)
        torch.maximum(best, part, out=best)
    return place
