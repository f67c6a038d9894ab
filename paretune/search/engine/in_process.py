"""How a trial is trained in this process: data in memory, one W&B run, repeats as one, checkpoints of long trainings.

A training is a generator of epochs that is told after each batch of them at which one to stop: `stop = yield batch`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from paretune.core.deferred_gc import collect_as_usual
from paretune.core.devices import pick_device
from paretune.core.epoch import Epoch
from paretune.data.dataset import Data, load_data
from paretune.data.options import LOCKED_SPLIT, DataOptions
from paretune.data.provenance import provenance
from paretune.data.sharing import share_images
from paretune.models.run_config import configure, inactive_in, run_values
from paretune.runs.outcome_file import add_outcome
from paretune.runs.sweep_outcome import SweepOutcome
from paretune.runs.tracking import resolve_mode, track
from paretune.runs.wandb_files import RunFile, read_run
from paretune.runs.whole_runs import merge_run_files
from paretune.search.engine.batches import Share, Together, shape_of
from paretune.search.engine.study import cause_of, counted_row, why_no_value
from paretune.search.engine.time_limit import TimeLimit
from paretune.search.spec.sweep import Sweep

if TYPE_CHECKING:
    from paretune.models.contract import Model, ModelConfig


@dataclass(frozen=True)
class Batch:
    """The epochs that have become known at once; `ended` says that there is nothing left to stop."""

    epochs: Sequence[Epoch]
    ended: bool = False


Epochs = Generator[Batch, int | None, None]


@dataclass
class Attempt:
    """One try at a trial: how its run is named, and what an earlier try left."""

    run_id: str
    name: str
    group: str
    tags: list[str]
    folder: Path
    started: Callable[[dict[str, Any], str | None], None]  # is told the run's config and the path of its files
    begun: float | None = None  # when the study gave the trial out, in seconds since 1970
    checkpoint: Path | None = None
    earlier: Sequence[Epoch] = ()  # the epochs of the try before, for one that goes on from its checkpoint
    share: Share | None = None  # of the program that trains it together with others
    limit: TimeLimit | None = None


class Training(Protocol):
    """What trains the trials of a sweep."""

    sweep: Sweep

    def epochs(self, attempt: Attempt, values: dict[str, Any]) -> Epochs:
        """Train with these values, yielding epochs as they become known."""

    def write_outcome(self, known: RunFile, folder: Path, outcome: SweepOutcome) -> None:
        """Write what the sweep says of a trial into its W&B run, once whatever trained it has ended.

        Args:
            known: what the study knows of the run, for one of which W&B's client has written nothing.
            folder: of the trial, as `Attempt.started` was told.
        """

    def shape(self, values: dict[str, Any]) -> tuple[str, int] | None:
        """Return what trials that may train together have in common, and how many may; None for one that trains alone."""

    def together(self, values: Sequence[dict[str, Any]], checkpoints: Sequence[Path]) -> Together:
        """Return the program of trials of one `shape`."""


@dataclass
class InProcess:
    """Trains a classifier of ours in this process.

    Args:
        cache: folder for what other workers will want as well; None where this one works alone.
    """

    sweep: Sweep
    mode: str = "offline"
    device: str = "auto"
    locked_split: int = LOCKED_SPLIT
    cache: Path | None = None
    check: Callable[[DataOptions, Data], None] | None = None  # of the data of each split, when they are read
    _data: dict[str, Data] = field(default_factory=dict)

    def data_for(self, options: DataOptions) -> Data:
        """Return the data of a trial; kept in memory, as trials of one sweep mostly share them."""
        key = json.dumps(options.to_dict(), sort_keys=True)
        if key not in self._data:
            others = self.sweep.settings.repeats if self.sweep.settings.over == "folds" else 1
            while len(self._data) >= others:
                self._data.pop(next(iter(self._data)))
            data = load_data(options, locked_split=self.locked_split)
            if self.check is not None:
                self.check(options, data)
            self._data[key] = data if self.cache is None else share_images(data, self.cache)
        return self._data[key]

    def checks(self, check: Callable[[DataOptions, Data], None]) -> None:
        """Check the data that were read, and from now on those that will be."""
        self.check = check
        for key, data in self._data.items():
            check(DataOptions.from_dict(json.loads(key)), data)

    def epochs(self, attempt: Attempt, values: dict[str, Any]) -> Epochs:
        classifier = self._classifier
        config, data_options, run_options = configure(classifier, {"best_metric": self.sweep.metric, **values})
        members = self._members(config, data_options)
        resolved = run_values(classifier, config, data_options, run_options)
        if len(members) > 1:
            resolved |= {"repeats": len(members), "repeats_over": self.sweep.settings.over}
        inactive = inactive_in(config, data_options, run_options)
        origin = provenance(members[0][1], str(pick_device(self.device)), classifier.source, inactive)
        with track(
            mode=self.mode,
            project=self.sweep.project,
            name=attempt.name,
            group=attempt.group,
            job_type="sweep",
            tags=attempt.tags,
            run_id=attempt.run_id,
            directory=attempt.folder,
            quiet=True,
            beside=attempt.share is not None,
        ) as tracker:
            collect_as_usual()
            attempt.started({**resolved, "provenance": origin}, tracker.path)
            tracker.describe(resolved, origin)
            tracker.outcome = outcome = SweepOutcome(self.sweep.goals, baseline="baseline" in attempt.tags, created=attempt.begun)
            share = attempt.share
            stopped: set[int] = set() if share is None else share.together.stopped
            places = range(len(members)) if share is None else [share.place]
            rounds = self._rounds(members, stopped, attempt) if share is None else share.together.rounds(share.place)
            try:
                for epoch in self._continued(attempt, rounds):
                    tracker.log(epoch)
                    if (yield Batch([epoch], epoch.last)) is not None:
                        tracker.pruned = epoch.number
                        stopped.update(places)
            except BaseException as error:
                tracker.outcome = replace(outcome, cause=cause_of(error))
                raise
            if tracker.pruned is None:
                row = counted_row(tracker.rows, self.sweep.goals, ours=True)
                cause = why_no_value(tracker.rows, self.sweep.goals, ours=True) if row is None else ""
                tracker.outcome = self.sweep.judged(replace(outcome, cause=cause), resolved, row)

    def write_outcome(self, known: RunFile, folder: Path, outcome: SweepOutcome) -> None:
        files = sorted(folder.parent.glob(f"*/run-{known.run_id}.wandb"))  # of a worker that died as it told the trial, too
        if files:
            found = merge_run_files(run for run in map(read_run, files) if run is not None)
            run = found[0] if found else replace(known, file=str(files[-1]))
            add_outcome(run, outcome, folder.parents[1], online=resolve_mode(self.mode) == "online")

    @property
    def _classifier(self) -> type[Model]:
        classifier = self.sweep.classifier
        assert classifier is not None, "a program of the person's own is run by paretune.search.engine.in_subprocess"
        return classifier

    def shape(self, values: dict[str, Any]) -> tuple[str, int] | None:
        """Return what trials that may train together have in common, and how many may; None for one that trains alone."""
        if self.sweep.settings.repeats > 1 or {part.path[0] for part in self.sweep.space.parameters.values()} & set(
            DataOptions.model_fields
        ):
            return None  # the trials' data may not fit into memory side by side
        try:
            config, options, _ = configure(self._classifier, {"best_metric": self.sweep.metric, **values})
            found = shape_of(self._classifier, config, self.data_for(options), self.device)
        except Exception:  # it fails by itself, and keeps its cause
            return None
        return None if found is None else (json.dumps([found[0], options.to_dict()], sort_keys=True), found[1])

    def together(self, values: Sequence[dict[str, Any]], checkpoints: Sequence[Path]) -> Together:
        """Return the program of trials of one `shape`."""
        found = [configure(self._classifier, {"best_metric": self.sweep.metric, **own}) for own in values]
        data = self.data_for(found[0][1])
        return Together(self._classifier, [config for config, _, _ in found], data, self.device, checkpoints)

    def _members(self, config: ModelConfig, options: DataOptions) -> list[tuple[ModelConfig, Data]]:
        """Return the trainings that make up a trial: one, or one per seed or fold."""
        settings = self.sweep.settings
        if settings.repeats == 1:
            return [(config, self.data_for(options))]
        if settings.over == "seeds":
            data = self.data_for(options)
            return [(config.replace(seed=config.seed + i), data) for i in range(settings.repeats)]
        folds = [options.replace(n_folds=settings.repeats, fold=i) for i in range(settings.repeats)]
        return [(config, self.data_for(fold)) for fold in folds]

    def _rounds(self, members: list[tuple[ModelConfig, Data]], stopped: set[int], attempt: Attempt) -> Iterator[list[Epoch | None]]:
        """Yield an epoch of every member at a time; members that share their data train as one population."""
        classifier = self.sweep.classifier
        assert classifier is not None
        configs, data = [config for config, _ in members], [data for _, data in members]
        if all(part is data[0] for part in data):
            checkpoints = [attempt.checkpoint] if len(members) == 1 else []
            yield from classifier.fit_population(configs, data[0], device=self.device, stopped=stopped, checkpoints=checkpoints)
            return
        alone = [classifier.fit_population([config], part, device=self.device) for config, part in members]
        while not stopped:
            epochs = [next(rounds, [None])[0] for rounds in alone]
            if not any(epochs):
                return
            yield epochs

    def _continued(self, attempt: Attempt, rounds: Iterator[list[Epoch | None]]) -> Iterator[Epoch]:
        """Yield one epoch per round: the only one, or the mean over the repeats with its spread.

        A training that goes on from a checkpoint first repeats the epochs that the earlier try has recorded.
        """
        latest: list[Epoch | None] = []
        for count, epochs in enumerate(rounds, start=1):
            latest = [epoch or before for epoch, before in zip(epochs, latest or [None] * len(epochs), strict=True)]
            known = [epoch for epoch in latest if epoch is not None]
            if len(epochs) > 1:
                yield self._mean(count, known, ended=all(epoch is None or epoch.last for epoch in epochs))
                continue
            if count == 1 and known[0].number > 1:
                yield from (epoch for epoch in attempt.earlier if epoch.number < known[0].number)
            yield known[0]

    def _mean(self, number: int, epochs: Sequence[Epoch], *, ended: bool) -> Epoch:
        """Return the mean over the repeats with each metric's standard deviation as NAME_std; seconds are summed."""
        metrics = {}
        for name in epochs[0].metrics:
            values = [epoch.metrics.get(name, math.nan) for epoch in epochs]
            if name == "seconds":
                metrics[name] = sum(values)
                continue
            metrics[name] = mean = sum(values) / len(values)
            metrics[f"{name}_std"] = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
        return Epoch(number, metrics, ended)
