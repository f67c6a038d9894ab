"""The histories of many runs as one Parquet file, streamed as it is made; columns go from file to file without a look at each row.

The first column is `run`, the runs' ids (a dictionary); the others are the keys that were logged. Rows stand in the order of runs
and lines. A key whose values are whole numbers here and floats there is a column of floats; one of values of several kinds holds
JSON texts, which the field's metadata says (columns.py). Runs whose rows have no place in columns are left out; the
schema's metadata names them, as JSON, under `paretune.left_out`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.store import columns, compaction, runs, segments, streams
from paretune.service.store.accounts import Account
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.store.tables import Run, Segment

if TYPE_CHECKING:
    import pyarrow as pa

LEFT_OUT = b"paretune.left_out"  # metadata of the schema
MEDIA_TYPE = "application/vnd.apache.parquet"
GROUP_ROWS = 50_000  # rows that are written at once, or fewer of many columns
GROUP_CELLS = 5_000_000


@dataclass(frozen=True)
class Wanted:
    """What is asked for: the runs of a project, of a sweep of it or by a filter, and which keys (None: all)."""

    entity: str | None
    project: str
    filters: dict[str, Any]
    names: frozenset[str] | None
    keys: tuple[str, ...] | None


@dataclass(frozen=True)
class Part:
    """Rows of one run that follow each other: a file, or what no file holds yet."""

    run: str
    schema: pa.Schema
    digest: str | None = None
    table: pa.Table | None = None


def wanted_of(values: Mapping[str, Any]) -> Wanted:
    """Read a request: {"project", "entity", "sweep", "filters", "runs", "keys"}, all but the project optional.

    Raises:
        UsageError: if a value is of another kind.
    """
    project, entity, sweep, filters = (values.get(name) for name in ("project", "entity", "sweep", "filters"))
    if not isinstance(project, str) or not all(isinstance(one, str | None) for one in (entity, sweep)):
        raise UsageError("project must be a name, and entity and sweep names or absent.")
    if not isinstance(filters, dict | None):
        raise UsageError(f"filters must be an object, as for Api().runs. Got {filters!r:.80}.")
    conditions = [one for one in ({"sweep": sweep} if sweep else None, filters) if one]
    lists = {name: values.get(name) for name in ("runs", "keys")}
    for name, value in lists.items():
        if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            raise UsageError(f"{name} must be a list of names. Got {value!r:.80}.")
    names, keys = lists["runs"], lists["keys"]
    return Wanted(
        entity,
        project,
        {"$and": conditions} if conditions else {},
        None if names is None else frozenset(names),
        None if keys is None else tuple(keys),
    )


def histories(database: Database, files: Files, account: Account, wanted: Wanted) -> Iterator[bytes]:
    """Return the file, in pieces; whatever is wrong is said before the first.

    Raises:
        UsageError: if there is no such project, or a part cannot be read.
    """
    with database.session() as session:
        waiting = [run.id for run in _runs(session, account, wanted) if run.state in compaction.ENDED and run.waits]
    for identifier in waiting:
        compaction.compact(database, files, identifier)
    with database.session() as session:
        parts = list(_parts(session, files, _runs(session, account, wanted), wanted.keys))
    left_out = {part.run for part in parts if any(columns.form_of(field) == "line" for field in part.schema)}
    parts = [part for part in parts if part.run not in left_out]
    schema = _common([part.schema for part in parts]).with_metadata({LEFT_OUT: json.dumps(sorted(left_out))})
    return _written(files, parts, schema, wanted.keys)


def _runs(session: Session, account: Account, wanted: Wanted) -> Sequence[Any]:
    project = runs.project_of(session, account, wanted.project, wanted.entity)
    if project is None:
        raise UsageError(f"there is no project {wanted.entity or account.entity}/{wanted.project}.")
    waits = Run.history_lines > Run.compacted
    query = sa.select(Run.id, Run.name, Run.state, waits.label("waits")).order_by(Run.id)
    found = session.execute(runs.matching(query, project, wanted.filters)).all()
    return [run for run in found if wanted.names is None or run.name in wanted.names]


def _parts(session: Session, files: Files, found: Sequence[Any], keys: Collection[str] | None) -> Iterator[Part]:
    import pyarrow.parquet as pq

    # chunks before segments: what moves from the ones to the others meanwhile is seen, and not twice
    late = {run.id: streams.chunk_lines(session, run.id, streams.HISTORY) for run in found if run.waits}
    of_runs: dict[int, list[Segment]] = {run.id: [] for run in found}
    for some in _in_hundreds(list(of_runs)):
        query = sa.select(Segment).where(Segment.run_id.in_(some)).order_by(Segment.run_id, Segment.number)
        for segment in session.scalars(query):
            of_runs[segment.run_id].append(segment)
    held = 0
    for run in found:
        for segment in of_runs[run.id]:
            if held < GROUP_CELLS:  # to open it a second time would take as long as to read it
                table = segments.read(files, segment.digest, keys)
                held += table.num_rows * table.num_columns
                yield Part(run.name, table.schema, table=table)
                continue
            with segments.reading(segment.digest):
                schema = columns.chosen(pq.read_schema(files.path(segment.digest)), keys)
            yield Part(run.name, schema, digest=segment.digest)
        lines = [line for _, line in streams.later(late.get(run.id, []), of_runs[run.id])]
        if lines:
            table = columns.table_of(lines)
            table = table.select(columns.chosen(table.schema, keys).names)
            yield Part(run.name, table.schema, table=table)


def _in_hundreds(values: Sequence[int]) -> Iterator[Sequence[int]]:
    yield from (values[start : start + 500] for start in range(0, len(values), 500))  # a statement takes only so many


def _common(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return a schema that every part can be brought to."""
    import pyarrow as pa

    kinds: dict[str, set[Any]] = {}
    for schema in schemas:
        for field in schema:
            kinds.setdefault(field.name, set()).add("json" if columns.form_of(field) else field.type)
    fields = [pa.field("run", pa.dictionary(pa.int32(), pa.string()))]
    for name, found in kinds.items():
        if found == {pa.int64(), pa.float64()}:
            fields.append(pa.field(name, pa.float64()))
        elif len(found) == 1 and "json" not in found:
            fields.append(pa.field(name, *found))
        else:
            fields.append(columns.json_field(name))
    return pa.schema(fields)


def _written(files: Files, parts: Sequence[Part], schema: pa.Schema, keys: Collection[str] | None) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    most = max(min(GROUP_ROWS, GROUP_CELLS // len(schema)), 1)
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        group: list[tuple[str, pa.Table]] = []
        count = 0
        for place, part in enumerate(parts, start=1):
            table = part.table if part.digest is None else segments.read(files, part.digest, keys)
            assert table is not None
            group.append((part.run, table))
            count += table.num_rows
            if count >= most or place == len(parts):
                writer.write_table(_joined(group, schema))
                group.clear()
                count = 0
                yield _taken(sink)
    yield _taken(sink)


def _taken(sink: io.BytesIO) -> bytes:
    """Return what has been written, and let go of it; the writer counts for itself where it is."""
    piece = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return piece


def _joined(group: Sequence[tuple[str, pa.Table]], schema: pa.Schema) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    names = list(dict.fromkeys(run for run, _ in group))
    places = {run: place for place, run in enumerate(names)}
    counts = [table.num_rows for _, table in group]
    ids = np.repeat(np.array([places[run] for run, _ in group], np.int32), counts)
    # keys may be named run, too: only the first column is ours
    own = pa.schema(list(schema)[1:])
    rest = pa.concat_tables([columns.brought_to(own, table) for _, table in group])
    run = pa.DictionaryArray.from_arrays(pa.array(ids, pa.int32()), pa.array(names, pa.string()))
    return pa.table([run, *rest.columns], schema)
