"""The order of the rows of a runs table, by `paretune.core.run_order`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.core.run_order import order_key, tie_breakers

if TYPE_CHECKING:
    import pandas as pd


def better_first(table: pd.DataFrame, score: Any, aims: Mapping[str, str] | None = None) -> np.ndarray:
    """Return the positions of a table's rows from the least score (n_rows,); of equals as `order_key` says, then as they stand.

    Args:
        table: a row per run; the columns of metrics and `created` may be absent or have gaps, which come last.
        score: (n_rows,), lower is better; NaN comes last.
        aims: what is weighed, metric -> goal.
    """
    aims = aims or {}
    names = [name for name in dict.fromkeys([*tie_breakers(aims), "created"]) if name in table]
    columns = [table[name].astype("float64").tolist() for name in names]
    scores = np.asarray(score, dtype=np.float64).tolist()
    keys = [
        order_key(scores[place], {name: column[place] for name, column in zip(names, columns, strict=True)}, aims)
        for place in range(len(table))
    ]
    return np.array(sorted(range(len(table)), key=keys.__getitem__), dtype=np.int64)
