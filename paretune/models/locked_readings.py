"""Records every evaluation on the locked test set, with the model and in its study, before it happens.

A reading is a mapping: `id`, `when` (ISO time), `by` (the command), `run` (that the model was retrained from, or None),
`fingerprint` (of the part) and `accuracy` (None where it was not measured, or not to the end). In a model's metrics.json they
are the list `locked_part_reads`, in a study one attribute each, so that processes that read at the same time lose none.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paretune.core.errors import UsageError
from paretune.core.locks import locked
from paretune.models.saved_models import LOCK, describe, read_metrics, write_json
from paretune.runs import study_schema
from paretune.runs.study_storage import close, database, open_storage, readable_errors

KEY = "locked_part_reads"
Reading = dict[str, Any]


def new_reading(by: str, fingerprint: str | None, *, run: str | None = None, **more: Any) -> Reading:
    """Return a reading that is about to happen."""
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return {"id": secrets.token_hex(4), "run": run, **more, "when": when, "by": by, "fingerprint": fingerprint, "accuracy": None}


def together(*lists: Iterable[Mapping[str, Any]]) -> list[Reading]:
    """Return readings of several records, each once, the oldest first; of one that was written down twice the fuller."""
    found: dict[Any, Reading] = {}
    for reading in (dict(one) for some in lists for one in some):
        key = reading.get("id") or (reading.get("run"), reading.get("when"))  # without an id: of older versions
        if key not in found or found[key].get("accuracy") is None:
            found[key] = reading
    return sorted(found.values(), key=lambda reading: str(reading.get("when") or ""))


def of_model(directory: Path | str) -> list[Reading]:
    """Return the readings that a model has on record; none where there is no model."""
    try:
        return [dict(one) for one in read_metrics(directory).get(KEY, []) if isinstance(one, Mapping)]
    except UsageError:
        return []


def of_study(source: str) -> list[Reading]:
    """Return the readings that a study has on record; none where the source is no study."""
    import optuna

    try:
        url, wanted = database(source)
    except UsageError:  # W&B's run files alone, or a project at W&B
        return []
    with readable_errors(url, writing=False):
        storage = open_storage(url, writing=False)
        names = [name for name in optuna.get_all_study_names(storage) if wanted in (None, name)]
        attributes = [optuna.load_study(study_name=name, storage=storage).user_attrs for name in names]
        close(storage)
    return together(value for known in attributes for key, value in known.items() if key.startswith(study_schema.READ))


def put_in_study(source: str, reading: Reading) -> None:
    """Put a reading on a study's record, or complete it there; say so where that is not possible, and go on."""
    import optuna

    try:
        url, name = database(source)
        with readable_errors(url):
            storage = open_storage(url)
            names = sorted(optuna.get_all_study_names(storage))
            found = name if name in names else names[0] if len(names) == 1 else None
            if found is not None:
                study = optuna.load_study(study_name=found, storage=storage)
                study.set_user_attr(study_schema.READ + reading["id"], reading)
            close(storage)
        if found is None:
            raise UsageError(f"{source} holds no such study")
    except UsageError as error:
        if reading["accuracy"] is None:  # it is said once, before the reading
            print(f"note: this reading of the locked part is not on the study's record: {error}", file=sys.stderr)


@contextmanager
def on_record(model: Path | str, fingerprint: str | None, by: str) -> Iterator[Reading]:
    """Put a reading by a saved model on record before the body reads; what the body sets in it is on record afterwards.

    Where a record cannot be written, that is said, and the body runs.
    """
    description = describe(model)
    reading = new_reading(by, fingerprint, run=description.get("run"))
    study = description.get("study")
    _put_with_model(Path(model), reading)
    if study:
        put_in_study(str(study), reading)
    yield reading
    _put_with_model(Path(model), reading, silent=True)
    if study:
        put_in_study(str(study), reading)


def _put_with_model(directory: Path, reading: Reading, *, silent: bool = False) -> None:
    try:
        with locked(directory / LOCK):
            metrics = read_metrics(directory)
            known = metrics.get(KEY, [])
            if (
                KEY not in metrics and metrics.get("split") == "test"
            ):  # of an older version: how often it was read before is unknown
                known = [{"run": reading["run"], "when": metrics.get("locked_part_read"), "by": None}]
            others = [one for one in known if one.get("id") != reading["id"]]
            write_down(directory / "metrics.json", {**metrics, KEY: [*others, reading]})
    except (OSError, UsageError) as error:
        if not silent:
            reason = error.strerror if isinstance(error, OSError) else error
            print(f"note: this reading of the locked part is not on the record of {directory}: {reason}", file=sys.stderr)


def write_down(path: Path, values: Any) -> None:
    """Write JSON, whole or not at all, so that not even a machine that stops in the next moment forgets it."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        write_json(partial, values)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_down(path: Path) -> list[Reading]:
    """Return the readings that `write_down` put into a file of their own; none where it is not there."""
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []
