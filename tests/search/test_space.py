"""A parameters section becomes Optuna distributions, and drawn values become real ones again."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.space import Space, read_space
from trainers.errors import UsageError


def space_of(**parameters: Any) -> Space:
    return read_space(parameters, "a.yaml")


@pytest.mark.parametrize(
    ("given", "distribution"),
    [
        ({"values": [1, 2, 3]}, CategoricalDistribution([1, 2, 3])),
        ({"values": [False, True]}, CategoricalDistribution([False, True])),
        ({"values": ["a", None]}, CategoricalDistribution(["a", None])),
        ({"min": 1, "max": 4}, IntDistribution(1, 4)),
        ({"min": 1.0, "max": 4.0}, FloatDistribution(1.0, 4.0)),
        ({"min": 0, "max": 0.5}, FloatDistribution(0.0, 0.5)),
        ({"distribution": "uniform", "min": 0, "max": 1}, FloatDistribution(0.0, 1.0)),
        ({"distribution": "int_uniform", "min": 0, "max": 9}, IntDistribution(0, 9)),
        ({"distribution": "log_uniform_values", "min": 1e-4, "max": 1}, FloatDistribution(1e-4, 1.0, log=True)),
        ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 5}, IntDistribution(0, 10, step=5)),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, FloatDistribution(0.0, 1.0, step=0.25)),
        ({"distribution": "q_log_uniform_values", "min": 8, "max": 64, "q": 1}, IntDistribution(8, 64, log=True)),
        ({"distribution": "categorical", "values": [3]}, CategoricalDistribution([3])),
    ],
)
def test_a_parameter_becomes_a_distribution(given: dict[str, Any], distribution: BaseDistribution) -> None:
    assert space_of(x=given).distributions == {"x": distribution}


def test_quantised_ends_are_multiples_of_q() -> None:
    assert space_of(x={"distribution": "q_uniform", "min": 3, "max": 17, "q": 5}).distributions == {
        "x": IntDistribution(5, 15, step=5)
    }


@pytest.mark.parametrize("value", [3, "text", None, [1, 2], {"a": 1}])
def test_a_value_is_fixed(value: Any) -> None:
    space = space_of(x={"value": value})
    assert space.distributions == {}
    assert space.decode({}) == {"x": value}


@pytest.mark.parametrize("values", [[[64, 32], [16]], [None, [1]], [{"b": 1, "a": [2]}, {"a": 3}], [[{"channels": 8}], []]])
def test_choices_that_are_not_scalars_go_through_optuna_and_back(values: list[Any]) -> None:
    space = space_of(x={"values": values})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.decode(study.ask(space.distributions).params)["x"] for _ in range(20)]
    assert all(value in values for value in drawn)
    assert all(value in drawn for value in values)
    assert [space.decode(space.encode({"x": value}))["x"] for value in values] == values


def test_repeated_values_count_once() -> None:
    assert space_of(x={"values": [1, 1, 2]}).distributions == {"x": CategoricalDistribution([1, 2])}


def test_a_fixed_value_leaves_the_search() -> None:
    space = space_of(x={"values": [[1], [2]]}, y={"min": 1, "max": 3})
    space.fix("x", [9])
    assert list(space.distributions) == ["y"]
    assert space.decode({"y": 2}) == {"x": [9], "y": 2}


def test_what_lies_outside_is_named() -> None:
    space = space_of(a={"values": [1, 2]}, b={"min": 0.1, "max": 0.2}, c={"values": [[1], [2]]}, d={"min": 1, "max": 3})
    assert space.outside({"a": 1, "b": 0.1, "c": [2], "d": 3}) == []
    assert space.outside({"a": 3, "b": 0.3, "c": [3]}) == ["a", "b", "c", "d"]
    assert space.outside({"a": 1, "b": True, "c": [1], "d": "2"}) == ["b", "d"]


def test_a_grid_holds_every_combination_once_the_last_name_changing_fastest() -> None:
    space = space_of(
        b={"values": ["x", "y"]},
        a={"min": 1, "max": 2},
        c={"distribution": "q_uniform", "min": 0.0, "max": 0.5, "q": 0.5},
        fixed={"value": 7},
    )
    grid = space.grid()
    assert [tuple(row[name] for name in "abc") for row in grid] == [
        (a, b, c) for a in (1, 2) for b in ("x", "y") for c in (0.0, 0.5)
    ]


def test_a_grid_needs_countable_values() -> None:
    with pytest.raises(UsageError, match=r"parameters.x has no countable values; method grid needs"):
        space_of(x={"min": 0.0, "max": 1.0}).grid()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (3, "must be a mapping such as 'value: 3' or 'values: [1, 2]'. Got 3."),
        ({}, "must hold value, values, or min and max. Got nothing."),
        ({"min": 1}, "must hold value, values, or min and max. Got min."),
        ({"vlaues": [1]}, "vlaues is not a key of a parameter; did you mean 'values'?"),
        ({"values": []}, "values must be a list with at least one value. Got []."),
        ({"values": 3}, "values must be a list with at least one value. Got 3."),
        ({"min": "1e-4", "max": 1}, "min must be a number. Got the text '1e-4'; YAML reads it as text: write 0.0001."),
        ({"min": 0, "max": "1e-7"}, "max must be a number. Got the text '1e-7'; YAML reads it as text: write 1.0e-07."),
        ({"min": "low", "max": 1}, "min must be a number. Got the text 'low'."),
        ({"min": True, "max": 2}, "min must be a number. Got True."),
        ({"min": None, "max": 2}, "min must be a number. Got None."),
        ({"min": 2, "max": 1}, "min must not be above max. Got 2 and 1."),
        ({"min": float("nan"), "max": 1}, "min must be a number. Got nan."),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "min must be above 0 for log_uniform_values. Got 0."),
        ({"distribution": "int_uniform", "min": 0.5, "max": 1}, "int_uniform takes whole numbers. Got 0.5 and 1."),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, "q must be above 0. Got 0."),
        ({"distribution": "q_uniform", "min": 1, "max": 2, "q": 5}, "no multiple of q=5 lies between min and max."),
        ({"distribution": "constant"}, "of distribution constant needs a value."),
        ({"distribution": "normal", "mu": 0, "sigma": 1}, "'normal' runs under wandb agent, and not yet offline"),
        ({"values": [1, 2], "probabilities": [0.5, 0.5]}, "'probabilities' runs under wandb agent, and not yet offline"),
        ({"parameters": {"x": {"value": 1}}}, "nested parameters run under wandb agent, and not yet offline"),
    ],
)
def test_an_unfit_parameter_is_refused_in_words(given: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        space_of(x=given)
    assert str(refusal.value).startswith("a.yaml: parameters.x")
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("text", ["1e-4", "1e-7", "2E5", "1e10", "3e-05", "1e+22"])
def test_the_number_that_the_sentence_tells_to_write_is_read_by_yaml_as_meant(text: str) -> None:
    import yaml

    with pytest.raises(UsageError) as refusal:
        space_of(x={"min": text, "max": 1e30})
    advice = str(refusal.value).rpartition("write ")[2].removesuffix(".")
    value = yaml.safe_load(f"x: {advice}")["x"]
    assert isinstance(value, float)
    assert value == float(text)
