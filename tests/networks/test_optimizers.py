"""Every optimizer and schedule trains; a setting that is not theirs is refused in words."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch

from paretune.core.errors import UsageError
from paretune.networks.loop import GradientConfig
from paretune.networks.optimizers import OPTIMIZERS, SCHEDULES, build_optimizer, build_schedule
from paretune.trainers.softmax import Softmax, SoftmaxConfig
from tests.samples import small_data

pytestmark = pytest.mark.usefixtures("each_device")


def trained(**values: Any) -> dict[str, float]:
    config = SoftmaxConfig.from_dict({"epochs": 2, "batch_size": 16, **values})
    return dict(list(Softmax(config).fit_epochs(small_data()))[-1].metrics)


def optimizer_of(name: str, **settings: Any) -> torch.optim.Optimizer:
    weight = torch.nn.Parameter(torch.ones(2))
    return build_optimizer(name, [weight], learning_rate=0.1, weight_decay=0.01, momentum=0.5, settings=settings)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(name: str) -> None:
    rate = 1.0 if name == "adadelta" else 0.05
    assert (
        trained(optimizer=name, learning_rate=rate, epochs=5)["train_loss"]
        < trained(optimizer=name, learning_rate=1e-8)["train_loss"]
    )


def test_the_configs_names_are_those_that_are_built() -> None:
    assert set(get_args(GradientConfig.model_fields["optimizer"].annotation)) == set(OPTIMIZERS)
    assert set(get_args(GradientConfig.model_fields["schedule"].annotation)) == {"constant", *SCHEDULES}


@pytest.mark.parametrize("name", ["constant", *SCHEDULES])
def test_every_schedule_trains(name: str) -> None:
    assert np.isfinite(trained(schedule=name, epochs=4)["train_loss"])


@pytest.mark.parametrize(
    ("name", "settings", "rates"),
    [
        ("step", {"step_size": 2, "gamma": 0.1}, [0.1, 0.1, 0.01, 0.01]),
        ("step", {}, [0.1, 0.01, 0.001, 0.0001]),
        ("exponential", {"gamma": 0.5}, [0.1, 0.05, 0.025, 0.0125]),
        ("linear", {}, [0.1, 0.07525, 0.0505, 0.02575]),
        ("cosine", {}, [0.1, 0.0853553, 0.05, 0.0146447]),
        ("polynomial", {}, [0.1, 0.075, 0.05, 0.025]),
    ],
)
def test_a_schedule_runs_over_the_epochs(name: str, settings: dict[str, Any], rates: list[float]) -> None:
    optimizer = optimizer_of("sgd")
    schedule = build_schedule(name, optimizer, epochs=4, settings=settings)
    assert schedule is not None
    found = []
    for _ in range(4):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(rates, abs=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_weight_decay_and_momentum_arrive(name: str) -> None:
    group = optimizer_of(name).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.01)
    if name in {"sgd", "rmsprop"}:
        assert group["momentum"] == 0.5


def test_settings_by_torchs_names_arrive() -> None:
    group = optimizer_of("adam", betas=[0.8, 0.9], amsgrad=True).param_groups[0]
    assert list(group["betas"]) == [0.8, 0.9]
    assert group["amsgrad"] is True
    assert trained(optimizer="sgd", momentum=0.9, optimizer_settings={"nesterov": True})["train_loss"] > 0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"optimizer_settings": {"beta": 0.9}}, "optimizer_settings of adam has no 'beta'; did you mean 'betas'?"),
        ({"optimizer": "sgd", "optimizer_settings": {"lr": 3}}, "optimizer_settings of sgd has no 'lr'"),
        ({"optimizer_settings": {"differentiable": True}}, "optimizer_settings of adam has no 'differentiable'"),
        ({"optimizer": "nadam", "optimizer_settings": {"capturable": True}}, "optimizer_settings of nadam has no 'capturable'"),
        ({"optimizer": "sgd", "optimizer_settings": {"nesterov": True}}, "optimizer sgd: Nesterov momentum requires a momentum"),
        ({"optimizer_settings": {"betas": [2.0, 0.9]}}, "optimizer adam: Invalid beta parameter"),
        ({"optimizer_settings": {"betas": 3}}, "optimizer adam: "),
        ({"schedule_settings": {"gamma": 0.5}}, "schedule_settings of constant has no 'gamma'; it takes no setting."),
        (
            {"schedule": "step", "schedule_settings": {"gama": 0.5}},
            "schedule_settings of step has no 'gama'; did you mean 'gamma'?",
        ),
        ({"schedule": "cosine", "schedule_settings": {"T_max": "x"}}, "schedule cosine: "),
        ({"schedule": "step", "schedule_settings": {"step_size": 0}}, "schedule step: "),
    ],
)
def test_an_unfit_setting_is_refused_in_words(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        trained(**values)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
