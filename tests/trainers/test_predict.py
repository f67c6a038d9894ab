"""Pictures of any size and mode go in, a table of labels and probabilities comes out."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paretune.core.errors import UsageError
from paretune.models.contract import Classifier
from paretune.models.saved_models import save
from paretune.trainers.predict import main, predictions
from paretune.trainers.softmax import Softmax, SoftmaxConfig
from paretune.trainers.svm import Svm
from tests.samples import small_data

pytestmark = pytest.mark.usefixtures("each_device")


def saved(classifier: Classifier, folder: Path) -> str:
    return str(save(classifier.fit(small_data()), folder, metrics={}))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "softmax": saved(Softmax(SoftmaxConfig(epochs=15, learning_rate=0.05)), folder / "softmax"),
        "svm": saved(Svm(), folder / "svm"),
    }


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The first nine test images as pictures, named by their class."""
    test = small_data().test
    for i in range(9):
        pixels = (test.x[i, 0].numpy() * 255).round().astype(np.uint8)
        (tmp_path / "pictures" / "sub").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pictures" / ("sub" if i > 5 else ".") / f"{i}-c{int(test.y[i])}.png")
    return tmp_path / "pictures"


def wanted(row: dict[str, str]) -> str:
    return Path(row["image"]).stem.partition("-")[2]


@pytest.mark.parametrize("name", ["softmax", "svm"])
def test_every_picture_of_a_folder_gets_its_label(models: dict[str, str], pictures: Path, name: str) -> None:
    rows = list(predictions([models[name]], pictures))
    assert len(rows) == 9
    assert sum(row["label"] == wanted(row) for row in rows) >= 8


def test_probabilities_are_the_models(models: dict[str, str], pictures: Path) -> None:
    for row in predictions([models["softmax"]], pictures):
        by_class = {name: float(row[f"p({name})"]) for name in ("c0", "c1", "c2")}
        assert sum(by_class.values()) == pytest.approx(1, abs=1e-5)
        assert max(by_class, key=lambda name: by_class[name]) == row["label"]
        assert float(row["probability"]) == by_class[row["label"]]


def test_a_model_without_probabilities_leaves_those_columns_empty(models: dict[str, str], pictures: Path) -> None:
    for row in predictions([models["svm"]], pictures):
        assert [row["probability"], row["p(c0)"], row["p(c2)"]] == ["", "", ""]


def test_several_models_answer_in_one_table(models: dict[str, str], pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*models.values(), str(pictures)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["model", "image", "label", "probability", "p(c0)", "p(c1)", "p(c2)"]
    assert [row["model"] for row in rows] == [models["softmax"]] * 9 + [models["svm"]] * 9


def test_a_table_is_written_where_asked(models: dict[str, str], pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    assert main([models["softmax"], str(pictures / "0-c0.png"), f"--output={path}"]) == 0
    (row,) = csv.DictReader(io.StringIO(path.read_text()))
    assert row["label"] == "c0"


def test_pictures_are_brought_to_the_models_size_and_channels(models: dict[str, str], pictures: Path) -> None:
    path = pictures / "0-c0.png"
    Image.open(path).convert("RGB").resize((60, 60), Image.Resampling.NEAREST).save(path)
    (row,) = predictions([models["softmax"]], path)
    assert row["label"] == "c0"


def test_invert_swaps_dark_and_light(models: dict[str, str], pictures: Path) -> None:
    for path in pictures.rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    rows = list(predictions([models["softmax"]], pictures, invert=True))
    assert sum(row["label"] == wanted(row) for row in rows) >= 8


def test_no_picture_is_one_sentence(models: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no picture"):
        next(predictions([models["softmax"]], tmp_path))
    with pytest.raises(UsageError, match="there is no such file"):
        next(predictions([models["softmax"]], tmp_path / "nothing.png"))
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(UsageError, match=r"a.png is not a readable picture"):
        next(predictions([models["softmax"]], tmp_path / "a.png"))


@pytest.mark.parametrize("broken", ["no picture", "cut off", "a chunk of no name"])
def test_a_broken_picture_is_named_once_and_the_others_are_predicted(
    broken: str, models: dict[str, str], pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = (pictures / "0-c0.png").read_bytes()
    content = {"no picture": b"text", "cut off": raw[:-30], "a chunk of no name": raw.replace(b"IDAT", b"\xc1\x8a\xbc\x98")}
    (pictures / "1-c1.png").write_bytes(content[broken])
    monkeypatch.setattr("paretune.trainers.predict.BATCH", 4)
    assert main([*models.values(), str(pictures)]) == 0
    said = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [row["model"] for row in rows] == [models["softmax"]] * 8 + [models["svm"]] * 8
    assert "1-c1.png" not in said.out
    assert said.err.startswith(f"passed over: {pictures / '1-c1.png'} is not a readable picture (")
    assert said.err.count("\n") == 1


def test_a_folder_of_broken_pictures_alone_is_a_mistake(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_text("no picture")
    with pytest.raises(SystemExit, match="2"):
        main([models["softmax"], str(tmp_path)])
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"error: none of the 2 pictures below {tmp_path} can be read: {tmp_path}/a.png is not")


def test_no_model_is_one_sentence(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([str(tmp_path / "no"), str(pictures)])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/no is not a saved model")


def test_a_table_that_cannot_be_written_is_one_sentence(
    models: dict[str, str], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([models["softmax"], str(pictures), f"--output={tmp_path / 'no' / 'table.csv'}"])
    assert exit_.value.code == 2
    assert "cannot be written" in capsys.readouterr().err
