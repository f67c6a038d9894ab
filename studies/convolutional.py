"""C1 to C4: convolutional nets on MNIST and CIFAR-10 (the document 004)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.figures.curve_grids import curve_grid_figure
from paretune.analysis.figures.models import frequent_confusions, maps_figure, projected
from paretune.analysis.figures.runs import confusion_figure
from paretune.analysis.findings.confidence import wilson_interval
from paretune.analysis.retrain import config_of
from paretune.data.dataset import load_data
from paretune.models.registry import model_class
from paretune.models.run_config import configure
from paretune.networks.builder import layer_table
from studies.base import Study, last, mean_with_interval
from studies.feed_forward import confusion_of, read

if TYPE_CHECKING:
    from paretune.analysis.sources.run_record import RunRecord

SIMPLE: dict[str, Any] = {"epochs": 1, "train_size": 3000}
DOCUMENT_C4 = 0.7127  # accuracy at epoch 15
ALEXNET: dict[str, Any] = {"epochs": 1, "train_size": 2000}


def c1(study: Study) -> None:
    """Train the simple convolutional net; list its layers."""
    accuracy = trained(study, "c1", SIMPLE, "813,802", "98.94 %", 0.989)
    study.note(
        f"The test set has 10,000 images: one of them is {1 / 10_000:.4f}. The mean over the seeds is {accuracy.mean():.4f}."
    )


def c2(study: Study) -> None:
    """Show the confusion matrix of C1's first net, and its most frequent confusions."""
    kept, names = read(study, "c1", **SIMPLE)
    frequent = frequent_confusions(kept.labels, kept.predicted, names, 2)
    ours = ", ".join(f"{true}→{predicted} ({count})" for true, predicted, count in frequent)
    study.line("the two most frequent confusions", "7→2 (8), 6→0 (7)", ours)
    figure = confusion_figure(confusion_of(kept, len(names)), names, title="test images")
    study.draw(figure, "confusion", "Confusion matrix on the test images.", width="70%")


def c3(study: Study) -> None:
    """Map an intermediate and the last layer of C1's first net side by side."""
    kept, names = read(study, "c1", **SIMPLE)
    maps = {f"layer {layer}": projected(values) for layer, values in kept.embeddings.items()}
    labels = kept.labels[kept.sample]
    study.draw(maps_figure(maps, labels, names), "maps", f"t-SNE of two layers over {len(labels):,} test images.")
    for title, points in maps.items():
        study.line(
            f"{title}: share of the ten nearest neighbours on the map of the same digit", "-", f"{agreement(points, labels):.3f}"
        )


def c4(study: Study) -> None:
    """Train AlexNet on CIFAR-10; compare the map of its last layer with that of MNIST's net."""
    accuracy = trained(study, "c4", ALEXNET, "6,199,498", "71.27 %")
    kept, names = read(study, "c4", **ALEXNET)
    low, high = wilson_interval(float(accuracy.mean()), len(kept.labels))
    inside = bool(accuracy.mean() >= 0.71 or low <= DOCUMENT_C4 <= high)
    study.line(
        f"Wilson's interval of that mean, of {len(kept.labels):,} test images",
        "71.27 %",
        f"{low:.4f} to {high:.4f}",
        reached=inside,
    )
    pairs = frequent_confusions(kept.labels, kept.predicted, names, 3)
    study.line(
        "most frequent confusions", "dog/cat (224)", ", ".join(f"{true}→{predicted} ({count})" for true, predicted, count in pairs)
    )
    confusion = confusion_of(kept, len(names))
    study.draw(
        confusion_figure(confusion, names, title="test images"), "confusion", "Confusion matrix on the test images.", width="80%"
    )
    digits, digit_names = read(study, "c1", **SIMPLE)
    for label, found, classes in (("CIFAR-10", kept, names), ("MNIST", digits, digit_names)):
        layer, values = list(found.embeddings.items())[-1]
        points, labels = projected(values), found.labels[found.sample]
        figure = maps_figure({f"{label}, layer {layer}": points}, labels, classes)
        study.draw(
            figure, f"map-{label.lower()}", f"t-SNE of the last layer over {len(labels):,} test images of {label}.", width="60%"
        )
        study.line(
            f"{label}: share of the ten nearest neighbours on the map of the same class", "-", f"{agreement(points, labels):.3f}"
        )


def trained(
    study: Study, file: str, smaller: dict[str, Any], n_parameters: str, document: str, least: float | None = None
) -> np.ndarray:
    """Train a net for its seeds; add its table of layers, its accuracy and its curves; return the accuracies (n_seeds,).

    Args:
        least: the mean accuracy that reaches the document's; None where another line says so.
    """
    runs = study.sweep(file, **smaller)
    study.layers(layers_of(runs[0]))
    ours = f"{int(runs[0].columns['n_parameters'][-1]):,}"
    study.line("parameters", n_parameters, ours, reached=ours == n_parameters)
    accuracy = last(runs, "test_accuracy")
    n_epochs = len(runs[0].columns["epoch"])
    reached = None if least is None else bool(accuracy.mean() >= least)
    study.line(f"test accuracy at epoch {n_epochs}, seeds 0 to 2", document, mean_with_interval(accuracy), reached=reached)
    for name in ("loss", "accuracy"):
        figure = curve_grid_figure([{"the net": runs}], name, part="test")
        study.draw(figure, name, f"{name.capitalize()} over the epochs, seeds 0 to 2; the line is their mean.", width="60%")
    return accuracy


def layers_of(run: RunRecord) -> str:
    """Return the table of layers of a run's network."""
    kind = model_class(str(run.config["classifier"]))
    config, options, _ = configure(kind, config_of(run))
    data = load_data(options)
    model: Any = kind(config, device="cpu")
    model.start(data)
    return layer_table(model.network(), data.input_shape)


def agreement(points: np.ndarray, labels: np.ndarray, k: int = 10) -> float:
    """Return the share of the k nearest neighbours of each point (n, 2) that are of its class."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points, return_distance=False)[:, 1:]
    return float((labels[near] == labels[:, None]).mean())
