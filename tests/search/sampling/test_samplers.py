"""Every sampler stays in the space, goes on after a stop as if there had been none, and speaks in sentences."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from paretune.core.errors import UsageError
from paretune.search.sampling.sampler_options import OPTIONS, SAMPLERS, STARTUP, check_sampler
from paretune.search.sampling.samplers import PROCESS_UNTIL, PatientProcess, build_sampler, chosen
from tests.samples import ROOT

NUMBERS = {"x": FloatDistribution(-2.0, 2.0), "rate": FloatDistribution(1e-4, 1.0, log=True)}
MIXED = {**NUMBERS, "n": IntDistribution(1, 9, step=2), "kind": CategoricalDistribution(["a", "b", "c"])}
ONE_VALUE = {**NUMBERS, "fixed": FloatDistribution(0.5, 0.5)}
SPACES = {"numbers": NUMBERS, "mixed": MIXED, "one value": ONE_VALUE}
SHORT = {  # options that let a short study come behind its random start, and into a second generation
    "tpe": {"n_startup_trials": 4},
    "gp": {"n_startup_trials": 3},
    "cmaes": {"popsize": 4},
    "nsga2": {"population_size": 3},
    "nsga3": {"population_size": 3},
}
N_TRIALS = {"auto": STARTUP + 2, "gp": 5}
SEVERAL = [name for name in SAMPLERS if name != "cmaes"]  # those that search by several objectives
STUDY_SEED = 5
Space = Mapping[str, BaseDistribution]


def loss(parameters: Mapping[str, Any]) -> float:
    return float(parameters["x"] ** 2 + abs(math.log10(parameters["rate"]) + 2) + (parameters.get("kind", "a") == "b"))


def values(parameters: Mapping[str, Any], n_objectives: int) -> list[float]:
    return [loss(parameters), parameters["x"]][:n_objectives]


@pytest.fixture(autouse=True, scope="module")
def _quiet_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('studies') / 'study.db'}"


def new_study(n_objectives: int = 1, storage: str | None = None, name: str | None = None) -> optuna.Study:
    return optuna.create_study(storage=storage, study_name=name, directions=["minimize"] * n_objectives, load_if_exists=True)


def ask(study: optuna.Study, name: str, space: Space, place: int, *, conditional: bool = False) -> optuna.Trial:
    study.sampler = build_sampler(
        name,
        SHORT.get(name, {}),
        seed=int(np.random.SeedSequence([STUDY_SEED, place]).generate_state(1)[0]),
        study_seed=STUDY_SEED,
        n_finished=len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])),
        distributions=space,
        n_objectives=len(study.directions),
        conditional=conditional,
        place=place,
    )
    return study.ask({} if conditional else dict(space))


def go_on(study: optuna.Study, name: str, space: Space, until: int) -> list[dict[str, Any]]:
    """Search until there are so many trials; return all their parameters."""
    for place in range(len(study.trials), until):
        trial = ask(study, name, space, place)
        study.tell(trial, values(trial.params, len(study.directions)))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_suggestions_lie_in_the_space_and_differ(name: str, space: Space) -> None:
    found = go_on(new_study(), name, space, N_TRIALS.get(name, 10))
    for parameters in found:
        assert parameters.keys() == space.keys()
        assert all(space[key]._contains(space[key].to_internal_repr(value)) for key, value in parameters.items())
    assert len({parameters["x"] for parameters in found}) > len(found) // 2


@pytest.mark.parametrize(("name", "n_objectives"), [*((name, 1) for name in SAMPLERS), *((name, 2) for name in SEVERAL)])
def test_a_study_in_parts_suggests_what_one_at_once_does(name: str, n_objectives: int, storage: str) -> None:
    n_trials = N_TRIALS.get(name, 10)
    at_once = go_on(new_study(n_objectives), name, MIXED, n_trials)
    for until in (2, n_trials - 1, n_trials):
        in_parts = go_on(new_study(n_objectives, storage, f"{name}-{n_objectives}"), name, MIXED, until)
    assert in_parts == at_once


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_repeated_trial_does_not_move_the_suggestions_behind_it(name: str) -> None:
    n_trials = N_TRIALS.get(name, 10)
    undisturbed = go_on(new_study(), name, NUMBERS, n_trials)
    study = new_study()
    go_on(study, name, NUMBERS, 3)
    killed = ask(study, name, NUMBERS, 3)
    study.enqueue_trial(killed.params)
    study.tell(killed, state=TrialState.FAIL)
    for place in range(3, n_trials):
        trial = ask(study, name, NUMBERS, place)
        study.tell(trial, loss(trial.params))
    assert [trial.params for trial in study.trials if trial.state == TrialState.COMPLETE] == undisturbed


@pytest.mark.parametrize("name", SAMPLERS)
def test_parameters_may_be_absent_from_some_trials(name: str) -> None:
    study = new_study()
    for place in range(N_TRIALS.get(name, 10)):
        trial = ask(study, name, MIXED, place, conditional=True)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        x = trial.suggest_float("x", -1, 1) if kind == "a" else trial.suggest_float("y", 0, 1)
        study.tell(trial, x)
    assert len(study.trials) == N_TRIALS.get(name, 10)


@pytest.mark.parametrize("name", SAMPLERS)
def test_infinite_values_and_pruned_trials_are_no_obstacle(name: str) -> None:
    study = new_study()
    for place in range(N_TRIALS.get(name, 10)):
        trial = ask(study, name, NUMBERS, place)
        if place == 2:
            trial.report(1.0, 1)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, math.inf if place == 1 else loss(trial.params))
    assert len(study.trials) == N_TRIALS.get(name, 10)


def test_a_quasi_random_study_fills_the_space_evenly() -> None:
    study = new_study()
    found = go_on(study, "qmc", {"x": FloatDistribution(0.0, 1.0), "rate": FloatDistribution(0.001, 1.0)}, 17)[1:]
    assert np.histogram([parameters["x"] for parameters in found], bins=8, range=(0, 1))[0].max() <= 3


@pytest.mark.parametrize("name", sorted({*SAMPLERS} - {"auto", "random"}))
def test_every_option_is_one_of_optunas(name: str) -> None:
    for key, kind in OPTIONS[name].items():
        value = next(v for v in (True, "halton", 4, 0.5) if kind.holds(v))
        assert check_sampler(name, {key: value}) == ""
        build = {"seed": 1, "study_seed": 1, "n_finished": 0, "distributions": NUMBERS}
        assert build_sampler(name, {key: value}, **build) is not None


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("tpee", {}, "'tpee' is not a sampler; did you mean 'tpe'?"),
        (
            ["tpe"],
            {},
            "['tpe'] is not a sampler; did you mean 'tpe'?",
        ),
        ("bayesian", {}, "'bayesian' is not a sampler; there are auto, tpe, gp, cmaes, nsga2, nsga3, qmc, random."),
        ("tpe", [3], "the options of tpe must be a mapping. Got [3]."),
        ("gp", {"n_startup_trial": 3}, "n_startup_trial is not an option of gp; did you mean 'n_startup_trials'?"),
        ("gp", {"seed": 3}, "seed is not an option of gp; it takes n_startup_trials, deterministic_objective."),
        ("random", {"seed": 3}, "seed is not an option of random, which takes none: name another sampler or remove it."),
        ("tpe", {3: 3}, "3 is not an option of tpe"),
        ("tpe", {"n_startup_trials": "10"}, "n_startup_trials of tpe must be a whole number, 0 or more. Got '10'."),
        ("tpe", {"n_startup_trials": True}, "n_startup_trials of tpe must be a whole number, 0 or more. Got True."),
        ("tpe", {"group": 1}, "group of tpe must be True or False. Got 1."),
        ("nsga2", {"crossover_prob": 2}, "crossover_prob of nsga2 must be a number from 0 to 1. Got 2."),
        ("qmc", {"qmc_type": "sobel"}, "qmc_type of qmc must be sobol or halton. Got 'sobel'."),
        ("tpe", {"group": True, "multivariate": False}, "group of tpe needs multivariate: remove one of the two."),
        (
            "cmaes",
            {"with_margin": True, "lr_adapt": True},
            "with_margin and lr_adapt of cmaes exclude each other: give one of them.",
        ),
    ],
)
def test_a_mistake_is_told_in_one_sentence(name: Any, options: Any, sentence: str) -> None:
    assert check_sampler(name, options).startswith(sentence)


@pytest.mark.parametrize("name", SAMPLERS)
def test_nothing_is_wrong_with_a_sampler_alone(name: str) -> None:
    assert check_sampler(name, {}) == ""


def test_auto_takes_the_process_for_few_trials_and_tpe_before_and_after() -> None:
    def taken(n_finished: int, n_objectives: int = 1, conditional: bool = False) -> str:
        return chosen(n_finished, n_objectives=n_objectives, conditional=conditional)[0]

    assert [taken(n) for n in (0, STARTUP - 1, STARTUP, PROCESS_UNTIL[1] - 1, PROCESS_UNTIL[1])] == [
        "tpe",
        "tpe",
        "patient_gp",
        "patient_gp",
        "tpe",
    ]
    assert [taken(STARTUP, n_objectives) for n_objectives in (2, 3)] == ["gp", "tpe"]
    assert taken(STARTUP, conditional=True) == "tpe"


@pytest.mark.parametrize("more", [{}, {"another": FloatDistribution(0, 1)}], ids=["the same", "one more parameter"])
def test_the_process_learns_from_trials_that_were_stopped_early(more: dict[str, BaseDistribution]) -> None:
    def next_trial(n_pruned: int) -> dict[str, Any]:
        study = new_study()
        go_on(study, "random", NUMBERS, STARTUP)
        for place in range(n_pruned):
            trial = ask(study, "random", {**NUMBERS, **more}, STARTUP + place)
            trial.report(-9.0, 1)  # as good as it looks, it was stopped: no better than the median
            study.tell(trial, state=TrialState.PRUNED)
        study.sampler = PatientProcess(seed=1)
        return study.ask(NUMBERS).params

    assert next_trial(0) != next_trial(6)


@pytest.mark.parametrize(
    "options", [{"use_separable_cma": True}, {"with_margin": True}, {"lr_adapt": True}, {"consider_pruned_trials": True}]
)
@pytest.mark.parametrize("space", [{"x": FloatDistribution(0.0, 1.0)}, MIXED], ids=["one number", "mixed"])
def test_cmaes_keeps_silent_with_every_option(space: Space, options: dict[str, Any]) -> None:
    study = new_study()
    for place in range(7):
        study.sampler = build_sampler(
            "cmaes", {"popsize": 4, **options}, seed=place, study_seed=1, n_finished=place, distributions=space
        )
        trial = study.ask(dict(space))
        study.tell(trial, trial.params["x"])


def test_tpe_groups_keep_silent_with_several_objectives() -> None:
    study = new_study(2)
    for place in range(5):
        study.sampler = build_sampler(
            "tpe",
            {"group": True, "n_startup_trials": 2},
            seed=place,
            study_seed=1,
            n_finished=place,
            distributions=NUMBERS,
            n_objectives=2,
        )
        trial = study.ask(NUMBERS)
        study.tell(trial, values(trial.params, 2))


def test_cmaes_refuses_several_objectives() -> None:
    with pytest.raises(UsageError, match=r"cmaes searches by one objective\. Got 2: use auto, tpe, gp, nsga2 or nsga3\."):
        build_sampler("cmaes", {}, seed=1, study_seed=1, n_finished=0, distributions=NUMBERS, n_objectives=2)


def test_importing_the_samplers_does_not_import_torch_or_scipy() -> None:
    code = "import sys, paretune.search.sampling.samplers; sys.exit(bool({'torch', 'scipy'} & sys.modules.keys()))"
    root = ROOT
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
