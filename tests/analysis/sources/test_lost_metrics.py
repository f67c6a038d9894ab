"""A loss that became NaN or infinite is told from one that was just not logged any more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from paretune.analysis.findings.curves import by_epoch
from paretune.analysis.sources.lost_metrics import lost_from


@pytest.mark.parametrize(("pause", "rows_after", "lost"), [(1, 1, True), (5, 4, False), (5, 5, True)])
def test_a_loss_is_lost_where_it_should_have_been_logged_again(pause: int, rows_after: int, lost: bool) -> None:
    epochs = np.arange(1.0, 20 * pause + 1 + rows_after)
    logged = (epochs % pause == 0) & (epochs <= 20 * pause)
    history = pd.DataFrame({"epoch": epochs, "train_loss": np.where(logged, 1.0, np.nan), "test_loss": np.nan, "rate": 0.1})
    assert lost_from(by_epoch(history), "train_loss") == (20 * pause if lost else None)


def test_infinity_counts_at_the_end_and_not_in_between() -> None:
    values = np.ones(10)
    values[4] = np.inf
    rows = by_epoch(pd.DataFrame({"epoch": np.arange(10.0), "train_loss": values}))
    assert lost_from(rows, "train_loss") is None
    rows.loc[8:, "train_loss"] = np.inf
    assert lost_from(rows, "train_loss") == 8
    rows["train_loss"] = np.inf
    assert lost_from(rows, "train_loss") == 0


@pytest.mark.parametrize(("n_after", "lost"), [(2, False), (3, True), (11, True)])
def test_metrics_that_become_nan_with_the_loss_do_not_hide_that_it_did(n_after: int, lost: bool) -> None:
    values = np.where(np.arange(9 + n_after) < 9, 0.5, np.nan)
    derived = dict.fromkeys(("train_loss", "test_loss", "train_accuracy", "test_accuracy", "top 5"), values)
    rows = pd.DataFrame({"epoch": np.arange(1.0, 10 + n_after), **derived, "learning_rate": 0.1})
    assert lost_from(rows, "train_loss") == (9 if lost else None)


def test_the_wait_for_the_first_value_is_a_pause_too() -> None:
    values = [np.nan] * 4 + [1.0] + [np.nan] * 4
    rows = pd.DataFrame({"epoch": np.arange(1.0, 10), "train_loss": values, "test_loss": values, "f1": 0.5})
    assert lost_from(rows, "train_loss") is None
    assert lost_from(rows.iloc[4:].reset_index(drop=True), "train_loss") == 1
