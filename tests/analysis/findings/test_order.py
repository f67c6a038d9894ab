"""The one order of runs: by score, then test_loss, then n_parameters, then as they stand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from paretune.analysis.choose import choose
from paretune.analysis.findings.order import better_first
from tests.analysis.tables import runs_of, scored


def test_equals_go_by_loss_then_by_size_then_by_age() -> None:
    table = pd.DataFrame({"test_loss": [0.3, 0.2, 0.2, math.nan, 0.2, 0.1], "n_parameters": [1.0, 9.0, 8.0, 1.0, 8.0, 1.0]})
    assert better_first(table, [1, 1, 1, 1, 1, 2]).tolist() == [2, 4, 1, 0, 3, 5]


def test_a_table_without_loss_and_size_keeps_its_order_and_a_run_without_score_is_last() -> None:
    table = pd.DataFrame({"run": list("abcd")}, index=[7, 7, 3, 1])
    assert better_first(table, [1, math.nan, 0, 1]).tolist() == [2, 0, 3, 1]


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_takes_the_first(seed: int) -> None:
    draw = np.random.default_rng(seed)
    score, loss, size = draw.integers(0, 2, (3, 6))
    table = runs_of(
        *(scored(f1, f1, f1, test_loss=float(a), n_parameters=float(b)) for f1, a, b in zip(score, loss, size, strict=True))
    )
    assert choose(table, "f1").run["run"] == table["run"].iloc[better_first(table, -table["f1"])[0]]
