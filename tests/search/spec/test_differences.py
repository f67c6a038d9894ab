"""The differences to W&B's schema that docs/sweeps.md lists: each is as it says there, also what W&B's package says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from paretune.core.errors import UsageError
from paretune.search.spec.sweep import read_sweep
from tests.samples import ROOT

BASE: dict[str, Any] = {
    "program": "own.py",
    "method": "random",
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}},
}
# What `schema_violations_from_proposed_config` of W&B's package sweeps 0.3.0 says of each file, read as W&B's client reads and
# sends it, by json.loads(json.dumps(yaml.safe_load(text))).
VERDICTS: dict[str, str] = json.loads((Path(__file__).parent / "wandb_verdicts.json").read_text())
FRAGMENT = re.compile(r"`([^`]+)`((?: without \w+)?)|(?<=, )without (\w+)")


def files_of(cell: str) -> list[str]:
    """The texts of the sweep files that the first cell of a line stands for."""
    texts = []
    for found in FRAGMENT.finditer(cell.split(" (")[0]):
        left_out = found[3] or found[2].removeprefix(" without ")
        given = found[1] or ""
        keys = yaml.compose("{" + given + "}").value
        written = {key.value for key, _ in keys}
        base = {key: value for key, value in BASE.items() if key not in written and key != left_out}
        texts.append(yaml.safe_dump(base) + "\n".join(given[k.start_mark.index - 1 : v.end_mark.index - 1] for k, v in keys) + "\n")
    return texts


def lines_below(heading: str) -> list[list[str]]:
    text = (ROOT / "docs" / "sweeps.md").read_text().partition(heading)[2]
    table = text.split("\n\n")[1].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


REFUSED = [
    (text, re.findall(r'"([^"]+)"', cells[2])[0])
    for cells in lines_below("refused here with a sentence:")
    for text in files_of(cells[0])
]
WIDER = [text for cells in lines_below("Accepted here, and a fault of the schema") for text in files_of(cells[0])]
SAME = ["command: []", "run_cap: 5.0", "early_terminate: {type: hyperband, min_iter: 3.0}", "parameters: {x: {value: {1: a}}}"]
SAME += [
    "early_terminate: {type: hyperband, max_iter: 9, s: 2.5}",
    "parameters: {x: {value: }}",
    "parameters: {x: {values: [1, 1]}}",
]
BOTH = [text for given in SAME for text in files_of(f"`{given}`")]


@pytest.fixture(autouse=True)
def program(away: Path) -> None:
    (away / "own.py").touch()


def test_the_tables_are_read() -> None:
    assert (len(REFUSED) > 40, len(WIDER) > 15) == (True, True)
    assert set(VERDICTS) == {*BOTH, *WIDER, *(text for text, _ in REFUSED)}


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_the_schema_accepts_is_refused_as_the_list_says(text: str, words: str, away: Path) -> None:
    (away / "s.yaml").write_text(text)
    with pytest.raises(UsageError) as error:
        read_sweep("s.yaml")
    assert words in str(error.value)
    assert VERDICTS[text] in ("accepted", "the client fails") or "specify base-e exponents" in VERDICTS[text]  # which is a warning


@pytest.mark.parametrize("text", WIDER)
def test_what_is_a_fault_of_the_schema_is_accepted_as_the_list_says(text: str, away: Path) -> None:
    (away / "s.yaml").write_text(text)
    assert read_sweep("s.yaml").program == "own.py"
    assert VERDICTS[text].startswith("refused: ")


@pytest.mark.parametrize("text", BOTH)
def test_what_both_accept_is_read(text: str, away: Path) -> None:
    (away / "s.yaml").write_text(text)
    assert read_sweep("s.yaml").program == "own.py"
    assert VERDICTS[text] == "accepted"
