"""Trainings on the GPU give the CPU's epochs: every way to train, batched trainings, checkpoints, fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paretune.batched.networks import Room, Stack, described
from paretune.batched.training import is_written_out
from paretune.data.augmentation import augment
from paretune.data.dataset import Data
from paretune.models.checkpoint import load_checkpoint, save_checkpoint
from paretune.models.registry import model_class
from paretune.models.saved_models import save
from paretune.networks.cpu_convolutions import Dropout
from tests.gpu.comparing import assert_close, config_of, data, trained

pytestmark = pytest.mark.gpu

STEPS: dict[str, Any] = {"epochs": 4, "batch_size": 40, "learning_rate": 0.01}
DENSE: dict[str, Any] = {**STEPS, "hidden": [24, 16]}
CNN: dict[str, Any] = {**STEPS, "n_conv": 2, "channels": 8, "hidden": [16]}
WRITTEN_OUT: dict[str, dict[str, Any]] = {
    "sgd with momentum": {**DENSE, "optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.001},
    "adam, tanh": {**DENSE, "optimizer": "adam", "activation": "tanh"},
    "adamw, clipped, cosine": {**DENSE, "optimizer": "adamw", "clip_norm": 0.5, "schedule": "cosine", "activation": "gelu"},
    "rmsprop, class weights": {**DENSE, "optimizer": "rmsprop", "learning_rate": 0.002, "class_weight": {"c1": 3.0}},
    "nadam, smoothed labels": {**DENSE, "optimizer": "nadam", "label_smoothing": 0.1, "activation": "silu"},
}
BY_AUTOGRAD: dict[str, dict[str, Any]] = {
    "dense, squared errors, sgd": {**DENSE, "loss": "mse", "optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.9},
    "convolutions, adam": {**CNN},
    "convolutions, batch norm, sgd": {**CNN, "batch_norm": True, "optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9},
    "convolutions, augmented, adamw": {**CNN, "augment": True, "flip": True, "optimizer": "adamw"},
}
AUTOENCODER: dict[str, Any] = {**STEPS, "hidden": [20], "optimizer": "sgd", "learning_rate": 0.9, "momentum": 0.9}


@pytest.mark.usefixtures("same_random")
@pytest.mark.parametrize("name", [*WRITTEN_OUT, *BY_AUTOGRAD])
def test_training_gives_the_cpus_epochs_and_outputs(name: str) -> None:
    values = {**WRITTEN_OUT, **BY_AUTOGRAD}[name]
    (ours, found), (theirs, wanted) = trained("ann", "cuda", **values), trained("ann", "cpu", **values)
    assert is_written_out(ours) == (name in WRITTEN_OUT)
    # pictures that are turned carry the rounding of their angles on to every pixel
    more = 20 if values.get("augment") else 1
    assert_close(found, wanted, absolute=1e-4 * more)
    assert wanted[-1].metrics["test_loss"] < 0.9 * wanted[0].metrics["test_loss"], "it learns, so that a step left out would show"
    test = data().test
    np.testing.assert_allclose(ours.predict_proba(test.x), theirs.predict_proba(test.x), atol=1e-2 if more > 1 else 2e-3)


@pytest.mark.usefixtures("same_random")
def test_an_autoencoder_gives_the_cpus_epochs_and_pictures() -> None:
    (ours, found), (theirs, wanted) = trained("autoencoder", "cuda", **AUTOENCODER), trained("autoencoder", "cpu", **AUTOENCODER)
    assert_close(found, wanted)
    x = data().test.x
    np.testing.assert_allclose(ours.reconstruct(x), theirs.reconstruct(x), atol=1e-3)
    np.testing.assert_allclose(ours.encode(x), theirs.encode(x), atol=1e-3)


def test_dropout_repeats_itself_drops_at_its_rate_and_learns_as_on_the_cpu() -> None:
    """Masks are the device's own: what is compared is a second training from the seed, the loss reached, and the outputs' mean."""
    for values in ({**DENSE, "epochs": 10, "dropout": 0.3}, {**CNN, "epochs": 10, "dropout": 0.3}):
        (first, found), (_, again), (_, wanted) = (trained("ann", device, **values) for device in ("cuda", "cuda", "cpu"))
        assert_close(found, again, absolute=0.01)  # cuDNN's sums come in any order
        assert found[-1].metrics["test_loss"] == pytest.approx(wanted[-1].metrics["test_loss"], abs=0.1)
        assert found[-1].metrics["train_loss"] > found[-1].metrics["test_loss"], "training drops, scoring does not"
        np.testing.assert_array_equal(first.predict_proba(data().test.x), first.predict_proba(data().test.x))


def test_dropout_drops_at_its_rate_and_keeps_the_mean() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), Dropout(0.3), torch.nn.Linear(64, 2)).to("cuda")
    layers = [torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(64, 2)]
    chain = described(torch.nn.Sequential(*layers).to("cuda"))
    assert chain is not None
    room = Room([Stack([layer]) for layer in chain], 1000, shared=True)
    room.drop(torch.Generator("cuda").manual_seed(0), [0], [0.3, 0.0])
    mask = room.layers[0].mask
    assert mask is not None
    by_autograd = net[2](torch.ones(1000, 64, device="cuda"))
    for found in (mask.cpu(), by_autograd.cpu()):
        assert float((found == 0).float().mean()) == pytest.approx(0.3, abs=0.01)  # of 64,000 numbers: five standard errors
        torch.testing.assert_close(found[found != 0], torch.full_like(found[found != 0], 1 / 0.7), rtol=1e-4, atol=0)


@pytest.mark.usefixtures("same_random")
def test_images_are_augmented_as_on_the_cpu() -> None:
    x = data().test.x
    changes: dict[str, Any] = {"translate": 0.1, "scale": 0.2, "rotate": 20.0, "flip": True}
    moved = augment(x.to("cuda"), **changes)
    np.testing.assert_allclose(moved.cpu().numpy(), augment(x, **changes).numpy(), atol=1e-4)
    assert float((moved.cpu() - x).abs().mean()) > 0.01


@pytest.mark.parametrize(
    "configurations",
    [
        [{**DENSE, "learning_rate": rate, "dropout": 0.2} for rate in (0.003, 0.01, 0.03)],
        [{**DENSE, "seed": seed, "optimizer": optimizer} for seed, optimizer in enumerate(("sgd", "adam", "rmsprop"))],
        [{**DENSE, "learning_rate": 1e-30, "early_stopping": 1}, {**DENSE, "epochs": 2}, {**DENSE, "hidden": [9]}],
    ],
    ids=["one seed, dropout", "seeds and optimizers", "stopped early, fewer epochs, another shape"],
)
def test_batched_training_gives_the_epochs_of_one_by_one(configurations: list[dict[str, Any]]) -> None:
    configs = [config_of("ann", **values) for values in configurations]
    rounds = list(model_class("ann").fit_population(configs, data(), device="cuda"))
    for place, values in enumerate(configurations):
        batched = [epochs[place] for epochs in rounds]
        assert_close([epoch for epoch in batched if epoch is not None], trained("ann", "cuda", **values)[1])


def test_batched_autoencoders_give_the_epochs_of_one_by_one() -> None:
    grid = [{**AUTOENCODER, "learning_rate": rate, "momentum": momentum} for rate in (0.1, 0.9) for momentum in (0.1, 0.8)]
    rounds = list(
        model_class("autoencoder").fit_population([config_of("autoencoder", **values) for values in grid], data(), device="cuda")
    )
    for place, values in enumerate(grid):
        epochs = [epoch for row in rounds if (epoch := row[place]) is not None]
        assert_close(epochs, trained("autoencoder", "cuda", **values)[1])


@pytest.mark.usefixtures("same_random")
@pytest.mark.parametrize(
    "values", [{**DENSE, "schedule": "step"}, {**CNN, "optimizer": "adamw"}], ids=["written out", "by autograd"]
)
@pytest.mark.parametrize("second", ["cuda", "cpu"])
def test_a_checkpoint_of_the_gpu_goes_on_on_either_side(values: dict[str, Any], second: str, tmp_path: Path) -> None:
    _, whole = trained("ann", "cuda", **values)
    kind = model_class("ann")
    begun = kind(config_of("ann", **values), device="cuda")
    epochs = begun.fit_epochs(data())
    first = [next(epochs), next(epochs)]
    state = begun.training_state()
    assert state is not None
    save_checkpoint(tmp_path / "checkpoint", state)
    read = load_checkpoint(tmp_path / "checkpoint")
    assert read is not None
    rest = kind(config_of("ann", **values), device=second)
    rest.resume(read)
    assert_close([*first, *rest.fit_epochs(data())], whole)


@pytest.mark.usefixtures("same_random")
def test_fine_tuning_begins_from_a_saved_model_and_changes_the_named_layer_alone(tmp_path: Path) -> None:
    base, _ = trained("ann", "cuda", **CNN)
    save(base, tmp_path / "base", metrics={})
    values = {**CNN, "start_from": str(tmp_path / "base"), "train_only": ["output"], "seed": 7}
    (ours, found), (_, wanted) = trained("ann", "cuda", **values), trained("ann", "cpu", **values)
    assert_close(found, wanted)
    before, after = base.state(), ours.state()
    changed = {name.split(".")[1] for name, array in after.items() if name.startswith("net.") and (array != before[name]).any()}
    assert changed == {"output"}


def test_training_leaves_no_setting_changed_and_the_second_one_repeats_the_first() -> None:
    on: Data = data()
    before = torch.get_num_threads(), torch.backends.cuda.matmul.fp32_precision, torch.random.get_rng_state()
    (_, first), (_, second) = trained("ann", "cuda", on=on, **CNN), trained("ann", "cuda", on=on, **CNN)
    assert_close(second, first)
    after = torch.get_num_threads(), torch.backends.cuda.matmul.fp32_precision, torch.random.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
