"""The artificial neural network: dense and convolutional layers described wholly by a configuration, in PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `wandb agent` starts this file from any folder

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from paretune.core.config import ActiveWhen, Part
from paretune.networks.classifier import GradientClassifier, GradientClassifierConfig

if TYPE_CHECKING:
    from torch import nn

Activation = Literal[
    "relu", "prelu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "sigmoid", "tanh", "identity"
]
Rate = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(gt=0, le=65536)]
EQUAL_LAYERS = ActiveWhen(lambda config: config.hidden is None)
EQUAL_BLOCKS = ActiveWhen(lambda config: config.conv is None and config.backbone is None)
HIDDEN_OR_CONV = ActiveWhen(lambda config: bool(config.hidden_widths or config.conv_blocks))
AUGMENTED = ActiveWhen(lambda config: config.augment)


class ConvBlock(Part):
    """One convolution with what follows it: batch norm (if on), activation, pooling (if any)."""

    channels: Width
    kernel: int = Field(3, gt=0)
    stride: int = Field(1, gt=0)
    padding: int | None = Field(None, ge=0)  # None keeps the size at stride 1: kernel // 2
    pool: int | None = Field(None, gt=1)
    pool_kind: Annotated[Literal["max", "average"], ActiveWhen(lambda block: block.pool is not None)] = "max"


class DropoutAt(Part):
    """Dropout behind a layer: `input`, `conv_1`, `hidden_1.linear` (before its activation) or `hidden_1`."""

    after: str
    rate: Rate


class AnnConfig(GradientClassifierConfig):
    """Layers, regularisation and training of the network."""

    hidden: list[Width] | None = Field(None, max_length=64, description="widths of the hidden dense layers")
    n_hidden: Annotated[int, EQUAL_LAYERS] = Field(
        1, ge=0, le=64, description="instead of hidden: how many dense layers of equal width"
    )
    width: Annotated[Width, EQUAL_LAYERS, ActiveWhen(lambda config: config.n_hidden > 0)] = Field(
        64, description="with n_hidden: the width of each"
    )
    conv: list[ConvBlock] | None = Field(
        None, max_length=64, description="convolutions before: channels, kernel, stride, padding, pool, pool_kind of each"
    )
    n_conv: Annotated[int, EQUAL_BLOCKS] = Field(
        0, ge=0, le=16, description="instead of conv: how many 3x3 blocks, each halving the image"
    )
    channels: Annotated[Width, EQUAL_BLOCKS, ActiveWhen(lambda config: config.n_conv > 0)] = Field(
        16, description="with n_conv: channels of the first block; each next one doubles them"
    )
    backbone: str | None = Field(
        None, description="instead of conv: a network of torchvision, such as resnet18; start_from: imagenet gives it its weights"
    )
    activation: Annotated[Activation, HIDDEN_OR_CONV] = Field("relu", description="behind every convolution and hidden layer")
    dropout: Rate | list[DropoutAt] = Field(
        0.0, description="one rate behind each hidden layer, or a list of positions and rates: [{after: hidden_1, rate: 0.5}]"
    )
    batch_norm: Annotated[bool, HIDDEN_OR_CONV] = Field(
        False, description="normalise each layer's outputs over the batch, before the activation"
    )
    augment: bool = Field(False, description="move, scale and turn the training images at random, anew in each epoch")
    translate: Annotated[float, AUGMENTED] = Field(
        0.08, ge=0, le=0.5, description="augment: largest move, as a share of the image's side"
    )
    scale: Annotated[float, AUGMENTED] = Field(0.1, ge=0, lt=1, description="augment: largest growth or shrinkage, as a share")
    rotate: Annotated[float, AUGMENTED] = Field(10.0, ge=0, le=180, description="augment: largest turn, in degrees")
    flip: Annotated[bool, AUGMENTED] = Field(
        False, description="augment: mirror half of the images left to right (photographs, not digits)"
    )
    crop: Annotated[int, AUGMENTED] = Field(
        0, ge=0, description="augment: largest move by whole pixels, as a crop of the padded image"
    )

    @model_validator(mode="after")
    def _one_description(self) -> AnnConfig:
        if self.hidden is not None and (self.n_hidden, self.width) != (1, 64):
            raise ValueError("hidden and n_hidden/width describe the same layers: give one of the two")
        if self.conv is not None and (self.n_conv, self.channels) != (0, 16):
            raise ValueError("conv and n_conv/channels describe the same layers: give one of the two")
        if self.backbone is not None and (self.conv is not None or self.n_conv):
            raise ValueError("backbone stands in place of conv and n_conv: give one of them")
        if self.batch_norm and self.batch_size == 1:
            raise ValueError("batch_norm needs a batch_size of at least 2: one image has no batch statistics")
        return self

    @property
    def hidden_widths(self) -> list[int]:
        """Widths of the hidden layers, whichever way they were described."""
        if self.hidden is not None:
            return list(self.hidden)
        return [self.width] * self.n_hidden

    @property
    def conv_blocks(self) -> list[ConvBlock]:
        """The convolutional blocks, whichever way they were described."""
        if self.conv is not None:
            return list(self.conv)
        return [ConvBlock(channels=self.channels * 2**block, pool=2) for block in range(self.n_conv)]


class Ann(GradientClassifier):
    """A network of `config.conv_blocks`, then `config.hidden_widths`, then one output per class."""

    name: ClassVar[str] = "ann"
    Config: ClassVar[type[AnnConfig]] = AnnConfig

    def network(self) -> nn.Module:
        from paretune.networks.builder import build_network

        return build_network(
            self.input_shape,
            len(self.class_names),
            conv=[block.model_dump() for block in self.config.conv_blocks],
            hidden=self.config.hidden_widths,
            activation=self.config.activation,
            dropout=self.config.dropout
            if isinstance(self.config.dropout, float)
            else {spot.after: spot.rate for spot in self.config.dropout},
            batch_norm=self.config.batch_norm,
            backbone=self.config.backbone,
        )

    @property
    def evaluation_batch(self) -> int:
        return super().evaluation_batch if self.config.backbone is None else 128  # of images that are enlarged


if __name__ == "__main__":
    from paretune.models.train_command import main

    sys.exit(main("ann"))
