"""A parameters section becomes a space: nested, conditional, fixed in part, gone through as a grid in W&B's order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from paretune.core.errors import UsageError
from paretune.search.spec.expression import read_expression
from paretune.search.spec.space import Space, read_space
from paretune.search.spec.yaml_lines import Definition

DEEP: dict[str, Any] = {  # three levels, searched and fixed ones beside each other
    "seed": {"value": 7},
    "model": {
        "parameters": {
            "kind": {"values": ["cnn", "mlp"]},
            "bias": {"value": True},
            "layer": {"parameters": {"width": {"min": 8, "max": 64}, "drop": {"parameters": {"rate": {"min": 0.0, "max": 0.5}}}}},
        }
    },
}


def read(parameters: dict[str, Any]) -> Space:
    definition = Definition(Path("a.yaml"), {"parameters": parameters})
    space = read_space(definition, parameters)
    definition.check()
    return space


def space_of(**parameters: Any) -> Space:
    return read(parameters)


def rows_of(space: Space) -> list[dict[str, Any]]:
    grid = space.as_grid()
    rows = [grid.decode(drawn) for drawn in grid.combinations()]
    assert len(rows) == grid.n_combinations()
    return rows


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
        ({"distribution": "log_uniform", "min": 0, "max": 0}, FloatDistribution(1.0, 1.0, log=True)),
        ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 5}, FloatDistribution(0.0, 1.0)),
        ({"distribution": "normal"}, FloatDistribution(0.0, 1.0)),
        ({"distribution": "categorical", "values": [3]}, CategoricalDistribution([3])),
        ({"values": [1, True]}, CategoricalDistribution(["1", "true"])),
    ],
)
def test_a_parameter_becomes_a_distribution(given: dict[str, Any], distribution: BaseDistribution) -> None:
    assert space_of(x=given).distributions == {"x": distribution}


@pytest.mark.parametrize("value", [3, "text", None, [1, 2], {"a": 1}])
@pytest.mark.parametrize("named", [{}, {"distribution": "constant"}])
def test_a_value_is_fixed(value: Any, named: dict[str, Any]) -> None:
    space = space_of(x={"value": value, **named})
    assert space.distributions == {}
    assert space.decode({}) == {"x": value}


def test_equal_values_count_once() -> None:
    # W&B compares the hashes of values, for which 1.0 is 1 (configs are JSON) but True is another
    assert list(space_of(x={"values": [2, 1, 2, 1.0, 1]}).distributions["x"].choices) == [2, 1]  # type: ignore[attr-defined]


# Fixing, holding, leaving out


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


# Nested parameters


def test_nested_parameters_are_drawn_by_names_with_points_and_handed_over_nested() -> None:
    space = read(DEEP)
    assert list(space.distributions) == ["model.kind", "model.layer.width", "model.layer.drop.rate"]
    assert space.fixed == {"seed": 7, "model": {"bias": True}}
    drawn = {"model.kind": "cnn", "model.layer.width": 16, "model.layer.drop.rate": 0.25}
    values = {"seed": 7, "model": {"kind": "cnn", "bias": True, "layer": {"width": 16, "drop": {"rate": 0.25}}}}
    assert space.decode(drawn) == values
    assert space.encode(values) == drawn
    assert space.outside(values) == []
    assert space.fixed == {"seed": 7, "model": {"bias": True}}, "decoding must not write into the fixed values"


def test_a_nested_value_outside_is_named_in_full() -> None:
    values = {"model": {"kind": "rnn", "layer": {"width": 65, "drop": 3}}}
    assert read(DEEP).outside(values) == ["model.kind", "model.layer.width", "model.layer.drop.rate"]
    assert read(DEEP).encode(values) == {}


def test_a_nested_parameter_is_fixed_as_a_whole_or_by_its_full_name() -> None:
    whole = read(DEEP)
    whole.fix("model", {"kind": "mlp"})
    assert (list(whole.distributions), whole.decode({})) == ([], {"seed": 7, "model": {"kind": "mlp"}})
    part = read(DEEP)
    part.fix("model.layer.width", 32)
    assert list(part.distributions) == ["model.kind", "model.layer.drop.rate"]
    assert part.fixed == {"seed": 7, "model": {"bias": True, "layer": {"width": 32}}}


@pytest.mark.parametrize("pointed", [{"min": 1, "max": 2}, {"value": 3}])
@pytest.mark.parametrize("nested", [{"min": 1, "max": 2}, {"value": 3}])
@pytest.mark.parametrize("turned", [False, True])
def test_names_that_are_one_name_with_points_are_refused(pointed: dict[str, Any], nested: dict[str, Any], turned: bool) -> None:
    parameters = {"a.b": pointed, "a": {"parameters": {"b": nested}}}
    with pytest.raises(UsageError, match="has the same full name as another parameter: rename one of the two"):
        read(dict(reversed(parameters.items())) if turned else parameters)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"parameters": {}}, "parameters.x.parameters must be a mapping with at least one parameter. Got {}."),
        ({"parameters": 3}, "parameters.x.parameters must be a mapping with at least one parameter. Got 3."),
        ({"parameters": {"y": {"value": 1}}, "min": 1}, "parameters.x.min cannot stand beside nested parameters: move it inside"),
        ({"parameters": {"y": 3}}, "parameters.x.parameters.y must be a mapping such as 'value: 3'"),
        ({"parameters": {"y": {"min": 3, "max": 1}}}, "parameters.x.parameters.y: min must not be above max."),
    ],
)
def test_unfit_nested_parameters_are_refused_in_words(given: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        space_of(x=given)
    assert sentence in str(refusal.value)


# Grids: order and count were had from `grid_search_next_runs` of W&B's package sweeps 0.3.0.


def test_a_grid_goes_by_sorted_names_the_last_changing_fastest() -> None:
    space = space_of(b={"values": ["x", "y"]}, a={"min": 1, "max": 2}, c={"value": 7})
    assert [(row["a"], row["b"], row["c"]) for row in rows_of(space)] == [(1, "x", 7), (1, "y", 7), (2, "x", 7), (2, "y", 7)]


def test_capitals_and_underscores_sort_as_in_wandbs_engine() -> None:
    space = space_of(
        a_b={"values": [1, 2]}, a={"parameters": {"x": {"values": [3, 4]}}}, ab={"values": [5, 6]}, B={"values": [7, 8]}
    )
    rows = [(row["B"], row["a"]["x"], row["a_b"], row["ab"]) for row in rows_of(space)]
    assert rows == [
        *((7, 3, 1, 5), (7, 3, 1, 6), (7, 3, 2, 5), (7, 3, 2, 6), (7, 4, 1, 5), (7, 4, 1, 6), (7, 4, 2, 5), (7, 4, 2, 6)),
        *((8, 3, 1, 5), (8, 3, 1, 6), (8, 3, 2, 5), (8, 3, 2, 6), (8, 4, 1, 5), (8, 4, 1, 6), (8, 4, 2, 5), (8, 4, 2, 6)),
    ]


def test_a_grid_of_nested_parameters() -> None:
    space = space_of(
        m={"parameters": {"z": {"values": [1, 2]}, "a": {"parameters": {"q": {"values": ["u", "v"]}}}}},
        l={"values": [True, False]},
        n={"min": 0, "max": 1},
    )
    rows = [(row["l"], row["m"]["a"]["q"], row["m"]["z"], row["n"]) for row in rows_of(space)]
    assert rows == [
        *((True, "u", 1, 0), (True, "u", 1, 1), (True, "u", 2, 0), (True, "u", 2, 1)),
        *((True, "v", 1, 0), (True, "v", 1, 1), (True, "v", 2, 0), (True, "v", 2, 1)),
        *((False, "u", 1, 0), (False, "u", 1, 1), (False, "u", 2, 0), (False, "u", 2, 1)),
        *((False, "v", 1, 0), (False, "v", 1, 1), (False, "v", 2, 0), (False, "v", 2, 1)),
    ]


def test_a_grid_over_q_uniform_leaves_out_max() -> None:
    space = space_of(
        a={"distribution": "q_uniform", "min": 0, "max": 10, "q": 3},
        b={"distribution": "q_uniform", "min": 0.5, "max": 1, "q": 0.25},
    )
    assert [(row["a"], row["b"]) for row in rows_of(space)] == [(a, b) for a in (0, 3, 6, 9) for b in (0.5, 0.75)]
    assert [row["x"] for row in rows_of(space_of(x={"distribution": "q_uniform", "min": 1, "max": 4}))] == [1, 2, 3]


def test_a_grid_of_lists_and_mappings() -> None:
    values = [{"b": 1, "a": [2]}, {"a": 3}], [[64, 32], [16], []]
    rows = rows_of(space_of(h={"values": values[1]}, d={"values": values[0]}))
    assert [(row["d"], row["h"]) for row in rows] == [(d, h) for d in values[0] for h in values[1]]


def test_a_grid_tries_equal_values_once_and_true_beside_one() -> None:
    found = [row["a"] for row in rows_of(space_of(a={"values": [2, 1, 2, 1.0, True, 1]}))]
    assert [(value, type(value)) for value in found] == [(2, int), (1, int), (True, bool)]


def test_a_grid_of_single_values() -> None:
    assert rows_of(space_of(a={"values": [5]}, b={"values": [None, "none"]})) == [{"a": 5, "b": None}, {"a": 5, "b": "none"}]


def test_a_grid_goes_over_every_bounded_distribution_with_q() -> None:  # W&B refuses all but q_uniform
    space = space_of(x={"distribution": "q_log_uniform_values", "min": 1, "max": 20, "q": 8})
    assert [row["x"] for row in rows_of(space)] == [0, 8, 16]


@pytest.mark.parametrize(
    "given",
    [
        {"min": 0.0, "max": 1.0},
        {"distribution": "log_uniform_values", "min": 1, "max": 2},
        {"distribution": "normal"},
        {"distribution": "q_normal"},
        {"distribution": "q_log_normal"},
        {"distribution": "beta"},
        {"values": [1, 2], "probabilities": [0.5, 0.5]},
    ],
)
def test_what_cannot_be_counted_is_named(given: dict[str, Any]) -> None:
    assert space_of(a={"values": [1]}, x=given, n={"min": 1, "max": 10**12}).uncountable() == ["x"]


def test_combinations_that_differ_only_in_what_does_not_exist_come_once() -> None:
    space = space_of(kernel={"values": ["linear", "poly"]}, degree={"values": [2, 3, 4]}, C={"values": [1, 10]})
    space.conditions["degree"] = read_expression("kernel == 'poly'")
    rows = rows_of(space)
    assert [row for row in rows if row["kernel"] == "linear"] == [{"kernel": "linear", "C": 1}, {"kernel": "linear", "C": 10}]
    assert len(rows) == 2 + 2 * 3


# Conditions


def test_a_parameter_comes_after_those_that_its_condition_speaks_of() -> None:
    space = space_of(a={"values": [1, 2]}, b={"values": [1, 2]}, c={"values": [1, 2]})
    space.conditions = {"a": read_expression("b == 1"), "b": read_expression("c == 1")}
    assert space.in_order() == ["c", "b", "a"]


def test_what_does_not_exist_is_not_encoded_and_not_outside() -> None:
    space = space_of(kernel={"values": ["linear", "poly"]}, degree={"min": 2, "max": 4})
    space.conditions["degree"] = read_expression("kernel == 'poly'")
    assert space.encode({"kernel": "linear", "degree": 3}) == {"kernel": "linear"}
    assert space.outside({"kernel": "linear"}) == []
    assert space.outside({"kernel": "poly"}) == ["degree"]


def test_a_condition_sees_what_was_fixed() -> None:
    space = read(DEEP)
    space.conditions["model.layer.width"] = read_expression("model.kind == 'mlp' and seed == 7")
    space.fix("model.kind", "mlp")
    assert space.existing({"model.layer.width": 8, "model.layer.drop.rate": 0.1}) == {
        "model.layer.width": 8,
        "model.layer.drop.rate": 0.1,
    }
    space.fix("model.kind", "cnn")
    space.fixed["model"]["kind"] = "cnn"
    assert space.existing({"model.layer.width": 8, "model.layer.drop.rate": 0.1}) == {"model.layer.drop.rate": 0.1}


def test_a_chain_of_conditions_ends_where_one_does_not_hold() -> None:
    space = space_of(a={"values": [0, 1]}, b={"values": [0, 1]}, c={"values": [0, 1]})
    space.conditions = {"b": read_expression("a == 1"), "c": read_expression("b != 5")}
    assert space.existing({"a": 0, "b": 1, "c": 1}) == {"a": 0}, "b does not exist, so nothing that asks of b does"


# Sentences


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (3, "must be a mapping such as 'value: 3' or 'values: [1, 2]'. Got 3."),
        ({}, "must hold value, values, or min and max, or name a distribution. Got nothing."),
        ({"min": 1}, "must hold value, values, or min and max, or name a distribution. Got min."),
        ({"vlaues": [1]}, "vlaues is not a key of a parameter; did you mean 'values'?"),
        ({"values": []}, "values must be a list with at least one value. Got []."),
        ({"values": 3}, "values must be a list with at least one value. Got 3."),
        ({"min": "1e-4", "max": 1}, "min must be a number. Got the text '1e-4'; YAML reads it as text: write 0.0001."),
        ({"min": 0, "max": "1e-7"}, "max must be a number. Got the text '1e-7'; YAML reads it as text: write 1.0e-07."),
        ({"min": "low", "max": 1}, "min must be a number. Got the text 'low'."),
        ({"min": "nan", "max": 1}, "min must be a number. Got the text 'nan'."),
        ({"min": "1e999", "max": 1}, "min must be a number. Got the text '1e999'."),
        ({"min": True, "max": 2}, "min must be a number. Got True."),
        ({"min": None, "max": 2}, "min must be a number. Got None."),
        ({"min": 2, "max": 1}, "min must not be above max. Got 2 and 1: exchange them."),
        ({"min": float("nan"), "max": 1}, "min must be a number. Got nan."),
        ({"min": 0.0, "max": 10**400}, "max must be a number. Got 1000"),
        ({"min": 0, "max": 2**60}, "whole numbers must lie between -2**53 and 2**53."),
        ({"min": -1.7e308, "max": 1.7e308}, "the numbers of uniform go beyond what a computer holds"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "min must be above 0 for log_uniform_values. Got 0."),
        ({"distribution": "log_uniform", "min": 0, "max": 1000}, "are exponents of e, so they must lie between -700 and 700."),
        ({"distribution": "log_uniform", "min": 0, "max": 1000}, "for limits of the value itself write log_uniform_values."),
        ({"distribution": "int_uniform", "min": 0.5, "max": 1}, "int_uniform takes whole numbers. Got 0.5 and 1: write uniform"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, "q must be above 0. Got 0."),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 5e-324}, "take smaller ones, or a larger q. Got min=0, max=1"),
        ({"distribution": "uniform", "min": 0}, "max is missing: uniform needs min and max."),
        ({"distribution": "uniform", "min": 0, "max": 1, "q": 2}, "q does not belong to uniform, which takes min, max: remove it."),
        ({"distribution": "normal", "sigma": -1}, "sigma must be above 0. Got -1."),
        ({"distribution": "log_normal", "mu": 800}, "the numbers of log_normal go beyond what a computer holds"),
        ({"distribution": "beta", "a": 0}, "a must be above 0. Got 0."),
        ({"distribution": "constant"}, "of distribution constant needs a value."),
        ({"distribution": "logunifrom_values", "min": 1, "max": 2}, "is not known; did you mean 'log_uniform_values'?"),
        ({"distribution": ["uniform"], "min": 1, "max": 2}, ".distribution ['uniform'] is not known; did you mean 'uniform'?"),
        ({"distribution": None, "min": 1, "max": 2}, ".distribution None is not known"),
        (
            {"values": [1, 2], "probabilities": [0.5, 0.4]},
            "must be 0 or more and add up to 1. Got [0.5, 0.4], which add up to 0.9.",
        ),
        ({"values": [1, 2], "probabilities": [1.5, -0.5]}, "must be 0 or more and add up to 1. Got [1.5, -0.5]"),
        ({"values": [1, 2], "probabilities": [1]}, "probabilities must be a list of 2 numbers, one for each value. Got [1]."),
        ({"values": [1, 2], "probabilities": ["1e-1", 0.9]}, "probabilities[0] must be a number. Got the text '1e-1'"),
        (
            {"distribution": "categorical_w_probabilities", "values": [1]},
            "must be a list of 1 numbers, one for each value. Got None.",
        ),
    ],
)
def test_an_unfit_parameter_is_refused_in_words(given: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        space_of(x=given)
    assert str(refusal.value).startswith("a.yaml: parameters.x")
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("name", [1, True, None, "2x", "a b", "é", ""])
def test_a_parameters_name_is_one_that_wandb_takes(name: Any) -> None:
    with pytest.raises(UsageError, match="a parameter's name must begin with a letter"):
        read({name: {"value": 1}})


@pytest.mark.parametrize("text", ["1e-4", "1e-7", "2E5", "1e10", "3e-05", "1e+22"])
def test_the_number_that_the_sentence_tells_to_write_is_read_by_yaml_as_meant(text: str) -> None:
    import yaml

    with pytest.raises(UsageError) as refusal:
        space_of(x={"min": text, "max": 1e30})
    advice = str(refusal.value).rpartition("write ")[2].removesuffix(".")
    value = yaml.safe_load(f"x: {advice}")["x"]
    assert isinstance(value, float)
    assert value == float(text)


def test_a_min_that_equals_max_is_said_to_be_refused_by_wandb() -> None:
    definition = Definition(Path("a.yaml"), {})
    read_space(definition, {"x": {"min": 3, "max": 3}})
    assert definition.notes == ["a.yaml: parameters.x: W&B refuses a min that equals max; 'value: 3' says the same."]


def test_the_whole_space_is_drawn_through_optuna() -> None:
    space = read(DEEP)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        drawn = study.ask(space.distributions).params
        values = space.decode(drawn)
        assert space.encode(values) == drawn
        assert space.outside(values) == []
