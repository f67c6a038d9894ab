"""Run one trial of a study again, exactly: the same configuration, seed and data, beside what was recorded.

usage: python -m search.run STUDY --trial N [--device NAME]

Nothing is written to the study; the run's own files go to runs/NAME/again/ (not with --wandb=disabled).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.command_line import NOT_GIVEN, ROOT, SentenceParser, exit_with_sentence
from trainers.errors import UsageError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from search.training import Training

TIMES = {"seconds", "_runtime", "_timestamp"}  # differ from run to run


def main(arguments: Sequence[str] | None = None) -> int:
    from search.status import add_study

    parser = SentenceParser(prog="python -m search.run", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_study(parser)
    parser.add_argument("--trial", type=int, required=True, metavar="N", help="the trial's number")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    parser.add_argument("--wandb", default="disabled", help="disabled (default), offline, online or auto")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        from search.status import open_existing

        study = open_existing(options.study, options.name)
        trial = trial_of(study, options.trial)
        differing = again(study, trial, device=options.device, mode=options.wandb)
        print("every epoch is as recorded" if not differing else f"epochs that differ from the record: {', '.join(differing)}")
    return 0


def trial_of(study: optuna.Study, number: int) -> FrozenTrial:
    """Return a trial that has a configuration.

    Raises:
        UsageError: if there is none of that number, or it never began.
    """
    from trainers import records

    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise UsageError(f"{study.study_name} has the trials 0 to {len(trials) - 1}. Got --trial {number}.")
    if "config" not in trials[number].user_attrs.get(records.RUN, {}):
        raise UsageError(f"trial {number} of {study.study_name} never began ({trials[number].state.name.lower()}): choose another.")
    return trials[number]


def again(study: optuna.Study, trial: FrozenTrial, *, device: str, mode: str) -> list[str]:
    """Train a trial again, printing its epochs; return the epochs that differ from the record."""
    from search.training import Attempt
    from trainers import records

    run = trial.user_attrs[records.RUN]
    recorded = {row["epoch"]: row for row in records.epochs_of(trial.user_attrs)}
    training, values = _training(study, run["config"], device=device, mode=mode)
    attempt = Attempt(
        run_id=f"{run['id']}-again",
        name=f"{study.study_name}-{trial.number}-again",
        group=study.study_name,
        tags=["again"],
        folder=ROOT / "runs" / study.study_name / "again",
        started=lambda config, path: None,
    )
    differing = []
    pruned = trial.user_attrs.get(records.PRUNED)
    epochs = training.epochs(attempt, values)
    try:
        epoch = next(epochs)
        while True:
            same = _same(recorded.get(epoch.number, {}), epoch.metrics)
            differing += [] if same else [str(epoch.number)]
            shown = "  ".join(f"{name} {value:.6f}" for name, value in epoch.metrics.items() if name not in TIMES)
            print(f"epoch {epoch.number}{'' if same else ' (differs)'}  {shown}", flush=True)
            epoch = epochs.send(pruned == epoch.number)
    except StopIteration:
        return differing
    except RuntimeError as error:
        raise UsageError(f"trial {trial.number} did not run again: {error}; start this from the folder of the sweep.") from None


def _training(study: optuna.Study, config: Mapping[str, Any], *, device: str, mode: str) -> tuple[Training, dict[str, Any]]:
    """Return what trains as the study did, and the values of a trial."""
    from search.settings import Settings
    from search.space import Space
    from search.sweep import Objective, Sweep
    from trainers import CLASSIFIERS, classifier_class, records

    definition = study.user_attrs[records.SWEEP]
    objectives = tuple(Objective(name, goal) for name, goal in study.user_attrs[records.GOALS].items())
    name = study.user_attrs[records.CLASSIFIER]
    values = {key: value for key, value in config.items() if key not in NOT_GIVEN}
    sweep = Sweep(
        path=Path(study.study_name),
        name=study.study_name,
        program=definition.get("program", ""),
        command=tuple(definition.get("command") or ("${env}", "${interpreter}", "${program}", "${args}")),
        classifier=classifier_class(name) if name in CLASSIFIERS else None,
        method="random",
        objectives=objectives,
        space=Space(),
        settings=Settings(repeats=config.get("repeats", 1), over=config.get("repeats_over", "seeds")),
    )
    if sweep.classifier is None:
        from search.command import Command

        values.pop("best_metric", None)
        return Command(sweep, "offline"), values
    from search.training import InProcess

    return InProcess(sweep, mode, device), values


def _same(recorded: Mapping[str, Any], metrics: Mapping[str, float]) -> bool:
    names = set(metrics) - TIMES
    return bool(recorded) and all(
        math.isclose(recorded.get(name, math.nan), metrics[name], rel_tol=1e-6, abs_tol=1e-9)
        or (math.isnan(recorded.get(name, math.nan)) and math.isnan(metrics[name]))
        for name in names
    )


if __name__ == "__main__":
    sys.exit(main())
