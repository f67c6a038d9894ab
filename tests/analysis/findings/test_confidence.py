"""Intervals and doubts where they begin and end: several metrics at once, level 5 %, bounds of a range."""

from __future__ import annotations

import numpy as np
from scipy import stats

from paretune.analysis.findings.confidence import Estimate, doubt_of


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
