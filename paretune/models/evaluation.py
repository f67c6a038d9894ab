"""Evaluates a model on one split: accuracy, loss, per-class precision, recall and F1, confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.core.errors import UsageError
from paretune.core.metrics import class_scores, confusion_matrix, scores
from paretune.core.short_names import shortened
from paretune.data.dataset import load_data
from paretune.models.contract import Classifier
from paretune.models.locked_readings import on_record
from paretune.models.saved_models import data_options_of, load
from paretune.models.seen_images import check_same_part, check_unseen

if TYPE_CHECKING:
    from paretune.data.dataset import Data
    from paretune.data.images import Samples
    from paretune.models.contract import Model

MOST_CHARACTERS = 8  # of a class's name above a column of the confusion matrix


@dataclass(frozen=True)
class Evaluation:
    """What a model did on one part: `metrics` (accuracy, loss where there is one, precision, recall, f1) and counts.

    Of an autoencoder: the loss alone, and no counts.
    """

    metrics: dict[str, float]
    confusion: np.ndarray | None  # (n_classes, n_classes), rows are true classes
    class_names: list[str]
    n_samples: int
    average: str = "macro"  # how precision, recall and f1 are averaged

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        if self.confusion is None:
            return {**self.metrics, "n_samples": self.n_samples}
        by_class = class_scores(self.confusion)
        return {
            **self.metrics,
            "n_samples": self.n_samples,
            "per_class": {
                name: {score: float(values[i]) for score, values in by_class.items()} for i, name in enumerate(self.class_names)
            },
            "confusion": self.confusion.tolist(),
        }


def evaluate(classifier: Model, samples: Samples, data: Data) -> Evaluation:
    """Score a fitted model on one part of the data, averaging as the data say."""
    import torch

    if not isinstance(classifier, Classifier):
        loss = classifier.mean_loss(samples.x, samples.y)
        return Evaluation({} if loss is None else {"loss": loss}, None, list(data.class_names), len(samples), data.average)
    labels, loss = classifier.predict_with_loss(samples.x, samples.y)
    confusion = confusion_matrix(samples.y.cpu(), torch.from_numpy(np.asarray(labels)), len(data.class_names)).numpy()
    losses = {} if loss is None else {"loss": loss}
    metrics = {**losses, **scores(confusion, data.average, data.positive)}
    return Evaluation(metrics, confusion, list(data.class_names), len(samples), data.average)


def report_text(evaluation: Evaluation) -> str:
    """Return the per-class table and the confusion matrix as text; of an autoencoder nothing."""
    if evaluation.confusion is None:
        return ""
    names = evaluation.class_names
    width = max(8, *(len(name) for name in names))
    by_class = class_scores(evaluation.confusion)
    lines = [f"{'class':<{width}}  precision  recall      f1  support"]
    for i, name in enumerate(names):
        precision, recall, f1 = (by_class[score][i] for score in ("precision", "recall", "f1"))
        lines.append(f"{name:<{width}}  {precision:9.4f}  {recall:6.4f}  {f1:6.4f}  {int(by_class['support'][i]):7,}")
    metrics = evaluation.metrics
    precision, recall, f1 = (metrics[score] for score in ("precision", "recall", "f1"))
    label = "positive" if evaluation.average == "binary" else evaluation.average
    lines.append(f"{label:<{width}}  {precision:9.4f}  {recall:6.4f}  {f1:6.4f}  {evaluation.n_samples:7,}")
    lines += ["", "confusion matrix (rows: true, columns: predicted)"]
    heads = shortened(names, MOST_CHARACTERS)
    cell = max(5, *map(len, heads))
    lines.append(" " * width + " ".join(f"{head:>{cell}}" for head in heads))
    lines += [
        f"{name:<{width}}" + " ".join(f"{int(count):>{cell}}" for count in row)
        for name, row in zip(names, evaluation.confusion, strict=True)
    ]
    return "\n".join(lines)


def evaluate_saved(model: str, *, data_name: str | None = None, split: str = "test", device: str = "auto") -> Evaluation:
    """Load a model and evaluate it on the set that it was trained on, or on another of the same shape and classes.

    Args:
        split: `test` reads the locked part, by which nothing may be chosen; `holdout` the hold-out.

    Raises:
        UsageError: if the model cannot be read, the set does not fit it, or there is no hold-out.
    """
    classifier, options = load(model, device=device), data_options_of(model, data_name)
    data = load_data(options)
    if (classifier.input_shape, classifier.class_names) != (data.input_shape, data.class_names):
        raise UsageError(
            f"{model} reads images of shape {classifier.input_shape} of the classes {', '.join(classifier.class_names)}; "
            f"{options.data} has {data.input_shape} of {', '.join(data.class_names)}: choose another set."
        )
    samples = data.test if split == "test" else data.holdout
    if samples is None:
        raise UsageError(f"{model} was trained without a hold-out: use --split=test.")
    if data_name is None:
        check_same_part(model, data, split)
    else:
        check_unseen(model, data, parts=[split], what="--data")
    if split != "test":
        return evaluate(classifier, samples, data)
    with on_record(model, data.fingerprints["test"], "trainers.evaluate") as reading:
        evaluation = evaluate(classifier, samples, data)
        reading["accuracy"] = evaluation.metrics.get("accuracy")
    return evaluation
