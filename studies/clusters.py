"""K4: clusters of Fashion-MNIST on the pixels and on two principal components (the document 000, part 1 d)."""

from __future__ import annotations

import numpy as np

from paretune.analysis.figures.models import maps_figure
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from studies.base import Study

SEED = 0


def k4(study: Study) -> None:
    """Colour the projection by the clusters of the pixels, by those of the projection, and by the true classes."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.metrics import adjusted_rand_score

    smaller = study.less({"images": 6000})
    data = load_data(DataOptions.from_dict({"data": "fashion_mnist", "holdout": 0.0, "train_size": smaller.get("images")}))
    flat, true = data.train.x.flatten(1).numpy(), data.train.y.numpy()
    projection = PCA(2, random_state=SEED).fit(flat)
    points = projection.transform(flat)
    by_pixels = KMeans(10, n_init=4, random_state=SEED).fit_predict(flat)
    by_points = KMeans(10, n_init=4, random_state=SEED).fit_predict(points)
    study.line("variance that two components explain", "-", f"{projection.explained_variance_ratio_.sum():.3f}")
    shown = np.random.default_rng(SEED).permutation(len(flat))[:2000]
    clusters = [str(number) for number in range(10)]
    for name, title, labels, names in (
        ("pixels", "clusters of the pixels", by_pixels, clusters),
        ("plane", "clusters in the plane", by_points, clusters),
        ("classes", "true classes", true, data.class_names),
    ):
        if labels is not true:
            study.line(f"{title}: adjusted Rand index with the true classes", "-", f"{adjusted_rand_score(true, labels):.3f}")
        figure = maps_figure({title: points[shown]}, labels[shown], names, method="pca")
        study.draw(
            figure, name, f"{len(shown):,} of the images on the first two principal components, by the {title}.", width="60%"
        )
    study.note(
        "Clusters in the plane cut it into cells; those of the pixels overlap there, as the components left out part "
        "them. More components, or a map that keeps neighbours together (t-SNE), part the classes further."
    )
