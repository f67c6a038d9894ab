"""What is kept of the locked part: it goes round, agrees with the classifier, and is written with every retrained model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from paretune.analysis.locked_part import FILE, entropies, keep, load_kept, reduced, save_kept, stratified_sample, two_layers
from paretune.core.errors import UsageError
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.models.contract import Classifier
from paretune.models.registry import model_class
from paretune.models.saved_models import describe, load, read_metrics
from tests.samples import small_data


def fitted(name: str = "ann", **values: object) -> Classifier:
    kind = model_class(name)
    return kind(kind.Config.from_dict(values), device="cpu").fit(small_data())


def test_what_is_kept_is_what_the_classifier_says() -> None:
    data, classifier = small_data(), fitted(epochs=2, hidden=[4, 3])
    kept = keep(classifier, data, seed=1)
    np.testing.assert_array_equal(kept.labels, data.test.y.numpy())
    np.testing.assert_array_equal(kept.predicted, classifier.predict(data.test.x))
    probabilities = classifier.predict_proba(data.test.x)
    assert kept.probabilities is not None
    np.testing.assert_allclose(kept.probabilities, probabilities, atol=1e-7)
    bits = [entropy(row, base=2) for row in probabilities]
    assert [bits[index] for index in kept.hardest] == pytest.approx(sorted(bits, reverse=True)[:25], abs=1e-5)
    np.testing.assert_array_equal(kept.hardest_images, data.test.x[torch.from_numpy(kept.hardest)].numpy())
    assert list(kept.embeddings) == ["hidden_1.activation", "hidden_2.activation"]
    np.testing.assert_array_equal(kept.sample, np.arange(len(data.test)))
    np.testing.assert_array_equal(
        kept.embeddings["hidden_1.activation"], classifier.activations(data.test.x, "hidden_1.activation")
    )


@pytest.mark.parametrize(("name", "values"), [("ann", {"epochs": 1}), ("svm", {"probability": True}), ("svm", {})])
def test_it_goes_round(name: str, values: dict[str, object], tmp_path: Path) -> None:
    kept = keep(fitted(name, **values), small_data())
    assert (kept.probabilities is None) == (len(kept.hardest) == 0) == ((name, values) == ("svm", {}))
    save_kept(kept, tmp_path)
    again = load_kept(tmp_path)
    assert list(again.embeddings) == list(kept.embeddings)
    arrays = again.to_arrays()
    assert arrays.keys() == kept.to_arrays().keys()
    for array_name, array in kept.to_arrays().items():
        assert arrays[array_name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[array_name], array)


@pytest.mark.parametrize(
    ("name", "values", "layers"),
    [
        ("softmax", {}, ["input", "output"]),
        ("svm", {}, ["input", "decisions"]),
        ("ann", {"hidden": [4]}, ["input", "hidden_1.activation"]),
        ("ann", {"hidden": [4, 4], "dropout": 0.5}, ["hidden_1.activation", "hidden_2.activation"]),
        ("ann", {"n_conv": 2, "channels": 2, "hidden": []}, ["conv_1.pool", "conv_2.pool"]),
        ("ann", {"n_conv": 1, "channels": 2, "hidden": [4, 3, 2]}, ["hidden_1.activation", "hidden_3.activation"]),
    ],
)
def test_the_two_layers_lie_in_the_middle_and_before_the_output(name: str, values: dict[str, object], layers: list[str]) -> None:
    epochs = {} if name == "svm" else {"epochs": 1}
    assert two_layers(fitted(name, **epochs, **values).layers()) == layers


def test_one_layer_alone_is_shown_once() -> None:
    assert two_layers(["input"]) == ["input"]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(1, 60), st.integers(0, 5))
def test_the_sample_holds_the_classes_in_proportion(labels: list[int], most: int, seed: int) -> None:
    array = np.array(labels)
    sample = stratified_sample(array, most, seed)
    assert len(sample) == len(set(sample.tolist())) == min(most, len(labels))
    assert (np.diff(sample) > 0).all()
    for label in range(5):
        exact = len(sample) * np.mean(array == label)
        assert abs(np.sum(array[sample] == label) - exact) <= 1
    np.testing.assert_array_equal(sample, stratified_sample(array, most, seed))


def test_wide_layers_are_reduced_as_by_an_exact_decomposition_and_narrow_ones_stay() -> None:
    random = np.random.default_rng(0)
    low = random.standard_normal((80, 6)) @ random.standard_normal((6, 300))
    found = reduced(low.reshape(80, 3, 10, 10).astype(np.float32), seed=0)
    assert (found.shape, found.dtype) == ((80, 50), np.float32)
    values = np.linalg.svd(low - low.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0)[:6], values[:6], rtol=1e-4)
    np.testing.assert_array_equal(reduced(low[:, :20].astype(np.float32), seed=0), low[:, :20].astype(np.float32))
    assert reduced(low[:7], seed=0).shape == (7, 7)


def test_the_entropy_is_in_bits() -> None:
    np.testing.assert_allclose(entropies(np.array([[0.5, 0.5, 0, 0], [0.25] * 4, [1, 0, 0, 0]], dtype=np.float32)), [1, 2, 0])


def test_every_retrained_model_keeps_its_reading(models: SimpleNamespace) -> None:
    for source in models.sources:
        folder = models.folder / source.name
        kept, test = load_kept(folder), read_metrics(folder)["test"]
        assert np.mean(kept.labels == kept.predicted) == pytest.approx(test["accuracy"])
        data = load_data(DataOptions.from_dict(describe(folder)["data_options"]))
        np.testing.assert_array_equal(kept.labels, data.test.y.numpy())
        np.testing.assert_array_equal(kept.predicted, load(folder, device="cpu").predict(data.test.x))
        assert kept.probabilities is not None


def test_a_folder_without_it_or_with_a_broken_one_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keeps no predictions of the locked part"):
        load_kept(tmp_path)
    (tmp_path / FILE).write_bytes(b"no safetensors")
    with pytest.raises(UsageError, match="is broken"):
        load_kept(tmp_path)
