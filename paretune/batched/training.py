"""Many models at once: configurations of equal shape, whatever their optimizers, rates and seeds, train as one program.

Each model's epochs are those that it would yield alone, but for the order of sums in single precision. A model that has ended, or
that the caller stops, leaves the program before its next epoch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from paretune.batched.networks import Room, Stack, described, outputs_of, update_of
from paretune.core.devices import numerics
from paretune.core.step import clipped, n_threads, seed_of, step_of, watched
from paretune.models import checkpoint
from paretune.models.contract import noted
from paretune.models.device_metrics import DeviceMetrics, Stopwatch, read_metrics
from paretune.models.training_state import GradientTrained, Run

if TYPE_CHECKING:
    from paretune.core.epoch import Epoch
    from paretune.data.dataset import Data
    from paretune.data.images import Samples
    from paretune.models.contract import ModelConfig

# What the configurations of one program may differ in; whoever has ended leaves it, so `epochs` too.
FREE = (
    *("seed", "epochs", "early_stopping", "optimizer", "learning_rate", "momentum", "weight_decay", "optimizer_settings"),
    *("schedule", "schedule_settings", "clip_norm", "dropout"),
)
# what a program does in place of a model's own methods
WRITTEN_OUT = ("loss", "changed", "outputs", "train_counts", "evaluated_epoch", "training_inputs", "_train_epoch")
EVALUATED_TOGETHER = 4096  # images at once outside training, of all the models taken together
TOGETHER = 400_000  # weights in one program on the CPU: with gradients and momenta, what its cache holds (docs/decisions.md)
ROOM = 250_000_000  # numbers that all programs at once may keep of their batches in ordinary memory: 1 GB
GPU_SHARE = 0.5  # of a GPU's free memory, for the same
Draw = tuple[torch.Generator, list[int], list[float]]  # random numbers, whose masks they make, the rates by layer


def key_of(config: ModelConfig) -> str:
    """Return a text that is the same for configurations that may train as one program."""
    values = {name: value for name, value in config.to_dict().items() if name not in FREE}
    dropout = getattr(config, "dropout", 0.0)
    places = None if isinstance(dropout, float | int) else [spot.after for spot in dropout]
    return json.dumps([values, places], sort_keys=True)


def is_written_out(model: GradientTrained) -> bool:
    """Whether a model that knows its data's shape can train in a program: plain dense layers, on the CPU or CUDA, in fp32."""
    if model.precision != "fp32" or model.device.type not in ("cpu", "cuda"):
        return False
    if model.config.train_only is not None or model.written_loss() is None or not model.keeps(*WRITTEN_OUT):
        return False
    if model._net is not None:
        return described(model._net) is not None
    with torch.device("meta"):  # neither memory nor random numbers
        return described(model.network()) is not None


def room_of(device: torch.device) -> int:
    """Return how many numbers all programs at once may keep of their batches on a device."""
    return ROOM if device.type != "cuda" else int(GPU_SHARE * torch.cuda.mem_get_info(device)[0]) // 4


def n_weights(model: GradientTrained) -> int:
    """Return how many numbers a model that knows its data's shape will learn."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model.network().parameters())


def n_kept(model: GradientTrained) -> int:
    """Return how many numbers a program keeps of a model's batches, a model that knows its data's shape: five a layer's output."""
    with torch.device("meta"):
        layers = [layer for layer in model.network().modules() if isinstance(layer, torch.nn.Linear)]
    widths = layers[0].in_features + 5 * sum(layer.out_features for layer in layers)
    return 2 * model.config.batch_size * widths  # of full batches, and of the last one


class Program:
    """K models of equal shape that train on the same images.

    Args:
        models: with their networks on the device; their parameters are views of the program's until `release`.
        optimizers: one per model, of its network's parameters.
        x: training images (n_samples, …) as the networks take them.
    """

    def __init__(self, models: Sequence[GradientTrained], optimizers: Sequence[torch.optim.Optimizer], x: torch.Tensor) -> None:
        self.models, self.optimizers, self.x = models, optimizers, x.flatten(1)
        nets = [layers for model in models if model._net is not None and (layers := described(model._net)) is not None]
        assert len(nets) == len(models), "only of models that are written out"
        self.stacks = [Stack(layers) for layers in zip(*nets, strict=True)]
        loss = models[0].written_loss()
        assert loss is not None
        self.loss = loss
        self.batch_size: int = models[0].config.batch_size
        self._rooms: dict[tuple[int, bool], Room] = {}

    def release(self) -> None:
        """Give the models parameters of their own again."""
        for stack in self.stacks:
            stack.release()

    def epoch(
        self, numbers: Sequence[int], data: Data, evaluated: Samples | None, watch: Callable[[int, int], None] | None = None
    ) -> tuple[list[dict[str, float]], float]:
        """Train and evaluate an epoch; return each model's metrics and the seconds of the training.

        Args:
            numbers: of the epoch, by model: with the seed, it says the order of the images and what is dropped.
            evaluated: images as the networks take them.
            watch: told of the batches done, and of how many there are.
        """
        clock = Stopwatch(self.x.device)
        parts = [self.train_epoch(numbers, data, watch)]
        clock.stop()
        if evaluated is not None:
            parts.append(self.evaluate(evaluated))
        return read_metrics(parts, data), clock.seconds

    def train_epoch(self, numbers: Sequence[int], data: Data, watch: Callable[[int, int], None] | None = None) -> DeviceMetrics:
        """Go once through the training images."""
        orders, draws = self._drawn(numbers)
        with torch.no_grad():
            labels, steps = [], []
            for chosen in self._batches(orders):
                room = self._room(chosen.shape[2], shared=chosen.shape[1] == 1)
                labels.append(data.train.y[chosen])
                items = self.loss.steps(room, labels[-1])
                steps += [(room, rows, item) for rows, item in zip(chosen.flatten(1).unbind(), items, strict=True)]
            self._run(steps if watch is None else watched(steps, len(steps), watch), draws)
            return self.loss.trained(len(self.models), labels)

    def evaluate(self, samples: Samples) -> DeviceMetrics:
        with torch.inference_mode():
            n = max(EVALUATED_TOGETHER // len(self.models), 256)
            parts = zip(samples.x.flatten(1).split(n), samples.y.split(n), strict=True)
            return self.loss.evaluated(((outputs_of(self.stacks, images), images, y) for images, y in parts))

    def _drawn(self, numbers: Sequence[int]) -> tuple[list[torch.Tensor], list[Draw]]:
        """Return the orders of the images, a single one where all models have the same, and who draws the dropout masks.

        Models of one seed that drop at the same rates share their masks; all is drawn as autograd's loop draws it.
        """
        draws: dict[tuple[Any, ...], Draw] = {}
        orders: dict[tuple[int, int], torch.Tensor] = {}
        keys = [(model.config.seed, number) for model, number in zip(self.models, numbers, strict=True)]
        for place, key in enumerate(keys):
            rates = [stack.rates[place] for stack in self.stacks]
            if (key, *rates) not in draws:
                generator = torch.Generator(self.x.device).manual_seed(seed_of(*key))
                order = torch.randperm(len(self.x), device=self.x.device, generator=generator)
                orders.setdefault(key, order)
                draws[key, *rates] = (generator, [], rates)
            draws[key, *rates][1].append(place)
        found = list(orders.values()) if len(orders) == 1 else [orders[key] for key in keys]
        return found, [draw for draw in draws.values() if any(draw[2])]

    def _batches(self, orders: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the indices of the full batches (n_steps, 1 or K, n), and those of the smaller last one."""
        order = torch.stack(list(orders))
        k, n_samples = order.shape
        count, rest = divmod(n_samples, self.batch_size)
        full = order[:, : n_samples - rest].view(k, count, self.batch_size).transpose(0, 1).contiguous()
        return [part for part in (full, order[None, :, n_samples - rest :]) if part.numel()]

    def _room(self, n: int, *, shared: bool) -> Room:
        if (n, shared) not in self._rooms:
            self._rooms[n, shared] = Room(self.stacks, n, shared=shared)
        return self._rooms[n, shared]

    def _run(self, steps: Any, draws: Sequence[Draw]) -> None:
        """Take the steps; torch's own optimizers take the first, which also prepares their state."""
        updates: list[Callable[[], Any]] = []
        x, gradient = self.x, self.loss.gradient
        for room, chosen, item in steps:
            torch.index_select(x, 0, chosen, out=room.rows)
            for generator, members, rates in draws:
                room.drop(generator, members, rates)
            gradient(room, item)
            room.backward()
            if updates:
                for update in updates:
                    update()
                continue
            for model, optimizer in zip(self.models, self.optimizers, strict=True):
                clipped(step_of(optimizer), optimizer, model.config.clip_norm)()
                updates.append(clipped(update_of(optimizer), optimizer, model.config.clip_norm))


def fit_together(
    models: Sequence[GradientTrained],
    data: Data,
    *,
    stopped: set[int],
    checkpoints: Sequence[Path | None] = (),
    failed: dict[int, Exception] | None = None,
) -> Iterator[list[Epoch | None]]:
    """Train models that are all `is_written_out`, those of equal shape as one program; yields as `Model.fit_population` does.

    On the CPU a program is as large as its cache allows, and programs train side by side, one thread each; where large nets make
    fewer programs than there are threads, these are shared out. A model's `seconds` are its share of the time that its program
    trained; as alone, without the evaluation.
    """
    paths = list(checkpoints) or [None] * len(models)
    runs = _begun(models, data, paths)
    written = dict.fromkeys(runs, time.monotonic())
    device = models[0].device
    width = torch.get_num_threads() if device.type == "cpu" else 1
    programs: dict[tuple[int, ...], Program] = {}
    large = any(model._threads() is None for model in models)
    with ThreadPoolExecutor(width) as pool:
        try:
            while runs:
                wanted = _blocks(runs, width)
                if list(programs) != wanted:
                    _release(programs)
                    programs = {block: _program([runs[place] for place in block]) for block in wanted}
                threads = max(width // len(programs), 1) if large else 1
                with n_threads(1), numerics("fp32", device):
                    tasks = [
                        pool.submit(_epoch, program, [runs[place] for place in block], threads)
                        for block, program in programs.items()
                    ]
                    rows: dict[int, dict[str, float]] = {}
                    seconds: dict[int, float] = {}
                    for block, task in zip(programs, tasks, strict=True):
                        found, taken = task.result()
                        rows.update(zip(block, found, strict=True))
                        seconds.update(dict.fromkeys(block, taken / len(block)))
                epochs: dict[int, Epoch] = {}
                for place, run in runs.items():
                    with noted(failed, place):
                        epochs[place] = run.conclude(rows[place], seconds[place])
                yield [epochs.get(place) for place in range(len(models))]
                runs = {place: runs[place] for place, epoch in epochs.items() if not epoch.last and place not in stopped}
                for place in runs:
                    path = paths[place]
                    if path is not None and time.monotonic() - written[place] >= checkpoint.CHECKPOINT_SECONDS:
                        models[place].leave_checkpoint(path)
                        written[place] = time.monotonic()
        finally:
            _release(programs)


def _begun(models: Sequence[GradientTrained], data: Data, paths: Sequence[Path | None]) -> dict[int, Run]:
    data = data.to(models[0].device)
    runs = {}
    for place, (model, path) in enumerate(zip(models, paths, strict=True)):
        state = None if path is None else checkpoint.load_checkpoint(path)
        if state is not None:
            model.resume(state)
        runs[place] = Run.of(model, data)
    return runs


def _blocks(runs: Mapping[int, Run], width: int) -> list[tuple[int, ...]]:
    """Part models into programs: of equal shape, as many as the cache holds, and work for every thread."""
    groups: dict[str, list[int]] = {}
    for place, run in runs.items():
        groups.setdefault(key_of(run.model.config), []).append(place)
    blocks = []
    for places in groups.values():
        first = runs[places[0]].model
        most = len(places) if first.device.type != "cpu" else max(TOGETHER // first.n_parameters, 1)
        count = -(-len(places) // most)
        if len(groups) < width or count > 1:
            count = min(-(-count // width) * width, len(places))
        sizes = [len(places) // count + (number < len(places) % count) for number in range(count)]
        for size in sizes:
            blocks.append(tuple(places[:size]))
            places = places[size:]
    return blocks


def _program(runs: Sequence[Run]) -> Program:
    return Program([run.model for run in runs], [run.now.optimizer for run in runs], runs[0].x)


def _release(programs: Mapping[tuple[int, ...], Program]) -> None:
    for program in programs.values():
        program.release()


def _epoch(program: Program, runs: Sequence[Run], threads: int) -> tuple[list[dict[str, float]], float]:
    """Train and evaluate an epoch of each model of a program; return their metrics, and the seconds of the training."""
    torch.set_num_threads(threads)  # of this thread of the pool
    return program.epoch([run.number for run in runs], runs[0].data, runs[0].evaluated)
