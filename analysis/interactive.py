"""The Pareto figure for a page: plotly with every run's configuration on hover, its script inside the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from analysis.report import Study

SYMBOLS = ["circle", "square", "triangle-up", "diamond"]


def pareto_html(studies: Sequence[Study], metrics: Sequence[str] = ("precision", "recall")) -> str:
    """Return a figure of all studies in one plane as HTML that needs no other file."""
    from plotly import graph_objects

    from analysis.figures import COLORS, GREY, LABELS, window
    from analysis.sections import searched, short

    figure = graph_objects.Figure()
    for place, study in enumerate(studies):
        names, by_id = searched(study), {run.run: run for run in study.runs}
        for on_front in (False, True):
            part = study.front[study.front["on_front"] == on_front]
            texts = []
            for _, row in part.iterrows():
                config = by_id[row["run"]].config
                lines = [f"<b>{escape(str(row['name']))}</b>", f"F1 {row['f1']:.4f}, epoch {row['best_epoch']:.0f}"]
                texts.append("<br>".join([*lines, *(f"{name}: {escape(short(config.get(name)))}" for name in names)]))
            chosen = [run == study.choice.run["run"] for run in part["run"]]
            figure.add_scatter(
                x=part[metrics[0]].tolist(),
                y=part[metrics[1]].tolist(),
                mode="markers",
                name=f"{study.name}, {'on the front' if on_front else 'dominated'}",
                text=texts,
                hovertemplate="%{text}<br>precision %{x:.4f}, recall %{y:.4f}<extra></extra>",
                marker={
                    "symbol": SYMBOLS[place % len(SYMBOLS)],
                    "size": [15 if pick else 11 if on_front else 8 for pick in chosen],
                    "color": COLORS[place % len(COLORS)] if on_front else GREY,
                    "opacity": 1.0 if on_front else 0.55,
                    "line": {"width": [3 if pick else 1 for pick in chosen], "color": "black"},
                },
            )
    together = pd.concat([study.front for study in studies])
    limits = [window(together[metric].to_numpy(dtype=float), "maximize") for metric in metrics]
    for place, study in enumerate(studies):
        for x, y in {tuple(point) for point in study.front.loc[study.front["on_front"], list(metrics)].to_numpy().tolist()}:
            color = COLORS[place % len(COLORS)]
            figure.add_shape(type="rect", x0=0, y0=0, x1=x, y1=y, fillcolor=color, opacity=0.12, line_width=0, layer="below")
    figure.update_xaxes(range=limits[0])
    figure.update_yaxes(range=limits[1])
    figure.update_layout(
        template="plotly_white",
        height=480,
        margin={"l": 60, "r": 20, "t": 20, "b": 55},
        legend={"orientation": "h", "y": -0.18},
        xaxis_title=LABELS.get(metrics[0], metrics[0]),
        yaxis_title=LABELS.get(metrics[1], metrics[1]),
    )
    return figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False, "responsive": True})
