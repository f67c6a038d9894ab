"""Run histories as one tidy table: from W&B's offline run files, from a study, or from W&B's server.

usage: python -m analysis.history SOURCE [SOURCE …] [--to FILE.csv|FILE.parquet] [--runs FILE.csv|FILE.parquet]

SOURCE is a study's folder (runs/ann-digits), a storage URL, a folder or file of offline runs, or entity/project[/sweep].
Runs that are alive, were killed, or ran on another machine come from the study; its finished runs from their files.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.analysis.sources.offline import file_runs, join, study_runs, trial_of
from paretune.analysis.sources.run_record import LEADING, RunRecord, column_of, metric_of, runs_table, tidy
from paretune.analysis.sources.server import AT_WANDB, server_runs
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError, listed_names, names_there
from paretune.models.effective_configuration import text_of
from paretune.runs.wandb_files import DAMAGED, no_numbers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LEADING", "Filters", "RunRecord", "add_sources", "load_history", "load_runs", "runs_table", "sources_of", "tidy"]

MOST_SHOWN = 6  # metrics of a program that is not ours
MOST_NAMES = 3  # of run files that cannot be read


@dataclass(frozen=True)
class Filters:
    """Which runs of a source count: those that meet every condition that is given.

    `at_wandb` is a filter in W&B's own syntax (MongoDB's), which only its server understands.
    """

    states: Sequence[str] = ()
    tags: Sequence[str] = ()
    groups: Sequence[str] = ()
    metrics: Sequence[str] = ()
    at_wandb: Mapping[str, Any] = field(default_factory=dict)

    def lets_through(self, run: RunRecord) -> bool:
        """Whether a run meets the conditions, but for W&B's own."""
        return (
            (not self.states or run.state in self.states)
            and (not self.tags or bool(set(self.tags) & set(run.tags)))
            and (not self.groups or run.group in self.groups)
            and all(name in run.columns or column_of(name) in run.columns or name in run.summary for name in self.metrics)
        )

    def in_words(self) -> str:
        """Say what is asked for."""
        named = {"--state": self.states, "--tag": self.tags, "--group": self.groups, "--has": self.metrics}
        words = [f"{flag} {' '.join(values)}" for flag, values in named.items() if values]
        return ", ".join([*words, *(["--filter"] if self.at_wandb else [])])


def load_history(source: str | Path, filters: Filters | None = None) -> pd.DataFrame:
    """Return one row per run and epoch: see `paretune.analysis.sources.run_record.tidy` for the columns.

    Raises:
        UsageError: if the source is not there, or holds no run.
    """
    return tidy(load_runs(source, filters))


def load_runs(source: str | Path, filters: Filters | None = None) -> list[RunRecord]:
    """Return every run of a source that the filters let through, in the order of their creation, each with an id of its own.

    Raises:
        UsageError: if the source is not there, or holds no such run.
    """
    return _with_unique_ids(_runs_in(source, filters or Filters()))


def _runs_in(source: str | Path, filters: Filters) -> list[RunRecord]:
    """Return the runs that `load_runs` returns, under the ids that they have: two projects may have given one id."""
    text, path = str(source), Path(source)
    if not text.strip():
        raise UsageError("SOURCE is an empty text: give a study's folder (runs/NAME), . for this folder, or entity/project.")
    if filters.at_wandb and ("://" in text or path.exists()):
        raise UsageError(f"--filter is for W&B's server, and {text} is on this machine: use --state, --tag, --group or --has.")
    if "://" in text:
        runs = study_runs(text)
        if not runs:
            raise UsageError(f"{text} holds no run: give the storage URL of a sweep, with #NAME for one of its studies.")
    elif path.exists():
        runs = _runs_here(text, path)
    elif AT_WANDB.fullmatch(text):
        runs = server_runs(text, filters.at_wandb)
    else:
        raise UsageError(
            f"{text} is no folder here, and not of the form entity/project or entity/project/sweep: "
            "give a folder of runs (runs/NAME holds a study), or a project at W&B."
        )
    kept = [run for run in runs if filters.lets_through(run)]
    if not kept:
        states = ", ".join(sorted({run.state for run in runs}))
        logged = list(
            dict.fromkeys(metric_of(name) for run in runs for name in [*run.columns, *run.summary] if not name.startswith("_"))
        )
        unknown = next((name for name in filters.metrics if name not in logged), None)
        why = f" (states: {states})." if unknown is None else f": none has {unknown}{names_there(unknown, logged)}"
        raise UsageError(f"none of the {_counted(len(runs), 'run')} of {text} is let through by {filters.in_words()}{why}")
    _name_no_numbers(text, kept)
    return sorted(kept, key=lambda run: (math.isnan(run.created), run.created))


def _name_no_numbers(text: str, runs: Sequence[RunRecord]) -> None:
    """Say on stderr which metrics of other people's runs are no numbers: texts, truth values and lists, which nothing compares."""
    counts = Counter(name for run in runs if not run.ours for name in no_numbers(run.summary))
    columns = {metric_of(name) for run in runs for name in run.columns} if counts else set()
    # a metric may be a number in some runs, and a text in others
    names = [f"{name} (in {_counted(count, 'run')})" if name in columns else name for name, count in counts.items()]
    if names:
        are = "metric that is no number is" if len(names) == 1 else "metrics that are no numbers are"
        print(f"{text}: {len(names)} {are} left out here: {listed_names(names)}", file=sys.stderr)


def _runs_here(text: str, path: Path) -> list[RunRecord]:
    """Return the runs of a folder or file; the run files that hold none are counted and named on stderr.

    Raises:
        UsageError: if there is no run.
    """
    studies = sorted(path.glob("study.db")) if path.is_dir() else [path] if path.suffix == ".db" else []
    trials = study_runs(studies[0]) if studies else []
    files, unreadable = file_runs(path.parent if studies and path.is_file() else path)
    by_id = {run.run: run for run in trials}
    theirs = {file: trial_of(file, by_id) for file in unreadable}
    lost = [file for file, trial in theirs.items() if trial is None]
    runs = join(trials, files)
    if not runs:
        broken = f" ({_unread(lost)})" if lost else ""
        raise UsageError(f"{text} holds no run: give a study's folder (runs/NAME) or a folder of offline-run-* folders{broken}.")
    covered = [file for file, trial in theirs.items() if trial is not None and trial.state != "running"]
    for named, what in ((lost, "left out here"), (covered, "shown as the study knows them")):
        if named:
            print(f"{text}: {_unread(named)}; {what}", file=sys.stderr)
    _warn_of_damage(text, runs)
    return runs


def _warn_of_damage(text: str, runs: Sequence[RunRecord]) -> None:
    """Say on stderr which run files are damaged, and what of their runs is shown."""
    known = [Path(file) for run in runs for file in run.damaged if run.state != DAMAGED]
    alone = [Path(file) for run in runs for file in run.damaged if run.state == DAMAGED]
    for files, what in (
        (alone, "only the rows that can be read are shown, and such a run is left out of every comparison"),
        (known, "shown as the study knows them"),
    ):
        if files:
            are = "is" if len(files) == 1 else "are"
            print(f"{text}: {_counted(len(files), 'run file')} {are} damaged: {_named(files)}; {what}", file=sys.stderr)


def _unread(files: Sequence[Path]) -> str:
    """Count run files that hold no run, and name the first of them."""
    return f"no run can be read from {_counted(len(files), 'run file')}: {_named(files)}"


def _named(files: Sequence[Path]) -> str:
    more = f" and {len(files) - MOST_NAMES} more" if len(files) > MOST_NAMES else ""
    return ", ".join(file.name for file in files[:MOST_NAMES]) + more


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m analysis.history", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    parser.add_argument("--to", metavar="FILE", help="write the whole table, a row per run and epoch, to FILE.csv or FILE.parquet")
    parser.add_argument("--runs", metavar="FILE", help="write the table of runs to FILE.csv or FILE.parquet")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        runs = sources_of(options)
        table, history = runs_table(runs), tidy(runs)
        shown = ["run", "name", "state", "epochs", "best_epoch", "test_loss", "test_accuracy", "precision", "recall", "f1"]
        shown, hidden = [column for column in shown if column in table], list[str]()
        if "f1" not in table:  # a program that is not ours
            logged = list(table)[list(table).index("best_epoch") + 1 :]
            goals = {name for run in runs for name in run.goals}
            others = sorted(logged, key=lambda name: name not in goals)  # those first that the sweep looked for
            others = [column for column in others if column not in (*shown, "picked", "diverged")]
            shown, hidden = [*shown, *others[:MOST_SHOWN]], others[MOST_SHOWN:]
        print(as_text(table, shown))
        states = ", ".join(f"{count} {state}" for state, count in table["state"].value_counts().items())
        print(f"\n{_counted(len(table), 'run')} ({states}), {_counted(len(history), 'row')}")
        if hidden:
            print(f"not shown: {listed_names(hidden)}; --runs writes every column")
        elsewhere = [run.name for run in runs if run.file.startswith("on ")]
        if elsewhere:
            print(f"run files on other machines: {', '.join(elsewhere)}")
        for target, written in ((options.to, history), (options.runs, _whole(table, runs))):
            if target:
                write_table(written, Path(target))
                print(f"wrote {target}")
    return 0


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def as_text(table: pd.DataFrame, columns: Sequence[str]) -> str:
    """Return columns of a runs table as text: counts as whole numbers, and `last` where a run's epoch was not picked."""
    import numpy as np

    def whole(column: pd.Series) -> bool:
        values = column[np.isfinite(column)]
        return bool((values == values.round()).all() and (values.abs() > 1).any())

    def cell(value: float) -> str:
        return "-" if value != value else f"{value:.0f}"

    epochs = [cell(epoch) for epoch in table["best_epoch"]]
    texts = [epoch if picked or epoch == "-" else f"last ({epoch})" for epoch, picked in zip(epochs, table["picked"], strict=True)]
    counts = {name: cell for name in columns if table[name].dtype == float and whole(table[name])} | {"best_epoch": str}
    printed = table[list(columns)].assign(best_epoch=texts)
    renamed = {} if texts == epochs else {"best_epoch": "epoch"}
    formatters = {renamed.get(name, name): shown for name, shown in counts.items()}
    return printed.rename(columns=renamed).to_string(
        index=False, float_format=lambda value: f"{value:.4f}", formatters=formatters, na_rep="-"
    )


def add_sources(parser: argparse.ArgumentParser, nargs: str = "+") -> list[argparse.Action]:
    """Add the SOURCE argument and the filters that every step of the analysis takes, and return them all."""
    source = parser.add_argument(
        "sources", nargs=nargs, metavar="SOURCE", help="runs/NAME, a folder of offline runs, or entity/project[/sweep]"
    )
    group = parser.add_argument_group("which runs count (all conditions that are given)")
    return [
        source,
        group.add_argument(
            "--state", action="append", default=[], help="finished, pruned, failed, crashed, running … (again for another)"
        ),
        group.add_argument("--tag", action="append", default=[], help="runs with this tag (again for another)"),
        group.add_argument("--group", action="append", default=[], help="runs of this group (again for another)"),
        group.add_argument("--has", action="append", default=[], metavar="METRIC", help="runs that logged this metric"),
        group.add_argument("--filter", metavar="JSON", help='at W&B, in its own syntax: {"config.hidden": 64}'),
    ]


def filters_of(options: argparse.Namespace) -> Filters:
    """Return what the flags of `add_sources` ask for.

    Raises:
        UsageError: if --filter is no JSON mapping.
    """
    asked = options.filter or "{}"
    try:
        at_wandb = json.loads(asked)
    except ValueError:
        at_wandb = None
    if not isinstance(at_wandb, dict):
        raise UsageError(f'--filter must be a JSON mapping, like {{"config.hidden": 64}}. Got {asked!r}.')
    return Filters(options.state, options.tag, options.group, options.has, at_wandb)


def sources_of(options: argparse.Namespace) -> list[RunRecord]:
    """Return the runs of every SOURCE that the filters let through; a run that several hold, as study and files do, once.

    Raises:
        UsageError: if a source or a filter cannot be read.
    """
    filters = filters_of(options)
    found: dict[str, list[RunRecord]] = {}
    for source in options.sources:
        runs = _runs_in(source, filters)  # of one source, no two are the same run
        new = [run for run in runs if not any(_is_same(run, other) for other in found.get(run.run, ()))]
        for run in new:
            found.setdefault(run.run, []).append(run)
    return _with_unique_ids([run for runs in found.values() for run in runs])


def _is_same(run: RunRecord, other: RunRecord) -> bool:
    """Whether two records of one id from two sources are of one run: they are of one file, or their configs agree.

    Configs agree in all that both hold, of which there must be something. Where neither holds anything, the logged rows decide.
    """
    if run.file and Path(run.file).exists() and os.path.realpath(run.file) == os.path.realpath(other.file):
        return True
    if not run.config and not other.config:
        return bool(run.columns) and text_of(run.rows) == text_of(other.rows)
    shared = (run.config.keys() & other.config.keys()) - {"provenance"}
    return bool(shared) and all(text_of(run.config[name]) == text_of(other.config[name]) for name in shared)


def _with_unique_ids(runs: list[RunRecord]) -> list[RunRecord]:
    """Return the runs, the second of one id renamed to ID~2: each step finds a run by its id, and `run:ID` names one."""
    ids = {run.run for run in runs}
    taken: set[str] = set()
    for run in runs:
        if run.run in taken:
            unique = next(name for count in itertools.count(2) if (name := f"{run.run}~{count}") not in ids)
            run.name = unique if run.name == run.run else run.name
            run.run = unique
            ids.add(unique)
        taken.add(run.run)
    return runs


def _whole(table: pd.DataFrame, runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Add config and summary to the table of runs; best_epoch is empty where none was picked."""
    import pandas as pd

    columns = {}
    configs = [{name: value for name, value in run.config.items() if not (run.ours and name == "provenance")} for run in runs]
    for prefix, mappings in (("config", configs), ("summary", [run.summary for run in runs])):
        for name in sorted({name for values in mappings for name in values} - {"_wandb"}):
            columns[f"{prefix}.{name}"] = pd.Series([values.get(name, pd.NA) for values in mappings], dtype=object)
    picked = table.assign(best_epoch=table["best_epoch"].where(table["picked"])).drop(columns="picked")
    return pd.concat([picked, pd.DataFrame(columns)], axis=1)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV or Parquet; lists and mappings become JSON text.

    Raises:
        UsageError: if the file's ending is another, or it cannot be written.
    """
    import pandas as pd

    if path.suffix not in {".csv", ".parquet"}:
        raise UsageError(f"a table's file must end in .csv or .parquet. Got {path}.")
    plain = table.copy()
    for column in [name for name in plain.columns if name.startswith(("config.", "summary."))]:
        values = [json.dumps(value, default=str) if isinstance(value, list | dict) else value for value in plain[column]]
        values = [None if value is pd.NA else value for value in values]
        if path.suffix == ".parquet" and len(set(map(type, values)) - {type(None)}) > 1:  # a column there has one type
            values = [None if value is None else str(value) for value in values]
        plain[column] = pd.Series(values, index=plain.index, dtype=object)
    try:
        if path.suffix == ".csv":
            plain.to_csv(path, index=False)
        else:
            plain.to_parquet(path, index=False)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error}): choose another file.") from None


if __name__ == "__main__":
    sys.exit(main())
