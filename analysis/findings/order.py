"""The one order of runs by a score, so that of equal runs every step of the analysis takes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

TIES = ("test_loss", "n_parameters")  # the lower of equals comes first; after these the earlier row


def better_first(table: pd.DataFrame, score: Any) -> np.ndarray:
    """Return the positions of a table's rows from the least score (n_rows,); of equals by TIES, then as they stand.

    Args:
        table: a row per run, in the order of their creation; the columns of TIES may be absent or have gaps, which come last.
        score: (n_rows,), lower is better; NaN comes last.
    """
    import pandas as pd

    keys = pd.DataFrame({"score": np.asarray(score, dtype=np.float64), "order": np.arange(len(table))})
    for name in TIES:
        known = name in table
        keys[name] = table[name].astype("float64").fillna(np.inf).to_numpy() if known else 0.0
    return keys.sort_values(["score", *TIES, "order"]).index.to_numpy()
