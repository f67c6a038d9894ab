"""K1 to K3: principal components and clusters of faces (the document 000, part 1)."""

from __future__ import annotations

import numpy as np

from paretune.analysis.figures.galleries import pictures_figure
from paretune.analysis.figures.runs import COLORS, MARKERS, new_figure, styled
from paretune.core.errors import UsageError
from paretune.data.dataset import data_root
from paretune.data.pictures import read_pictures
from studies.base import Study

SHAPE = (44, 28)  # rows, columns
MOUTH = (slice(30, 40), slice(5, 23))
N_CLUSTERS = 20
SEED = 0


def faces(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Return the faces (n, 44, 28) and the five test faces (5, 44, 28), in [0, 1].

    Raises:
        UsageError: if they are not below DATA_ROOT.
    """
    root = data_root() / "faces"
    parts = []
    for name in ("images", "test"):
        files = sorted((root / name).glob("*.*"), key=lambda file: int("".join(filter(str.isdigit, file.stem)) or 0))
        if not files:
            raise UsageError(
                f"{root / name} holds no picture: put faces, 44 x 28 grey, below DATA_ROOT as faces/images and faces/test."
            )
        if name == "images":
            files = files[: int(study.less({"faces": 500}).get("faces", len(files)))]
        parts.append(read_pictures(files, (SHAPE[1], SHAPE[0]), 1)[:, 0].astype(np.float64) / 255)
    return parts[0], parts[1]


def k1(study: Study) -> None:
    """Show the mean face and the first ten principal components."""
    from sklearn.decomposition import PCA

    images, _ = faces(study)
    flat = images.reshape(len(images), -1)
    found = PCA(10, random_state=SEED).fit(flat)
    share = found.explained_variance_ratio_
    pictures = {f"component {i + 1}\n{share[i]:.1%}": found.components_[i].reshape(SHAPE) for i in range(10)}
    study.draw(pictures_figure({"mean face": found.mean_.reshape(SHAPE)}, columns=1), "mean", "The mean face.", width="22%")
    study.draw(
        pictures_figure(pictures, columns=5, centred=True),
        "components",
        "The first ten principal components (zero is middle grey) and the share of the variance that each explains.",
        width="80%",
    )
    study.line("variance that ten components explain", "-", f"{share.sum():.3f}")
    spread = flat.std(axis=0)
    study.line("standard deviation of the pixels, lowest and highest", "-", f"{spread.min():.3f}, {spread.max():.3f}")
    study.note(
        "The pixels are centred and not scaled: they share one unit, the grey level, and a pixel that varies more says "
        "more about the faces. Scaling each to deviation 1 would give the quiet pixels of the border the weight of eyes"
        " and mouth."
    )


@styled
def k2(study: Study) -> None:
    """Measure the reconstruction's error against the number of components."""
    from sklearn.decomposition import PCA

    images, test = faces(study)
    flat, held = images.reshape(len(images), -1), test.reshape(len(test), -1)
    most = min(flat.shape)
    counts = np.unique(np.geomspace(2, most, 24).round().astype(int))
    found = PCA(most, svd_solver="full").fit(flat)
    scores, held_scores = found.transform(flat), found.transform(held)
    rmsd = np.array([root_mean_square(flat - (scores[:, :n] @ found.components_[:n] + found.mean_)) for n in counts])
    each = np.array(
        [
            [root_mean_square(row - (code[:n] @ found.components_[:n] + found.mean_)) for n in counts]
            for row, code in zip(held, held_scores, strict=True)
        ]
    )
    figure, (axes,) = new_figure(6.4, 3.8)
    axes.plot(counts, rmsd, "-", color="black", lw=2, label=f"the {len(flat):,} faces")
    for place, line in enumerate(each):
        style = ("-", "--", "-.", ":", (0, (1, 4)))[place]
        axes.plot(
            counts, line, ls=style, color=COLORS[place % 4], marker=(*MARKERS, "v")[place], ms=3, label=f"test face {place + 1}"
        )
    axes.set_xscale("log")
    axes.set_xlabel("principal components")
    axes.set_ylabel("RMSD per pixel (grey levels from 0 to 1)")
    axes.legend(fontsize=8)
    study.draw(
        figure, "rmsd", f"Root mean square difference of the reconstruction, {len(counts)} numbers of components.", width="75%"
    )
    study.line(
        "numbers of components, lines",
        "at least 20, 6",
        f"{len(counts)}, {1 + len(each)}",
        reached=len(counts) >= 20 and len(each) == 5,
    )
    study.line(
        f"RMSD of the set with 2, {counts[len(counts) // 2]} and {most} components",
        "-",
        f"{rmsd[0]:.4f}, {rmsd[len(counts) // 2]:.4f}, {rmsd[-1]:.1e}",
    )
    study.line(f"RMSD of the test faces with {most} components", "-", ", ".join(f"{value:.1e}" for value in each[:, -1]))
    if most == flat.shape[1]:
        study.note(
            "With as many components as pixels the components are a basis of all images, so that any face, seen or not, is "
            "given back exactly; with fewer, faces that the components were not computed from fall behind."
        )
    else:
        study.note(
            "There are fewer faces than pixels: with as many components as faces their own reconstruction is exact, that of"
            " the test faces is not."
        )


@styled
def k3(study: Study) -> None:
    """Cluster the mouths; project the faces before and after a component is replaced by a cluster's own direction."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.metrics import silhouette_score

    images, _ = faces(study)
    flat = images.reshape(len(images), -1)
    labels = KMeans(N_CLUSTERS, n_init=4, random_state=SEED).fit_predict(images[:, *MOUTH].reshape(len(images), -1))
    counts = np.bincount(labels, minlength=N_CLUSTERS)
    means = np.stack([flat[labels == cluster].mean(axis=0) for cluster in range(N_CLUSTERS)])
    pictures = {f"cluster {cluster}\n{counts[cluster]:,} faces": means[cluster].reshape(SHAPE) for cluster in range(N_CLUSTERS)}
    study.draw(pictures_figure(pictures, columns=10), "clusters", "The mean face of each of the 20 clusters of mouths.")
    center = flat.mean(axis=0)
    mouths = (means - center).reshape(-1, *SHAPE)[:, *MOUTH].reshape(N_CLUSTERS, -1)
    usable = counts >= max(10, len(flat) // 100)
    chosen = int(np.argmax(np.where(usable, np.linalg.norm(mouths, axis=1), -np.inf)))
    study.note(
        f"Cluster {chosen} is looked at: of those with at least {max(10, len(flat) // 100)} faces its mouth differs most"
        f" from the mean one."
    )
    own = labels == chosen
    components = PCA(2, random_state=SEED).fit(flat).components_
    direction = means[chosen] - center
    planes = {
        "first two components": components,
        "second one replaced": np.stack([components[0], direction / np.linalg.norm(direction)]),
    }
    figure, panels = new_figure(8.4, 4.0, 2)
    separations = {}
    for axes, (title, axis) in zip(panels, planes.items(), strict=True):
        points = (flat - center) @ axis.T
        separations[title] = float(silhouette_score(points, own)), separation(points[:, 1], own)
        axes.scatter(points[~own, 0], points[~own, 1], s=4, color="#bbbbbb", marker="o", lw=0, label="other clusters")
        axes.scatter(points[own, 0], points[own, 1], s=14, color=COLORS[1], marker="^", lw=0, label=f"cluster {chosen}")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("component 1")
        axes.set_ylabel("component 2" if title.startswith("first") else "cluster mean - data mean")
        axes.legend(fontsize=8)
    study.draw(figure, "projection", f"The faces in two dimensions, cluster {chosen} marked.")
    for title, (silhouette, distance) in separations.items():
        study.line(
            f"{title}: silhouette of the cluster; distance of the means along the second axis, in deviations",
            "-",
            f"{silhouette:.3f}; {distance:.2f}",
        )
    study.note(
        "To part the cluster further, project on the direction of Fisher's discriminant, which divides the difference "
        "of the means by the spread within, or compute the components of the mouth's pixels alone."
    )


def separation(values: np.ndarray, own: np.ndarray) -> float:
    """Return how far apart the means of two groups are, in pooled standard deviations."""
    pooled = np.sqrt((values[own].var(ddof=1) + values[~own].var(ddof=1)) / 2)
    return float(abs(values[own].mean() - values[~own].mean()) / pooled)


def root_mean_square(differences: np.ndarray) -> float:
    """Return the root of the mean square of all values."""
    return float(np.sqrt(np.mean(differences**2)))
