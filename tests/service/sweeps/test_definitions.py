"""Definitions of sweeps: read once each, refused where a client sends one that takes long."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from paretune.core.errors import UsageError
from paretune.search.spec import yaml_lines
from paretune.service.store.tables import Sweep
from paretune.service.sweeps import definitions
from tests.service.serving import Asked
from tests.service.sweeps.test_sweeps import agent, beat, created

TEXT = "method: grid\nprogram: a.py\nmetric: {name: loss, goal: minimize}\nparameters: {x: {values: [1, 2]}}\n"


def test_a_sweep_without_a_name_is_called_by_its_id_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read, original = [], definitions.read_sweep
    monkeypatch.setattr(definitions, "read_sweep", lambda *given, **more: read.append(1) or original(*given, **more))
    text = f"{TEXT}# another\n"
    assert [definitions.read_definition(text, name).name for name in ("abc", "def")] == ["abc", "def"]
    assert definitions.read_definition(f"{text}name: sweep\n", "abc").name == "sweep"
    assert len(read) == 2


def test_few_long_definitions_are_remembered_and_short_ones_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def read_sweep(_: Path, *, text: str) -> SimpleNamespace:
        read.append(text)
        return SimpleNamespace(definition={"name": "sweep"})

    monkeypatch.setattr(definitions, "read_sweep", read_sweep)
    short, long = "# short, for this test", [f"# {number}{' ' * 80_000}" for number in range(40)]
    for text in (short, *long, *long, short):
        definitions.read_definition(text, "abc")
    assert read == [short, *long, *long]


@pytest.mark.parametrize("part", ["1,", "- ", "[", "{", "a:\n", "? "])
@pytest.mark.parametrize("head", ["", '"\\0"'])
def test_a_definition_from_a_client_that_would_take_long_is_refused_unread(
    part: str, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_lines, "read_definition", lambda *_: pytest.fail("it was read"))
    with pytest.raises(UsageError, match="at most about 20,000 lines, keys and values"):
        definitions.fit_definition(head + part * 20_001)


def test_a_larger_sweep_that_an_older_version_stored_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(tmp_path)
    identifier, sweep = created(asked)
    monkeypatch.setattr(definitions, "MOST_MARKS", 5)
    with asked.database.session(writing=True) as session:
        stored = session.scalars(sa.select(Sweep)).one()
        stored.definition += "\n# which nobody has read yet"
    assert beat(asked, agent(asked, sweep))[0]["type"] == "run"
    query = "mutation M($input: UpsertSweepInput!) { upsertSweep(input: $input) { sweep { name } } }"
    for values in ({"id": identifier}, {"projectName": "tried"}):
        answer = asked.told(query, input={**values, "config": TEXT})
        assert "at most about 5 lines, keys and values" in answer["errors"][0]["message"]
    asked.searches.close()
    asked.database.close()
