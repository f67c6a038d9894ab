"""A saved model is evaluated as scikit-learn would, on the part and set that are asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from paretune.analysis import embed
from paretune.core.errors import UsageError
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.models.evaluation import Evaluation, evaluate, evaluate_saved, report_text
from paretune.models.saved_models import save
from paretune.trainers import predict
from paretune.trainers.evaluate import main
from paretune.trainers.softmax import Softmax, SoftmaxConfig
from tests.samples import small_data

pytestmark = pytest.mark.usefixtures("each_device")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A softmax regression of digits."""
    options = DataOptions(train_size=300)
    classifier = Softmax(SoftmaxConfig(epochs=4, learning_rate=0.02)).fit(load_data(options))
    return save(classifier, tmp_path_factory.mktemp("models") / "m", metrics={}, origin={"data_options": options.to_dict()})


def test_an_evaluation_is_scikit_learns() -> None:
    data = small_data()
    classifier = Softmax(SoftmaxConfig(epochs=2)).fit(data)
    result = evaluate(classifier, data.test, data)
    true, predicted = data.test.y.numpy(), classifier.predict(data.test.x)
    np.testing.assert_array_equal(result.confusion, confusion_matrix(true, predicted, labels=range(3)))
    wanted = precision_recall_fscore_support(true, predicted, average="macro", zero_division=0)[:3]
    assert [result.metrics[score] for score in ("precision", "recall", "f1")] == pytest.approx(wanted, abs=1e-9)
    per_class = result.to_dict()["per_class"]
    by_class = precision_recall_fscore_support(true, predicted, labels=range(3), zero_division=0)
    for label, name in enumerate(data.class_names):
        assert [per_class[name][score] for score in ("precision", "recall", "f1", "support")] == pytest.approx(
            [values[label] for values in by_class], abs=1e-9
        )


@pytest.mark.parametrize(("split", "count"), [("test", 360), ("holdout", 216)])
def test_a_saved_model_is_evaluated_on_the_part_asked_for(model: Path, split: str, count: int) -> None:
    result = evaluate_saved(str(model), split=split)
    assert result.n_samples == count
    assert result.metrics["accuracy"] > 0.8
    assert int(result.confusion.sum()) == count


def test_the_command_prints_the_report(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model)]) == 0
    out = capsys.readouterr().out
    assert f"{model} on 360 images of the test part: loss " in out
    assert "confusion matrix (rows: true, columns: predicted)" in out


def test_the_command_prints_one_json_object_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model), str(model), "--json", "--split=holdout"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["split"] for line in lines] == ["holdout"] * 2
    assert len(lines[0]["confusion"]) == 10


def test_the_report_names_every_class_with_its_support() -> None:
    result = Evaluation(
        {"accuracy": 0.8, "precision": 0.8, "recall": 0.8, "f1": 0.8}, np.array([[3, 1], [0, 1]]), ["cat", "dog"], 5
    )
    lines = [line.split() for line in report_text(result).splitlines()]
    assert ["cat", "1.0000", "0.7500", "0.8571", "4"] in lines
    assert ["dog", "0.5000", "1.0000", "0.6667", "1"] in lines
    assert ["cat", "3", "1"] in lines


def test_a_set_of_another_shape_is_refused(model: Path, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a", "b"):
        for i in range(10):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("L", (8, 8), i).save(tmp_path / name / f"{i}.png")
    with pytest.raises(UsageError, match=r"reads images of shape .* of the classes 0, 1, .*: choose another set"):
        evaluate_saved(str(model), data_name=f"folder:{tmp_path}")


def test_a_model_without_a_hold_out_has_none_to_evaluate(tmp_path: Path) -> None:
    options = DataOptions(holdout=0)
    classifier = Softmax(SoftmaxConfig(epochs=1)).fit(load_data(options))
    path = save(classifier, tmp_path / "m", metrics={}, origin={"data_options": options.to_dict()})
    with pytest.raises(UsageError, match="was trained without a hold-out: use --split=test"):
        evaluate_saved(str(path), split="holdout")


def test_a_folder_that_is_no_model_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([str(tmp_path)])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} is not a saved model")


def test_the_help_says_what_is_read_and_that_nothing_may_be_chosen_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "It reads the locked test part, or the hold-out by --split=holdout." in text
    assert "nothing (model, epoch or setting) may be chosen by it." in text


def test_a_model_that_diverged_does_not_spend_a_reading_of_the_locked_part(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "m"))
    weights = load_file(folder / "weights.safetensors")
    save_file({name: array * np.float32("nan") for name, array in weights.items()}, folder / "weights.safetensors")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for command in (main, embed.main, lambda arguments: predict.main([*arguments, str(tmp_path)])):
        extra = ["--layer", "output"] if command is embed.main else []
        with pytest.raises(SystemExit) as exit_info:
            command([str(folder), *extra])
        assert exit_info.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "must have weights that are finite numbers" in error or "holds no picture" in error
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_classes_that_begin_alike_have_columns_of_their_own() -> None:
    names = [f"category_of_{kind}" for kind in ("cats", "dogs", "cars")]
    text = report_text(Evaluation(dict.fromkeys(("precision", "recall", "f1"), 0.5), np.eye(3, dtype=int), names, 3))
    heads = text.splitlines()[text.splitlines().index("confusion matrix (rows: true, columns: predicted)") + 1].split()
    assert len(set(heads)) == 3
    assert max(map(len, heads)) <= 8
