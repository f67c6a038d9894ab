"""Checkpoint files, whole and broken, and trainings that go on from one as if they had never been stopped."""

from __future__ import annotations

import itertools
import math
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paretune.core.epoch import Epoch
from paretune.data.dataset import Data
from paretune.models import checkpoint
from paretune.models.checkpoint import load_checkpoint, save_checkpoint
from paretune.models.contract import Classifier
from paretune.models.registry import MODELS, model_class
from paretune.networks.optimizers import OPTIMIZERS, SCHEDULES
from tests.samples import assert_alike, small_data

pytestmark = pytest.mark.usefixtures("each_device")

QUICK: dict[str, Any] = {"epochs": 5, "batch_size": 16, "learning_rate": 0.02}
# nothing that a next epoch needs may be lost: rows of classifier and values
TRAININGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in MODELS),
    *(("softmax", {"optimizer": name}) for name in OPTIMIZERS),
    *(("softmax", {"schedule": name, "optimizer": "adamw"}) for name in SCHEDULES),
    ("softmax", {"schedule": "linear", "schedule_settings": {"start_factor": 0.3}}),
    ("softmax", {"optimizer": "sgd", "momentum": 0.9, "optimizer_settings": {"nesterov": True}, "schedule": "cosine"}),
    ("softmax", {"optimizer": "rmsprop", "momentum": 0.5, "optimizer_settings": {"centered": True}}),
    ("softmax", {"optimizer_settings": {"amsgrad": True}, "weight_decay": 0.01, "clip_norm": 0.5}),
    ("softmax", {"early_stopping": 2, "learning_rate": 1.0, "epochs": 60}),
    ("ann", {"batch_norm": True, "hidden": [8], "dropout": 0.3}),
    ("ann", {"n_conv": 1, "channels": 3, "batch_norm": True, "augment": True, "crop": 1, "activation": "prelu"}),
]


def named(training: tuple[str, dict[str, Any]]) -> str:
    return "-".join([training[0], *(f"{key}={value}" for key, value in training[1].items())]).replace(" ", "")


every_classifier = pytest.mark.parametrize("name", list(MODELS))
every_training = pytest.mark.parametrize(("name", "values"), TRAININGS, ids=map(named, TRAININGS))


def built(name: str, **values: Any) -> Classifier:
    kind = model_class(name)
    known = {key: value for key, value in QUICK.items() if key in kind.Config.model_fields}
    return kind(kind.Config.from_dict({**known, **values}))


def without_clock(epochs: list[Epoch]) -> list[tuple[int, dict[str, float], bool]]:
    return [(e.number, {key: value for key, value in e.metrics.items() if key != "seconds"}, e.last) for e in epochs]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every epoch."""
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)


def from_path(name: str, data: Data, path: Path | None, **values: Any) -> Iterator[Epoch]:
    """Train one configuration as a caller of `fit_population` does."""
    kind, config = model_class(name), built(name, **values).config
    for (epoch,) in kind.fit_population([config], data, checkpoints=[path]):
        if epoch is not None:
            yield epoch


def killed(name: str, data: Data, path: Path, n_epochs: int, **values: Any) -> list[Epoch]:
    """Train until the epoch after `n_epochs` has begun, whose end nobody sees."""
    epochs = list(itertools.islice(from_path(name, data, path, **values), n_epochs + 1))
    return epochs[:n_epochs]


# -- going on


@every_training
def test_a_training_that_goes_on_gives_the_epochs_of_one_that_was_never_stopped(
    name: str, values: dict[str, Any], tmp_path: Path
) -> None:
    data, whole = small_data(n_train=61), built(name, **values)
    wanted = list(whole.fit_epochs(data))
    for stop in sorted({1, 2, len(wanted) - 1} & set(range(1, len(wanted)))):
        first = built(name, **values)
        epochs = first.fit_epochs(data)
        before = [next(epochs) for _ in range(stop)]
        state = first.training_state()
        if state is None:
            return
        save_checkpoint(tmp_path / "checkpoint", state)
        next(epochs, None)  # what is trained after it does not change it
        again, kept = built(name, **values), load_checkpoint(tmp_path / "checkpoint")
        assert kept is not None
        again.resume(kept)
        after = list(again.fit_epochs(data))
        assert without_clock(before + after) == without_clock(wanted)
        assert after[0].metrics["seconds"] > before[-1].metrics["seconds"]
        for key, array in whole.state().items():
            np.testing.assert_array_equal(again.state()[key], array)


def test_networks_have_a_state_and_an_svm_has_none() -> None:
    for name in MODELS:
        classifier = built(name)
        assert classifier.training_state() is None
        next(classifier.fit_epochs(small_data()))
        assert (classifier.training_state() is None) == (name == "svm")


@every_classifier
def test_an_ended_training_has_nothing_to_go_on_to(name: str) -> None:
    classifier = built(name)
    for epoch in classifier.fit_epochs(small_data()):
        assert classifier.training_state() is None or not epoch.last


@pytest.mark.parametrize("name", ["softmax", "ann"])
def test_a_state_can_be_gone_on_from_more_than_once(name: str) -> None:
    data, first = small_data(), built(name)
    epochs = first.fit_epochs(data)
    next(epochs)
    state = first.training_state()
    assert state is not None
    wanted = without_clock(list(epochs))
    for _ in range(2):
        again = built(name)
        again.resume(state)
        assert without_clock(list(again.fit_epochs(data))) == wanted
        assert without_clock(list(again.fit_epochs(data)))[0][0] == 1  # only the next training goes on


@pytest.mark.parametrize(
    "other",
    [{"learning_rate": 0.03}, {"seed": 1}, {"epochs": 6}, {"hidden": [9]}, {"optimizer": "sgd"}, {"schedule": "cosine"}],
    ids=str,
)
def test_the_checkpoint_of_another_configuration_is_ignored(other: dict[str, Any], tmp_path: Path, eager: None) -> None:
    data, path = small_data(), tmp_path / "checkpoint"
    killed("ann", data, path, 2)
    assert path.is_file()
    wanted = without_clock(list(built("ann", **other).fit_epochs(data)))
    assert without_clock(list(from_path("ann", data, path, **other))) == wanted


@every_classifier
def test_the_checkpoint_of_another_classifier_is_ignored(name: str, tmp_path: Path, eager: None) -> None:
    data, path = small_data(), tmp_path / "checkpoint"
    killed("ann" if name == "softmax" else "softmax", data, path, 2)
    wanted = without_clock(list(built(name).fit_epochs(data)))
    assert without_clock(list(from_path(name, data, path))) == wanted


def test_the_checkpoint_of_other_data_is_ignored(tmp_path: Path, eager: None) -> None:
    data, path = replace(small_data(), fingerprints={"train": "a"}), tmp_path / "checkpoint"
    killed("softmax", data, path, 2)
    assert next(from_path("softmax", data, path)).number > 1
    assert next(from_path("softmax", replace(data, fingerprints={"train": "b"}), path)).number == 1


@pytest.mark.parametrize("part", ["identity", "epoch", "seconds", "net", "optimizer", "schedule"])
@pytest.mark.parametrize("how", ["missing", "other"])
def test_a_state_of_another_form_is_ignored(part: str, how: str) -> None:
    data, values = small_data(), {"schedule": "cosine"}
    first = built("ann", **values)
    next(first.fit_epochs(data))
    state = first.training_state()
    assert state is not None
    if how == "missing":
        del state[part]
    else:
        state[part] = ["something", "else"]
    again = built("ann", **values)
    again.resume(state)
    assert without_clock(list(again.fit_epochs(data))) == without_clock(list(built("ann", **values).fit_epochs(data)))


# -- leaving checkpoints


@every_classifier
def test_a_member_goes_on_from_its_file_and_the_others_start(name: str, tmp_path: Path, eager: None) -> None:
    data, kind = small_data(), model_class(name)
    configs = [built(name, seed=seed).config for seed in range(3)]
    paths = [tmp_path / "first", None, tmp_path / "third"]
    killed(name, data, tmp_path / "third", 2, seed=2)
    rounds = list(kind.fit_population(configs, data, checkpoints=paths))
    for seed, (config, start) in enumerate(zip(configs, (1, 1, 3 if name != "svm" else 1), strict=True)):
        wanted = [epoch for epoch in kind(config).fit_epochs(data) if epoch.number >= start]
        found = [epochs[seed] for epochs in rounds]
        assert_alike([epoch for epoch in found if epoch is not None], wanted)


def test_a_checkpoint_holds_no_epoch_that_the_caller_has_not_seen(tmp_path: Path, eager: None) -> None:
    path, seen = tmp_path / "checkpoint", 0
    for epoch in from_path("softmax", small_data(), path):
        kept = load_checkpoint(path)
        assert (0 if kept is None else kept["epoch"]) == seen == epoch.number - 1
        seen = epoch.number
    assert load_checkpoint(path)["epoch"] == QUICK["epochs"] - 1  # type: ignore[index]  # the last is not saved, nor removed


def test_a_short_training_writes_nothing(tmp_path: Path) -> None:
    list(from_path("softmax", small_data(), tmp_path / "folder" / "checkpoint"))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_left_only_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = [100.0], []
    monkeypatch.setattr("paretune.models.contract.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(checkpoint, "save_checkpoint", lambda path, state: written.append(state["epoch"]))
    for epoch in from_path("softmax", small_data(), tmp_path / "checkpoint", epochs=10):
        clock[0] += 29.9 if epoch.number == 1 else 12.0
    assert written == [2, 5, 8]


def test_an_svm_leaves_no_checkpoint(tmp_path: Path, eager: None) -> None:
    list(from_path("svm", small_data(), tmp_path / "checkpoint"))
    assert list(tmp_path.iterdir()) == []


def test_without_paths_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eager: None) -> None:
    monkeypatch.chdir(tmp_path)
    list(from_path("softmax", small_data(), None))
    assert list(tmp_path.iterdir()) == []


def test_as_many_paths_as_configurations_are_wanted() -> None:
    configs = [built("softmax").config] * 2
    with pytest.raises(ValueError, match="zip"):
        next(model_class("softmax").fit_population(configs, small_data(), checkpoints=[None]))


def test_a_checkpoint_that_cannot_be_written_ends_no_training(tmp_path: Path, eager: None) -> None:
    (tmp_path / "file").write_text("in the way")
    epochs = list(from_path("softmax", small_data(), tmp_path / "file" / "checkpoint"))
    assert without_clock(epochs) == without_clock(list(built("softmax").fit_epochs(small_data())))


# -- files

STATE: dict[str, Any] = {"epoch": 3, "best": math.inf, "names": ["a", None], "net": {"weight": torch.arange(6.0).reshape(2, 3)}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "a" / "b" / "checkpoint", STATE)
    return tmp_path / "a" / "b" / "checkpoint"


def same(state: dict[str, Any] | None) -> bool:
    assert state is not None
    rest = {key: value for key, value in state.items() if key != "net"}
    return rest == {key: STATE[key] for key in rest} and torch.equal(state["net"]["weight"], STATE["net"]["weight"])


def test_a_state_goes_round_and_leaves_one_file(path: Path) -> None:
    assert same(load_checkpoint(path))
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint"]


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none") is None
    assert load_checkpoint(tmp_path) is None


def test_a_file_that_was_cut_off_anywhere_is_no_checkpoint(path: Path) -> None:
    for size in range(path.stat().st_size - 1, -1, -7):
        os.truncate(path, size)
        assert load_checkpoint(path) is None


def test_a_file_with_a_changed_byte_is_no_checkpoint(path: Path) -> None:
    raw = path.read_bytes()
    for place in range(0, len(raw), 5):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x41]) + raw[place + 1 :])
        assert load_checkpoint(path) is None


@pytest.mark.parametrize("value", [[1, 2], torch.zeros(2), "text", None], ids=["list", "tensor", "text", "none"])
def test_a_file_of_another_form_is_no_checkpoint(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda _, buffer: save(value, buffer))
    save_checkpoint(tmp_path / "other", {})
    assert load_checkpoint(tmp_path / "other") is None


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code from a checkpoint was run')",))


def test_a_checkpoint_never_runs_code(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "bomb", {"epoch": Bomb()})
    assert load_checkpoint(tmp_path / "bomb") is None
    (tmp_path / "pickle").write_bytes(pickle.dumps(Bomb()))
    assert load_checkpoint(tmp_path / "pickle") is None


def test_a_write_that_fails_leaves_the_earlier_checkpoint_and_no_other_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, data: bytes) -> int:
        with file.open("wb") as stream:
            stream.write(data[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"epoch": 4})
    assert same(load_checkpoint(path))
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint"]
