"""History rows as columns of a Parquet file, from which exactly the same rows are read back.

Each key is a column: of whole numbers, floats, texts or booleans where all its values are of that kind, else of JSON texts, which
the field's metadata says. The client writes 1.0 as 1, so that floats among whole numbers are the rule: they are a column of floats
whose metadata names the whole ones. A null is a key that a row does not have. Rows of very many keys, or with a key that cannot
name a column, are kept as the lines that they came as.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.service.store.safe_json import fit, stored

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ABSENT = ...  # no value of JSON
FORM, WHOLE = b"paretune.form", b"paretune.whole"  # metadata of a field: json or line; which rows hold whole numbers
LINE = "line"  # the one column of rows that are kept as lines
MOST_COLUMNS = 2_000
MOST_CELLS = 20_000_000
MOST_LETTERS = 2**20  # of all names of columns; readers refuse a header of 100 MB
EXACT = 2**53  # up to which every whole number is a float
GROUP = 10_000  # rows that a reader takes at once
SMALL = 5_000  # rows


def table_of(lines: Sequence[str], rows: Sequence[dict[str, Any]] | None = None) -> pa.Table:
    """Lay out lines of JSON objects as columns.

    Args:
        rows: the objects, where they have been read already.
    """
    import pyarrow as pa

    rows = [stored(line) for line in lines] if rows is None else rows
    keys = list(dict.fromkeys(key for row in rows for key in row))
    with contextlib.suppress(RecursionError):  # of values inside values, which can be read and not be written
        if (
            0 < len(keys) <= MOST_COLUMNS
            and sum(map(len, keys)) <= MOST_LETTERS
            and len(keys) * len(rows) <= MOST_CELLS
            and all(map(_can_name, keys))
        ):
            columns = [_column(key, [row.get(key, ABSENT) for row in rows]) for key in keys]
            return pa.table([array for _, array in columns], pa.schema([field for field, _ in columns]))
    return pa.table([pa.array(lines, pa.string())], pa.schema([pa.field(LINE, pa.string(), metadata={FORM: "line"})]))


def rows_of(table: pa.Table, places: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Return the rows of a table.

    Args:
        places: of its rows in the table that was laid out, where it is only a part of that.
    """
    places = range(table.num_rows) if places is None else places
    if table.num_columns and form_of(table.schema.field(0)) == "line":
        return [stored(line) for line in table.column(0).to_pylist()]
    rows: list[dict[str, Any]] = [{} for _ in places]
    for field, column in zip(table.schema, table.columns, strict=True):
        name = fit(field.name)
        for row, value in zip(rows, _values(field, column, places), strict=True):
            if value is not ABSENT:
                row[name] = value
    return rows


def is_plain(table: pa.Table) -> bool:
    """Whether W&B's client reads from the file what was logged: in each row a number, text or boolean of each key, as steps rise.

    It takes a null for a None that was logged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if "_step" not in table.column_names or any(column.null_count for column in table.columns) or any(map(form_of, table.schema)):
        return False
    steps = table.column("_step").combine_chunks()
    return steps.type == pa.int64() and pc.all(pc.less(steps[:-1], steps[1:])).as_py() is not False  # None of a single row


def form_of(field: pa.Field) -> str:
    """Return how the texts of a column are meant: json, line, or nothing where it is a column of values."""
    return (field.metadata or {}).get(FORM, b"").decode()


def json_field(name: str) -> pa.Field:
    """Return the field of a column of JSON texts."""
    import pyarrow as pa

    return pa.field(name, pa.string(), metadata={FORM: "json"})


def chosen(schema: pa.Schema, keys: Collection[str] | None) -> pa.Schema:
    """Return the fields of a schema that hold keys; a path into nested values, such as a.b, wants the column a, too."""
    import pyarrow as pa

    if keys is None:
        return schema
    heads = {key[:place] for key in keys for place in _ends(key)}
    return pa.schema([field for field in schema if field.name in heads or form_of(field) == "line"])


def brought_to(schema: pa.Schema, table: pa.Table) -> pa.Table:
    """Return a table with the columns of a schema: nulls where it has none, whole numbers as floats, anything as JSON."""
    import pyarrow as pa

    if table.schema.remove_metadata().equals(schema, check_metadata=True):  # its fields' metadata stay, and say what is JSON
        return table.replace_schema_metadata(None)
    known = {field.name: (field, column) for field, column in zip(table.schema, table.columns, strict=True)}
    found = []
    for wanted in schema:
        field, column = known.get(wanted.name, (None, None))
        if field is None or column is None:
            found.append(pa.nulls(table.num_rows, wanted.type))
        elif form_of(wanted) == "json" and form_of(field) != "json":
            values = _values(field, column, range(len(column)))
            found.append(pa.array([None if value is ABSENT else json.dumps(value) for value in values], wanted.type))
        else:
            found.append(column if column.type == wanted.type else column.cast(wanted.type, safe=False))
    return pa.table(found, schema)


def write(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    texts = [field.name for field in table.schema if field.type == pa.string()]
    how = (
        "snappy" if table.num_rows < SMALL else "zstd"
    )  # of a small file zstd is two thirds, and takes three times as long to read
    pq.write_table(table, sink, compression=how, use_dictionary=texts, row_group_size=GROUP)
    return sink.getvalue()


def read(path: Path, keys: Collection[str] | None = None, start: int = 0, stop: int | None = None) -> pa.Table:
    """Read rows of a file that `write` made, from `start` up to but not `stop`.

    Args:
        keys: which columns are wanted; a path into nested values, such as a.b, wants the column a, too.

    Raises:
        OSError, ValueError: if it is not there, or no Parquet file.
    """
    with _opened(path) as file:
        groups, first = _groups(file, start, file.metadata.num_rows if stop is None else stop)
        wanted = chosen(file.schema_arrow, keys).names
        table = file.read_row_groups(groups, None if keys is None else wanted, use_threads=False)
        table = table.select(wanted)  # a column a brings a.b along
        return table.slice(start - first, None if stop is None else max(stop - start, 0))


def places_between(path: Path, first: float, stop: float) -> range:
    """Return the rows of a file from the first to the last whose step is at least `first` and below `stop`.

    Raises:
        OSError, ValueError: if it is not there, or no Parquet file.
    """
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.types as types

    with _opened(path) as file:
        kind = file.schema_arrow.field("_step").type if "_step" in file.schema_arrow.names else None
        if kind is None or not (types.is_integer(kind) or types.is_floating(kind)):
            return range(file.metadata.num_rows)
        steps = file.read(["_step"], use_threads=False).column("_step")
    known = pc.fill_null(pc.floor(steps), 0).to_numpy()
    found = np.flatnonzero((known >= first) & (known < stop))
    return range(int(found[0]), int(found[-1]) + 1) if len(found) else range(0)


def _opened(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # nearly all files are small: what helps with large ones costs more than it saves
    return pq.ParquetFile(pa.BufferReader(path.read_bytes()), pre_buffer=False)


def _groups(file: pq.ParquetFile, start: int, stop: int) -> tuple[list[int], int]:
    """Return the groups that hold some rows, and the row with which the first of them begins."""
    ends = list(accumulate(file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)))
    begins = [0, *ends][: len(ends)]
    found = [group for group in range(len(ends)) if ends[group] > start and begins[group] < stop]
    return found, begins[found[0]] if found else start


def _ends(key: str) -> Iterator[int]:
    yield from (place for place, letter in enumerate(key) if letter == ".")
    yield len(key)


def _can_name(key: str) -> bool:
    return key != "" and not any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in key)


def _column(key: str, values: list[Any]) -> tuple[pa.Field, pa.Array]:
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(ABSENT)}
    known = values if len(kinds) == 1 and ABSENT not in values else [None if value is ABSENT else value for value in values]
    try:
        if kinds == {int}:
            return pa.field(key, pa.int64()), pa.array(known, pa.int64())
        if kinds == {float}:
            return pa.field(key, pa.float64()), pa.array(known, pa.float64())
        if kinds == {bool}:
            return pa.field(key, pa.bool_()), pa.array(known, pa.bool_())
        if kinds == {str}:
            return pa.field(key, pa.string()), pa.array(known, pa.string())
        if kinds == {int, float} and all(abs(value) <= EXACT for value in values if type(value) is int):
            whole = pa.field(key, pa.float64(), metadata={WHOLE: _packed([type(value) is int for value in values])})
            return whole, pa.array([None if value is None else float(value) for value in known], pa.float64())
    except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid):
        pass  # a number or a text that has no place in such a column
    texts = [None if value is ABSENT else json.dumps(value) for value in values]
    return json_field(key), pa.array(texts, pa.string())


def _values(field: pa.Field, column: pa.ChunkedArray, places: Sequence[int]) -> list[Any]:
    values: list[Any] = column.to_pylist() if column.null_count else column.to_numpy().tolist()
    if column.null_count:
        values = [ABSENT if value is None else value for value in values]
    if form_of(field) == "json":
        return [value if value is ABSENT else stored(value) for value in values]
    mark = (field.metadata or {}).get(WHOLE)
    if mark is None or not places:
        return values
    whole = _unpacked(mark, places[-1] + 1)
    return [int(value) if whole[place] else value for value, place in zip(values, places, strict=True)]


def _packed(bits: Sequence[bool]) -> bytes:
    import numpy as np

    return base64.b64encode(zlib.compress(np.packbits(bits).tobytes(), 1))


def _unpacked(text: bytes, count: int) -> list[bool]:
    import numpy as np

    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.unpackbits(bits, count=count).astype(bool).tolist()
