"""What the comparison of analysis/drawn_digits.py shows: a table, words, the drawings that only one of a pair reads, a report."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.document import Document, Heading, Paragraph, Picture, Table, write_html, write_pdf
from paretune.analysis.document.language import spoken
from paretune.analysis.document.language import translate as _
from paretune.analysis.drawn_digits import PARTS, Drawings, Plan, check_before, plan_of, read_drawings, results_of, train_and_read
from paretune.analysis.figures.augmentation import augmentation_figure
from paretune.analysis.figures.galleries import pictures_figure
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.findings.confidence import LEVEL
from paretune.core.devices import pick_device
from paretune.core.errors import UsageError
from paretune.data.dataset import load_data
from paretune.data.provenance import provenance
from paretune.models.saved_models import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paretune.data.dataset import Data

RESULTS = "results.json"
MOST_SHOWN, COLUMNS = 40, 8
FEW = 100  # drawings: with fewer, a single one is more than a point of accuracy
PART_LABELS = {"test": "test part", "drawings": "drawings in MNIST's form", "shrunk": "drawings merely shrunk"}
SIDE_LABELS = {"without": "without augmentation", "with": "with augmentation"}


def table_of(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return column names and rows: without, with, and their difference, each above its intervals."""
    columns = ["", *(f"{_(PART_LABELS[part])} ({results['n_images'][part]:,})" for part in PARTS)]
    rows = []
    for side, label in SIDE_LABELS.items():
        found = results["accuracy"][side]
        rows.append([_(label), *(f"{found[part]['mean']:.4f}" for part in PARTS)])
        rows.append([_("— over the seeds (t)"), *(_interval(found[part]["t_interval"], ".4f") for part in PARTS)])
        rows.append([_("— over the images (Wilson)"), *(_interval(found[part]["wilson_interval"], ".4f") for part in PARTS)])
    differences = results["difference"]
    rows.append([_("with minus without"), *(f"{differences[part]['mean']:+.4f}" for part in PARTS)])
    rows.append([_("— over the seeds (paired t)"), *(_interval(differences[part]["t_interval"], "+.4f") for part in PARTS)])
    return columns, rows


def _interval(ends: Sequence[float] | None, form: str) -> str:
    return "-" if ends is None else f"[{ends[0]:{form}}, {ends[1]:{form}}]"


def as_text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as lines of text, the first column set left, the others right."""
    widths = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (columns, *rows)
    ]
    return "\n".join(lines)


def caption_of(results: Mapping[str, Any]) -> str:
    """Say what the table's numbers are."""
    return _(
        "Accuracy, as a mean over the seeds ({count}), and 95 % intervals: Student's t over the seeds (- where they do not differ, "
        "or there is one alone; cut at 0 and 1, for differences at -1 and 1), Wilson's for a mean of so many images. The number of "
        "images stands behind each part's name."
    ).format(count=results["settings"]["n_seeds"])


def words_of(results: Mapping[str, Any]) -> list[str]:
    """Say in paragraphs what can be concluded from the numbers, and what cannot."""
    return [
        _difference_in_words("test", results),
        _difference_in_words("drawings", results),
        _pair_in_words(results),
        _form_in_words(results),
        _limits_in_words(results),
    ]


def _difference_in_words(part: str, results: Mapping[str, Any]) -> str:
    """Say by how much augmentation changed the accuracy on a part, and whether other seeds can be expected to agree."""
    if part == "test":
        text = _(
            "On the {count:,} images of the locked test part the accuracy was {without:.4f} without and {augmented:.4f} with "
            "augmentation: {points:+.2f} points."
        )
    else:
        text = _(
            "On the {count:,} drawings in MNIST's form the accuracy was {without:.4f} without and {augmented:.4f} with "
            "augmentation: {points:+.2f} points."
        )
    without, augmented = (results["accuracy"][side][part]["mean"] for side in SIDE_LABELS)
    difference = results["difference"][part]
    said = text.format(count=results["n_images"][part], without=without, augmented=augmented, points=_points(difference["mean"]))
    n_seeds, interval = results["settings"]["n_seeds"], difference["t_interval"]
    if n_seeds == 1:
        return f"{said} {_('One seed cannot say how much another one would change this: nothing is concluded from it.')}"
    if interval is None:
        judged = _("Each of the {seeds} seeds gave this very difference, so that they say nothing about its spread.")
        return f"{said} {judged.format(seeds=n_seeds)}"
    low, high = interval
    if low <= 0 <= high:
        judged = _(
            "The 95 % interval over the {seeds} seeds, from {low:+.2f} to {high:+.2f} points, holds 0: that augmentation changes "
            "the accuracy on these images cannot be concluded, nor that it does not."
        )
    elif low > 0:
        judged = _(
            "The 95 % interval over the {seeds} seeds, from {low:+.2f} to {high:+.2f} points, lies above 0: over the seeds, "
            "augmentation gains on these images."
        )
    else:
        judged = _(
            "The 95 % interval over the {seeds} seeds, from {low:+.2f} to {high:+.2f} points, lies below 0: over the seeds, "
            "augmentation loses on these images."
        )
    return f"{said} {judged.format(seeds=n_seeds, low=_points(low), high=_points(high))}"


def _points(share: float) -> float:
    """Return a share in points, without a minus before a zero."""
    return round(100 * share, 2) + 0.0


def _pair_in_words(results: Mapping[str, Any]) -> str:
    """Say how many drawings only one of the two models of a seed reads rightly, and whether chance explains it."""
    found = results["read_by_one"]
    gained, lost = found["with_alone"], found["without_alone"]
    if not gained + lost:
        return _(
            "The two models of seed {seed} are right on the same of the {count} drawings: there is none that only one of the "
            "two reads rightly."
        ).format(seed=found["seed"], count=results["n_images"]["drawings"])
    said = _(
        "Drawing by drawing, for the two models of seed {seed}: of {count} drawings, {gained} are read rightly only by the one "
        "with augmentation, and {lost} only by the one without (McNemar's exact test: p = {p:.3f})."
    ).format(seed=found["seed"], count=results["n_images"]["drawings"], gained=gained, lost=lost, p=found["p"])
    if found["p"] < 1 - LEVEL:
        judged = _(
            "These two models can be told apart by these drawings; whether augmentation or the seed did it, the interval over the "
            "seeds says."
        )
    else:
        judged = _("These two models cannot be told apart by these drawings.")
    return f"{said} {judged}"


def _form_in_words(results: Mapping[str, Any]) -> str:
    """Say what the same drawings were read as without MNIST's form."""
    means = {(part, side): results["accuracy"][side][part]["mean"] for part in PARTS for side in SIDE_LABELS}
    said = _(
        "The same drawings merely shrunk to {side}x{side}, neither scaled to the size of MNIST's digits nor centred as they are, "
        "were read with an accuracy of {without:.4f} without and {augmented:.4f} with augmentation."
    ).format(side=results["image_side"], without=means["shrunk", "without"], augmented=means["shrunk", "with"])
    losses = [means["drawings", side] - means["shrunk", side] for side in SIDE_LABELS]
    if min(losses) > 0:
        judged = _("MNIST's form is worth {without:.1f} points without and {augmented:.1f} points with augmentation.").format(
            without=_points(losses[0]), augmented=_points(losses[1])
        )
    else:
        judged = _("For at least one of the two, MNIST's form gained nothing on these drawings.")
    return f"{said} {judged}"


def _limits_in_words(results: Mapping[str, Any]) -> str:
    """Say what none of the intervals covers."""
    count = results["n_images"]["drawings"]
    widths = [np.diff(results["accuracy"][side]["drawings"]["wilson_interval"])[0] for side in SIDE_LABELS]
    said = _(
        "The intervals over the seeds are about these images; drawings by other hands may turn out otherwise. As a sample, {count} "
        "drawings alone leave the accuracy on drawings open by up to {width:.1f} points from end to end (Wilson's interval, which "
        "takes each drawing as one of its own: those of one hand are alike, and say less)."
    ).format(count=count, width=_points(float(max(widths))))
    if count < FEW:
        said += " " + _("So few drawings cannot show a small effect: collect more before deciding by them.")
    return f"{said} " + _(
        "The test part was read to report these numbers: whoever chooses by them has no test part left to judge the choice by."
    )


def gallery_figure(results: Mapping[str, Any], drawings: Drawings) -> Figure | None:
    """Draw the drawings that only one of the pair reads rightly, at most MOST_SHOWN; None where there is none.

    Of more, those shown are spread evenly over all in their order, which is that of the classes.
    """
    found = results["read_by_one"]["drawings"]
    if not found:
        return None
    chosen = (
        found if len(found) <= MOST_SHOWN else [found[place] for place in np.linspace(0, len(found) - 1, MOST_SHOWN).astype(int)]
    )
    places = {name: place for place, name in enumerate(drawings.names)}
    pictures = {}
    for number, one in enumerate(chosen, start=1):  # the number keeps titles apart that would be the same
        image = np.moveaxis(drawings.formed.x[places[one["drawing"]]].numpy(), 0, -1)
        title = _("{number}: is {label}\nwithout: {without}\nwith: {augmented}")
        filled = title.format(number=number, label=one["label"], without=one["without"], augmented=one["with"])
        pictures[filled] = image[..., 0] if image.shape[-1] == 1 else image
    return pictures_figure(pictures, columns=min(COLUMNS, max(4, len(pictures))))


def build_document(results: Mapping[str, Any], data: Data, drawings: Drawings, figures: Path) -> Document:
    """Draw the figures and lay out the report."""
    settings = results["settings"]
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    document = Document(_("What augmentation does to drawings"), _("Written {when}.").format(when=when), language=spoken())
    changes = ", ".join(f"{name} {value}" for name, value in settings["augmentation"].items())
    document.add(
        Heading(_("With and without augmentation")),
        Paragraph(
            _(
                "{name} was trained on {n_train:,} images of {data} for {epochs} epochs, with and without augmentation "
                "({changes}), from each seed ({seeds} in all); the two models of a seed differ in nothing else. Each read the "
                "locked test part, and the drawings of a folder in two forms."
            ).format(
                name=settings["configuration"],
                n_train=results["n_train"],
                data=settings["data_options"]["data"],
                epochs=settings["n_epochs"],
                changes=changes,
                seeds=settings["n_seeds"],
            )
        ),
        Table(*table_of(results), caption_of(results)),
        *(Paragraph(text) for text in words_of(results)),
        Heading(_("Training images as augmentation changes them")),
        Picture(
            save_figure(augmentation_figure(data, settings["augmentation"]), figures / "augmented.png"),
            _("Training images in the first row, and below each of them changed copies, as the models with augmentation saw them."),
            width="70%",
        ),
        Heading(_("Drawings that only one of the two reads rightly")),
    )
    gallery = gallery_figure(results, drawings)
    if gallery is None:
        document.add(Paragraph(_pair_in_words(results)))
        return document
    total = len(results["read_by_one"]["drawings"])
    caption = _(
        "{shown} of the {total} drawings that only one of the two models of seed {seed} reads rightly: what each is, and what the "
        "models without and with augmentation read. All are listed in {file}."
    ).format(shown=min(total, MOST_SHOWN), total=total, seed=results["read_by_one"]["seed"], file=RESULTS)
    document.add(Picture(save_figure(gallery, figures / "read_by_one.png"), caption))
    return document


def compare(plan: Plan, drawn: Path, *, models: Path, to: Path, device: str = "auto") -> tuple[dict[str, Any], list[Path]]:
    """Train, read and write results.json, report.html and report.pdf below `to`; return the numbers and the files.

    Raises:
        UsageError: before anything is trained, where the data, the drawings, the device or a folder are not fit for it.
    """
    check_before(plan, models, device)
    _check_writable(to)
    data = load_data(plan.options)
    drawings = read_drawings(drawn, data)
    readings = train_and_read(plan, data, drawings, models, device=device)
    results = results_of(plan, data, drawings, readings)
    results["settings"]["drawings"] = str(drawn)
    results["provenance"] = provenance(data, str(pick_device(device)))
    try:
        write_json(to / RESULTS, results)
        document = build_document(results, data, drawings, to / "figures")
        html, pdf = write_html(document, to / "report.html"), write_pdf(document, to / "report.pdf")
    except OSError as error:
        raise UsageError(f"{to} cannot be written ({error.strerror}): choose another folder with --to.") from None
    return results, [html, pdf, to / RESULTS]


def _check_writable(to: Path) -> None:
    try:
        to.mkdir(parents=True, exist_ok=True)
        if not os.access(to, os.W_OK):
            raise PermissionError(None, "no right to write there")
    except OSError as error:
        raise UsageError(f"{to} cannot be written ({error.strerror}): choose another folder with --to.") from None


def run(options: Any) -> None:
    """Do what the flags of `python -m analysis.augmentation --drawings` ask for, and print what came out."""
    plan = plan_of(
        options.preset,
        options.model,
        options.data,
        n_epochs=options.epochs,
        n_seeds=options.seeds,
        train_size=options.train_size,
    )
    results, files = compare(plan, Path(options.drawings), models=Path(options.models), to=Path(options.to), device=options.device)
    print(as_text(*table_of(results)))
    print("\n".join(["", caption_of(results), *words_of(results)]))
    print(f"wrote {', '.join(map(str, files))}")
