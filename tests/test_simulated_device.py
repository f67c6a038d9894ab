"""The simulated CUDA device: what it refuses, and that the product's code on it is right and waits for it once an epoch at most."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paretune.batched import training
from paretune.core.devices import pick_device
from paretune.data import augmentation
from paretune.data.dataset import Data
from paretune.data.images import Samples
from paretune.kernel_svm import batched_solver
from paretune.models.contract import Model
from paretune.models.registry import model_class
from paretune.networks import classifier
from paretune.networks.optimizers import OPTIMIZERS
from paretune.trainers.ann import Ann, AnnConfig
from paretune.trainers.autoencoder import Autoencoder, AutoencoderConfig
from paretune.trainers.softmax import Softmax, SoftmaxConfig
from paretune.trainers.svm import Svm, SvmConfig
from tests.samples import assert_alike, small_data
from tests.simulated_device import WAITS, simulated_cuda

DEVICE_ERRORS = (RuntimeError, TypeError)


@pytest.fixture(autouse=True)
def _two_devices() -> Iterator[None]:
    with simulated_cuda(2):
        yield


def cuda(*values: float, device: str = "cuda") -> torch.Tensor:
    return torch.tensor([float(value) for value in values], device=device)


# What the device is


REFUSED: dict[str, Callable[[], Any]] = {
    "operands on two sides": lambda: cuda(1, 2) + torch.ones(2),
    "operands on two devices": lambda: cuda(1, 2) + cuda(1, 2, device="cuda:1"),
    "a scalar of the device with many of the host": lambda: torch.ones(2) * cuda(1)[0],
    "a scalar of the host joined": lambda: torch.stack([cuda(1)[0], torch.tensor(1.0)]),
    "places of the host in index_select": lambda: cuda(1, 2).index_select(0, torch.tensor([0])),
    "places of the device in the host's": lambda: torch.ones(2)[torch.tensor([0], device="cuda")],
    "in place into the host's": lambda: torch.ones(()).add_(cuda(1)[0]),
    "out of the host": lambda: torch.add(cuda(1), cuda(2), out=torch.ones(1)),
    "a network of the host": lambda: nn.Linear(2, 1)(cuda(1, 2)),
    "numbers of a device as an array": lambda: cuda(1).numpy(),
    "numbers of a device in numpy's functions": lambda: np.mean([cuda(1), cuda(2)], axis=0),
    "random numbers of the host's generator": lambda: cuda(1).bernoulli_(0.5, generator=torch.Generator()),
    "random numbers of the device's generator": lambda: torch.rand(2, generator=torch.Generator("cuda")),
    "a gradient of the host": lambda: setattr(cuda(1).requires_grad_(), "grad", torch.ones(1)),
    "a third device": lambda: torch.zeros(1, device="cuda:2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_gpu_refuses_is_refused(name: str) -> None:
    with pytest.raises(DEVICE_ERRORS, match=r"same device|two devices|cuda|generator|indices should be|ordinal"):
        REFUSED[name]()


def test_what_a_gpu_accepts_is_computed() -> None:
    values = cuda(1, 2, 3)
    assert (values.device, values.is_cuda, str(values.to("cuda:1").device)) == (torch.device("cuda", 0), True, "cuda:1")
    assert (values * torch.tensor(2.0)).tolist() == [2, 4, 6]
    assert values[torch.tensor([2, 0])].tolist() == [3, 1]
    values[1:] = torch.tensor([5.0, 6.0])
    assert values.cpu().numpy().tolist() == [1, 5, 6]
    host = values.cpu()
    host.zero_()
    assert values.sum().item() == 12, "a copy of the host is a copy"
    layer = nn.Linear(3, 1).to("cuda")
    layer(values).backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.device == values.device
    assert pick_device("auto") == values.device


WAITING: dict[str, tuple[int, Callable[[torch.Tensor], Any]]] = {
    "arithmetic": (0, lambda x: (x + 1).sum().square_()),
    "places": (0, lambda x: x[1:].clone().index_select(0, torch.zeros(1, dtype=torch.int64, device="cuda"))),
    "clipping": (0, lambda x: nn.utils.clip_grad_norm_([nn.Parameter(x)], 1.0)),
    "item": (1, lambda x: x[0].item()),
    "a condition": (1, lambda x: bool(x[0] > 0)),
    "to the host": (1, lambda x: x.cpu()),
    "from the host": (1, lambda x: torch.ones(1).to(x.device)),
    "a mask": (1, lambda x: x[x > 1]),
    "as an array": (1, lambda x: x.numpy(force=True)),
    "bincount": (2, lambda x: x.long().bincount()),
}


@pytest.mark.parametrize("name", WAITING)
def test_waits_of_the_host_are_counted(name: str) -> None:
    values = cuda(1, 2, 3)
    WAITS.clear()
    WAITING[name][1](values)
    assert sum(WAITS.values()) == WAITING[name][0]
    assert all(line.startswith("tests/test_simulated_device.py:") for line in WAITS)


def test_other_threads_have_the_device_too() -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.zeros(1, device="cuda").device.type))
    thread.start()
    thread.join()
    assert found == ["cuda"]


# The product on it

SMALL: dict[str, Any] = {"epochs": 3, "batch_size": 16}
CNN: dict[str, Any] = {"n_conv": 1, "channels": 3, "hidden": [6]}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "softmax": {"classifier": "softmax"},
    "dense": {"classifier": "ann", "hidden": [8, 6], "dropout": 0.3},
    # sgd, as Adam would follow the rounding of a bias before a batch norm, whose gradient is 0
    "convolutional": {"classifier": "ann", **CNN, "batch_norm": True, "dropout": 0.2, "optimizer": "sgd", "learning_rate": 0.05},
    "augmented": {"classifier": "ann", "hidden": [8], "augment": True, "crop": 1, "flip": True},
    "clipped": {"classifier": "ann", **CNN, "clip_norm": 0.1},
    "clipped, written out": {"classifier": "ann", "hidden": [8], "clip_norm": 0.1},
    "stopped early": {"classifier": "ann", "hidden": [8], "early_stopping": 1, "learning_rate": 0.5, "epochs": 6},
    "scheduled": {"classifier": "ann", **CNN, "schedule": "cosine"},
    "weights and smoothing": {"classifier": "softmax", "class_weight": "balanced", "label_smoothing": 0.1},
    "squared errors": {"classifier": "softmax", "loss": "mse", "class_weight": "balanced"},
    "hinge": {"classifier": "softmax", "loss": "multi_margin"},
    "half": {"classifier": "ann", "hidden": [8], "normalize": "half"},
    "imagenet": {"classifier": "ann", "hidden": [8], "normalize": "imagenet"},
    "train_only": {"classifier": "ann", "hidden": [8], "train_only": ["output"]},
    "autoencoder": {"classifier": "autoencoder", "hidden": [5], "dropout": 0.1},
    **{f"{name} written out": {"classifier": "ann", "hidden": [8], "optimizer": name} for name in OPTIMIZERS},
    **{f"{name} by autograd": {"classifier": "ann", **CNN, "optimizer": name} for name in OPTIMIZERS},
}


def built(name: str, *, device: str, precision: str = "fp32") -> Any:
    values = {**SMALL, **CONFIGURATIONS[name]}
    kind = model_class(values.pop("classifier"))
    return kind(kind.Config.from_dict(values), device=device, precision=precision)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_training_gives_the_cpus_epochs_and_waits_once_an_epoch(name: str, device: str) -> None:
    data = small_data()
    wanted = list(built(name, device="cpu").fit_epochs(data))
    found = []
    for epoch in built(name, device=device).fit_epochs(data):
        if found:  # before the first one the data and the network are laid out
            assert sum(WAITS.values()) <= 1, WAITS
        found.append(epoch)
        WAITS.clear()
    assert_alike(found, wanted)


@pytest.mark.parametrize("name", ["dense", "convolutional", "augmented", "softmax"])
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_every_precision_trains_and_waits_once_an_epoch(name: str, precision: str) -> None:
    data = small_data()
    alike = "bf16" if precision == "bf16" else "fp32"
    wanted = list(built(name, device="cpu", precision=alike).fit_epochs(data))
    found = []
    for epoch in built(name, device="cuda", precision=precision).fit_epochs(data):
        if found:
            assert sum(WAITS.values()) <= 1, WAITS
        found.append(epoch)
        WAITS.clear()
    assert_alike(found, wanted, within=1e-2 if precision == "bf16" else 1e-4)


@pytest.mark.parametrize("name", ["dense", "autoencoder", "clipped, written out"])
def test_batched_training_waits_once_an_epoch(name: str) -> None:
    data = small_data()
    models = [built(name, device="cuda") for _ in range(5)]
    rounds = []
    for epochs in type(models[0]).fit_population([model.config for model in models], data, device="cuda"):
        if rounds:
            assert sum(WAITS.values()) <= 1, WAITS
        rounds.append(epochs)
        WAITS.clear()
    wanted = list(built(name, device="cpu").fit_epochs(data))
    for member in range(5):
        assert_alike([epochs[member] for epochs in rounds if epochs[member] is not None], wanted)


def test_the_next_training_on_the_same_data_copies_no_image() -> None:
    data = small_data()
    first, second = built("softmax", device="cuda"), built("softmax", device="cuda")
    first.fit(data)
    WAITS.clear()
    second.fit(data)
    n_weights = len(list(second._net.parameters()))
    assert sum(WAITS.values()) == n_weights + SMALL["epochs"], WAITS


@pytest.mark.parametrize("values", [{}, {"probability": True}, {"kernel": "linear"}, {"class_weight": "balanced"}], ids=str)
def test_the_svm_solver_of_gpus_gives_libsvms_machine(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_data(n_train=70)
    wanted = Svm(SvmConfig.from_dict(values), device="cpu").fit(data)
    monkeypatch.setattr(batched_solver, "FROM", 0)
    found = Svm(SvmConfig.from_dict(values), device="cuda").fit(data)
    np.testing.assert_allclose(found.decisions(data.test.x), wanted.decisions(data.test.x), atol=0.01)
    np.testing.assert_array_equal(found.predict(data.test.x), wanted.predict(data.test.x))


# Tensors that are on the wrong side, planted in the product


def _on_the_host(*args: Any, **kwargs: Any) -> Any:
    """torch's randperm, whose order stays with the host."""
    kwargs.pop("device", None)
    return REAL_RANDPERM(*args, **kwargs)


REAL_RANDPERM = torch.randperm


def _plant_labels(patch: pytest.MonkeyPatch) -> Model:
    patch.setattr(Samples, "to", lambda self, device: Samples(self.x.to(device), self.y))
    return Softmax(SoftmaxConfig(**SMALL, loss="mse"))


def _plant_order(patch: pytest.MonkeyPatch) -> Model:
    patch.setattr(torch, "randperm", _on_the_host)
    return Ann(AnnConfig(**SMALL, **CNN))


def _plant_normalization(patch: pytest.MonkeyPatch) -> Model:
    real = classifier.GradientClassifier._normalization
    patch.setattr(Softmax, "_normalization", lambda self, x: tuple(part.cpu() for part in real(self, x)))
    return Softmax(SoftmaxConfig(**SMALL))


def _plant_class_weights(patch: pytest.MonkeyPatch) -> Model:
    patch.setattr(Softmax, "_learn_inputs", _weights_of_the_host(Softmax._learn_inputs))
    return Softmax(SoftmaxConfig(**SMALL, class_weight="balanced"))


def _weights_of_the_host(real: Any) -> Any:
    def learn(self: Any, data: Data) -> None:
        real(self, data)
        self._weight = self._weight.cpu()

    return learn


def _plant_network(patch: pytest.MonkeyPatch) -> Model:
    patch.setattr(nn.Module, "to", lambda self, *args, **kwargs: self)
    return Ann(AnnConfig(**SMALL, **CNN))


def _plant_augmentation(patch: pytest.MonkeyPatch) -> Model:
    real = augmentation.augment
    patch.setattr(augmentation, "augment", lambda x, **values: real(x.cpu(), **values))
    return Ann(AnnConfig(**SMALL, hidden=[4], augment=True))


def _plant_generator(patch: pytest.MonkeyPatch) -> Model:
    real = torch.Generator
    patch.setattr(training.torch, "Generator", lambda device: real("cpu"))
    return Ann(AnnConfig(**SMALL, hidden=[4], dropout=0.5))


def _plant_array(patch: pytest.MonkeyPatch) -> Model:
    from paretune.models import device_metrics

    patch.setattr(device_metrics, "to_host", lambda tensors: [tensor.numpy() for tensor in tensors])
    return Autoencoder(AutoencoderConfig(**SMALL, hidden=[4]))


def _plant_kernel_values(patch: pytest.MonkeyPatch) -> Model:
    real = batched_solver.kernel_on
    patch.setattr(batched_solver, "FROM", 0)
    patch.setattr(
        batched_solver, "kernel_on", lambda device, x, kernel: real(device, x, kernel).diagonal().cpu() + real(device, x, kernel)
    )
    return Svm()


PLANTED = (
    *(_plant_labels, _plant_order, _plant_normalization, _plant_class_weights, _plant_network, _plant_augmentation),
    *(_plant_generator, _plant_array, _plant_kernel_values),
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__.removeprefix("_plant_"))
def test_a_misplaced_tensor_is_caught(plant: Callable[[pytest.MonkeyPatch], Model], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        model = plant(patch)
        with pytest.raises(DEVICE_ERRORS, match=r"same device|two devices|cuda|generator"):
            model.fit(small_data())
    type(model)(model.config).fit(small_data())  # as it is, it trains
