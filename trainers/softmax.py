"""Softmax regression: one linear layer from the pixels to the classes, by mini-batch gradient descent; the baseline."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `wandb agent` starts this file from any folder

from typing import TYPE_CHECKING, ClassVar

from paretune.networks.classifier import GradientClassifier, GradientClassifierConfig

if TYPE_CHECKING:
    from torch import nn


class SoftmaxConfig(GradientClassifierConfig):
    """The training of the linear layer."""


class Softmax(GradientClassifier):
    """Multinomial logistic regression."""

    name: ClassVar[str] = "softmax"
    Config: ClassVar[type[SoftmaxConfig]] = SoftmaxConfig

    def network(self) -> nn.Module:
        from paretune.networks.builder import build_network

        return build_network(self.input_shape, len(self.class_names))


if __name__ == "__main__":
    from paretune.models.train_command import main

    sys.exit(main("softmax"))
