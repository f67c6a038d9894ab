"""What is said of networks with and without augmentation: by the interval, by the number of drawings, in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from paretune.analysis.drawn_digits import Drawings, plan_of
from paretune.analysis.drawn_report import MOST_SHOWN, as_text, build_document, gallery_figure, table_of, words_of
from paretune.data.dataset import load_data
from paretune.data.images import Samples
from paretune.data.options import DataOptions


def made(differences: list[float], *, gained: int = 0, lost: int = 0, p: float | None = None, n: int = 50) -> dict[str, Any]:
    """Numbers as results.json holds them, around the differences of the seeds."""

    def all_parts(value: Any) -> dict[str, Any]:
        return dict.fromkeys(("test", "drawings", "shrunk"), value)

    interval = None
    if len(set(differences)) > 1:
        found = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
        interval = [found.low, found.high]
    one = {"label": "3", "without": "3", "with": "5"}
    return {
        "settings": {**plan_of(None, None, "digits", n_seeds=len(differences)).to_dict()},
        "n_images": {"test": 360, "drawings": n, "shrunk": n},
        "n_train": 10,
        "image_side": 8,
        "accuracy": dict.fromkeys(("without", "with"), all_parts({"mean": 0.5, "t_interval": None, "wilson_interval": [0.4, 0.6]})),
        "difference": all_parts({"mean": float(np.mean(differences)), "t_interval": interval, "by_seed": differences}),
        "read_by_one": {
            "seed": 0,
            "with_alone": gained,
            "without_alone": lost,
            "p": p,
            "drawings": [{"drawing": f"3/d{place}", **one} for place in range(gained + lost)],
        },
    }


def blank(count: int) -> Drawings:
    samples = Samples(torch.rand(count, 1, 8, 8), torch.full((count,), 3))
    return Drawings([f"3/d{place}" for place in range(count)], samples, samples)


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ([0.01, 0.02, 0.015], "lies above 0: over the seeds, augmentation gains"),
        ([-0.01, -0.02, -0.015], "lies below 0: over the seeds, augmentation loses"),
        ([0.01, -0.02, 0.015], "holds 0: that augmentation changes the accuracy on these images cannot be concluded"),
        ([0.02, 0.02, 0.02], "Each of the 3 seeds gave this very difference"),
        ([0.02], "One seed cannot say"),
    ],
)
def test_the_words_say_what_the_interval_allows(differences: list[float], said: str) -> None:
    assert all(said in text for text in words_of(made(differences))[:2])


def test_the_words_say_that_drawings_are_few_and_whether_the_pair_can_be_told_apart() -> None:
    few, many = (" ".join(words_of(made([0.0, 0.1], n=n))) for n in (99, 100))
    assert "So few drawings cannot show a small effect" in few
    assert "So few drawings" not in many
    assert "open by up to 20.0 points" in many
    for p, said in ((0.04, "can be told apart"), (0.06, "cannot be told apart")):
        assert said in words_of(made([0.0], gained=7, lost=1, p=p))[2]


def test_where_no_drawing_differs_a_sentence_takes_the_gallerys_place(tmp_path: Path) -> None:
    data, results = load_data(DataOptions(holdout=0.0)), made([0.0, 0.0])
    sentence = (
        "The two models of seed 0 are right on the same of the 50 drawings: there is none that only one of the two reads rightly."
    )
    assert words_of(results)[2] == sentence
    document = build_document(results, data, blank(50), tmp_path)
    assert getattr(document.blocks[-1], "text", "") == sentence
    assert [path.name for path in tmp_path.iterdir()] == ["augmented.png"]


def test_of_many_drawings_forty_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    results = made([0.0], gained=90, lost=11, p=0.0, n=200)
    document = build_document(results, load_data(DataOptions(holdout=0.0)), blank(200), tmp_path)
    assert getattr(document.blocks[-1], "caption", "").startswith("40 of the 101 drawings that only one")
    figure = gallery_figure(results, blank(200))
    assert figure is not None
    assert sum(bool(axes.images) for axes in figure.axes) == MOST_SHOWN


def test_the_table_has_each_side_and_their_difference_above_its_intervals() -> None:
    columns, rows = table_of(made([0.01, 0.03]))
    assert columns == ["", "test part (360)", "drawings in MNIST's form (50)", "drawings merely shrunk (50)"]
    assert [row[0] for row in rows] == [
        "without augmentation",
        "— over the seeds (t)",
        "— over the images (Wilson)",
        "with augmentation",
        "— over the seeds (t)",
        "— over the images (Wilson)",
        "with minus without",
        "— over the seeds (paired t)",
    ]
    # the mean 0.02, less and more t(0.975, 1 degree) 12.706 times 0.01414 / sqrt(2)
    assert [row[1] for row in rows] == ["0.5000", "-", "[0.4000, 0.6000]"] * 2 + ["+0.0200", "[-0.1071, +0.1471]"]


def test_a_table_as_text_is_set_left_and_then_right() -> None:
    lines = as_text(["", "ab"], [["x", "1"], ["long", "123"]]).splitlines()
    assert [line.rstrip() for line in lines] == ["       ab", "x       1", "long  123"]


@pytest.mark.parametrize(("n", "few"), [(1, True), (99, True), (100, False), (300, False)])
def test_fewer_than_a_hundred_drawings_are_few(n: int, few: bool) -> None:
    assert ("So few drawings" in " ".join(words_of(made([0.0, 0.1], n=n)))) is few


@pytest.mark.parametrize(("differences", "holds"), [([0.5, 0.5 + 1e-9], False), ([-1.0, 1.0], True), ([0.0, 0.2], True)])
def test_an_interval_that_reaches_0_allows_no_conclusion(differences: list[float], holds: bool) -> None:
    assert ("cannot be concluded" in words_of(made(differences))[0]) is holds
