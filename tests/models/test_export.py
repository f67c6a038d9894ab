"""Exported models give the probabilities of the saved ones, for any number of images, with the normalisation inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from paretune.core.errors import UsageError
from paretune.data.dataset import Data, load_data
from paretune.data.options import DataOptions
from paretune.models import export
from paretune.models.contract import Classifier
from paretune.models.export import export_onnx, export_saved, run_onnx
from paretune.models.registry import model_class
from paretune.models.saved_models import save
from tests.samples import small_data

pytestmark = pytest.mark.usefixtures("each_device")


def fitted(name: str, data: Data, **values: Any) -> Classifier:
    kind = model_class(name)
    return kind(kind.Config.from_dict(values)).fit(data)


def saved(folder: Path, classifier: Classifier) -> Path:
    return save(classifier, folder, metrics={}, origin={"data_options": DataOptions(train_size=200).to_dict()})


NETS = [
    ("softmax", {"epochs": 1, "normalize": "half"}),
    ("ann", {"epochs": 2, "n_conv": 1, "channels": 4, "batch_norm": True, "dropout": 0.3, "activation": "gelu"}),
]
MACHINES = [
    {"kernel": "rbf"},
    {"kernel": "poly", "degree": 2, "coef0": 1.0, "scaling": "standard"},
    {"kernel": "sigmoid", "gamma": 0.01, "pca": 5},
    {"kernel": "linear", "scaling": "standard", "pca": 6},
]


@pytest.mark.parametrize(("name", "values"), NETS, ids=["softmax", "ann"])
def test_a_network_gives_the_same_probabilities_from_its_file(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    data = small_data(shape=(3, 6, 6))
    classifier = fitted(name, data, **values)
    found = export_onnx(classifier, tmp_path / "model.onnx", data.train.x.numpy())
    assert found.difference < 1e-5
    for n in (1, 7, 60):
        ours = run_onnx(tmp_path / "model.onnx", data.train.x[:n].numpy())
        np.testing.assert_allclose(ours, classifier.predict_proba(data.train.x[:n]), atol=1e-5)
    assert data.holdout is not None
    np.testing.assert_array_equal(
        run_onnx(tmp_path / "model.onnx", data.holdout.x.numpy()).argmax(axis=1), classifier.predict(data.holdout.x)
    )


@pytest.mark.parametrize("values", MACHINES, ids=lambda values: str(values["kernel"]))
@pytest.mark.parametrize("n_classes", [2, 4])
def test_an_svm_as_a_module_gives_the_probabilities_of_its_votes(values: dict[str, Any], n_classes: int) -> None:
    data = small_data(n_classes)
    classifier = fitted("svm", data, probability=True, **values)
    ours = classifier.inference_module()(data.test.x).numpy()
    np.testing.assert_allclose(ours, classifier.predict_proba(data.test.x), atol=1e-6)


def test_an_svm_that_never_saw_a_class_gives_it_nothing() -> None:
    data = small_data(4)
    data.train.y[data.train.y == 1] = 2
    classifier = fitted("svm", data, probability=True)
    ours = classifier.inference_module()(data.test.x).numpy()
    np.testing.assert_allclose(ours, classifier.predict_proba(data.test.x), atol=1e-6)
    assert (ours[:, 1] == 0).all()


def test_the_command_writes_a_valid_file_beside_the_weights_and_states_the_difference(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = load_data(DataOptions(train_size=200))
    folders = [
        saved(tmp_path / "net", fitted("softmax", data, epochs=1)),
        saved(tmp_path / "machine", fitted("svm", data, probability=True)),
    ]
    assert export.main([str(folder) for folder in folders]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert len(lines) == 2  # and nothing of the exporter's own reports
    for folder, line in zip(folders, lines, strict=True):
        model = onnx.load(folder / "model.onnx")
        onnx.checker.check_model(model, full_check=True)
        notes = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(notes["class_names"]) == data.class_names
        assert "images (n, 1, 8, 8) in [0, 1] to probabilities (n, 10)" in line
        assert f"at most {float(notes['difference']):.1e} on 200 training images" in line
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        (entry,), (result,) = session.get_inputs(), session.get_outputs()
        assert (entry.name, entry.type, entry.shape[1:]) == ("images", "tensor(float)", [1, 8, 8])
        assert (result.name, result.type, result.shape[1:]) == ("probabilities", "tensor(float)", [10])
        assert isinstance(entry.shape[0], str)  # free
        assert sorted(path.name for path in folder.iterdir()) == [
            "config.json",
            "metrics.json",
            "model.onnx",
            "weights.safetensors",
        ]


def test_a_file_that_differs_from_its_model_is_refused_and_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_data()
    classifier = fitted("softmax", data, epochs=1)
    real = classifier.predict_proba
    monkeypatch.setattr(classifier, "predict_proba", lambda x: real(x) + 2e-4)
    with pytest.raises(UsageError, match=r"differs from the saved one by 2\.0e-04 in a probability, more than 1e-04 allows"):
        export_onnx(classifier, tmp_path / "model.onnx", data.train.x.numpy())
    assert list(tmp_path.iterdir()) == []


def test_an_svm_without_probabilities_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved(tmp_path / "machine", fitted("svm", load_data(DataOptions(train_size=200))))
    with pytest.raises(SystemExit) as exit_info:
        export.main([str(folder)])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == (
        "error: this svm was trained without probabilities: train it with --probability=True to export it.\n"
    )


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a saved model"):
        export_saved(tmp_path)
