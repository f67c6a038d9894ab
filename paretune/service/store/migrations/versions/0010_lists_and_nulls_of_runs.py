"""Indexes lists, nulls and booleans of configs and summaries, and reindexes what older versions stored.

The rules are those of run_values.py as they were then.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
NUMBER, TEXT, BOOLEAN, NULL, LIST, MAPPING = "n", "t", "b", "z", "l", "m"
MOST_VALUES = 2000  # of a config or summary by which runs can be found
MOST_ELEMENTS = 500  # of its lists
MOST_KEY, MOST_TEXT = 256, 512  # characters that are kept
MOST_PATH = 1000  # characters of a path by which a value can be found
MOST_LISTED = 10_000  # values of a list that is compared as a whole
MOST_WRITTEN = 50_000  # values of all such lists of a config or summary; those of a list in a list count twice
EXACT = 2**53  # below which a float has every whole number
MOST_DEPTH = 50  # of values that lie in each other
CHARACTERS = 16  # of a text that take as long as a number
DIGEST = 32  # characters that tell longer ones apart


def upgrade() -> None:
    op.add_column("run_value", sa.Column("kind", sa.String(length=1), nullable=False, server_default="t"))
    op.add_column("run_value", sa.Column("size", sa.Integer(), nullable=True))
    op.create_table(
        "run_element",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(length=1), nullable=False),
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("position", sa.String(length=256), nullable=False),
        sa.Column("is_element", sa.Boolean(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("text", sa.String(length=512), nullable=True),
        sa.Column("kind", sa.String(length=1), nullable=False),
        sa.Column("size", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "place", "key", "position", "is_element"),
    )
    connection = op.get_bind()
    tables = sa.MetaData()
    run, value, element = (sa.Table(name, tables, autoload_with=connection) for name in ("run", "run_value", "run_element"))
    connection.execute(sa.delete(value))  # which were cut off at another length, and are made of the same texts
    for number in connection.scalars(sa.select(run.c.id)).all():
        config, summary = connection.execute(sa.select(run.c.config, run.c.summary).where(run.c.id == number)).one()
        for place, values in (("c", _plain(json.loads(config))), ("s", json.loads(summary))):
            row = {"run_id": number, "place": place}
            found, in_lists = rows_of(values)
            for table, rows in (
                (value, [{**row, "key": key, **kept._asdict()} for key, kept in found.items()]),
                (element, [{**row, **where._asdict(), **kept._asdict()} for where, kept in in_lists.items()]),
            ):
                if rows:
                    connection.execute(sa.insert(table), rows)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config without W&B's wrapping of each value and without what W&B keeps for itself."""
    return {
        key: entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        for key, entry in config.items()
        if key != "_wandb"
    }


class Kept(NamedTuple):
    """What is kept of a value: its kind and, by the kind, its number, its text or how many elements it has."""

    kind: str
    number: float | None = None
    text: str | None = None
    size: int | None = None


class Place(NamedTuple):
    """Where a value that lies in a list is found: its path without the places in lists, and those places.

    `,1:0,3:2,` is the first element of the list behind the first part of the path, and the third of the one behind the third.
    """

    key: str
    position: str
    is_element: bool  # of the list that the path names; else a value of a mapping that stands in a list


def kept_of(value: Any) -> Kept:
    """Return what is kept of a JSON value."""
    if value is None:
        return Kept(NULL)
    if isinstance(value, bool):
        return Kept(BOOLEAN, text="true" if value else "false")
    if isinstance(value, int | float):
        return Kept(NUMBER, number=float_of(value) if value == value else None)
    if isinstance(value, str):
        return Kept(TEXT, text=shortened(value, MOST_TEXT))
    if isinstance(value, Mapping):
        return Kept(MAPPING)
    return Kept(
        LIST, text=shortened(json.dumps(_comparable(value), separators=(",", ":"), sort_keys=True), MOST_TEXT), size=len(value)
    )


def rows_of(values: Mapping[str, Any]) -> tuple[dict[str, Kept], dict[Place, Kept]]:
    """Return the values of a nested mapping by dotted path, and those that lie in its lists; of both so many at most.

    A list of media, or one that is large or comes after many others, is kept without its text: it equals no other.
    """
    found: dict[str, Kept] = {}
    elements: dict[Place, Kept] = {}
    left = MOST_WRITTEN

    def kept(value: Any, is_media: bool) -> Kept:
        nonlocal left
        if not isinstance(value, list):
            return kept_of(value)
        most = 0 if is_media else min(left, MOST_LISTED)
        if len(value) > most:
            return Kept(LIST, size=len(value))
        weight = _weight(value, most)
        left -= min(weight, most)
        return kept_of(value) if weight <= most else Kept(LIST, size=len(value))

    for path, value, is_media in _values(values, ""):
        if len(found) == MOST_VALUES:
            break
        found[shortened(path, MOST_KEY)] = kept(value, is_media)
        if isinstance(value, list) and not is_media:
            for place, element, in_media in _elements(value, path, ","):
                if len(elements) == MOST_ELEMENTS:
                    break
                elements[place] = kept(element, in_media)
    return found, elements


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters, which longer texts share with no other."""
    if len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:DIGEST]
    return text[: most - DIGEST] + digest


def float_of(value: float) -> float:
    """Return a number as one of 64 bits; a larger one is infinite."""
    if abs(value) < 1e308 or value != value:
        return float(value)
    return math.inf if value > 0 else -math.inf


def _values(values: Mapping[str, Any], prefix: str, *, is_media: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """Yield the values of a nested mapping by path, and whether each belongs to a histogram, a table or media.

    W&B's client marks those by `_type`; their lists change at every step, and nobody looks for a run by what is in them.
    """
    for key, value in values.items():
        path = f"{prefix}{key}"
        if len(path) > MOST_PATH:
            continue
        yield path, value, is_media
        if isinstance(value, dict) and prefix.count(".") < MOST_DEPTH:
            yield from _values(value, f"{path}.", is_media=is_media or "_type" in value)


def _elements(values: Sequence[Any], path: str, position: str) -> Iterator[tuple[Place, Any, bool]]:
    key = shortened(path, MOST_KEY)
    for number, value in enumerate(values):
        place = f"{position}{path.count('.') + 1}:{number},"
        if len(place) > MOST_KEY:
            return
        yield Place(key, place, True), value, False
        if isinstance(value, list) and path.count(".") < MOST_DEPTH:  # a path leads into it by its number alone
            yield from _elements(value, f"{path}.{number}", position)
        if isinstance(value, dict):
            for name, inner, is_media in _values(value, f"{path}.", is_media="_type" in value):
                yield Place(shortened(name, MOST_KEY), place, False), inner, is_media
                if isinstance(inner, list) and not is_media:
                    yield from _elements(inner, name, place)


def _weight(value: Any, most: int) -> int:
    """Return how many values lie in a list or mapping, a long text counting as several; more than `most` where there are more."""
    weight, waiting = 0, [value]
    while waiting and weight <= most:
        one = waiting.pop()
        if isinstance(one, str):
            weight += len(one) // CHARACTERS
        elif isinstance(one, Mapping | list):
            weight += len(one)
            if weight <= most:
                waiting += [*one, *one.values()] if isinstance(one, Mapping) else one
    return weight


def _comparable(value: Any, depth: int = MOST_DEPTH) -> Any:
    """Return JSON values of which equal ones are written alike, as 1 and 1.0 are; what lies too deep is left out."""
    if isinstance(value, Mapping):
        return {str(key): _comparable(one, depth - 1) for key, one in value.items()} if depth else None
    if isinstance(value, list | tuple):
        return [_comparable(one, depth - 1) for one in value] if depth else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    number = float_of(value)
    return int(number) if number.is_integer() and abs(number) < EXACT else number
