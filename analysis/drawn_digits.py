"""Augmentation on drawings: one network trained with and without it over several seeds, its test part and drawings read by both.

It is what `python -m analysis.augmentation --drawings DIR` does; analysis/drawn_report.py says what came out. The two models of a
seed differ in `augment` alone, and are trained on the whole training set. The drawings are read twice: in MNIST's form, as the
painter keeps them, and merely shrunk to the model's size, without its scaling and centring.

The t intervals are over the seeds, of the mean and of the paired differences, cut at 0 and 1 and at -1 and 1; Wilson's are of the
mean, over the images. McNemar's exact test (1947, by the binomial distribution) is of the drawings that only one model of a pair
reads rightly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.findings.augmentation import SETTINGS
from paretune.analysis.findings.confidence import is_spread, mean_interval, wilson_interval
from paretune.analysis.retrain import MAX_SEEDS, fit_again
from paretune.core.devices import pick_device
from paretune.core.errors import UsageError, did_you_mean
from paretune.core.progress import Progress
from paretune.data.dataset import fingerprint
from paretune.data.images import Samples
from paretune.data.options import DataOptions
from paretune.data.picture_folders import pictures_below, read_folder
from paretune.models.locked_readings import on_record
from paretune.models.registry import model_class
from paretune.models.run_config import configure, read_preset
from paretune.models.saved_models import check_destination, describe

if TYPE_CHECKING:
    from paretune.data.dataset import Data

PRESET, DATA = "simple_cnn", "mnist"
FORMED, FULL = "28x28", "full"  # folders that the painter writes
PARTS = ("test", "drawings", "shrunk")
SIDES = {"without": False, "with": True}  # the value of `augment`
PAIR = 0  # the seed whose two models are compared drawing by drawing


@dataclass(frozen=True)
class Plan:
    """What is trained: a configuration, on which images, for how long and how often."""

    name: str  # of the preset or the model that the configuration is from
    values: dict[str, Any]  # flat, as `paretune.models.run_config.configure` takes them, without seed and augment
    options: DataOptions
    n_epochs: int
    n_seeds: int

    def folder(self, models: Path, augment: bool, seed: int) -> Path:
        """Return where the model of a seed is kept."""
        side = "with" if augment else "without"
        return models / f"augmentation-{self.options.short_name}-{self.name}-{side}-seed-{seed}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        augmentation = {name: self.values[name] for name in SETTINGS}
        own = {key: value for key, value in self.values.items() if key not in (*SETTINGS, *DataOptions.model_fields)}
        return {
            "configuration": self.name,
            "values": own,
            "augmentation": augmentation,
            "data_options": self.options.to_dict(),
            "n_epochs": self.n_epochs,
            "n_seeds": self.n_seeds,
        }


@dataclass(frozen=True)
class Drawings:
    """Drawings by their names `label/id`: the same ones in both forms, and their classes among those of the data."""

    names: list[str]
    formed: Samples  # in MNIST's form
    shrunk: Samples  # merely resized

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Reading:
    """What one model reads: class indices (n_images,) of each of PARTS."""

    seed: int
    augment: bool
    model: Path
    read: dict[str, np.ndarray]


def plan_of(
    preset: str | None,
    model: str | None,
    data: str | None = None,
    *,
    n_epochs: int | None = None,
    n_seeds: int = 3,
    train_size: int | None = None,
) -> Plan:
    """Return what the flags ask for.

    Args:
        preset: values to start from; PRESET where neither it nor a model is given.
        model: folder of a saved model, whose configuration is trained anew, on its own data unless `data` is given.
        n_epochs: instead of the configuration's own.

    Raises:
        UsageError: if a value is unfit, the model is no network of `ann`, or the configuration augments by nothing.
    """
    if preset is not None and model is not None:
        raise UsageError(f"--preset and --model both say what is trained: give one of the two. Got {preset} and {model}.")
    if not 1 <= n_seeds <= MAX_SEEDS:
        raise UsageError(f"--seeds must be from 1 to {MAX_SEEDS}. Got {n_seeds}.")
    if model is None:
        name = Path(preset or PRESET).stem
        values = {"data": DATA, **read_preset(preset or PRESET)}
    else:
        name = Path(model).resolve().name
        known = describe(model)
        if known.get("classifier") != "ann":
            raise UsageError(
                f"--model must be a model of ann, which can augment its images. {model} is of {known.get('classifier')}."
            )
        values = {"data": DATA, **known.get("data_options", {}), **known.get("config", {})}
    if data is not None:
        values = {key: value for key, value in values.items() if key not in DataOptions.model_fields} | {"data": data}
    if n_epochs is not None:
        values["epochs"] = n_epochs
    kept = ("data", "classes", "image_size")  # all else of the data options says how a run was judged
    values = {key: value for key, value in values.items() if key in kept or key not in DataOptions.model_fields}
    config: Any
    config, options, _ = configure(model_class("ann"), {**values, "early_stopping": None})
    settings = {**{key: getattr(config, key) for key in SETTINGS}, "flip": False}  # a mirrored digit is none, or another one
    if not any(settings.values()):
        raise UsageError(
            f"{preset or model or PRESET} augments by nothing (translate, scale, rotate and crop are 0), so that with and "
            "without it are one model: give a configuration that has one of them above 0."
        )
    of_data = {key: value for key, value in options.to_dict().items() if key in kept}
    own = {key: value for key, value in config.to_dict().items() if key not in ("seed", "augment")}
    return Plan(
        name,
        {**own, **settings, **of_data, "classifier": "ann"},
        options.replace(holdout=0.0, train_size=train_size),
        config.epochs,
        n_seeds,
    )


def read_drawings(folder: Path, data: Data) -> Drawings:
    """Read the drawings that the painter wrote below `folder`, for models of `data`.

    Raises:
        UsageError: if there are none, a label is no class of the data, or one of 28x28 is not in full.
    """
    formed, full = folder / FORMED, folder / FULL
    if not formed.is_dir():
        raise UsageError(
            f"--drawings {folder} must hold a folder {FORMED} with a sub-folder of drawings per class; there is none: "
            "draw some with the painter (make paint), which collects them there, or give the folder that it wrote."
        )
    if not full.is_dir():
        raise UsageError(
            f"--drawings {folder} must hold a folder {FULL} with the drawings of {FORMED} as they were drawn; there is none: "
            "give the folder as the painter (make paint) wrote it."
        )
    (names, formed_samples), (others, full_samples) = (_read(place, data) for place in (formed, full))
    places = {name: place for place, name in enumerate(others)}
    alone = next((name for name in names if name not in places), None)
    if alone is not None:
        raise UsageError(
            f"{folder}/{FULL} must hold every drawing of {folder}/{FORMED}; {alone} is not there: remove it from {FORMED}, or "
            "draw it anew."
        )
    # one that is in `full` alone is left out: the painter was stopped before it was whole
    shrunk = Samples(full_samples.x[[places[name] for name in names]], formed_samples.y)
    return Drawings(names, formed_samples, shrunk)


def _read(folder: Path, data: Data) -> tuple[list[str], Samples]:
    """Return the names `label/id` and the images of a folder of drawings, resized to the images of the data."""
    import torch

    channels, side, _ = data.input_shape
    labels, x, y = read_folder(folder, side)
    for label in labels:
        if label not in data.class_names:
            near = did_you_mean(label, data.class_names) or f"; there are {', '.join(data.class_names)}: rename or remove it."
            raise UsageError(f"{folder}/{label} is named by no class of {data.name}{near}")
    if x.shape[1:] != data.input_shape:
        kinds = {1: "grey", 3: "colour"}
        raise UsageError(
            f"{folder} must hold {kinds[channels]} pictures of equal sides, as the images of {data.name} are. Got "
            f"{kinds[x.shape[1]]} ones for images of {channels}x{side}x{data.input_shape[2]}: give drawings or a data set that fit."
        )
    places = np.array([data.class_names.index(label) for label in labels])
    names = [
        f"{label}/{path.relative_to(folder / label).with_suffix('')}" for label in labels for path in pictures_below(folder / label)
    ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{folder} must hold each drawing once. Got {twice} in two formats: remove one of them.")
    order = np.argsort(names)  # the same in both folders, whatever the files' endings
    images = torch.from_numpy(x[order].astype(np.float32) / 255)
    return [names[place] for place in order], Samples(images, torch.from_numpy(places[y[order]]))


def check_before(plan: Plan, models: Path, device: str) -> None:
    """Refuse a device that is not there and folders that cannot hold the models, before time is spent on training."""
    pick_device(device)
    for seed in range(plan.n_seeds):
        for augment in SIDES.values():
            check_destination(plan.folder(models, augment, seed))


def train_and_read(plan: Plan, data: Data, drawings: Drawings, models: Path, *, device: str = "auto") -> list[Reading]:
    """Train the two models of every seed, or load those that were finished before, and let each read all parts.

    The locked test part is read when all are trained; nothing is chosen by it.
    """
    images = {"test": data.test.x, "drawings": drawings.formed.x, "shrunk": drawings.shrunk.x}
    trained: list[tuple[int, bool, Path, Any]] = []
    with Progress(f"augmentation of {plan.name}", 2 * plan.n_seeds * plan.n_epochs, unit="epoch", every=10) as progress:
        for seed in range(plan.n_seeds):
            for augment in SIDES.values():
                part = plan.folder(models, augment, seed)
                classifier, _, _ = fit_again(
                    {**plan.values, "seed": seed, "augment": augment},
                    plan.n_epochs,
                    device=device,
                    locked_fingerprint=data.fingerprints["test"],
                    progress=progress,
                    part=part,
                    train_size=plan.options.train_size,
                )
                trained.append((seed, augment, part, classifier))
    readings = []
    for seed, augment, part, classifier in trained:
        with on_record(part, data.fingerprints["test"], "analysis.drawn_digits") as reading:
            read = {name: np.asarray(classifier.predict(x)) for name, x in images.items()}
            reading["accuracy"] = float(np.mean(read["test"] == data.test.y.numpy()))
        readings.append(Reading(seed, augment, part, read))
    return readings


def results_of(plan: Plan, data: Data, drawings: Drawings, readings: Sequence[Reading]) -> dict[str, Any]:
    """Return every number as plain JSON values.

    Under `accuracy` and `difference` (with minus without), by part: the mean over the seeds, its t interval, which is None of one
    seed and where the seeds do not differ, and of the accuracies Wilson's interval.
    """
    labels = {"test": data.test.y, "drawings": drawings.formed.y, "shrunk": drawings.shrunk.y}
    right = {
        side: {
            part: np.stack([reading.read[part] == labels[part].numpy() for reading in readings if reading.augment == augment])
            for part in PARTS
        }
        for side, augment in SIDES.items()
    }  # (n_seeds, n_images) each
    scores = {side: {part: right[side][part].mean(axis=1) for part in PARTS} for side in SIDES}
    accuracy = {
        side: {
            part: {**_over_seeds(scores[side][part], (0.0, 1.0)), "wilson_interval": _wilson(scores[side][part], len(labels[part]))}
            for part in PARTS
        }
        for side in SIDES
    }
    return {
        "settings": plan.to_dict(),
        "n_images": {part: len(labels[part]) for part in PARTS},
        "n_train": len(data.train),
        "image_side": data.input_shape[1],
        "models": [
            {
                "seed": reading.seed,
                "augment": reading.augment,
                "model": str(reading.model),
                "accuracy": {part: float(np.mean(reading.read[part] == labels[part].numpy())) for part in PARTS},
            }
            for reading in readings
        ],
        "accuracy": accuracy,
        "difference": {part: _over_seeds(scores["with"][part] - scores["without"][part], (-1.0, 1.0)) for part in PARTS},
        "read_by_one": _read_by_one(drawings, readings, data.class_names),
        "drawings": {
            name: fingerprint(samples.x.numpy(), samples.y.numpy())
            for name, samples in (("formed", drawings.formed), ("shrunk", drawings.shrunk))
        },
    }


def _over_seeds(values: np.ndarray, limits: tuple[float, float]) -> dict[str, Any]:
    """Return the mean of values (n_seeds,) that lie within limits, its t interval, cut at them, and the values."""
    differ = len(values) > 1 and is_spread(
        float(np.ptp(values)), float(values.mean())
    )  # repeats that all agree say nothing about the spread
    return {
        "mean": float(values.mean()),
        "t_interval": list(mean_interval(values, limits)) if differ else None,
        "by_seed": values.tolist(),
    }


def _wilson(values: np.ndarray, n_images: int) -> list[float]:
    return list(wilson_interval(float(values.mean()), n_images))


def _read_by_one(drawings: Drawings, readings: Sequence[Reading], class_names: Sequence[str]) -> dict[str, Any]:
    """Return the drawings, in MNIST's form, that only one of the two models of seed PAIR reads rightly."""
    from scipy.stats import binomtest

    labels = drawings.formed.y.numpy()
    read = {
        side: next(one.read["drawings"] for one in readings if (one.seed, one.augment) == (PAIR, SIDES[side])) for side in SIDES
    }
    gained = (read["with"] == labels) & (read["without"] != labels)
    lost = (read["without"] == labels) & (read["with"] != labels)
    n_gained, n_lost = int(gained.sum()), int(lost.sum())
    return {
        "seed": PAIR,
        "with_alone": n_gained,
        "without_alone": n_lost,
        "p": float(binomtest(n_gained, n_gained + n_lost).pvalue) if n_gained + n_lost else None,
        "drawings": [
            {
                "drawing": drawings.names[place],
                "label": class_names[labels[place]],
                **{side: class_names[int(read[side][place])] for side in SIDES},
            }
            for place in np.flatnonzero(gained | lost)
        ],
    }
