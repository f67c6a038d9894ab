"""Every distribution of W&B's grammar draws what W&B's documentation says, through Optuna and back."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy import stats

from paretune.search.engine.study import enqueue
from paretune.search.sampling.slot_sampler import draw
from paretune.search.spec.distributions import Parameter, Quantile
from paretune.search.spec.space import KEYS, Space, read_space
from paretune.search.spec.sweep import Sweep
from paretune.search.spec.yaml_lines import Definition

N_DRAWS = 8_000
LEAST_P = 1e-3  # the seeds are fixed, so this is met always or never


def parameter_of(given: dict[str, Any]) -> Parameter:
    definition = Definition(Path("a.yaml"), {})
    space = read_space(definition, {"x": given})
    definition.check()
    return space.parameters["x"]


def uniform_draws(distribution: BaseDistribution, count: int, seed: int) -> list[Any]:
    """Draw as Optuna's RandomSampler does, without its trials."""
    random = np.random.default_rng(seed)
    match distribution:
        case FloatDistribution(log=True):
            drawn = np.exp(random.uniform(np.log(distribution.low), np.log(distribution.high), count))
            return np.clip(drawn, distribution.low, distribution.high).tolist()
        case FloatDistribution():
            return random.uniform(distribution.low, distribution.high, count).tolist()
        case IntDistribution():
            return random.integers(distribution.low, distribution.high, count, endpoint=True).tolist()
        case CategoricalDistribution():
            return [distribution.choices[place] for place in random.integers(0, len(distribution.choices), count)]
    raise AssertionError(distribution)


def values_of(parameter: Parameter, count: int = N_DRAWS, seed: int = 0) -> list[Any]:
    return [parameter.decode(draw) for draw in uniform_draws(parameter.distribution, count, seed)]


def loguniform(low: float, high: float) -> Any:
    return stats.loguniform(low, high)


CONTINUOUS: list[tuple[dict[str, Any], Any]] = [
    ({"min": 0.0, "max": 1.0}, stats.uniform(0, 1)),
    ({"min": -3, "max": 2.5}, stats.uniform(-3, 5.5)),
    ({"distribution": "uniform", "min": 1, "max": 4}, stats.uniform(1, 3)),
    ({"distribution": "log_uniform", "min": -3, "max": 1}, loguniform(math.exp(-3), math.exp(1))),
    ({"distribution": "log_uniform_values", "min": 1e-4, "max": 10}, loguniform(1e-4, 10)),
    # log(1/X) is uniform between min and max, so X lies between exp(-max) and exp(-min)
    ({"distribution": "inv_log_uniform", "min": 1, "max": 5}, loguniform(math.exp(-5), math.exp(-1))),
    # log(1/X) is uniform between log(1/max) and log(1/min), so X lies between min and max
    ({"distribution": "inv_log_uniform_values", "min": 0.01, "max": 2}, loguniform(0.01, 2)),
    ({"distribution": "normal"}, stats.norm(0, 1)),
    ({"distribution": "normal", "mu": 3, "sigma": 0.5}, stats.norm(3, 0.5)),
    ({"distribution": "log_normal"}, stats.lognorm(s=1)),
    ({"distribution": "log_normal", "mu": 1, "sigma": 0.7}, stats.lognorm(s=0.7, scale=math.e)),
    ({"distribution": "beta"}, stats.beta(1, 1)),
    ({"distribution": "beta", "a": 2, "b": 5}, stats.beta(2, 5)),
]
QUANTISED: list[tuple[dict[str, Any], Any]] = [
    ({"distribution": "q_uniform", "min": 0, "max": 10}, stats.uniform(0, 10)),
    ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 3}, stats.uniform(0, 10)),
    ({"distribution": "q_uniform", "min": -1, "max": 1, "q": 0.25}, stats.uniform(-1, 2)),
    ({"distribution": "q_log_uniform", "min": 0, "max": 4, "q": 2}, loguniform(1, math.exp(4))),
    ({"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 8}, loguniform(1, 64)),
    ({"distribution": "q_normal", "mu": 0, "sigma": 3}, stats.norm(0, 3)),
    ({"distribution": "q_normal", "mu": 1, "sigma": 2, "q": 0.5}, stats.norm(1, 2)),
    ({"distribution": "q_log_normal", "mu": 2, "sigma": 0.5, "q": 2}, stats.lognorm(s=0.5, scale=math.exp(2))),
    ({"distribution": "q_beta", "a": 2, "b": 3, "q": 0.1}, stats.beta(2, 3)),
]
CHOICES: list[tuple[dict[str, Any], list[tuple[Any, float]]]] = [
    ({"values": ["a", "b", "c"]}, [("a", 1 / 3), ("b", 1 / 3), ("c", 1 / 3)]),
    ({"distribution": "categorical", "values": [[1], None]}, [([1], 0.5), (None, 0.5)]),
    ({"values": ["a", "b", "c"], "probabilities": [0.2, 0.5, 0.3]}, [("a", 0.2), ("b", 0.5), ("c", 0.3)]),
    (
        {"distribution": "categorical_w_probabilities", "values": [1, 2, 1], "probabilities": [0.25, 0.25, 0.5]},
        [(1, 0.75), (2, 0.25)],
    ),
    ({"min": 3, "max": 9}, [(number, 1 / 7) for number in range(3, 10)]),
    ({"distribution": "int_uniform", "min": -2, "max": 1}, [(number, 1 / 4) for number in range(-2, 2)]),
]
ALL = [given for given, _ in (*CONTINUOUS, *QUANTISED, *CHOICES)]


def label(given: Any) -> str:
    return "-".join(str(part) for part in (given.values() if isinstance(given, dict) else [given]))[:60]


def chi_square(values: list[Any], expected: list[tuple[Any, float]]) -> float:
    """Return the p-value of counts against probabilities; rare values are counted together."""
    counts = Counter(map(str, values))
    assert set(counts) <= {str(value) for value, _ in expected}
    pairs = [(counts[str(value)], probability * len(values)) for value, probability in expected]
    large = [pair for pair in pairs if pair[1] >= 5]
    rest = (sum(pair[0] for pair in pairs) - sum(pair[0] for pair in large), len(values) - sum(pair[1] for pair in large))
    kept = [*large, rest] if rest[1] >= 5 else [*large[:-1], (large[-1][0] + rest[0], large[-1][1] + rest[1])]
    return float(stats.chisquare([pair[0] for pair in kept], [pair[1] for pair in kept]).pvalue)


def probabilities_of_multiples(reference: Any, q: float) -> list[tuple[Any, float]]:
    """Return every multiple of q with the probability that X, drawn from the reference, is rounded to it."""
    low, high = (round(float(reference.ppf(end)) / q) for end in (1e-9, 1 - 1e-9))
    multiples = [(i, reference.cdf((i + 0.5) * q) - reference.cdf((i - 0.5) * q)) for i in range(low - 1, high + 2)]
    return [(int(i * q) if float(i * q).is_integer() else i * q, p) for i, p in multiples]


def test_every_distribution_of_the_grammar_is_tested() -> None:
    named = {given.get("distribution") for given in ALL} | {"constant"}
    assert set(KEYS) <= named


@pytest.mark.parametrize(("given", "reference"), CONTINUOUS, ids=label)
def test_a_continuous_distribution_draws_as_it_is_defined(given: dict[str, Any], reference: Any) -> None:
    assert stats.kstest(values_of(parameter_of(given)), reference.cdf).pvalue > LEAST_P


@pytest.mark.parametrize(("given", "reference"), QUANTISED, ids=label)
def test_a_quantised_distribution_rounds_what_is_drawn(given: dict[str, Any], reference: Any) -> None:
    expected = probabilities_of_multiples(reference, given.get("q", 1))
    assert chi_square(values_of(parameter_of(given)), expected) > LEAST_P


@pytest.mark.parametrize(("given", "expected"), CHOICES, ids=label)
def test_choices_and_whole_numbers_come_as_often_as_they_shall(given: dict[str, Any], expected: list[tuple[Any, float]]) -> None:
    assert chi_square(values_of(parameter_of(given)), expected) > LEAST_P


def test_a_wrong_distribution_would_be_found_out() -> None:
    drawn = values_of(parameter_of({"distribution": "log_uniform_values", "min": 0.5, "max": 1.0}))
    assert stats.kstest(drawn, stats.uniform(0.5, 0.5).cdf).pvalue < 1e-12
    drawn = values_of(parameter_of({"distribution": "normal", "mu": 0.1}))
    assert stats.kstest(drawn, stats.norm(0, 1).cdf).pvalue < 1e-6
    # as if every multiple were as likely, which Optuna's stepped distributions would make it
    drawn = values_of(parameter_of({"distribution": "q_uniform", "min": 0, "max": 4}))
    assert chi_square(drawn, [(i, 0.2) for i in range(5)]) < 1e-12
    assert chi_square(drawn, [(i, 0.125 if i in (0, 4) else 0.25) for i in range(5)]) > LEAST_P


# At the quantiles 0.1, 0.37, 0.5 and 0.93, from `HyperParameter.ppf` of W&B's package sweeps 0.3.0.
WANDB_QUANTILES: list[tuple[dict[str, Any], list[Any]]] = [
    ({"distribution": "uniform", "min": -2.0, "max": 3.0}, [-1.5, -0.1499999999999999, 0.5, 2.6500000000000004]),
    ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 3}, [0, 3, 6, 9]),
    ({"distribution": "q_uniform", "min": -1, "max": 1, "q": 0.25}, [-0.75, -0.25, 0, 0.75]),
    (
        {"distribution": "log_uniform", "min": -3, "max": 1},
        [0.07427357821433386, 0.21871188695221475, 0.3678794411714424, 2.054433210643888],
    ),
    (
        {"distribution": "log_uniform_values", "min": 0.0001, "max": 10},
        [0.0003162277660168384, 0.0070794578438413795, 0.0316227766016838, 4.466835921509627],
    ),
    ({"distribution": "q_log_uniform", "min": 0, "max": 4, "q": 2}, [2, 4, 8, 42]),
    ({"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 8}, [0, 8, 8, 48]),
    (
        {"distribution": "inv_log_uniform", "min": 1, "max": 5},
        [0.010051835744633584, 0.029599435167892, 0.04978706836786394, 0.2780373004531942],
    ),
    (
        {"distribution": "inv_log_uniform_values", "min": 0.01, "max": 2},
        [0.01698646464634248, 0.07102007038809023, 0.14142135623730956, 1.380250445433753],
    ),
    ({"distribution": "normal"}, [-1.2815515655446004, -0.33185334643681663, 0.0, 1.475791028179171]),
    ({"distribution": "normal", "mu": 3, "sigma": 0.5}, [2.3592242172277, 2.8340733267815916, 3.0, 3.7378955140895855]),
    ({"distribution": "q_normal", "mu": 0, "sigma": 3}, [-4, -1, 0, 4]),
    (
        {"distribution": "log_normal", "mu": 1, "sigma": 0.7},
        [1.1083959766395464, 2.154810225993952, 2.718281828459045, 7.637373182104497],
    ),
    ({"distribution": "q_log_normal", "mu": 2, "sigma": 0.5, "q": 2}, [4, 6, 8, 16]),
    (
        {"distribution": "beta", "a": 2, "b": 5},
        [0.09259525891312873, 0.21032463252174394, 0.26444998329566005, 0.5488196690628588],
    ),
    ({"distribution": "q_beta", "a": 2, "b": 3, "q": 0.1}, [0.1, 0.30000000000000004, 0.4, 0.7000000000000001]),
    ({"values": ["a", "b", "c"], "probabilities": [0.2, 0.5, 0.3]}, ["a", "b", "b", "c"]),
]


@pytest.mark.parametrize(("given", "expected"), WANDB_QUANTILES, ids=label)
def test_the_quantiles_are_those_of_wandbs_engine(given: dict[str, Any], expected: list[Any]) -> None:
    parameter = parameter_of(given)
    distribution = parameter.distribution
    assert isinstance(distribution, FloatDistribution)
    low, high = distribution.low, distribution.high
    for quantile, value in zip((0.1, 0.37, 0.5, 0.93), expected, strict=True):
        draw = low * (high / low) ** quantile if distribution.log else low + (high - low) * quantile
        found = parameter.decode(draw)
        assert found == value if isinstance(value, str) else found == pytest.approx(value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("given", ALL, ids=label)
def test_optuna_draws_it(given: dict[str, Any]) -> None:
    parameter = parameter_of(given)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    values = [parameter.decode(study.ask({"x": parameter.distribution}).params["x"]) for _ in range(200)]
    assert all(map(parameter.contains, values))
    assert len(set(map(str, values))) > 1
    if given.get("min") == 3:
        assert {type(value) for value in values} == {int}


@pytest.mark.parametrize(
    ("given", "outside"),
    [
        ({"min": 1, "max": 4}, [0, 5, 1.5, True, "2", None, [1], math.nan, math.inf, 10**400]),
        ({"min": 0.5, "max": 4.0}, [0.4, 4.1, True, "2", None, math.nan, math.inf]),
        ({"distribution": "log_uniform_values", "min": 0.5, "max": 4.0}, [0.4, 4.1, 0, -1, True, "2", None]),
        ({"values": ["a", 1, True, None]}, ["b", 2, False, "None", [1], 0]),
        ({"values": [[1, 2], {"a": 1}]}, [[2, 1], {"a": 2}, 1]),
        ({"values": [1, 2, 3], "probabilities": [0.5, 0, 0.5]}, [2, 4, "1", True]),
        ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 3}, [1, 12, -3, 1.5, True, "3", None, math.nan, math.inf]),
        ({"distribution": "q_log_uniform_values", "min": 3, "max": 64, "q": 8}, [-8, 1, 72, True]),
        ({"distribution": "normal"}, [True, "1", None, math.nan, math.inf, 9.0, -9.0]),
        ({"distribution": "q_normal", "q": 0.5}, [0.3, True, math.nan, 8.0, -8.0]),
        ({"distribution": "log_normal"}, [-1, True, math.inf, 0.0, math.exp(8)]),
        ({"distribution": "q_log_normal"}, [-1, 3000, math.inf]),
        ({"distribution": "beta"}, [-0.1, 1.1, True]),
    ],
    ids=label,
)
def test_what_is_never_drawn_lies_outside(given: dict[str, Any], outside: list[Any]) -> None:
    parameter = parameter_of(given)
    assert [value for value in outside if parameter.contains(value)] == []


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"min": 1, "max": 64}, 16),
        ({"distribution": "q_uniform", "min": 0, "max": 64, "q": 16}, 16),
        ({"distribution": "q_uniform", "min": 0.0, "max": 64.0, "q": 16.0}, 16),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 16}, 16),
        ({"distribution": "q_log_normal", "mu": 3, "q": 16}, 16),
        ({"values": [16, 32]}, 16),
        ({"values": [16, [32]]}, 16),
        ({"values": [16, 32], "probabilities": [0.5, 0.5]}, 16),
    ],
    ids=label,
)
@pytest.mark.parametrize("came", [16, 16.0])
def test_whole_numbers_stay_whole(given: dict[str, Any], value: Any, came: Any) -> None:
    parameter = parameter_of(given)
    assert parameter.contains(came)
    found = parameter.decode(parameter.encode(came))
    assert (found, type(found)) == (value, int)
    assert all(type(drawn) is int for drawn in values_of(parameter, 50) if not isinstance(drawn, list))


def test_a_choice_that_is_not_plain_goes_through_optuna_and_back() -> None:
    values = [[64, 32], [], {"b": 1, "a": [2]}, None, True, 1, "1", 0.5, {"channels": {"deep": [None]}}]
    parameter = parameter_of({"values": values})
    assert [parameter.decode(parameter.encode(value)) for value in values] == values
    assert [type(parameter.decode(parameter.encode(value))) for value in values] == [type(value) for value in values]


def test_a_mapping_with_keys_that_are_no_texts_is_a_choice_too() -> None:
    parameter = parameter_of({"values": [{1: "a", "b": 2}, 3]})  # json.dumps alone cannot sort 1 and 'b'
    assert parameter.contains({1: "a", "b": 2})
    assert parameter.decode(parameter.encode({1: "a", "b": 2})) == {"1": "a", "b": 2}


def test_what_was_drawn_is_not_shared_between_trials() -> None:
    parameter = parameter_of({"values": [[1], [2]]})
    draw = parameter.encode([1])
    parameter.decode(draw).append(9)
    assert parameter.decode(draw) == [1]


def test_the_quantile_one_belongs_to_the_last_value_that_can_be_drawn() -> None:
    probabilities = [0.1] * 9 + [0.1, 0.0]  # np.sum rounds these to 1, np.cumsum to 0.9999999999999999
    parameter = parameter_of({"values": list(range(11)), "probabilities": probabilities})
    assert parameter.decode(1.0) == 9
    assert parameter.decode(0.0) == 0


def test_a_quantile_between_two_values_belongs_to_the_upper_one() -> None:
    # as `HyperParameter.ppf` of W&B's package sweeps 0.3.0
    parameter = parameter_of({"values": ["a", "b", "c"], "probabilities": [0.25, 0.5, 0.25]})
    assert [parameter.decode(quantile) for quantile in (0.0, 0.25, 0.5, 0.75, 0.9)] == ["a", "b", "b", "c", "c"]
    assert parameter_of({"values": ["a", "b"], "probabilities": [0, 1]}).decode(0.0) == "b", "a is never drawn"


def test_a_value_listed_twice_is_drawn_from_the_middle_of_its_widest_part() -> None:
    # 1 has the quantiles from 0 to 0.25 and from 0.5 to 1
    parameter = parameter_of({"values": [1, 2, 1], "probabilities": [0.25, 0.25, 0.5]})
    assert (parameter.encode(1), parameter.encode(2)) == (0.75, 0.375)
    parameter = parameter_of({"values": ["a", "b", "a"], "probabilities": [0, 0.5, 0.5]})
    assert (parameter.encode("a"), parameter.decode(parameter.encode("a"))) == (0.75, "a")


def test_a_number_half_way_between_two_multiples_goes_to_the_even_one() -> None:
    # as `HyperParameter.ppf` of W&B's package sweeps 0.3.0, which rounds by numpy
    to_ten = parameter_of({"distribution": "q_uniform", "min": 0, "max": 10})
    assert [to_ten.decode(quantile) for quantile in (0.05, 0.15, 0.25, 0.35, 0.45)] == [0, 2, 2, 4, 4]
    around_0 = parameter_of({"distribution": "q_uniform", "min": -2.5, "max": 2.5})
    assert [around_0.decode(quantile) for quantile in (0.2, 0.4, 0.6, 0.8)] == [-2, 0, 0, 2]


@pytest.mark.parametrize("number", [-math.inf, -1.0, -1e-300, 0.0, 1e-300, 0.5, math.e, 1e300])
def test_a_log_normal_number_has_scipys_cumulative_probability_and_none_lies_below_0(number: float) -> None:
    parameter = parameter_of({"distribution": "log_normal", "mu": 1, "sigma": 0.7})
    assert isinstance(parameter, Quantile)
    assert parameter.cumulative(number) == pytest.approx(stats.lognorm.cdf(number, s=0.7, scale=math.e), abs=1e-15)
    assert parameter.encode(number) == pytest.approx(stats.lognorm.cdf(number, s=0.7, scale=math.e), abs=1e-15)


def test_the_multiple_0_of_a_log_normal_number_is_drawn_from_half_of_q_down() -> None:
    parameter = parameter_of({"distribution": "q_log_normal", "mu": 1, "sigma": 0.7, "q": 2})
    assert parameter.contains(0)
    assert not parameter.contains(-2)
    assert parameter.encode(0) == pytest.approx(stats.lognorm.cdf(1.0, s=0.7, scale=math.e) / 2, rel=1e-6)


def test_the_ends_are_values_that_can_be_drawn() -> None:
    # 8 lies half-way to 0, but only the quantile 0 itself would be rounded down: a batch size of 0 is never drawn
    assert parameter_of({"distribution": "q_uniform", "min": 8, "max": 64, "q": 16}).ends() == [16, 64]
    assert parameter_of({"min": 0.5, "max": 2}).ends() == [0.5, 2.0]
    assert parameter_of({"distribution": "normal", "mu": 4}).ends() == [4.0]
    assert parameter_of({"values": [3, 1], "probabilities": [1.0, 0.0]}).ends() == [3]


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({"min": 3, "max": 9}, 7),
        ({"min": -2, "max": 1}, 4),
        ({"min": 5, "max": 5}, 1),
        ({"min": 0.5, "max": 1.0}, math.inf),
        ({"values": ["a", [1], None]}, 3),
        ({"values": ["a", "b"], "probabilities": [0.5, 0.5]}, math.inf),
        ({"distribution": "normal"}, math.inf),
        ({"distribution": "q_normal"}, math.inf),
    ],
    ids=label,
)
def test_the_values_are_counted_before_a_grid_makes_a_list_of_them(given: dict[str, Any], count: float) -> None:
    parameter = parameter_of(given)
    assert parameter.n_values() == count
    grid = parameter.grid()
    assert grid is None if count == math.inf else grid is not None and len(grid) == count


@pytest.mark.parametrize(
    ("given", "grid"),
    [
        ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 3}, [0, 3, 6, 9]),  # W&B counts from min and leaves out max
        ({"distribution": "q_uniform", "min": 1, "max": 10, "q": 3}, [1, 4, 7]),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 10, "q": 4}, [0, 4, 8]),
        ({"distribution": "q_log_uniform_values", "min": 4, "max": 10.5, "q": 4}, [4, 8, 12]),
        ({"distribution": "q_beta", "q": 0.25}, [0, 0.25, 0.5, 0.75, 1]),
    ],
    ids=label,
)
def test_a_grid_of_multiples_holds_those_that_can_be_drawn(given: dict[str, Any], grid: list[Any]) -> None:
    parameter = parameter_of(given)
    assert parameter.grid() == grid
    assert len(grid) <= parameter.n_values() <= len(grid) + 3


@pytest.mark.parametrize("kind", ["uniform", "q_uniform", "log_uniform_values", "q_log_uniform_values", "int_uniform"])
def test_a_range_of_one_number_draws_it(kind: str) -> None:
    parameter = parameter_of({"distribution": kind, "min": 3, "max": 3})
    assert {parameter.decode(draw) for draw in uniform_draws(parameter.distribution, 20, 0)} == {3}
    assert parameter.contains(3)
    assert parameter.decode(parameter.encode(3)) == pytest.approx(3)
    assert parameter.grid() in (None, [3])


def finite(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


@st.composite
def numeric(draw: st.DrawFn) -> dict[str, Any]:
    """Any distribution of numbers, with any numbers that make sense."""
    kind = draw(st.sampled_from([kind for kind in KEYS if kind not in {"constant", "categorical", "categorical_w_probabilities"}]))
    given: dict[str, Any] = {"distribution": kind}
    if "min" in KEYS[kind]:
        if kind == "int_uniform":
            ends = sorted((draw(st.integers(-1000, 10**6)), draw(st.integers(-1000, 10**6))))
        elif "log" in kind and not kind.endswith("_values"):
            ends = sorted((draw(finite(-20, 20)), draw(finite(-20, 20))))
        elif kind.endswith("_values"):
            ends = sorted((draw(finite(1e-8, 1e6)), draw(finite(1e-8, 1e6))))
        else:
            ends = sorted((draw(finite(-1e6, 1e6)), draw(finite(-1e6, 1e6))))
        given |= {"min": ends[0], "max": ends[1]}
    if "mu" in KEYS[kind]:
        given |= {"mu": draw(finite(-10, 10)), "sigma": draw(finite(0.01, 5))}
    if "a" in KEYS[kind]:
        given |= {"a": draw(finite(0.1, 20)), "b": draw(finite(0.1, 20))}
    if "q" in KEYS[kind]:
        given["q"] = draw(st.one_of(st.integers(1, 100), finite(0.01, 10)))
    return given


@settings(max_examples=300, deadline=None)
@given(given=numeric(), quantile=st.floats(1e-5, 1 - 1e-5))
def test_a_drawn_number_is_contained_and_goes_back_and_forth(given: dict[str, Any], quantile: float) -> None:
    parameter = parameter_of(given)
    distribution = parameter.distribution
    draw: Any
    if isinstance(distribution, IntDistribution):
        draw = distribution.low + int(quantile * (distribution.high - distribution.low))
    else:
        assert isinstance(distribution, FloatDistribution)
        low, high = distribution.low, distribution.high
        draw = low * (high / low) ** quantile if distribution.log else low + quantile * (high - low)
        draw = min(max(draw, low), high)
    value = parameter.decode(draw)
    assert isinstance(value, int | float)
    assert math.isfinite(value)
    if "q" in given and not parameter.contains(value):  # only a multiple whose part of [0, 1] is no wider than the rounding
        assume(False)
    assert parameter.contains(value)
    encoded = parameter.encode(value)
    assert distribution._contains(distribution.to_internal_repr(encoded))
    assert parameter.decode(encoded) == pytest.approx(value, rel=1e-9, abs=1e-9)


BY_QUANTILE = [given for given, _ in (*CONTINUOUS, *QUANTISED) if isinstance(parameter_of(given), Quantile)]


@settings(max_examples=300, deadline=None)
@given(given=st.sampled_from(BY_QUANTILE), value=st.floats(-40, 40) | st.decimals(-10, 70, places=1).map(float))
def test_a_number_that_a_person_gives_is_trained_exactly_and_near_to_its_draw(given: dict[str, Any], value: float) -> None:
    parameter = parameter_of(given)
    if "q" in given:
        value = round(value / given["q"]) * given["q"]
    assume(parameter.contains(value))
    sweep = Sweep(Path("a.yaml"), "a", "a.py", (), None, "bayes", (), Space({"x": parameter}))
    study = optuna.create_study()
    enqueue(study, sweep, {"x": value}, {})
    trial = study.ask()
    assert draw(trial, sweep) == {"x": value}
    assert parameter.decode(trial.params["x"]) == pytest.approx(value, rel=1e-3, abs=1e-2)  # where the sampler believes it


HELD = st.characters(exclude_categories=["Cs"], exclude_characters="\0")  # what a configuration can hold


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**60), 2**60)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(HELD, max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(HELD, max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_choice_goes_back_and_forth(values: list[Any]) -> None:
    parameter = parameter_of({"values": values})
    for value in values:
        assert parameter.contains(value)
        draw = parameter.encode(value)
        assert parameter.distribution._contains(parameter.distribution.to_internal_repr(draw))
        assert parameter.decode(draw) == value
