"""Classifiers trained by mini-batch gradient descent: what `softmax` and `ann` add to the shared loop.

Losses against labels, pixels normalised by the training images, augmentation, scores from the outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from paretune.core.config import ActiveWhen
from paretune.core.errors import UsageError
from paretune.core.metrics import confusion_matrix
from paretune.core.shared_arrays import derived, kept
from paretune.models.contract import Classifier, ClassifierConfig
from paretune.models.device_metrics import DeviceMetrics, to_host
from paretune.networks.loop import GradientConfig, GradientModel

if TYPE_CHECKING:
    import torch
    from torch import nn

    from paretune.batched.losses import CrossEntropy
    from paretune.data.dataset import Data
    from paretune.data.images import Samples
    from paretune.models.device_metrics import DeviceMetrics


class GradientClassifierConfig(GradientConfig, ClassifierConfig):
    """What every classifier trained by gradient descent takes."""

    loss: Literal["cross_entropy", "mse", "multi_margin"] = Field(
        "cross_entropy", description="mse compares the probabilities with one-hot labels; multi_margin is the hinge loss"
    )
    label_smoothing: Annotated[float, ActiveWhen(lambda config: config.loss != "multi_margin")] = Field(
        0.0, ge=0, lt=1, description="share of each label spread over all classes (not multi_margin)"
    )
    normalize: Literal["standard", "half", "none", "imagenet"] = Field(
        "standard",
        description="pixels by the training set's mean and deviation per channel, by (x - 0.5) / 0.5, as they are, "
        "or by ImageNet's mean and deviation",
    )


class GradientClassifier(GradientModel, Classifier):
    """A network of one output per class; a subclass says which network."""

    Config = GradientClassifierConfig
    SCORED = True
    _weight: torch.Tensor | None = None

    def check(self, data: Data) -> None:
        super().check(data)
        if self.config.label_smoothing > 0 and self.config.loss == "multi_margin":
            raise UsageError("label_smoothing does not apply to loss=multi_margin: set it to 0.")

    def _learn_inputs(self, data: Data) -> None:
        import torch

        x = data.train.x

        def normalization() -> tuple[torch.Tensor, torch.Tensor, tuple[float, ...]]:
            tensors = self._normalization(x)
            return *tensors, tuple(float(value) for array in to_host(tensors) for value in array.flat)

        self._shift, self._spread, self._inputs_key = kept("normalization", self.config.normalize, x, normalization)
        weights = self.class_weights(data)
        self._weight = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=self.device)
        self._changes = self._augmentation()

    def inputs(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.sub(x, self._shift).div_(self._spread)

    def training_inputs(self, x: torch.Tensor) -> torch.Tensor:
        return x if self._changes else self.whole_inputs(x)  # images are changed as they are, anew in each epoch

    def whole_inputs(self, x: torch.Tensor) -> torch.Tensor:
        if not self.keeps("inputs"):
            return self.inputs(x)
        key = self._inputs_key
        return kept("inputs", key, x, lambda: derived(x, key, lambda: self.inputs(x)))

    def changed(self, images: torch.Tensor) -> torch.Tensor:
        if not self._changes:
            return images
        from paretune.data.augmentation import augment

        return self.inputs(augment(images, **self._changes))

    def written_loss(self) -> CrossEntropy | None:
        from paretune.batched.losses import CrossEntropy

        if self.config.loss != "cross_entropy" or getattr(self.config, "augment", False):
            return None
        return CrossEntropy(len(self.class_names), self._weight, self.config.label_smoothing)

    def loss(self, outputs: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        config = self.config
        return loss_of(config.loss, outputs, labels, weight=self._weight, smoothing=config.label_smoothing)

    def train_counts(self, labels: torch.Tensor, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        return confusion_matrix(labels, torch.cat(list(outputs)).argmax(dim=1), len(self.class_names))

    def evaluated_epoch(self, samples: Samples) -> DeviceMetrics:
        logits = self.outputs(samples.x, prepared=True)
        counts = confusion_matrix(samples.y, logits.argmax(dim=1), len(self.class_names))
        return DeviceMetrics("test", loss_of(self.config.loss, logits, samples.y).view(1, 1), [len(samples)], counts[None])

    def predict_with_loss(self, x: Any, y: Any) -> tuple[np.ndarray, float | None]:
        import torch

        logits = self.outputs(self._on_device(x))
        return logits.argmax(dim=1).cpu().numpy(), float(loss_of(self.config.loss, logits, torch.as_tensor(y).to(self.device)))

    def predict_proba(self, x: Any) -> np.ndarray:
        return self.outputs(self._on_device(x)).double().softmax(dim=1).cpu().numpy()

    def predict_with_proba(self, x: Any) -> tuple[np.ndarray, np.ndarray | None]:
        probabilities = self.predict_proba(x)
        return probabilities.argmax(axis=1), probabilities

    def predict(self, x: Any) -> np.ndarray:
        return self.outputs(self._on_device(x)).argmax(dim=1).cpu().numpy()

    def inference_module(self) -> nn.Module:
        from paretune.networks.builder import Inference

        assert self._net is not None, "fit or load a model before it is exported"
        return Inference(copy.deepcopy(self._net).cpu(), self._shift.cpu(), self._spread.cpu())

    def state(self) -> dict[str, np.ndarray]:
        arrays = {"normalize.shift": self._shift, "normalize.spread": self._spread}
        return {**super().state(), **{name: value.cpu().numpy() for name, value in arrays.items()}}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        import torch

        rest = dict(state)
        arrays = [torch.as_tensor(np.array(rest.pop(f"normalize.{name}"))) for name in ("shift", "spread")]
        self._shift, self._spread = (array.to(self.device) for array in arrays)
        super().load_state(rest)

    def _augmentation(self) -> dict[str, Any]:
        if not getattr(self.config, "augment", False):
            return {}
        return {name: getattr(self.config, name) for name in ("translate", "scale", "rotate", "flip", "crop")}

    def _normalization(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return shift and spread (1, channels, 1, 1) of the training images."""
        import torch

        shape = (1, x.shape[1], 1, 1)
        if self.config.normalize == "standard":
            shift = x.mean(dim=(0, 2, 3)).reshape(shape)
            return shift, x.std(dim=(0, 2, 3)).clamp_min(1e-6).reshape(shape)
        if self.config.normalize == "imagenet":
            from paretune.networks.backbone import DEVIATION, MEAN

            known = torch.tensor([MEAN, DEVIATION], device=x.device)
            if x.shape[1] == 1:
                known = known.mean(dim=1, keepdim=True)  # of grey images
            return known[0].reshape(shape), known[1].reshape(shape)
        value = 0.5 if self.config.normalize == "half" else None
        if value is None:
            return torch.zeros(shape, device=x.device), torch.ones(shape, device=x.device)
        return torch.full(shape, value, device=x.device), torch.full(shape, value, device=x.device)


def loss_of(
    name: str, logits: torch.Tensor, y: torch.Tensor, *, weight: torch.Tensor | None = None, smoothing: float = 0.0
) -> torch.Tensor:
    """Return the mean loss of logits (n_samples, n_classes) against labels (n_samples,).

    `test_loss` is computed without class weights and smoothing, so that configurations can be compared by it.
    """
    from torch.nn import functional

    if name == "cross_entropy":
        return functional.cross_entropy(logits, y, weight=weight, label_smoothing=smoothing)
    if name == "multi_margin":
        return functional.multi_margin_loss(logits, y, weight=weight)
    n_classes = logits.shape[1]
    wanted = functional.one_hot(y, n_classes).to(logits.dtype) * (1 - smoothing) + smoothing / n_classes
    errors = (logits.softmax(dim=1) - wanted).square().mean(dim=1)
    return errors.mean() if weight is None else (errors * weight[y]).sum() / weight[y].sum()
