"""Intervals and doubts where they begin and end: several metrics at once, level 5 %, bounds of a range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from paretune.analysis.findings.confidence import Estimate, _lacking, configurations, doubt_of, p_of_difference, t_interval
from paretune.analysis.sources.run_record import RunRecord
from tests.analysis.tables import runs_of, scored


def repeated(name: str, **values: list[float]) -> Estimate:
    """An estimate of repeats whose own values are known."""
    arrays = {metric: np.array(given) for metric, given in values.items()}
    means = {metric: float(array.mean()) for metric, array in arrays.items()}
    deviations = {metric: float(array.std(ddof=1)) for metric, array in arrays.items()}
    return Estimate(name, (name,), means, len(next(iter(arrays.values()))), "seeds", deviations, arrays)


def test_a_configuration_that_differs_in_one_of_several_metrics_is_told_apart() -> None:
    ours, worse, like = [0.90, 0.91, 0.92], [0.50, 0.51, 0.52], [0.90, 0.91, 0.93]
    assert stats.ttest_ind(ours, worse, equal_var=False).pvalue < 0.05 < stats.ttest_ind(ours, like, equal_var=False).pvalue
    best = repeated("best", precision=ours, recall=ours)
    for other in (repeated("other", precision=worse, recall=like), repeated("other", precision=like, recall=worse)):
        assert doubt_of(best, [other], ["precision", "recall"]).startswith(
            "best can be told apart from the only other configuration"
        )
    alike = repeated("alike", precision=like, recall=like)
    assert doubt_of(best, [alike], ["precision", "recall"]).startswith("1 of 1 other configuration cannot be told apart from best")


def test_what_p_of_the_front_lacks_is_repeats_or_the_deviation_of_a_metric() -> None:
    repeats = [Estimate(name, (name,), {}, 3, "seeds", {"b": 0.1, "c": 0.1, "seconds": 0.1}) for name in "xy"]
    sentence = "p(front) needs a deviation of precision and recall; these runs have those of b, c: --metrics b gives it."
    assert _lacking(repeats, ["precision", "recall"]) == sentence
    assert "those of b, c: --metrics b gives" in _lacking(repeats, ["precision", "c"])
    with_f1 = [Estimate(name, (name,), {}, 3, "seeds", {"b": 0.1, "f1": 0.1}) for name in "xy"]
    assert _lacking(with_f1, ["precision"]).endswith("those of b, f1: --metrics f1 gives it.")
    alone = Estimate("z", ("z",), {}, 1, "", {"b": 0.1, "c": 0.1})  # it logged a deviation, but of no repeats of its own
    assert (
        _lacking([*repeats, alone], ["precision"]) == "p(front) needs repeats of every configuration with a deviation of precision."
    )


@pytest.mark.parametrize(
    ("repeats", "over"), [({"repeats": 4, "repeats_over": "folds"}, "folds"), ({"repeats": 4}, "seeds"), ({}, "")]
)
def test_one_run_of_repeats_says_what_they_are_over(repeats: dict[str, Any], over: str) -> None:
    table = runs_of(scored(0.9, 0.8, precision_std=0.1, recall_std=0.1))
    ours = {"classifier": "ann", "provenance": {"fingerprints": {"test": "x"}}}
    (found,) = configurations([RunRecord("a", config={"width": 8, **ours, **repeats})], table)
    assert (found.over, found.n_repeats) == (over, repeats.get("repeats", 1))


def test_a_half_width_is_added_above_and_taken_away_below() -> None:
    # scipy's t(0.975, 3 degrees) is 3.18245; 3.18245 * 2 / sqrt(4)
    assert t_interval(10.0, 2.0, 4) == pytest.approx((10 - 3.18245, 10 + 3.18245), abs=1e-5)


def test_repeats_that_agree_but_for_rounding_have_neither_an_interval_nor_a_p_by_it() -> None:
    rounded = repeated("rounded", acc=[0.3, 0.1 + 0.2, 0.3])
    assert rounded.deviations["acc"] > 0
    assert rounded.interval("acc") is None
    for other, p in (([0.3, 0.3, 0.3], 1.0), ([0.4, 0.4, 0.4], 0.0), ([0.4, 0.1 + 0.3, 0.4], 0.0)):
        assert p_of_difference(rounded, repeated("other", acc=other), "acc") == p
