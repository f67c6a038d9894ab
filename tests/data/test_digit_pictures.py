"""Photos of digits are read as drawings, and images of the set itself as `evaluate` reads them, without any flag."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paretune.core.errors import UsageError
from paretune.data.dataset import data_root, load_data
from paretune.data.digit_form import digits_form, mnist_form
from paretune.data.digit_pictures import CROPPED, LEFT, SWAPPED, SWAPPED_AND_CROPPED, read_digit_picture
from paretune.data.options import DataOptions
from paretune.data.photo import is_dark_on_light, read_ink
from paretune.models.saved_models import load_classifier, save
from paretune.trainers.ann import Ann, AnnConfig
from paretune.trainers.predict import main, predictions
from paretune.trainers.svm import Svm, SvmConfig
from tests.painter.photos import photo_of
from tests.painter.strokes import drawings
from tests.painter.writing import ink_of


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    data = load_data(DataOptions(data="digits"))
    origin = {"data_options": DataOptions(data="digits").to_dict()}
    save(Svm(SvmConfig(C=10.0), device="cpu").fit(data), folder / "svm", metrics={}, origin=origin)
    save(Ann(AnnConfig(hidden=[64], epochs=25), device="cpu").fit(data), folder / "ann", metrics={}, origin=origin)
    return {name: str(folder / name) for name in ("svm", "ann")}


def write(folder: Path, images: Any, suffix: str = "png") -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:04}.{suffix}")
    return folder


def labels(model: str, folder: Path, **options: Any) -> list[str]:
    return [row["label"] for row in predictions([model], folder, device="cpu", **options)]


@pytest.mark.parametrize("shadow", [0.0, 0.3, 0.6])
def test_photos_are_read_as_well_as_drawings(models: dict[str, str], tmp_path: Path, shadow: float) -> None:
    folder = write(tmp_path / "photos", [photo_of(drawing, seed=i, shadow=shadow) for i, drawing in enumerate(drawings())], "jpg")
    wanted = [str(drawing.digit) for drawing in drawings()]
    drawn = write(tmp_path / "drawings", [np.round(255 * ink_of(drawing)).astype(np.uint8) for drawing in drawings()])
    for model in models.values():
        right, of_drawings = ([a == b for a, b in zip(labels(model, part), wanted, strict=True)] for part in (folder, drawn))
        assert np.mean(right) >= np.mean(of_drawings) - 0.05
        assert np.mean(right) >= 0.75
        as_is = np.mean([a == b for a, b in zip(labels(model, folder, as_is=True), wanted, strict=True)])
        assert as_is <= 0.4, "what the photos are without being prepared"


@pytest.mark.parametrize("model", ["svm", "ann"])
@pytest.mark.parametrize("written", ["grey levels", "grey levels cut off", "counts", "colour", "dark on light", "floats"])
def test_test_images_get_the_labels_that_evaluate_gives(models: dict[str, str], tmp_path: Path, model: str, written: str) -> None:
    test = load_data(DataOptions(data="digits")).test
    x = test.x.numpy()[:, 0]
    grey = np.round(255 * x).astype(np.uint8)
    images = {
        "grey levels": grey,
        "grey levels cut off": (255 * x).astype(np.uint8),
        "counts": np.round(16 * x).astype(np.uint8),
        "colour": np.repeat(grey[..., None], 3, axis=3),
        "dark on light": 255 - grey,
        "floats": x,
    }[written]
    folder = write(tmp_path / "test", images, "tiff" if written == "floats" else "png")
    classifier = load_classifier(models[model], device="cpu")
    expected = classifier.predict_with_proba(test.x.numpy())[0]
    assert labels(models[model], folder) == [classifier.class_names[label] for label in expected]
    for path, image in zip(sorted(folder.iterdir()), x, strict=True):
        picture = read_digit_picture(path, "digits")
        np.testing.assert_array_equal(picture.x[0, 0], image)
        assert picture.done == (SWAPPED if written == "dark on light" else LEFT)


@pytest.mark.needs_data
def test_mnists_own_images_are_recognised_dark_or_light(tmp_path: Path) -> None:
    if not (data_root() / "MNIST" / "raw").exists():
        pytest.skip("MNIST is not below DATA_ROOT")
    from paretune.data.readers import read_images

    images = read_images("mnist", Path(data_root())).test_x
    assert images is not None
    for done, pixels in ((LEFT, images[:2000, 0]), (SWAPPED, 255 - images[:2000, 0])):
        for path, image in zip(sorted(write(tmp_path / done, pixels).iterdir()), images[:2000, 0], strict=True):
            picture = read_digit_picture(path, "mnist")
            assert picture.done == done
            np.testing.assert_array_equal(picture.x[0, 0], image / np.float32(255))


def test_a_drawing_is_brought_to_the_form_that_the_painter_shows(tmp_path: Path) -> None:
    for drawing in drawings()[:10]:
        pixels = np.round(255 * ink_of(drawing)).astype(np.uint8)
        for done, image in ((CROPPED, pixels), (SWAPPED_AND_CROPPED, 255 - pixels)):
            Image.fromarray(image).save(tmp_path / "drawing.png")
            ink = pixels.astype(np.float32) / 255
            for name, form in (("mnist", mnist_form(ink)), ("digits", digits_form(ink))):
                picture = read_digit_picture(tmp_path / "drawing.png", name)
                assert picture.done == done
                np.testing.assert_allclose(picture.x[0, 0], form, atol=1e-5)


def test_a_small_picture_that_is_not_centred_is_prepared(tmp_path: Path) -> None:
    form = np.round(255 * mnist_form(ink_of(drawings()[3]))).astype(np.uint8)
    Image.fromarray(form).save(tmp_path / "form.png")
    Image.fromarray(np.roll(form, 4, axis=1)).save(tmp_path / "aside.png")
    own, aside = (read_digit_picture(tmp_path / f"{name}.png", "mnist") for name in ("form", "aside"))
    assert (own.done, aside.done) == (LEFT, CROPPED)
    assert np.abs(own.x - aside.x).mean() < 0.02


def test_black_strokes_on_transparent_are_read_as_dark_ink(tmp_path: Path) -> None:
    alpha = np.round(255 * ink_of(drawings()[2])).astype(np.uint8)
    Image.fromarray(np.dstack([np.zeros((*alpha.shape, 3), np.uint8), alpha])).save(tmp_path / "a.png")
    picture = read_digit_picture(tmp_path / "a.png", "mnist")
    assert picture.done == SWAPPED_AND_CROPPED
    np.testing.assert_allclose(picture.x[0, 0], mnist_form(ink_of(drawings()[2])), atol=0.01)


@pytest.mark.parametrize("shadow", [0.0, 0.6])
def test_polarity_is_found_in_photos_of_paper_and_of_blackboards(shadow: float) -> None:
    for i, drawing in enumerate(drawings()):
        grey = photo_of(drawing, seed=i, shadow=shadow).mean(axis=2) / 255
        assert is_dark_on_light(grey)
        assert not is_dark_on_light(1 - grey)


def test_hard_shadows_dark_corners_and_thin_pens_do_not_hide_a_digit() -> None:
    for i in (2, 13, 28, 46):
        photo = photo_of(drawings()[i], seed=i).mean(axis=2)
        y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
        radius = np.hypot(x / photo.shape[1] - 0.5, y / photo.shape[0] - 0.5)
        clean = mnist_form(read_ink(photo / 255).ink)
        for light in (np.where(x < 300, 0.5, 1), 1 - 0.8 * radius):
            found = read_ink(photo * light / 255)
            assert found.dark_on_light
            assert np.corrcoef(mnist_form(found.ink).ravel(), clean.ravel())[0, 1] > 0.75
    line = np.ones((300, 300)) + np.random.default_rng(0).normal(0, 0.02, (300, 300)) - 0.1
    line[60:240, 149:152] -= 0.6
    ink = read_ink(line.clip(0, 1)).ink
    assert (ink[140] > 0.5).sum() >= 16, "a pen of 3 pixels on a digit of 180 is widened to a tenth of it"


def test_lines_at_the_border_and_specks_are_no_part_of_the_digit() -> None:
    photo = photo_of(drawings()[0], seed=8, shadow=0.2)
    clean = read_ink(photo.mean(axis=2) / 255).ink
    photo[:, 2:6] = 30  # the edge of the sheet
    photo[470:474, 100:105] = 20
    dirty = read_ink(photo.mean(axis=2) / 255).ink
    assert np.abs(mnist_form(clean) - mnist_form(dirty)).mean() < 0.02


def test_predict_says_what_it_did_and_as_is_switches_it_off(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "photos", [photo_of(drawing, seed=i) for i, drawing in enumerate(drawings()[:3])])
    assert main([models["svm"], str(folder)]) == 0
    said = capsys.readouterr()
    did = "3 dark and light swapped, cropped and centred (--as-is switches this off)."
    assert said.err == f"{models['svm']}: pictures in the form of digits: {did}\n"
    assert [row["label"] for row in csv.DictReader(io.StringIO(said.out))] == ["0", "1", "2"]
    assert main([models["svm"], str(folder), "--as-is"]) == 0
    assert capsys.readouterr().err == ""


def test_invert_names_the_polarity(tmp_path: Path) -> None:
    pixels = np.round(255 * ink_of(drawings()[5])).astype(np.uint8)
    Image.fromarray(255 - pixels).save(tmp_path / "a.png")
    told, found = (read_digit_picture(tmp_path / "a.png", "mnist", dark_on_light=known) for known in (True, None))
    np.testing.assert_array_equal(told.x, found.x)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_digit_picture(tmp_path / "a.png", "mnist", dark_on_light=True).done == SWAPPED_AND_CROPPED


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_is_passed_over_with_a_sentence(
    level: int, models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).normal(level, 3, (200, 300)).clip(0, 255).astype(np.uint8)
    folder = write(tmp_path / "pictures", [photo_of(drawings()[0], seed=0), np.full((50, 40), level, np.uint8), noise])
    assert main([models["svm"], str(folder)]) == 0
    *blank, _ = capsys.readouterr().err.splitlines()
    assert len(blank) == 2
    for line, name in zip(blank, ("0001", "0002"), strict=True):
        reason = "shows no digit (the picture is blank); remove it, or read it with --as-is."
        assert line == f"passed over: {folder / name}.png {reason}"
    with pytest.raises(UsageError, match=r"0001.png shows no digit \(the picture is blank\)"):
        read_digit_picture(folder / "0001.png", "mnist")


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (5, 300), (9, 9)])
def test_a_picture_of_any_size_is_a_digit_or_one_sentence(size: tuple[int, int], tmp_path: Path) -> None:
    for seed in range(5):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)).save(tmp_path / "a.png")
        for name in ("mnist", "digits"):
            with contextlib.suppress(UsageError):
                x = read_digit_picture(tmp_path / "a.png", name).x
                assert np.isfinite(x).all()
                assert x.max() > 0
