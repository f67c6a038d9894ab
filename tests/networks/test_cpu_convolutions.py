"""Convolutional nets on the CPU: dropout from random bits is dropout, and what is done for speed changes no result."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paretune.networks import cpu_convolutions
from paretune.networks.builder import build_network
from paretune.networks.cpu_convolutions import DROPPED_FROM, Dropout, keep_freed_memory, multiply_adds
from paretune.trainers.ann import Ann, AnnConfig
from tests.samples import ROOT, small_data

SHAPE = (64, 8, 10, 9)  # more numbers than DROPPED_FROM, and no multiple of 4 in one image's row


def ones(dtype: torch.dtype = torch.float32, memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    return torch.ones(SHAPE, dtype=dtype).contiguous(memory_format=memory_format)


def drop(p: float, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return Dropout(p).train()(x)


@pytest.mark.parametrize("p", [0.001, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_so_many_numbers_are_dropped_and_the_others_are_scaled(p: float, dtype: torch.dtype) -> None:
    x = torch.ones(1_000_000, dtype=dtype)
    dropped = drop(p, x)
    scaled = torch.tensor(1 / (1 - p), dtype=dtype)
    assert set(dropped.unique().tolist()) == {0.0, float(scaled)}
    share = float((dropped == 0).double().mean())
    assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / len(x))  # of a fair draw, once in a million


def test_neighbours_are_dropped_independently() -> None:
    kept = (drop(0.5, torch.ones(1_000_000)) > 0).double() - 0.5
    for distance in (1, 2, 3, 4, 8, 64):  # four neighbours come from one random number
        assert abs(float((kept[distance:] * kept[:-distance]).mean()) * 4) < 5e-3


@pytest.mark.parametrize("p", [0.3, 0.5])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_gradient_is_that_of_what_was_kept(p: float, memory_format: torch.memory_format) -> None:
    x = ones(memory_format=memory_format).requires_grad_()
    dropped = drop(p, x)
    assert dropped.is_contiguous(memory_format=memory_format)
    dropped.backward(torch.full_like(dropped, 2.0))
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * dropped.detach())


def test_images_that_lie_in_another_order_are_dropped_as_well() -> None:
    dropped = drop(0.5, ones().transpose(1, 3)[:, ::2])
    assert float((dropped == 0).double().mean()) == pytest.approx(0.5, abs=0.02)


def test_torchs_seed_says_the_mask() -> None:
    assert torch.equal(drop(0.5, ones(), seed=1), drop(0.5, ones(), seed=1))
    assert not torch.equal(drop(0.5, ones(), seed=1), drop(0.5, ones(), seed=2))
    torch.manual_seed(1)
    layer = Dropout(0.5).train()
    assert not torch.equal(layer(ones()), layer(ones())), "each batch has its own"


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_rates_of_0_and_1_are_torchs(p: float) -> None:
    assert torch.equal(drop(p, ones()), ones() * (1 - p))


def test_evaluation_drops_nothing_and_small_layers_are_torchs() -> None:
    assert torch.equal(Dropout(0.5).eval()(ones()), ones())
    small = torch.ones(DROPPED_FROM - 1)
    torch.manual_seed(3)
    wanted = nn.Dropout(0.5)(small)
    assert torch.equal(drop(0.5, small, seed=3), wanted)


def test_nets_with_convolutions_have_it_and_dense_ones_are_torchs() -> None:
    blocks = [{"channels": 4, "kernel": 3, "stride": 1, "padding": None, "pool": 2, "pool_kind": "max"}]
    for conv, kind in ((blocks, Dropout), ([], nn.Dropout)):
        net = build_network((1, 6, 6), 3, conv=conv, hidden=[8], activation="relu", dropout=0.5, batch_norm=False)
        assert [type(layer) for layer in net.modules() if isinstance(layer, nn.Dropout)] == [kind]


def test_multiply_adds_are_counted() -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 9, 5))
    assert multiply_adds(net, (4, 6, 6)) == 6 * 6 * 6 * (2 * 3 * 3) + 6 * 9 * 5
    assert not any(layer._forward_hooks for layer in net.modules())


def cnn(**values: Any) -> Ann:
    given = {"epochs": 2, "batch_size": 16, "n_conv": 1, "channels": 4, "n_hidden": 1, "width": 8, "dropout": 0.3, **values}
    return Ann(AnnConfig.from_dict(given), device="cpu")


@pytest.mark.parametrize(("limit", "wanted"), [(1, None), (10**12, 1)])
def test_small_steps_have_one_thread(limit: int, wanted: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_convolutions, "SMALL_STEP", limit)
    model = cnn().fit(small_data())
    assert model._threads() == wanted


def test_the_threads_of_a_step_are_by_its_multiply_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cnn().fit(small_data())
    model._threads()
    assert model._multiply_adds is not None
    monkeypatch.setattr(cpu_convolutions, "SMALL_STEP", 16 * model._multiply_adds)
    assert (model._threads(), model._threads(15)) == (None, 1)


def test_scores_do_not_depend_on_how_many_images_are_evaluated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_data()
    wanted = [epoch.metrics for epoch in cnn().fit_epochs(data)]
    monkeypatch.setattr(cpu_convolutions, "EVALUATED", 5)
    for found, metrics in zip([epoch.metrics for epoch in cnn().fit_epochs(data)], wanted, strict=True):
        assert {**found, "seconds": 0} == pytest.approx({**metrics, "seconds": 0}, abs=1e-6)


def test_the_layout_in_memory_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_data()
    trained = cnn(n_conv=2).fit(data)  # the weights of one channel lie alike in both
    assert all(weight.is_contiguous() for weight in trained._net.parameters())  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "channels_last", torch.contiguous_format)
        other = cnn(n_conv=2).fit(data)
    for name, value in trained.state().items():
        np.testing.assert_allclose(value, other.state()[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad", "nadam"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_training_goes_on_from_moments_that_lie_otherwise(optimizer: str, memory_format: torch.memory_format) -> None:
    data = small_data()

    def model() -> Ann:
        return cnn(n_conv=2, epochs=4, optimizer=optimizer, momentum=0.9 if optimizer == "sgd" else 0.0)

    wanted = [epoch.metrics["train_loss"] for epoch in model().fit_epochs(data)][2:]
    halfway = model()
    epochs = halfway.fit_epochs(data)
    next(epochs), next(epochs)
    state = halfway.training_state()
    assert state is not None
    for kept in state["optimizer"]["state"].values():
        for name, value in kept.items():
            if torch.is_tensor(value) and value.dim() == 4:
                kept[name] = value.contiguous(memory_format=memory_format)
    resumed = model()
    resumed.resume(state)
    assert [epoch.metrics["train_loss"] for epoch in resumed.fit_epochs(data)] == pytest.approx(wanted, abs=1e-6)


def test_kept_memory_is_asked_for_once_and_only_where_the_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def mallopt(name: int, value: int) -> int:
        asked.append((name, value))
        return int(value <= most)

    most, library = 2**40, type("Library", (), {"mallopt": staticmethod(mallopt)})
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(cpu_convolutions.ctypes, "CDLL", lambda _: library)
    keep_freed_memory()
    keep_freed_memory()
    assert asked == [(-3, 128 * 2**20), (-1, 2**30)]
    most = 2**26  # of an older glibc
    asked.clear()
    keep_freed_memory.cache_clear()
    keep_freed_memory()
    assert asked == [(-3, 128 * 2**20), (-3, 32 * 2**20), (-1, 2**30)]
    for without in (type("Other", (), {}), None):
        keep_freed_memory.cache_clear()
        monkeypatch.setattr(cpu_convolutions.ctypes, "CDLL", lambda _, found=without: found)
        keep_freed_memory()
    keep_freed_memory.cache_clear()


PROGRAM = """
import sys
from tests.samples import small_data
from paretune.core.host_process import own_process
from paretune.trainers.ann import Ann, AnnConfig

own_process()

for values in ({"hidden": [8]}, {"hidden": [8], "optimizer": "rmsprop"}, {"n_conv": 1, "n_hidden": 0, "optimizer": "NAME"}):
    model = Ann(AnnConfig.from_dict({"epochs": 2, "batch_size": 16, "optimizer": "NAME", **values}), device="cpu")
    epochs = model.fit_epochs(small_data())
    next(epochs)
    state = model.training_state()
    model.resume(state)
    list(model.fit_epochs(small_data()))
print(sorted(name for name in sys.modules if name.startswith("torch._dynamo")))
"""


@pytest.mark.parametrize("name", ["sgd", "adam", "nadam"])
def test_a_training_does_not_import_torchs_compiler(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("NAME", name)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
