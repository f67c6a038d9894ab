"""What every study shares: where it writes, its sweeps and models, and what it found.

A study's grid is a sweep file below `sweeps/studies/`, searched as any other; a killed study goes on where it was. Its reduced
form fixes a few values to smaller ones, and every figure says which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.figures.runs import save_figure
from paretune.analysis.findings.confidence import mean_interval
from paretune.analysis.history import load_runs
from paretune.analysis.retrain import config_of, fit_again
from paretune.core.errors import UsageError, did_you_mean
from paretune.core.folders import ROOT
from paretune.core.progress import Progress
from paretune.search.command_line import main as search

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paretune.analysis.sources.run_record import RunRecord
    from paretune.data.dataset import Data

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Line:
    """One line of a study's table: what was measured, the document's figure, ours, and whether ours reaches it."""

    what: str
    document: str
    ours: str
    reached: bool | None = None  # None: the document gives no figure to reach


@dataclass(frozen=True)
class Drawing:
    """A figure that was saved, and the words below it."""

    file: Path
    caption: str
    width: str = "100%"


@dataclass
class Study:
    """One study while it runs: what it is, where it writes, and what it has found."""

    name: str
    title: str
    to: Path  # folder of its figures and its page
    runs: Path
    models: Path
    device: str = "auto"
    quick: bool = False
    backbone: str | None = None  # C5: a network of torchvision instead of the one trained here
    reductions: list[str] = field(default_factory=list)  # what the reduced form changes, in words
    lines: list[Line] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    layer_rows: list[list[str]] = field(default_factory=list)

    def sweep(self, file: str, **smaller: Any) -> list[RunRecord]:
        """Search `sweeps/studies/FILE.yaml` and return its finished runs.

        Args:
            smaller: values that the reduced form fixes instead of the file's.
        """
        name = f"study-{file}{'-quick' if self.quick else ''}"
        reduced = self.less(smaller)
        fixed = [f"--{key}={value}" for key, value in reduced.items()]
        path = ROOT / "sweeps" / "studies" / f"{file}.yaml"
        search([str(path), f"--name={name}", f"--runs={self.runs}", f"--device={self.device}", *fixed])
        return [run for run in load_runs(self.runs / name) if run.state == "finished"]

    def model(self, run: RunRecord, label: str = "") -> tuple[Any, Data]:
        """Train a run's configuration once more, wholly, and return its model with the data; a finished one is loaded.

        The same seed and images train the same model as the run's last epoch was of.
        """
        return self.trained(config_of(run), int(run.columns["epoch"].max()), label or self.name)

    def trained(self, values: Mapping[str, Any], n_epochs: int, label: str) -> tuple[Any, Data]:
        """Train a configuration on all but the test images; return the model, which is kept as `study-LABEL`, and the data."""
        part = self.folder(label)
        train_size = values.get("train_size")
        with Progress(part.name, n_epochs, unit="epoch", every=10) as progress:
            classifier, data, _ = fit_again(
                values, n_epochs, device=self.device, part=part, progress=progress, train_size=train_size
            )
        return classifier, data

    def folder(self, label: str) -> Path:
        """Return where the model of a label is kept."""
        return self.models / f"study-{label}{'-quick' if self.quick else ''}"

    def less(self, smaller: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the values of the reduced form, noted for the figures; none for the full one."""
        if not self.quick:
            return {}
        for key, value in smaller.items():
            if f"{key} {value}" not in self.reductions:
                self.reductions.append(f"{key} {value}")
        return smaller

    def draw(self, figure: Figure, name: str, caption: str, *, width: str = "100%") -> Path:
        """Save a figure with the reduction written on it, and keep it for the page."""
        if self.quick:
            figure.supxlabel(f"reduced form: {self.reduction}", fontsize=7, color="#555555")
        file = save_figure(figure, self.to / f"{self.name}-{name}.png")
        self.drawings.append(Drawing(file, caption, width))
        return file

    def line(self, what: str, document: str, ours: str, *, reached: bool | None = None) -> None:
        """Add a line to the table and print it; figures of the reduced form reach nothing."""
        line = Line(what, document, ours, None if self.quick or reached is None else bool(reached))  # of numpy's booleans too
        self.lines.append(line)
        print(f"{self.name}: {what}: {ours} (document: {document})", flush=True)

    def layers(self, table: str) -> None:
        """Keep the table of a network's layers, as `--summary` prints it, for the page."""
        rows = [line.split() for line in table.splitlines() if line.strip("-")]
        self.layer_rows = [[*row[:1], *([""] * (4 - len(row))), *row[1:]] for row in rows]
        print(table, flush=True)

    def note(self, text: str) -> None:
        """Add a paragraph."""
        self.notes.append(text)
        print(f"{self.name}: {text}", flush=True)

    @property
    def reduction(self) -> str:
        """What the reduced form changes, in words."""
        return ", ".join(self.reductions)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; figures by their names in the folder."""
        return {
            "name": self.name,
            "title": self.title,
            "quick": self.quick,
            "reduction": self.reduction,
            "lines": [vars(line) for line in self.lines],
            "notes": self.notes,
            "layers": self.layer_rows,
            "figures": [{**vars(drawing), "file": drawing.file.name} for drawing in self.drawings],
        }


@dataclass(frozen=True)
class Entry:
    """A study as it is listed: its title, the data it reads, and the function `MODULE:NAME` that does it."""

    title: str
    data: str
    function: str


STUDIES = {
    "f1": Entry("A sigmoid net on Fashion-MNIST at two learning rates", "fashion_mnist", "studies.feed_forward:f1"),
    "f2": Entry("Three nets at three learning rates", "fashion_mnist", "studies.feed_forward:f2"),
    "f3": Entry("Dropout, 60 epochs", "fashion_mnist", "studies.feed_forward:f3"),
    "f4": Entry("The classes of F3's net", "fashion_mnist", "studies.feed_forward:f4"),
    "f5": Entry("The images that F3's net is least certain of", "fashion_mnist", "studies.feed_forward:f5"),
    "f6": Entry("A convolutional net of 10 channels", "fashion_mnist", "studies.feed_forward:f6"),
    "e1": Entry("An autoencoder of MNIST", "mnist", "studies.autoencoders:e1"),
    "e2": Entry("Learning rate and momentum: 361 autoencoders", "mnist", "studies.autoencoders:e2"),
    "e3": Entry("A coarser grid, 150 epochs", "mnist", "studies.autoencoders:e3"),
    "e4": Entry("Width of the hidden layer", "mnist", "studies.autoencoders:e4"),
    "e5": Entry("Reconstructions of test image 485", "mnist", "studies.autoencoders:e5"),
    "c1": Entry("A simple convolutional net on MNIST", "mnist", "studies.convolutional:c1"),
    "c2": Entry("The confusions of C1's net", "mnist", "studies.convolutional:c2"),
    "c3": Entry("Maps of two layers of C1's net", "mnist", "studies.convolutional:c3"),
    "c4": Entry("AlexNet for CIFAR-10", "cifar10", "studies.convolutional:c4"),
    "c5": Entry("Transfer to cats and dogs", "cifar10", "studies.transfer:c5"),
    "k1": Entry("Principal components of faces", "faces", "studies.faces:k1"),
    "k2": Entry("Error of the faces' reconstruction", "faces", "studies.faces:k2"),
    "k3": Entry("Clusters of mouths", "faces", "studies.faces:k3"),
    "k4": Entry("Clusters of Fashion-MNIST", "fashion_mnist", "studies.clusters:k4"),
    "k5": Entry("Softmax regression by hand", "fashion_mnist", "studies.by_hand:k5"),
    "k6": Entry("One training function, any optimizer", "fashion_mnist", "studies.by_hand:k6"),
    "k7": Entry("Two convolutions against K5 and K6", "fashion_mnist", "studies.by_hand:k7"),
}


def entry_of(name: str) -> Entry:
    """Return a study by its name, in either case.

    Raises:
        UsageError: if there is none of that name.
    """
    if name.lower() not in STUDIES:
        near = did_you_mean(name.lower(), STUDIES) or f"; there are {', '.join(STUDIES)}."
        raise UsageError(f"there is no study {name!r}{near}")
    return STUDIES[name.lower()]


def function_of(entry: Entry) -> Callable[[Study], None]:
    """Import the function that does a study."""
    import importlib

    module, _, name = entry.function.partition(":")
    return getattr(importlib.import_module(module), name)


def last(runs: Sequence[RunRecord], metric: str) -> np.ndarray:
    """Return a metric at the last epoch of each run (n_runs,)."""
    return np.array([run.columns[metric][-1] for run in runs])


def mean_with_interval(values: Sequence[float] | np.ndarray, digits: int = 4, limits: tuple[float, float] = (0.0, 1.0)) -> str:
    """Return the mean of several seeds with Student's 95 % interval, cut at the limits of the values, and these, in words."""
    array = np.asarray(values, dtype=np.float64)
    mean = f"{array.mean():.{digits}f}"
    if len(array) < 2:
        return mean
    low, high = mean_interval(array, limits)
    each = ", ".join(f"{value:.{digits}f}" for value in array)
    return f"{mean} [{low:.{digits}f}, {high:.{digits}f}] ({each})"
