"""The Pareto figure for a page: plotly with every run's configuration on hover, its script inside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.document import plotly_script
from paretune.analysis.document.language import translate as _
from paretune.analysis.document.study import Study, differing_parameters, searched, short, shown_config
from paretune.analysis.figures.runs import COLORS, GREY, frame, label_of, staircase
from paretune.core.errors import UsageError
from paretune.core.short_names import shortened

if TYPE_CHECKING:
    import pandas as pd

    from paretune.analysis.sources.run_record import RunRecord

SYMBOLS = ["circle", "square", "triangle-up", "diamond"]
MOST_LINES, MOST_CHARACTERS = 25, 70  # of one run's configuration on hover


def pareto_html(
    studies: Sequence[Study], metrics: Sequence[str] = ("precision", "recall"), goals: Sequence[str] = ("maximize", "maximize")
) -> str:
    """Return a figure of all studies together as HTML that needs no other file."""
    shown = {
        run.run: {name: run.effective_config.get(name) for name in names}
        for study, names in [(study, searched(study)) for study in studies]
        for run in study.runs
    }
    chosen = {study.name: study.marked for study in studies}
    return front_html({study.name: study.front for study in studies}, shown, metrics, goals, chosen)


def configurations(runs: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """Return by run id what tells its effective configuration from the others'; all of it where nothing does."""
    configs = [shown_config(run) for run in runs]
    names = differing_parameters(runs) or list(dict.fromkeys(name for config in configs for name in config))
    return {run.run: {name: config[name] for name in names if name in config} for run, config in zip(runs, configs, strict=True)}


def front_html(
    tables: Mapping[str, pd.DataFrame],
    configs: Mapping[str, Mapping[str, Any]],
    metrics: Sequence[str],
    goals: Sequence[str],
    chosen: Mapping[str, str] | None = None,
) -> str:
    """Return a figure as HTML that needs no other file: a plane for two metrics, a grid of pairs for more.

    Args:
        tables: runs with a bool column `on_front`, by name.
        configs: by run id, what a run's label shows of its configuration.
        chosen: the id of the chosen run, by name.
    """
    import pandas as pd
    from plotly import graph_objects

    figure = graph_objects.Figure()
    together = pd.concat(list(tables.values()))
    front = together["on_front"].to_numpy(dtype=bool)
    picks = [table["run"].eq((chosen or {}).get(name)).to_numpy() for name, table in tables.items()]
    seen = front | np.concatenate(picks)
    limits = [frame(together[metric].to_numpy(dtype=float), seen, goal) for metric, goal in zip(metrics, goals, strict=True)]
    titles = [label_of(metric) for metric in metrics]
    shown = _labels(configs)
    for place, (name, table) in enumerate(tables.items()):
        for on_front in (False, True):
            part = table[table["on_front"] == on_front]
            if part.empty:
                continue
            look = {
                "name": (_("{name}, on the front") if on_front else _("{name}, dominated")).format(name=name),
                "text": [_text(row, metrics, shown.get(str(row["run"]), {})) for index, row in part.iterrows()],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": _marker(part, place, (chosen or {}).get(name), on_front=on_front),
            }
            columns = [part[metric].tolist() for metric in metrics]
            if len(metrics) == 2:
                figure.add_scatter(x=columns[0], y=columns[1], mode="markers", **look)
            else:
                dimensions = [{"label": title, "values": column} for title, column in zip(titles, columns, strict=True)]
                figure.add_splom(dimensions=dimensions, showupperhalf=False, diagonal={"visible": False}, **look)
        if len(metrics) == 2:
            _shade(figure, table, together, metrics, goals, COLORS[place % len(COLORS)])
    layout: dict[str, Any] = {"template": "plotly_white", "margin": {"l": 60, "r": 20, "t": 20, "b": 55}}
    if len(metrics) == 2:
        figure.update_xaxes(range=limits[0], title=titles[0])
        figure.update_yaxes(range=limits[1], title=titles[1])
        layout |= {"height": 480, "legend": {"orientation": "h", "y": -0.18}}
    else:
        for place, limit in enumerate(limits, start=1):
            layout |= {f"xaxis{place}": {"range": limit}, f"yaxis{place}": {"range": limit}}
        layout |= {"height": 200 * len(metrics) + 80, "legend": {"x": 0.98, "y": 0.98, "xanchor": "right"}}
    figure.update_layout(**layout)
    return figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})


def _labels(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return what the labels show of the configurations, by run id: values that differ stay different where they are cut."""
    shown: dict[str, dict[str, str]] = {run: {} for run in configs}
    for name in dict.fromkeys(name for config in configs.values() for name in config):
        runs = [run for run, config in configs.items() if name in config]
        texts = shortened([short(configs[run][name]) for run in runs], MOST_CHARACTERS)
        for run, text in zip(runs, texts, strict=True):
            shown[run][name] = text
    return {run: {name: shown[run][name] for name in config} for run, config in configs.items()}


def _text(row: pd.Series, metrics: Sequence[str], config: Mapping[str, str]) -> str:
    """Return a run's label: its name, its metrics, its best epoch, then its configuration."""
    import pandas as pd

    lines = [f"<b>{escape(str(row['name'] or row['run']))}</b>"]
    lines += [f"{escape(metric)} {row[metric]:.5g}" for metric in dict.fromkeys([*metrics, "f1"]) if metric in row]
    if pd.notna(row.get("best_epoch")):
        lines.append(_("epoch {epoch}").format(epoch=f"{row['best_epoch']:.0f}"))
    lines += [f"{escape(name)}: {escape(text)}" for name, text in list(config.items())[:MOST_LINES]]
    return "<br>".join([*lines, "…"] if len(config) > MOST_LINES else lines)


def _marker(part: pd.DataFrame, place: int, chosen: str | None, *, on_front: bool) -> dict[str, Any]:
    picks = [run == chosen for run in part["run"]]
    return {
        "symbol": SYMBOLS[place % len(SYMBOLS)],
        "size": [15 if pick else 11 if on_front else 8 for pick in picks],
        "color": COLORS[place % len(COLORS)] if on_front else GREY,
        "opacity": 1.0 if on_front else 0.55,
        "line": {"width": [3 if pick else 1 for pick in picks], "color": "black"},
    }


def _shade(
    figure: Any, table: pd.DataFrame, together: pd.DataFrame, metrics: Sequence[str], goals: Sequence[str], color: str
) -> None:
    """Shade what the front dominates, as far as the worst run of all, or zero, lies."""
    corner = []
    for metric, goal in zip(metrics, goals, strict=True):
        values = np.append(together[metric].to_numpy(dtype=float), 0.0)
        low, high = values.min(), values.max()
        corner.append(float(low if goal == "maximize" else high + (high - low)))
    points = np.unique(table.loc[table["on_front"], list(metrics)].to_numpy(dtype=np.float64), axis=0)
    if len(points):
        edge = " L ".join(f"{x!r},{y!r}" for x, y in staircase(points, goals, corner))
        outline = f"M {corner[0]!r},{corner[1]!r} L {edge} Z"
        figure.add_shape(type="path", path=outline, fillcolor=color, opacity=0.12, line_width=0, layer="below")


def save_page(figure: str, path: Path, *, title: str = "Pareto front") -> Path:
    """Write a figure as one page that needs no other file.

    Raises:
        UsageError: if the file cannot be written.
    """
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    head += plotly_script()
    page = f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{figure}</body></html>\n'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
    return path
