"""Scores are scikit-learn's, also for classes that are never predicted or never occur."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from sklearn.metrics import confusion_matrix as scikit_confusion

from paretune.core.metrics import class_scores, confusion_matrix, named, scores

SCORES = ("precision", "recall", "f1")


@st.composite
def labellings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """True and predicted labels, and a number of classes of which some may be absent from either."""
    n_classes = draw(st.integers(2, 7))
    n_samples = draw(st.integers(1, 40))
    labels = st.lists(st.integers(0, n_classes - 1), min_size=n_samples, max_size=n_samples)
    return np.array(draw(labels)), np.array(draw(labels)), n_classes


def confusion_of(true: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    return confusion_matrix(torch.from_numpy(true), torch.from_numpy(predicted), n_classes).numpy()


@given(labellings())
def test_the_confusion_matrix_is_scikit_learns(labelling: tuple[np.ndarray, np.ndarray, int]) -> None:
    true, predicted, n_classes = labelling
    np.testing.assert_array_equal(
        confusion_of(true, predicted, n_classes), scikit_confusion(true, predicted, labels=list(range(n_classes)))
    )


@given(labellings(), st.sampled_from(["macro", "weighted"]))
def test_averages_are_scikit_learns(labelling: tuple[np.ndarray, np.ndarray, int], average: str) -> None:
    true, predicted, n_classes = labelling
    found = scores(confusion_of(true, predicted, n_classes), average)
    wanted = precision_recall_fscore_support(true, predicted, average=average, zero_division=0)
    assert [found[name] for name in SCORES] == pytest.approx(wanted[:3], abs=1e-9)
    assert found["accuracy"] == pytest.approx(accuracy_score(true, predicted), abs=1e-9)


@given(labellings())
def test_scores_per_class_are_scikit_learns(labelling: tuple[np.ndarray, np.ndarray, int]) -> None:
    true, predicted, n_classes = labelling
    found = class_scores(confusion_of(true, predicted, n_classes))
    wanted = precision_recall_fscore_support(true, predicted, labels=list(range(n_classes)), zero_division=0)
    for values, name in zip(wanted, (*SCORES, "support"), strict=True):
        np.testing.assert_allclose(found[name], values, atol=1e-9)


@given(labellings(), st.data())
def test_binary_scores_are_those_of_the_positive_class(labelling: tuple[np.ndarray, np.ndarray, int], data: st.DataObject) -> None:
    true, predicted, n_classes = labelling
    positive = data.draw(st.integers(0, n_classes - 1))
    found = scores(confusion_of(true, predicted, n_classes), "binary", positive)
    wanted = precision_recall_fscore_support(true == positive, predicted == positive, average="binary", zero_division=0)
    assert [found[name] for name in SCORES] == pytest.approx(wanted[:3], abs=1e-9)
    assert found["accuracy"] == pytest.approx(accuracy_score(true, predicted), abs=1e-9)


def test_macro_f1_is_the_mean_of_the_classes_f1_and_not_that_of_the_means() -> None:
    confusion = np.array([[8, 2], [0, 1]])
    found = scores(confusion)
    assert found["f1"] == pytest.approx((2 * 8 / 18 + 2 / 4) / 2)
    assert found["f1"] != pytest.approx(2 * found["precision"] * found["recall"] / (found["precision"] + found["recall"]))


def test_a_class_never_predicted_counts_as_precision_zero() -> None:
    found = class_scores(np.array([[3, 0], [2, 0]]))
    assert found["precision"].tolist() == [0.6, 0.0]
    assert scores(np.array([[3, 0], [2, 0]]))["precision"] == pytest.approx(0.3)


def test_nothing_at_all_scores_zero() -> None:
    assert scores(np.zeros((3, 3), dtype=int)) == {"accuracy": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_logged_names_say_the_part() -> None:
    values = {"loss": 1.0, "accuracy": 0.5, "precision": 0.4, "recall": 0.3, "f1": 0.2}
    assert named(values, "train") == {
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "train_precision": 0.4,
        "train_recall": 0.3,
        "train_f1": 0.2,
    }
    assert named(values, "test") == {"test_loss": 1.0, "test_accuracy": 0.5, "precision": 0.4, "recall": 0.3, "f1": 0.2}
