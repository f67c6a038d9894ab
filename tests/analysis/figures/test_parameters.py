"""Slices and parallel coordinates: categories that begin alike, and scores of every kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paretune.analysis.figures.parameters import importance_figure, parallel_figure, parallel_html, slices_figure
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.findings.parameters import Tried
from paretune.search.importance import Importance
from tests.analysis.reading import is_a_drawing


def tried_of(scores: list[float], goal: str, choices: list[str]) -> Tried:
    values = pd.DataFrame({"schedule": choices, "rate": [float(place) for place in range(len(scores))]}, dtype=object)
    return Tried(values, np.array(scores), [f"run-{place}" for place in range(len(scores))], "loss", goal, "holdout", {})


ALIKE = [f"a_schedule_with_a_long_name_{place}" for place in range(4)]


def test_categories_that_begin_alike_are_told_apart_on_every_axis() -> None:
    found = tried_of([1.0, 2.0, 3.0, 4.0], "minimize", ALIKE)
    ticks = [label.get_text() for label in slices_figure(found).axes[0].get_xticklabels()]
    assert len(set(ticks)) == 4
    texts = [text.get_text() for text in parallel_figure(found).axes[0].texts]
    assert len({text for text in texts if "…" in text}) == 4


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
@pytest.mark.parametrize("scores", [[1.0], [2.0, 2.0, 2.0], [-5.0, -1.0, -900.0, 3.0]], ids=str)
def test_the_best_run_is_in_sight_whatever_its_score(scores: list[float], goal: str, tmp_path: Path) -> None:
    found = tried_of(scores, goal, ALIKE[: len(scores)])
    figure = slices_figure(found)
    best = min(scores) if goal == "minimize" else max(scores)
    for axes in figure.axes[:2]:
        low, high = axes.get_ylim()
        assert low < best < high
        (star,) = np.asarray(axes.collections[-1].get_offsets())
        assert star[1] == best
    assert is_a_drawing(save_figure(figure, tmp_path / "slices.png"))
    assert is_a_drawing(save_figure(parallel_figure(found), tmp_path / "parallel.png"))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_importances_of_0_have_an_axis_too(share: float, tmp_path: Path) -> None:
    table = pd.DataFrame({"parameter": ["rate"], "importance": [share], "low": [share], "high": [share]})
    figure = importance_figure(Importance(table, "loss", "ped-anova", 20, 10, 0, {}))
    assert figure.axes[0].get_xlim()[1] >= max(share, 0.1)
    assert is_a_drawing(save_figure(figure, tmp_path / "importance.png"))


def test_the_axis_of_a_metric_keeps_the_end_of_its_name() -> None:
    begin = "validation/mean absolute percentage error over the last ten windows, hold-out"
    found = tried_of([1.0, 2.0, 3.0], "minimize", ALIKE[:3])
    for end in ("(a)", "(b)"):
        named = replace(found, metric=f"{begin} {end}")
        assert parallel_figure(named).axes[0].get_xticklabels()[-1].get_text().endswith(end)
        assert f'{end}"' in parallel_html(named)
