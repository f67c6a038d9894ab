"""Say of each run, from its loss and accuracy curves and by stated rules, whether it over-fits, under-fits, is unstable, …

usage: python -m analysis.diagnose SOURCE [SOURCE …] [--train NAME] [--test NAME] [--figures DIR]

The rules stand in findings/diagnosis.py; the first one that holds is the diagnosis. Train metrics are those of the training:
with dropout and augmentation on. The curves of other programs are found by common names (train/loss and val/loss, loss and
val_loss, …), or as --train and --test name them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paretune.analysis.figures.diagnosis import diagnosis_figure
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.findings.curves import known_curves
from paretune.analysis.findings.diagnosis import NO_LOSS, Diagnosis, diagnose_records, logged_metrics, rules_table
from paretune.analysis.history import add_sources, sources_of, tidy
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError, names_there

if TYPE_CHECKING:
    import pandas as pd


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m analysis.diagnose", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    parser.add_argument("--train", default="", metavar="NAME", help="the train loss, where it is not found by its name")
    parser.add_argument("--test", default="", metavar="NAME", help="the hold-out loss, where it is not found by its name")
    parser.add_argument("--figures", metavar="DIR", help="draw each run's loss and accuracy with its diagnosis into this folder")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        runs = sources_of(options)
        history = tidy(runs)
        _check_names(history, {"--train": options.train, "--test": options.test})
        table = diagnose_records(runs, history=history, train=options.train, test=options.test)
        shown = table.assign(epoch=[f"{epoch:.0f}" if epoch == epoch else "-" for epoch in table["epoch"]])
        if shown["name"].duplicated().any():
            called = {run.run: run.called for run in runs}
            shown["name"] = [called[run] for run in shown["run"]]
        print(shown.drop(columns="run").to_string(index=False, justify="left"))
        counts = ", ".join(f"{count} {kind}" for kind, count in table["diagnosis"].value_counts().items())
        print(f"\n{len(table)} runs: {counts}\n\nthe first rule that holds, of:")
        for kind, condition in rules_table():
            print(f"  {kind:<16} {condition}")
        if options.figures:
            _draw(history, table, Path(options.figures), options.train, options.test)
    return 0


def _check_names(history: pd.DataFrame, asked: dict[str, str]) -> None:
    """Refuse names of curves that no run logged.

    Raises:
        UsageError: that says which, and what is near.
    """
    logged = logged_metrics(history)
    for flag, name in asked.items():
        if name and name not in logged:
            raise UsageError(f"{flag} must be a metric that the runs logged. Got {name!r}{names_there(name, logged)}")


def _draw(history: pd.DataFrame, table: pd.DataFrame, folder: Path, train: str = "", test: str = "") -> None:
    drawn = [row for row in table.to_dict("records") if row["diagnosis"] != NO_LOSS]
    for row in drawn:
        found = Diagnosis(row["diagnosis"], None if np.isnan(row["epoch"]) else int(row["epoch"]), row["reason"])
        rows = known_curves(history[history["run"] == row["run"]], train, test)
        figure = diagnosis_figure(rows, found, title=str(row["name"]))
        save_figure(figure, folder / f"curves-{row['run']}.png")
    print(f"wrote {len(drawn)} figures to {folder}")


if __name__ == "__main__":
    sys.exit(main())
