"""Tells a metric that became NaN or infinite from one that was not logged any more: both are NaN in a table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LONGER = 3


def lost_from(rows: pd.DataFrame, name: str, last_value: float | None = None) -> int | None:
    """Return from which row on a metric is not finite up to the last one; None where it just was not logged any more.

    Args:
        rows: in the order of their epochs, with the columns epoch, train_loss and test_loss.
        last_value: the value that was logged last, as the summary holds it; None where it is unknown.

    Where the last value is known to be NaN, the metric was lost when it should have come again. Else a table does not tell NaN from
    what was not logged. It was NaN where a row without either loss follows that holds nothing else, or most of what every earlier
    row held, and where the loss should have come again by its longest pause before, the one before its first value too. What is
    computed from a loss may become NaN with it: where all went together that never came again, and the rest goes on, it should
    have come LONGER times by then. So should a loss whose last value is unknown, where the other one goes on. A row of other
    metrics, as of a last evaluation, says nothing.
    """
    import numpy as np

    values = rows[name].to_numpy(dtype=np.float64)
    finite = np.flatnonzero(np.isfinite(values))
    last = int(finite[-1]) if len(finite) else -1
    after = values[last + 1 :]
    if np.isinf(after).any():
        return last + 1 + int(np.isinf(after).argmax()) if last < 0 else last + 1
    if last < 0:
        return None
    if last_value is not None and math.isnan(last_value):
        return min(last + int(np.median(np.diff(finite, prepend=-1))), len(values) - 1)
    if not len(after):
        return None
    there = rows.drop(columns="epoch").notna()
    silent = ~there.loc[last + 1 :, ["train_loss", "test_loss"]].any(axis=1).to_numpy()
    single = ~silent if last_value is None else np.zeros_like(silent)
    there = there.drop(columns=["train_loss", "test_loss"])
    before, later = there.loc[:last].to_numpy(), there.loc[last + 1 :].to_numpy()
    always = before.all(axis=0)
    alike = (later[:, always].sum(axis=1) > always.sum() / 2) | ~later.any(axis=1)
    goes_on = always & later.any(axis=0)
    alone = later[:, goes_on].all(axis=1) & goes_on.any()
    known = ~later[:, ~before.any(axis=0)].any(axis=1)
    pause = int(np.diff(finite, prepend=-1).max())
    counts = (silent & known & alike).sum(), (silent & known & alone).sum() / LONGER, (single & known & alike).sum() / LONGER
    return last + 1 if max(counts) >= pause else None
