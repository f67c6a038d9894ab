"""The Pareto figure for a page: what plotly is given, read back from the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretune.analysis.figures.interactive import MOST_LINES, configurations, front_html, save_page
from paretune.analysis.figures.runs import pareto_figure
from paretune.analysis.findings.front import front_of
from paretune.analysis.history import RunRecord
from tests.analysis.reading import Page
from tests.analysis.tables import runs_of, scored

RUNS = runs_of(scored(0.9, 0.5, f1=0.6, seconds=3.0), scored(0.5, 0.9, f1=0.7, seconds=1.0), scored(0.4, 0.4, f1=0.4, seconds=9.0))
CONFIGS = {"a": {"learning_rate": 0.01, "hidden": [64, 32]}, "b": {"note": "<b>&"}}


def given(html: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the traces and the layout that a page hands to plotly."""
    start = html.rindex("Plotly.newPlot(")
    decoder = json.JSONDecoder()
    data, end = decoder.raw_decode(html, html.index("[", start))
    layout, _ = decoder.raw_decode(html, html.index("{", end))
    return data, layout


def test_two_metrics_are_a_plane_with_the_area_that_the_front_dominates() -> None:
    metrics, goals = ["precision", "seconds"], ["maximize", "minimize"]
    front, _ = front_of(RUNS, metrics, goals)
    (dominated, best), layout = given(front_html({"ann": front}, CONFIGS, metrics, goals, {"ann": "b"}))
    assert (dominated["x"], dominated["y"]) == ([0.4], [9.0])
    assert (best["x"], best["y"]) == ([0.9, 0.5], [3.0, 1.0])
    assert best["name"] == "ann, on the front"
    assert best["marker"]["size"] == [11, 15]  # the chosen one is larger
    (shade,) = layout["shapes"]  # one, which is nowhere darker
    corner, *edge = [tuple(map(float, point.split(","))) for point in re.findall(r"[^ ]+,[^ ]+", shade["path"])]
    assert (corner[0], corner[1] > 9.0) == (0.0, True)  # less precision and more seconds are worse
    assert edge == [(0.0, 1.0), (0.5, 1.0), (0.5, 3.0), (0.9, 3.0), (0.9, corner[1])]
    (low, high), (bottom, top) = layout["xaxis"]["range"], layout["yaxis"]["range"]
    assert all(low < x < high for x in best["x"])
    assert all(bottom < y < top for y in best["y"])


def test_a_kind_of_run_that_is_not_there_has_no_entry_in_the_legend() -> None:
    front, _ = front_of(runs_of(scored(0.9, 0.9)), ["precision", "recall"])
    traces, _layout = given(front_html({"ann": front}, {}, ["precision", "recall"], ["maximize"] * 2))
    assert [trace["name"] for trace in traces] == ["ann, on the front"]
    (axes,) = pareto_figure({"ann": front}).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["on the front (1 of 1)"]
    assert len(axes.patches) == 1


def test_the_chosen_run_is_in_sight_where_it_is_not_on_the_front() -> None:
    far = runs_of(*(scored(0.9 + place / 100, 0.9) for place in range(8)), scored(0.1, 0.1))
    front, _ = front_of(far, ["precision", "recall"])
    for chosen, seen in (({"ann": "i"}, True), ({}, False)):
        _traces, layout = given(front_html({"ann": front}, {}, ["precision", "recall"], ["maximize"] * 2, chosen))
        assert (layout["xaxis"]["range"][0] < 0.1) == (layout["yaxis"]["range"][0] < 0.1) == seen


def test_three_metrics_are_a_grid_of_pairs() -> None:
    metrics, goals = ["precision", "recall", "seconds"], ["maximize", "maximize", "minimize"]
    front, _ = front_of(RUNS, metrics, goals)
    traces, layout = given(front_html({"ann": front}, CONFIGS, metrics, goals))
    assert [trace["type"] for trace in traces] == ["splom", "splom"]
    assert [axis["label"] for axis in traces[1]["dimensions"]] == ["precision", "recall", "training time in seconds"]
    values = np.array([axis["values"] for axis in traces[1]["dimensions"]]).T
    np.testing.assert_array_equal(values, [[0.9, 0.5, 3.0], [0.5, 0.9, 1.0]])
    assert {"range"} <= layout["xaxis3"].keys() & layout["yaxis"].keys()


def test_a_label_shows_the_run_its_metrics_and_its_configuration_as_text() -> None:
    front, _ = front_of(RUNS, ["precision", "recall"])
    _, best = given(front_html({"ann": front}, CONFIGS, ["precision", "recall"], ["maximize"] * 2))[0]
    first, second = best["text"]
    assert first == "<b>run-a</b><br>precision 0.9<br>recall 0.5<br>f1 0.6<br>epoch 3<br>learning_rate: 0.01<br>hidden: [64, 32]"
    assert second.endswith("note: &lt;b&gt;&amp;")


def test_a_long_configuration_is_cut() -> None:
    front, _ = front_of(RUNS, ["precision", "recall"])
    config = {f"key{number}": "x" * 500 for number in range(MOST_LINES + 5)}
    _, best = given(front_html({"ann": front}, {"a": config}, ["precision", "recall"], ["maximize"] * 2))[0]
    lines = best["text"][0].split("<br>")
    assert lines[-1] == "…"
    assert len(lines) < MOST_LINES + 10
    assert max(map(len, lines)) < 100


def test_long_values_that_differ_differ_in_the_labels() -> None:
    front, _ = front_of(RUNS, ["precision", "recall"])
    configs = {run: {"folder": f"{'/data/pictures' * 10}/{run}/{'x' * 80}"} for run in "abc"}
    traces, _layout = given(front_html({"ann": front}, configs, ["precision", "recall"], ["maximize"] * 2))
    shown = [text.rsplit("<br>", 1)[1] for trace in traces for text in trace["text"]]
    assert len(set(shown)) == 3
    assert all(line.startswith("folder: /data") and len(line) < 90 for line in shown)


def test_labels_show_what_tells_runs_apart_and_all_where_nothing_does() -> None:
    runs = [
        RunRecord("a", config={"x": 1, "same": 2, "classifier": "own", "provenance": {"schema": 1}}),
        RunRecord("b", config={"x": [1], "same": 2, "classifier": "own", "provenance": {"schema": 1}}),
    ]
    assert configurations(runs) == {"a": {"x": 1}, "b": {"x": [1]}}
    assert configurations(runs[:1]) == {"a": {"x": 1, "same": 2}}


@pytest.mark.parametrize("n_metrics", [2, 3])
def test_the_page_needs_no_other_file(n_metrics: int, tmp_path: Path) -> None:
    metrics = ["precision", "recall", "f1"][:n_metrics]
    front, _ = front_of(RUNS, metrics)
    path = save_page(front_html({"ann": front}, CONFIGS, metrics, ["maximize"] * n_metrics), tmp_path / "new" / "front.html")
    page = Page(path)
    assert page.loaded() == []
    assert {"html", "head", "title", "body", "script"} <= {tag for tag, _ in page.tags}
    assert not re.search(r"<script[^>]+src=", path.read_text(encoding="utf-8"))
