"""What a value of a sweep may be: all that JSON holds and a program can be given; the rest is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from paretune.core.errors import UsageError
from paretune.search.engine.in_subprocess import command_line
from paretune.search.engine.study import open_study
from paretune.search.sampling.slot_sampler import draw
from paretune.search.spec.json_values import as_json, value_fault
from paretune.search.spec.sweep import read_sweep

HELD = ["null", "true", "3", "-9223372036854775807", "0.5", "text", "[1, [a, {b: null}]]", "{1: a, x: {y: [0.1]}}", "!!omap [a: 1]"]
HELD += ["!!pairs [a: 1]", "''", "'2026-01-01'", "Ünï", "{null: a, true: b, 1.5: c}"]
REFUSED = {
    "2026-01-01": "a date (2026-01-01)",
    "2026-01-01 10:00:00": "a time (2026-01-01 10:00:00)",
    "!!set {a, b}": "a set",
    "!!binary aGk=": "binary data",
    ".nan": "nan, which JSON does not hold",
    "-.inf": "-inf, which JSON does not hold",
    "9223372036854775808": "a whole number beyond 64 bits",
    f"0x1{'0' * 5000}": "a whole number beyond 64 bits",
    '"a\\0b"': "a text with a zero byte",
    '"\\ud800"': "half of a surrogate pair",
    "{2026-01-01: a}": "a date as a key",
    '{"\\0": a}': "a text with a zero byte",
    "{!!binary aGk= : a}": "binary data as a key",
}
PLACES = ["{value: %s}", "{value: [1, {a: %s}]}", "{values: [1, %s]}", "{parameters: {y: {parameters: {z: {value: %s}}}}}"]
TEXT = "program: own.py\nmethod: random\nmetric: {name: loss}\nparameters:\n  x: {min: 0.0, max: 1.0}\n  v: "


@pytest.fixture(autouse=True)
def program(away: Path) -> None:
    (away / "own.py").touch()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", HELD)
def test_a_value_that_json_holds_goes_all_the_way(value: str, place: str, away: Path) -> None:
    (away / "s.yaml").write_text(TEXT + place % value + "\n")
    sweep = read_sweep("s.yaml")
    study = open_study(sweep, f"sqlite:///{away}/study.db", "s", seed=0)
    values = draw(study.ask(), sweep)
    assert values == json.loads(json.dumps(values))
    assert command_line(["${args}", "${args_json}"], "own.py", values, away / "config.json")
    assert yaml.safe_load(yaml.safe_dump(values)) == values
    open_study(read_sweep("s.yaml"), f"sqlite:///{away}/study.db", "s", seed=0)  # it is the same sweep


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", REFUSED)
def test_any_other_is_refused_by_the_check_with_its_line(value: str, place: str, away: Path) -> None:
    (away / "s.yaml").write_text(TEXT + place % value + "\n")
    with pytest.raises(UsageError) as error:
        read_sweep("s.yaml")
    assert str(error.value).startswith("s.yaml:6: parameters.v.")
    assert f"must be a value that a configuration can hold. Got {REFUSED[value]}" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "kept"), [((1, 2), [1, 2]), ({1: "a", "b": {None: 2}}, {"1": "a", "b": {"null": 2}}), ([0.5, None], [0.5, None])]
)
def test_a_value_is_kept_as_wandbs_client_sends_it(given: Any, kept: Any) -> None:
    assert value_fault(given) == ""
    assert as_json(given) == kept
