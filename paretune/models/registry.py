"""The models that ship with the package, by name, and the folder of their trainers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from paretune.models.contract import Model

TRAINERS = (Path(__file__).parents[1] / "trainers").resolve()  # of a checkout its trainers/, else those that are installed
# Adding a model: its file here, its line here, its YAML in sweeps/.
MODELS = {
    "softmax": "paretune.trainers.softmax:Softmax",
    "ann": "paretune.trainers.ann:Ann",
    "svm": "paretune.trainers.svm:Svm",
    "autoencoder": "paretune.trainers.autoencoder:Autoencoder",
}
LOADED: dict[str, type[Model]] = {}  # of programs that this process has imported (programs.py)


def model_class(name: str) -> type[Model]:
    """Return the class of a model that comes with the package, or of a program that this process has loaded.

    Raises:
        UsageError: if no model has that name.
    """
    if name in LOADED:
        return LOADED[name]
    if name not in MODELS:
        near = did_you_mean(name, MODELS) or f"; there are {', '.join(MODELS)}."
        raise UsageError(f"{name!r} is not a model of trainers/{near}")
    module, _, attribute = MODELS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def program_of(kind: type[Model]) -> str:
    """Return the program that trains a model, as sentences name it."""
    return f"trainers/{kind.name}.py" if kind.source is None else Path(kind.source.file).name
