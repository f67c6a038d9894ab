"""Models trained by mini-batch gradient descent in PyTorch: the loop that classifiers and the autoencoder share.

The data stay in memory as tensors; a batch is an index slice. Metrics accumulate on the device, and the host waits for
it once an epoch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from paretune.core.config import ActiveWhen
from paretune.core.devices import PRECISIONS, numerics
from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError
from paretune.core.host_process import is_ours
from paretune.core.step import clipped, n_threads, seeded, step_of, watched
from paretune.models.contract import Model, ModelConfig
from paretune.models.device_metrics import DeviceMetrics, Stopwatch, read_metrics
from paretune.models.seen_images import check_unseen
from paretune.models.training_state import Run, Standing
from paretune.networks.fine_tuning import keep_statistics, take_over, trained_parameters

if TYPE_CHECKING:
    import torch
    from torch import nn

    from paretune.batched.losses import CrossEntropy, SquaredError
    from paretune.batched.training import Program
    from paretune.data.dataset import Data
    from paretune.data.images import Samples
    from paretune.models.device_metrics import DeviceMetrics

    WrittenLoss = CrossEntropy | SquaredError

EVALUATION_BATCH = 4096
SMALL_STEP = 5_000_000  # multiply-adds forward in one batch of a dense net, below which one core is the fastest (docs/decisions.md)
# what a program of many models does once for all of them
OF_EACH = ("fit_epochs", "inputs", "whole_inputs", "training_inputs", "_learn_inputs")
UNFIT = (KeyError, TypeError, ValueError, AttributeError, RuntimeError)  # what loading the state of something else raises


class GradientConfig(ModelConfig):
    """What every model trained by gradient descent takes."""

    epochs: int = Field(20, gt=0, description="passes over the training images")
    batch_size: int = Field(64, gt=0, description="images per step")
    optimizer: Literal["sgd", "adam", "adamw", "nadam", "radam", "adamax", "adagrad", "adadelta", "rmsprop"] = Field(
        "adam", description="torch.optim's algorithm"
    )
    learning_rate: float = Field(1e-3, gt=0, description="step size at the start")
    momentum: Annotated[
        float,
        ActiveWhen(lambda config: config.optimizer in {"sgd", "rmsprop"} and "momentum" not in config.optimizer_settings),
    ] = Field(0.0, ge=0, lt=1, description="of sgd and rmsprop; the others have their own")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty (decoupled in adamw)")
    optimizer_settings: dict[str, Any] = Field(
        default_factory=dict, description="the optimizer's own settings, by torch's names: {betas: [0.9, 0.99], nesterov: true}"
    )
    schedule: Literal["constant", "step", "exponential", "cosine", "linear", "polynomial"] = Field(
        "constant", description="learning rate over the epochs"
    )
    schedule_settings: Annotated[dict[str, Any], ActiveWhen(lambda config: config.schedule != "constant")] = Field(
        default_factory=dict, description="the schedule's own settings, by torch's names: {step_size: 10, gamma: 0.5}"
    )
    start_from: str | None = Field(
        None,
        description="folder of a saved model: its layers of equal name and shape are taken over instead of random ones; "
        "imagenet: torchvision's weights of the backbone",
    )
    train_only: list[str] | None = Field(
        None, min_length=1, description="train these layers alone, the others stay as they begin: [output], [hidden_2, output]"
    )
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient; None does not clip")
    early_stopping: int | None = Field(None, gt=0, description="stop after this many epochs without a lower hold-out loss")


class GradientModel(Model):
    """A network trained by gradient descent; a subclass says which network, and how wrong its outputs are."""

    Config = GradientConfig
    PRECISIONS = PRECISIONS
    _net: nn.Module | None = None
    SCORED: ClassVar[bool] = False  # whether `train_counts` reads the outputs of an epoch
    watch: Callable[[int, int], None] | None = None  # told of the batches done within an epoch, and of how many there are
    _standing: Standing | None = None
    _multiply_adds: int | None = None  # of an image's way through a convolutional net
    _resumed: Mapping[str, Any] | None = None

    def network(self) -> nn.Module:
        """Build the untrained network for `self.input_shape` and `self.class_names`."""
        raise NotImplementedError

    def layer_table(self) -> str:
        """Return the layers of the untrained network, with shapes and parameters, as a text."""
        from paretune.networks.builder import layer_table

        return layer_table(self.network(), self.input_shape)

    def check(self, data: Data) -> None:
        """Refuse a configuration that does not suit the data, before anything is trained.

        Raises:
            UsageError: that says which values do not go together.
        """
        if self.config.early_stopping is not None and data.evaluation_split != "holdout":
            raise UsageError("early_stopping needs a hold-out to watch. Got holdout=0 or curves_on_test: drop one of the two.")
        if self.config.start_from not in (None, "imagenet"):
            check_unseen(self.config.start_from, data)

    def loss(self, outputs: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of one training batch; `images` are what the network was given."""
        raise NotImplementedError

    def train_counts(self, labels: torch.Tensor, outputs: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """Return an epoch's confusion matrix on the training images, of models that classify; `outputs` are of `SCORED` models."""
        return None

    def evaluated_epoch(self, samples: Samples) -> DeviceMetrics:
        """Return an epoch's metrics on the evaluated part, whose images are as `inputs` returned them."""
        raise NotImplementedError

    def inputs(self, x: torch.Tensor) -> torch.Tensor:
        """Return images as the epochs take them; by default as they are."""
        return x

    def whole_inputs(self, x: torch.Tensor) -> torch.Tensor:
        """Return what `inputs` does of a whole part of the data, which nobody changes and the next model may use as well."""
        return self.inputs(x)

    def training_inputs(self, x: torch.Tensor) -> torch.Tensor:
        """Return the training images as the batches are taken from; by default as `whole_inputs`."""
        return self.whole_inputs(x)

    def changed(self, images: torch.Tensor) -> torch.Tensor:
        """Return a training batch as the network takes it."""
        return images

    def initialize(self, data: Data) -> Self:
        """Take the random weights that `fit_epochs` starts from, and return self."""
        self.start(data)
        self._learn_inputs(data.to(self.device))
        self._net = self._untrained(data).net
        return self

    def _learn_inputs(self, data: Data) -> None:
        """Remember what of the training images the network's inputs depend on."""

    def written_loss(self) -> WrittenLoss | None:
        """Return the loss as `batched.networks` takes it, for a model whose epochs can be written out; None: autograd trains it."""
        return None

    def fit_epochs(self, data: Data) -> Iterator[Epoch]:
        import torch

        run = Run.of(self, data)
        program = _written(run)
        try:
            while run.now.epoch < self.config.epochs:
                epoch = run.conclude(*(self._by_autograd(run) if program is None else self._written_out(run, program)))
                yield epoch
                if epoch.last:
                    return
        finally:
            if program is not None:
                program.release()
            run.now.net.to(memory_format=torch.contiguous_format)  # as it is loaded

    def _by_autograd(self, run: Run) -> tuple[dict[str, float], float]:
        """Train and evaluate an epoch; return its metrics and the seconds of its training."""
        watch, optimizer = Stopwatch(self.device), run.now.optimizer
        with (
            seeded(self.device, self.config.seed, run.number),
            n_threads(self._threads()),
            numerics(self.precision, self.device) as forward,
        ):
            parts = [self._train_epoch(run.x, run.data, clipped(step_of(optimizer), optimizer, self.config.clip_norm), forward)]
        watch.stop()
        if run.evaluated is not None:
            with n_threads(self._threads(self.evaluation_batch // 3)):  # the way forward alone, a third of the work
                parts.append(self.evaluated_epoch(run.evaluated))
        (metrics,) = read_metrics(parts, run.data)
        return metrics, watch.seconds

    def _written_out(self, run: Run, program: Program) -> tuple[dict[str, float], float]:
        """Do what `_by_autograd` does, without autograd."""
        with n_threads(self._threads()), numerics("fp32", self.device):
            (metrics,), seconds = program.epoch([run.number], run.data, run.evaluated, self.watch)
        return metrics, seconds

    @classmethod
    def fit_population(
        cls,
        configs: Sequence[ModelConfig],
        data: Data,
        *,
        device: str = "auto",
        stopped: set[int] | None = None,
        checkpoints: Sequence[Path | None] = (),
        failed: dict[int, Exception] | None = None,
    ) -> Iterator[list[Epoch | None]]:
        from paretune.batched.training import fit_together, is_written_out, n_kept, room_of

        stopped = set() if stopped is None else stopped
        models = [cls(config, device=device) for config in configs]
        for model in models:
            model.start(data)
        together = len(models) > 1 and cls.keeps(*OF_EACH)
        if together and all(map(is_written_out, models)) and sum(map(n_kept, models)) <= room_of(models[0].device):
            yield from fit_together(models, data, stopped=stopped, checkpoints=checkpoints, failed=failed)
        else:
            rest = super().fit_population(configs, data, device=device, stopped=stopped, checkpoints=checkpoints, failed=failed)
            yield from rest

    def _train_epoch(
        self, x: torch.Tensor, data: Data, step: Callable[[], Any], forward: Callable[[], contextlib.AbstractContextManager[object]]
    ) -> DeviceMetrics:
        """Go once through the training images; `forward` is the context of the forward pass, which sets its precision."""
        import torch

        net, config = self._net, self.config
        assert net is not None
        net.train()
        keep_statistics(net)
        order = torch.randperm(len(x), device=x.device)
        batch_norm = getattr(config, "batch_norm", False) and "batch_norm" not in config.inactive_parameters()
        if batch_norm and len(x) > 1 and len(x) % config.batch_size == 1:
            order = order[:-1]  # one image has no batch statistics; another order trains it next epoch
        true = data.train.y[order]
        batches = order.split(config.batch_size)
        parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        steps = zip(batches, true.split(config.batch_size), strict=True)
        losses, kept = [], []  # read after the epoch, all at once: small nets spend their time on calls
        for batch, labels in steps if self.watch is None else watched(steps, len(batches), self.watch):
            images = self.changed(x.index_select(0, batch))
            with forward():
                outputs = net(images)
            outputs = outputs.float()  # of bf16; of fp32 it is the same tensor
            loss = self.loss(outputs, images, labels)
            loss.backward()
            with torch.no_grad():
                step()
            for parameter in parameters:
                parameter.grad = None
            losses.append(loss.detach())
            if self.SCORED:
                kept.append(outputs.detach())
        counts = self.train_counts(true, kept)
        sizes = [len(batch) for batch in batches]
        return DeviceMetrics("train", torch.stack(losses)[None], sizes, None if counts is None else counts[None])

    def training_state(self) -> dict[str, Any] | None:
        return None if self._standing is None else self._standing.state()

    def resume(self, state: Mapping[str, Any]) -> None:
        self._resumed = state

    def _begin(self, data: Data) -> Standing:
        """Return the start of the training, or where the resumed one stands."""
        state, self._resumed = self._resumed, None
        if state is not None:
            now = self._untrained(data)
            with contextlib.suppress(*UNFIT):
                now.load(state)
                return now
        return self._untrained(data)

    def _untrained(self, data: Data) -> Standing:
        import torch

        from paretune.networks.cpu_convolutions import convolves, keep_freed_memory
        from paretune.networks.optimizers import build_optimizer, build_schedule

        config, device = self.config, self.device
        self._multiply_adds = None
        with seeded(device, config.seed, 0):
            net = self.network().to(device)
        on_cpu = device.type == "cpu"
        if convolves(net) and (on_cpu or self.precision == "bf16"):
            net = net.to(memory_format=torch.channels_last)  # in which convolutions are the fastest
            if on_cpu and is_ours():
                keep_freed_memory()
        if config.start_from is not None:
            take_over(net, config.start_from)
        optimizer = build_optimizer(
            config.optimizer,
            trained_parameters(net, config.train_only),
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            settings=config.optimizer_settings,
        )
        schedule = build_schedule(config.schedule, optimizer, epochs=config.epochs, settings=config.schedule_settings)
        identity = {
            "classifier": self.name,
            "config": config.to_dict(),
            "data": dict(data.fingerprints),
            "precision": self.precision,
        }
        return Standing(net, optimizer, schedule, identity)

    def _threads(self, n_images: int | None = None) -> int | None:
        """Return 1 for steps so small that parting them over cores costs more than it saves; None leaves the setting.

        Args:
            n_images: of a step; None stands for the batch size.
        """
        from paretune.networks import cpu_convolutions

        assert self._net is not None
        n_images = self.config.batch_size if n_images is None else n_images
        if not cpu_convolutions.convolves(self._net):
            return 1 if n_images * self.n_parameters < SMALL_STEP else None
        if self._multiply_adds is None:
            self._multiply_adds = cpu_convolutions.multiply_adds(self._net, self.input_shape)
        return 1 if n_images * self._multiply_adds < cpu_convolutions.SMALL_STEP else None

    @property
    def evaluation_batch(self) -> int:
        """How many images go through the network at once outside training."""
        from paretune.networks.cpu_convolutions import EVALUATED, convolves

        assert self._net is not None
        return EVALUATED if self.device.type == "cpu" and convolves(self._net) else EVALUATION_BATCH

    def outputs(self, x: torch.Tensor, *, prepared: bool = False) -> torch.Tensor:
        """Return what the fitted network makes of images (n_samples, …) on its device; `prepared`: they are by `inputs`."""
        import torch

        assert self._net is not None, "fit or load a model before it predicts"
        self._net.eval()
        with torch.inference_mode(), numerics("fp32", x.device):
            parts = x.split(self.evaluation_batch)
            return torch.cat([self._net(part if prepared else self.inputs(part)) for part in parts])

    def _on_device(self, x: Any) -> torch.Tensor:
        import torch

        return torch.as_tensor(x, dtype=torch.float32).to(self.device)

    def layers(self) -> list[str]:
        assert self._net is not None, "fit or load a model before its layers are read"
        return [name for name, layer in self._net.named_modules() if not list(layer.children())]

    def activations(self, x: Any, layer: str) -> np.ndarray:
        import torch

        self.check_layer(layer)
        assert self._net is not None
        parts: list[torch.Tensor] = []

        def keep(_: nn.Module, __: Any, output: torch.Tensor) -> None:
            parts.append(output.float().cpu())

        hook = self._net.get_submodule(layer).register_forward_hook(keep)
        try:
            self.outputs(self._on_device(x))
        finally:
            hook.remove()
        return torch.cat(parts).numpy()

    def state(self) -> dict[str, np.ndarray]:
        assert self._net is not None, "fit or load a model before it is saved"
        return {f"net.{name}": value.contiguous().cpu().numpy() for name, value in self._net.state_dict().items()}

    def parameter_names(self) -> set[str]:
        learnt = () if self._net is None else self._net.named_parameters()
        return {f"net.{name}" for name, weight in learnt if weight.requires_grad}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        import torch

        tensors = {name: torch.as_tensor(np.array(value)) for name, value in state.items()}
        net = self.network()
        net.load_state_dict({name.removeprefix("net."): value for name, value in tensors.items()})
        self._net = net.to(self.device)

    @property
    def n_parameters(self) -> int:
        """The count of trainable weights."""
        assert self._net is not None
        return sum(weight.numel() for weight in self._net.parameters())


def _written(run: Run) -> Program | None:
    """Return a training written out; None where autograd is needed."""
    from paretune.batched.training import Program, is_written_out

    return Program([run.model], [run.now.optimizer], run.x) if is_written_out(run.model) else None
