"""Where a training stands after an epoch, and what it goes on with: its data on the device, network, optimizer, schedule."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from paretune.core.epoch import Epoch
from paretune.data.images import Samples

if TYPE_CHECKING:
    import torch
    from torch import nn

    from paretune.data.dataset import Data


class GradientTrained(Protocol):
    """What a training needs of its model: one that is trained by gradient descent, as paretune.networks.loop trains it."""

    config: Any
    precision: str
    _net: nn.Module | None
    _standing: Standing | None

    @property
    def device(self) -> torch.device: ...
    @property
    def n_parameters(self) -> int: ...
    def network(self) -> nn.Module: ...
    def keeps(self, *methods: str) -> bool: ...
    def written_loss(self) -> Any: ...
    def check(self, data: Data) -> None: ...
    def start(self, data: Data) -> None: ...
    def resume(self, state: Mapping[str, Any]) -> None: ...
    def leave_checkpoint(self, path: Path) -> None: ...
    def training_inputs(self, x: torch.Tensor) -> torch.Tensor: ...
    def whole_inputs(self, x: torch.Tensor) -> torch.Tensor: ...
    def _learn_inputs(self, data: Data) -> None: ...
    def _begin(self, data: Data) -> Standing: ...
    def _threads(self, n_images: int | None = None) -> int | None: ...


@dataclass
class Standing:
    """Where a training stands after an epoch; the random state of the next one is drawn from its number."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None
    identity: dict[str, Any]  # what is trained on what; only the same goes on from this state
    epoch: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0

    def state(self) -> dict[str, Any]:
        """Return a copy as numbers, texts and tensors."""
        weights = {name: value.clone() for name, value in self.net.state_dict().items()}  # maybe views of many models' weights
        learnt = {"net": weights, "optimizer": self.optimizer.state_dict()}
        schedule = None if self.schedule is None else self.schedule.state_dict()
        counts = {name: getattr(self, name) for name in ("identity", "epoch", "seconds", "best_loss", "best_epoch")}
        return copy.deepcopy({**counts, **learnt, "schedule": schedule})

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned; where it is another training's, raises one of UNFIT, maybe half-way."""
        if state["identity"] != self.identity:
            raise ValueError("the state is another training's")
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # the optimizer would go on in our tensors
        self._lay_out_moments()
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.seconds = int(state["epoch"]), float(state["seconds"])
        self.best_loss, self.best_epoch = float(state["best_loss"]), int(state["best_epoch"])

    def _lay_out_moments(self) -> None:
        """Lay what the optimizer keeps of each weight out in memory as the weight is, as torch's fused kernels take for granted.

        The state may come from another device or version, where the weights lay otherwise.
        """
        import torch

        for parameter, kept in self.optimizer.state.items():
            for name, value in kept.items():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    kept[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


@dataclass
class Run:
    """One training in progress: its model, what it trains and is scored on, and where it stands."""

    model: GradientTrained
    data: Data  # on the model's device
    x: torch.Tensor  # training images as the batches are taken from
    evaluated: Samples | None  # images as the network takes them
    now: Standing

    @classmethod
    def of(cls, model: GradientTrained, data: Data) -> Run:
        """Check a model against the data and lay out its training, from the start or from where the resumed one stands."""
        model.check(data)
        model.start(data)
        data = data.to(model.device)
        model._learn_inputs(data)
        now = model._begin(data)
        model._net = now.net
        x = model.training_inputs(data.train.x)
        evaluated = None if data.evaluated is None else Samples(model.whole_inputs(data.evaluated.x), data.evaluated.y)
        return cls(model, data, x, evaluated, now)

    @property
    def number(self) -> int:
        """The number of the next epoch."""
        return self.now.epoch + 1

    def conclude(self, metrics: dict[str, float], seconds: float) -> Epoch:
        """Take note of an epoch that took `seconds` to train; return it with the metrics of every epoch added."""
        now, config = self.now, self.model.config
        if now.schedule is not None:
            now.schedule.step()
        now.epoch, now.seconds = now.epoch + 1, now.seconds + seconds
        if metrics.get("test_loss", math.inf) < now.best_loss:
            now.best_loss, now.best_epoch = metrics["test_loss"], now.epoch
        metrics.update(seconds=now.seconds, n_parameters=float(self.model.n_parameters))
        stalled = config.early_stopping is not None and now.epoch - now.best_epoch >= config.early_stopping
        last = now.epoch == config.epochs or stalled or not math.isfinite(metrics["train_loss"])
        self.model._standing = None if last else now  # an ended training has nothing to go on to
        return Epoch(now.epoch, metrics, last)
