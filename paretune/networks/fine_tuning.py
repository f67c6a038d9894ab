"""Fine-tuning: the weights that a network begins with, and which of its layers change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from paretune.core.errors import UsageError, did_you_mean
from paretune.models.saved_models import load

if TYPE_CHECKING:
    from torch import nn


def take_over(net: nn.Module, folder: str) -> None:
    """Copy into a network the layers of a saved model that have the name, and all arrays the shapes, of one of its own.

    Raises:
        UsageError: if the folder is no saved model, or nothing of it fits.
    """
    import torch

    if folder == "imagenet":
        from paretune.networks.backbone import take_imagenet

        take_imagenet(net)
        return

    own = net.state_dict()
    theirs = {name.removeprefix("net."): array for name, array in load(folder, device="cpu").state().items()}
    unlike = {name.rpartition(".")[0] for name in own if name not in theirs or own[name].shape != theirs[name].shape}
    fits = {name: torch.as_tensor(theirs[name]) for name in own if name.rpartition(".")[0] not in unlike}
    if not fits:
        raise UsageError(f"start_from: no layer of {folder} has the name and shape of one here; start from a model of like layers.")
    net.load_state_dict({**own, **fits})


def trained_parameters(net: nn.Module, layers: Sequence[str] | None) -> list[nn.Parameter]:
    """Return the parameters that are trained: all, or those of some layers by name; the others are kept from changing.

    Raises:
        UsageError: if a name is no layer with parameters.
    """
    if layers is None:
        return list(net.parameters())
    found = []
    names = [name for name, _ in net.named_parameters()]
    for layer in layers:
        if not any(name.startswith(f"{layer}.") for name in names):
            known = list(dict.fromkeys(name.partition(".")[0] for name in names))
            near = did_you_mean(layer, known) or f"; there are {', '.join(known)}."
            raise UsageError(f"train_only: {layer!r} has nothing to train{near}")
    for name, parameter in net.named_parameters():
        wanted = any(name.startswith(f"{layer}.") for layer in layers)
        parameter.requires_grad_(wanted)
        if wanted:
            found.append(parameter)
    return found


def keep_statistics(net: nn.Module) -> None:
    """Take the batch norms whose parameters are not trained out of training: they stay as they began."""
    from torch.nn.modules.batchnorm import _BatchNorm

    for layer in net.modules():
        if isinstance(layer, _BatchNorm) and layer.weight is not None and not layer.weight.requires_grad:
            layer.eval()
