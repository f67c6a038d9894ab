"""Texts of figures: lines that fit, and no figure of runs with a long name in which a text leaves the canvas."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from paretune.analysis.document.language import speak
from paretune.analysis.figures.curve_grids import curve_grid_figure
from paretune.analysis.figures.diagnosis import diagnosis_figure
from paretune.analysis.figures.fronts import hypervolume_figure, pairs_figure
from paretune.analysis.figures.grids import grid_figure
from paretune.analysis.figures.labels import _width, fitted
from paretune.analysis.figures.models import class_scores_figure, maps_figure, precision_recall_figure
from paretune.analysis.figures.parameters import importance_figure, parallel_figure, slices_figure
from paretune.analysis.figures.runs import confusion_figure, curves_figure, pareto_figure, search_figure, tradeoff_figure
from paretune.analysis.findings.diagnosis import OVER, Diagnosis
from paretune.analysis.findings.parameters import Tried
from paretune.analysis.sources.run_record import RunRecord
from paretune.search.importance import Importance, importances

NAMES = {
    "slashes": "evaluation/top_5_categorical_accuracy/over_the_validation/generator_batches/{}",
    "underscores": "data_augmentation_random_rotation_factor_of_the_training_images_only_{}",
    "no break": "validationaccuracyofthesecondhead" * 2 + "{}",
    "words": "the mean of what the second head says after smoothing of its outputs {}",
    "dollars": "$cost$ in $ per $hour$ {}",
    "short": "x{}",
}


def table(n_metrics: int, name: Callable[[int], str]) -> pd.DataFrame:
    random = np.random.default_rng(0)
    columns = {name(number): random.uniform(0.9, 0.95, 20) for number in range(n_metrics)}
    about = {"run": [f"r{number}" for number in range(20)], "state": "finished", "feasible": True}
    scores = {"f1": random.uniform(0.5, 1, 20), "n_parameters": random.uniform(10, 1e6, 20), "seconds": random.uniform(1, 9, 20)}
    return pd.DataFrame({**about, **columns, **scores, "on_front": np.arange(20) < 4})


def tried(name: Callable[[int], str]) -> Tried:
    random = np.random.default_rng(1)
    columns = {name(number): random.uniform(0, 1, 24) for number in range(9)}
    columns |= {name(9): random.choice([name(1), name(2), name(3)], 24)}
    return Tried(
        pd.DataFrame(columns, dtype=object),
        random.uniform(0, 1, 24),
        [name(k) for k in range(24)],
        name(99),
        "maximize",
        "holdout",
        {},
    )


def importance(name: Callable[[int], str]) -> Importance:
    return importances(tried(name), n_resamples=3)


def curves() -> pd.DataFrame:
    rows = np.linspace(1, 0.2, 12)
    return pd.DataFrame(
        {"epoch": np.arange(12), "train_loss": rows, "test_loss": rows, "train_accuracy": rows, "test_accuracy": rows}
    )


def run_of(name: str) -> RunRecord:
    return RunRecord(name, columns={key: values.to_numpy() for key, values in curves().items()})


def probabilities() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    return random.integers(0, 6, 200), random.dirichlet(np.ones(6), 200)


GOALS = ["maximize"] * 4
FIGURES: dict[str, Callable[[Callable[[int], str]], Any]] = {
    "pareto": lambda name: pareto_figure({name(1): table(2, name), name(2): table(2, name)}, [name(0), name(1)], GOALS[:2]),
    "one pareto": lambda name: pareto_figure({name(1): table(2, name)}, [name(0), name(1)], GOALS[:2], {name(1): "r1"}),
    "pairs": lambda name: pairs_figure(table(4, name), [name(number) for number in range(4)], GOALS, "r1"),
    "hypervolume": lambda name: hypervolume_figure({name(1): np.arange(1.0, 9), name(2): np.arange(1.0, 9)}, repeated=True),
    "search": lambda name: search_figure({name(number): table(1, name) for number in range(4)}, name(0)),
    "tradeoff": lambda name: tradeoff_figure({name(number): table(1, name) for number in range(4)}),
    "curves": lambda name: curves_figure(curves(), title=name(1), n_epochs=3),
    "curves of others": lambda name: curves_figure(curves(), title=name(1), part=name(1)),
    "diagnosis": lambda name: diagnosis_figure(curves(), Diagnosis(OVER, 3, f"it logged {name(1)}, {name(2)}"), title=name(1)),
    "importance": lambda name: importance_figure(importance(name)),
    "parallel": lambda name: parallel_figure(tried(name)),
    "slices": lambda name: slices_figure(tried(name)),
    "one slice": lambda name: slices_figure(tried(name), [name(9)]),
    "curve grid": lambda name: curve_grid_figure(
        [{name(number): [run_of(name(number))] for number in range(3)}] * 2, "loss", part="hold-out", label=name(1)
    ),
    "grid": lambda name: grid_figure(
        np.repeat(np.arange(3.0), 3), np.tile(np.arange(3.0), 3), np.arange(9.0), names=(name(0), name(1)), metric=name(2)
    ),
    "confusion": lambda name: confusion_figure(np.eye(6, dtype=int), [name(number) for number in range(6)], title=name(1)),
    "class scores": lambda name: class_scores_figure(
        np.arange(60) % 6, np.arange(60) % 5, [name(number) for number in range(6)], title=name(1)
    ),
    "precision and recall": lambda name: precision_recall_figure(*probabilities(), [name(number) for number in range(6)]),
    "maps": lambda name: maps_figure(
        {name(number): np.random.default_rng(number).normal(size=(30, 2)) for number in range(2)},
        np.arange(30) % 6,
        [name(number) for number in range(6)],
    ),
}


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(("form", "language"), [("slashes", "es"), ("no break", "en")])
def test_no_text_leaves_the_canvas_and_the_panels_keep_room(
    figure: str, form: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[Text] = []
    draw = Text.draw

    def noted(text: Text, *arguments: Any, **options: Any) -> None:
        texts.append(text)
        draw(text, *arguments, **options)

    monkeypatch.setattr(Text, "draw", noted)
    with warnings.catch_warnings(), speak(language):
        warnings.simplefilter("error")
        drawn = FIGURES[figure](NAMES[form].format)
        FigureCanvasAgg(drawn).draw()
    canvas = drawn.bbox.padded(2)
    for text in texts:
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent()
            inside = canvas.contains(box.x0, box.y0) and canvas.contains(box.x1, box.y1)
            assert inside, f"{text.get_text()!r} leaves the canvas: {box}"
    for axes in drawn.axes:
        box = axes.get_window_extent()
        if axes.get_visible() and axes.get_label() != "<colorbar>":
            assert min(box.width, box.height) > 0.4 * drawn.dpi, f"the panel has no room: {box}"


@pytest.mark.parametrize("inches", [0.8, 2.0, 4.0])
@pytest.mark.parametrize("text", [form.format(7) for form in NAMES.values()])
def test_lines_fit_and_hold_the_whole_text_or_its_ends(text: str, inches: float) -> None:
    found = fitted(text, inches, 9, 3).replace(r"\$", "$")
    lines = found.split("\n")
    assert len(lines) <= 3
    assert all(_width(line) * 9 / 72 <= inches + 1e-9 for line in lines)
    whole = re.sub(r"\s", "", found)
    begin, ellipsis, end = whole.partition("…")
    assert re.sub(r"\s", "", text).startswith(begin)
    assert re.sub(r"\s", "", text).endswith(end) if ellipsis else whole == re.sub(r"\s", "", text)


def test_words_stay_whole_where_they_fit() -> None:
    assert fitted("the value of val/loss here", 1.2).split("\n") == ["the value of", "val/loss here"]
