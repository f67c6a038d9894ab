"""C5: from a net of eight classes to a small set of cats and dogs (the document 004)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from studies.base import SEEDS, Study, mean_with_interval

if TYPE_CHECKING:
    from trainers.data import Data

SMALL = ["cat", "dog"]
OTHERS = ["airplane", "automobile", "bird", "deer", "frog", "horse", "ship", "truck"]
LAYER = "hidden_2.activation"  # the last one before the output
DOCUMENT = {"from scratch": 0.72, "features and SVM": 0.905, "fine-tuned": 0.925, "fine-tuned with augmentation": 0.96}


def c5(study: Study) -> None:
    """Train on few cats and dogs from scratch, on features of a net of the other classes, and by fine-tuning it."""
    from analysis.confidence import wilson_interval
    from analysis.embed import embeddings
    from analysis.model_figures import maps_figure, projected

    smaller = study.less({"backbone epochs": 2, "backbone images": 2000, "epochs": 2, "images": 200, "seeds": 1})
    common = {"classifier": "ann", "preset": "alexnet", "data": "cifar10", "holdout": 0.0}
    backbone_epochs, epochs = int(smaller.get("backbone epochs", 15)), int(smaller.get("epochs", 30))
    seeds = SEEDS[: int(smaller.get("seeds", len(SEEDS)))]
    backbone, __ = study.trained(
        {**common, "classes": OTHERS, "epochs": backbone_epochs, "seed": 0, "train_size": smaller.get("backbone images")},
        backbone_epochs,
        "c5-backbone",
    )
    folder = study.models / f"study-c5-backbone{'-quick' if study.quick else ''}"
    small = {**common, "classes": SMALL, "epochs": epochs, "train_size": int(smaller.get("images", 2000)), "batch_size": 64}
    tuned = {**small, "start_from": str(folder), "learning_rate": 1e-4}
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
            label = f"c5-{way.replace(' ', '-')}-{seed}"
            model, data = study.trained({**values, "seed": seed}, epochs, label)
            reached.setdefault(way, []).append(float((model.predict(data.test.x) == data.test.y.numpy()).mean()))
            if seed == seeds[0] and way != "head fine-tuned":
                found = embeddings(model, data, [LAYER])
                maps[way], labels = projected(found.layers[LAYER]), found.labels
            if way == "from scratch" and seed == seeds[0]:
                reached["features and SVM"] = [features_and_svm(backbone, data)]
                maps["features and SVM"] = projected(embeddings(backbone, data, [LAYER]).layers[LAYER])
    n = len(labels)
    for way, accuracies in reached.items():
        low, high = wilson_interval(float(np.mean(accuracies)), n)
        document = f"{DOCUMENT[way]:.1%}" if way in DOCUMENT else "-"
        ours = f"{mean_with_interval(accuracies)}; of {n} images {low:.4f} to {high:.4f}"
        good = bool(np.mean(accuracies) >= DOCUMENT[way]) if way in DOCUMENT else None
        study.line(f"{way}: test accuracy", document, ours, reached=good)
    study.note(
        "The backbone is C4's net, trained here on the eight other classes of CIFAR-10; the document's was trained on ImageNet, a "
        "far larger set of larger images, and its cats and dogs are other pictures: its accuracies are not to be expected."
    )
    study.note(
        f"The small set has {ways['fine-tuned']['train_size']:,} training images. The second interval of each line is Wilson's, "
        "for the number of test images alone."
    )
    figure = maps_figure(maps, labels, SMALL)
    study.draw(figure, "maps", f"t-SNE of the last layer before the output over {n} test images, seed {seeds[0]}.")


def features_and_svm(backbone: Any, data: Data) -> float:
    """Return the test accuracy of an SVM on what the backbone's last hidden layer makes of the images."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    features, held = (backbone.activations(part.x, LAYER) for part in (data.train, data.test))
    machine = make_pipeline(StandardScaler(), SVC())
    found = GridSearchCV(machine, {"svc__C": [0.1, 1.0, 10.0]}, cv=3).fit(features, data.train.y.numpy())  # by the training images
    return float(found.score(held, data.test.y.numpy()))
