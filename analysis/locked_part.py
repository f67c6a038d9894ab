"""What the one reading of the locked test part leaves beside a model, so that every figure is drawn without reading it again.

Written at a retrain into the model's folder as `predictions.safetensors`: labels and predictions of every image,
probabilities where the classifier has them, the images that it was least certain of, and what two of its layers make of a
sample of the images. Reading it runs no code from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.core.errors import UsageError, first_line

if TYPE_CHECKING:
    from paretune.data.dataset import Data
    from paretune.models.contract import Classifier

FILE = "predictions.safetensors"
N_HARDEST = 25
MOST_SAMPLES = 2000  # of the embeddings
MOST_DIMENSIONS = 50
EMBEDDING = "embedding."


@dataclass(frozen=True)
class Kept:
    """The arrays of one reading; `n` images of the locked part, in its order."""

    labels: np.ndarray  # (n,) int64, true classes
    predicted: np.ndarray  # (n,) int64
    probabilities: np.ndarray | None  # (n, n_classes) float32
    hardest: np.ndarray  # (n_hardest,) int64: images of highest entropy, the highest first; empty without probabilities
    hardest_images: np.ndarray  # (n_hardest, channels, height, width) float32 in [0, 1]
    sample: np.ndarray  # (n_sample,) int64: images of the embeddings, the classes in proportion
    embeddings: dict[str, np.ndarray]  # layer -> (n_sample, n_dimensions) float32; from the pixels' side to the output's

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return everything as named arrays."""
        arrays = {name: getattr(self, name) for name in ("labels", "predicted", "hardest", "hardest_images", "sample")}
        if self.probabilities is not None:
            arrays["probabilities"] = self.probabilities
        return arrays | {f"{EMBEDDING}{layer}": values for layer, values in self.embeddings.items()}


def keep(classifier: Classifier, data: Data, *, seed: int = 0) -> Kept:
    """Read the locked part once with a fitted classifier.

    Args:
        seed: draws the sample of the embeddings, and starts the PCA of layers wider than MOST_DIMENSIONS.
    """
    x, labels = data.test.x, data.test.y.numpy(force=True)
    probabilities = probabilities_of(classifier, x)
    hardest = np.zeros(0, dtype=np.int64)
    if probabilities is not None:
        hardest = np.argsort(-entropies(probabilities), kind="stable")[:N_HARDEST]
    sample = stratified_sample(labels, MOST_SAMPLES, seed)
    return Kept(
        labels=labels.astype(np.int64),
        predicted=np.asarray(classifier.predict(x), dtype=np.int64),
        probabilities=probabilities,
        hardest=hardest,
        hardest_images=x[hardest].numpy(force=True),
        sample=sample,
        embeddings={layer: reduced(classifier.activations(x[sample], layer), seed) for layer in two_layers(classifier.layers())},
    )


def probabilities_of(classifier: Classifier, x: Any) -> np.ndarray | None:
    """Return class probabilities (n, n_classes) as float32; None where the classifier was trained without them."""
    try:
        return np.asarray(classifier.predict_proba(x), dtype=np.float32)
    except UsageError:
        return None


def entropies(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of each row (n, n_classes) in bits (n,)."""
    from scipy.stats import entropy

    return np.asarray(entropy(probabilities.astype(np.float64), base=2, axis=1))


def stratified_sample(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return indices (n_sample,) of at most so many images, in order, with the classes in proportion.

    Every k-th image of a shuffled list that is sorted by class: systematic sampling.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    if len(labels) <= most:
        return np.sort(order)
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[np.linspace(0, len(order), most, endpoint=False).astype(np.int64)])


def two_layers(names: Sequence[str]) -> list[str]:
    """Choose an intermediate layer and the last one before the output, by the names that a classifier's layers carry.

    A block (`conv_1`, `hidden_2`) counts as a whole, by its last layer that does something when predicting.
    """
    blocks: dict[str, str] = {}
    for name in names:
        if name not in ("flatten", "output") and not name.endswith("dropout"):
            blocks[name.partition(".")[0]] = name
    ends = list(blocks.values())
    if len(ends) < 2 and names[-1] not in ends:
        ends.append(names[-1])
    return list(dict.fromkeys([ends[(len(ends) - 1) // 2], ends[-1]]))


def reduced(activations: np.ndarray, seed: int) -> np.ndarray:
    """Return flat activations (n, n_dimensions) as float32, by their principal components where they are too many."""
    flat = activations.reshape(len(activations), -1)
    n_components = min(MOST_DIMENSIONS, len(flat))
    if flat.shape[1] <= n_components:
        return np.ascontiguousarray(flat, dtype=np.float32)
    from sklearn.decomposition import PCA

    return PCA(n_components, svd_solver="randomized", random_state=seed).fit_transform(flat).astype(np.float32)


def save_kept(kept: Kept, directory: Path | str) -> Path:
    """Write what was kept into a model's folder."""
    from safetensors.numpy import save_file

    path = Path(directory) / FILE
    arrays = {name: np.ascontiguousarray(array) for name, array in kept.to_arrays().items()}
    try:
        save_file(arrays, path, metadata={"layers": json.dumps(list(kept.embeddings))})
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): free some space or choose another folder.") from None
    return path


def load_kept(directory: Path | str) -> Kept:
    """Read what was kept beside a model.

    Raises:
        UsageError: if it is not there, or broken.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(directory) / FILE
    if not path.is_file():
        raise UsageError(f"{directory} keeps no predictions of the locked part ({FILE}): retrain the run into a new folder.")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
            layers = json.loads((file.metadata() or {})["layers"])
        return Kept(
            **{name: arrays[name] for name in ("labels", "predicted", "hardest", "hardest_images", "sample")},
            probabilities=arrays.get("probabilities"),
            embeddings={layer: arrays[f"{EMBEDDING}{layer}"] for layer in layers},
        )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = first_line(error)
        raise UsageError(f"{path} is broken ({reason}): retrain the run into a new folder.") from None
