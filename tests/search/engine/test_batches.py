"""Trainings that go on as one program: each has its own epochs, leaves by itself and fails by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState, create_trial

from paretune.core.epoch import Epoch
from paretune.models.registry import model_class
from paretune.networks.loop import SMALL_STEP
from paretune.search.engine import batches
from paretune.search.engine.batches import Together, most_at_once
from paretune.search.sampling.sampler_options import STARTUP
from paretune.search.spec.search_options import MOST_AT_ONCE
from paretune.search.spec.sweep import Sweep, read_sweep
from tests.samples import small_data


class Kind:
    """A model whose configurations say what happens: how many epochs, or the epoch of the program at which it fails."""

    begun: list[list[Any]]
    closed: int

    @classmethod
    def fit_population(
        cls,
        configs: Sequence[dict[str, int]],
        data: Any,
        *,
        stopped: set[int],
        failed: dict[int, Exception] | None = None,
        **_: Any,
    ) -> Iterator[list[Epoch | None]]:
        cls.begun.append(list(configs))
        try:
            for number in range(1, 10):
                for place, config in enumerate(configs):
                    if config.get("breaks") == number:
                        raise RuntimeError("out of memory")
                    if config.get("fails") == number and failed is not None:
                        failed[place] = ValueError(f"{place} cannot go on")
                        stopped.add(place)
                live = [place not in stopped and number <= config["epochs"] for place, config in enumerate(configs)]
                if not any(live):
                    return
                yield [
                    Epoch(number, {"place": float(config["name"])}, last=number == config["epochs"]) if goes_on else None
                    for config, goes_on in zip(configs, live, strict=True)
                ]
        finally:
            cls.closed += 1


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Kind.begun, Kind.closed = [], 0


def together(*configs: dict[str, int]) -> Together:
    named = [{"name": place, **config} for place, config in enumerate(configs)]
    return Together(Kind, named, None, "cpu", [Path(str(place)) for place in range(len(configs))])  # type: ignore[arg-type]


def numbers_of(rounds: Iterator[list[Epoch | None]], place: int) -> list[int]:
    found = [epoch for epochs in rounds for epoch in epochs]
    assert all(epoch is not None and epoch.metrics == {"place": float(place)} for epoch in found)
    return [epoch.number for epoch in found if epoch is not None]


def test_each_has_its_own_epochs_whoever_asks_first() -> None:
    program = together({"epochs": 3}, {"epochs": 1}, {"epochs": 2})
    assert [numbers_of(program.rounds(place), place) for place in (2, 0, 1)] == [[1, 2], [1, 2, 3], [1]]
    assert len(Kind.begun) == 1, "all train as one program"


def test_one_that_was_stopped_has_no_more_epochs_and_the_last_one_ends_the_program() -> None:
    program = together({"epochs": 3}, {"epochs": 3})
    first, second = program.rounds(0), program.rounds(1)
    assert next(first)[0] == Epoch(1, {"place": 0.0})
    program.leave(0)
    assert list(first) == []
    assert next(second)[0] == Epoch(1, {"place": 1.0})
    assert Kind.closed == 0
    program.leave(1)
    assert Kind.closed == 1
    assert list(second) == []


def test_one_that_fails_raises_its_own_error_and_the_others_go_on() -> None:
    program = together({"epochs": 3, "fails": 2}, {"epochs": 3})
    rounds = program.rounds(0)
    assert next(rounds)[0] == Epoch(1, {"place": 0.0})
    with pytest.raises(ValueError, match="0 cannot go on"):
        next(rounds)
    assert numbers_of(program.rounds(1), 1) == [1, 2, 3]
    assert not program.alone


def test_where_the_program_fails_each_goes_on_by_itself_after_the_epochs_that_are_known() -> None:
    program = together({"epochs": 4}, {"epochs": 3, "breaks": 3}, {"epochs": 2})
    assert numbers_of(program.rounds(0), 0) == [1, 2, 3, 4]
    assert program.alone
    assert numbers_of(program.rounds(2), 2) == [1, 2], "it had ended before"
    rounds = program.rounds(1)
    assert [next(rounds)[0], next(rounds)[0]] == [Epoch(1, {"place": 1.0}), Epoch(2, {"place": 1.0})]
    with pytest.raises(RuntimeError, match="out of memory"):
        next(rounds)
    assert [len(configs) for configs in Kind.begun] == [3, 1, 1]


def test_one_that_trains_alone_is_stopped_as_well() -> None:
    program = together({"epochs": 5}, {"epochs": 5, "breaks": 1})
    rounds = program.rounds(0)
    assert [next(rounds)[0], next(rounds)[0]] == [Epoch(1, {"place": 0.0}), Epoch(2, {"place": 0.0})]
    program.leave(0)
    assert list(rounds) == []


# -- how many at once


def sweep_of(folder: Path, **changes: Any) -> Sweep:
    path = folder / "a.yaml"
    definition = {
        "program": "trainers/softmax.py",
        "method": "bayes",
        "metric": {"name": "f1", "goal": "maximize"},
        "parameters": {"learning_rate": {"min": 0.01, "max": 0.5}},
    }
    path.write_text(yaml.safe_dump({**definition, **changes}))
    return read_sweep(path)


def trials_of(complete: int, failed: int = 0, running: int = 0) -> list[FrozenTrial]:
    done = [create_trial(state=TrialState.COMPLETE, values=[0.5])] * complete
    return [*done, *[create_trial(state=TrialState.FAIL)] * failed, *[create_trial(state=TrialState.RUNNING)] * running]


def test_the_first_trial_is_asked_for_alone_until_one_is_complete(tmp_path: Path) -> None:
    random = sweep_of(tmp_path, method="random")
    assert most_at_once(random, trials_of(0)) == most_at_once(random, trials_of(0, failed=5)) == 1
    assert most_at_once(random, trials_of(1)) == MOST_AT_ONCE


def test_until_a_sampler_learns_what_is_left_of_its_random_start_is_asked_for(tmp_path: Path) -> None:
    bayes = sweep_of(tmp_path)
    left = [most_at_once(bayes, trials_of(ended)) for ended in range(1, STARTUP + 2)]
    assert left == [*range(STARTUP - 1, 0, -1), 1, 1]
    assert most_at_once(bayes, trials_of(1, failed=3, running=2)) == STARTUP - 6
    assert most_at_once(bayes, trials_of(1, running=2), mine=2) == STARTUP - 1
    assert most_at_once(bayes, trials_of(1, running=STARTUP)) == 1


def test_a_sampler_that_learns_asks_for_as_many_as_the_sweep_says(tmp_path: Path) -> None:
    controller = {"type": "local", "search": {"sampler": {"name": "tpe", "n_startup_trials": 3}, "at_once": 4}}
    sweep = sweep_of(tmp_path, controller=controller)
    assert [most_at_once(sweep, trials_of(ended)) for ended in (1, 2, 3, 9)] == [2, 1, 4, 4]
    controller["search"] = {"sampler": "nsga2", "at_once": 4}
    assert most_at_once(sweep_of(tmp_path, controller=controller), trials_of(1)) == 4, "it has no random start of ours"


# -- which trials may train as one program


@pytest.mark.parametrize(("spare", "together"), [(1, True), (0, True), (-1, False)])
def test_a_trial_of_few_and_small_steps_trains_alone(monkeypatch: pytest.MonkeyPatch, spare: int, together: bool) -> None:
    data, kind = small_data(), model_class("softmax")
    config = kind.Config(batch_size=16, epochs=3)
    n_weights = (data.train.x[0].numel() + 1) * len(data.class_names)
    n_steps = 3 * math.ceil(len(data.train) / 16)
    effort = n_steps * (1 + 16 * n_weights / SMALL_STEP)  # a large step counts more than a small one
    monkeypatch.setattr(batches, "STEPS", effort - spare)
    assert (batches.shape_of(kind, config, data, "cpu") is not None) is together


def test_as_many_trials_train_together_as_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    data, kind = small_data(), model_class("softmax")
    config = kind.Config(batch_size=16, epochs=3)
    monkeypatch.setattr(batches, "STEPS", 0)
    n_weights = (data.train.x[0].numel() + 1) * len(data.class_names)
    n_outputs = len(data.train) * len(data.class_names)

    def most() -> int | None:
        shape = batches.shape_of(kind, config, data, "cpu")
        return None if shape is None else shape[1]

    assert most() == MOST_AT_ONCE
    for limit, size in (("WEIGHTS", n_weights), ("OUTPUTS", n_outputs)):
        with monkeypatch.context() as patch:
            patch.setattr(batches, limit, 3 * size + 1)
            assert most() == 3
            patch.setattr(batches, limit, 2 * size - 1)
            assert most() is None, "one alone is no program"
    assert batches.shape_of(model_class("svm"), model_class("svm").Config(), data, "cpu") is None
