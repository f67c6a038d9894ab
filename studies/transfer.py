"""C5: from a net of eight classes to a small set of cats and dogs (the document 004)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.embed import embeddings
from paretune.analysis.figures.models import maps_figure, projected
from paretune.analysis.findings.confidence import wilson_interval
from paretune.models.run_config import configure
from paretune.trainers.ann import Ann
from studies.base import SEEDS, Study, mean_with_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paretune.data.dataset import Data

SMALL = ["cat", "dog"]
OTHERS = ["airplane", "automobile", "bird", "deer", "frog", "horse", "ship", "truck"]
IMAGENET = "imagenet"
LAYER = "hidden_2.activation"  # the last one before the output
DOCUMENT = {"from scratch": 0.72, "features and SVM": 0.905, "fine-tuned": 0.925, "fine-tuned with augmentation": 0.96}


def c5(study: Study) -> None:
    """Train on few cats and dogs from scratch, on features of a net of the other classes, and by fine-tuning it."""
    smaller = study.less({"backbone epochs": 2, "backbone images": 2000, "epochs": 2, "images": 200, "seeds": 1})
    epochs = int(smaller.get("epochs", 30))
    seeds = SEEDS[: int(smaller.get("seeds", len(SEEDS)))]
    net, start, layer = backbone_of(study, smaller)
    images = {"data": "cifar10", "holdout": 0.0, "classes": SMALL, "train_size": int(smaller.get("images", 2000))}
    small = {"classifier": "ann", **net, **images, "epochs": epochs, "batch_size": 64}
    tuned = {**small, **start, "learning_rate": 1e-4}
    changed = {"augment": True, "flip": True, "translate": 0.1, "scale": 0.1, "rotate": 10.0}
    ways: dict[str, dict[str, Any]] = {
        "from scratch": {**small, "learning_rate": 3e-4},
        "head fine-tuned": {**tuned, "train_only": ["output"], "learning_rate": 1e-3},
        "fine-tuned": tuned,
        "fine-tuned with augmentation": {**tuned, **changed},
    }
    reached: dict[str, list[float]] = {}
    maps: dict[str, np.ndarray] = {}
    labels = np.zeros(0, dtype=np.int64)
    for way, values in ways.items():
        for seed in seeds:
            label = f"c5-{f'{study.backbone}-' if study.backbone else ''}{way.replace(' ', '-')}-{seed}"
            model, data = study.trained({**values, "seed": seed}, epochs, label)
            reached.setdefault(way, []).append(float((model.predict(data.test.x) == data.test.y.numpy()).mean()))
            if seed == seeds[0] and way != "head fine-tuned":
                found = embeddings(model, data, [layer])
                maps[way], labels = projected(found.layers[layer]), found.labels
            if way == "from scratch" and seed == seeds[0]:
                backbone = untrained(tuned, data, study.device)
                reached["features and SVM"] = [features_and_svm(backbone, data, layer)]
                maps["features and SVM"] = projected(embeddings(backbone, data, [layer]).layers[layer])
    n = len(labels)
    for way, accuracies in reached.items():
        low, high = wilson_interval(float(np.mean(accuracies)), n)
        document = f"{DOCUMENT[way]:.1%}" if way in DOCUMENT else "-"
        ours = f"{mean_with_interval(accuracies)}; of {n} images {low:.4f} to {high:.4f}"
        good = bool(np.mean(accuracies) >= DOCUMENT[way]) if way in DOCUMENT else None
        study.line(f"{way}: test accuracy", document, ours, reached=good)
    study.note(
        f"The backbone is torchvision's {study.backbone} with its ImageNet weights; the document's pictures are others."
        if study.backbone
        else "The backbone is C4's net, trained here on the eight other classes of CIFAR-10; the document's was trained on "
        "ImageNet, a far larger set of larger images, and its pictures are others: its accuracies are not to be expected. "
        "--backbone resnet18 takes a network of torchvision with its ImageNet weights instead."
    )
    study.note(
        f"The small set has {ways['fine-tuned']['train_size']:,} training images. The second interval of each line is Wilson's, "
        "for the number of test images alone."
    )
    figure = maps_figure(maps, labels, SMALL)
    study.draw(figure, "maps", f"t-SNE of the last layer before the output over {n} test images, seed {seeds[0]}.")


def backbone_of(study: Study, smaller: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return the values of a net, those that start it from a trained backbone, and the layer that holds the features.

    Without a network of torchvision the backbone is trained here.
    """
    if study.backbone:
        return {"backbone": study.backbone, "hidden": []}, {"start_from": IMAGENET, "normalize": IMAGENET}, "backbone.features"
    net = {"preset": "alexnet"}
    epochs = int(smaller.get("backbone epochs", 15))
    images = {"data": "cifar10", "holdout": 0.0, "classes": OTHERS, "train_size": smaller.get("backbone images")}
    study.trained({"classifier": "ann", **net, **images, "epochs": epochs, "seed": 0}, epochs, "c5-backbone")
    return net, {"start_from": str(study.folder("c5-backbone"))}, LAYER


def untrained(values: Mapping[str, Any], data: Data, device: str) -> Any:
    """Return a configuration's model as its training begins."""
    config, _, _ = configure(Ann, values)
    return Ann(config, device=device).initialize(data)


def features_and_svm(backbone: Any, data: Data, layer: str) -> float:
    """Return the test accuracy of an SVM on what the backbone's last hidden layer makes of the images."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    features, held = (backbone.activations(part.x, layer) for part in (data.train, data.test))
    machine = make_pipeline(StandardScaler(), SVC())
    found = GridSearchCV(machine, {"svc__C": [0.1, 1.0, 10.0]}, cv=3).fit(features, data.train.y.numpy())  # by the training images
    return float(found.score(held, data.test.y.numpy()))
