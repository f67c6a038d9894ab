"""Which runs may be compared, and in words why the others may not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from paretune.analysis.findings.candidates import MOST_NAMES, candidates
from paretune.core.errors import UsageError
from tests.analysis.tables import runs_of, scored

METRICS = ["precision", "recall"]
NAN, INF = math.nan, math.inf


def left(*rows: dict[str, Any], metrics: list[str] = METRICS) -> tuple[str, dict[str, int]]:
    """Return the letters of the candidates, and the count of the others by reason."""
    rest, left_out = candidates(runs_of(*rows), metrics)
    return "".join(rest["run"]), left_out


def test_a_run_is_left_out_for_the_first_reason_that_holds() -> None:
    assert left(
        scored(0.9, 0.9),
        scored(0.9, 0.9, state="failed"),
        scored(NAN, 0.9, state="pruned"),
        scored(0.9, 0.9, state="pruned"),
        scored(NAN, 0.9),
        scored(NAN, NAN),
        scored(0.9, -INF),
        scored(INF, NAN),
        scored(0.1, 0.1),
    ) == (
        "ai",
        {
            "failed": 1,
            "pruned": 2,
            "without a finite precision: run-e": 1,
            "without a finite precision and recall: run-f": 1,
            "with infinite recall: run-g": 1,
            "without a finite recall and with infinite precision: run-h": 1,
        },
    )


@pytest.mark.parametrize(("count", "more"), [(MOST_NAMES, ""), (MOST_NAMES + 1, " and 1 more"), (MOST_NAMES + 3, " and 3 more")])
def test_of_runs_with_one_reason_so_many_are_named(count: int, more: str) -> None:
    names = ", ".join(f"run-{letter}" for letter in "bcdefghijk")
    found, left_out = left(scored(1, 1), *[scored(NAN, 1)] * count)
    assert (found, left_out) == ("a", {f"without a finite precision: {names}{more}": count})


def test_a_run_without_a_name_is_named_by_its_id() -> None:
    assert left(scored(1, 1), scored(NAN, 1, name=""))[1] == {"without a finite precision: b": 1}


def test_where_none_is_left_it_is_said_how_each_was_lost() -> None:
    with pytest.raises(UsageError, match=r"no run has finished yet \(2 running, 1 failed\): run the sweep further first"):
        left(*[scored(1, 1, state="running")] * 2, scored(1, 1, state="failed"))
    with pytest.raises(
        UsageError, match=r"no finished run has precision and recall \(1 failed, 1 without a finite recall: run-a\)"
    ):
        candidates(runs_of(scored(1, NAN), scored(1, 1, state="failed")), METRICS)
    with pytest.raises(UsageError, match=r"no run has finished yet \(there is no run at all\)"):
        candidates(runs_of(scored(1, 1))[:0], METRICS)


def test_a_metric_is_a_column_of_numbers_that_is_no_count_of_the_run() -> None:
    for name in ("created", "epochs", "best_epoch", "name", "flag"):
        with pytest.raises(UsageError, match=f"no run has the metric '{name}'"):
            left(scored(1, 1, epochs=3, flag=True), metrics=[name])
    with pytest.raises(UsageError, match="no run has the metric 'recal'; did you mean 'recall'"):
        left(scored(1, 1), metrics=["recal"])


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"data": "digits"}, {"data": "mnist"}, r"runs of different data sets \(digits, mnist\)"),
        ({"average": "macro"}, {"average": "micro"}, r"runs of different averages over the classes \(macro, micro\)"),
        ({"evaluation_split": "holdout"}, {"evaluation_split": "cv"}, r"runs of different evaluation splits \(cv, holdout\)"),
        ({"evaluation_split": "test"}, {}, "runs scored on the locked test part cannot be compared"),
    ],
)
def test_runs_that_were_scored_otherwise_are_not_compared(first: dict[str, Any], second: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        left(scored(1, 1, **first), scored(1, 1, **second))
    assert left(scored(1, 1, **second), scored(NAN, 1, **{**second, **first}))[0] == "a", "of no candidate it does not matter"


def test_runs_that_do_not_say_what_they_were_scored_on_are_compared() -> None:
    assert left(scored(1, 1, data="digits", average="macro"), scored(1, 1, data="", average=""))[0] == "ab"


def test_runs_on_other_images_are_not_compared_unless_they_are_of_another_size() -> None:
    def on(images: str, size: str = "") -> dict[str, Any]:
        return scored(1, 1, **{"provenance.images": images, "provenance.image_size": size})

    with pytest.raises(UsageError, match="Those of run-a and run-c differ"):
        left(on("x"), on(""), on("y"))
    assert left(on("x"), on("x"), on(""))[0] == "abc"
    assert left(on("x", "8"), on("y", "16"), on("x", "8"))[0] == "abc"
