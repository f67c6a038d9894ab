"""The models that come with the package, by their names, and where the scripts that train them are."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from paretune.models.contract import Model

# Waiting OpenMP threads that spin slow small nets tenfold as soon as another process wants a core; must stand before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

TRAINERS = (Path(__file__).parents[1] / "trainers").resolve()  # of a checkout its trainers/, else those that are installed
# Adding a model: its file here, its line here, its YAML in sweeps/.
MODELS = {
    "softmax": "paretune.trainers.softmax:Softmax",
    "ann": "paretune.trainers.ann:Ann",
    "svm": "paretune.trainers.svm:Svm",
    "autoencoder": "paretune.trainers.autoencoder:Autoencoder",
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
