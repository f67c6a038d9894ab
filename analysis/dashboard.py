"""Watch a sweep in a browser: offline with optuna-dashboard, online as a W&B workspace or report made of fixed panels.

usage: python -m analysis.dashboard SOURCE [--port 8080]                      (runs/NAME, study.db or a storage URL[#NAME])
       python -m analysis.dashboard ENTITY/PROJECT[/SWEEP] [--report]         (needs: wandb login)

The page is served to this machine alone, until Ctrl-C. The workspace or report holds curves, precision and recall of every run
(or two other objectives), parallel coordinates of what was searched, and which parameters matter, as far as the runs logged it.
Saved again, it is changed; sections and blocks that a person added stay.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from paretune.analysis.document.study import differing
from paretune.analysis.sources.server import AT_WANDB, goals_in
from paretune.core.best_epoch import goal_of
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError, did_you_mean, first_line, listed_names, nearest_first
from paretune.runs.study_storage import database, open_storage, quiet_optuna, readable_errors
from paretune.runs.sweep_outcome import KEY, is_outcome
from paretune.runs.tracking import api_errors, logged_in

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.workspaces import Workspace

HOST, PORT, TRIES = "127.0.0.1", 8080, 20
CURVES = {
    "Loss by epoch": ["train_loss", "test_loss"],
    "Accuracy by epoch": ["train_accuracy", "test_accuracy"],
    "Precision, recall and F1 by epoch": ["precision", "recall", "f1"],
}
SECTIONS = {"Choice", "Curves"}  # of a workspace or report, which are made anew when it is saved again; others stay
MOST_RUNS = 500  # that are read to find out what was searched and logged
MOST_PLOTS = 12  # of metrics, for a program that is not ours


# -- online


@dataclass(frozen=True)
class Logged:
    """What can stand on a panel: the configurations and metrics of a project's or sweep's runs.

    Args:
        configs: of each run, by dotted path.
        history: metrics that are logged step by step.
        summary: metrics that have a final value.
        goals: metric -> goal of the sweep; empty where none is known.
    """

    configs: Sequence[Mapping[str, Any]]
    history: Sequence[str]
    summary: Sequence[str]
    goals: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Iterable[Any], goals: Mapping[str, str]) -> Logged:
        """Return what runs of W&B's public API hold."""
        configs, history, summary = [], dict[str, None](), dict[str, None]()
        for run in runs:
            # W&B's package takes a name with a dot for a nested one, and so cannot name it
            configs.append(leaves({name: value for name, value in run.config.items() if name != "provenance" and "." not in name}))
            keys = (run.history_keys or {}).get("keys", {})
            numbers = [key for key, known in keys.items() if any(kind["type"] == "number" for kind in known.get("typeCounts", ()))]
            history |= dict.fromkeys(key for key in numbers if not key.startswith("_"))
            finals = leaves({name: value for name, value in run.summary_metrics.items() if not (name == KEY and is_outcome(value))})
            summary |= dict.fromkeys(key for key, value in finals.items() if is_number(value) and not key.startswith("_"))
        return cls(configs, list(history), list(summary), goals)

    def metric(self, wanted: str | None) -> str:
        """Return the metric by which runs are judged: the one that is wanted, else the sweep's first objective, else f1.

        Raises:
            UsageError: if no run has a final value of it.
        """
        candidates = [*self.goals, "f1"] if wanted is None else [wanted]
        known = [name for name in candidates if name in self.summary]
        if known:
            return known[0]
        there = listed_names(nearest_first(candidates[0], self.summary))
        listed = f"they have {there}" if self.summary else "they have none at all"
        near = did_you_mean(candidates[0], self.summary).rstrip(".?")
        raise UsageError(f"no run has a final value of {candidates[0]}{near}: name a metric by --metric ({listed}).")

    def goal(self, metric: str) -> str:
        """Return whether a metric is minimized or maximized."""
        return self.goals.get(metric) or goal_of(metric)


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted path; W&B's own kinds of values (`_type`) stay whole."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = isinstance(value, Mapping) and value and "_type" not in value
        found |= leaves(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def is_number(value: Any) -> bool:
    """Whether a value is a number; W&B has NaN and infinity as texts."""
    return (isinstance(value, int | float) and not isinstance(value, bool)) or value in ("NaN", "Infinity", "-Infinity")


def workspace(source: str, logged: Logged, metric: str) -> Workspace:
    """Return a workspace of entity/project[/sweep], not saved yet.

    Args:
        metric: what parallel coordinates and parameter importance look at, and what the runs are ordered by.
    """
    from wandb_workspaces import expr, workspaces

    entity, project, *sweep = source.split("/")
    sections = [workspaces.Section(name=name, panels=panels, is_open=True) for name, panels in panels_of(logged, metric).items()]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=_title(sweep),
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis=_axis(logged), max_runs=50),
        runset_settings=workspaces.RunsetSettings(
            filters=expr.And(expr.Metric("Sweep") == sweep[0]) if sweep else "",
            order=[expr.Ordering(expr.Summary(metric), ascending=logged.goal(metric) == "minimize")],
            pinned_columns=["run:displayName", f"summary:{metric}", "run:state", *([] if sweep else ["run:sweep"])],
        ),
    )


def report(source: str, logged: Logged, metric: str) -> Report:
    """Return a report with the same panels, not saved yet; saving it asks W&B for the project."""
    from wandb_workspaces import expr
    from wandb_workspaces.reports import v2

    entity, project, *sweep = source.split("/")
    blocks: list[Any] = []
    for name, panels in panels_of(logged, metric).items():
        runs = v2.Runset(
            entity=entity,
            project=project,
            name=_title(sweep),
            filters=expr.And(expr.Metric("Sweep") == sweep[0]) if sweep else "",
            order=[v2.OrderBy(v2.SummaryMetric(metric), ascending=logged.goal(metric) == "minimize")],
        )
        blocks += [v2.H1(name), v2.PanelGrid(runsets=[runs], panels=panels)]
    return v2.Report(entity=entity, project=project, title=_title(sweep), blocks=blocks, width="fluid")


def panels_of(logged: Logged, metric: str) -> dict[str, list[Any]]:
    """Return W&B's panels by the section that they stand in; of metrics that no run logged there is none."""
    from wandb_workspaces.reports import v2

    groups = {title: [name for name in names if name in logged.history] for title, names in CURVES.items()}
    groups = {title: names for title, names in groups.items() if names}
    ours = {name for names in groups.values() for name in names}
    others = [name for name in logged.history if name not in ours and name != "epoch"]
    # of programs that are not ours, every metric has a plot; of ours, those of the sweep
    others = [name for name in others if name == metric or name in logged.goals] if ours else others[:MOST_PLOTS]
    groups |= {name: [name] for name in others}
    curves = []
    for place, (title, names) in enumerate(groups.items()):
        row, column = divmod(place, 3)
        width = 24 // min(3, len(groups) - 3 * row)
        layout = v2.Layout(x=width * column, y=7 * row, w=width, h=7)
        curves.append(v2.LinePlot(title=title, x=_axis(logged), y=names, layout=layout))
    columns = [
        v2.ParallelCoordinatesPlotColumn(metric=v2.Config(name), log=_spans_decades(logged.configs, name) or None)
        for name in (differing(logged.configs) if len(logged.configs) > 1 else [])
    ]
    columns.append(v2.ParallelCoordinatesPlotColumn(metric=v2.SummaryMetric(metric)))
    pairs = (("precision", "recall"), tuple(logged.goals)[:2])
    pair = next((pair for pair in pairs if len(pair) == 2 and set(pair) <= set(logged.summary)), None)
    choice: list[Any] = []
    if pair is not None:
        x, y = map(v2.SummaryMetric, pair)
        title = f"{pair[0]} and {pair[1]} of the runs"
        choice.append(v2.ScatterPlot(title=title, x=x, y=y, layout=v2.Layout(x=0, y=0, w=10, h=9)))
    start = 10 if choice else 0
    choice += [
        v2.ParameterImportancePlot(with_respect_to=metric, layout=v2.Layout(x=start, y=0, w=24 - start, h=9)),
        v2.ParallelCoordinatesPlot(
            title=f"What was searched, and {metric}", columns=columns, layout=v2.Layout(x=0, y=9, w=24, h=9)
        ),
    ]
    return {"Choice": choice, **({"Curves": curves} if curves else {})}


def _title(sweep: Sequence[str]) -> str:
    return f"Paretune sweep {sweep[0]}" if sweep else "Paretune"


def _axis(logged: Logged) -> str:
    return "epoch" if "epoch" in logged.history else "Step"


def _spans_decades(configs: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a parameter's values are positive numbers that lie two decades apart or more."""
    values = [config.get(name) for config in configs]
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(values) and min(numbers) > 0 and max(numbers) >= 100 * min(numbers)


def save_online(source: str, metric: str | None, *, as_report: bool) -> str:
    """Save a workspace, or a report, of entity/project[/sweep] at W&B, or change the one that is there; return its URL.

    Raises:
        UsageError: without credentials, without runs, or if W&B refuses.
    """
    kind = "report" if as_report else "workspace"
    if not logged_in():
        raise UsageError(f"a {kind} of {source} is kept by W&B: log in with 'wandb login', or give a study's folder (runs/NAME).")
    import requests
    import wandb
    from wandb_workspaces.workspaces.errors import SpecVersionError

    entity, project, *sweep = source.split("/")
    server = str(wandb.setup().settings.base_url)
    try:
        requests.head(server, timeout=10)  # the client tries for minutes where no server answers
        api = wandb.Api(timeout=60)
        sweeps = {found.id: found.config for found in api.project(project, entity).sweeps()}
        if sweep and sweep[0] not in sweeps:
            raise UsageError(f"{entity}/{project} has no sweep {sweep[0]}; it has {', '.join(list(sweeps)[:20]) or 'none'}.")
        found = api.runs(f"{entity}/{project}", filters={"sweep": sweep[0]} if sweep else {}, per_page=100, lazy=False)
        definition = sweeps[sweep[0]] if sweep else next(iter(sweeps.values()), {})
        logged = Logged.of((run for run, _ in zip(found, range(MOST_RUNS), strict=False)), goals_in(definition))
        if not logged.configs:
            raise UsageError(f"{source} has no run yet: start an agent first.")
        metric = logged.metric(metric)
        page: Any = _current_report(api, source, logged, metric) if as_report else _current_workspace(api, source, logged, metric)
        return quote(str(page.save().url), safe="/:?=&")
    except requests.RequestException as error:
        sentence = f"{server} does not answer ({type(error).__name__}): try again later, or give a study's folder (runs/NAME)."
        raise UsageError(sentence) from None
    except api_errors(SpecVersionError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        reason = first_line(error)
        raise UsageError(f"the {kind} of {source} could not be made at W&B ({reason}): check the name and your rights.") from None


def _current_workspace(api: Any, source: str, logged: Logged, metric: str) -> Workspace:
    """Return the workspace to save: the asker's of this title with our sections and order, else a new one."""
    from wandb_workspaces import workspaces

    made = workspace(source, logged, metric)
    saved = _saved(api, source, "project-view", made.name)
    if saved is None:
        return made
    nw = saved.name.removeprefix("nw-").removesuffix("-v")
    current = workspaces.Workspace.from_url(f"https://server/{made.entity}/{made.project}?nw={nw}")
    ours = {section.name for section in made.sections} | SECTIONS
    current.sections = [*made.sections, *(section for section in current.sections if section.name not in ours)]
    current.settings.x_axis = made.settings.x_axis
    current.runset_settings.order = made.runset_settings.order
    return current


def _current_report(api: Any, source: str, logged: Logged, metric: str) -> Report:
    """Return the report to save: the asker's of this title with our headings and grids, else a new one."""
    from wandb_workspaces.reports import v2

    made = report(source, logged, metric)
    saved = _saved(api, source, "runs", made.title)
    if saved is None:
        return made
    current, kept, in_section = v2.Report.from_url(saved.url), [], False
    for block in current.blocks:
        is_heading = isinstance(block, v2.H1)
        if is_heading:
            in_section = isinstance(block.text, str) and block.text in SECTIONS  # text with links is a list
        is_ours = in_section and (is_heading or isinstance(block, v2.PanelGrid))
        in_section = in_section and (is_heading or not is_ours)  # the first grid is ours, those below it are a person's
        kept += [] if is_ours else [block]
    current.blocks, current.width = [*made.blocks, *kept], made.width
    return current


def _saved(api: Any, source: str, kind: str, title: str) -> Any:
    """Return the asker's saved view of a kind and title; None where there is none."""
    entity, project, *_ = source.split("/")
    listed, asker = api.reports(f"{entity}/{project}"), api.viewer.username
    listed.variables["viewType"] = kind  # W&B's client lists reports, unless it is told otherwise
    return next((view for view in listed if view.display_name == title and (view.user or {}).get("username") == asker), None)


# -- offline


def study_server(source: str, port: int | None = None) -> tuple[WSGIServer, str]:
    """Return a server of optuna-dashboard for a study's folder, file or storage URL, and the address of the page.

    Args:
        port: where it must listen; by default 8080, or the next one that is free.

    Raises:
        UsageError: if there is no study, or the port is taken.
    """
    from optuna_dashboard import wsgi

    quiet_optuna()
    url, wanted = database(source)
    with readable_errors(url, writing=False):
        storage = open_storage(url, writing=False)
        studies = {study.study_name: study._study_id for study in storage.get_all_studies()}
    if wanted is not None and wanted not in studies:
        raise UsageError(f"{source}: there is no study {wanted!r}; there are {', '.join(studies) or 'none'}.")
    server = _listening(wsgi(storage), port)
    names = [wanted] if wanted is not None else list(studies)
    page = f"dashboard/studies/{studies[names[0]]}" if len(names) == 1 else "dashboard"
    return server, f"http://{HOST}:{server.server_port}/{page}"


def _listening(app: Any, port: int | None) -> WSGIServer:
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    class Threaded(ThreadingMixIn, WSGIServer):
        daemon_threads = True
        allow_reuse_address = True

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *values: Any) -> None:
            return

    for candidate in [port] if port is not None else range(PORT, PORT + TRIES):
        try:
            return make_server(HOST, candidate, app, server_class=Threaded, handler_class=Quiet)
        except (OSError, OverflowError):
            continue
    if port is None:
        raise UsageError(f"the ports {PORT} to {PORT + TRIES - 1} of this machine are all taken: name another with --port.")
    raise UsageError(f"port {port} of this machine cannot be listened on, as it is taken or not allowed: name another with --port.")


def curves_hint(source: str) -> str | None:
    """Return the command that shows the curves of a study's runs in this terminal; None where their files are not here."""
    path = Path(source.partition("#")[0])
    folder = (path if path.is_dir() else path.parent) / "wandb"
    if "://" in source or not any(folder.glob("*run-*")):
        return None
    program = "wandb" if shutil.which("wandb") else str(Path(sys.executable).with_name("wandb"))
    return shlex.join([program, "leet", str(folder)])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m analysis.dashboard", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("source", metavar="SOURCE", help="runs/NAME, study.db, a storage URL[#NAME], or entity/project[/sweep]")
    parser.add_argument("--port", type=int, help=f"port of the page (default: {PORT}, or the next one that is free)")
    parser.add_argument("--report", action="store_true", help="at W&B, make a report instead of a workspace")
    parser.add_argument("--metric", help="at W&B, what runs and parameters are judged by (default: the sweep's, else f1)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        source = options.source
        if "://" not in source and not Path(source).exists() and AT_WANDB.fullmatch(source):
            print(save_online(source, options.metric, as_report=options.report))
            return 0
        if options.report:
            raise UsageError(
                f"--report is for entity/project[/sweep] at W&B. Got {source}; python -m analysis.report writes its report."
            )
        server, address = study_server(source, options.port)
        _serve(server, address, curves_hint(source))
    return 0


def _serve(server: WSGIServer, address: str, hint: str | None) -> None:
    print(f"the study is at {address} until Ctrl-C", flush=True)
    if hint:
        print(f"the curves of its runs, in another terminal: {hint}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()


if __name__ == "__main__":
    sys.exit(main())
