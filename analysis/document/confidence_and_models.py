"""The report's sections on how sure the numbers are, how the runs trained, which parameters mattered, and what a model does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paretune.analysis.document.document import Heading, Paragraph, Picture, Table
from paretune.analysis.document.language import translate as _
from paretune.analysis.document.study import Study
from paretune.analysis.figures.models import (
    calibration,
    calibration_figure,
    class_scores_figure,
    confusions_in_words,
    embedding_figure,
    hardest_figure,
    precision_recall_figure,
)
from paretune.analysis.figures.parameters import importance_figure, parallel_figure, parallel_html, slices_figure
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.findings.augmentation import compare_augmentation, in_words
from paretune.analysis.findings.confidence import range_of, table_of
from paretune.analysis.findings.diagnosis import diagnose_records, rules_table
from paretune.analysis.findings.parameters import tried
from paretune.analysis.locked_part import FILE, load_kept
from paretune.core.errors import UsageError
from paretune.search.importance import importances

MOST_CURVES = 400  # runs of a sweep whose curves are diagnosed for the report: the newest
COLUMN_LABELS = {"name": "name", "front": "front", "repeats": "repeats", "p(front)": "p(front)"}  # metrics keep their names


def confidence_section(studies: Sequence[Study]) -> list[Any]:
    """The front with the intervals that can be stated, and which runs are within noise of the chosen one."""
    blocks: list[Any] = [Heading(_("How sure the choice is"))]
    for study in studies:
        table, notes = table_of(study.runs, study.aims, chosen=str(study.choice.run["run"]))
        shown = table.head(8)
        caption = _("The configurations of {study} that are or may be on the front.")
        if study.on_hold_out:
            caption = _("The configurations of {study} that are or may be on the front, scored on the hold-out.")
        caption = caption.format(study=study.name)
        more = [_("{count} more are left out here.").format(count=len(table) - len(shown))] if len(table) > len(shown) else []
        blocks.append(
            Table(
                [_(COLUMN_LABELS[name]) if name in COLUMN_LABELS else name for name in shown.columns],
                [[str(cell) for cell in row] for row in shown.itertuples(index=False)],
                " ".join([caption, notes[0], *more]),
            )
        )
        blocks.append(Paragraph(" ".join(notes[1:])))
        interval = study.models["chosen"].get("interval")
        if interval:
            seeds = [str(entry["seed"]) for entry in study.models["chosen"].get("seeds", [])] or [_("unknown")]
            means = ", ".join(
                _("{name} {mean:.4f} ({low:.4f} to {high:.4f})").format(name=_(name), mean=mean, low=low, high=high)
                for name, (mean, *ends) in interval.items()
                for low, high in [np.clip(ends, *range_of(name, [mean], ours=True))]  # of older versions, they may lie beyond
            )
            text = _(
                "The chosen {study} was retrained with the seeds {seeds}. Over them, on the locked test part: {means}; mean and "
                "95 % t interval, cut at the ends of the metric's range. The model that is kept is that of seed {first}, fixed "
                "beforehand."
            )
            blocks.append(Paragraph(text.format(study=study.name, seeds=", ".join(seeds), means=means, first=seeds[0])))
    return blocks


def training_section(study: Study) -> list[Any]:
    """What the curves say of every run, by stated rules."""
    runs = study.runs[-MOST_CURVES:]
    if not any(run.n_rows > 1 for run in runs):
        return []
    table = diagnose_records(runs)
    counts = ", ".join(
        _("{diagnosis} {count}").format(count=count, diagnosis=_(str(kind)))
        for kind, count in table["diagnosis"].value_counts().items()
    )
    own = [
        _("{run}: {diagnosis}; {reason}.").format(run=line["name"], diagnosis=_(line["diagnosis"]), reason=line["reason"])
        for line in table.to_dict("records")
        if line["run"] == study.chosen.run
    ]
    text = _("By the rules below, of {total} runs of {study}: {counts}. {own}")
    return [
        Heading(_("How the runs of {study} trained").format(study=study.name), 2),
        Paragraph(text.format(total=len(table), study=study.name, counts=counts, own=" ".join(own))),
        Table([_("diagnosis"), _("rule (the first that holds)")], rules_table(), _("How a run's curves are read."), text_columns=2),
    ]


def parameters_section(study: Study, figures: Path) -> list[Any]:
    """Which hyper-parameters mattered for the score that is shown, and how the runs lie in them."""
    word = _("F1") if study.metric == "f1" else study.metric
    heading = Heading(_("What mattered in {study}").format(study=study.name), 2)
    found = tried(study.runs, study.metric, study.goals.get(study.metric), study.aims)
    try:
        result = importances(found, translate=_)
    except UsageError as error:
        return [heading, Paragraph(_("No importance is given: {why}").format(why=f"{str(error).rstrip('.')}."))]
    order = list(result.table["parameter"])
    name = study.name
    captions = _("Importance for {metric}."), _("{metric} against each parameter.")
    if study.on_hold_out:
        captions = _("Importance for {metric} on the hold-out."), _("{metric} on the hold-out against each parameter.")
    return [
        heading,
        Paragraph(result.in_words(_)),
        Picture(
            save_figure(importance_figure(result), figures / f"importance-{name}.png"),
            captions[0].format(metric=word),
            "",
            "75%",
        ),
        Picture(
            save_figure(parallel_figure(found, order), figures / f"parallel-{name}.png"),
            _("Each line is a run; the darker and thicker, the better."),
            parallel_html(found, order),
        ),
        Picture(
            save_figure(slices_figure(found, order), figures / f"slices-{name}.png"),
            captions[1].format(metric=word),
        ),
    ]


def model_section(study: Study, figures: Path) -> list[Any]:
    """What the retrained model does with the images of the locked part, from what its one reading kept."""
    heading = Heading(_("What the retrained {study} does with the locked test part").format(study=study.name), 2)
    if not (study.folder / FILE).exists():
        return [heading, Paragraph(_("What it predicted for each image is unknown: no predictions are kept with the model."))]
    kept, names, name = load_kept(study.folder), list(study.models["chosen"]["test"]["per_class"]), study.name
    told = [
        _("The figures below are drawn from what the one reading of the locked part kept with the model."),
        confusions_in_words(kept.labels, kept.predicted, names),
    ]
    blocks: list[Any] = [
        heading,
        Paragraph(" ".join(told)),
        Picture(
            save_figure(class_scores_figure(kept.labels, kept.predicted, names), figures / f"classes-{name}.png"),
            _("Precision, recall and F1 of each class of the retrained {study}, locked test part.").format(study=name),
        ),
    ]
    if kept.probabilities is not None:
        found = calibration(kept.labels, kept.probabilities)
        hardest = hardest_figure(kept, names)
        blocks += [
            Picture(
                save_figure(precision_recall_figure(kept.labels, kept.probabilities, names), figures / f"pr-{name}.png"),
                _("Precision against recall of each class against the rest, over all thresholds, with the average precision."),
                "",
                "62%",
            ),
            Picture(
                save_figure(calibration_figure(kept.labels, kept.probabilities), figures / f"calibration-{name}.png"),
                _(
                    "Calibration: the share of right answers against the stated probability, in bins of equal counts. Expected "
                    "calibration error {error:.4f}."
                ).format(error=found.error),
                "",
                "46%",
            ),
        ]
        if hardest is not None:
            blocks.append(
                Picture(
                    save_figure(hardest, figures / f"hardest-{name}.png"),
                    _(
                        "The images of highest entropy of the predicted distribution, in bits, with the true and the predicted "
                        "class."
                    ),
                    "",
                    "62%",
                )
            )
    if len(kept.embeddings) > 0 and len(kept.sample) > 10:
        figure = embedding_figure(kept.embeddings, kept.labels[kept.sample], names)
        blocks.append(
            Picture(
                save_figure(figure, figures / f"embedding-{name}.png"),
                _(
                    "t-SNE of {count:,} images of the locked test part, by layer: {layers}. Distances between groups mean little "
                    "in such a map."
                ).format(count=len(kept.sample), layers=", ".join(kept.embeddings)),
            )
        )
    return blocks


def augmentation_section(study: Study) -> list[Any]:
    """What the runs with and without augmentation reached; nothing where the sweep did not vary it."""
    if study.metric != "f1" or {run.config.get("augment") for run in study.runs if run.state == "finished"} != {True, False}:
        return []
    table = compare_augmentation(study.runs)
    rows = [
        [_("yes") if line["augment"] else _("no"), str(line["runs"]), *(f"{line[key]:.4f}" for key in ("best", "median", "mean"))]
        for line in table.to_dict("records")
    ]
    return [
        Heading(_("What augmentation changed in {study}").format(study=study.name), 2),
        Table(
            [_("augmented"), _("runs"), _("best F1"), _("median F1"), _("mean F1")],
            rows,
            _("Runs with and without augmentation, on the hold-out."),
        ),
        Paragraph(in_words(table, "f1")),
    ]
