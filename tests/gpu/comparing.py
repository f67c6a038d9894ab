"""Trains one configuration on a device, and compares the epochs of two devices."""

from __future__ import annotations

from typing import Any

import pytest

from paretune.core.epoch import Epoch
from paretune.data.dataset import Data
from paretune.models.contract import ModelConfig
from paretune.models.registry import model_class
from tests.samples import images

# Of losses, relative: fp32 sums in another order (1e-6 a sum), grown over the steps of a training. A step left out changes 1e-2.
SUMS = 1e-3
SHAPE = (1, 12, 12)
N_CLASSES = 4


def data(n_train: int = 210) -> Data:
    """Return images of four classes; 210 of them in batches of 40 leave a smaller last batch."""
    train, holdout, test = (images(count, N_CLASSES, SHAPE, seed=seed) for seed, count in enumerate((n_train, 100, 300)))
    names = [f"c{label}" for label in range(N_CLASSES)]
    return Data("bright columns", names, train, holdout, test, "holdout", holdout)


def config_of(classifier: str, **values: Any) -> ModelConfig:
    return model_class(classifier).Config.from_dict(values)


def trained(
    classifier: str, device: str, *, on: Data | None = None, precision: str = "fp32", **values: Any
) -> tuple[Any, list[Epoch]]:
    """Return a model that has been trained on a device, and its epochs."""
    model = model_class(classifier)(config_of(classifier, **values), device=device, precision=precision)
    return model, list(model.fit_epochs(data() if on is None else on))


def assert_close(
    found: list[Epoch], wanted: list[Epoch], *, losses: float = SUMS, absolute: float = 1e-4, images_moved: int = 1
) -> None:
    """Compare two trainings epoch by epoch.

    Args:
        losses: relative tolerance of the losses.
        absolute: the absolute one, where it is the larger.
        images_moved: images of a part, of 100 or more, that may change their label.
    """
    assert [(epoch.number, epoch.last) for epoch in found] == [(epoch.number, epoch.last) for epoch in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        assert list(ours.metrics) == list(theirs.metrics)
        for name in set(ours.metrics) - {"seconds"}:
            if name.endswith("loss") or name == "n_parameters":
                near = pytest.approx(theirs.metrics[name], rel=losses, abs=absolute)
            else:
                near = pytest.approx(theirs.metrics[name], abs=0.02 * images_moved)
            assert ours.metrics[name] == near, (name, ours.number)
