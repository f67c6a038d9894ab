"""Map what a layer of a saved model makes of its images: t-SNE or principal components, as a figure and as a table of points.

usage: python -m analysis.embed MODEL --layer NAME [--layer NAME …] [--method tsne|pca] [--split test|holdout|train]

Without --layer it lists the model's layers. Wide layers are first brought to 50 principal components; t-SNE is openTSNE's.
Source: van der Maaten and Hinton 2008.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.analysis.figures.models import maps_figure, projected
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.locked_part import reduced, stratified_sample
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.data.dataset import load_data
from paretune.models.locked_readings import on_record
from paretune.models.programs import load_programs
from paretune.models.saved_models import data_options_of, load
from paretune.models.seen_images import check_same_part

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("test", "holdout", "train")


@dataclass(frozen=True)
class Embedding:
    """What layers make of a stratified sample of one part of the data."""

    layers: dict[str, np.ndarray]  # layer -> (n, n_dimensions), at most 50 dimensions
    labels: np.ndarray  # (n,) classes
    images: np.ndarray  # (n,) indices within the part
    class_names: list[str]


def embeddings(model: Any, data: Any, layers: Sequence[str], *, split: str = "test", most: int = 2000, seed: int = 0) -> Embedding:
    """Return what layers of a fitted model make of at most so many images of a part.

    Raises:
        UsageError: if a layer is not there, or the data have no such part.
    """
    samples = getattr(data, split)
    if samples is None:
        raise UsageError(f"{data.name} has no {split} part here, as the model was trained on all: use --split=test or train.")
    for layer in layers:
        model.check_layer(layer)
    labels = samples.y.numpy(force=True)
    sample = stratified_sample(labels, most, seed)
    found = {layer: reduced(model.activations(samples.x[sample], layer), seed) for layer in layers}
    return Embedding(found, labels[sample], sample, list(data.class_names))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m analysis.embed", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL", help="folder of a saved model")
    parser.add_argument("--layer", action="append", default=[], metavar="NAME", help="a layer (repeatable: side by side)")
    parser.add_argument("--method", choices=["tsne", "pca"], default="tsne", help="tsne (default) or pca")
    parser.add_argument("--data", help="another set of the same classes (default: the one it was trained on)")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which images (default: the locked test part)")
    parser.add_argument("--images", type=int, default=2000, metavar="N", help="at most this many images, the classes in proportion")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and of t-SNE (default: 0)")
    parser.add_argument(
        "--to", metavar="FILE", help="figure to write; a .csv of the points stands beside it (default: embedding.png)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_program()
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        load_programs(options.program)
        if options.images < 3:
            raise UsageError(f"--images must be at least 3. Got {options.images}.")
        model = load(options.model, device=options.device)
        if not options.layer:
            print("\n".join(["layers, from the pixels to the output; give one with --layer:", *model.layers()]))
            return 0
        for layer in options.layer:
            model.check_layer(layer)
        data = load_data(data_options_of(options.model, options.data))
        if options.split != "train":
            check_same_part(options.model, data, options.split)
        look = on_record(options.model, data.fingerprints["test"], "analysis.embed") if options.split == "test" else nullcontext()
        with look:
            found = embeddings(model, data, options.layer, split=options.split, most=options.images, seed=options.seed)
        for path in write(found, Path(options.to or "embedding.png"), method=options.method, seed=options.seed):
            print(f"wrote {path}")
    return 0


def write(found: Embedding, path: Path, *, method: Any = "tsne", seed: int = 0) -> tuple[Path, Path]:
    """Draw the maps into a file, and write their points beside it as CSV: layer, image, class, x, y."""
    import pandas as pd

    points = {layer: projected(values, method, seed=seed) for layer, values in found.layers.items()}
    figure = save_figure(maps_figure(points, found.labels, found.class_names, method=method), path)
    names = [found.class_names[label] for label in found.labels]
    tables = [
        pd.DataFrame({"layer": layer, "image": found.images, "class": names, "x": plane[:, 0], "y": plane[:, 1]})
        for layer, plane in points.items()
    ]
    table = path.with_suffix(".csv")
    pd.concat(tables).to_csv(table, index=False)
    return figure, table


if __name__ == "__main__":
    sys.exit(main())
