"""Milliseconds from the end of a stroke to each model's answer on the page, in a real Chromium, beside an empty request.

Sixty digits are drawn with the mouse (tests/demo/strokes.py: SYNTHETIC, written down by hand, not drawn by people), and the page's
own clock is read: from the pen's lift to the answer shown, with picture, request, form, model and drawing of the bars. Before each
stroke the page sends an empty request, which is "theirs": what no model could be faster than. Also: how many of the sixty each
model reads rightly.

    python benchmarks/painter.py [--json] [--models PATH …] [--n-train 60000] [--quick]

Goals on 2 cores: 95 of 100 answers of an ANN within 50 ms, of an SVM trained on 60,000 images within 100 ms; the best ANN reads at
least 0.9 of the drawings. Without --models it trains the simple CNN for one epoch and an rbf SVM first (4 minutes); --quick does so
on 3,000 images. Needs Chromium.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

import numpy as np

from benchmarks._result import Result, has_mnist, how_many, show

GOALS = {"ann": 50.0, "svm": 100.0}  # milliseconds
FULL = 60_000
EMPTY = (
    "async () => { const begin = performance.now(); await fetch('api/empty', {method: 'POST'}); return performance.now() - begin }"
)
ANSWERS = "() => performance.getEntriesByType('measure').map((entry) => [entry.name, entry.duration])"


def main() -> int:
    """Draw, and print what the page's clock says."""
    parser = argparse.ArgumentParser(description="From a stroke's end to the answers on the painter's page.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--models", nargs="+", metavar="PATH", help="saved models, or folders of them, instead of training two")
    parser.add_argument("--n-train", type=how_many, default=FULL, metavar="N", help="images to train the two on (default: 60000)")
    parser.add_argument("--quick", action="store_true", help="train the two on 3,000 images")
    options = parser.parse_args()
    from tests.painter.browsing import CHROMIUM

    if CHROMIUM is None:
        print("benchmarks/painter.py: skipped, as this machine has no Chromium", file=sys.stderr if options.json else sys.stdout)
        return 0
    if not options.models and not has_mnist("benchmarks/painter.py", as_json=options.json):
        return 0
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(path) for path in options.models or []] or [
            trained(Path(folder), 3_000 if options.quick else options.n_train)
        ]
        results, notes = measured(paths, Path(folder) / "drawings")
    show(results, as_json=options.json, notes=notes)
    return 0


def trained(folder: Path, n_train: int) -> Path:
    """Train the simple CNN for one epoch and an rbf SVM with probabilities; return the folder of both."""
    from paretune.data.dataset import load_data
    from paretune.data.options import DataOptions
    from paretune.models.saved_models import save
    from paretune.painter.first_model import train_first_model
    from paretune.trainers.svm import Svm, SvmConfig

    size = None if n_train >= FULL else n_train
    train_first_model(folder, device="cpu", train_size=size)
    data = load_data(DataOptions(data="mnist", holdout=0.0, train_size=size))
    save(Svm(SvmConfig(C=10.0, probability=True), device="cpu").fit(data), folder / "svm-mnist", metrics={})
    return folder


def measured(paths: list[Path], drawings_folder: Path) -> tuple[list[Result], list[str]]:
    """Draw every digit with all models of some paths on the page; return the rows and the notes below them."""
    from paretune.analysis.findings.confidence import wilson_interval
    from paretune.painter.models import Models
    from tests.painter.browsing import chromium, draw, said, served
    from tests.painter.strokes import drawings

    models = Models(paths, device="cpu")
    empty: list[float] = []
    right: dict[str, int] = {}
    with served(models, drawings_folder) as address, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        page.wait_for_selector(".card")
        for drawing in drawings():
            empty.append(page.evaluate(EMPTY))
            draw(page, drawing)
            for name, label in said(page).items():
                right[name] = right.get(name, 0) + (label == str(drawing.digit))
            page.keyboard.press("c")
        entries: list[Any] = page.evaluate(ANSWERS)
    results, notes, n = [], [], len(drawings())
    for shown in models.readers:
        times = [duration for name, duration in entries if name == f"answer {shown.name}"]
        goal = GOALS.get(shown.kind) if shown.shape[1:] == (28, 28) else None
        results.append(Result(f"{shown.name}: stroke to answer, median", statistics.median(times), statistics.median(empty), "ms"))
        p95 = [float(np.percentile(values, 95)) for values in (times, empty)]
        results.append(Result(f"{shown.name}: 95 of 100 answers within", *p95, "ms", goal=goal))
        share = right[shown.name] / n
        results.append(Result(f"{shown.name}: read rightly of {n} synthetic drawings", share, None, "accuracy"))
        low, high = wilson_interval(share, n)
        notes.append(f"{shown.name}: {right[shown.name]} of {n}, Wilson's 95 % interval {low:.3f} to {high:.3f}")
    notes.append(
        f"{len(models.readers)} models answered each stroke, one after the other; the drawings are synthetic, of no person"
    )
    return results, notes


if __name__ == "__main__":
    sys.exit(main())
