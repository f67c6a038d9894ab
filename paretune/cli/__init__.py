"""The `paretune` command: finds the module of a sub-command by its name, and imports no other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from paretune.core.errors import did_you_mean

COMMANDS = {
    "sweep": ("paretune.search.command_line", "search a sweep file here, without account or network"),
    "check": ("paretune.search.check", "say every fault of a sweep file"),
    "status": ("paretune.search.status", "how a study stands: best, front, rate, failures"),
    "run": ("paretune.search.run", "train one trial of a study again"),
    "online": ("paretune.search.online", "create a sweep at W&B and start an agent"),
    "agent": ("paretune.search.agent", "run an online sweep in one process"),
    "sync": ("paretune.search.sync", "upload offline runs to W&B"),
    "history": ("paretune.analysis.history", "the histories of runs as tables"),
    "pareto": ("paretune.analysis.pareto", "the Pareto front"),
    "choose": ("paretune.analysis.choose", "choose a run by a rule"),
    "confidence": ("paretune.analysis.confidence", "how sure the differences are"),
    "diagnose": ("paretune.analysis.diagnose", "what the curves say"),
    "importance": ("paretune.analysis.importance", "which parameters matter"),
    "augmentation": ("paretune.analysis.augmentation", "what augmentation changes"),
    "retrain": ("paretune.analysis.retrain", "retrain the chosen run and evaluate it on the locked test part"),
    "report": ("paretune.analysis.report", "write the report, HTML and PDF"),
    "embed": ("paretune.analysis.embed", "maps of a layer"),
    "dashboard": ("paretune.analysis.dashboard", "watch a sweep in the browser"),
    "evaluate": ("paretune.trainers.evaluate", "evaluate saved models"),
    "predict": ("paretune.trainers.predict", "label pictures with saved models"),
    "export": ("paretune.models.export", "write a saved model as ONNX"),
    "pack": ("paretune.models.pack", "pack saved models with checksums"),
    "paint": ("paretune.painter.__main__", "draw digits that saved models read"),
    "serve": ("paretune.service.__main__", "a server for W&B's own client"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Start a sub-command with the arguments that follow it; return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = given
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS) or "; 'paretune --help' lists them."
        print(f"error: paretune: {name!r} is no command{near}", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[name][0])
    return int(module.main(rest))


def usage() -> str:
    """Return the list of sub-commands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(["usage: paretune COMMAND …; paretune COMMAND --help", "", *lines])
