"""Products of images are computed once for the trials of a process, and once for the processes of a sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from paretune.data.dataset import Data
from paretune.kernel_svm import gram
from paretune.kernel_svm.gram import Chosen, PixelGram, Prepared, StoredGram, gram_of, products_bytes
from paretune.trainers.svm import Svm, SvmConfig
from tests.samples import in_8_bits, needs_bytes, small_data

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_sets_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "FROM", 0)


def prepared(data: Data) -> Prepared:
    train, evaluated = (
        np.asarray(part.x.flatten(1).numpy(), dtype=np.float64) for part in (data.train, data.evaluated or data.test)
    )
    return Prepared(train, None if data.evaluated is None else evaluated, {})


def gram_for(data: Data, name: str = "pixels") -> StoredGram:
    result = gram_of(data, name, lambda: prepared(data), CPU)
    assert isinstance(result, StoredGram)
    return result


def assert_close(found: torch.Tensor | np.ndarray, wanted: torch.Tensor | np.ndarray) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=3e-7)


def whole(products: Chosen) -> torch.Tensor:
    part = products.part(slice(None))
    return part.T if products.by_support else part


@pytest.mark.parametrize("split", ["holdout", "none"])
def test_blocks_are_the_inner_products_of_the_images_of_two_classes(split: str) -> None:
    data = small_data(4, n_train=50, split=split)
    found, x, y = gram_for(data), prepared(data).train, data.train.y.numpy()
    for i in range(4):
        for j in range(4):
            np.testing.assert_allclose(found.block(i, j), x[y == i] @ x[y == j].T, rtol=1e-13)
    np.testing.assert_allclose(found.norms, np.square(x[found.order]).sum(axis=1), rtol=1e-13)
    assert found.evaluated().shape == (50, 0 if split == "none" else 32)
    if split == "holdout":
        np.testing.assert_allclose(found.evaluated(), x[found.order] @ prepared(data).evaluated.T, rtol=1e-13)


def test_the_matrix_of_some_images_is_in_the_order_in_which_they_are_named() -> None:
    data = small_data(3, n_train=40)
    rows = np.array([7, 3, 39, 0, 12, 5])
    x = prepared(data).train[rows]
    np.testing.assert_allclose(gram_for(data).matrix(rows), x @ x.T, rtol=1e-13)


def test_many_images_have_products_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "DOUBLE_TO", 10)
    data = small_data()
    found, x = gram_for(data), prepared(data).train
    assert found.precision == np.float32
    np.testing.assert_allclose(found.block(0, 1), x[::3] @ x[1::3].T, rtol=1e-5)
    assert found.flat.nbytes == products_bytes(np.array([20, 20, 20]), 24)


@needs_bytes
@pytest.mark.parametrize("split", ["holdout", "none"])
def test_products_of_many_8_bit_pictures_are_computed_when_they_are_asked_for(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = gram_for(in_8_bits(small_data(4, n_train=50, split=split)))
    monkeypatch.setattr(gram, "DOUBLE_TO", 10)
    monkeypatch.setattr(gram, "products", lambda *_: pytest.fail("nothing was to be stored"))
    data = in_8_bits(small_data(4, n_train=50, split=split))
    found = gram_of(data, "pixels", lambda: pytest.fail("nothing was to be prepared"), CPU, as_they_are=True)
    assert isinstance(found, PixelGram)
    some, rows = slice(2, 9), np.array([7, 3, 39, 0, 12, 5])
    for i in range(4):
        for j in range(4):
            places = np.array([found.ends[j], found.ends[j + 1] - 1])
            assert_close(found.between(i, j)(some), stored.between(i, j)(some))
            assert_close(whole(found.with_support(i, j, places)), whole(stored.with_support(i, j, places)))
    assert_close(found.matrix(rows), stored.matrix(rows))
    if split == "holdout":
        places = np.array([0, 17, 49])
        assert_close(whole(found.evaluated_with(places)), whole(stored.evaluated_with(places)))
    np.testing.assert_allclose(found.norms, stored.norms, rtol=1e-6)
    np.testing.assert_allclose(found.evaluated_norms, stored.evaluated_norms, rtol=1e-6)
    assert found.variance == pytest.approx(stored.variance, rel=1e-6)
    assert gram_of(data, "pixels", lambda: pytest.fail("they are there"), CPU, as_they_are=True) is found


def test_pictures_that_a_preparation_changes_or_that_are_few_have_their_products_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    data = in_8_bits(small_data())
    few = gram_of(data, "pixels", lambda: prepared(data), CPU, as_they_are=True)
    monkeypatch.setattr(gram, "DOUBLE_TO", 10)
    changed = gram_of(data, "scaled", lambda: prepared(data), CPU)
    mixed = replace(data, kept={}, evaluated=small_data().evaluated)  # which is not of 8 bits
    other = gram_of(mixed, "pixels", lambda: prepared(mixed), CPU, as_they_are=True)
    assert [type(found) for found in (few, changed, other)] == [StoredGram] * 3


@needs_bytes
def test_what_is_not_stored_needs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "DOUBLE_TO", 10)
    data, counts = in_8_bits(small_data()), np.array([20, 20, 20])
    left = gram.memory_needed(counts, 24) - products_bytes(counts, 24)
    monkeypatch.setattr(gram, "available_memory", lambda: left / gram.SHARE)
    assert gram_of(data, "scaled", lambda: pytest.fail("nothing was to be prepared"), CPU) is None
    found = gram_of(data, "pixels", lambda: prepared(data), CPU, as_they_are=True)
    assert isinstance(found, PixelGram)


def test_trials_share_the_products_of_their_data_and_of_no_other() -> None:
    data = small_data()
    first = gram_for(data)
    assert gram_for(data) is first
    assert gram_for(replace(data, train=small_data(n_train=30).train)) is not first
    first = gram_for(data)
    assert gram_for(replace(data, train=replace(data.train, y=data.train.y.flip(0)))) is not first
    first = gram_for(data)
    assert gram_for(data, "scaled") is not first


def test_the_two_latest_preparations_are_kept() -> None:
    data = small_data()
    pixels, scaled = gram_for(data), gram_for(data, "scaled")
    assert gram_for(data) is pixels
    assert gram_for(data, "scaled") is scaled
    assert gram_for(data) is pixels
    gram_for(data, "pca")
    assert gram_for(data) is pixels
    assert gram_for(data, "scaled") is not scaled


def test_the_other_preparation_goes_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_data()
    needed = gram.memory_needed(np.array([20, 20, 20]), 24)
    monkeypatch.setattr(gram, "available_memory", lambda: 2 * needed if len(data.kept) == 0 else 0)
    pixels = gram_for(data)
    scaled = gram_for(data, "scaled")
    assert list(data.kept) == ["scaled"]
    monkeypatch.setattr(gram, "available_memory", lambda: 2 * needed)
    assert gram_for(data, "scaled") is scaled
    assert gram_for(data) is not pixels
    monkeypatch.setattr(gram, "available_memory", lambda: 2 * needed if len(data.kept) == 1 else 0)
    assert gram_for(data, "scaled") is scaled
    assert list(data.kept) == ["scaled"]


def test_products_that_do_not_fit_into_memory_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "available_memory", lambda: 1000)
    assert gram_of(small_data(), "pixels", lambda: pytest.fail("nothing was to be prepared"), CPU) is None


def test_one_class_alone_has_no_products() -> None:
    data = small_data()
    alone = replace(data.train, y=torch.zeros_like(data.train.y))
    assert gram_of(replace(data, train=alone), "pixels", lambda: pytest.fail("nothing was to be prepared"), CPU) is None


def test_probabilities_need_the_kernel_values_that_they_are_calibrated_on(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.full(10, 200)
    needed = gram.memory_needed(counts, 100)
    assert gram.memory_needed(counts, 100, 2000) - products_bytes(counts, 100) >= 2 * 8 * 2000**2
    data = small_data()
    gram_for(data)
    monkeypatch.setattr(gram, "available_memory", lambda: needed)
    assert gram_of(data, "pixels", lambda: pytest.fail("they are there"), CPU) is not None
    assert gram_of(data, "pixels", lambda: pytest.fail("nothing was to be prepared"), CPU, n_calibrated=2000) is None


def test_a_trial_with_probabilities_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(gram, "memory_needed", lambda counts, n_evaluated, n_calibrated: asked.append(n_calibrated) or 0)
    for probability in (False, True):
        Svm(SvmConfig(probability=probability), device="cpu").fit(small_data())
    assert asked == [0, 60]


def test_another_process_reads_the_file_and_one_that_cannot_be_written_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gram, "FILE_FROM", 0)
    data = replace(small_data(), fingerprints={"train": "a", "holdout": "b"}, cache=tmp_path / "cache")
    wanted = gram_for(data).flat
    monkeypatch.setattr(gram, "products", lambda *_: pytest.fail("they were to be read"))
    np.testing.assert_array_equal(gram_for(replace(data, kept={})).flat, wanted)
    with pytest.raises(pytest.fail.Exception):  # other images have another file
        gram_for(replace(data, kept={}, fingerprints={"train": "c", "holdout": "b"}))
    monkeypatch.undo()
    monkeypatch.setattr(gram, "FROM", 0)
    monkeypatch.setattr(gram, "FILE_FROM", 0)
    (tmp_path / "file").touch()
    np.testing.assert_array_equal(gram_for(replace(data, kept={}, cache=tmp_path / "file")).flat, wanted)
