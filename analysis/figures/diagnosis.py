"""The loss and accuracy curves of one run with its diagnosis marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paretune.analysis.document.language import translate as _
from paretune.analysis.figures.labels import fitted
from paretune.analysis.figures.runs import COLORS, GREY, MARKERS, label_of, new_figure, scale_of, styled
from paretune.analysis.findings.diagnosis import Diagnosis

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LOG_FROM = 4  # largest over smallest loss


@styled
def diagnosis_figure(history: pd.DataFrame, diagnosis: Diagnosis, *, title: str, part: str = "") -> Figure:
    """Draw loss and accuracy over the epochs of one run, mark the epoch of the diagnosis, and write its reason above.

    Args:
        history: the rows of one run, as `paretune.analysis.history.tidy` lays them out.
        part: what `test_loss` and `test_accuracy` were measured on; by default the hold-out.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    logged = set(history.dropna(axis=1, how="all").columns)
    names = ["loss", *(["accuracy"] if {"train_accuracy", "test_accuracy"} & logged else [])]
    figure, panels = new_figure(8.4, 3.4, len(names))
    for axes, name in zip(panels, names, strict=True):
        for place, (column, label) in enumerate(((f"train_{name}", _("training")), (f"test_{name}", part or _("hold-out")))):
            rows = history[history[column].notna()] if column in history else history.iloc[:0]
            if not rows.empty:
                style = "-" if place == 0 else "--"
                axes.plot(rows["epoch"], rows[column], style, color=COLORS[place], label=label, marker=MARKERS[place], ms=3)
        if diagnosis.epoch is not None:
            axes.axvline(diagnosis.epoch, color="black", lw=0.9, ls=":", label=_("epoch {epoch}").format(epoch=diagnosis.epoch))
            axes.axvspan(diagnosis.epoch, max(history["epoch"].max(), diagnosis.epoch), color=GREY, alpha=0.13, lw=0)
        axes.set_xlabel(_("epoch"))
        axes.set_ylabel(label_of(f"test_{name}"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if scale_of(history.filter(["train_loss", "test_loss"]), LOG_FROM) == "log":
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panels[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panels[0].yaxis.set_minor_formatter(NullFormatter())
    panels[-1].legend(fontsize=8)
    text = fitted(f"{title}: {_(diagnosis.kind)}; {diagnosis.reason}", 8.2, most_lines=6)
    figure.suptitle(text, x=0.01, ha="left", fontsize=9)
    return figure
