"""Runs a sweep offline as the flags of sweeps/offline.py say, and returns its study."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from paretune.core.config import value_from_text
from paretune.core.errors import UsageError, did_you_mean
from paretune.data.options import DataOptions
from paretune.runs import study_schema
from paretune.runs.study_storage import settle
from paretune.runs.tracking import resolve_mode
from paretune.search.engine.signals import Interruption
from paretune.search.engine.stopping_rules import Plan
from paretune.search.engine.study import finished
from paretune.search.engine.worker import run
from paretune.search.places.local_pool import gpus_of, run_workers
from paretune.search.sampling.warm_start import bring
from paretune.search.spec.json_values import as_json, value_fault
from paretune.search.spec.sweep import Sweep, read_sweep
from paretune.search.status import table


def search_as_told(options: argparse.Namespace, texts: dict[str, str], unknown: Sequence[str]) -> None:
    """Search the sweep that the flags name, and print how it ended; the arguments are what `command_line.parse` returns."""
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
    folder = Path(options.runs) / name
    reason = _reason(study, Plan(sweep, trials))
    print(table(study, sweep.goals))
    settle(study)
    print(f"{f'the sweep has ended: {reason}' if reason else ''}\nstudy and run files are in {folder}; see the front: ", end="")
    print(f"python -m analysis.pareto {options.storage + '#' + name if options.storage else folder}")


def default_mode() -> str:
    """Return `disabled` where the person has disabled W&B, else `offline`."""
    return "disabled" if resolve_mode("auto") == "disabled" else "offline"


def search(sweep: Sweep, fixed: dict[str, Any], options: argparse.Namespace, *, name: str, trials: int) -> optuna.Study:
    """Run the sweep in this process or in several; return its study."""
    common: dict[str, Any] = {
        "trials": trials,
        "name": name,
        "seed": options.seed,
        "storage": options.storage,
        "mode": options.wandb or default_mode(),
        "device": options.device,
        "runs": Path(options.runs),
        "lease_seconds": options.lease,
        "trial_timeout": options.trial_timeout,
    }

    def before(study: optuna.Study) -> None:
        for line in bring(study, sweep, options.prior):
            print(line)

    gpus: list[str] = []
    if options.gpus is not None:
        gpus = gpus_of(options.gpus)
    workers = options.workers or max(1, round(len(gpus) / options.gpu_fraction))
    # a trial that hangs within an epoch can be ended from another process alone
    watched = sweep.classifier is not None and (options.trial_timeout or sweep.settings.trial_timeout) is not None
    try:
        if workers > 1 or gpus or watched:
            return run_workers(sweep, fixed, workers=workers, gpus=gpus, before=before, **common)
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


def sweep_of(options: argparse.Namespace, texts: dict[str, str], unknown: Sequence[str]) -> tuple[Sweep, dict[str, Any]]:
    """Read the sweep with every value that the command line fixes; return both."""
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
    names = {parameter.path[0] for parameter in plain.space.parameters.values()} | set(plain.space.fixed)
    given = [*(f"--{name}={text}" for name, text in texts.items()), *unknown]
    fixed = {}
    for argument in given:
        flag, equals, text = argument.removeprefix("--").partition("=")
        if flag not in names or not equals:
            near = did_you_mean(flag, names) or f"; it takes {', '.join(f'--{name}=VALUE' for name in sorted(names))}."
            raise UsageError(f"--{flag} fixes no parameter of {plain.path}{near}")
        fixed[flag] = _value_of(text)
    return read_sweep(options.sweep, fixed), fixed


def _value_of(text: str) -> Any:
    """Return what YAML reads, or the text itself where that is no YAML, or no value of a sweep, such as a date."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return text
    return text if value_fault(value) else as_json(value)
