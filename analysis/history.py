"""Run histories as one tidy table: from W&B's offline run files, from a study, or from W&B's server.

usage: python -m analysis.history SOURCE [SOURCE …] [--to FILE.csv|FILE.parquet]

SOURCE is a study's folder (runs/ann-digits), a folder or file of offline runs, or entity/project[/sweep]. Runs that are
alive, were killed, or ran on another machine come from the study; its finished runs from their files.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers import records
from trainers.base import METRICS
from trainers.best import best_row, goal_of
from trainers.errors import UsageError
from trainers.provenance import ROOT
from trainers.run_files import ended, read_run

if TYPE_CHECKING:
    import optuna
    import pandas as pd

LEADING = ["run", "name", "group", "sweep", "state", "created", "file"]
INTERNAL = ("_wandb", "_step", "_timestamp", "_runtime", "last")


@dataclass
class RunRecord:
    """One run as it was found: who it is, its config, and a dict per logged row."""

    run: str
    name: str = ""
    group: str = ""
    sweep: str = ""
    state: str = "running"
    created: float = math.nan  # seconds since 1970
    file: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    goals: dict[str, str] = field(default_factory=dict)  # what its sweep looked for


def load_history(source: str | Path) -> pd.DataFrame:
    """Return one row per run and epoch.

    Columns: run, name, group, sweep, state, created, file, `config.*`, epoch, and one per metric. A config value that a
    run does not have is pd.NA.

    Raises:
        UsageError: if the source is not there, or holds no run.
    """
    return tidy(load_runs(source))


def load_runs(source: str | Path) -> list[RunRecord]:
    """Return every run of a source, in the order of their creation."""
    text, path = str(source), Path(source)
    if "://" in text:
        runs = study_runs(text)
        if not runs:
            raise UsageError(f"{text} holds no run: give the storage URL of a sweep, with #NAME for one of its studies.")
    elif path.exists():
        studies = sorted(path.glob("study.db")) if path.is_dir() else [path] if path.suffix == ".db" else []
        runs = join(study_runs(studies[0]), file_runs(path if path.is_dir() else path.parent)) if studies else file_runs(path)
        if not runs:
            raise UsageError(f"{text} holds no run: give a study's folder (runs/NAME) or a folder of offline-run-* folders.")
    elif re.fullmatch(r"[\w.-]+/[\w.-]+(/[\w.-]+)?", text):
        runs = server_runs(text)
    else:
        raise UsageError(f"{text} is no folder here, and not of the form entity/project or entity/project/sweep.")
    return sorted(runs, key=lambda run: (math.isnan(run.created), run.created))


def tidy(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Lay runs out as one row per logged row; a run without rows keeps one row without metrics."""
    import pandas as pd

    names = list(dict.fromkeys(name for run in runs for name in run.config if name != "provenance"))
    lines: list[dict[str, Any]] = []
    for run in runs:
        identity = {key: getattr(run, key) for key in LEADING}
        config = {f"config.{name}": run.config.get(name, pd.NA) for name in names}
        lines += [{**identity, **config, **row} for row in run.rows or [{}]]
    logged = dict.fromkeys(key for line in lines for key in line if key not in LEADING and not key.startswith("config."))
    order = {name: place for place, name in enumerate(["epoch", *METRICS])}
    metrics = sorted(logged, key=lambda name: order.get(name, len(order)))
    columns = {key: pd.Series([line.get(key) for line in lines]) for key in LEADING}
    # object: pandas would turn a None among numbers into NaN, and None is a value here
    columns |= {f"config.{n}": pd.Series([line[f"config.{n}"] for line in lines], dtype=object) for n in names}
    columns |= {key: pd.Series([line.get(key, math.nan) for line in lines]) for key in metrics}
    return pd.DataFrame(columns)


def runs_table(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Return one row per run with every value of its best epoch, all from that one epoch.

    The best epoch is by the run's `best_metric`; on the locked test part nothing is picked, and the last row counts.
    Adds best_epoch, epochs, evaluation_split, data, average, classifier and baseline to the columns of the history.
    """
    import pandas as pd

    lines = []
    for run in runs:
        metric = str(run.config.get("best_metric", "f1"))
        rows = [row for row in run.rows if any(isinstance(value, float) for value in row.values())]
        on_test = run.config.get("evaluation_split") == "test"
        best = None if on_test else best_row(rows, metric, run.goals.get(metric) or goal_of(metric))
        row = best if best is not None else (rows[-1] if rows else {})
        lines.append(
            {
                **{key: getattr(run, key) for key in LEADING},
                "classifier": run.config.get("classifier", ""),
                "evaluation_split": run.config.get("evaluation_split", "unknown"),
                "data": run.config.get("data") or "",
                "average": run.config.get("average") or "",
                "baseline": "baseline" in run.tags,
                "epochs": len(rows),
                "best_epoch": row.get("epoch", math.nan),
                **{key: value for key, value in row.items() if key != "epoch"},
            }
        )
    return pd.DataFrame(lines)


def file_runs(path: Path) -> list[RunRecord]:
    """Read W&B's own files below a folder (or one file)."""
    files = [path] if path.is_file() else sorted(path.rglob("run-*.wandb"))
    return [run for run in map(read_run_file, files) if run is not None]


def read_run_file(path: Path) -> RunRecord | None:
    """Read one run file; None where not even the run's own record is in it yet."""
    found = read_run(path)
    if found is None:
        return None
    return RunRecord(
        run=found.run_id,
        name=found.name,
        group=found.group,
        sweep=found.sweep,
        state=found.state,
        created=found.created,
        file=str(path),
        config=found.config,
        rows=_rows(found.rows),
        summary=found.summary,
        tags=found.tags,
    )


def _rows(logged: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Keep the rows that hold a metric; one of tables alone is no epoch."""
    return [row for row in map(_row, logged) if row.keys() - {"epoch"}]


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Keep a row's numbers; tables, images and W&B's own keys are no metrics."""
    kept = {key: _number(value) for key, value in row.items() if key not in INTERNAL}
    kept = {key: value for key, value in kept.items() if value is not None}
    if "epoch" not in kept and "_step" in row:
        kept = {"epoch": float(row["_step"]), **kept}
    return kept


def _number(value: Any) -> float | None:
    if isinstance(value, str) and value in {"NaN", "Infinity", "-Infinity"}:
        return float(value.replace("Infinity", "inf"))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def study_runs(source: str | Path) -> list[RunRecord]:
    """Read the trials of a study's file, or of the studies behind a storage URL (`#NAME` for one of them).

    Raises:
        UsageError: if it cannot be read.
    """
    import optuna

    from trainers.storage import close, database, open_storage, readable_errors

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url, wanted = database(source)
    with readable_errors(url, writing=False):
        storage = open_storage(url, writing=False)
        names = [name for name in optuna.get_all_study_names(storage) if wanted in (None, name)]
        studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
        found = [run for study in studies for run in _trial_runs(study)]
        close(storage)
    return found


def _trial_runs(study: optuna.Study) -> list[RunRecord]:
    states = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    result = []
    name = study.study_name
    goals = study.user_attrs.get(records.GOALS, {})
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        run = attributes.get(records.RUN)
        if run is None:
            continue
        state = states.get(trial.state.name, "running")
        if attributes.get(records.CAUSE) in (records.INTERRUPTED, records.SURPLUS):
            state = "interrupted"
        elsewhere = run["path"] is not None and run["host"] != socket.gethostname()
        result.append(
            RunRecord(
                run=run["id"],
                name=f"{name}-{trial.number}",
                group=name,
                sweep=name,
                state=state,
                created=trial.datetime_start.timestamp() if trial.datetime_start else math.nan,
                file=f"on {run['host']}" if elsewhere else "",
                config=run["config"],
                rows=_rows(records.epochs_of(attributes)),
                tags=["baseline"] if attributes.get(records.BASELINE) else [],
                goals=goals,
            )
        )
    return result


def join(trials: Sequence[RunRecord], files: Sequence[RunRecord]) -> list[RunRecord]:
    """Complete the runs of a study by their files: provenance, summary, and the rows where the file is whole."""
    by_id = {run.run: run for run in files}
    for trial in trials:
        found = by_id.pop(trial.run, None)
        if found is None:
            continue
        trial.file, trial.summary = found.file, found.summary
        trial.config = {**found.config, **trial.config}
        if len(found.rows) >= len(trial.rows):
            trial.rows = found.rows
    return [*trials, *by_id.values()]


def server_runs(source: str) -> list[RunRecord]:
    """Pull the runs of entity/project[/sweep] from W&B; finished ones are kept, and pulled once.

    Raises:
        UsageError: without credentials, or if there is no such project or sweep.
    """
    from trainers.tracking import logged_in

    if not logged_in():
        raise UsageError(
            f"{source} is no folder here, and W&B cannot be asked for it: log in with 'wandb login', or give a folder."
        )
    import wandb

    from trainers.progress import Progress

    entity, project, *sweep = source.split("/")
    try:
        filters = {"sweep": sweep[0]} if sweep else {}
        found = list(wandb.Api(timeout=60).runs(f"{entity}/{project}", filters=filters, per_page=200, lazy=False))
    except (wandb.Error, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"{source}: W&B has no such project or sweep ({reason}).") from None
    cache = Path(os.environ.get("WANDB_CACHE_DIR") or ROOT / "runs") / ".pulled" / entity / f"{project}.parquet"
    kept = _read_cache(cache)
    fresh = [run for run in found if run.id not in kept]
    if fresh:
        from concurrent.futures import ThreadPoolExecutor

        try:
            with Progress(f"pulling {source}", len(fresh), unit="run") as progress, ThreadPoolExecutor(4) as pool:
                for record in pool.map(_pulled, fresh):
                    kept[record.run] = record
                    progress.step(record.name)
        except wandb.Error as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UsageError(f"{source}: W&B stopped answering ({reason}); what was pulled is kept, so run this again.") from None
        finally:
            _write_cache(cache, [run for run in kept.values() if run.state not in {"running", "pending"}])
    if not found:
        raise UsageError(f"{source} has no run yet.")
    return [kept[run.id] for run in found]


def _pulled(run: Any) -> RunRecord:
    import pandas as pd

    created = pd.Timestamp(run.created_at).timestamp()
    summary = {key: value for key, value in dict(run.summary).items() if key != "_wandb"}
    return RunRecord(
        run=run.id,
        name=run.name,
        group=run.group or "",
        sweep=getattr(run, "sweep_name", None) or "",
        state=ended(run.state, summary),
        created=created,
        file=run.url,
        config=dict(run.config),
        rows=_rows(run.scan_history()),
        summary=summary,
        tags=list(run.tags),
    )


def _read_cache(path: Path) -> dict[str, RunRecord]:
    import pandas as pd

    if not path.exists():
        return {}
    return {line["run"]: RunRecord(**json.loads(line["record"])) for line in pd.read_parquet(path).to_dict("records")}


def _write_cache(path: Path, runs: Sequence[RunRecord]) -> None:
    import pandas as pd

    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"run": run.run, "record": json.dumps(vars(run), default=str)} for run in runs]
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    pd.DataFrame(lines, columns=["run", "record"]).to_parquet(partial)
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    from trainers.command_line import SentenceParser, exit_with_sentence

    parser = SentenceParser(prog="python -m analysis.history", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    parser.add_argument("--to", help="write the whole table to FILE.csv or FILE.parquet")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        runs = [run for source in options.sources for run in load_runs(source)]
        table, history = runs_table(runs), tidy(runs)
        shown = ["run", "name", "state", "epochs", "best_epoch", "test_loss", "test_accuracy", "precision", "recall", "f1"]
        shown = [column for column in shown if column in table]
        print(table[shown].to_string(index=False, float_format=lambda value: f"{value:.4f}", na_rep="-"))
        states = ", ".join(f"{count} {state}" for state, count in table["state"].value_counts().items())
        print(f"\n{len(table)} runs ({states}), {len(history)} rows")
        elsewhere = [run.name for run in runs if run.file.startswith("on ")]
        if elsewhere:
            print(f"run files on other machines: {', '.join(elsewhere)}")
        if options.to:
            write_table(history, Path(options.to))
            print(f"wrote {options.to}")
    return 0


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the SOURCE argument that every step of the analysis takes."""
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="runs/NAME, a folder of offline runs, or entity/project[/sweep]"
    )


def write_table(history: pd.DataFrame, path: Path) -> None:
    """Write a history as CSV or Parquet; lists and mappings in the config become JSON text."""
    import pandas as pd

    if path.suffix not in {".csv", ".parquet"}:
        raise UsageError(f"--to must end in .csv or .parquet. Got {path}.")
    plain = history.copy()
    for column in [name for name in plain.columns if name.startswith("config.")]:
        values = [json.dumps(value) if isinstance(value, list | dict) else value for value in plain[column]]
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
