"""Watch a sweep in a browser: offline with optuna-dashboard, online as a W&B workspace or report made of fixed panels.

usage: python -m analysis.dashboard SOURCE [--port 8080]                      (runs/NAME, study.db or a storage URL[#NAME])
       python -m analysis.dashboard ENTITY/PROJECT[/SWEEP] [--report]         (needs: wandb login)

The page is served to this machine alone, until Ctrl-C. The workspace or report holds the curves by epoch, precision and
recall of every run, parallel coordinates of what was searched, and which parameters matter.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.analysis.document.study import differing
from paretune.core.best_epoch import goal_of
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.runs.study_storage import database, open_storage, quiet_optuna, readable_errors
from paretune.runs.tracking import logged_in

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
MOST_RUNS = 500  # whose configurations are read to find out what was searched


# -- online


def workspace(source: str, configs: Sequence[Mapping[str, Any]], metric: str = "f1") -> Workspace:
    """Return a workspace of entity/project[/sweep], not saved yet.

    Args:
        configs: the configurations of its runs, which tell what was searched.
        metric: what parallel coordinates and parameter importance look at, and what the runs are ordered by.
    """
    from wandb_workspaces import expr, workspaces

    entity, project, *sweep = source.split("/")
    sections = [workspaces.Section(name=name, panels=panels, is_open=True) for name, panels in panels_of(configs, metric).items()]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=_title(sweep),
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis="epoch", max_runs=50),
        runset_settings=workspaces.RunsetSettings(
            filters=expr.And(expr.Metric("Sweep") == sweep[0]) if sweep else "",
            order=[expr.Ordering(expr.Summary(metric), ascending=_ascending(metric))],
            pinned_columns=["run:displayName", f"summary:{metric}", "run:state"],
        ),
    )


def report(source: str, configs: Sequence[Mapping[str, Any]], metric: str = "f1") -> Report:
    """Return a report with the same panels, not saved yet; saving it asks W&B for the project."""
    from wandb_workspaces import expr
    from wandb_workspaces.reports import v2

    entity, project, *sweep = source.split("/")
    blocks: list[Any] = []
    for name, panels in panels_of(configs, metric).items():
        runs = v2.Runset(
            entity=entity,
            project=project,
            name=_title(sweep),
            filters=expr.And(expr.Metric("Sweep") == sweep[0]) if sweep else "",
            order=[v2.OrderBy(v2.SummaryMetric(metric), ascending=_ascending(metric))],
        )
        blocks += [v2.H1(name), v2.PanelGrid(runsets=[runs], panels=panels)]
    return v2.Report(entity=entity, project=project, title=_title(sweep), blocks=blocks, width="fluid")


def panels_of(configs: Sequence[Mapping[str, Any]], metric: str) -> dict[str, list[Any]]:
    """Return W&B's panels by the section that they stand in."""
    from wandb_workspaces.reports import v2

    curves = [
        v2.LinePlot(title=title, x="epoch", y=names, layout=v2.Layout(x=8 * place, y=0, w=8, h=7))
        for place, (title, names) in enumerate(CURVES.items())
    ]
    columns = [
        v2.ParallelCoordinatesPlotColumn(metric=v2.Config(name), log=_spans_decades(configs, name) or None)
        for name in (differing(configs) if len(configs) > 1 else [])
    ]
    columns.append(v2.ParallelCoordinatesPlotColumn(metric=v2.SummaryMetric(metric)))
    choice = [
        v2.ScatterPlot(
            title="Precision and recall of the runs",
            x=v2.SummaryMetric("precision"),
            y=v2.SummaryMetric("recall"),
            layout=v2.Layout(x=0, y=0, w=10, h=9),
        ),
        v2.ParameterImportancePlot(with_respect_to=metric, layout=v2.Layout(x=10, y=0, w=14, h=9)),
        v2.ParallelCoordinatesPlot(
            title=f"What was searched, and {metric}", columns=columns, layout=v2.Layout(x=0, y=9, w=24, h=9)
        ),
    ]
    return {"Choice": choice, "Curves": curves}


def _title(sweep: Sequence[str]) -> str:
    return f"Paretune sweep {sweep[0]}" if sweep else "Paretune"


def _ascending(metric: str) -> bool:
    return goal_of(metric) == "minimize"


def _spans_decades(configs: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a parameter's values are positive numbers that lie two decades apart or more."""
    values = [config.get(name) for config in configs]
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(values) and min(numbers) > 0 and max(numbers) >= 100 * min(numbers)


def save_online(source: str, metric: str, *, as_report: bool) -> str:
    """Save a workspace, or a report, of entity/project[/sweep] at W&B; return its address.

    Raises:
        UsageError: without credentials, without runs, or if W&B refuses.
    """
    kind = "report" if as_report else "workspace"
    if not logged_in():
        raise UsageError(f"a {kind} of {source} is kept by W&B: log in with 'wandb login', or give a study's folder (runs/NAME).")
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    entity, project, *sweep = source.split("/")
    try:
        found = wandb.Api(timeout=60).runs(
            f"{entity}/{project}", filters={"sweep": sweep[0]} if sweep else {}, per_page=100, lazy=False
        )
        configs = [dict(run.config) for run, _ in zip(found, range(MOST_RUNS), strict=False)]
        if not configs:
            raise UsageError(f"{source} has no run yet: start an agent first.")
        page: Any = report(source, configs, metric) if as_report else workspace(source, configs, metric)
        return str(page.save().url)
    except (wandb.Error, WandbApiFailedError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"the {kind} of {source} could not be made at W&B ({reason}): check the name and your rights.") from None


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
    parser.add_argument("--metric", default="f1", help="at W&B, what runs are ordered by and parameters judged by (default: f1)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        source = options.source
        if "://" not in source and not Path(source).exists() and re.fullmatch(r"[\w.-]+/[\w.-]+(/[\w.-]+)?", source):
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
