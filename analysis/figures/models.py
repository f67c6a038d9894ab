"""Figures of one model from what was kept of the locked test part: scores per class, precision and recall over the thresholds,
calibration, the images it was least certain of, and a map of what its layers make of the images.

Sources: average precision as in scikit-learn's user guide; calibration error with bins of equal mass: Nixon et al. 2019,
"Measuring Calibration in Deep Learning"; t-SNE: van der Maaten and Hinton 2008, by openTSNE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.figures.labels import fitted
from paretune.analysis.figures.runs import COLORS, GREY, MOST_OF_CLASS, empty_figure, label_of, legend_names, new_figure, styled
from paretune.analysis.locked_part import Kept, entropies
from paretune.core.metrics import class_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_BINS = 15
MOST_CURVES = 10  # with more classes: the mean, the three best and the three worst
PERFECT = 0.99  # precision, down to which a curve is not worth showing
LINES = ["-", "--", "-.", ":"]
PALETTE = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#B27300"]  # Okabe and Ito's that show on white
HATCHES = ["", "////", "...."]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MOST_PERPLEXITY = 30
CHARACTER, LINE = 0.022, 0.052  # width and height of a name's letters, as shares of a map's sides


def frequent_confusions(
    labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], k: int = 3
) -> list[tuple[str, str, int]]:
    """Return the k most frequent mistakes: true class, predicted class, count; of equals the first classes."""
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:k]
    return [(class_names[pairs[0, i]], class_names[pairs[1, i]], int(counts[i])) for i in order]


def confusions_in_words(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], k: int = 3) -> str:
    """Name the k most frequent confusions, among the pairs of classes that were confused more than once."""
    frequent = frequent_confusions(labels, predicted, class_names, k)
    if not frequent:
        return _("No image was taken for another class.")
    words = ", ".join(
        _("{true} taken for {predicted} ({count})").format(true=true, predicted=taken, count=count)
        for true, taken, count in frequent
        if count > 1
    )
    return (
        _("Most frequent confusions: {words}.").format(words=words)
        if words
        else _("No pair of classes was confused more than once.")
    )


@styled
def class_scores_figure(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], *, title: str = "") -> Figure:
    """Draw precision, recall and F1 of each class as bars."""
    n_classes, class_names = len(class_names), legend_names(class_names, MOST_OF_CLASS)
    confusion = np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    scores = class_scores(confusion)
    figure, (axes,) = new_figure(8.4, 3.1)
    places = np.arange(n_classes)
    for offset, name in enumerate(("precision", "recall", "f1")):
        style: Any = {"color": COLORS[offset], "alpha": 0.75, "hatch": HATCHES[offset], "edgecolor": "white", "lw": 0.4}
        axes.bar(places + 0.27 * (offset - 1), scores[name], width=0.25, label=label_of(name), **style)
    lowest = min(float(scores[name].min()) for name in ("precision", "recall", "f1"))
    axes.set_ylim(max(0.0, lowest - 0.25 * (1 - lowest) - 0.005), 1.0)
    crowded = sum(map(len, class_names)) > 60
    axes.set_xticks(places, list(class_names), rotation=45 if crowded else 0, ha="right" if crowded else "center", fontsize=8)
    axes.set_xlabel(_("class"))
    axes.set_ylabel(_("score (the axis does not begin at 0)") if axes.get_ylim()[0] > 0 else _("score"))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8)
    axes.set_title(fitted(title, 2.4), loc="left", fontsize=9)
    return figure


@dataclass(frozen=True)
class PrecisionRecall:
    """One class against the rest: the curve, and its average precision (NaN where the class has no image)."""

    name: str
    precision: np.ndarray  # (n_thresholds + 1,)
    recall: np.ndarray  # (n_thresholds + 1,)
    average_precision: float


def precision_recall(labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]) -> list[PrecisionRecall]:
    """Return the precision-recall curve of each class that occurs, one against the rest."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    curves = []
    for index in np.unique(labels):
        true, score = labels == index, probabilities[:, index]
        precision, recall, _ = precision_recall_curve(true, score)
        curves.append(PrecisionRecall(class_names[index], precision, recall, float(average_precision_score(true, score))))
    return curves


def precision_at(curve: PrecisionRecall, recalls: np.ndarray) -> np.ndarray:
    """Return the highest precision at each recall or above (n_recalls,)."""
    best = np.maximum.accumulate(curve.precision)  # scikit-learn's recall falls along the curve
    return np.array([best[np.flatnonzero(curve.recall >= level)[-1]] for level in recalls])


@styled
def precision_recall_figure(labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draw the precision-recall curves, one class against the rest, with their average precision (AP)."""
    class_names = legend_names(class_names, MOST_OF_CLASS)
    curves = sorted(precision_recall(labels, probabilities, class_names), key=lambda curve: -curve.average_precision)
    figure, (axes,) = new_figure(6.4, 3.9)
    mean = float(np.mean([curve.average_precision for curve in curves]))
    shown = curves if len(curves) <= MOST_CURVES else [*curves[:3], *curves[-3:]]
    for place, curve in enumerate(shown):
        style, color = LINES[place % len(LINES)], PALETTE[place % len(PALETTE)]
        label = f"{curve.name} ({curve.average_precision:.4f})"
        axes.plot(curve.recall, curve.precision, style, color=color, lw=1.2, drawstyle="steps-post", label=label)
    recalls = np.linspace(0, 1, 101)
    if len(shown) < len(curves):
        precision = np.mean([precision_at(curve, recalls) for curve in curves], axis=0)
        label = _("mean of {count} classes ({mean:.4f})").format(count=len(curves), mean=mean)
        axes.plot(recalls, precision, color=GREY, lw=3, alpha=0.7, label=label, zorder=1)
    worst = np.min([precision_at(curve, recalls) for curve in shown], axis=0)
    first = recalls[int(np.argmax(worst < PERFECT))] if worst.min() < PERFECT else 0.9  # to its left there is nothing to see
    axes.set_xlim(max(0.0, first - 0.1), 1.005)
    axes.set_ylim(max(0.0, float(worst[-2]) - 0.1), 1.01)
    axes.set_xlabel(label_of("recall"))
    axes.set_ylabel(label_of("precision"))
    axes.set_title(_("mean average precision {mean:.4f}").format(mean=mean), loc="left", fontsize=9)
    axes.legend(title=_("class (AP)"), title_fontsize=8, fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@dataclass(frozen=True)
class Calibration:
    """Bins of equally many images in the order of confidence, and the expected calibration error over them."""

    confidence: np.ndarray  # (n_bins,) mean of the highest probability
    accuracy: np.ndarray  # (n_bins,)
    counts: np.ndarray  # (n_bins,)
    error: float


def calibration(labels: np.ndarray, probabilities: np.ndarray, n_bins: int = N_BINS) -> Calibration:
    """Compare the confidence of the predictions (the highest probability) with how often they are right.

    The error is the mean of |accuracy - confidence| over the bins, weighted by their images; the bins hold equally many
    (plus or minus one), at least one each.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.array_split(np.argsort(confidence, kind="stable"), min(n_bins, len(labels)))
    counts = np.array([len(rows) for rows in bins])
    mean_confidence = np.array([confidence[rows].mean() for rows in bins])
    accuracy = np.array([right[rows].mean() for rows in bins])
    return Calibration(mean_confidence, accuracy, counts, float(np.average(np.abs(accuracy - mean_confidence), weights=counts)))


@styled
def calibration_figure(labels: np.ndarray, probabilities: np.ndarray, n_bins: int = N_BINS) -> Figure:
    """Draw the reliability diagram: accuracy over confidence per bin, and below how many images have which confidence."""
    found = calibration(labels, probabilities, n_bins)
    figure = empty_figure(4.2, 4.4)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    low = max(0.0, min(float(found.confidence.min()), float(found.accuracy.min())) - 0.05)
    axes.plot([low, 1], [low, 1], "--", color=GREY, lw=1, label=_("perfectly calibrated"))
    axes.vlines(found.confidence, found.confidence, found.accuracy, color=COLORS[1], lw=1, alpha=0.7)
    axes.plot(found.confidence, found.accuracy, "-o", color=COLORS[0], lw=1, ms=4, label=_bins_in_words(found.counts))
    axes.set_ylabel(label_of("test_accuracy"))
    axes.set_title(_("expected calibration error {error:.4f}").format(error=found.error), loc="left", fontsize=9)
    axes.legend(fontsize=8, loc="upper left")
    below.hist(probabilities.max(axis=1), bins=np.linspace(low, 1, 26), color=COLORS[0], alpha=0.75)
    below.set_yscale("log")
    below.set_ylim(bottom=0.7)
    below.set_ylabel(_("images"))
    below.set_xlabel(_("confidence (highest probability)"))
    axes.set_xlim(low, 1.005)
    return figure


def _bins_in_words(counts: np.ndarray) -> str:
    low, high = int(counts.min()), int(counts.max())
    if low == high:
        return _("{bins} bins of {count} images").format(bins=len(counts), count=low)
    return _("{bins} bins of {low} or {high} images").format(bins=len(counts), low=low, high=high)


@styled
def hardest_figure(kept: Kept, class_names: Sequence[str], side: int = 5) -> Figure | None:
    """Draw the side x side images of highest entropy with their true and predicted class; None without probabilities."""
    if kept.probabilities is None or len(kept.hardest) == 0:
        return None
    side = min(side, max(3, int(np.sqrt(len(kept.hardest)))))
    bits = entropies(kept.probabilities)
    class_names = legend_names(class_names, MOST_OF_CLASS // 2)
    longest = max(map(len, class_names))
    figure = empty_figure(side * (1.25 if longest <= 3 else 1.6), side * 1.5 + 0.1)
    for place, axes in enumerate(figure.subplots(side, side).flat):
        axes.axis("off")
        if place >= len(kept.hardest):
            continue
        index, image = kept.hardest[place], np.moveaxis(kept.hardest_images[place], 0, -1)
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        true, predicted = int(kept.labels[index]), int(kept.predicted[index])
        wrong = true != predicted
        text = f"{class_names[true]} {'→' if wrong else '='} {class_names[predicted]}\n{bits[index]:.2f} bits"
        axes.set_title(text, fontsize=7.5, color=COLORS[1] if wrong else "black", weight="bold" if wrong else "normal", pad=2)
    figure.suptitle(_("true → predicted (= where it is right); entropy of the probabilities"), fontsize=8)
    return figure


def projected(embedding: np.ndarray, method: Literal["tsne", "pca"] = "tsne", *, seed: int = 0) -> np.ndarray:
    """Return points in the plane (n, 2) for rows (n, n_dimensions): t-SNE of perplexity min(30, n / 4), or the first two
    principal components.
    """
    if method == "tsne" and len(embedding) >= 8 and embedding.shape[1] > 1:
        from openTSNE import TSNE

        perplexity = min(MOST_PERPLEXITY, len(embedding) / 4)
        return np.asarray(TSNE(perplexity=perplexity, random_state=seed, n_jobs=1).fit(embedding.astype(np.float64)))
    from sklearn.decomposition import PCA

    n_components = min(2, *embedding.shape)
    points = PCA(n_components, random_state=seed).fit_transform(embedding.astype(np.float64))
    return np.pad(points, ((0, 0), (0, 2 - n_components)))


def embedding_figure(
    embeddings: Mapping[str, np.ndarray],
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    method: Literal["tsne", "pca"] = "tsne",
    seed: int = 0,
) -> Figure:
    """Draw what each layer makes of the images as a map, side by side; each image is the sign of its class.

    Args:
        embeddings: layer -> (n, n_dimensions).
        labels: classes of the n images.
    """
    points = {layer: projected(embedding, method, seed=seed) for layer, embedding in embeddings.items()}
    return maps_figure(points, labels, class_names, method=method)


@styled
def maps_figure(
    maps: Mapping[str, np.ndarray], labels: np.ndarray, class_names: Sequence[str], *, method: Literal["tsne", "pca"] = "tsne"
) -> Figure:
    """Draw points in the plane, title -> (n, 2), side by side; each is the sign of its class in `labels` (n,)."""
    figure, panels = new_figure(4.2 * len(maps), 4.3, len(maps))
    signs, class_names = class_signs(class_names), legend_names(class_names, MOST_OF_CLASS)
    for axes, (layer, points) in zip(panels, maps.items(), strict=True):
        for index in np.unique(labels):
            own = points[labels == index]
            color = PALETTE[index % len(PALETTE)]
            axes.scatter(own[:, 0], own[:, 1], s=16, marker=rf"$\mathrm{{{signs[index]}}}$", color=color, lw=0.1, alpha=0.75)
        _name_classes(axes, points, labels, class_names, signs)
        axes.set_title(fitted(layer, 3.6), fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("t-SNE 1" if method == "tsne" else _("principal component 1"))
        axes.set_ylabel("t-SNE 2" if method == "tsne" else _("principal component 2"))
    return figure


def _name_classes(axes: Axes, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str], signs: Sequence[str]) -> None:
    """Write each class's name at the median of its points, or beside it where another name stands there."""
    present = np.unique(labels)
    names = [
        class_names[index] if class_names[index] == signs[index] else f"{signs[index]} {class_names[index]}" for index in present
    ]
    medians = np.stack([np.median(points[labels == index], axis=0) for index in present])
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    span = np.where(span > 0, span, 1.0)  # of points that all lie on one line
    widths = np.array([CHARACTER * (len(name) + 1) for name in names])
    places = apart((medians - low) / span, widths, LINE) * span + low
    for index, name, median, place in zip(present, names, medians, places, strict=True):
        color = PALETTE[index % len(PALETTE)]
        if np.abs((place - median) / span).max() > LINE / 2:
            axes.plot(*zip(median, place, strict=True), color=color, lw=1, zorder=4)
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": color, "alpha": 0.85, "lw": 1}
        axes.text(place[0], place[1], name, fontsize=8.5, weight="bold", ha="center", va="center", bbox=box, zorder=5)


def apart(places: np.ndarray, widths: np.ndarray, height: float) -> np.ndarray:
    """Move labels (n, 2), given their widths (n,) and common height, up and down until none hides another."""
    places = places.copy()
    for _turn in range(200):
        moved = False
        for i in range(len(places)):
            for j in range(i):
                gap = places[i] - places[j]
                overlap = height - abs(gap[1])
                if abs(gap[0]) < (widths[i] + widths[j]) / 2 and overlap > 1e-6:
                    push = (overlap / 2 + 1e-6) * (1 if gap[1] >= 0 else -1)
                    places[i, 1], places[j, 1], moved = places[i, 1] + push, places[j, 1] - push, True
        if not moved:
            break
    return places


def class_signs(class_names: Sequence[str]) -> list[str]:
    """Return a sign for each class: its name if it is one letter or digit, as for all of them, else A, B, C, …"""
    if all(len(name) == 1 and name.isalnum() for name in class_names):
        return list(class_names)
    return [LETTERS[place % len(LETTERS)] for place in range(len(class_names))]
