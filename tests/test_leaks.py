"""Pure noise is read at chance on the locked images, whatever way leads there; planted leaks show in the same figures.

Labels are drawn without regard to the pictures, so that a model can be right on a picture only by having seen it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from paretune.analysis import retrain as step
from paretune.analysis.retrain import fit_again
from paretune.core.errors import UsageError
from paretune.data import dataset as data_module
from paretune.data import splits
from paretune.data.dataset import Data, load_data
from paretune.data.options import DataOptions
from paretune.models import evaluation
from paretune.models.saved_models import load, save
from paretune.networks import loop
from paretune.search.engine.study import best_trial
from paretune.search.engine.worker import run
from paretune.search.spec.sweep import read_sweep
from paretune.trainers.ann import Ann, AnnConfig

SEEDS = range(20)  # fixed before the first run
LEARNS_BY_HEART: dict[str, Any] = {"hidden": [48], "epochs": 25, "learning_rate": 0.01, "batch_size": 16, "normalize": "half"}
CLASSES = ("a", "b", "c")
N_EACH, SIDE = 40, 8
Count = tuple[int, int]  # right, of so many

SWEEP = """
program: trainers/ann.py
method: random
metric: {name: f1, goal: maximize}
parameters:
  hidden: {value: [48]}
  epochs: {value: 12}
  batch_size: {value: 16}
  normalize: {value: half}
  learning_rate: {min: 0.005, max: 0.02}
"""


def write_noise(folder: Path, seed: int, *, copies: bool = False) -> str:
    """Write pictures of noise, sorted into classes by chance, and with `copies` half of them twice."""
    random = np.random.default_rng([7, seed])
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        pixels = random.integers(0, 256, (N_EACH, SIDE, SIDE), dtype=np.uint8)
        for number, image in enumerate([*pixels, *(pixels[: N_EACH // 2] if copies else [])]):
            Image.fromarray(image).save(folder / label / f"{number}.png")
    return f"folder:{folder}"


def options(name: str, seed: int, **values: Any) -> DataOptions:
    return DataOptions.from_dict({"data": name, "image_size": SIDE, "split_seed": seed, **values})


def trained(data: Data, seed: int, **values: Any) -> Ann:
    return Ann(AnnConfig.from_dict({**LEARNS_BY_HEART, "seed": seed, **values}), device="cpu").fit(data)


def right(model: Any, data: Data) -> Count:
    """How many different locked images a model reads rightly."""
    first = np.unique(data.test.x.numpy().reshape(len(data.test), -1), axis=0, return_index=True)[1]
    return int((model.predict(data.test.x) == data.test.y.numpy())[first].sum()), len(first)


def saved_whole(name: str, seed: int, folder: Path) -> str:
    data, chosen = load_data(options(name, seed)), options(name, seed)
    origin = {"data_options": chosen.to_dict(), "provenance": {"fingerprints": dict(data.fingerprints)}}
    return str(save(trained(data, seed), folder / "whole", metrics={}, origin=origin))


def by_training(folder: Path, seed: int) -> Count:
    data = load_data(options(write_noise(folder / "set", seed), seed))
    return right(trained(data, seed), data)


def by_retraining(folder: Path, seed: int) -> Count:
    chosen = options(write_noise(folder / "set", seed), seed)
    values = {"classifier": "ann", **LEARNS_BY_HEART, "seed": seed, **chosen.to_dict()}
    model, data, _ = fit_again(values, LEARNS_BY_HEART["epochs"], device="cpu")
    return right(model, load_data(chosen)) if data.holdout is None else (0, 0)


def by_some_classes(folder: Path, seed: int) -> Count:
    data = load_data(options(write_noise(folder / "set", seed), seed, classes=["a", "c"]))
    return right(trained(data, seed), data)


def by_fine_tuning(folder: Path, seed: int) -> Count:
    name = write_noise(folder / "set", seed)
    whole = saved_whole(name, seed, folder)
    data = load_data(options(name, seed, classes=["b", "c"]))
    return right(trained(data, seed, start_from=whole, train_only=["output"]), data)


def by_folds(folder: Path, seed: int) -> Count:
    data = load_data(options(write_noise(folder / "set", seed), seed, n_folds=4, fold=seed % 4))
    assert data.holdout is not None
    model = trained(data, seed)
    held = replace(data, test=data.holdout)  # a fold is never trained on either
    return tuple(np.add(right(model, data), right(model, held)))  # type: ignore[return-value]


def by_copies(folder: Path, seed: int) -> Count:
    data = load_data(options(write_noise(folder / "set", seed, copies=True), seed))
    return right(trained(data, seed), data)


def by_evaluating_a_grown_folder(folder: Path, seed: int) -> Count:
    """The folder has grown since the training: nothing is read, or what the model never saw."""
    name = write_noise(folder / "set", seed)
    whole = saved_whole(name, seed, folder)
    for number, label in enumerate(CLASSES * 4):
        pixels = np.random.default_rng([8, seed, number]).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "set" / label / f"0-new{number}.png")
    try:
        evaluation.evaluate_saved(whole, device="cpu")
    except UsageError:
        return 0, 0
    return right(load(whole, device="cpu"), load_data(options(name, seed)))


def by_a_sweep(folder: Path, seed: int) -> Count:
    (folder / "noise.yaml").write_text(SWEEP)
    chosen = options(write_noise(folder / "set", seed), seed)
    fixed = {"data": chosen.data, "image_size": SIDE, "split_seed": seed}
    sweep = read_sweep(folder / "noise.yaml", fixed)
    study = run(sweep, trials=3, name="noise", seed=seed, mode="disabled", device="cpu", runs=folder / "runs")
    best = best_trial(study.get_trials(deepcopy=False), sweep.goals, ours=True)
    assert best is not None
    return right(trained(load_data(chosen), seed, **best.params, epochs=12), load_data(chosen))


WAYS: dict[Callable[[Path, int], Count], float] = {  # and what chance gives
    **dict.fromkeys((by_training, by_retraining, by_folds, by_copies, by_a_sweep, by_evaluating_a_grown_folder), 1 / 3),
    **dict.fromkeys((by_some_classes, by_fine_tuning), 1 / 2),
}


def pooled(way: Callable[[Path, int], Count], folder: Path) -> Count:
    counts = [way(folder / str(seed), seed) for seed in SEEDS if (folder / str(seed)).mkdir(parents=True) is None]
    return tuple(np.sum(counts, axis=0).tolist())  # type: ignore[return-value]


def within_chance(count: Count, chance: float) -> bool:
    low, high = stats.binom.interval(0.999, count[1], chance)
    return bool(low <= count[0] <= high)


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "root"))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_noise_is_read_at_chance(way: Callable[[Path, int], Count], tmp_path: Path) -> None:
    count = pooled(way, tmp_path)
    assert within_chance(count, WAYS[way]), f"{count[0]} of {count[1]} right"
    assert count[1] > 300 or way is by_evaluating_a_grown_folder


# Leaks, planted


def _train_on_all(patch: pytest.MonkeyPatch) -> Callable[[Path, int], Count]:
    real = splits.split_images

    def leaking(*arguments: Any) -> Any:
        parts = real(*arguments)
        joined = tuple(np.concatenate([parts["train"][i], parts["test"][i]]) for i in (0, 1))
        return {**parts, "train": joined}

    patch.setattr(data_module, "split_images", leaking)
    return by_training


def _copies_on_both_sides(patch: pytest.MonkeyPatch) -> Callable[[Path, int], Count]:
    patch.setattr(splits, "together", lambda first, second, groups: (first, second))
    return by_copies


def _select_first(patch: pytest.MonkeyPatch) -> Callable[[Path, int], Count]:
    real = splits.split_images

    def selected_first(whole: Any, names: Any, chosen: DataOptions, locked_split: int) -> Any:
        labels = splits.chosen_classes(names, chosen.classes, chosen.data)
        own = np.isin(whole.y, labels)
        y = np.searchsorted(labels, whole.y[own])
        part = splits.WholeSet(whole.x[own], y, whole.given[own], np.arange(len(y)))
        return real(part, [names[label] for label in labels], chosen.replace(classes=None), locked_split)

    patch.setattr(data_module, "split_images", selected_first)
    patch.setattr(loop, "check_unseen", lambda *_, **__: None)
    return by_fine_tuning


def _retrain_on_the_locked_part(patch: pytest.MonkeyPatch) -> Callable[[Path, int], Count]:
    real = data_module.load_data

    def leaking(chosen: DataOptions, **values: Any) -> Data:
        data = real(chosen, **values)
        import torch

        joined = data_module.Samples(torch.cat([data.train.x, data.test.x]), torch.cat([data.train.y, data.test.y]))
        return replace(data, train=joined)

    patch.setattr(step, "load_data", leaking)
    return by_retraining


def _evaluate_whatever_is_there(patch: pytest.MonkeyPatch) -> Callable[[Path, int], Count]:
    patch.setattr(evaluation, "check_same_part", lambda *_: None)
    return by_evaluating_a_grown_folder


LEAKS = (_train_on_all, _copies_on_both_sides, _select_first, _retrain_on_the_locked_part, _evaluate_whatever_is_there)


@pytest.mark.slow
@pytest.mark.parametrize("plant", LEAKS, ids=lambda plant: plant.__name__.strip("_"))
def test_a_planted_leak_shows(plant: Callable[[pytest.MonkeyPatch], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way = plant(monkeypatch)
    count = pooled(way, tmp_path)
    assert not within_chance(count, WAYS[way]), f"{count[0]} of {count[1]} right"
