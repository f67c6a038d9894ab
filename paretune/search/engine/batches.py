"""Trials that train as one program: which may, how many are asked for at once, and each one's part in the program's epochs.

Unless the sweep says `at_once`, only suggestions that depend on no result are asked for together (random ones, a grid's, the random
start of `method: bayes`), so that a seed suggests the same whether or not trials train together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from paretune.networks.loop import OF_EACH, SMALL_STEP, GradientConfig, GradientModel
from paretune.search.engine.liveness import running
from paretune.search.engine.study import finished
from paretune.search.sampling.sampler_options import STARTUP
from paretune.search.spec.search_options import MOST_AT_ONCE, Settings
from paretune.search.spec.sweep import Sweep

if TYPE_CHECKING:
    from paretune.core.epoch import Epoch
    from paretune.data.dataset import Data
    from paretune.models.contract import Model, ModelConfig

STEPS = 2_000  # of a trial, below which it is over before a program could save anything worth its while; large ones count more
WEIGHTS = 50_000_000  # of all trials at once, with gradients and momenta at most 0.8 GB
OUTPUTS = 250_000_000  # numbers: all networks' outputs of an epoch, 1 GB


def most_at_once(sweep: Sweep, trials: Sequence[FrozenTrial], mine: int = 0) -> int:
    """Return how many suggestions a worker may draw before the first has ended: as none depends on a result, or as the sweep says.

    Args:
        trials: all of the study.
        mine: how many of those that run are of these suggestions.
    """
    settings = sweep.settings
    if sweep.alone is not None:
        return 1
    complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
    if complete == 0:
        return 1  # where all fail, the first few shall show it
    if sweep.blind is not None:
        return MOST_AT_ONCE
    ended = len(finished(trials))
    startup = _startup(settings)
    if ended >= startup:
        return settings.at_once
    at_random = max(startup - ended - len(running(trials)) + mine, 1)  # with those of all workers, so that learning begins on time
    known = settings.sampler == "auto" and not sweep.space.conditions  # to be what would be drawn one by one
    return min(at_random, MOST_AT_ONCE if known else settings.at_once)


def _startup(settings: Settings) -> int:
    """Return how many trials a sampler draws at random before it learns."""
    if settings.sampler not in ("auto", "tpe", "gp"):
        return 0
    return int(settings.sampler_options.get("n_startup_trials", STARTUP))


def shape_of(kind: type[Model], config: ModelConfig, data: Data, device: str) -> tuple[str, int] | None:
    """Return what trials of one program have in common, and how many fit into one; None for a trial that trains alone."""
    if not issubclass(kind, GradientModel) or not isinstance(config, GradientConfig):
        return None
    from paretune.batched.training import is_written_out, key_of, n_kept, n_weights, room_of

    model = kind(config, device=device)
    model.start(data)
    if not kind.keeps(*OF_EACH) or not is_written_out(model):
        return None
    n_images = len(data.train)
    n_steps = -(-n_images // config.batch_size) * config.epochs
    if n_steps * (1 + config.batch_size * n_weights(model) / SMALL_STEP) < STEPS:
        return None
    room = room_of(model.device) // n_kept(model)
    most = min(MOST_AT_ONCE, WEIGHTS // n_weights(model), room, OUTPUTS // (n_images * len(data.class_names)))
    return (key_of(config), most) if most > 1 else None


@dataclass
class Together:
    """Trainings that go on as one program, an epoch of each at a time, while each is asked for by its own trial."""

    kind: type[Model]
    configs: Sequence[ModelConfig]
    data: Data
    device: str
    checkpoints: Sequence[Path]
    stopped: set[int] = field(default_factory=set)
    alone: bool = field(init=False, default=False)  # whether the program has failed, and each goes on by itself

    def __post_init__(self) -> None:
        self._failed: dict[int, Exception] = {}
        self._rounds = self.kind.fit_population(
            self.configs,
            self.data,
            device=self.device,
            stopped=self.stopped,
            checkpoints=self.checkpoints,
            failed=self._failed,
        )
        self._waiting: dict[int, list[Epoch]] = {place: [] for place in range(len(self.configs))}

    def rounds(self, place: int) -> Iterator[list[Epoch | None]]:
        """Yield the epochs of one of them, as `fit_population` does of one alone.

        Where the program itself fails, as one of the configurations cannot be built or memory is short, each trains anew by
        itself, so that each fails by itself.
        """
        known = 0
        while place not in self.stopped and (self._waiting[place] or self._advance(place)):
            epoch = self._waiting[place].pop(0)
            known = epoch.number
            yield [epoch]
            if epoch.last:
                return
        if place in self._failed:
            raise self._failed[place]
        if self.alone and place not in self.stopped:
            yield from self._by_itself(place, known)

    def leave(self, place: int) -> None:
        """Take one of them out, however its trial ended and whether or not it began; the last one ends the program."""
        self.stopped.add(place)
        if len(self.stopped) == len(self.configs):
            self._rounds.close()  # type: ignore[attr-defined]  # a generator: it gives the models their parameters back

    def _by_itself(self, place: int, known: int) -> Iterator[list[Epoch | None]]:
        """Train one of them alone and yield its epochs after those that are known."""
        stopped: set[int] = set()
        rounds = self.kind.fit_population(
            [self.configs[place]], self.data, device=self.device, stopped=stopped, checkpoints=[self.checkpoints[place]]
        )
        for epochs in rounds:
            if epochs[0] is not None and epochs[0].number > known:
                yield epochs
            if place in self.stopped:
                stopped.add(0)

    def _advance(self, place: int) -> bool:
        """Train an epoch of all; return whether one of this training came of it."""
        if self.alone or place in self._failed:
            return False
        try:
            epochs = next(self._rounds, None)
        except Exception:
            self.alone = True
            return False
        for number, epoch in enumerate(epochs or ()):
            if epoch is not None:
                self._waiting[number].append(epoch)
        return bool(self._waiting[place])


@dataclass(frozen=True)
class Share:
    """A trial's place among those that train together."""

    together: Together
    place: int
