"""A classification network of torchvision as the first layers of ours, with random weights or those learnt on ImageNet.

Its last dense layer is taken off; what entered it are the features that our own layers go on from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from paretune.core.errors import UsageError, did_you_mean, first_line

IMAGENET = "imagenet"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, as torchvision's weights expect them
SIDE = 224  # pixels, as those weights were trained
UNFIT = {"googlenet", "inception_v3", "swin_v2_b", "swin_v2_s", "swin_v2_t", "vit_h_14"}  # several outputs, or larger images


class Backbone(nn.Module):
    """Features (n_samples, n_features) of images (n_samples, 1 or 3, height, width), which are resized to SIDE."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.net, self.n_features = _without_head(name)
        self.features = nn.Identity()  # so that the features have a name: backbone.features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of a batch; grey images are shown to every channel."""
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        resized = functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        return self.features(self.net(resized))

    def take_imagenet(self) -> None:
        """Take the newest weights that torchvision has for this network, from its cache or over the network.

        Raises:
            UsageError: if they are neither on this machine nor to be had.
        """
        from torchvision import models

        url = models.get_model_weights(self.name).DEFAULT.url
        try:
            learnt = models.get_model(self.name, weights="DEFAULT")
        except Exception as error:  # torch raises what it meets in a file that is cut, or is a page of a proxy
            reason = first_line(error)
            file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
            if file.exists():
                raise UsageError(f"start_from: {file} is broken ({reason}): remove it, so that it is fetched anew.") from None
            raise UsageError(
                f"start_from: the ImageNet weights of {self.name} are not on this machine and could not be fetched ({reason}): "
                f"put {url} into {torch.hub.get_dir()}/checkpoints, or leave start_from out."
            ) from None
        self.net.load_state_dict(_cut(learnt, self.name)[0].state_dict())


def backbone_names() -> list[str]:
    """Return the networks that may be a backbone, by torchvision's names."""
    from torchvision import models

    return [name for name in models.list_models(module=models) if name not in UNFIT]


def _without_head(name: str) -> tuple[nn.Module, int]:
    """Build a network of torchvision without its last dense layer; return it and how many features it gives."""
    from torchvision import models

    known = backbone_names()
    if name not in known:
        near = did_you_mean(name, known) or "; torchvision.org/vision/stable/models.html lists the classifiers."
        raise UsageError(f"backbone {name!r} is no classification network of torchvision that can be cut before its output{near}")
    return _cut(models.get_model(name, weights=None), name)


def _cut(net: nn.Module, name: str) -> tuple[nn.Module, int]:
    *_, (last, layer) = ((place, layer) for place, layer in net.named_modules() if not list(layer.children()))
    if not isinstance(layer, nn.Linear):
        raise UsageError(f"backbone {name!r} does not end in a dense layer, so it cannot be cut before its output: choose another.")
    net.set_submodule(last, nn.Identity())
    return net, layer.in_features


def take_imagenet(net: Any) -> None:
    """Give the backbone of a network its ImageNet weights.

    Raises:
        UsageError: if the network has none, or the weights are not to be had.
    """
    backbone = getattr(net, "backbone", None)
    if backbone is None:
        raise UsageError("start_from: imagenet gives the weights of a backbone: name one as well, such as backbone: resnet18.")
    backbone.take_imagenet()
