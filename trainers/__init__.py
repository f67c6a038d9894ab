"""The classifiers and the scripts that train them; imports nothing of this project outside itself."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from trainers.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from trainers.base import Classifier

# Waiting OpenMP threads that spin slow small nets tenfold as soon as another process wants a core; must stand before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Adding a classifier: its file here, its line here, its YAML in sweeps/.
CLASSIFIERS = {
    "softmax": "trainers.softmax:Softmax",
    "ann": "trainers.ann:Ann",
    "svm": "trainers.svm:Svm",
}


def classifier_class(name: str) -> type[Classifier]:
    """Import and return the class of a registered classifier.

    Raises:
        UsageError: if no classifier has that name.
    """
    if name not in CLASSIFIERS:
        near = did_you_mean(name, CLASSIFIERS) or f"; there are {', '.join(CLASSIFIERS)}."
        raise UsageError(f"{name!r} is not a classifier{near}")
    module, _, attribute = CLASSIFIERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
