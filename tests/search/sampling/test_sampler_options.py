"""Options of samplers: each at the bounds of what it takes, and what Optuna says of the same values."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
import pytest

from paretune.search.sampling.sampler_options import OPTIONS, SAMPLERS, OneOf, Probability, Whole, check_sampler

BUILDERS = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "nsga3": optuna.samplers.NSGAIIISampler,
    "qmc": optuna.samplers.QMCSampler,
}


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        (Whole(2), [2, 3, 10**9], [1, 0, -2, 2.0, True, "2", None]),
        (Probability(), [0, 0.0, 0.5, 1, 1.0], [-0.01, 1.01, True, False, "0.5", None, float("nan")]),
        (OneOf((True, False)), [True, False], [1, 0, "true", None]),
        (OneOf(("sobol", "halton")), ["sobol", "halton"], ["Sobol", "", None, 1]),
    ],
    ids=str,
)
def test_an_option_takes_the_values_that_its_words_name(kind: Any, inside: list[Any], outside: list[Any]) -> None:
    assert [value for value in inside if not kind.holds(value)] == []
    assert [value for value in outside if kind.holds(value)] == []


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("tpe", {"n_startup_trials": -1}, "n_startup_trials of tpe must be a whole number, 0 or more. Got -1."),
        ("nsga2", {"mutation_prob": 1.5}, "mutation_prob of nsga2 must be a number from 0 to 1. Got 1.5."),
        ("qmc", {"qmc_type": "x"}, "qmc_type of qmc must be sobol or halton. Got 'x'."),
        ("cmaes", {"popsize": 3}, "popsize of cmaes must be a whole number, 4 or more. Got 3."),
        ("tpe", {"n_startup": 3}, "n_startup is not an option of tpe; did you mean 'n_startup_trials'?"),
        ("gp", {"zzz": 3}, "zzz is not an option of gp; it takes n_startup_trials, deterministic_objective"),
        ("random", {"zzz": 3}, "zzz is not an option of random, which takes none: name another sampler or remove it."),
        ("tpe", [1], "the options of tpe must be a mapping. Got [1]."),
        ("tpes", {}, "'tpes' is not a sampler; did you mean 'tpe'?"),
        (3, {}, "3 is not a sampler; there are auto, tpe"),
        (None, {}, "None is not a sampler; there are auto, tpe"),
        ("tpe", {"group": True, "multivariate": False}, "group of tpe needs multivariate: remove one of the two."),
        (
            "cmaes",
            {"use_separable_cma": True, "lr_adapt": True},
            "use_separable_cma and lr_adapt of cmaes exclude each other: give one of them.",
        ),
    ],
)
def test_what_is_wrong_with_a_sampler_is_one_sentence(name: Any, options: Any, sentence: str) -> None:
    assert check_sampler(name, options).startswith(sentence)


def test_cmaes_searches_by_one_objective() -> None:
    assert check_sampler("cmaes", {}, n_objectives=1) == ""
    assert check_sampler("cmaes", {}, n_objectives=2).startswith("cmaes searches by one objective. Got 2: use ")
    assert check_sampler("tpe", {}, n_objectives=2) == ""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tpe", {"group": True}),
        ("tpe", {"group": True, "multivariate": True}),
        ("tpe", {"group": False, "multivariate": False}),
        ("cmaes", {"use_separable_cma": True, "with_margin": False, "lr_adapt": False}),
    ],
)
def test_options_that_go_together_are_taken(name: str, options: dict[str, Any]) -> None:
    assert check_sampler(name, options) == ""


@pytest.mark.parametrize("name", [name for name in SAMPLERS if OPTIONS[name]])
def test_the_least_value_of_each_option_is_one_that_optuna_takes(name: str) -> None:
    for key, kind in OPTIONS[name].items():
        value: Any = kind.least if isinstance(kind, Whole) else 0.0 if isinstance(kind, Probability) else kind.values[0]
        if key == "group":
            continue  # with multivariate alone
        assert check_sampler(name, {key: value}) == ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            BUILDERS[name](**{key: value})
