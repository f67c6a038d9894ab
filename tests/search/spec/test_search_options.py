"""What stands in controller.search: sampler, conditions, constraints, repeats, stop; and every fault of it in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.core.errors import UsageError
from paretune.search.spec.search_options import Settings, read_settings
from paretune.search.spec.space import Space, read_space
from paretune.search.spec.yaml_lines import Definition

PARAMETERS: dict[str, Any] = {
    "kernel": {"values": ["linear", "poly"]},
    "degree": {"min": 2, "max": 4},
    "coef0": {"min": 0.0, "max": 1.0},
    "model": {"parameters": {"depth": {"min": 1, "max": 4}, "kind": {"value": "cnn"}}},
    "data": {"value": "digits"},
}


def read(search: Any, *, metrics: list[str] | None = None) -> tuple[Settings, Space]:
    definition = Definition(Path("a.yaml"), {"controller": {"type": "local", "search": search}})
    space = read_space(definition, PARAMETERS)
    settings = read_settings(definition, space, metrics)
    definition.check()
    return settings, space


def refusal(search: Any, *, metrics: list[str] | None = None) -> str:
    with pytest.raises(UsageError) as error:
        read(search, metrics=metrics)
    return str(error.value)


@pytest.mark.parametrize("values", [{}, {"controller": None}, {"controller": {"type": "cloud"}}])
def test_without_a_section_nothing_is_set(values: dict[str, Any]) -> None:
    definition = Definition(Path("a.yaml"), values)
    assert read_settings(definition, Space(), None) == Settings()
    assert (definition.faults, definition.notes) == ([], [])


def test_every_part_is_read() -> None:
    settings, space = read(
        {
            "sampler": {"name": "tpe", "n_startup_trials": 5, "multivariate": True},
            "conditions": {"degree": "kernel == 'poly'", "coef0": "kernel == 'poly' and degree > 2", "model.depth": "degree == 2"},
            "constraints": ["n_parameters <= 1e6", "f1 >= 0.5"],
            "repeats": {"seeds": 3},
            "stop": {"trials": 10, "improvement": 0.01},
            "at_once": 8,
            "ahead": True,
        },
        metrics=["f1", "n_parameters"],
    )
    assert (settings.sampler, dict(settings.sampler_options)) == ("tpe", {"n_startup_trials": 5, "multivariate": True})
    assert [constraint.text for constraint in settings.constraints] == ["n_parameters <= 1e6", "f1 >= 0.5"]
    assert (settings.repeats, settings.over, settings.patience, settings.improvement) == (3, "seeds", 10, 0.01)
    assert (settings.at_once, settings.ahead) == (8, True)
    assert {name: condition.text for name, condition in space.conditions.items()} == {
        "degree": "kernel == 'poly'",
        "coef0": "kernel == 'poly' and degree > 2",
        "model.depth": "degree == 2",
    }
    assert space.in_order().index("kernel") < space.in_order().index("degree") < space.in_order().index("coef0")


def test_the_section_is_noted_as_ours() -> None:
    definition = Definition(Path("a.yaml"), {"controller": {"type": "local", "search": {"sampler": "random"}}})
    assert read_settings(definition, Space(), None).sampler == "random"
    assert definition.notes == ["controller.search is for the offline search; W&B lets it pass and does not act on it."]


def test_conditions_and_constraints_speak_of_nested_fixed_values_too() -> None:
    settings, space = read({"conditions": {"degree": "model.kind == 'cnn'"}, "constraints": ["model.depth <= 3"]}, metrics=[])
    assert space.exists("degree", space.fixed)
    assert settings.constraints[0].violation({"model.depth": 4}) == 1


def test_what_was_fixed_may_keep_its_condition() -> None:
    definition = Definition(Path("a.yaml"), {"controller": {"type": "local", "search": {"conditions": {"degree": "coef0 > 0"}}}})
    space = read_space(definition, PARAMETERS)
    space.fix("degree", 3)
    read_settings(definition, space, None)
    definition.check()
    assert space.conditions == {}


def test_a_condition_of_a_parameter_that_has_a_fault_does_not_hide_those_behind_it() -> None:
    conditions = {"degree": "coef0 > 0", "kernl": "coef0 > 0"}
    parameters = {**PARAMETERS, "degree": {"min": 4, "max": 2}}
    controller = {"type": "local", "search": {"conditions": conditions}}
    definition = Definition(Path("a.yaml"), {"parameters": parameters, "controller": controller})
    space = read_space(definition, parameters)
    read_settings(definition, space, None)
    with pytest.raises(UsageError) as refusal:
        definition.check()
    assert [line.partition(": ")[2].split()[0] for line in str(refusal.value).splitlines()] == [
        "parameters.degree:",
        "controller.search.conditions.kernl",
    ]


def test_a_program_of_the_persons_own_may_log_anything() -> None:
    settings, _ = read({"constraints": ["latency <= 3"]}, metrics=None)
    assert settings.constraints[0].names == {"latency"}
    assert "speaks of latency, which is no parameter or metric here" in refusal({"constraints": ["latency <= 3"]}, metrics=["f1"])


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        (
            3,
            "controller.search must be a mapping with sampler, conditions, constraints, repeats, stop, at_once, ahead, "
            "trial_timeout. Got 3.",
        ),
        ({"samplr": "tpe"}, "controller.search.samplr is not a key of controller.search; did you mean 'sampler'?"),
        ({"sampler": "tpee"}, "controller.search.sampler: 'tpee' is not a sampler; did you mean 'tpe'?"),
        ({"sampler": {"n_startup_trials": 3}}, "controller.search.sampler: None is not a sampler; there are auto, "),
        ({"sampler": {"name": "tpe", "startup": 3}}, "controller.search.sampler: startup is not an option of tpe"),
        ({"sampler": [1]}, "controller.search.sampler: [1] is not a sampler"),
        ({"conditions": ["a"]}, "conditions must be a mapping of parameters to expressions. Got ['a']."),
        ({"conditions": {"degre": "coef0 > 0"}}, "conditions.degre is not a searched parameter; did you mean 'degree'?"),
        ({"conditions": {"model": "coef0 > 0"}}, "controller.search.conditions.model is not a searched parameter"),
        ({"conditions": {"degree": "kernl == 'poly'"}}, "speaks of kernl, which is no parameter here; did you mean 'kernel'?"),
        (
            {"conditions": {"degree": "kernel == poly"}},
            "speaks of poly, which is no parameter here; a text stands in quotes: 'poly'.",
        ),
        (
            {"conditions": {"degree": True}},
            "conditions.degree must be an expression in quotes, such as \"kernel == 'rbf'\". Got True.",
        ),
        ({"conditions": {"degree": "open('x')"}}, "conditions.degree may hold names, numbers, texts, lists, comparisons"),
        ({"conditions": {"degree": "degree > 2"}}, "conditions.degree depends on itself: break the circle."),
        ({"constraints": "f1 <= 3"}, "constraints must be a list such as ['n_parameters <= 1e6']. Got 'f1 <= 3'."),
        ({"constraints": ["f1"]}, "controller.search.constraints.0 must compare two sides by <=, <, >= or >"),
        ({"constraints": ["'a'.b <= 1"]}, "Got a point behind something else than a name in"),
        ({"constraints": [{"f1": 3}]}, "constraints.0 must be an expression in quotes"),
        ({"repeats": 3}, "controller.search.repeats must be 'seeds: K' or 'folds: K'. Got 3."),
        ({"repeats": {"seeds": 3, "folds": 3}}, "repeats must be 'seeds: K' or 'folds: K'."),
        ({"repeats": {"seed": 3}}, "repeats must be 'seeds: K' or 'folds: K'. Got {'seed': 3}."),
        ({"repeats": {"folds": 1}}, "controller.search.repeats.folds must be a whole number from 2 to 100. Got 1."),
        ({"repeats": {"seeds": True}}, "controller.search.repeats.seeds must be a whole number from 2 to 100. Got True."),
        *(
            ({"at_once": wrong}, f"controller.search.at_once must be a whole number from 1 to 32. Got {wrong!r}.")
            for wrong in (0, 33, True, 2.0, "4", None)
        ),
        *(({"ahead": wrong}, f"controller.search.ahead must be true or false. Got {wrong!r}.") for wrong in (1, "true", None)),
        ({"stop": 10}, "controller.search.stop must be a mapping with trials (and improvement). Got 10."),
        ({"stop": {"improvement": 0.1}}, "controller.search.stop must be a mapping with trials"),
        ({"stop": {"trials": 0}}, "controller.search.stop.trials must be a whole number of at least 1. Got 0."),
        ({"stop": {"trials": 3, "improvement": -1}}, "stop.improvement must be a number of at least 0. Got -1."),
        ({"stop": {"trials": 3, "improvement": float("nan")}}, "stop.improvement must be a number of at least 0. Got nan."),
        ({"stop": {"trials": 3, "patience": 2}}, "controller.search.stop.patience is not a key of controller.search.stop"),
    ],
)
def test_an_unfit_part_is_refused_in_words(search: Any, sentence: str) -> None:
    assert sentence in refusal(search, metrics=["f1"])


@pytest.mark.parametrize(
    ("controller", "sentence"),
    [
        (3, "controller must be a mapping with type: cloud or local. Got 3."),
        ({"search": {}}, "controller.type must be cloud or local, or W&B refuses the file. Got None."),
        ({"type": "remote"}, "controller.type must be cloud or local, or W&B refuses the file. Got 'remote'."),
        ({"type": ["cloud"]}, "controller.type must be cloud or local"),
        ({"type": "cloud", "serch": {}}, "controller.serch is not a key of controller; did you mean 'search'?"),
    ],
)
def test_an_unfit_controller_is_refused_in_words(controller: Any, sentence: str) -> None:
    definition = Definition(Path("a.yaml"), {"controller": controller})
    read_settings(definition, Space(), None)
    with pytest.raises(UsageError) as error:
        definition.check()
    assert sentence in str(error.value)


def test_only_those_that_stand_in_a_circle_are_named() -> None:
    conditions = {"kernel": "degree == 2", "degree": "coef0 > 0", "coef0": "degree > 2"}
    sentences = refusal({"conditions": conditions}).splitlines()
    assert [line.partition("conditions.")[2].partition(" ")[0] for line in sentences] == ["degree", "coef0"]


def test_every_fault_of_the_section_is_said_at_once() -> None:
    faulty = {"sampler": "x", "conditions": {"x": "a"}, "constraints": ["a"], "repeats": {"seeds": 1}, "stop": {}}
    assert len(refusal(faulty, metrics=["f1"]).splitlines()) == 5


def test_a_sampler_of_one_objective_is_refused_for_several() -> None:
    assert read({"sampler": "cmaes"})[0].sampler == "cmaes"
    definition = Definition(
        Path("a.yaml"),
        {"metrics": [{"name": "f1"}, {"name": "loss"}], "controller": {"type": "local", "search": {"sampler": "cmaes"}}},
    )
    read_settings(definition, Space(), None)
    assert "cmaes searches by one objective. Got 2" in definition.faults[0][1]


def test_a_parameter_with_another_fault_is_not_called_unknown_as_well() -> None:
    search = {
        "conditions": {"degree": "kernel == 'poly'", "model.depth": "degree > 2", "nowhere": "degree > 2"},
        "constraints": ["model.depth <= 3", "degree <= 3"],
    }
    definition = Definition(Path("a.yaml"), {"controller": {"type": "local", "search": search}})
    definition.values["parameters"] = {
        **PARAMETERS,
        "degree": {"min": 4, "max": 2},
        "model": {"parameters": {"depth": {"min": "x", "max": 4}}},
    }
    space = read_space(definition, definition.values["parameters"])
    read_settings(definition, space, [])
    faults = [sentence for _, sentence in definition.faults]
    assert len(faults) == 3
    assert [sentence.partition(" ")[0] for sentence in faults[:2]] == [
        "parameters.degree:",
        "parameters.model.parameters.depth.min",
    ]
    assert "conditions.nowhere is not a searched parameter" in faults[2]


def test_a_constraint_of_numbers_alone_is_refused() -> None:
    assert "controller.search.constraints.0 must speak of a metric or a parameter" in refusal({"constraints": ["1 <= 2"]})
