"""Figures of one model: their numbers against scikit-learn and by hand, and that they are drawn with few and many classes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.special import softmax
from sklearn import metrics

from paretune.analysis.figures import models as figures
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.locked_part import Kept, entropies
from tests.analysis.reading import is_a_drawing

SIZES = [2, 3, 10, 26]


def names_of(n_classes: int) -> list[str]:
    return [f"class {chr(97 + label)}" for label in range(n_classes)]


def predictions(n_classes: int = 5, n: int = 400, *, seed: int = 0, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and probabilities of a classifier that is right more often than not."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, n_classes, n)
    logits = random.standard_normal((n, n_classes)) + skill * (np.arange(n_classes) == labels[:, None])
    return labels, softmax(logits, axis=1).astype(np.float32)


def kept_of(n_classes: int = 5, n: int = 100) -> Kept:
    labels, probabilities = predictions(n_classes, n)
    hardest = np.argsort(-entropies(probabilities))[:25]
    images = np.random.default_rng(0).random((len(hardest), 3, 8, 8)).astype(np.float32)
    random = np.random.default_rng(1)
    embeddings = {layer: random.standard_normal((n, 5)) + labels[:, None] for layer in ("conv_1.pool", "hidden_1.activation")}
    return Kept(labels, probabilities.argmax(axis=1), probabilities, hardest, images, np.arange(n), embeddings)


@given(st.integers(2, 6), st.integers(0, 100), st.integers(1, 5))
def test_the_most_frequent_confusions_are_counted(n_classes: int, seed: int, k: int) -> None:
    random, names = np.random.default_rng(seed), names_of(n_classes)
    labels, predicted = random.integers(0, n_classes, (2, 60))
    counts = Counter((names[i], names[j]) for i, j in zip(labels, predicted, strict=True) if i != j)
    found = figures.frequent_confusions(labels, predicted, names, k)
    assert [count for *_, count in found] == sorted(counts.values(), reverse=True)[:k]
    assert all(counts[true, taken] == count for true, taken, count in found)


def test_without_mistakes_there_is_no_confusion() -> None:
    assert figures.frequent_confusions(np.arange(3), np.arange(3), names_of(3)) == []


@pytest.mark.parametrize(
    ("predicted", "sentence"),
    [
        ([1, 1, 0, 1, 0, 0, 2], "Most frequent confusions: c0 taken for c1 (2), c1 taken for c0 (2)."),
        ([1, 0, 0, 0, 0, 1, 2], "Most frequent confusions: c1 taken for c0 (2)."),
        ([1, 0, 0, 1, 1, 0, 2], "No pair of classes was confused more than once."),
        ([0, 0, 0, 1, 1, 1, 2], "No image was taken for another class."),
    ],
)
def test_the_confusions_in_words_are_those_seen_more_than_once(predicted: list[int], sentence: str) -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2])
    assert figures.confusions_in_words(labels, np.array(predicted), ["c0", "c1", "c2"]) == sentence


@pytest.mark.parametrize("n_classes", SIZES)
def test_the_bars_are_scikit_learns_scores(n_classes: int, tmp_path: Path) -> None:
    labels, probabilities = predictions(n_classes)
    predicted, names = probabilities.argmax(axis=1), names_of(n_classes)
    figure = figures.class_scores_figure(labels, predicted, names, title="ann")
    expected = metrics.precision_recall_fscore_support(labels, predicted, labels=range(n_classes), zero_division=0)[:3]
    (axes,) = figure.axes
    heights = np.array([bar.get_height() for bar in axes.patches]).reshape(3, n_classes)
    np.testing.assert_allclose(heights, expected)
    assert is_a_drawing(save_figure(figure, tmp_path / "scores.png"))


@pytest.mark.parametrize("n_classes", SIZES)
def test_the_average_precision_is_scikit_learns_and_the_area_under_the_curve(n_classes: int) -> None:
    labels, probabilities = predictions(n_classes)
    curves = figures.precision_recall(labels, probabilities, names_of(n_classes))
    one_hot = np.eye(n_classes)[labels]
    macro = metrics.average_precision_score(one_hot, probabilities, average="macro")
    assert np.mean([curve.average_precision for curve in curves]) == pytest.approx(macro)
    for curve in curves:
        assert -np.sum(np.diff(curve.recall) * curve.precision[:-1]) == pytest.approx(curve.average_precision)


def test_the_precision_at_a_recall_is_the_highest_of_all_thresholds_that_reach_it() -> None:
    labels, probabilities = predictions(3, 60)
    (curve, *_) = figures.precision_recall(labels, probabilities, names_of(3))
    true, score = labels == 0, probabilities[:, 0]
    for level in (0.05, 0.5, 0.9, 1.0):
        reached = [
            true[score >= threshold].mean() for threshold in score if true[score >= threshold].sum() >= level * true.sum() - 1e-9
        ]
        assert figures.precision_at(curve, np.array([level]))[0] == pytest.approx(max(reached))


@pytest.mark.parametrize(("n_classes", "lines"), [(2, 2), (10, 10), (26, 7)])
def test_with_many_classes_the_curves_are_the_three_best_the_three_worst_and_the_mean(
    n_classes: int, lines: int, tmp_path: Path
) -> None:
    labels, probabilities = predictions(n_classes, 600)
    figure = figures.precision_recall_figure(labels, probabilities, names_of(n_classes))
    (axes,) = figure.axes
    assert len(axes.lines) == lines
    scores = [metrics.average_precision_score(labels == label, probabilities[:, label]) for label in range(n_classes)]
    ordered = sorted(scores, reverse=True)
    shown = ordered if lines == n_classes else [*ordered[:3], *ordered[-3:], float(np.mean(scores))]
    assert [str(line.get_label()).rsplit("(")[-1] for line in axes.lines] == [f"{score:.4f})" for score in shown]
    assert is_a_drawing(save_figure(figure, tmp_path / "curves.png"))


def test_a_class_without_images_has_no_curve() -> None:
    labels, probabilities = predictions(4)
    labels[labels == 2] = 1
    assert [curve.name for curve in figures.precision_recall(labels, probabilities, names_of(4))] == [
        "class a",
        "class b",
        "class d",
    ]


def test_the_calibration_error_is_that_of_a_loop_over_sorted_bins() -> None:
    labels, probabilities = predictions(4, 103)
    rows = sorted(zip(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, strict=True), key=lambda row: row[0])
    error, start = 0.0, 0
    for size in [11, 11, 11, 10, 10, 10, 10, 10, 10, 10]:
        part = rows[start : start + size]
        start += size
        confidence = sum(float(row[0]) for row in part) / size
        accuracy = sum(bool(row[1]) for row in part) / size
        error += abs(accuracy - confidence) * size / 103
    found = figures.calibration(labels, probabilities, 10)
    assert found.error == pytest.approx(error)
    assert found.counts.tolist() == [11, 11, 11, 10, 10, 10, 10, 10, 10, 10]


def test_a_calibrated_classifier_has_a_small_error_and_an_overconfident_one_the_excess() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 20_000)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = (random.random(20_000) > confidence).astype(int)
    assert figures.calibration(labels, probabilities).error < 0.015
    coin = (random.random(20_000) > 0.5).astype(int)
    assert figures.calibration(coin, probabilities).error == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize(("n", "n_bins"), [(1, 1), (7, 7), (400, 15)])
def test_the_reliability_diagram_shows_every_bin(n: int, n_bins: int, tmp_path: Path) -> None:
    labels, probabilities = predictions(5, n)
    figure = figures.calibration_figure(labels, probabilities)
    axes, below = figure.axes
    assert len(axes.lines[1].get_xdata()) == n_bins
    assert sum(bar.get_height() for bar in below.patches) == n
    assert f"{figures.calibration(labels, probabilities).error:.4f}" in axes.get_title(loc="left")
    assert is_a_drawing(save_figure(figure, tmp_path / "calibration.png"))


def test_the_gallery_names_the_true_and_the_predicted_class_and_the_entropy(tmp_path: Path) -> None:
    kept = kept_of()
    figure = figures.hardest_figure(kept, names_of(5))
    assert isinstance(figure, Figure)
    assert kept.probabilities is not None
    first, index = figure.axes[0].get_title(), kept.hardest[0]
    bits = -np.sum(kept.probabilities[index] * np.log2(kept.probabilities[index]))
    true, predicted = (names_of(5)[label] for label in (kept.labels[index], kept.predicted[index]))
    assert first == f"{true} {'=' if true == predicted else '→'} {predicted}\n{bits:.2f} bits"
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), np.moveaxis(kept.hardest_images[0], 0, -1))
    assert len(figure.axes) == 25
    assert is_a_drawing(save_figure(figure, tmp_path / "hardest.png"))


def test_without_probabilities_there_is_no_gallery() -> None:
    kept = kept_of()
    none = Kept(kept.labels, kept.predicted, None, kept.hardest[:0], kept.hardest_images[:0], kept.sample, kept.embeddings)
    assert figures.hardest_figure(none, names_of(5)) is None


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_the_map_is_the_same_for_the_same_seed_and_keeps_clusters_together(method: str) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    rows = random.standard_normal((90, 8)) * 0.3 + 5 * np.eye(3, 8)[labels]
    points = figures.projected(rows, method, seed=3)  # type: ignore[arg-type]
    np.testing.assert_array_equal(points, figures.projected(rows, method, seed=3))  # type: ignore[arg-type]
    assert metrics.silhouette_score(points, labels) > 0.6


@pytest.mark.parametrize("shape", [(2, 3), (5, 3), (9, 1), (2, 50)])
def test_few_or_narrow_rows_still_have_a_place_in_the_plane(shape: tuple[int, int]) -> None:
    points = figures.projected(np.random.default_rng(0).standard_normal(shape))
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()


@pytest.mark.parametrize("n_classes", [3, 26])
def test_each_layer_has_a_map_with_the_names_of_the_classes(n_classes: int, tmp_path: Path) -> None:
    kept = kept_of(n_classes)
    names = names_of(n_classes)
    figure = figures.embedding_figure(kept.embeddings, kept.labels, names, method="pca")
    assert [axes.get_title() for axes in figure.axes] == ["conv_1.pool", "hidden_1.activation"]
    present = np.unique(kept.labels)
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == [f"{figures.class_signs(names)[i]} {names[i]}" for i in present]
        assert sum(len(points.get_offsets()) for points in axes.collections) == len(kept.labels)
    assert is_a_drawing(save_figure(figure, tmp_path / "map.png"))


def test_digits_are_their_own_signs() -> None:
    assert figures.class_signs(["0", "1", "2"]) == ["0", "1", "2"]
    assert figures.class_signs(["cat", "dog"]) == ["A", "B"]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=10))
def test_names_are_moved_apart_upwards_and_downwards_only(places: list[tuple[float, float]]) -> None:
    before, widths = np.array(places), np.full(len(places), 0.2)
    after = figures.apart(before, widths, 0.05)
    np.testing.assert_array_equal(after[:, 0], before[:, 0])
    for i in range(len(after)):
        for j in range(i):
            assert abs(after[i, 0] - after[j, 0]) >= 0.2 or abs(after[i, 1] - after[j, 1]) >= 0.05 - 1e-3


def test_images_that_a_layer_does_not_tell_apart_are_drawn(tmp_path: Path) -> None:
    for points in (np.zeros((6, 2)), np.column_stack([np.arange(6.0), np.ones(6)])):
        figure = figures.maps_figure({"output": points}, np.array([0, 0, 1, 1, 2, 2]), names_of(3))
        assert all(np.isfinite(text.get_position()).all() for text in figure.axes[0].texts)
        assert is_a_drawing(save_figure(figure, tmp_path / "map.png"))
