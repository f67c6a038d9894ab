"""Dense networks written out, one and many at once: each learns what autograd would have taught it alone."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from paretune.batched import training
from paretune.batched.networks import FORMS, Room
from paretune.batched.training import fit_together, is_written_out, key_of
from paretune.core.epoch import Epoch
from paretune.data.dataset import Data, data_root, load_data
from paretune.data.options import DataOptions
from paretune.models.registry import model_class
from paretune.networks import loop
from paretune.networks.builder import ACTIVATIONS
from paretune.networks.loop import GradientModel
from paretune.networks.optimizers import OPTIMIZERS
from tests.samples import assert_alike, small_data

pytestmark = pytest.mark.usefixtures("each_device")

# Layers, and what else the members of a program must have in common.
SHAPES: dict[str, dict[str, Any]] = {
    "softmax": {"classifier": "softmax", "normalize": "half"},
    "one layer": {"classifier": "ann", "hidden": [8]},
    "three layers": {"classifier": "ann", "hidden": [12, 9, 7], "activation": "tanh"},
    "weights": {"classifier": "ann", "hidden": [8], "class_weight": {"c1": 3.0}, "label_smoothing": 0.1},
    "smoothing": {"classifier": "ann", "hidden": [8], "label_smoothing": 0.2},
    "autoencoder": {"classifier": "autoencoder", "hidden": [5]},
    "deep autoencoder": {"classifier": "autoencoder", "hidden": [12, 5], "activation": "gelu"},
}
every_shape = pytest.mark.parametrize("shape", SHAPES)
# What the members may differ in.
MEMBERS: list[dict[str, Any]] = [
    {"optimizer": "sgd", "learning_rate": 0.1},
    {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "optimizer_settings": {"nesterov": True}, "weight_decay": 0.01},
    {"optimizer": "sgd", "learning_rate": 0.02, "momentum": 0.5, "epochs": 2},
    {"optimizer": "adam", "learning_rate": 0.01, "clip_norm": 0.5},
    {"optimizer": "adamw", "learning_rate": 0.02, "weight_decay": 0.1, "schedule": "cosine"},
    {"optimizer": "rmsprop", "learning_rate": 0.003},
]


def built(shape: str, *, device: str = "auto", **values: Any) -> Any:
    settings = {"epochs": 4, "batch_size": 16, **SHAPES.get(shape, {}), **values}
    kind = model_class(settings.pop("classifier"))
    return kind(kind.Config.from_dict(settings), device=device)


def by_autograd(model: Any, data: Data) -> list[Epoch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "is_written_out", lambda model: False)
        return list(model.fit_epochs(data))


def together(models: list[Any], data: Data, stopped: set[int] | None = None, **settings: Any) -> list[list[Epoch]]:
    found: list[list[Epoch]] = [[] for _ in models]
    for epochs in fit_together(models, data, stopped=set() if stopped is None else stopped, **settings):
        for own, epoch in zip(found, epochs, strict=True):
            if epoch is not None:
                own.append(epoch)
    return found


def assert_same_weights(ours: Any, theirs: Any, *, within: float = 1e-5) -> None:
    for name, array in theirs.state().items():
        np.testing.assert_allclose(ours.state()[name], array, rtol=within, atol=within, err_msg=name)


@every_shape
@pytest.mark.parametrize("values", MEMBERS, ids=lambda values: values["optimizer"])
def test_one_model_learns_what_autograd_teaches_it(shape: str, values: dict[str, Any]) -> None:
    data, ours, theirs = small_data(), built(shape, **values), built(shape, **values)
    assert is_written_out_of(ours, data)
    assert_alike(list(ours.fit_epochs(data)), by_autograd(theirs, data))
    assert_same_weights(ours, theirs)


def is_written_out_of(model: Any, data: Data) -> bool:
    model.start(data)
    return is_written_out(model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_goes_on_as_under_autograd(optimizer: str) -> None:
    data, values = small_data(), {"optimizer": optimizer, "learning_rate": 0.02, "weight_decay": 0.001, "schedule": "exponential"}
    ours, theirs = built("one layer", **values), built("one layer", **values)
    assert_alike(list(ours.fit_epochs(data)), by_autograd(theirs, data))
    assert_same_weights(ours, theirs)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_that_of_autograd(activation: str) -> None:
    data, values = small_data(), {"hidden": [8, 6], "activation": activation, "dropout": 0.3, "learning_rate": 0.01}
    ours, theirs = built("one layer", **values), built("one layer", **values)
    assert is_written_out_of(ours, data) == (activation != "prelu")
    assert_alike(list(ours.fit_epochs(data)), by_autograd(theirs, data))
    assert_same_weights(ours, theirs)


def test_every_activation_but_prelu_is_written_out() -> None:
    assert set(FORMS) == set(ACTIVATIONS.values()) - {torch.nn.PReLU}


@every_shape
@pytest.mark.parametrize("seeds", ["one", "several"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_many_models_learn_what_each_would_alone(shape: str, seeds: str, dropout: float) -> None:
    data = small_data()
    rates = {} if shape == "softmax" else {"dropout": dropout}
    configs = [{**values, **rates, "seed": number if seeds == "several" else 3} for number, values in enumerate(MEMBERS)]
    models = [built(shape, **values) for values in configs]
    found = together(models, data)
    for values, ours, epochs in zip(configs, models, found, strict=True):
        theirs = built(shape, **values)
        assert_alike(epochs, by_autograd(theirs, data), within=1e-4)  # rmsprop divides by gradients near 0
        assert_same_weights(ours, theirs, within=1e-4)


def test_the_seconds_of_a_model_are_its_share_of_the_training_without_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    train, evaluate, now = training.Program.train_epoch, training.Program.evaluate, SimpleNamespace(seconds=0.0)

    def slow(original: Any, seconds: float) -> Any:
        def slowed(*arguments: Any) -> Any:
            now.seconds += seconds
            return original(*arguments)

        return slowed

    monkeypatch.setattr(time, "perf_counter", lambda: now.seconds)
    monkeypatch.setattr(training.torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(training.Program, "train_epoch", slow(train, 0.2))
    monkeypatch.setattr(training.Program, "evaluate", slow(evaluate, 1.0))
    for epochs in together([built("one layer", epochs=1, seed=seed) for seed in range(4)], small_data()):
        assert epochs[0].metrics["seconds"] == pytest.approx(0.05)


def test_models_that_drop_at_other_rates_are_one_program() -> None:
    data, rates = small_data(), (0.0, 0.2, 0.2, 0.7)
    models = [built("three layers", dropout=rate) for rate in rates]
    assert len({key_of(model.config) for model in models}) == 1
    for rate, epochs in zip(rates, together(models, data), strict=True):
        assert_alike(epochs, by_autograd(built("three layers", dropout=rate), data))


def test_models_of_other_shapes_and_data_without_a_hold_out_train_side_by_side() -> None:
    data = small_data(split="none")
    shapes = ("softmax", "softmax")
    models = [built("one layer"), built("one layer", hidden=[5]), built("one layer", batch_size=7), built("one layer", seed=2)]
    alone = [built("one layer"), built("one layer", hidden=[5]), built("one layer", batch_size=7), built("one layer", seed=2)]
    assert len({key_of(model.config) for model in models}) == 3
    for epochs, theirs in zip(together(models, data), alone, strict=True):
        assert_alike(epochs, by_autograd(theirs, data))
    assert together([built(shape) for shape in shapes], data)[0][-1].last


def test_early_stopping_takes_a_model_out_and_leaves_the_others() -> None:
    data = small_data()
    values = [{"learning_rate": rate, "early_stopping": 2, "epochs": 30} for rate in (1.0, 0.0001, 0.3)]
    found = together([built("softmax", **own) for own in values], data)
    for own, epochs in zip(values, found, strict=True):
        assert_alike(epochs, by_autograd(built("softmax", **own), data), within=1e-4)
    assert len({len(epochs) for epochs in found}) > 1


def test_a_stopped_model_leaves_and_keeps_what_it_has_learnt() -> None:
    data, stopped = small_data(), {1}
    models = [built("one layer", seed=seed) for seed in range(3)]
    found = together(models, data, stopped)
    assert [len(epochs) for epochs in found] == [4, 1, 4]
    first = built("one layer", seed=1)
    next(first.fit_epochs(data))
    assert_same_weights(models[1], first)
    for seed in (0, 2):
        assert_alike(found[seed], by_autograd(built("one layer", seed=seed), data))


def test_a_model_that_diverges_ends_alone() -> None:
    data, values = small_data(), {"optimizer": "sgd", "epochs": 30, "normalize": "standard"}
    found = together([built("softmax", learning_rate=rate, **values) for rate in (1e38, 0.1)], data)
    assert found[0][-1].last
    assert len(found[0]) < len(found[1]) == 30
    assert_alike(found[1], by_autograd(built("softmax", learning_rate=0.1, **values), data))


def test_each_model_ends_with_parameters_of_its_own() -> None:
    models = [built("one layer", seed=1), built("one layer", seed=2)]
    together(models, small_data())
    for model in models:
        for parameter in model._net.parameters():
            assert parameter.untyped_storage().nbytes() == parameter.nbytes
            assert parameter.grad is None


def test_a_checkpoint_holds_one_model_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.models.checkpoint.CHECKPOINT_SECONDS", 0.0)
    data, paths = small_data(), [tmp_path / f"{seed}.pt" for seed in range(2)]
    rounds = fit_together([built("one layer", seed=seed) for seed in range(2)], data, stopped=set(), checkpoints=paths)
    for _ in range(3):
        next(rounds)
    rounds.close()
    assert paths[0].stat().st_size < 2 * 4 * 4000  # 263 weights and twice as many momenta, with torch's own frame
    again = [built("one layer", seed=seed) for seed in range(2)]
    for seed, epochs in enumerate(together(again, data, checkpoints=paths)):
        assert [epoch.number for epoch in epochs] == [3, 4]
        assert_alike(epochs, by_autograd(built("one layer", seed=seed), data)[2:])


@pytest.mark.parametrize(
    "values",
    [
        {"n_conv": 1, "channels": 2},
        {"batch_norm": True},
        {"activation": "prelu"},
        {"loss": "mse"},
        {"loss": "multi_margin"},
        {"augment": True},
        {"dropout": [{"after": "hidden_1.linear", "rate": 0.2}]},
        {"dropout": [{"after": "input", "rate": 0.2}]},
        {"train_only": ["output"]},
    ],
    ids=str,
)
def test_what_is_not_written_out_trains_by_autograd(values: dict[str, Any]) -> None:
    data = small_data()
    assert not is_written_out_of(built("one layer", **values), data)
    configs = [built("one layer", **values, seed=seed).config for seed in range(2)]
    for seed, (first, _) in enumerate([*model_class("ann").fit_population(configs, data)][:2]):
        assert first is not None
        assert first.number == seed + 1


def test_bf16_is_not_written_out() -> None:
    kind = model_class("ann")
    assert not is_written_out_of(kind(kind.Config(), precision="bf16"), small_data())


@every_shape
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_program_keeps_no_more_than_is_counted(shape: str, dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {} if shape == "softmax" else {"dropout": dropout}
    models = [built(shape, seed=seed, epochs=1, **values) for seed in range(3)]
    rooms: list[Room] = []
    monkeypatch.setattr(training, "Room", lambda *given, **named: rooms.append(Room(*given, **named)) or rooms[-1])
    monkeypatch.setattr(training.torch, "get_num_threads", lambda: 1)
    together(models, small_data())
    learnt = ("weight", "bias", "weight_gradient", "bias_gradient", "weight_turned")
    buffers: dict[int, int] = {}
    for held in [vars(room) for room in rooms] + [vars(layer) for room in rooms for layer in room.layers]:
        for name, one in held.items():
            if isinstance(one, torch.Tensor) and name not in learnt:
                buffers[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes() // 4
    kept = sum(buffers.values())
    assert kept > 0
    assert kept <= sum(map(training.n_kept, models))


def test_models_that_would_keep_too_much_train_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [built("one layer", seed=seed, epochs=1).config for seed in range(3)]
    monkeypatch.setattr(training, "fit_together", lambda *_, **__: pytest.fail("they keep too much"))
    monkeypatch.setattr(training, "room_of", lambda device: 10)
    ((*epochs,),) = model_class("ann").fit_population(configs, small_data())
    assert all(epoch is not None and epoch.last for epoch in epochs)


@pytest.mark.parametrize(("small_step", "wanted"), [(0, {4}), (5_000_000, {1})])
def test_large_nets_in_few_programs_share_the_threads_out(
    small_step: int, wanted: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    original = training.Program.train_epoch

    def noted(self: training.Program, *given: Any) -> Any:
        found.append(torch.get_num_threads())
        return original(self, *given)

    monkeypatch.setattr(training.Program, "train_epoch", noted)
    monkeypatch.setattr(loop, "SMALL_STEP", small_step)
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        together([built("one layer", device="cpu", seed=seed, epochs=2) for seed in range(2)], small_data())
    finally:
        torch.set_num_threads(before)
    assert set(found) == wanted


def test_programs_are_as_large_as_the_cache_and_as_many_as_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = training.Program.__init__

    def noted(self: training.Program, models: list[GradientModel], *rest: Any) -> None:
        sizes.append(len(models))
        original(self, models, *rest)

    monkeypatch.setattr(training.Program, "__init__", noted)
    before = torch.get_num_threads()
    models = [built("one layer", device="cpu", seed=seed, epochs=1) for seed in range(7)]
    together(models, small_data())
    assert sum(sizes) == 7
    assert len(sizes) == min(before, 7)
    sizes.clear()
    monkeypatch.setattr(training, "TOGETHER", 2 * models[0].n_parameters)
    together([built("one layer", device="cpu", seed=seed, epochs=1) for seed in range(7)], small_data())
    assert sum(sizes) == 7
    assert max(sizes) <= 2
    assert torch.get_num_threads() == before


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    together([built("one layer", seed=seed, dropout=0.5) for seed in range(2)], small_data())
    assert torch.equal(torch.rand(3), wanted)


def test_digits_one_by_one_and_together() -> None:
    data = load_data(DataOptions())
    configs = [
        {"hidden": [32], "learning_rate": rate, "epochs": 6, "batch_size": 64, "dropout": 0.1} for rate in (0.001, 0.003, 0.01)
    ]
    for values, epochs in zip(configs, together([built("", classifier="ann", **values) for values in configs], data), strict=True):
        assert_alike(epochs, by_autograd(built("", classifier="ann", **values), data), within=1e-3)


@pytest.mark.needs_data
@pytest.mark.parametrize("shape", ["one layer", "autoencoder"])
def test_a_part_of_mnist_one_by_one_and_together(shape: str) -> None:
    if not (data_root() / "MNIST" / "raw").exists():
        pytest.skip("MNIST is not below DATA_ROOT")
    data = load_data(DataOptions(data="mnist", train_size=3000, holdout=0.1))
    configs: list[dict[str, Any]] = [
        {
            "hidden": [32],
            "epochs": 3,
            "batch_size": 64,
            "optimizer": "sgd",
            "learning_rate": rate,
            "momentum": momentum,
            "seed": seed,
        }
        for rate, momentum, seed in ((0.05, 0.0, 0), (0.02, 0.9, 0), (0.1, 0.5, 1))
    ]
    for values, epochs in zip(configs, together([built(shape, **values) for values in configs], data), strict=True):
        assert_alike(epochs, by_autograd(built(shape, **values), data), within=2e-3)  # an image of 6,000 may change sides
