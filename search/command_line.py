"""The command line of sweeps/offline.py: a sweep file, how many trials, and values to fix; ends with a table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.command_line import ROOT, SentenceParser, add_fields, exit_with_sentence, with_underscores
from trainers.config import value_from_text
from trainers.data import DataOptions
from trainers.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import optuna

    from search.sweep import Sweep


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of sweeps/offline.py."""
    with exit_with_sentence():
        options, texts, unknown = parse(sys.argv[1:] if arguments is None else arguments)
        from search.offline import run  # Optuna: only once there is work

        sweep = sweep_of(options, texts, unknown)
        data = DataOptions.from_dict({k: v for k, v in sweep.space.fixed.items() if k in DataOptions.model_fields})
        name = options.name or f"{sweep.name}-{data.short_name}"
        trials = options.trials or sweep.run_cap
        if trials is None:
            if sweep.method != "grid":
                raise UsageError(f"{sweep.path}: give --trials N, or run_cap in the file: how many trials the sweep shall run.")
            trials = len(sweep.space.grid())
        runs = Path(options.runs)
        default = sweep.space.outside(sweep.default_values())
        if default and sweep.method != "grid":
            print(f"note: the default configuration is not tried first, as the search space leaves out its {', '.join(default)}")
        study = run(
            sweep,
            trials=trials,
            name=name,
            seed=options.seed,
            storage=options.storage,
            mode=options.wandb,
            device=options.device,
            runs=runs,
        )
        print(table(study, sweep))
        print(f"\nstudy and run files are in {runs / name}; see the front: python -m analysis.pareto {runs / name}")
    return 0


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str], list[str]]:
    """Return the sweep's own options, the texts of given data options, and the flags left for the classifier."""
    parser = SentenceParser(
        prog="sweeps/offline.py",
        usage="%(prog)s SWEEP.yaml [--trials N] [--seed N] [--name NAME] [--FIELD=VALUE ...]",
        description="Search a W&B sweep file with Optuna on this machine; run again to go on.",
        epilog="Any hyper-parameter or data option is taken as a fixed value: --data=mnist --epochs=5.",
        allow_abbrev=False,
    )
    parser.add_argument("sweep", metavar="SWEEP.yaml", help="a W&B sweep file, such as sweeps/ann.yaml")
    parser.add_argument(
        "--trials", type=_at_least(1), metavar="N", help="finished trials to reach in all (default: the file's run_cap)"
    )
    parser.add_argument("--seed", type=_at_least(0), default=0, metavar="N", help="seed of the search (default: 0)")
    parser.add_argument("--name", help="name of the study and W&B group (default: the sweep's name and the data's)")
    parser.add_argument("--storage", help="an Optuna storage URL (default: a SQLite file in the study's folder)")
    parser.add_argument("--runs", default=_relative(ROOT / "runs"), help="folder of studies (default: %(default)s)")
    parser.add_argument("--wandb", default="offline", help="offline (default), online, auto or disabled")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    add_fields(parser.add_argument_group("data"), DataOptions)
    options, unknown = parser.parse_known_args(with_underscores(arguments))
    texts = {name: text for name, text in vars(options).items() if name in DataOptions.model_fields}
    return options, texts, unknown


def sweep_of(options: argparse.Namespace, texts: dict[str, str], unknown: Sequence[str]) -> Sweep:
    """Read the sweep with every value that the command line fixes."""
    from search.sweep import read_sweep

    fields = dict(DataOptions.model_fields)
    if unknown:
        fields |= {k: v for k, v in read_sweep(options.sweep).classifier.Config.model_fields.items() if k != "seed"}
    for argument in unknown:
        flag, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or flag not in fields:
            near = did_you_mean(flag, [*fields, *vars(options)]).replace("mean '", "mean '--") or "; --help lists the flags."
            raise UsageError(f"{argument.partition('=')[0]} is not a flag of sweeps/offline.py{near}")
        texts[flag] = text if equals else "True"
    return read_sweep(options.sweep, {name: value_from_text(name, fields[name], text) for name, text in texts.items()})


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}. Got {text!r}.")
        return int(text)

    return whole_number


def _relative(path: Path) -> str:
    """Return a path as seen from here where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def table(study: optuna.Study, sweep: Sweep, *, rows: int = 5) -> str:
    """Return how the trials ended, and the best of them with what was searched."""
    from optuna.trial import TrialState

    from search.study import finished
    from trainers import records
    from trainers.best import best_row

    trials = study.get_trials(deepcopy=False)
    counts = [(state.name.lower(), sum(trial.state == state for trial in finished(trials))) for state in TrialState]
    lines = [f"\n{study.study_name}: " + ", ".join(f"{count} {state}" for state, count in counts if count)]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sign = 1 if sweep.goal == "minimize" else -1
    best = sorted(complete, key=lambda trial: sign * (trial.value or 0.0))[:rows]
    baseline = [trial for trial in complete if trial.user_attrs.get(records.BASELINE) and trial not in best]
    if not best:
        return "\n".join(lines)
    names = list(sweep.space.distributions)
    cells = [["trial", sweep.metric, "epoch", *names]]
    for trial in [*best, *baseline]:
        row = best_row(records.epochs_of(trial.user_attrs), sweep.metric, sweep.goal) or {}
        label = f"{trial.number}{' (default)' if trial.user_attrs.get(records.BASELINE) else ''}"
        cells.append([label, f"{trial.value:.4f}", str(row.get("epoch", "")), *(_short(trial.params.get(name)) for name in names)])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines += ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
