"""The command line of sweeps/offline.py: a sweep file, how many trials, values to fix, workers; ends with a table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.core.command_line import SentenceParser, exit_with_sentence, with_underscores
from paretune.core.config import add_fields, value_from_text
from paretune.core.deferred_gc import collecting_later
from paretune.core.errors import UsageError, did_you_mean
from paretune.core.folders import ROOT
from paretune.data.dataset import DataOptions

if TYPE_CHECKING:
    import optuna

    from paretune.search.engine.stopping_rules import Plan
    from paretune.search.spec.sweep import Sweep


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of sweeps/offline.py."""
    with exit_with_sentence(), collecting_later():
        options, texts, unknown = parse(sys.argv[1:] if arguments is None else arguments)
        sweep, fixed = sweep_of(options, texts, unknown)
        trials = options.trials or sweep.run_cap
        if trials is None:
            if sweep.method != "grid":
                raise UsageError(f"{sweep.path}: give --trials N, or run_cap in the file: how many trials the sweep shall run.")
            trials = sweep.space.n_combinations()
        name = options.name or name_of(sweep)
        for note in notes_of(sweep):
            print(f"note: {note}")
        study = search(sweep, fixed, options, name=name, trials=trials)
        from paretune.runs.study_storage import settle
        from paretune.search.engine.stopping_rules import Plan
        from paretune.search.status import table

        folder = Path(options.runs) / name
        reason = _reason(study, Plan(sweep, trials))
        print(table(study, sweep.goals))
        settle(study)
        print(f"{f'the sweep has ended: {reason}' if reason else ''}\nstudy and run files are in {folder}; see the front: ", end="")
        print(f"python -m analysis.pareto {options.storage + '#' + name if options.storage else folder}")
    return 0


def default_mode() -> str:
    """Return `disabled` where the person has disabled W&B, else `offline`."""
    from paretune.runs.tracking import resolve_mode

    return "disabled" if resolve_mode("auto") == "disabled" else "offline"


def search(sweep: Sweep, fixed: dict[str, Any], options: argparse.Namespace, *, name: str, trials: int) -> optuna.Study:
    """Run the sweep in this process or in several; return its study."""
    from paretune.search.engine.signals import Interruption

    common: dict[str, Any] = {
        "trials": trials,
        "name": name,
        "seed": options.seed,
        "storage": options.storage,
        "mode": options.wandb or default_mode(),
        "device": options.device,
        "runs": Path(options.runs),
        "lease_seconds": options.lease,
    }

    def before(study: optuna.Study) -> None:
        from paretune.search.sampling.warm_start import bring

        for line in bring(study, sweep, options.prior):
            print(line)

    gpus: list[str] = []
    if options.gpus is not None:
        from paretune.search.places.local_pool import gpus_of

        gpus = gpus_of(options.gpus)
    workers = options.workers or max(1, round(len(gpus) / options.gpu_fraction))
    try:
        if workers > 1 or gpus:
            from paretune.search.places.local_pool import run_workers

            return run_workers(sweep, fixed, workers=workers, gpus=gpus, before=before, **common)
        from paretune.search.engine.worker import run  # Optuna: only once there is work

        interruption = Interruption()
        with interruption.watched():
            study = run(sweep, before=before, interruption=interruption, **common)
        if interruption.asked:
            raise KeyboardInterrupt
        return study
    except KeyboardInterrupt:
        print("\nstopped; finished trials are kept: run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None


def _reason(study: optuna.Study, plan: Plan) -> str:
    """Return why a sweep ended before its number of trials; empty where it did not."""
    from paretune.runs import study_schema
    from paretune.search.engine.study import finished

    trials = study.get_trials(deepcopy=False)
    n_ended = len(finished(trials))
    if n_ended < plan.trials and study.user_attrs.get(study_schema.TERMINATED) == n_ended:
        assert plan.sweep.scheduler is not None
        return f"the terminator of {plan.sweep.scheduler.source} says so, after {n_ended} trials"
    return plan.reason(trials)


def name_of(sweep: Sweep) -> str:
    """Return the default name of a study: the sweep's, and the data's for our trainers."""
    if sweep.classifier is None:
        return sweep.name
    data = DataOptions.from_dict({k: v for k, v in sweep.space.fixed.items() if k in DataOptions.model_fields})
    return f"{sweep.name}-{data.short_name}"


def notes_of(sweep: Sweep) -> list[str]:
    """Return what a person should know before the sweep begins."""
    notes = list(sweep.notes)
    defaults = sweep.default_values()
    outside = sweep.space.outside(defaults) if defaults and sweep.method != "grid" else []
    if outside:
        notes.append(f"the default configuration is not tried first, as the search space leaves out its {', '.join(outside)}")
    return notes


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str], list[str]]:
    """Return the sweep's own options, the texts of given data options, and the flags left for the classifier."""
    parser = SentenceParser(
        prog="sweeps/offline.py",
        usage="%(prog)s SWEEP.yaml [--trials N] [--workers N] [--seed N] [--name NAME] [--FIELD=VALUE ...]",
        description="Search a W&B sweep file with Optuna; run again to go on, or elsewhere to join in (--storage).",
        epilog="Any hyper-parameter or data option is taken as a fixed value: --data=mnist --epochs=5.",
        allow_abbrev=False,
    )
    parser.add_argument("sweep", metavar="SWEEP.yaml", help="a W&B sweep file, such as sweeps/ann.yaml")
    parser.add_argument(
        "--trials", type=_at_least(1), metavar="N", help="finished trials to reach in all (default: the file's run_cap)"
    )
    parser.add_argument("--seed", type=_at_least(0), default=0, metavar="N", help="seed of the search (default: 0)")
    parser.add_argument("--name", help="name of the study and W&B group (default: the sweep's name and the data's)")
    parser.add_argument(
        "--storage", metavar="URL", help="postgresql://…, journal:///PATH or sqlite:///PATH (default: SQLite in the study's folder)"
    )
    parser.add_argument("--runs", default=_relative(ROOT / "runs"), help="folder of studies (default: %(default)s)")
    parser.add_argument(
        "--workers", type=_at_least(1), metavar="N", help="processes on this machine (default: 1, or as the GPUs say)"
    )
    parser.add_argument("--gpus", metavar="LIST", help="place workers on these GPUs: all, or 0,2")
    parser.add_argument(
        "--gpu_fraction",
        type=_fraction,
        default=1.0,
        metavar="X",
        help="share of a GPU per worker: 0.5 puts two on each (default: 1)",
    )
    parser.add_argument(
        "--prior",
        "--prior_run",
        "-R",
        dest="prior",
        action="append",
        default=[],
        metavar="SOURCE",
        help="start from a study, W&B run or file of points (repeatable)",
    )
    parser.add_argument(
        "--lease",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="seconds after which a silent machine's trial is retried (default: 60)",
    )
    parser.add_argument("--wandb", help="offline, online, auto or disabled (default: offline, but disabled after 'wandb disabled')")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    add_fields(parser.add_argument_group("data"), DataOptions)
    options, unknown = parser.parse_known_args(with_underscores(arguments))
    texts = {name: text for name, text in vars(options).items() if name in DataOptions.model_fields}
    return options, texts, unknown


def sweep_of(options: argparse.Namespace, texts: dict[str, str], unknown: Sequence[str]) -> tuple[Sweep, dict[str, Any]]:
    """Read the sweep with every value that the command line fixes; return both."""
    from paretune.search.spec.sweep import read_sweep

    unknown = _joined(unknown)
    fields = dict(DataOptions.model_fields)
    if unknown or texts:
        plain = read_sweep(options.sweep)
        if plain.classifier is None:
            return _fixed_for_program(options, plain, texts, unknown)
        fields |= {k: v for k, v in plain.classifier.Config.model_fields.items() if k != "seed"}
    for argument in unknown:
        flag, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or flag not in fields:
            near = did_you_mean(flag, [*fields, *vars(options)]).replace("mean '", "mean '--") or "; --help lists the flags."
            raise UsageError(f"{argument.partition('=')[0]} is not a flag of sweeps/offline.py{near}")
        texts[flag] = text if equals else "True"
    fixed = {name: value_from_text(name, fields[name], text) for name, text in texts.items()}
    return read_sweep(options.sweep, fixed), fixed


def _joined(arguments: Sequence[str]) -> list[str]:
    """Write `--epochs 3` as `--epochs=3`."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1].startswith("--") and "=" not in joined[-1] and not argument.startswith("--"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _fixed_for_program(
    options: argparse.Namespace, plain: Sweep, texts: dict[str, str], unknown: Sequence[str]
) -> tuple[Sweep, dict[str, Any]]:
    """Fix parameters of a program of the person's own: those that the file names, as YAML reads the text."""
    import yaml

    from paretune.search.spec.sweep import read_sweep

    names = {parameter.path[0] for parameter in plain.space.parameters.values()} | set(plain.space.fixed)
    given = [*(f"--{name}={text}" for name, text in texts.items()), *unknown]
    fixed = {}
    for argument in given:
        flag, equals, text = argument.removeprefix("--").partition("=")
        if flag not in names or not equals:
            near = did_you_mean(flag, names) or f"; it takes {', '.join(f'--{name}=VALUE' for name in sorted(names))}."
            raise UsageError(f"--{flag} fixes no parameter of {plain.path}{near}")
        fixed[flag] = yaml.safe_load(text)
    return read_sweep(options.sweep, fixed), fixed


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}. Got {text!r}.")
        return int(text)

    return whole_number


def _fraction(text: str) -> float:
    return _number(text, "must be a number above 0, up to 1", lambda value: 0 < value <= 1)


def _seconds(text: str) -> float:
    return _number(text, "must be a number of seconds of at least 1", lambda value: value >= 1)


def _number(text: str, must: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{must}. Got {text!r}.")
    return value


def _relative(path: Path) -> str:
    """Return a path as seen from here where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
