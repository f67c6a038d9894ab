"""Write the report of one or more sweeps: front, choice, curves, confusion matrices, baseline beside tuned; HTML and PDF.

usage: python -m analysis.report SOURCE [SOURCE …] [--rule f1] [--models models] [--to reports]

Reads the histories and the retrained models (python -m analysis.retrain); writes report.html, report.pdf and figures/.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import sections, understanding
from analysis.choose import Choice, choose
from analysis.document import Document, write_html, write_pdf
from analysis.history import RunRecord, add_sources, load_runs, runs_table
from analysis.pareto import aims_of, front_of
from trainers.command_line import ROOT
from trainers.data import DataOptions
from trainers.errors import UsageError
from trainers.saved import describe, read_metrics

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Study:
    """One classifier's sweep as the report shows it."""

    name: str  # the classifier's; the source's where two sweeps are of one classifier
    source: str
    classifier: str
    runs: list[RunRecord]
    table: pd.DataFrame  # every run, one row
    front: pd.DataFrame  # the candidates, with on_front
    choice: Choice
    models: dict[str, dict[str, Any]]  # metrics.json of "chosen" and, where it was trained, "baseline"
    origin: dict[str, Any]  # config.json of the chosen model
    folder: Path  # of the chosen model
    aims: dict[str, str]  # what the front is of: metric -> goal

    @property
    def chosen(self) -> RunRecord:
        return next(run for run in self.runs if run.run == self.choice.run["run"])

    @property
    def baseline(self) -> RunRecord | None:
        return next((run for run in self.runs if "baseline" in run.tags), None)


def read_study(source: str, rule: str, models: Path) -> Study:
    """Read a source and its retrained models.

    Raises:
        UsageError: if the chosen run was not retrained yet.
    """
    runs = load_runs(source)
    table, aims = runs_table(runs), aims_of(runs)
    choice = choose(table, rule, aims, records=runs)
    folder = models / Path(source).name
    if not (folder / "config.json").exists() or describe(folder).get("run") != choice.run["run"]:
        raise UsageError(
            f"{folder} does not hold run {choice.run['name']}, which rule {rule} chooses from {source}: "
            f"run python -m analysis.retrain {source} --rule '{rule}' first."
        )
    found = {"chosen": read_metrics(folder)}
    beside = folder.with_name(f"{folder.name}-baseline")
    baseline = next((run for run in runs if "baseline" in run.tags), None)
    if baseline is not None and baseline.run == choice.run["run"]:
        found["baseline"] = found["chosen"]
    elif baseline is not None and (beside / "config.json").exists() and describe(beside).get("run") == baseline.run:
        found["baseline"] = read_metrics(beside)
    classifier = str(choice.run["classifier"])
    return Study(
        classifier or Path(source).name,
        Path(source).name,
        classifier,
        runs,
        table,
        front_of(table, list(aims), list(aims.values()))[0],
        choice,
        found,
        describe(folder),
        folder,
        aims,
    )


def comparable(studies: Sequence[Study]) -> Sequence[Study]:
    """Return studies that one report can hold, each with a name of its own.

    Raises:
        UsageError: if a source comes twice, or the sweeps differ in data, hold-out or average.
    """
    sources = [study.source for study in studies]
    if len(set(sources)) < len(sources):
        raise UsageError(f"each sweep must be given once, under a name of its own. Got {', '.join(sources)}.")
    for key in ("data", "average", "positive_class", "holdout", "n_folds", "fold", "split_seed"):
        default = DataOptions.model_fields[key].default  # of runs that are older than the option
        values = list(dict.fromkeys(str(study.chosen.config.get(key, default)) for study in studies))
        if len(values) > 1:
            raise UsageError(f"one report holds sweeps of the same {key}. Got {', '.join(values)}: write a report for each.")
    if len({tuple(study.aims.items()) for study in studies}) > 1:
        weighed = "; ".join(f"{study.source}: {', '.join(study.aims)}" for study in studies)
        raise UsageError(f"one report holds sweeps that weigh the same metrics. Got {weighed}: write a report for each.")
    names = [study.name for study in studies]
    return [replace(study, name=study.source) if names.count(study.name) > 1 else study for study in studies]


def write_report(studies: Sequence[Study], to: Path) -> tuple[Path, Path]:
    """Write report.html and report.pdf into a folder; return their paths."""
    document = build_document(comparable(studies), to / "figures")
    try:
        return write_html(document, to / "report.html"), write_pdf(document, to / "report.pdf")
    except OSError as error:
        raise UsageError(f"{to} cannot be written ({error.strerror}): choose another folder with --to.") from None


def build_document(studies: Sequence[Study], figures: Path) -> Document:
    """Draw every figure and lay out the report."""
    first = studies[0]
    data = str(first.chosen.config.get("data", "data"))
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    document = Document(
        f"Choosing and testing classifiers on {data}", f"Written {when} from {len(studies)} sweep{'s' if len(studies) > 1 else ''}."
    )
    document.add(*sections.summary_section(studies))
    document.add(*sections.front_section(studies, figures))
    document.add(*understanding.confidence_section(studies))
    for study in studies:
        document.add(*sections.study_section(study, figures))
        document.add(*understanding.training_section(study))
        document.add(*understanding.parameters_section(study, figures))
        document.add(*understanding.augmentation_section(study))
        document.add(*understanding.model_section(study, figures))
    document.add(*sections.baseline_section(studies))
    document.add(*sections.sources_section(studies))
    return document


def main(arguments: Sequence[str] | None = None) -> int:
    from trainers.command_line import SentenceParser, exit_with_sentence

    parser = SentenceParser(prog="python -m analysis.report", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    parser.add_argument("--rule", default="f1", help="the rule that the models were chosen by (default: f1)")
    parser.add_argument("--models", default=str(ROOT / "models"), help="folder of the retrained models (default: models)")
    parser.add_argument("--to", default="reports", help="folder of the report (default: reports)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        studies = [read_study(source, options.rule, Path(options.models)) for source in options.sources]
        for study in studies:
            count, test = int(study.front["on_front"].sum()), study.models["chosen"]["test"]
            print(
                f"{study.name}: {count} of {len(study.front)} finished runs on the {'/'.join(study.aims)} front; chosen "
                f"{study.choice.run['name']}; accuracy {test['accuracy']:.4f} on the locked test part"
            )
        html, pdf = write_report(studies, Path(options.to))
        print(f"wrote {html} and {pdf}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
