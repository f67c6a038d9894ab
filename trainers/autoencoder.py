"""The autoencoder: a dense network that learns to give its images back through a narrow layer, in PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path

from paretune.models.device_metrics import DeviceMetrics

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `wandb agent` starts this file from any folder

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from paretune.networks.loop import GradientConfig, GradientModel
from paretune.trainers.ann import Activation, Rate, Width

if TYPE_CHECKING:
    import torch
    from torch import nn

    from paretune.batched.losses import SquaredError
    from paretune.data.images import Samples
    from paretune.models.device_metrics import DeviceMetrics


class AutoencoderConfig(GradientConfig):
    """Layers and training of the network."""

    hidden: list[Width] = Field(
        default_factory=lambda: [64], min_length=1, max_length=16, description="widths down to the code; the way back mirrors them"
    )
    activation: Activation = Field("sigmoid", description="behind every hidden layer")
    dropout: Rate = Field(0.0, description="behind the code")


class Autoencoder(GradientModel):
    """A network of `config.hidden`, the same widths back, and a sigmoid per pixel; its loss is the mean squared error."""

    name: ClassVar[str] = "autoencoder"
    Config: ClassVar[type[AutoencoderConfig]] = AutoencoderConfig
    METRICS = ("train_loss", "test_loss", "seconds", "n_parameters")
    BEST_METRIC = "test_loss"

    def network(self) -> nn.Module:
        from paretune.networks.builder import build_autoencoder

        config = self.config
        return build_autoencoder(self.input_shape, config.hidden, activation=config.activation, dropout=config.dropout)

    def written_loss(self) -> SquaredError:
        from paretune.batched.losses import SquaredError

        return SquaredError()

    def loss(self, outputs: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.mse_loss(outputs, images)

    def evaluated_epoch(self, samples: Samples) -> DeviceMetrics:
        return DeviceMetrics(
            "test", (self.outputs(samples.x, prepared=True) - samples.x).square().mean().view(1, 1), [len(samples)]
        )

    def mean_loss(self, x: Any, y: Any) -> float:
        return float(self.errors(x).mean())

    def reconstruct(self, x: Any) -> np.ndarray:
        """Return what the model gives back of images (n_samples, channels, height, width) in [0, 1], in the same form."""
        return self.outputs(self._on_device(x)).cpu().numpy()

    def errors(self, x: Any) -> np.ndarray:
        """Return the mean squared error per pixel of each image (n_samples,)."""
        images = self.inputs(self._on_device(x))  # what the network is given is what it has to give back
        return (self.outputs(images, prepared=True) - images).square().flatten(1).mean(dim=1).cpu().numpy()

    def encode(self, x: Any) -> np.ndarray:
        """Return the codes (n_samples, hidden[-1]) of images (n_samples, channels, height, width)."""
        return self.activations(x, f"encoder_{len(self.config.hidden)}.activation")


if __name__ == "__main__":
    from paretune.models.train_command import main

    sys.exit(main("autoencoder"))
