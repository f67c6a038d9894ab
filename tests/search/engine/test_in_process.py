"""A trial as a training: repeats as one, folds, a retry that goes on from its checkpoint, one run per trial."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from paretune.core.epoch import Epoch
from paretune.data.dataset import Data
from paretune.data.options import DataOptions
from paretune.models import checkpoint
from paretune.runs.sweep_outcome import SweepOutcome
from paretune.runs.wandb_files import RunFile
from paretune.search.engine import in_process as training
from paretune.search.engine.in_process import Attempt, InProcess
from paretune.search.spec.sweep import Sweep, read_sweep
from tests.samples import small_data

DEFINITION: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "random",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"epochs": {"value": 4}, "learning_rate": {"min": 0.001, "max": 0.5}},
}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[DataOptions]:
    options: list[DataOptions] = []

    def load(given: DataOptions, **_: Any) -> Data:
        options.append(given)
        return small_data(n_train=30 + 6 * given.fold)

    monkeypatch.setattr(training, "load_data", load)
    return options


def sweep_of(folder: Path, repeats: dict[str, int] | None = None, **changes: Any) -> Sweep:
    search = {"controller": {"type": "local", "search": {"repeats": repeats}}} if repeats else {}
    path = folder / "training.yaml"
    path.write_text(yaml.safe_dump({**DEFINITION, **search, **changes}))
    return read_sweep(path)


def attempt_in(folder: Path, **more: Any) -> Attempt:
    return Attempt("id", "name", "group", [], folder, lambda config, path: None, **more)


def epochs_of(process: InProcess, attempt: Attempt, values: dict[str, Any], *, stop_at: int | None = None) -> list[Epoch]:
    found: list[Epoch] = []
    epochs = process.epochs(attempt, values)
    try:
        batch = next(epochs)
        while True:
            found += batch.epochs
            batch = epochs.send(stop_at if found[-1].number == stop_at else None)
    except StopIteration:
        return found


def in_process(sweep: Sweep) -> InProcess:
    return InProcess(sweep, "disabled", "cpu")


def without_time(epochs: list[Epoch]) -> list[tuple[int, dict[str, float]]]:
    return [(epoch.number, {k: v for k, v in epoch.metrics.items() if not k.startswith("seconds")}) for epoch in epochs]


def test_repeats_over_seeds_give_mean_and_spread(tmp_path: Path, loaded: list[DataOptions]) -> None:
    values = {"epochs": 3, "learning_rate": 0.05, "seed": 5}
    alone = [epochs_of(in_process(sweep_of(tmp_path)), attempt_in(tmp_path), {**values, "seed": seed}) for seed in (5, 6, 7)]
    together = epochs_of(in_process(sweep_of(tmp_path, {"seeds": 3})), attempt_in(tmp_path), values)
    assert [epoch.number for epoch in together] == [1, 2, 3]
    assert [epoch.last for epoch in together] == [False, False, True]
    for place, epoch in enumerate(together):
        for name in ("f1", "precision", "recall", "test_loss", "test_accuracy"):  # whether the sweep looks for it or not
            parts = [run[place].metrics[name] for run in alone]
            mean = sum(parts) / 3
            assert epoch.metrics[name] == pytest.approx(mean)
            assert epoch.metrics[f"{name}_std"] == pytest.approx(math.sqrt(sum((part - mean) ** 2 for part in parts) / 2))
        assert "seconds_std" not in epoch.metrics, "seconds are summed"
    assert {options.fold for options in loaded} == {0}


def test_repeats_over_folds_train_on_each_fold(tmp_path: Path, loaded: list[DataOptions]) -> None:
    process = in_process(sweep_of(tmp_path, {"folds": 3}))
    epochs = epochs_of(process, attempt_in(tmp_path), {"epochs": 2, "learning_rate": 0.05})
    assert [(options.n_folds, options.fold) for options in loaded] == [(3, 0), (3, 1), (3, 2)]
    assert len(epochs) == 2
    assert all("f1_std" in epoch.metrics for epoch in epochs)
    epochs_of(process, attempt_in(tmp_path), {"epochs": 2, "learning_rate": 0.1})
    assert len(loaded) == 3, "the folds stay in memory"


def test_a_repeat_that_ends_early_keeps_its_last_values(tmp_path: Path, loaded: list[DataOptions]) -> None:
    values = {"epochs": 30, "learning_rate": 0.5, "early_stopping": 1}
    process, single = in_process(sweep_of(tmp_path, {"seeds": 2})), in_process(sweep_of(tmp_path))
    lengths = [len(epochs_of(single, attempt_in(tmp_path), {**values, "seed": seed})) for seed in (0, 1)]
    epochs = epochs_of(process, attempt_in(tmp_path), values)
    assert len(epochs) == max(lengths)
    assert epochs[-1].last


@pytest.mark.parametrize("repeats", [None, {"seeds": 2}, {"folds": 2}])
def test_a_stopped_training_yields_no_more(tmp_path: Path, loaded: list[DataOptions], repeats: dict[str, int] | None) -> None:
    process = in_process(sweep_of(tmp_path, repeats))
    epochs = epochs_of(process, attempt_in(tmp_path), {"epochs": 9, "learning_rate": 0.05}, stop_at=2)
    assert [epoch.number for epoch in epochs] == [1, 2]


def test_a_retry_goes_on_from_its_checkpoint_with_the_same_history(
    tmp_path: Path, loaded: list[DataOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    process, values = in_process(sweep_of(tmp_path)), {"epochs": 6, "learning_rate": 0.05, "optimizer": "adam"}
    whole = epochs_of(process, attempt_in(tmp_path), dict(values))
    path = tmp_path / "checkpoints" / "0.pt"
    died = process.epochs(attempt_in(tmp_path, checkpoint=path), dict(values))
    before = [epoch for _ in range(4) for epoch in next(died).epochs]
    died.close()
    assert path.is_file()
    trained: list[int] = []
    from paretune.networks.loop import GradientModel

    original = GradientModel._written_out
    monkeypatch.setattr(GradientModel, "_written_out", lambda self, *a: (trained.append(1), original(self, *a))[1])
    again = epochs_of(process, attempt_in(tmp_path, checkpoint=path, earlier=before), dict(values))
    assert without_time(again) == without_time(whole)
    assert len(trained) == 3, "epochs 4 to 6: the fourth was not saved before the end"


def test_the_run_says_what_it_repeats(tmp_path: Path, loaded: list[DataOptions]) -> None:
    told: list[Any] = []
    attempt = Attempt("id", "name", "group", [], tmp_path, lambda config, path: told.append((config, path)))
    epochs_of(in_process(sweep_of(tmp_path, {"seeds": 2})), attempt, {"epochs": 1, "learning_rate": 0.05})
    ((config, path),) = told
    assert (config["repeats"], config["repeats_over"], config["best_metric"]) == (2, "seeds", "f1")
    assert path is None
    assert set(config["provenance"]) >= {"commit", "versions", "device", "fingerprints"}
    assert "momentum" in config["provenance"]["inactive"]


def test_other_data_take_the_place_of_the_former(tmp_path: Path, loaded: list[DataOptions]) -> None:
    process = in_process(sweep_of(tmp_path))
    for size in (20, 20, 25, 20):
        epochs_of(process, attempt_in(tmp_path), {"epochs": 1, "learning_rate": 0.05, "train_size": size})
    assert [options.train_size for options in loaded] == [20, 25, 20]


def test_a_trial_that_is_told_again_says_so_in_one_file_of_its_run(tmp_path: Path) -> None:
    """A worker may die once the outcome is written, before the study is told; the next one tells the trial, too."""
    folder = tmp_path / "wandb" / "offline-run-20260101_000000-id"
    folder.mkdir(parents=True)
    (folder / "run-id.wandb").write_bytes(b"")  # whose client was killed as it began
    process, outcome = InProcess(sweep_of(tmp_path), "offline"), SweepOutcome({"f1": "maximize"}, cause="interrupted")
    for _ in range(3):
        process.write_outcome(RunFile("id", name="s-0", created=1.0), folder, outcome)
    assert len(list(tmp_path.rglob("run-id.wandb"))) == 2
    assert not list(tmp_path.rglob("*.partial"))
