"""A first model for the painter: the simple CNN, one epoch on MNIST, where there is none that reads 28x28 digits yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paretune.core.errors import UsageError
from paretune.core.progress import Progress
from paretune.data.dataset import load_data
from paretune.data.provenance import provenance
from paretune.models.registry import model_class
from paretune.models.run_config import configure
from paretune.models.saved_models import check_destination, save

PRESET, NAME = "simple_cnn", "simple_cnn-mnist"


def train_first_model(models: Path, *, device: str = "auto", train_size: int | None = None) -> Path:
    """Train it with a bar over the batches, save it as `NAME` below `models`, and return its folder.

    Its accuracy is measured on a hold-out of the training images; the locked test set is not read.

    Raises:
        UsageError: if there is such a folder already, it cannot be written, or MNIST is neither here nor to be had (the sentence
            says where it is looked for).
    """
    folder = models / NAME
    if folder.exists():
        raise UsageError(f"{folder} is there already and does not read drawings: remove it, or name another folder of models.")
    check_destination(folder)
    kind = model_class("ann")
    config, data_options, _ = configure(kind, {"preset": PRESET, "epochs": 1, "data": "mnist", "train_size": train_size})
    model: Any = kind(config, device=device)
    data = load_data(data_options)
    with Progress(folder.name, -(-len(data.train) // model.config.batch_size), unit="batch", every=5) as progress:
        model.watch = lambda done, _: progress.reach(done, "the first model, one epoch")
        (epoch,) = model.fit_epochs(data)
    origin = {"data_options": data_options.to_dict(), "provenance": provenance(data, str(model.device))}
    return save(model, folder, metrics={"holdout": dict(epoch.metrics)}, origin=origin)
