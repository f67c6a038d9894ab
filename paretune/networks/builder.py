"""Build a feed-forward network from a description of its layers, and list its layers and parameters.

Layers carry names (`conv_1.conv`, `conv_1.pool`, `hidden_1.linear`, `output`): dropout positions and the layer table use
them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from paretune.core.errors import UsageError, did_you_mean
from paretune.networks.backbone import Backbone
from paretune.networks.cpu_convolutions import Dropout

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "prelu": nn.PReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}


def build_network(
    input_shape: tuple[int, int, int],
    n_classes: int,
    *,
    conv: Sequence[Mapping[str, Any]] = (),
    hidden: Sequence[int] = (),
    activation: str = "relu",
    dropout: float | Mapping[str, float] = 0.0,
    batch_norm: bool = False,
    backbone: str | None = None,
) -> nn.Sequential:
    """Build convolutional blocks, hidden dense layers and an output layer.

    Args:
        input_shape: channels, height, width of one image.
        conv: blocks with channels, kernel, stride, padding, pool and pool_kind.
        hidden: widths of the dense layers.
        dropout: one rate behind each hidden layer (before the output where there is none), or a rate by layer name.
        backbone: a network of torchvision by name, in place of the convolutional blocks.

    Raises:
        UsageError: if the image is too small for a block, a dropout position names no layer, or no network has the name.
    """
    channels, height, width = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict(input=nn.Identity())
    for number, block in enumerate(conv, start=1):
        kernel, stride, pool = block["kernel"], block["stride"], block["pool"]
        padding = kernel // 2 if block["padding"] is None else block["padding"]
        before = (height, width)
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in before)
        if pool:
            height, width = height // pool, width // pool
        if min(height, width) < 1:
            raise UsageError(
                f"conv block {number} (kernel {kernel}, stride {stride}, padding {padding}, pool {pool}) does not fit: "
                f"its input is {before[0]}x{before[1]} pixels; use fewer blocks or less pooling."
            )
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv=nn.Conv2d(channels, block["channels"], kernel, stride, padding, bias=True)
        )
        if batch_norm:
            parts["norm"] = nn.BatchNorm2d(block["channels"])
        parts["activation"] = ACTIVATIONS[activation]()
        if pool:
            parts["pool"] = nn.MaxPool2d(pool) if block["pool_kind"] == "max" else nn.AvgPool2d(pool)
        layers[f"conv_{number}"] = nn.Sequential(parts)
        channels = block["channels"]
    features = channels * height * width
    if backbone is not None:
        layers["backbone"] = chosen = Backbone(backbone)
        features = chosen.n_features
    layers["flatten"] = nn.Flatten()
    for number, n_units in enumerate(hidden, start=1):
        parts = OrderedDict(linear=nn.Linear(features, n_units))
        if batch_norm:
            parts["norm"] = nn.BatchNorm1d(n_units)
        parts["activation"] = ACTIVATIONS[activation]()
        layers[f"hidden_{number}"] = nn.Sequential(parts)
        features = n_units
    layers["output"] = nn.Linear(features, n_classes)
    kind = Dropout if conv or backbone is not None else nn.Dropout
    return nn.Sequential(_with_dropout(layers, dropout, len(hidden), kind))


def build_autoencoder(
    input_shape: tuple[int, int, int], hidden: Sequence[int], *, activation: str = "sigmoid", dropout: float = 0.0
) -> nn.Sequential:
    """Build dense layers of the widths `hidden` (`encoder_1` …), the same back (`decoder_1` …), and a sigmoid per pixel.

    Args:
        input_shape: channels, height, width of one image; the network gives back images of this shape.
        dropout: rate behind the last of `hidden`, the code.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    features = n_pixels = math.prod(input_shape)
    widths = [*((f"encoder_{number}", width) for number, width in enumerate(hidden, start=1))]
    widths += [(f"decoder_{number}", width) for number, width in enumerate(reversed(hidden[:-1]), start=1)]
    for name, width in widths:
        layers[name] = nn.Sequential(OrderedDict(linear=nn.Linear(features, width), activation=ACTIVATIONS[activation]()))
        if name == f"encoder_{len(hidden)}" and dropout > 0:
            layers["dropout"] = nn.Dropout(dropout)
        features = width
    layers["output"] = nn.Sequential(OrderedDict(linear=nn.Linear(features, n_pixels), activation=nn.Sigmoid()))
    layers["reconstruct"] = nn.Unflatten(1, input_shape)
    return nn.Sequential(layers)


def _with_dropout(
    layers: OrderedDict[str, nn.Module], dropout: float | Mapping[str, float], n_hidden: int, kind: type[nn.Dropout]
) -> OrderedDict[str, nn.Module]:
    if not isinstance(dropout, Mapping):
        places = [f"hidden_{number}" for number in range(1, n_hidden + 1)] or ["flatten"]
        dropout = dict.fromkeys(places, dropout) if dropout > 0 else {}
    known = [name for name in layers if name != "output"]
    known += [f"{name}.{inner}" for name in known for inner, _ in layers[name].named_children()]
    for place in dropout:
        if place not in known:
            near = did_you_mean(place, known) or f"; there are {', '.join(known)}."
            raise UsageError(f"dropout has no layer {place!r} to stand behind{near}")
    result: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in layers.items():
        if isinstance(layer, nn.Sequential):
            inner_layers: OrderedDict[str, nn.Module] = OrderedDict()
            for inner, part in layer.named_children():
                inner_layers[inner] = part
                if f"{name}.{inner}" in dropout:
                    inner_layers[f"{inner}_dropout"] = kind(dropout[f"{name}.{inner}"])
            layer = nn.Sequential(inner_layers)
        result[name] = layer
        if name in dropout:
            result[f"{name}_dropout"] = kind(dropout[name])
    return result


class Inference(nn.Module):
    """A network from images in [0, 1] to probabilities: normalisation, layers, softmax."""

    shift: torch.Tensor
    spread: torch.Tensor

    def __init__(self, net: nn.Module, shift: torch.Tensor, spread: torch.Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("shift", shift)
        self.register_buffer("spread", spread)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n_samples, channels, height, width) to (n_samples, n_classes)."""
        return self.net((images - self.shift) / self.spread).softmax(dim=1)


def layer_table(network: nn.Module, input_shape: tuple[int, int, int]) -> str:
    """Return a table of every layer: name, kind, output shape, parameters; the last line is the total."""
    rows: list[tuple[str, str, str, int]] = []

    def note(name: str, layer: nn.Module) -> Any:
        def hook(_: nn.Module, __: Any, output: torch.Tensor) -> None:
            shape = "x".join(str(size) for size in output.shape[1:])
            rows.append((name, type(layer).__name__, shape, sum(weight.numel() for weight in layer.parameters())))

        return layer.register_forward_hook(hook)

    leaves = [(name, layer) for name, layer in network.named_modules() if not list(layer.children())]
    hooks = [note(name, layer) for name, layer in leaves]
    network.eval()
    with torch.inference_mode():
        network(torch.zeros(1, *input_shape, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    total = sum(row[3] for row in rows)
    cells = [("layer", "kind", "output", "parameters"), *((name, kind, shape, f"{n:,}") for name, kind, shape, n in rows)]
    cells.append(("total", "", "", f"{total:,}"))
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}".rstrip() for row in cells
    ]
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
