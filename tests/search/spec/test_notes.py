"""What is accepted and may not be meant: said once, with file and line, by the check, the offline sweep and the service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paretune.search import command_line
from paretune.search.check import main as check
from paretune.search.engine import in_process
from paretune.search.spec.sweep import read_sweep
from tests.samples import small_data
from tests.service.serving import Asked

HEAD = """\
program: trainers/softmax.py
method: random
metric: {name: f1, goal: maximize}
run_cap: 1
parameters:
  epochs: {value: 1}
  learning_rate: """
VALUES = [
    ("{distribution: log_uniform, min: 0.0001, max: 0.1}", "values from 1.0001 to 1.10517 are drawn", "write log_uniform_values."),
    ("{distribution: log_uniform, min: 1, max: 10}", "values from 2.71828 to 22026.5 are drawn", "write log_uniform_values."),
    ("{distribution: log_uniform, min: 0, max: 1}", "values from 1 to 2.71828 are drawn", "write log_uniform_values."),
    ("{distribution: q_log_uniform, min: 1, max: 5}", "values from 3 to 148 are drawn", "write q_log_uniform_values."),
    ("{distribution: inv_log_uniform, min: 0.001, max: 0.1}", "from 0.904837 to 0.999 are", "write inv_log_uniform_values."),
    ("{distribution: log_normal, mu: 0.001, sigma: 0.0005}", "the median of what is drawn is 1.001;", "value itself normal."),
    ("{distribution: log_normal, mu: 64, sigma: 1}", "for the median 64 write mu: 4.1589,", "value itself normal."),
    ("{distribution: q_log_normal, mu: 4, sigma: 1}", "the median of what is drawn is 55;", "value itself q_normal."),
    ("{distribution: q_log_uniform_values, min: 0.0001, max: 0.1}", "rounded to a multiple of q=1.0", "and so is 0."),
    ("{distribution: q_uniform, min: 0, max: 0.4}", "rounded to a multiple of q=1.0", "and so is 0."),
    ("{min: 3, max: 3}", "W&B refuses a min that equals max", "says the same."),
    ("{values: [1, 2], probabilities: [0.5, 0.4999]}", "add up to 0.9999, which W&B refuses", "it wants 1."),
    ("{values: [1, 1e-3]}", "YAML reads 1e-3 as text", "write 0.001."),
    ("{values: [1, 0o17]}", "YAML reads 0o17 as text", "write 15."),
    ("{values: [1, 08]}", "YAML reads 08 as text", "write 8."),
    ("{values: [1, .5e3]}", "YAML reads .5e3 as text", "write 500.0."),
    ("{values: [x, None]}", "YAML reads None as text", "write null."),
    ("{values: [1, nan]}", "YAML reads nan as text", "as text."),
    ("{values: [x, on]}", "YAML reads the bare word on as True", "write 'on'."),
    ("{values: [1, 1:30]}", "YAML reads 1:30 as 90", "a text in quotes."),
]
QUIET = [
    "{distribution: log_uniform, min: -9.2, max: -2.3}",
    "{distribution: log_uniform, min: -1, max: 1}",
    "{distribution: q_log_uniform, min: -1, max: 5}",
    "{distribution: inv_log_uniform, min: -5, max: -1}",
    "{distribution: log_uniform_values, min: 0.0001, max: 0.1}",
    "{distribution: log_normal, mu: -3, sigma: 1}",
    "{distribution: log_normal}",
    "{distribution: normal, mu: 0.001, sigma: 0.0005}",
    "{distribution: q_log_uniform_values, min: 0.0001, max: 0.1, q: 0.01}",
    "{distribution: q_uniform, min: 0, max: 0.6}",
    "{distribution: q_beta}",
    "{values: ['1e-3', '010', none, null, 1.0e-3, 1_000, true]}",
    "{distribution: uniform, min: 0, max: 5}",
]


def written(folder: Path, parameter: str) -> Path:
    path = folder / "s.yaml"
    path.write_text(HEAD.replace("trainers/softmax.py", "own.py").replace("  learning_rate", "  x") + parameter + "\n")
    (folder / "own.py").touch()
    return path


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize(("parameter", "words", "end"), VALUES)
def test_what_may_not_be_meant_is_noted_once_with_file_and_line(
    parameter: str, words: str, end: str, nested: bool, away: Path
) -> None:
    path = written(away, f"{{parameters: {{deep: {parameter}}}}}" if nested else parameter)
    (note,) = [note for note in read_sweep(path).notes if words in note]
    assert note.startswith(f"{path}:7: parameters.x")
    assert note.endswith(end)


@pytest.mark.parametrize("parameter", QUIET)
def test_what_can_be_meant_in_one_way_only_is_not_noted(parameter: str, away: Path) -> None:
    assert read_sweep(written(away, parameter)).notes == []


TRAP = HEAD + "{distribution: log_uniform, min: 0.0001, max: 0.1}\n"
NOTE = (
    "s.yaml:7: parameters.learning_rate: min and max of log_uniform are exponents of e, so values from 1.0001 to 1.10517 are drawn"
)


def of_the_check(capsys: pytest.CaptureFixture[str]) -> str:
    assert check(["s.yaml"]) == 0
    return capsys.readouterr().out


def of_the_sweep(capsys: pytest.CaptureFixture[str]) -> str:
    assert command_line.main(["s.yaml", "--wandb=disabled", "--device=cpu", "--runs=runs"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("said", [of_the_check, of_the_sweep])
def test_the_check_and_the_sweep_say_it(
    said: Callable[[Any], str], away: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data())
    (away / "s.yaml").write_text(TRAP)
    assert said(capsys).count(f"note: {NOTE}") == 1


def test_the_service_says_it_when_the_sweep_is_created(tmp_path: Path) -> None:
    query = 'mutation M($c: String) { upsertSweep(input: {config: $c, projectName: "tried"}) { configValidationWarnings } }'
    notes = Asked(tmp_path).ask(query, c=TRAP)["upsertSweep"]["configValidationWarnings"]
    assert [NOTE.partition("s.yaml")[2] in note for note in notes] == [True]


def test_a_constraint_that_may_be_a_name_is_noted(away: Path) -> None:
    path = written(away, "{min: 0.0, max: 1.0}\ncontroller:\n  type: cloud\n  search:\n    constraints:\n    - val/acc >= 0.5")
    note = f"{path}:12: controller.search.constraints.0 calculates val/acc; a metric of that name is written `val/acc`."
    assert note in read_sweep(path).notes
