"""`make gpu`: 361 autoencoders, 128 and 1,024 small classifiers, trained at once and one by one, on the GPU and on the CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks._gpu_pictures import N_TEST, N_TRAIN, pictures
from benchmarks._gpu_session import CPU, Session, equal_share
from paretune.batched.training import fit_together, n_kept, room_of
from paretune.data.dataset import Data
from paretune.trainers.ann import Ann, AnnConfig
from paretune.trainers.autoencoder import Autoencoder, AutoencoderConfig

# What the presets of these names say; YAML may be missing where this runs.
AUTOENCODER_64 = {"hidden": [64], "activation": "sigmoid", "dropout": 0.1, "optimizer": "sgd", "batch_size": 1000}
SIGMOID_32 = {"hidden": [32], "activation": "sigmoid", "optimizer": "sgd", "batch_size": 64, "normalize": "half"}
GRID = [number * 0.05 for number in range(1, 20)]  # study E2: learning rates and momenta
ONE_BY_ONE = 6  # models at most
SAFETY = 1.2  # a forecast times this must fit into the time left
SHARE = 0.6  # of the time left, for all images at once: one by one and the CPU come after it


@dataclass
class Side:
    """What one device has made of some configurations at once."""

    models: list[Any]
    times: list[float]  # seconds from the beginning to the end of each epoch
    losses: list[list[float]]  # test_loss by epoch and model

    @property
    def n_epochs(self) -> int:
        return len(self.losses)

    @property
    def seconds(self) -> float:
        return self.times[-1]

    def forecast(self, n_epochs: int, *, images: float = 1.0, models: float = 1.0) -> float:
        """Return the seconds of so many epochs of so many times the images and models; what is done once is done once."""
        if self.n_epochs == 1:
            return self.seconds * n_epochs * images * models
        epoch = (self.times[-1] - self.times[0]) / (self.n_epochs - 1)
        return models * (max(self.times[0] - epoch, 0.0) + epoch * n_epochs * images)


def autoencoders(session: Session) -> None:
    """Train the 361 autoencoders of study E2 for five epochs."""
    grid = [{"learning_rate": rate, "momentum": momentum} for rate in GRID for momentum in GRID]
    chosen = grid[:: session.size(1, 30)]
    n_epochs = session.size(5, 2)
    configs = [AutoencoderConfig.from_dict({**AUTOENCODER_64, **values, "epochs": n_epochs}) for values in chosen]
    _measure(session, Autoencoder, configs, "autoencoders", n_epochs, per_core=4)


def classifiers_128(session: Session) -> None:
    _classifiers(session, session.size(128, 6))


def classifiers_1024(session: Session) -> None:
    _classifiers(session, session.size(1024, 12))


def _classifiers(session: Session, count: int) -> None:
    """Train small classifiers that differ in their learning rates for an epoch."""
    rates = [0.01 * 50 ** (place / count) for place in range(count)]
    configs = [AnnConfig.from_dict({**SIGMOID_32, "learning_rate": rate, "epochs": 1}) for rate in rates]
    _measure(session, Ann, configs, "classifiers", 1, per_core=16)


def _measure(session: Session, kind: Any, configs: Sequence[Any], what: str, n_epochs: int, *, per_core: int) -> None:
    """Measure at once on the GPU, one by one on the GPU, at once on the CPU.

    Args:
        per_core: models a core of the CPU, where some of them are timed for all.
    """
    full, small = session.size(N_TRAIN, 2000), session.size(N_TRAIN // 10, 1000)
    row = f"{len(configs):,} {what} at once, {epochs(n_epochs)}"
    train_at_once(session, kind, configs[:2], data_of(session, small), session.device)  # the device's libraries start
    gpu = _at_once_on_the_gpu(session, kind, configs, row, n_epochs, (small, full))
    _one_by_one(session, kind, configs, f"{len(configs):,} {what} one by one, {epochs(n_epochs)}", n_epochs, gpu, full, small)
    count = min(len(configs), per_core * torch.get_num_threads())
    some = configs[:: len(configs) // count][:count]
    data = data_of(session, small)
    cpu = train_at_once(session, kind, some, data, CPU, n_epochs=2)
    notes = [f"CPU: extrapolated from {count} models at once, 2 epochs of {small:,} images"]
    cpu_seconds = cpu.forecast(n_epochs, images=full / small, models=len(configs) / count)
    session.write(row, cpu_seconds=cpu_seconds, cpu_notes=notes)
    same = train_at_once(session, kind, some, data, session.device, n_epochs=2)
    session.write(row, figures=_likeness(same, cpu, data, "the CPU's"))


def _at_once_on_the_gpu(
    session: Session, kind: Any, configs: Sequence[Any], row: str, n_epochs: int, sizes: tuple[int, int]
) -> tuple[Side, Data]:
    """Train a part of the images first, which says how long all of them take; then all, where they fit into the time."""
    small, full = sizes
    session.forget()
    data = data_of(session, small)
    side = train_at_once(session, kind, configs, data, session.device, n_epochs=2)
    gpu_notes = _room_notes(session, kind, configs, data)
    extrapolated = f"GPU: extrapolated from {epochs(side.n_epochs)} of {small:,} images"
    session.write(row, gpu_seconds=side.forecast(n_epochs, images=full / small), gpu_notes=[extrapolated, *gpu_notes])
    if side.forecast(1, images=full / small) * SAFETY > SHARE * session.left():
        return side, data
    data = data_of(session, full)
    side = train_at_once(session, kind, configs, data, session.device, n_epochs=n_epochs, share=SHARE)
    if side.n_epochs < n_epochs:
        gpu_notes.append(f"GPU: extrapolated from {epochs(side.n_epochs)}")
    session.write(row, gpu_seconds=side.forecast(n_epochs) if side.n_epochs < n_epochs else side.seconds, gpu_notes=gpu_notes)
    return side, data


def _room_notes(session: Session, kind: Any, configs: Sequence[Any], data: Data) -> list[str]:
    model = kind(configs[0], device="cpu")
    model.start(data)
    if n_kept(model) * len(configs) <= room_of(session.device):
        return []
    return ["fit_population would train these one by one, as their batches take too much memory: fit_together is timed"]


def _one_by_one(
    session: Session, kind: Any, configs: Sequence[Any], row: str, n_epochs: int, gpu: tuple[Side, Data], full: int, small: int
) -> None:
    """Time some of the configurations alone on the GPU, and hold them beside the same ones trained at once."""
    at_once, data = gpu
    n_train, done = len(data.train), at_once.n_epochs
    places = [place * len(configs) // ONE_BY_ONE for place in range(ONE_BY_ONE)]
    kind(configs[0], device=str(session.device)).fit(data_of(session, small))
    seconds, differences, equal = [], [], []
    budget = 0.4 * session.left()
    session.forget()
    for place in places:
        model = kind(configs[place].replace(epochs=done), device=str(session.device))
        losses: list[float] = []
        seconds.append(session.seconds(lambda: losses.extend(_losses(model, data))))  # noqa: B023  called at once
        differences.append(abs(losses[-1] / at_once.losses[-1][place] - 1))
        if kind is Ann:
            equal.append(equal_share(model.predict(data.test.x), at_once.models[place].predict(data.test.x)))
        factor = len(configs) * n_epochs / done * full / n_train
        notes = [f"GPU: {len(seconds)} models alone, {epochs(done)} of {n_train:,} images, times {factor / len(seconds):.4g}"]
        figures = {"test_loss beside at once, largest relative difference": max(differences)}
        if equal:
            figures["labels equal to those of at once"] = min(equal)
        session.write(row, gpu_seconds=statistics.mean(seconds) * factor, gpu_notes=notes, figures=figures)
        if sum(seconds) + seconds[-1] > budget:
            return


def epochs(count: int) -> str:
    return "an epoch" if count == 1 else f"{count} epochs"


def _losses(model: Any, data: Data) -> list[float]:
    return [epoch.metrics["test_loss"] for epoch in model.fit_epochs(data)]


def data_of(session: Session, n_train: int) -> Data:
    return pictures(n_train, session.size(N_TEST, 500), evaluated=True)


def train_at_once(
    session: Session,
    kind: Any,
    configs: Sequence[Any],
    data: Data,
    device: torch.device,
    *,
    n_epochs: int | None = None,
    share: float = 1.0,
) -> Side:
    """Train configurations as one program on a device, set-up included; ends early where a share of the time left is over."""
    end = time.monotonic() + share * session.left()
    if n_epochs is not None:
        configs = [config.replace(epochs=n_epochs) for config in configs]
    session.wait()
    begin = time.perf_counter()
    models = [kind(config, device=str(device)) for config in configs]
    for model in models:
        model.start(data)
    side = Side(models, [], [])
    for round_ in fit_together(models, data, stopped=set()):
        session.wait()
        side.times.append(time.perf_counter() - begin)
        side.losses.append([float("nan") if epoch is None else epoch.metrics["test_loss"] for epoch in round_])
        if time.monotonic() + side.seconds / side.n_epochs > end:
            break
    return side


def _likeness(found: Side, wanted: Side, data: Data, whose: str) -> dict[str, float]:
    """Compare two sides that had the same configurations; orders of images and masks are each device's own."""
    pairs = zip(found.losses[-1], wanted.losses[-1], strict=True)
    figures = {f"test_loss beside {whose}, median relative difference": statistics.median(abs(a / b - 1) for a, b in pairs)}
    if isinstance(found.models[0], Ann):
        last = [side.models[-1].predict(data.test.x) for side in (found, wanted)]
        figures[f"labels equal to {whose}"] = equal_share(*last)
        figures["test accuracy of the last"] = equal_share(last[0], data.test.y.numpy())
    return figures
