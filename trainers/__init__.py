"""The models and the scripts that train them; imports nothing of this project outside itself."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from trainers.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from trainers.base import Model

# Waiting OpenMP threads that spin slow small nets tenfold as soon as another process wants a core; must stand before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Adding a model: its file here, its line here, its YAML in sweeps/.
MODELS = {
    "softmax": "trainers.softmax:Softmax",
    "ann": "trainers.ann:Ann",
    "svm": "trainers.svm:Svm",
    "autoencoder": "trainers.autoencoder:Autoencoder",
}


def model_class(name: str) -> type[Model]:
    """Import and return the class of a registered model.

    Raises:
        UsageError: if no model has that name.
    """
    if name not in MODELS:
        near = did_you_mean(name, MODELS) or f"; there are {', '.join(MODELS)}."
        raise UsageError(f"{name!r} is not a model of trainers/{near}")
    module, _, attribute = MODELS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
