"""The report of one or more sweeps: reads their studies and retrained models, and writes report.html, report.pdf and figures/."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from paretune.analysis.choose import aims_by, choose, default_rule
from paretune.analysis.document import confidence_and_models, origins, sections
from paretune.analysis.document.document import Document, write_html, write_pdf
from paretune.analysis.document.language import speak, spoken
from paretune.analysis.document.language import translate as _
from paretune.analysis.document.study import Study
from paretune.analysis.findings.front import candidates_in_words, counted, front_of
from paretune.analysis.findings.repeats import RUNS
from paretune.analysis.history import load_runs, runs_table
from paretune.analysis.rules import parse_rule
from paretune.core.errors import UsageError
from paretune.data.options import DataOptions
from paretune.models.locked_readings import of_study
from paretune.models.saved_models import check_whole, describe, read_metrics


def read_study(
    source: str, rule: str | None, models: Path, metrics: Sequence[str] | None = None, goals: Sequence[str] | None = None
) -> Study:
    """Read a source and, where the chosen run was retrained, its models; without them nothing is known of the locked part.

    Raises:
        UsageError: if the model in the source's folder is of another run, or broken.
    """
    runs = load_runs(source)
    table = runs_table(runs)
    aims = aims_by(runs, rule, metrics, goals, table=table)
    choice = choose(table, default_rule(runs, aims) if rule is None else rule, aims, records=runs)
    folder = models / Path(source).name
    found: dict[str, dict[str, Any]] = {"chosen": {}}
    if (folder / "config.json").exists():
        named = parse_rule(choice.rule).kind == "run"
        fitting = (choice.run["run"],) if named else choice.run[RUNS]  # a rule chooses a configuration
        if describe(folder).get("run") not in (None, *fitting):  # None: of which run is unknown, as the report says
            raise UsageError(
                f"{folder} does not hold run {choice.run['name']}, which rule {choice.rule} chooses from {source}: "
                f"run python -m analysis.retrain {source} --rule '{choice.rule}' first, or name another folder with --models."
            )
        check_whole(folder)  # a broken one is refused
        found["chosen"] = read_metrics(folder)
    beside = folder.with_name(f"{folder.name}-baseline")
    baseline = next((run for run in runs if run.baseline), None)
    if baseline is not None and found["chosen"] and baseline.run in choice.run[RUNS]:
        found["baseline"] = found["chosen"]
    elif baseline is not None and (beside / "config.json").exists() and describe(beside).get("run") == baseline.run:
        found["baseline"] = read_metrics(beside)
    classifier = str(choice.run["classifier"] or "")
    return Study(
        classifier or Path(source).name,
        Path(source).name,
        classifier,
        runs,
        table,
        front_of(table, list(aims), list(aims.values()), runs)[0],
        choice,
        found,
        describe(folder) if found["chosen"] else {},
        folder,
        aims,
        of_study(source),
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
        values = list(dict.fromkeys(str(study.chosen.stated.get(key, default)) for study in studies))
        if len(values) > 1:
            raise UsageError(f"one report holds sweeps of the same {key}. Got {', '.join(values)}: write a report for each.")
    if len({tuple(study.aims.items()) for study in studies}) > 1:
        weighed = "; ".join(f"{study.source}: {', '.join(study.aims)}" for study in studies)
        raise UsageError(f"one report holds sweeps that weigh the same metrics. Got {weighed}: write a report for each.")
    names = [study.name for study in studies]
    return [replace(study, name=study.source) if names.count(study.name) > 1 else study for study in studies]


def write_report(studies: Sequence[Study], to: Path, language: str = "en") -> tuple[Path, Path]:
    """Write report.html and report.pdf into a folder, in a language of `analysis.document.language`; return their paths."""
    with speak(language):
        document = build_document(comparable([chosen_again(study) for study in studies]), to / "figures")
        try:
            return write_html(document, to / "report.html"), write_pdf(document, to / "report.pdf")
        except OSError as error:
            raise UsageError(f"{to} cannot be written ({error.strerror}): choose another folder with --to.") from None


def chosen_again(study: Study) -> Study:
    """Return the study with its choice made again: its reason is in words, and they are those of the language spoken now."""
    if spoken() == "en":
        return study
    return replace(study, choice=choose(study.table, study.choice.rule, study.aims, records=study.runs))


def build_document(studies: Sequence[Study], figures: Path) -> Document:
    """Draw every figure and lay out the report."""
    first = studies[0]
    data = first.chosen.stated.get("data")
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    title = _("Choosing and testing classifiers on {data}").format(data=data)
    if not data:
        title = _("Choosing a run of {source}").format(source=first.source)
    written = _("Written {when} from 1 sweep.") if len(studies) == 1 else _("Written {when} from {count} sweeps.")
    document = Document(title, written.format(when=when, count=len(studies)), language=spoken())
    document.add(*sections.summary_section(studies))
    document.add(*sections.front_section(studies, figures))
    document.add(*confidence_and_models.confidence_section(studies))
    for study in studies:
        document.add(*sections.study_section(study, figures))
        document.add(*confidence_and_models.training_section(study))
        document.add(*confidence_and_models.parameters_section(study, figures))
        document.add(*confidence_and_models.augmentation_section(study))
        if "confusion" in study.test:
            document.add(*confidence_and_models.model_section(study, figures))
    if any(study.test for study in studies):
        document.add(*sections.baseline_section(studies))
    document.add(*origins.sources_section(studies))
    return document


def in_a_line(study: Study) -> str:
    """Say what was found in a sweep."""
    between = " and " if any("/" in name for name in study.aims) else "/"
    front = f"{counted(study.front)[0]} of {candidates_in_words(study.front)} on the {between.join(study.aims)} front"
    line = f"{study.name}: {front}; chosen {study.choice.run['name']}"
    if study.test:
        name = "accuracy" if "accuracy" in study.test else "loss"
        return f"{line}; {name} {study.test[name]:.4f} on the locked test part"
    if not study.classifier:
        return f"{line}; the locked part is left out: the runs are of a program that analysis.retrain does not know"
    return f"{line}; the locked part is left out: python -m analysis.retrain trains the chosen run for it"
