"""The contracts that every model and every classifier follows, and the Epoch that training yields.

Training is a generator of epochs: whoever iterates logs an epoch, records it, draws the progress, or stops asking.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from pydantic import Field

from paretune.core.config import Config
from paretune.core.devices import check_precision, pick_device
from paretune.core.epoch import METRICS, Epoch
from paretune.core.errors import UsageError, did_you_mean
from paretune.models import checkpoint

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from paretune.core.provenance import Source
    from paretune.data.dataset import Data


class ModelConfig(Config):
    """What every model's Config holds."""

    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random in training")


class ClassifierConfig(ModelConfig):
    """What every classifier's Config holds."""

    class_weight: dict[str, float] | str | None = Field(
        None, description="'balanced', or a weight per class name, for unbalanced data"
    )


class Model(ABC):
    """What can be trained: built from a Config, fitted on Data, saved as plain arrays.

    Args:
        config: the checked hyper-parameters.
        device: `auto` (CUDA, then MPS, then CPU) or a torch device name.
        precision: what training calculates with, one of `PRECISIONS`; predictions are always made in fp32.

    Raises:
        UsageError: if this model, or the device, does not train in that precision.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ModelConfig]]
    METRICS: ClassVar[tuple[str, ...]]  # of its epochs
    source: ClassVar[Source | None] = None  # the file of a model that does not come with the package
    BEST_METRIC: ClassVar[str]  # by which a run's best epoch is picked, unless the run says otherwise
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32",)

    def __init__(self, config: ModelConfig | None = None, *, device: str = "auto", precision: str = "fp32") -> None:
        self.config: Any = config if config is not None else self.Config()
        self.device_name = device
        self.precision = precision
        if precision != "fp32":
            check_precision(precision, self.device)
            if precision not in self.PRECISIONS:
                raise UsageError(f"precision must be {' or '.join(self.PRECISIONS)} for {self.name}. Got {precision!r}.")
        self.input_shape: tuple[int, int, int] = (0, 0, 0)  # channels, height, width
        self.class_names: list[str] = []

    @classmethod
    def keeps(cls, *methods: str) -> bool:
        """Whether these methods are paretune's own: shortcuts do what these do, and not what a subclass of a person's own may."""
        return all(getattr(cls, method).__module__.startswith("paretune.") for method in methods)

    @classmethod
    def is_as_shipped(cls) -> bool:
        """Whether no class of a person's own overrides anything of a model that comes with paretune, its name and Config aside."""
        own = [kind for kind in cls.__mro__ if issubclass(kind, Model) and not kind.__module__.startswith("paretune.")]
        shipped = [kind for kind in cls.__mro__ if kind.__module__.startswith("paretune.")]
        theirs = {name for kind in own for name in vars(kind) if not name.startswith("__")}
        theirs -= {"name", "Config", "source", "_abc_impl"}
        return not any(name in vars(kind) for kind in shipped for name in theirs)

    @classmethod
    def metric_names(cls, config: ModelConfig) -> list[str]:
        """Return the names that this configuration's epochs carry."""
        return list(cls.METRICS)

    @abstractmethod
    def fit_epochs(self, data: Data) -> Iterator[Epoch]:
        """Train on `data.train`, yielding after every epoch; evaluates on the hold-out where there is one."""

    @abstractmethod
    def mean_loss(self, x: Any, y: Any) -> float | None:
        """Return the mean loss on images (n_samples, channels, height, width) of classes (n_samples,), None where there is none."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Return everything learnt as plain arrays."""

    @abstractmethod
    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state` returned; `input_shape` and `class_names` are already set."""

    def parameter_names(self) -> set[str]:
        """Return which arrays of `state` were learnt; a model that cannot tell them from constants names none."""
        return set()

    def training_state(self) -> dict[str, Any] | None:
        """Return a copy of all that the training needs to go on after its latest epoch; None: it cannot go on from there."""
        return None

    def resume(self, state: Mapping[str, Any]) -> None:  # noqa: B027  not abstract: most models have nothing to go on from
        """Let the next `fit_epochs` yield the epochs after the one of `training_state`, as if it had never been stopped.

        A state of another configuration, of other data, or of another form is ignored: that training starts anew.
        """

    def layers(self) -> list[str]:
        """Return the names of what `activations` can tell of the fitted model, from the pixels to the output."""
        return ["input"]

    def activations(self, x: Any, layer: str) -> np.ndarray:
        """Return what `layer` makes of images (n_samples, channels, height, width): float32 (n_samples, …).

        Raises:
            UsageError: if the model has no such layer.
        """
        import numpy as np

        self.check_layer(layer)
        return np.asarray(x.cpu() if hasattr(x, "cpu") else x, dtype=np.float32)

    def check_layer(self, layer: str) -> None:
        """Refuse a name that `layers` does not list.

        Raises:
            UsageError: that names the nearest one.
        """
        if layer not in self.layers():
            near = did_you_mean(layer, self.layers()) or f"; there are {', '.join(self.layers())}."
            raise UsageError(f"this {self.name} has no layer {layer!r}{near}")

    @property
    def device(self) -> torch.device:
        """The device that trains and predicts."""
        return pick_device(self.device_name)

    @property
    def n_parameters(self) -> int:
        """The number of learnt parameters."""
        return sum(array.size for array in self.state().values())

    def fit(self, data: Data) -> Self:
        """Train to the end and return self."""
        for _ in self.fit_epochs(data):
            pass
        return self

    def fit_from_checkpoint(self, data: Data, path: Path | None) -> Iterator[Epoch]:
        """Train as `fit_epochs` does: on from the checkpoint at `path`, if any, and leaving one there now and then.

        Whoever ends the training removes the file.
        """
        state = None if path is None else checkpoint.load_checkpoint(path)
        if state is not None:
            self.resume(state)
        written = time.monotonic()
        for epoch in self.fit_epochs(data):
            yield epoch
            # only now, when the next epoch is asked for: the caller has recorded each epoch that the checkpoint is past
            if path is not None and not epoch.last and time.monotonic() - written >= checkpoint.CHECKPOINT_SECONDS:
                self.leave_checkpoint(path)
                written = time.monotonic()

    def leave_checkpoint(self, path: Path) -> None:
        """Write what the training needs to go on after its latest epoch, where it can go on and the disk takes it."""
        state = self.training_state()
        if state is None:
            return
        # A full disk must not end a training that needs no disk: without the file it could only not be resumed.
        with contextlib.suppress(OSError):
            checkpoint.save_checkpoint(path, state)

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
        """Train several configurations side by side, an epoch of each at a time.

        Yields one list per round, in the order of `configs`, with None for a member that has ended. The caller puts
        the indices of members that shall not go on into `stopped`.

        Args:
            checkpoints: none at all, or one path (or None) per config: a member goes on from the file that is there,
                and while it trains for long, leaves its state there; the caller removes the file.
            failed: takes the error of a member that fails by itself, which then has ended; without it the error is raised.
        """
        stopped = set() if stopped is None else stopped
        paths = list(checkpoints) or [None] * len(configs)
        members = [cls(config, device=device) for config in configs]
        running = {i: member.fit_from_checkpoint(data, path) for i, (member, path) in enumerate(zip(members, paths, strict=True))}
        while running:
            epochs: dict[int, Epoch | None] = {}
            for i in [i for i in running if i not in stopped]:
                with noted(failed, i):
                    epochs[i] = next(running[i], None)
            running = {i: running[i] for i, epoch in epochs.items() if epoch is not None}
            if running:
                yield [epochs.get(i) for i in range(len(configs))]

    def start(self, data: Data) -> None:
        """Remember what a saved model must know of its data."""
        self.input_shape, self.class_names = data.input_shape, list(data.class_names)


@contextlib.contextmanager
def noted(failed: dict[int, Exception] | None, place: int) -> Iterator[None]:
    """Put the error of one of several trainings into `failed`; raise it where there is no such mapping."""
    try:
        yield
    except Exception as error:
        if failed is None:
            raise
        failed[place] = error


@runtime_checkable
class Layered(Protocol):
    """A model with layers that can be listed before it is trained."""

    def layer_table(self) -> str:
        """Return the layers of the untrained network, with shapes and parameters, as a text."""


class Classifier(Model):
    """A model that tells classes apart."""

    Config: ClassVar[type[ClassifierConfig]]
    METRICS = METRICS
    BEST_METRIC = "f1"

    @abstractmethod
    def predict_with_loss(self, x: Any, y: Any) -> tuple[np.ndarray, float | None]:
        """Return the labels (n_samples,) and the mean loss against `y`, None where the classifier has none."""

    @abstractmethod
    def predict_proba(self, x: Any) -> np.ndarray:
        """Return class probabilities (n_samples, n_classes) of images (n_samples, channels, height, width) in [0, 1]."""

    @abstractmethod
    def predict(self, x: Any) -> np.ndarray:
        """Return class indices (n_samples,)."""

    def predict_with_proba(self, x: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Return class indices (n_samples,) and probabilities (n_samples, n_classes), None of a model that has none."""
        try:
            return self.predict(x), self.predict_proba(x)
        except UsageError:
            return self.predict(x), None

    def mean_loss(self, x: Any, y: Any) -> float | None:
        return self.predict_with_loss(x, y)[1]

    def inference_module(self) -> nn.Module:
        """Return a module from images (n_samples, channels, height, width) in [0, 1] to probabilities, on the CPU, for export.

        Raises:
            UsageError: where the classifier has none, or was trained without probabilities.
        """
        raise UsageError(f"{self.name} models cannot be exported: they have no form as a torch module.")

    def class_weights(self, data: Data) -> list[float] | None:
        """Return a weight per class (n_classes,), or None where all weigh the same.

        `balanced` is n_samples / (n_classes * count), as in scikit-learn.
        """
        wanted = self.config.class_weight
        if wanted is None:
            return None
        counts = data.train.class_counts(len(data.class_names))
        if wanted == "balanced":
            return [sum(counts) / (len(counts) * max(count, 1)) for count in counts]
        if isinstance(wanted, str):
            raise UsageError(f"class_weight must be 'balanced' or a mapping of class names to weights. Got {wanted!r}.")
        unknown = sorted(set(wanted) - set(data.class_names))
        if unknown:
            raise UsageError(f"class_weight names {unknown[0]!r}, which is not a class; there are {', '.join(data.class_names)}.")
        return [wanted.get(name, 1.0) for name in data.class_names]
