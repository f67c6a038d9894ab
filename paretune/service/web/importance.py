"""The importance of a sweep's parameters, computed in a process of its own: it takes seconds, in which the server answers others.

`python -m paretune.service.web.importance` reads rows, parameters, metric and goal as JSON, and writes what it found.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.search.importance import Scored, importances

RESAMPLES = 20  # of the runs, for the intervals
MOST_SECONDS = 300
log = logging.getLogger("paretune.service.web")


def computed_beside(rows: Sequence[Mapping[str, Any]], parameters: Sequence[str], metric: str, goal: str) -> dict[str, Any]:
    """Return what `importance_of` finds, computed in a process of its own, which gives way to all others."""
    asked = json.dumps([rows, parameters, metric, goal])
    command = [sys.executable, "-m", "paretune.service.web.importance"]
    try:
        done = subprocess.run(command, cwd=ROOT, input=asked, capture_output=True, text=True, timeout=MOST_SECONDS, check=True)
        return json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        log.error("the importance could not be computed: %s", getattr(error, "stderr", None) or error)
        return {"why": "it could not be computed; the server's log says why."}


def importance_of(rows: Sequence[Mapping[str, Any]], parameters: Sequence[str], metric: str, goal: str) -> dict[str, Any]:
    """Return the importance of each parameter for a metric with its interval; or `why` there is none."""
    import numpy as np
    import pandas as pd

    columns: dict[str, list[Any]] = {}
    for name in parameters:
        values = [row["config"].get(name) for row in rows]
        if len({json.dumps(value, default=str) for value in values}) < 2:
            continue
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values if value is not None)
        columns[name] = [pd.NA if value is None else float(value) if numeric else str(value) for value in values]
    table = pd.DataFrame(columns, index=[row["run"] for row in rows], dtype=object)
    scores = np.array([row["values"][0] for row in rows], dtype=np.float64)
    finite = np.isfinite(scores)
    found = Scored(table[finite], scores[finite], list(table.index[finite]), metric, goal, "", {})
    try:
        result = importances(found, n_resamples=RESAMPLES)
    except UsageError as error:
        return {"why": str(error)}
    return {"rows": [[row.parameter, row.importance, row.low, row.high] for row in result.table.itertuples()]}


def main() -> int:
    os.nice(10)
    print(json.dumps(importance_of(*json.load(sys.stdin))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
