"""F1 to F6: feed-forward nets on Fashion-MNIST (the document 001)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.figures.curve_grids import curve_grid_figure
from paretune.analysis.figures.models import class_scores_figure, hardest_figure
from paretune.analysis.figures.runs import confusion_figure
from paretune.analysis.locked_part import keep
from paretune.core.metrics import class_scores
from studies.base import Study, last, mean_with_interval

if TYPE_CHECKING:
    from paretune.analysis.locked_part import Kept
    from paretune.analysis.sources.run_record import RunRecord

SMALLER: dict[str, Any] = {"epochs": 3, "train_size": 6000}


def f1(study: Study) -> None:
    """Draw the curves of the sigmoid net at learning rates 0.01 and 0.1."""
    runs = by_value(study.sweep("f1", **SMALLER), "learning_rate")
    for rate, document, least in ((0.01, "> 80 %", 0.8), (0.1, "85 %", 0.85)):
        accuracy = last(runs[rate], "test_accuracy")
        ours = mean_with_interval(accuracy)
        study.line(f"test accuracy at learning rate {rate}, last epoch", document, ours, reached=bool(accuracy.mean() >= least))
    panels = {f"learning rate {rate}": runs[rate] for rate in (0.01, 0.1)}
    for name in ("loss", "accuracy"):
        figure = curve_grid_figure([panels], name, part="test")
        study.draw(figure, name, f"{name.capitalize()} over the epochs, seeds 0 to 2; the line is their mean.")


def f2(study: Study) -> None:
    """Draw three nets at three learning rates as a grid of curves."""
    runs = study.sweep("f2", **{**SMALLER, "epochs": 4})
    nets = {(32,): "one hidden layer of 32", (32, 32): "two of 32", (64, 64): "two of 64"}
    rows: list[Mapping[str, Sequence[RunRecord]]] = []
    for hidden, words in nets.items():
        own = by_value([run for run in runs if tuple(run.config["hidden"]) == hidden], "learning_rate")
        rows.append({f"{words}, learning rate {rate}": own[rate] for rate in (0.05, 0.1, 0.5)})
        values = ", ".join(f"{last(own[rate], 'test_accuracy').mean():.4f} at {rate}" for rate in own)
        study.line(f"{words}: test accuracy", "-", values)
    for name in ("loss", "accuracy"):
        study.draw(curve_grid_figure(rows, name, part="test"), name, f"{name.capitalize()} of each net at each learning rate.")
    losses = {rate: jumpiness([run for run in runs if run.config["learning_rate"] == rate]) for rate in (0.05, 0.1, 0.5)}
    words = ", ".join(f"{value:.4f} at {rate}" for rate, value in losses.items())
    study.line(
        "mean change of the test loss from epoch to epoch, second half",
        "learning rate 0.5 unstable",
        words,
        reached=losses[0.5] > 2 * max(losses[0.05], losses[0.1]),
    )


def f3(study: Study) -> None:
    """Train the net with dropout for 60 epochs."""
    runs = study.sweep("f3", **SMALLER)
    accuracy = last(runs, "test_accuracy")
    study.line(
        "test accuracy, last epoch, seeds 0 to 2", "87 %", mean_with_interval(accuracy), reached=bool(accuracy.mean() >= 0.87)
    )
    for name in ("loss", "accuracy"):
        study.draw(
            curve_grid_figure([{"dropout 0.25 twice": runs}], name, part="test"), name, f"{name.capitalize()}, seeds 0 to 2."
        )


def f4(study: Study) -> None:
    """Score the classes of F3's first net."""
    kept, names = dropout_net(study)
    confusion = confusion_of(kept, len(names))
    scores = class_scores(confusion)
    for name, document in (("Shirt", "0.66, the worst"), ("Trouser", "0.98, the best")):
        place = names.index(name)
        rank = {0: "the worst", len(names) - 1: "the best"}.get(
            int(np.argsort(np.argsort(scores["f1"]))[place]), "neither best nor worst"
        )
        named = (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
        ours = f"{', '.join(f'{words} {scores[key][place]:.2f}' for words, key in named)}, {rank}"
        study.line(f"{name}: F1", document, ours, reached=document.endswith(rank))
    study.draw(class_scores_figure(kept.labels, kept.predicted, names), "classes", "Scores of each class on the test images.")
    study.draw(
        confusion_figure(confusion, names, title="test images"), "confusion", "Confusion matrix on the test images.", width="70%"
    )


def f5(study: Study) -> None:
    """Show the nine test images of highest entropy."""
    kept, names = dropout_net(study)
    figure = hardest_figure(kept, names, side=3)
    assert figure is not None, "an ann has probabilities"
    study.draw(figure, "hardest", "The nine test images of highest entropy of the predicted distribution.", width="60%")
    wrong = int((kept.labels != kept.predicted)[kept.hardest[:9]].sum())
    study.line("of the nine images of highest entropy, read wrongly", "-", str(wrong))


def f6(study: Study) -> None:
    """Train the convolutional net of 10 channels."""
    runs = study.sweep("f6", epochs=2, train_size=6000)
    accuracy = last(runs, "test_accuracy")
    study.line(
        "test accuracy, last epoch, seeds 0 to 2", "≈ 89 %", mean_with_interval(accuracy), reached=bool(accuracy.mean() >= 0.885)
    )
    for name in ("loss", "accuracy"):
        study.draw(
            curve_grid_figure([{"two blocks of two convolutions": runs}], name, part="test"),
            name,
            f"{name.capitalize()}, seeds 0 to 2.",
        )


def by_value(runs: Sequence[RunRecord], name: str) -> dict[Any, list[RunRecord]]:
    """Group runs by a value of their config, in its order."""
    found: dict[Any, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.config[name]):
        found.setdefault(run.config[name], []).append(run)
    return found


def jumpiness(runs: Sequence[RunRecord]) -> float:
    """Return the mean absolute change of the test loss from one epoch to the next, over the second half of each run."""
    losses = [run.columns["test_loss"][len(run.columns["test_loss"]) // 2 :] for run in runs]
    return float(np.mean([np.abs(np.diff(values)).mean() if len(values) > 1 else 0.0 for values in losses]))


def first_seed(runs: Sequence[RunRecord]) -> RunRecord:
    """Return the run of the lowest seed, which stands for the others in figures of one model."""
    return min(runs, key=lambda run: int(run.config["seed"]))


def dropout_net(study: Study) -> tuple[Kept, list[str]]:
    """Return what F3's net of seed 0 makes of the test images, and the classes' names."""
    return read(study, "f3", **SMALLER)


def read(study: Study, file: str, **smaller: Any) -> tuple[Kept, list[str]]:
    """Return what the net of the first seed of a sweep makes of the test images, and the classes' names."""
    run = first_seed(study.sweep(file, **smaller))
    model, data = study.model(run, file)
    kept = keep(model, data)
    accuracy, drawn = float((kept.labels == kept.predicted).mean()), run.columns["test_accuracy"][-1]
    study.note(f"The net is that of seed {run.config['seed']}: test accuracy {accuracy:.4f}, {drawn:.4f} in its curve.")
    return kept, data.class_names


def confusion_of(kept: Kept, n_classes: int) -> np.ndarray:
    """Return the confusion matrix (n_classes, n_classes); rows are true classes."""
    return np.bincount(kept.labels * n_classes + kept.predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
