"""How a trial stands in an Optuna study: the names under which `search` writes it and `analysis` reads it.

W&B's files are the store of finished runs; the study also holds every epoch, so that status, pruning, killed trials and
runs of other machines need no run file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

# of a study
SWEEP, VALUES, SEED, CLASSIFIER, GOALS, STUDY_ID = "sweep", "values", "seed", "classifier", "goals", "study_id"
PROGRAM = "program"  # SHA-256 of the program of a model that does not come with paretune
TERMINATED = "terminated"  # how many trials had ended when the person's own terminator ended the sweep
DATA = "data:"  # begins the attributes that say which images the trials were trained on, one for each way to split them
READ = "locked_part_read:"  # begins the attributes that are readings of the locked test part (paretune/models/locked_readings.py)
# of a trial
WORKER = "worker"  # who trains it: host, the file whose lock shows on that host that it lives, and whether it still waits there
BEAT = "beat"  # counts up while it is trained, for the other hosts
# id, host and path of its W&B run, its whole config, the origin of a person's own program, and the seconds that its suggestion took
RUN = "run"
CAUSE, PRUNED, BASELINE = "cause", "pruned", "baseline"
RETRY_OF, ATTEMPT, ORIGIN = "retry_of", "attempt", "origin"  # the trial before, how often a worker died, and the first of them
PRIOR, POINT = "prior", "point"  # taken over with its result from elsewhere; asked for by a person
EXACT = "exact"  # values that a person gave, by name, where the draw that stands for one gives it back only nearly
INTERRUPTED, SURPLUS = "interrupted", "surplus"  # causes of trials that do not count
UNCOUNTED = (INTERRUPTED, SURPLUS)
GIVEN = (BASELINE, POINT, EXACT)  # what a retried trial keeps
ENDED_BY = "ended_by"  # the sampler of the person's own study that had nothing left to suggest after this trial
# of a row: begins the names of objectives whose value a program decided in its summary, where its rows say otherwise
SUMMARY = "_summary."
LAST = "_last"  # of a row: whether training ended by itself with it; `last` in studies of older versions
# what older versions put into the config of a trial of a person's own program, beside its values
ADDED = ("best_metric", "evaluation_split", "provenance")
_EPOCH, _EPOCHS = "epoch:", "epochs:"


def parted(config: Mapping[str, Any], given: Collection[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the config of a trial of a person's own program without what older versions added to it, and its origin, if they did.

    Args:
        given: names that the sweep itself gives values, which are its own.
    """
    origin = config.get("provenance")
    if not isinstance(origin, Mapping) or origin.keys() != {"commit", "versions"}:
        return dict(config), {}
    return {name: value for name, value in config.items() if name in given or name not in ADDED}, dict(origin)


def in_stated_order(violations: Mapping[str, float], study: Mapping[str, Any]) -> dict[str, float]:
    """Return the violations of constraints in the order in which the sweep states these, by a study's attributes."""
    stated = (study.get(SWEEP, {}).get("search") or {}).get("constraints") or []
    places = {str(text).strip(): place for place, text in enumerate(stated)}
    return {text: violations[text] for text in sorted(violations, key=lambda text: places.get(text, len(places)))}


def given_names(study: Mapping[str, Any], trial: Mapping[str, Any]) -> set[str]:
    """Return the names that a sweep gives values, by a study's attributes and the values that a trial has drawn."""
    return {*trial, *(study.get(SWEEP, {}).get("parameters") or {})}


def begun(trial: optuna.Trial | FrozenTrial) -> float | None:
    """Return when a study gave out a trial, in seconds since 1970: the order of a sweep's runs, wherever they are read from."""
    return None if trial.datetime_start is None else trial.datetime_start.timestamp()


def epoch_key(number: int) -> str:
    """Return the attribute that holds one epoch's metrics."""
    return f"{_EPOCH}{number}"


def epochs_entry(rows: Sequence[Mapping[str, Any]]) -> tuple[str, Any]:
    """Return the attribute that holds rows as `epochs_of` returns them, and its value: many become known at once at times."""
    if len(rows) > 1:
        return f"{_EPOCHS}{rows[0]['epoch']}-{rows[-1]['epoch']}", [dict(row) for row in rows]
    return epoch_key(rows[0]["epoch"]), {name: value for name, value in rows[0].items() if name != "epoch"}


def epochs_of(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a trial's epochs in order: `epoch`, the metrics, and LAST: whether training ended by itself, False where unknown."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if key.startswith(_EPOCH):
            number = int(float(key.removeprefix(_EPOCH)))  # older studies may hold a program's own count, a float
            rows = [{"epoch": number, **value}]
        else:
            rows = value if key.startswith(_EPOCHS) else []
        for row in map(_with_last, rows):
            if row["epoch"] not in found or row[LAST]:  # that it was the last may only have been known later
                found[row["epoch"]] = row
    return [found[number] for number in sorted(found)]


def _with_last(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with LAST; a program's own metric `last` stays where there is one."""
    if LAST in row:
        return dict(row)
    return {**{name: value for name, value in row.items() if name != "last"}, LAST: row.get("last", False)}
