"""Optimizers and learning-rate schedules by name: torch.optim's own, with their own settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from paretune.core.errors import UsageError, did_you_mean
from paretune.core.host_process import is_ours

OPTIMIZERS: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
}
SCHEDULES: dict[str, Any] = {
    "step": torch.optim.lr_scheduler.StepLR,
    "exponential": torch.optim.lr_scheduler.ExponentialLR,
    "cosine": torch.optim.lr_scheduler.CosineAnnealingLR,
    "linear": torch.optim.lr_scheduler.LinearLR,
    "polynomial": torch.optim.lr_scheduler.PolynomialLR,
}
# of an optimizer's arguments, which are no settings: what the Config gives, and how torch computes, not what
OURS = {"params", "lr", "weight_decay", "fused", "foreach", "capturable", "differentiable"}


def build_optimizer(
    name: str,
    parameters: Iterable[torch.nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    settings: Mapping[str, Any],
) -> torch.optim.Optimizer:
    """Build an optimizer; `momentum` is for sgd and rmsprop, `settings` are torch's own names (betas, nesterov, eps …).

    Raises:
        UsageError: if a setting is not one of this optimizer's, or its value does not suit it.
    """
    if is_ours():
        _leave_the_compiler_out()
    kind = OPTIMIZERS[name]
    known = set(inspect.signature(kind).parameters) - OURS
    values: dict[str, Any] = {"momentum": momentum} if "momentum" in known else {}
    values.update(checked(settings, known, f"optimizer_settings of {name}"))
    if name in {"sgd", "adam", "adamw", "adagrad"}:
        values["fused"] = True  # one kernel for all parameters: small nets spend their time on such overheads
    try:
        return kind(parameters, lr=learning_rate, weight_decay=weight_decay, **values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"optimizer {name}: {str(error).rstrip('.')}. Got optimizer_settings {dict(settings)!r}.") from None


@functools.cache
def _leave_the_compiler_out() -> None:
    """Let optimizers begin without torch's compiler, which they import (a second) only to be left out of what it compiles.

    Under this name torch looks for the method to call instead; nothing of ours is compiled, so it is the method itself.
    """
    for method in ("add_param_group", "state_dict", "load_state_dict"):
        plain = inspect.unwrap(getattr(torch.optim.Optimizer, method))
        vars(plain).setdefault("__dynamo_disable", plain)


def build_schedule(
    name: str, optimizer: torch.optim.Optimizer, *, epochs: int, settings: Mapping[str, Any]
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """Build a schedule that is stepped after every epoch; None for `constant`.

    Raises:
        UsageError: if a setting is not one of this schedule's, or its value does not suit it.
    """
    if name == "constant":
        checked(settings, set(), "schedule_settings of constant")
        return None
    kind = SCHEDULES[name]
    known = set(inspect.signature(kind).parameters) - {"optimizer", "last_epoch"}
    defaults: dict[str, dict[str, Any]] = {
        "step": {"step_size": max(epochs // 3, 1)},
        "exponential": {"gamma": 0.95},
        "cosine": {"T_max": epochs},
        "linear": {"start_factor": 1.0, "end_factor": 0.01, "total_iters": epochs},
        "polynomial": {"total_iters": epochs},
    }
    try:
        values = {**defaults[name], **checked(settings, known, f"schedule_settings of {name}")}
        probe = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        first = kind(probe, **values)  # torch notices some unfit values only when it steps
        probe.step()
        first.step()
        return kind(optimizer, **values)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise UsageError(f"schedule {name}: {str(error).rstrip('.')}. Got schedule_settings {dict(settings)!r}.") from None


def checked(settings: Mapping[str, Any], known: set[str], where: str) -> dict[str, Any]:
    """Return the settings, or say which one is unknown."""
    for name in settings:
        if name not in known:
            near = did_you_mean(name, known) or f"; it takes {', '.join(sorted(known)) or 'no setting'}."
            raise UsageError(f"{where} has no {name!r}{near}")
    return dict(settings)
