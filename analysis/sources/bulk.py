"""Histories of many runs in one request where the server is our own (service/): one Parquet file, not a request or two a run.

What is laid out here equals what `columns_of` makes of the same rows, one by one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from paretune.analysis.sources.run_record import column_of, columns_of
from paretune.runs.wandb_files import INTERNAL

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FEATURE = "BULK_HISTORIES"  # by which our server is known among those that speak W&B's protocol
CLOUD = "https://api.wandb.ai"  # which is not asked
WORTHWHILE = 2  # runs
FORM, LEFT_OUT = (
    b"paretune.form",
    b"paretune.left_out",
)  # metadata of a field and of the file (paretune/service/store/columns.py, paretune/service/store/bulk.py)
SECONDS = 600.0  # to wait for the next piece


def pulled(api: Any, address: str, entity: str, project: str, runs: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return the columns of runs by their ids; of none where the server is not ours, or cannot say them at once.

    Args:
        api: W&B's, which has the user's key.
        address: of the server, without a path.
    """
    import pyarrow as pa
    import requests

    if len(runs) < WORTHWHILE or address.startswith(CLOUD) or not api.api_key:
        return {}
    with requests.Session() as session:
        session.auth = ("api", api.api_key)
        try:
            if FEATURE not in _features(session, address):
                return {}
            body = {"entity": entity, "project": project, "runs": list(runs)}
            answer = session.post(f"{address}/bulk/histories", json=body, timeout=SECONDS)
            if answer.status_code != 200:
                return {}
            table = _table(answer.content)
        except (requests.RequestException, ValueError, pa.ArrowException):
            return {}
    return _columns(table, runs)


def _features(session: Any, address: str) -> set[str]:
    query = {"query": "query ServerFeaturesQuery { serverInfo { features { name isEnabled } } }", "variables": {}}
    said = session.post(f"{address}/graphql", json=query, timeout=30).json()
    features = ((said.get("data") or {}).get("serverInfo") or {}).get("features") or []
    return {feature["name"] for feature in features if feature.get("isEnabled")}


def _table(content: bytes) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(content)) as file:
        return file.read()


def _columns(table: pa.Table, runs: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Part the rows of all runs into each one's columns; one without rows has none."""
    left_out = json.loads((table.schema.metadata or {}).get(LEFT_OUT, b"[]"))
    found = {run: columns_of([]) for run in runs if run not in left_out}
    table = table.unify_dictionaries().combine_chunks()
    numbers = _numbers(table)
    for run, start, stop in _parts(table.column(0)):
        part = table.slice(start, stop - start)
        found[run] = _equal_rows(part, numbers, start, stop) or columns_of(_rows(part))
    return found


def _parts(ids: pa.ChunkedArray) -> Iterator[tuple[str, int, int]]:
    """Yield each run with the row at which it begins and the one before which it ends."""
    import numpy as np

    if not len(ids):
        return
    names = ids.combine_chunks()
    codes = names.indices.to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    texts = names.dictionary.to_pylist()
    for start, stop in itertools.pairwise(starts):
        yield texts[codes[start]], start, stop


def _numbers(table: pa.Table) -> dict[int, np.ndarray]:
    """Return the columns of numbers by their place, with NaN for what is missing."""
    import numpy as np
    import pyarrow as pa

    kinds = (pa.int64(), pa.float64())
    return {
        place: column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64, copy=False)
        for place, column in enumerate(table.columns)
        if column.type in kinds
    }


def _equal_rows(part: pa.Table, numbers: dict[int, np.ndarray], start: int, stop: int) -> dict[str, np.ndarray] | None:
    """Return the columns of a run whose rows all hold an epoch and the same numbers, and nothing else; None of another."""
    found = {}
    for place, (field, column) in enumerate(zip(part.schema, part.columns, strict=True)):
        if place == 0 or column.null_count == len(column) or field.name in INTERNAL:
            continue
        if column.null_count or place not in numbers:
            return None
        found[column_of(field.name)] = numbers[place][start:stop]
    return found if "epoch" in found and len(found) > 1 else None


def _rows(part: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(part.num_rows)]
    for field, column in zip(list(part.schema)[1:], part.columns[1:], strict=True):
        is_json = (field.metadata or {}).get(FORM) == b"json"
        for row, value in zip(rows, column.to_pylist(), strict=True):
            if value is not None:
                row[field.name] = json.loads(value) if is_json else value
    return rows
