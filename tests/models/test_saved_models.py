"""Where a model may be saved: a new folder or one of a saved model alone; nothing that is not ours is removed or overwritten."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from paretune.core.errors import UsageError
from paretune.models.pack import pack
from paretune.models.saved_models import check_destination, check_finite, check_whole, load, load_classifier, save
from paretune.trainers.softmax import Softmax, SoftmaxConfig
from tests.samples import small_data

MODEL = Softmax(SoftmaxConfig(epochs=1), device="cpu").fit(small_data())


def _config_of_another_program(folder: Path) -> None:
    (folder / "config.json").write_text('{"name": "my app"}')


def _config_of_our_format_alone(folder: Path) -> None:
    (folder / "config.json").write_text('{"format": 1}')


def _model_beside_notes(folder: Path) -> None:
    save(MODEL, folder, metrics={})
    (folder / "notes.txt").write_text("notes")


def _model_with_a_folder(folder: Path) -> None:
    save(MODEL, folder, metrics={})
    (folder / "data").mkdir()


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _weights_alone(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"somebody's")


def _hidden_file(folder: Path) -> None:
    (folder / ".env").write_text("SECRET=1")


FOREIGN = (
    *(_config_of_another_program, _config_of_our_format_alone, _model_beside_notes, _model_with_a_folder),
    *(_broken_config, _weights_alone, _hidden_file),
)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("fill", FOREIGN, ids=lambda fill: fill.__name__)
def test_a_folder_with_anything_but_a_model_is_refused_and_stays(fill: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "k"
    folder.mkdir()
    fill(folder)
    before = contents(tmp_path)
    for attempt in (lambda: check_destination(folder), lambda: save(MODEL, folder, metrics={})):
        with pytest.raises(UsageError, match="must be a new folder or one of a saved model alone"):
            attempt()
    assert contents(tmp_path) == before


def test_a_model_takes_the_place_of_an_earlier_one_or_of_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    save(MODEL, folder, metrics={"first": 1})
    (folder / "model.onnx").write_bytes(b"of the first")
    (folder / ".DS_Store").write_bytes(b"a file browser's")
    save(MODEL, folder, metrics={"second": 2}, beside=lambda path: (path / "predictions.safetensors").touch())
    assert json.loads((folder / "metrics.json").read_text()) == {"second": 2}
    assert sorted(contents(folder)) == [
        ".DS_Store",
        "config.json",
        "metrics.json",
        "predictions.safetensors",
        "weights.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    load(folder, device="cpu")


def test_a_linked_folder_is_written_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "m").symlink_to(tmp_path / "disk")
    for _ in range(2):
        save(MODEL, tmp_path / "m", metrics={})
    assert (tmp_path / "m").is_symlink()
    load(tmp_path / "disk", device="cpu")


def test_what_cannot_be_written_leaves_the_earlier_model(tmp_path: Path) -> None:
    save(MODEL, tmp_path / "m", metrics={"first": 1})

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match="No space left on device"):
        save(MODEL, tmp_path / "m", metrics={}, beside=full)
    assert json.loads((tmp_path / "m" / "metrics.json").read_text()) == {"first": 1}
    assert os.listdir(tmp_path) == ["m"]


def test_packing_writes_over_packed_models_alone(tmp_path: Path) -> None:
    save(MODEL, tmp_path / "models" / "m", metrics={})
    pack(tmp_path / "models", tmp_path / "dist")
    pack(tmp_path / "models", tmp_path / "dist")
    for name, text in (("m.zip", "mine"), ("SHA256SUMS", f"{'0' * 64}  thesis.pdf\n")):
        folder = tmp_path / name.lower().replace(".", "-")
        folder.mkdir()
        (folder / name).write_text(text)
        with pytest.raises(UsageError, match="must hold packed models alone"):
            pack(tmp_path / "models", folder)
        assert contents(folder) == {name: text.encode()}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(value: float, tmp_path: Path) -> None:
    good = save(MODEL, tmp_path / "good", metrics={})
    before = {path.name: path.read_bytes() for path in good.iterdir()}
    arrays = {name: array.copy() for name, array in MODEL.state().items()}
    (name, *_) = sorted(MODEL.parameter_names())
    arrays[name].flat[0] = value
    broken = Softmax(SoftmaxConfig(epochs=1), device="cpu").fit(small_data())
    broken.load_state(arrays)
    for folder in (good, tmp_path / "new"):
        with pytest.raises(UsageError, match="the softmax that was trained must have weights that are finite numbers"):
            save(broken, folder, metrics={})
    assert {path.name: path.read_bytes() for path in good.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
    save_file(arrays, good / "weights.safetensors")
    for read in (load, load_classifier, check_whole):
        with pytest.raises(
            UsageError, match=r"good must have weights that are finite numbers, and NaN nowhere\. Got (NaN|infinity) in "
        ):
            read(good)


class Masked(Softmax):
    """A softmax with a constant mask of -inf, as a causal attention has."""

    def network(self) -> Any:
        net = super().network()
        net.register_buffer("mask", torch.full((2,), -torch.inf))
        return net


def test_a_constant_may_be_infinite_and_neither_nan_nor_a_weight(tmp_path: Path) -> None:
    masked = Masked(SoftmaxConfig(epochs=1), device="cpu").fit(small_data())
    state = masked.state()
    check_finite(state, "the model", masked.parameter_names())
    check_finite({"mask": np.full(2, -np.inf, dtype=np.float32)}, "the model")  # of an unknown model: it may be a constant
    (weight, *_) = sorted(masked.parameter_names())
    for name, value, got in (("net.mask", np.nan, "NaN"), (weight, np.nan, "NaN"), (weight, np.inf, "infinity")):
        broken = {**state, name: np.full_like(state[name], value)}
        with pytest.raises(UsageError, match=rf"finite numbers, and NaN nowhere\. Got {got} in {re.escape(name)}: its training"):
            check_finite(broken, "the model", masked.parameter_names())
    folder = save(masked, tmp_path / "masked", metrics={})
    monkeyed = Masked(SoftmaxConfig(epochs=1), device="cpu").fit(small_data())
    monkeyed.load_state(load_file(folder / "weights.safetensors"))
    check_finite(monkeyed.state(), "the model", monkeyed.parameter_names())
