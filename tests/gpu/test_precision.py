"""What fp32, tf32 and bf16 calculate on the GPU: products and convolutions beside float64, trainings beside the CPU's fp32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from paretune.core.devices import numerics
from tests.gpu.comparing import assert_close, trained

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda", 0)
# Error of a product of random factors, relative to its norm: the rounding of the factors, 24, 11 and 8 bits. (least, most)
# A tensor core may cut instead of round, which doubles it; sums of an fp32 convolution by Winograd's way lose a decimal.
ERRORS = {"fp32": (0.0, 2e-5), "tf32": (5e-5, 3e-3), "bf16": (5e-4, 1e-2)}
# Of the losses, absolute, over four epochs that bring them from 1.39 below 0.3: what bf16's 8 bits changed on the nets below was at
# most 0.003, so tf32's 11 change at most 0.001; four to five times that, as kernels round in different places. An epoch left out
# changes more than 0.1, which each test checks.
LOSSES = {"fp32": 3e-4, "tf32": 4e-3, "bf16": 0.015}
STEPS: dict[str, Any] = {"epochs": 4, "batch_size": 40, "optimizer": "sgd", "momentum": 0.8}
NETS: dict[str, dict[str, Any]] = {
    "dense": {**STEPS, "hidden": [32, 32], "learning_rate": 0.05},
    "convolutional": {**STEPS, "n_conv": 2, "channels": 8, "hidden": [32], "batch_norm": True, "learning_rate": 0.02},
}


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double().cpu() - wanted).norm() / wanted.norm())


def has_tf32(simulated: bool) -> bool:
    return not simulated and torch.cuda.get_device_capability(CUDA) >= (8, 0)


@pytest.mark.parametrize("precision", ERRORS)
def test_products_are_rounded_as_asked(precision: str, simulated: bool) -> None:
    random = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=random) for _ in range(2))
    with numerics(precision, CUDA) as forward, forward():
        found = left.to(CUDA) @ right.to(CUDA)
    least, most = ERRORS[precision]
    error = relative_error(found, left.double() @ right.double())
    assert error < most
    assert error > (least if precision != "tf32" or has_tf32(simulated) else 0.0), "it must round as asked, not calculate in fp32"


@pytest.mark.parametrize("precision", ERRORS)
def test_convolutions_are_rounded_as_asked(precision: str) -> None:
    random = torch.Generator().manual_seed(0)
    images, weight = torch.randn(64, 32, 16, 16, generator=random), torch.randn(32, 32, 3, 3, generator=random)
    with numerics(precision, CUDA) as forward, forward():
        found = functional.conv2d(images.to(CUDA), weight.to(CUDA), padding=1)
    assert relative_error(found, functional.conv2d(images.double(), weight.double(), padding=1)) < ERRORS[precision][1]


@pytest.mark.usefixtures("same_random")
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("precision", LOSSES)
def test_each_precision_trains_as_the_cpus_fp32(precision: str, net: str) -> None:
    model, found = trained("ann", "cuda", precision=precision, **NETS[net])
    _, wanted = trained("ann", "cpu", **NETS[net])
    assert_close(found, wanted, losses=0.0, absolute=LOSSES[precision], images_moved=3)
    losses = [epoch.metrics["train_loss"] for epoch in wanted]
    assert losses[-2] - losses[-1] > 6 * LOSSES[precision], "the tolerance shows an epoch left out"
    assert all(parameter.dtype == torch.float32 for parameter in model._net.parameters())
