"""Which saved models read drawings, how each is fed, and that a broken one does not silence the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.models.contract import Model
from paretune.models.saved_models import save
from paretune.painter.models import Models, answer, as_read, forms_of, read_model
from paretune.trainers.ann import Ann, AnnConfig
from paretune.trainers.autoencoder import Autoencoder, AutoencoderConfig
from paretune.trainers.svm import Svm, SvmConfig
from tests.painter.strokes import drawings
from tests.painter.writing import ink_of
from tests.samples import small_data

pytestmark = pytest.mark.usefixtures("each_device")


def model_of(shape: tuple[int, int, int] = (1, 28, 28), names: list[str] | None = None) -> Ann:
    import dataclasses

    classes = names or [str(digit) for digit in range(10)]
    data = dataclasses.replace(small_data(len(classes), shape, n_train=40), class_names=classes)
    return Ann(AnnConfig(hidden=[8], epochs=1, batch_size=8)).fit(data)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: MNIST's shape, colour, another size, garments, an autoencoder, digits by ann and svm."""
    folder = tmp_path_factory.mktemp("models")
    save(model_of(), folder / "plain", metrics={})
    save(model_of((3, 28, 28)), folder / "colour", metrics={})
    save(model_of((1, 32, 32)), folder / "larger", metrics={})
    save(model_of(names=["cat", "dog"]), folder / "pets", metrics={})
    data = load_data(DataOptions(data="digits", holdout=0.0))
    origin = {"data_options": {"data": "digits"}}
    save(Ann(AnnConfig(hidden=[64], epochs=25)).fit(data), folder / "digits", metrics={}, origin=origin)
    save(Svm(SvmConfig(C=10.0)).fit(data), folder / "votes", metrics={}, origin=origin)
    coder: Model = Autoencoder(AutoencoderConfig(hidden=[4], epochs=1)).fit(small_data(10, (1, 28, 28)))
    save(coder, folder / "coder", metrics={})
    return folder


def readers(models: Models) -> list[str]:
    return sorted(shown.name for shown in models.readers)


def test_every_folder_below_is_found_and_the_others_say_why_not(kept: Path) -> None:
    models = Models([kept])
    models.refresh()
    assert readers(models) == ["colour", "digits", "larger", "plain", "votes"]
    problems = {shown.name: shown.problem for shown in models.shown if shown.problem}
    assert set(problems) == {"coder", "pets"}
    assert "tells no classes apart" in problems["coder"]
    assert problems["pets"] == f"{kept / 'pets'} tells cat, dog … apart, not digits."


def test_each_is_fed_what_it_was_trained_on(kept: Path) -> None:
    forms = forms_of(ink_of(drawings()[2]))
    np.testing.assert_array_equal(as_read(forms["mnist"], (1, 28, 28))[0, 0], forms["mnist"])
    colour = as_read(forms["mnist"], (3, 28, 28))
    np.testing.assert_array_equal(colour, np.repeat(forms["mnist"][None, None], 3, axis=1))
    assert as_read(forms["mnist"], (1, 32, 32)).shape == (1, 1, 32, 32)
    shown = {name: read_model(kept / name) for name in ("digits", "votes", "plain")}
    assert {name: found.form for name, found in shown.items()} == {"digits": "digits", "votes": "digits", "plain": "mnist"}
    found = answer(shown["plain"], forms)
    model: Any = shown["plain"].model
    expected = model.predict_proba(as_read(forms["mnist"], (1, 28, 28)))[0]
    assert list(found["probabilities"].values()) == pytest.approx(expected, abs=1e-6)
    assert found["label"] == str(expected.argmax())
    assert (found["saw"], found["ms"] > 0) == ("mnist", True)


def test_models_of_8x8_digits_read_drawings_in_their_form(kept: Path) -> None:
    model = read_model(kept / "digits")
    right = [answer(model, forms_of(ink_of(drawing)))["label"] == str(drawing.digit) for drawing in drawings()]
    assert np.mean(right) >= 0.75, "the drawings are synthetic; MNIST's form merely shrunk to 8x8 would not do"


def test_a_machine_without_probabilities_gives_its_digit(kept: Path) -> None:
    found = answer(read_model(kept / "votes"), forms_of(ink_of(drawings()[0])))
    assert found["probabilities"] is None
    assert found["label"] in {str(digit) for digit in range(10)}


def test_broken_models_are_named_and_the_others_answer(kept: Path, tmp_path: Path) -> None:
    others = {"null": '"data_options": null', "list": '"data_options": [1]', "endless": '"input_shape": [1, Infinity, 28]'}
    for name in ("plain", "cut", "empty", "misfit", "deep", "diverged", *others):
        shutil.copytree(kept / "plain", tmp_path / name)
    for name, change in others.items():
        text = (tmp_path / name / "config.json").read_text(encoding="utf-8")
        (tmp_path / name / "config.json").write_text(text.rstrip().removesuffix("}") + f", {change}}}", encoding="utf-8")
    (tmp_path / "deep" / "config.json").write_text("[" * 100_000, encoding="utf-8")
    diverged = load_file(tmp_path / "diverged" / "weights.safetensors")
    save_file({name: array * np.float32("nan") for name, array in diverged.items()}, tmp_path / "diverged" / "weights.safetensors")
    weights = tmp_path / "cut" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    (tmp_path / "empty" / "config.json").write_text("", encoding="utf-8")
    file = tmp_path / "misfit" / "weights.safetensors"
    arrays = load_file(file)
    save_file({name: array for name, array in arrays.items() if "output" not in name}, file)
    models = Models([tmp_path])
    models.refresh()
    assert readers(models) == ["list", "null", "plain"]
    problems = {shown.name: shown.problem for shown in models.shown if shown.problem}
    assert set(problems) == {"cut", "empty", "misfit", "deep", "diverged", "endless"}
    assert "must have weights that are finite numbers" in problems["diverged"]
    assert all(str(tmp_path / name) in problem for name, problem in problems.items())


def test_one_that_fails_while_it_answers_does_not_silence_the_others(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models([kept])
    models.refresh()
    broken = next(shown for shown in models.shown if shown.name == "larger")

    def fail(_: Any) -> Any:
        raise RuntimeError("out of memory\nat 0x0")

    monkeypatch.setattr(broken.model, "predict_with_proba", fail)
    answers = {found["model"]: found for found in models.answers(forms_of(ink_of(drawings()[5])))}
    assert answers["larger"] == {"model": "larger", "problem": f"{kept / 'larger'} cannot answer (out of memory): train it anew."}
    assert all("label" in found for name, found in answers.items() if name != "larger")


def test_what_is_saved_or_removed_later_is_seen(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "plain", tmp_path / "first")
    models = Models([tmp_path])
    (first,) = models.refresh()
    shutil.copytree(kept / "digits", tmp_path / "second")
    again = models.refresh()
    assert [shown.name for shown in again] == ["first", "second"]
    assert again[0] is first, "it is not read again"
    description = json.loads((tmp_path / "first" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "first" / "config.json").write_text(json.dumps({**description, "classifier": "nothing"}), encoding="utf-8")
    import os

    os.utime(tmp_path / "first" / "config.json", (2e9, 2e9))
    assert [bool(shown.problem) for shown in models.refresh()] == [True, False]
    shutil.rmtree(tmp_path / "first")
    assert [shown.name for shown in models.refresh()] == ["second"]


def test_models_of_one_name_are_told_apart(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "plain", tmp_path / "plain")
    models = Models([kept / "plain", tmp_path])
    assert [shown.name for shown in models.refresh()] == ["plain", str(tmp_path / "plain")]
