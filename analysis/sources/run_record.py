"""Runs as the analysis sees them, wherever they come from, and the two tables made of them."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from paretune.analysis.sources.lost_metrics import lost_from
from paretune.core.best_epoch import best_row, goal_of
from paretune.core.epoch import METRICS
from paretune.core.provenance import written_by_us
from paretune.models.effective_configuration import effective_configuration
from paretune.runs.sweep_outcome import KEY, SweepOutcome, is_outcome
from paretune.runs.wandb_files import INTERNAL, numbers
from paretune.runs.whole_runs import summary_numbers, summary_values

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LEADING = ["run", "name", "group", "sweep", "state", "created", "file"]
# columns of the table of runs beside its metrics
ABOUT_RUN = ["classifier", "evaluation_split", "data", "average", "provenance.images", "provenance.image_size"]
COLUMNS = [
    *LEADING,
    *ABOUT_RUN,
    "baseline",
    "feasible",
    "broken",
    "cause",
    "diverged",
    "epochs",
    "best_epoch",
    "picked",
    "on_front",
]
COLUMNS += ["is_chosen", "augment", "runs", "front", "repeats", "p(front)"]  # of tables that commands print
Value = TypeVar("Value")
LOSSES = ("train_loss", "test_loss")
METRIC = "metric."  # begins the column of a metric that is named like another column
PREFIXES = ("config.", "summary.", "configuration.")
# what runs of ours say in their config beside hyper-parameters
DESCRIPTION = {"classifier", "evaluation_split", "best_metric", "preset", "data", "average", "positive_class", "holdout"}
DESCRIPTION |= {"curves_on_test", "repeats", "repeats_over", "split_seed", "n_folds", "fold", "provenance"}
BASELINE = "baseline"  # the tag of the default configuration, in runs of ours
BEST_METRIC = "f1"  # of our own runs that do not say otherwise
LONGEST_WHOLE = 1e21  # from here on the client writes a float with an exponent
UNENDED = {"running", "crashed", "killed", "interrupted", "damaged"}


def _no_summary() -> dict[str, Any]:
    return {}


@dataclass
class RunRecord:
    """One run as it was found: who it is, its config, and what it logged as a column per metric.

    Each column is (n_rows,) float64, NaN where a row lacks the metric. `epoch` is W&B's step for a run that logs no epoch.
    """

    run: str
    name: str = ""
    group: str = ""
    sweep: str = ""
    state: str = "running"  # or finished, failed, crashed, killed (W&B's), pruned, interrupted (a study's), damaged (a file's)
    created: float = math.nan  # seconds since 1970
    file: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    goals: dict[str, str] = field(default_factory=dict)  # what its sweep looked for
    feasible: bool = True  # whether it keeps the constraints of its sweep
    broken: list[str] = field(default_factory=list)  # those that it breaks, where they are known
    baseline: bool = False  # whether it is the default configuration of its sweep
    ours: bool = False  # whether a trainer of ours wrote it: only then the names that we reserve mean what they do with us
    engine: Mapping[str, Any] = field(default_factory=dict)  # commit and versions of the engine that ran another program
    cause: str = ""  # why its trial failed or was interrupted
    damaged: list[str] = field(default_factory=list)  # its run files in which records are broken
    read_summary: Callable[[], Mapping[str, Any]] = _no_summary
    read_environment: Callable[[], Mapping[str, str]] = _no_summary

    def __post_init__(self) -> None:
        self.name = self.name or self.run  # W&B names no run that is offline
        self.config = as_at_wandb(self.config)
        self.columns = in_order(self.columns)
        self.ours = self.ours or written_by_us(self.config)
        self.baseline = self.baseline or (self.ours and BASELINE in self.tags)

    def take_outcome(self, outcome: SweepOutcome) -> RunRecord:
        """Take over what the run says of its sweep, and return the run."""
        self.goals = self.goals or {column_of(name): goal for name, goal in outcome.goals.items()}
        self.feasible = self.feasible and outcome.feasible is not False
        self.broken = self.broken or list(outcome.broken)
        self.baseline = self.baseline or outcome.baseline
        self.cause = self.cause or outcome.cause
        self.created = self.created if outcome.created is None else outcome.created
        return self

    @property
    def stated(self) -> Mapping[str, Any]:
        """The config where its reserved names mean what they do with us; empty for a run that we did not write."""
        return self.config if self.ours else {}

    @property
    def origin(self) -> Mapping[str, Any]:
        """Commit, versions, device, data and program of a run of ours; empty of any other."""
        known = self.stated.get("provenance")
        return known if isinstance(known, Mapping) else {}

    @functools.cached_property
    def effective_config(self) -> dict[str, Any]:
        """The config without provenance and inactive parameters: by it configurations are compared."""
        return effective_configuration(self.config)

    @property
    def parameters(self) -> dict[str, Any]:
        """The effective configuration without what our runs say in it beside hyper-parameters."""
        return {name: value for name, value in self.effective_config.items() if not (self.ours and name in DESCRIPTION)}

    @property
    def environment(self) -> Mapping[str, str]:
        """What W&B's client recorded of where it came from: program, args, commit, python and wandb, each where it is known."""
        return self.read_environment()

    @property
    def called(self) -> str:
        """Its name, with the id behind it where that is another one."""
        return self.name if self.name == self.run else f"{self.name} ({self.run})"

    @property
    def n_rows(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    @property
    def n_epochs(self) -> int:
        """The number of epochs that it logged, each in however many rows."""
        import numpy as np

        epochs = self.columns.get("epoch", np.empty(0))
        return len(np.unique(epochs[~np.isnan(epochs)]))

    @property
    def rows(self) -> list[dict[str, float]]:
        """What was logged, row by row."""
        values = [column.tolist() for column in self.columns.values()]
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*values, strict=True)]

    @property
    def summary(self) -> Mapping[str, Any]:
        """W&B's summary of the run, without what paretune keeps there; empty where it comes from a study alone."""
        return {name: value for name, value in self.read_summary().items() if not (name == KEY and is_outcome(value))}


def as_at_wandb(value: Any) -> Any:
    """Return a value of a config as W&B's server gives it back: whole floats are integers.

    The order of names, which is lost there, is the alphabet's. So a config is the same from a server, a run file and a study.
    """
    if isinstance(value, dict):
        return {name: as_at_wandb(item) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [as_at_wandb(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < LONGEST_WHOLE else value


def in_order(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return a mapping of metrics with the epoch and ours first, then by the alphabet: a server keeps no order of names."""
    known = [name for name in ("epoch", *METRICS) if name in values]
    return {name: values[name] for name in [*known, *sorted(values.keys() - set(known))]}


def column_of(metric: str) -> str:
    """Return the column of a logged metric: its name, with METRIC before one that is another column's."""
    return f"{METRIC}{metric}" if _is_taken(metric) else metric


def metric_of(column: str) -> str:
    """Return the name under which the metric of a column was logged."""
    rest = column.removeprefix(METRIC)
    return rest if rest != column and _is_taken(rest) else column


def _is_taken(name: str) -> bool:
    while name.startswith(METRIC):
        name = name.removeprefix(METRIC)
    return name in COLUMNS or name.startswith(PREFIXES)


def columns_of(logged: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Lay logged rows out as columns; a row of tables and images alone is no row."""
    import numpy as np

    columns = _columns_of_equal_rows(logged, INTERNAL)
    if columns is not None:
        return columns
    rows, steps = [], []
    for row in logged:
        found = numbers(row)
        if len(found) > ("epoch" in found):
            rows.append(found)
            steps.append(float(row.get("_step", math.nan)))
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {column_of(name): np.array([row.get(name, math.nan) for row in rows]) for name in names}
    return columns if "epoch" in columns or not rows else {"epoch": np.array(steps), **columns}


def _columns_of_equal_rows(logged: Sequence[Mapping[str, Any]], internal: Collection[str]) -> dict[str, np.ndarray] | None:
    """Do the same for rows that all hold an epoch and the same numbers, without a look at each; None where they do not."""
    import numpy as np

    if not logged or "epoch" not in logged[0] or any(row.keys() != logged[0].keys() for row in logged):
        return None
    names = [name for name in logged[0] if name not in internal]
    if len(names) < 2:
        return None
    rows = list(map(operator.itemgetter(*names), logged))
    if not {float, int}.issuperset(map(type, chain.from_iterable(rows))):
        return None
    return dict(zip(map(column_of, names), np.array(rows, dtype=np.float64).T, strict=True))


def tidy(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Lay runs out as one row per logged row; a run without rows keeps one row without metrics.

    Columns: run, name, group, sweep, state, created, file, `config.*`, epoch, and one per metric. A config value that a
    run does not have is pd.NA.
    """
    import numpy as np
    import pandas as pd

    configs = [{name: value for name, value in run.config.items() if not (run.ours and name == "provenance")} for run in runs]
    names = sorted({name for config in configs for name in config})
    logged = in_order(dict.fromkeys(name for run in runs for name in run.columns))
    lengths = [max(run.n_rows, 1) for run in runs]

    def repeated(values: Sequence[Any]) -> np.ndarray:
        cells = np.empty(
            len(values), dtype=object
        )  # object: pandas would turn a None among numbers into NaN, and None is a value here
        cells[:] = values
        return np.repeat(cells, lengths)

    columns: dict[str, Any] = {key: pd.Series(repeated([getattr(run, key) for run in runs])).infer_objects() for key in LEADING}
    columns |= {f"config.{name}": pd.Series(repeated([config.get(name, pd.NA) for config in configs])) for name in names}
    blanks = {length: np.full(length, math.nan) for length in set(lengths)}
    for name in logged:
        parts = [run.columns.get(name, blanks[length]) for run, length in zip(runs, lengths, strict=True)]
        columns[name] = np.concatenate(parts)
    return pd.DataFrame(columns)


def runs_table(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Return one row per run. Of a trainer of ours: every value of its best epoch, all from that one epoch.

    The best epoch is by the run's `best_metric`, else by what its sweep looked for; on the locked test part nothing is picked,
    and the last row counts. Of other programs a row has the values of W&B's summary: each metric's latest, unless the program
    decided it by `define_metric` or by writing to the summary.

    Adds best_epoch, picked (False where best_epoch is only the last one), epochs, evaluation_split, data, average, classifier,
    baseline, feasible, broken (the constraints that it breaks), cause (why its trial failed) and diverged (a trainer of ours logged
    a loss in that row that is not finite) to the columns of the history. A metric of such a name has the column `metric.NAME`.
    """
    import pandas as pd

    lines, best = [], [best_values(run) for run in runs]
    metrics = in_order(dict.fromkeys(name for row, _ in best for name in row if name != "epoch"))
    for run, (row, picked) in zip(runs, best, strict=True):
        lines.append(
            {
                **{key: getattr(run, key) for key in LEADING},
                "classifier": run.stated.get("classifier", ""),
                "evaluation_split": run.stated.get("evaluation_split", "unknown"),
                "data": run.stated.get("data") or "",
                "average": run.stated.get("average") or "",
                "provenance.images": _images_of(run),
                "provenance.image_size": str(run.stated.get("image_size") or ""),
                "baseline": run.baseline,
                "feasible": run.feasible,
                "broken": "; ".join(run.broken),
                "cause": run.cause,
                "epochs": run.n_epochs,
                "best_epoch": row.get("epoch", math.nan),
                **{name: row.get(name, math.nan) for name in metrics},
                "picked": picked,
                "diverged": _diverged(run, row),
            }
        )
    return pd.DataFrame(lines)


def _diverged(run: RunRecord, row: Mapping[str, float]) -> bool:
    """Whether a run of ours logged a loss in a row that is not finite; one that it logs every few epochs may just lack there."""
    values = {name: row.get(name, math.nan) for name in LOSSES if name in run.columns}
    return run.ours and (
        any(math.isinf(value) for value in values.values())
        or any(_is_lost(run, name, row) for name, value in values.items() if math.isnan(value))
    )


def _is_lost(run: RunRecord, name: str, row: Mapping[str, float]) -> bool:
    """Whether a loss that is NaN in a row was logged as such; it was where no row has a value of it."""
    import numpy as np
    import pandas as pd

    if not np.isfinite(run.columns[name]).any():
        return True
    rows = pd.DataFrame(run.columns).reindex(columns=list(dict.fromkeys([*run.columns, *LOSSES])))
    place = lost_from(rows, name, last_values(run).get(name))
    return place is not None and row.get("epoch", math.inf) >= rows["epoch"].iloc[place]


def last_values(run: RunRecord) -> dict[str, float]:
    """Return what the summary of a run holds of the columns without a value in the last row: NaN of one that was logged as such."""
    silent = [name for name, column in run.columns.items() if len(column) and math.isnan(column[-1])]
    found = summary_numbers(run.summary) if silent else {}
    return {name: found[name] for name in silent if name in found}


def _images_of(run: RunRecord) -> str:
    """Return a text that differs where the locked or held-out images of our runs do; empty where they are unknown."""
    known = run.origin.get("fingerprints")
    if not isinstance(known, Mapping) or "test" not in known:
        return ""
    n_folds = run.stated.get("n_folds")
    held = known.get("holdout", "") if n_folds is None and run.stated.get("repeats_over") != "folds" else f"{n_folds} folds"
    return f"{known['test']} {held}"


def best_values(run: RunRecord) -> tuple[dict[str, float], bool]:
    """Return the row of values that a run stands for, and whether it is of a best epoch that was picked: else it is of the last."""
    rows = run.rows
    if not run.ours:
        summary, latest = summary_numbers(run.summary), {metric_of(name): value for name, value in _latest(rows).items()}
        unlogged = {name: value for name, value in summary.items() if name not in latest}
        values = {**unlogged, **latest, **_decided(run, summary, latest)}
        return {column_of(name): value for name, value in values.items()}, False
    metric = str(run.config.get("best_metric") or next(iter(run.goals), None) or BEST_METRIC)
    on_test = run.config.get("evaluation_split") == "test"
    best = None if on_test else best_row(rows, metric, run.goals.get(metric))
    return dict(_latest(rows) if best is None else best), best is not None


def _decided(run: RunRecord, summary: Mapping[str, float], latest: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics whose value a program decided in its summary; of a run that did not end in order it may lag behind."""
    if run.state in UNENDED:
        return {}
    goals = {metric_of(name): run.goals.get(name) or goal_of(name) for name in [*run.columns, *run.goals] if name != "epoch"}
    return summary_values(summary, latest, goals)


def _latest(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the last value of each metric that is one."""
    found: dict[str, float] = {}
    for row in rows:
        found.update({name: value for name, value in row.items() if not math.isnan(value) or name not in found})
    return found
