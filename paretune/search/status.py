"""Where a study stands: how its trials ended, the best or the front, what runs, the rate, failures with their causes.

usage: python -m paretune.search.status STUDY [--name NAME] [--watch] [--export FILE.csv|FILE.parquet|FILE.json]

STUDY is a study's folder (runs/ann-digits), its study.db, or a storage URL with #NAME.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.models.effective_configuration import effective_configuration, inactive_names, text_of
from paretune.models.registry import MODELS
from paretune.runs import study_schema
from paretune.runs.study_storage import database, open_storage, quiet_optuna, readable_errors

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

ROWS = 5
MOST = 16  # running trials that are listed
EVERY = 2.0  # seconds between looks of --watch
WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.search.status", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_study(parser)
    parser.add_argument("--watch", action="store_true", help="show it again every 2 seconds, until Ctrl-C")
    parser.add_argument("--export", metavar="FILE", help="write all trials to FILE.csv, FILE.parquet or FILE.json")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        study = open_existing(options.study, options.name)
        with readable_errors(database(options.study)[0], writing=False):
            if options.export:
                export(study, Path(options.export))
                print(f"wrote {options.export}")
            elif options.watch:
                watch(study)
            else:
                print(report(study))
    return 0


def watch(study: optuna.Study) -> None:
    """Print the report every two seconds, until Ctrl-C."""
    clear = "\x1b[2J\x1b[H" if sys.stdout.isatty() else ""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            print(f"{clear}{report(study)}\n", flush=True)
            time.sleep(EVERY)


def open_existing(source: str, name: str | None = None) -> optuna.Study:
    """Open the study that a person points at.

    Raises:
        UsageError: if it is not there, or its storage holds several.
    """
    import optuna

    quiet_optuna()
    url, name = database(source, name)
    with readable_errors(url, writing=False):
        storage = open_storage(url, writing=False)
        names = sorted(study.study_name for study in storage.get_all_studies())
        if name is None and len(names) != 1:
            raise UsageError(f"{source} holds {len(names)} studies ({', '.join(names) or 'none'}): name one with --name.")
        if name is not None and name not in names:
            raise UsageError(f"{source} holds no study {name!r}; there are {', '.join(names) or 'none'}.")
        return optuna.load_study(study_name=name or names[0], storage=storage)


def report(study: optuna.Study) -> str:
    """Return everything that the command prints."""
    from paretune.search.engine.study import finished

    trials = study.get_trials(deepcopy=False)
    goals = goals_of(study)
    lines = [table(study, goals)]
    running = [trial for trial in trials if trial.state.name == "RUNNING"]
    for trial in running[:MOST]:
        rows = study_schema.epochs_of(trial.user_attrs)
        host = trial.user_attrs.get(study_schema.WORKER, {}).get("host", "an unknown machine")
        latest = ", ".join(f"{name} {rows[-1].get(name, float('nan')):.4f}" for name in goals) if rows else "no epoch yet"
        lines.append(f"running: trial {trial.number} on {host}, " + (f"epoch {rows[-1]['epoch']}, " if rows else "") + latest)
    if len(running) > MOST:
        lines.append(f"running: {len(running) - MOST} more")
    rate = _rate(finished(trials))
    waiting = sum(trial.state.name == "WAITING" for trial in trials)
    if rate is not None:
        lines.append(f"rate: {rate:,.{0 if rate >= 10 else 1}f} trials an hour")
    seconds = [run["suggested"] for trial in trials if "suggested" in (run := trial.user_attrs.get(study_schema.RUN, {}))]
    if seconds:
        lines.append(f"suggestions: {statistics.median(seconds):.3f} s in the median, {max(seconds):.3f} s at most")
    if waiting:
        lines.append(f"waiting: {waiting}")
    back = [trial.number for trial in trials if trial.user_attrs.get(study_schema.CAUSE) == study_schema.INTERRUPTED]
    if back:
        lines.append(f"given back and tried again: {_listed(back)}")
    prior = sum(study_schema.PRIOR in trial.user_attrs for trial in trials)
    if prior:
        lines.append(f"learnt from elsewhere: {prior} finished runs")
    return "\n".join(lines).lstrip("\n")


def _listed(numbers: Sequence[int]) -> str:
    """Return `trial 3` or `trials 3, 4, …`."""
    shown = ", ".join(map(str, numbers[:ROWS])) + (", …" if len(numbers) > ROWS else "")
    return f"trial{'s' if len(numbers) > 1 else ''} {shown}"


def _causes(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return a line per cause of failure."""
    from optuna.trial import TrialState

    causes: dict[str, list[int]] = {}
    for trial in trials:
        if trial.state == TrialState.FAIL:
            causes.setdefault(trial.user_attrs.get(study_schema.CAUSE, "no cause is known"), []).append(trial.number)
    return [f"failed: {_listed(numbers)}: {cause}" for cause, numbers in causes.items()]


def goals_of(study: optuna.Study) -> dict[str, str]:
    """Return the goal of each objective by its name."""
    known = study.user_attrs.get(study_schema.GOALS)
    if known:
        return dict(known)
    names = study.metric_names or [f"value {place}" for place in range(len(study.directions))]
    return {name: direction.name.lower() for name, direction in zip(names, study.directions, strict=True)}


def _rate(trials: Sequence[FrozenTrial]) -> float | None:
    """Return the trials an hour over the last twenty that ended."""
    ends = sorted(trial.datetime_complete for trial in trials if trial.datetime_complete is not None)[-20:]
    if len(ends) < 2 or ends[-1] == ends[0]:
        return None
    return (len(ends) - 1) / ((ends[-1] - ends[0]).total_seconds() / 3600)


def table(study: optuna.Study, goals: Mapping[str, str]) -> str:
    """Return how the trials ended, and the best of them (with several objectives, the front) with what was searched."""
    from optuna.trial import TrialState

    from paretune.search.engine.study import best_trials, feasible, finished

    trials = finished(study.get_trials(deepcopy=False))
    counts = [(WORDS[state.name], sum(trial.state == state for trial in trials)) for state in TrialState]
    lines = [
        f"\n{study.study_name}: " + (", ".join(f"{count} {state}" for state, count in counts if count) or "no trial has ended")
    ]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and feasible(trial)]
    out = [trial for trial in trials if trial.state == TrialState.COMPLETE and not feasible(trial)]
    unknown = [trial for trial in out if math.inf in trial.constraints.values()]
    if len(out) > len(unknown):
        lines.append(f"{len(out) - len(unknown)} of the complete trials break a constraint and do not compete")
    if unknown:
        texts = dict.fromkeys(text for trial in unknown for text, value in trial.constraints.items() if value == math.inf)
        numbers = _listed([trial.number for trial in unknown])
        lines.append(f"{', '.join(texts)} could not be evaluated for {numbers}, so that they do not compete")
    if not complete:
        return "\n".join([*lines, *_causes(trials)])
    ours, counts_of_equals = in_process(study), equal_trials(complete)
    distinct = [trial for trial in complete if trial.number in counts_of_equals]
    best = _front(distinct, goals, lines) if len(goals) > 1 else best_trials(distinct, goals, ROWS, ours=ours)
    baseline = [trial for trial in complete if trial.user_attrs.get(study_schema.BASELINE) and trial not in best]
    return "\n".join([*lines, *_cells([*best, *baseline], goals, counts_of_equals, ours=ours), *_causes(trials)])


def equal_trials(complete: Sequence[FrozenTrial]) -> dict[int, int]:
    """Return how many trials of one effective configuration have the same values, by the number of the first of them.

    Of an rbf kernel, say, those that differ in `degree`: they are shown once.
    """
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for trial in sorted(complete, key=lambda trial: trial.number):
        config = trial.user_attrs.get(study_schema.RUN, {}).get("config")
        key = text_of([effective_configuration(config), list(trial.values)]) if config else f"trial {trial.number}"
        number = first.setdefault(key, trial.number)
        found[number] = found.get(number, 0) + 1
    return found


def in_process(study: optuna.Study) -> bool:
    """Whether a study's trials were trained by a model of paretune's, and not by a program that was started for each."""
    return study.user_attrs.get(study_schema.CLASSIFIER) in MODELS or study_schema.PROGRAM in study.user_attrs


def _front(complete: Sequence[FrozenTrial], goals: Mapping[str, str], lines: list[str]) -> list[FrozenTrial]:
    """Return the trials on the front; adds its size and the hypervolume over the trials to the lines."""
    import numpy as np

    from paretune.core.pareto_front import hypervolumes, non_dominated, reference_point

    ordered = sorted(complete, key=lambda trial: trial.number)
    values = np.array([trial.values for trial in ordered])
    directions = list(goals.values())
    front = [trial for trial, kept in zip(ordered, non_dominated(values, directions), strict=True) if kept]
    reference = reference_point(values, directions)
    volumes = hypervolumes(values, directions, reference)
    places = sorted({round(i) for i in np.linspace(0, len(ordered) - 1, min(8, len(ordered)))})
    over = ", ".join(f"{volumes[i]:.4g} (trial {ordered[i].number})" for i in places)
    corner = ", ".join(f"{name} {value:.4g}" for name, value in zip(goals, reference, strict=True))
    lines += [f"front of {_trials(len(front))}; hypervolume from the worst values ({corner}) over the trials: {over}"]
    return front


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _cells(
    trials: Sequence[FrozenTrial], goals: Mapping[str, str], counts_of_equals: Mapping[int, int], *, ours: bool
) -> list[str]:
    from paretune.search.engine.study import counted_row

    values = [effective_values_of(trial) for trial in trials]
    active = {name for real in values for name in real}
    names = [name for name in dict.fromkeys(name for trial in trials for name in trial.params) if name in active]
    cells = [["trial", *goals, "epoch", *names]]
    for trial, real in zip(trials, values, strict=True):
        row = counted_row(study_schema.epochs_of(trial.user_attrs), goals, ours=ours) or {}
        label = f"{trial.number}{' (default)' if trial.user_attrs.get(study_schema.BASELINE) else ''}"
        label += f" ({_trials(count)})" if (count := counts_of_equals.get(trial.number, 1)) > 1 else ""
        measured = [
            f"{value:.4f}" + (f" ± {row[f'{name}_std']:.4f}" if f"{name}_std" in row else "")
            for name, value in zip(goals, trial.values, strict=True)
        ]
        cells.append([label, *measured, str(row.get("epoch", "")), *(_short(real.get(name, "-")) for name in names)])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def values_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return the real values of a trial's searched parameters, by their names in the study.

    What Optuna drew may be a quantile or a JSON text; the run's config holds what it stood for.
    """
    config = trial.user_attrs.get(study_schema.RUN, {}).get("config", {})
    found = {}
    for name, drawn in trial.params.items():
        value: Any = config.get(name, config)
        for step in name.split(".") if name not in config else ():
            value = value.get(step) if isinstance(value, Mapping) else None
        found[name] = drawn if value is None else value
    return found


def effective_values_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return `values_of` without the trial's inactive parameters."""
    inactive = inactive_names(trial.user_attrs.get(study_schema.RUN, {}).get("config", {}))
    return {name: value for name, value in values_of(trial).items() if name not in inactive}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def export(study: optuna.Study, path: Path) -> None:
    """Write a line per trial: number, state, cause, times, run id, objectives, parameters.

    Raises:
        UsageError: if the file is of another kind, or cannot be written.
    """
    import pandas as pd

    if path.suffix not in {".csv", ".parquet", ".json"}:
        raise UsageError(f"--export must end in .csv, .parquet or .json. Got {path}.")
    goals = goals_of(study)
    lines = []
    for trial in study.get_trials(deepcopy=False):
        run = trial.user_attrs.get(study_schema.RUN, {})
        values = dict(zip(goals, trial.values or [], strict=False))
        lines.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "cause": trial.user_attrs.get(study_schema.CAUSE),
                "started": _time(trial.datetime_start),
                "ended": _time(trial.datetime_complete),
                "run": run.get("id"),
                "host": run.get("host"),
                "epochs": len(study_schema.epochs_of(trial.user_attrs)),
                **{name: values.get(name) for name in goals},
                **{f"config.{name}": value for name, value in values_of(trial).items()},
            }
        )
    frame = pd.DataFrame(lines)  # in a file of JSON the lines stand as they are
    for column in filter(lambda name: pd.api.types.is_object_dtype(frame[name]), frame.columns):
        kinds = {type(value) for value in frame[column] if value is not None and value == value}
        if len(kinds) > 1 or kinds & {list, dict}:  # a column of Parquet has one type
            frame[column] = [None if value is None or value != value else str(value) for value in frame[column]]
    for column in filter(lambda name: pd.api.types.is_float_dtype(frame[name]), frame.columns):
        whole = [value for line in lines if (value := line.get(column)) is not None]
        if whole and all(isinstance(value, int) for value in whole):  # an empty cell has made floats of whole numbers
            frame[column] = pd.array([line.get(column) for line in lines], dtype="Int64")
    try:
        if path.suffix == ".csv":
            frame.to_csv(path, index=False)
        elif path.suffix == ".json":
            path.write_text(json.dumps(lines, indent=1, default=str) + "\n", encoding="utf-8")
        else:
            frame.to_parquet(path, index=False)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error}): choose another file.") from None


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the STUDY argument and --name."""
    parser.add_argument("study", metavar="STUDY", help="a study's folder (runs/NAME), its study.db, or a storage URL with #NAME")
    parser.add_argument("--name", help="the study's name, where the storage holds several")


if __name__ == "__main__":
    sys.exit(main())
