"""How good the default search is: simple regret of `auto` against Optuna's TPE, its Gaussian process, and random search.

Simple regret after n trials: the true value of the trial that was told to be best, less the lowest value of the task. All
methods meet the same tasks, seeds and noise; differences are paired by seed. `auto` was chosen by the development tasks alone
(--development); the reported ones only measure it.

    python benchmarks/search_quality.py [--json] [--quick] [--development] [--seeds N] [--tasks TEXT] [--peer FILE.json]

In the rows `goal` begins with the paired difference ours - theirs in its standard errors: above 2, ours loses. About 25 minutes
on one core; --quick takes 3 seeds and 16 trials in under a minute, from which nothing can be concluded.

--peer takes the trials that another engine made in its own environment on tasks of `_search_tasks.py`:
    {"peer": "its name",
     "runs": [{"task": "Branin", "seed": 0, "trials": [{"parameters": {"x1": 1.5, ...}, "value": 3.2}, ...]}, ...]}
One run for each seed, from 30 on (with --development from 0), on every task that the file holds at all; its trials in the order
in which they were suggested, at least as many as the budget; `value` is what the engine was told. Parameters must lie in the space;
values are computed again and must agree (where there is noise, within six of its standard deviations).
Simple regret: Bubeck, Munos and Stoltz, Pure Exploration in Multi-armed Bandits Problems, ALT 2009.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

import numpy as np
import optuna

from benchmarks._result import Result, how_many, show
from benchmarks._search_tasks import DEVELOPMENT, Parameters, Task, reported
from paretune.core.command_line import exit_with_sentence
from paretune.core.errors import UsageError
from paretune.search.sampling.samplers import build_sampler

SEEDS = 30
FRESH = 30  # first seed of the reported tasks: 0 to 29 measured a former rule (docs/decisions.md)
BUDGET = 50
OURS = "auto"
Method = Callable[[Task, int], Callable[[optuna.Study], optuna.samplers.BaseSampler]]


@dataclass(frozen=True)
class Run:
    """One study of one method: simple regret after each trial (n_trials,), seconds of each ask (n_trials,)."""

    regrets: np.ndarray
    seconds: np.ndarray


def default(task: Task, seed: int) -> Callable[[optuna.Study], optuna.samplers.BaseSampler]:
    """The product's default for `method: bayes`: a sampler for each suggestion."""

    def sampler(study: optuna.Study) -> optuna.samplers.BaseSampler:
        trials = study.get_trials(deepcopy=False)
        return build_sampler(
            "auto",
            {},
            seed=int(np.random.SeedSequence([seed, len(trials)]).generate_state(1)[0]),
            study_seed=seed,
            n_finished=len(trials),
            distributions=task.space,
            place=len(trials),
        )

    return sampler


def constant(kind: Callable[..., optuna.samplers.BaseSampler]) -> Method:
    """One of Optuna's samplers with its own defaults, the same object for the whole study."""

    def method(task: Task, seed: int) -> Callable[[optuna.Study], optuna.samplers.BaseSampler]:
        built = kind(seed=seed)
        return lambda study: built

    return method


METHODS: Mapping[str, Method] = {
    OURS: default,
    "tpe": constant(optuna.samplers.TPESampler),
    "gp": constant(optuna.samplers.GPSampler),
    "random": constant(optuna.samplers.RandomSampler),
}


def main() -> int:
    """Search, compare, print."""
    parser = argparse.ArgumentParser(description="Simple regret of the default search against others.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--development", action="store_true", help="the tasks by which the default was chosen")
    parser.add_argument("--seeds", type=how_many, default=SEEDS, metavar="N", help=f"paired seeds ({SEEDS})")
    parser.add_argument("--tasks", default="", metavar="TEXT", help="only tasks whose name holds this text")
    parser.add_argument("--peer", type=Path, metavar="FILE.json", help="trials of another engine, in the format above")
    parser.add_argument("--quick", action="store_true", help="3 seeds, 16 trials")
    options = parser.parse_args()
    n_seeds, budget = (3, 16) if options.quick else (max(options.seeds, 2), BUDGET)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    with exit_with_sentence():
        tasks = [task for task in (DEVELOPMENT if options.development else reported()) if options.tasks in task.name]
        first = 0 if options.development else FRESH
        seeds = range(first, first + n_seeds)
        peer = {} if options.peer is None else read_peer(options.peer, tasks, seeds, budget)
        results: list[Result] = []
        notes: list[str] = []
        asked: dict[str, list[np.ndarray]] = {method: [] for method in METHODS}
        for task in tasks:
            runs = {name: [search(task, seed, budget, method) for seed in seeds] for name, method in METHODS.items()}
            for name, found in runs.items():
                asked[name] += [run.seconds for run in found]
            regrets = {name: np.stack([run.regrets for run in found]) for name, found in runs.items()}
            regrets |= {name: found[task.name] for name, found in peer.items() if task.name in found}
            for n_trials in (budget // 2, budget):
                rows, note = compare(task, regrets, n_trials)
                results += rows
                notes.append(note)
            print(f"{task.name}: done", file=sys.stderr, flush=True)
    shown, plain = verdict(notes), times_of_asks(asked)
    results += [Result(f"seconds an ask, {name}", mean, None, "s") for name, (mean, _) in plain.items()]
    times = [f"seconds an ask, {name}: mean {mean:.4f}, longest {longest:.2f}" for name, (mean, longest) in plain.items()]
    show(results, as_json=options.json, notes=["", *notes, "", *times, "", shown])
    return 0


def search(task: Task, seed: int, n_trials: int, method: Method) -> Run:
    """Run one study."""
    study = optuna.create_study()
    sampler = method(task, seed)
    told, regrets, seconds = [], [], []
    for number in range(n_trials):
        begin = time.perf_counter()
        study.sampler = sampler(study)
        trial = study.ask(dict(task.space))
        seconds.append(time.perf_counter() - begin)
        told.append(task.told(trial.params, seed, number))
        regrets.append(task.value(trial.params) - task.lowest)
        study.tell(trial, told[-1])
    return Run(regret_of_best(told, regrets), np.array(seconds))


def regret_of_best(told: Sequence[float], regrets: Sequence[float]) -> np.ndarray:
    """Return, after each trial, the regret of the trial that was told to be best so far."""
    best = 0
    found = []
    for number, value in enumerate(told):
        if value < told[best]:
            best = number
        found.append(regrets[best])
    return np.array(found)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def compare(task: Task, regrets: Mapping[str, np.ndarray], n_trials: int) -> tuple[list[Result], str]:
    """Return a row per rival, and a line with all means and what ours lacks to the best.

    `regrets` are (n_seeds, n_trials) by method.
    """
    after = {name: found[:, n_trials - 1] for name, found in regrets.items()}
    means = {name: mean_and_error(found) for name, found in after.items()}
    rows = []
    for name, (mean, _) in means.items():
        if name != OURS:
            difference, error = mean_and_error(after[OURS] - after[name])
            goal = f"{difference / error if error else 0.0:+.1f}, at most +2.0"
            rows.append(Result(f"{task.name}, {n_trials} trials, {name}", means[OURS][0], mean, "regret", goal=goal))
    best = min(means, key=lambda name: means[name][0])
    texts = ", ".join(f"{name} {mean:.4g} ± {error:.2g}" for name, (mean, error) in means.items())
    if best == OURS:
        outcome = "ours is best"
    else:
        difference, error = mean_and_error(after[OURS] - after[best])
        loses = difference > 2 * error
        outcome = f"ours - {best} = {difference:.3g} ± {error:.2g}: {LOSES if loses else 'within 2 standard errors'}"
    return rows, f"{task.name}, {n_trials} trials: {texts}; {outcome}"


LOSES = "ours LOSES by more than 2 standard errors"


def verdict(notes: Sequence[str]) -> str:
    """Say on which tasks ours loses."""
    lost = [note.split(":")[0] for note in notes if note.endswith(LOSES)]
    return f"Ours loses by more than 2 standard errors of the paired difference on: {'; '.join(lost) if lost else 'no task'}."


def times_of_asks(asked: Mapping[str, Sequence[np.ndarray]]) -> dict[str, tuple[float, float]]:
    """Return the mean and the longest seconds an ask took, by method."""
    return {name: (float(np.mean(seconds)), float(np.max(seconds))) for name, seconds in asked.items()}


# A peer's engine


def read_peer(path: Path, tasks: Sequence[Task], seeds: range, budget: int) -> dict[str, dict[str, np.ndarray]]:
    """Return the regrets (n_seeds, budget) of a peer's runs by its name and by task, checked.

    Raises:
        UsageError: naming the run and what does not fit.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        name, runs = str(content["peer"]), list(content["runs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} must be JSON with peer and runs, as the docstring of search_quality.py says ({error!r})."
        ) from None
    by_name = {task.name: task for task in tasks}
    found: dict[str, dict[int, np.ndarray]] = {}
    for place, run in enumerate(runs):
        where = f"{path}, run {place}"
        if not isinstance(run, Mapping) or not {"task", "seed", "trials"} <= run.keys():
            raise UsageError(f"{where} must hold task, seed and trials. Got {str(run)[:80]}.")
        task, seed = by_name.get(run["task"]), run["seed"]
        if task is None or seed not in seeds:
            continue  # a file may hold more than is compared
        where += f" ({task.name}, seed {seed})"
        if seed in found.setdefault(task.name, {}):
            raise UsageError(f"{where} comes twice.")
        if len(run["trials"]) < budget:
            raise UsageError(f"{where} must hold {budget} trials. Got {len(run['trials'])}.")
        found[task.name][seed] = peer_regrets(task, run["trials"][:budget], where)
    for task_name, by_seed in found.items():
        if missing := sorted(set(seeds) - by_seed.keys()):
            raise UsageError(f"{path}: {task_name} lacks the seeds {', '.join(map(str, missing))}.")
    regrets = {task_name: np.stack([by_seed[seed] for seed in seeds]) for task_name, by_seed in found.items()}
    return {name: regrets}


def peer_regrets(task: Task, trials: Sequence[Any], where: str) -> np.ndarray:
    """Check a peer's trials and return the regret of the best-told one after each."""
    told, regrets = [], []
    for number, trial in enumerate(trials):
        try:
            parameters, value = dict(trial["parameters"]), float(trial["value"])
        except (KeyError, TypeError, ValueError):
            raise UsageError(f"{where}, trial {number} must hold parameters and a value. Got {str(trial)[:80]}.") from None
        check_inside(task, parameters, f"{where}, trial {number}")
        true = task.value(parameters)
        if not abs(value - true) <= (6 * task.noise or 1e-6 * max(1.0, abs(true))):
            raise UsageError(f"{where}, trial {number}: the value is {value!r}, but these parameters give {true!r}.")
        told.append(value)
        regrets.append(true - task.lowest)
    return regret_of_best(told, regrets)


def check_inside(task: Task, parameters: Parameters, where: str) -> None:
    """Refuse parameters that the space does not hold."""
    if parameters.keys() != task.space.keys():
        raise UsageError(f"{where} must hold the parameters {', '.join(task.space)}. Got {', '.join(parameters)}.")
    for name, distribution in task.space.items():
        try:
            inside = distribution._contains(distribution.to_internal_repr(parameters[name]))
        except (ValueError, TypeError):
            inside = False
        if not inside:
            raise UsageError(f"{where}: {name} must lie in {distribution}. Got {parameters[name]!r}.")


if __name__ == "__main__":
    sys.exit(main())
